//! Datagrams: each slice has the address in front, and then room for as much as a pool buffer holds. A few are posted per
//! socket; what arrives is copied into pool buffers. Sends wait for a place among those under way.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::Rio;
use super::calls::Side;
use super::line::{Arrived, Context, Datagrams, Departed, Pending, Place};
use super::receive::is_passing;
use crate::base::error::{Error, ErrorKind};
use crate::contract::is_about_the_past;
use crate::contract::{Event, EventResult, RequestKey};
use crate::memory::buffer::{BufferPool, Section};

/// In front of each datagram: a SOCKADDR_INET (28 bytes), rounded up so that what follows is aligned.
pub(super) const ADDRESS_BYTES: usize = 32;
const SOCKADDR_INET_BYTES: usize = 28;
/// Families as Windows numbers them, see ws2def.h.
const AF_INET: u16 = 2;
const AF_INET6: u16 = 23;
const UNSPECIFIED: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

impl Rio {
    pub(super) fn ask_datagrams(
        &mut self,
        index: u32,
        asked: (RequestKey, Section),
        pool: &mut BufferPool,
        events: &mut Vec<Event>,
    ) {
        if let Some(datagrams) = &mut self.lines[index].datagrams {
            datagrams.asked = Some(asked);
        }
        self.datagrams_on(index, pool, events);
    }

    pub(super) fn send_datagram(&mut self, index: u32, pending: Pending, events: &mut Vec<Event>) {
        if let Some(datagrams) = &mut self.lines[index].datagrams {
            datagrams.pending.push_back(pending);
        }
        self.send_pending(index, events);
    }

    /// Goes on in both directions.
    pub(super) fn datagrams_on(&mut self, index: u32, pool: &mut BufferPool, events: &mut Vec<Event>) {
        if let Some(datagrams) = &mut self.lines[index].datagrams {
            events.append(&mut datagrams.gone);
        }
        self.deliver_datagrams(index, pool, events);
        self.post_datagrams(index, events);
        self.send_pending(index, events);
    }

    /// Gives the driver what has arrived.
    //= DGRAM-1
    fn deliver_datagrams(&mut self, index: u32, pool: &mut BufferPool, events: &mut Vec<Event>) {
        loop {
            let Some(datagrams) = &mut self.lines[index].datagrams else { return };
            let (Some((key, section)), Some(arrived)) = (datagrams.asked, datagrams.arrived.front()) else { return };
            let result = match arrived.result {
                Ok(count) => {
                    let Some(mut buffer) = pool.lend_receive(section) else {
                        datagrams.asked = None;
                        self.counters.no_buffers.add(1);
                        let error = Error::new(ErrorKind::NoBuffers);
                        return events.push(Event::last(key, EventResult::Failed(error)));
                    };
                    let bytes = self.datagrams[arrived.place.size].bytes(arrived.place.slice);
                    buffer.fill_from(&bytes[ADDRESS_BYTES..ADDRESS_BYTES + count as usize]);
                    EventResult::Datagram(buffer, decode(bytes))
                }
                Err(error) if error.kind() == ErrorKind::MessageTooLong => {
                    EventResult::Truncated(decode(self.datagrams[arrived.place.size].bytes(arrived.place.slice)))
                }
                Err(error) => EventResult::Failed(error),
            };
            let more = !matches!(result, EventResult::Failed(error) if !is_about_the_past(error));
            if !more {
                datagrams.asked = None;
            }
            let place = datagrams.arrived.pop_front().map(|arrived| arrived.place);
            place.into_iter().for_each(|place| self.datagrams[place.size].put(place.slice));
            events.push(Event { key, more, result });
        }
    }

    /// Lets as many slices wait for datagrams as may.
    fn post_datagrams(&mut self, index: u32, events: &mut Vec<Event>) {
        loop {
            let Some(datagrams) = &self.lines[index].datagrams else { return };
            let Some((key, section)) = datagrams.asked else { return };
            if datagrams.posted + datagrams.arrived.len() as u32 >= self.config.datagrams_ahead {
                return;
            }
            match self.post_datagram(index, usize::from(section == Section::Bulk)) {
                Ok(()) => {}
                Err(error) if is_passing(error) => return self.again.push(self.lines.key(index)),
                Err(error) => {
                    if let Some(datagrams) = &mut self.lines[index].datagrams {
                        datagrams.asked = None;
                    }
                    return events.push(Event::last(key, EventResult::Failed(error)));
                }
            }
        }
    }

    fn post_datagram(&mut self, index: u32, size: usize) -> Result<(), Error> {
        let slices = &mut self.datagrams[size];
        let slice = slices.take()?;
        slices.lend(slice);
        let data = slices.part(slice, ADDRESS_BYTES, slices.slice_bytes() - ADDRESS_BYTES);
        let from = slices.part(slice, 0, SOCKADDR_INET_BYTES);
        let context = Context::new(Side::Receive, size, slice).bits();
        let line = &mut self.lines[index];
        if let Err(error) = self.queues.post(line.queue, Side::Receive, data, Some(from), context) {
            slices.taken_back(slice);
            slices.put(slice);
            return Err(error);
        }
        line.datagrams.iter_mut().for_each(|datagrams| datagrams.posted += 1);
        self.mark_dirty(index, Side::Receive);
        Ok(())
    }

    /// Posts what waits, as many as may be under way.
    fn send_pending(&mut self, index: u32, events: &mut Vec<Event>) {
        loop {
            let Some(datagrams) = &mut self.lines[index].datagrams else { return };
            if datagrams.under_way.len() >= self.config.sends_ahead as usize {
                return;
            }
            let Some(pending) = datagrams.pending.pop_front() else { return };
            match self.post_pending(index, pending) {
                Ok(()) => {}
                Err(error) if is_passing(error) => {
                    if let Some(datagrams) = &mut self.lines[index].datagrams {
                        datagrams.pending.push_front(pending);
                    }
                    return self.again.push(self.lines.key(index));
                }
                Err(error) => events.push(Event::last(pending.key, EventResult::Failed(error))),
            }
        }
    }

    fn post_pending(&mut self, index: u32, pending: Pending) -> Result<(), Error> {
        let Pending { key, list, target } = pending;
        let Some(size) = self.datagrams.iter().position(|slices| list.bytes + ADDRESS_BYTES <= slices.slice_bytes())
        else {
            return Err(Error::new(ErrorKind::MessageTooLong));
        };
        let line = &mut self.lines[index];
        let slices = &mut self.datagrams[size];
        let slice = slices.take()?;
        let to = target.address();
        let room = slices.bytes_mut(slice);
        to.into_iter().for_each(|to| encode(to, room));
        super::line::Source::List(list).copy(0, &mut room[ADDRESS_BYTES..]);
        slices.lend(slice);
        let data = slices.part(slice, ADDRESS_BYTES, list.bytes);
        let to = to.map(|_| slices.part(slice, 0, SOCKADDR_INET_BYTES));
        let context = Context::new(Side::Send, size, slice).bits();
        if let Err(error) = self.queues.post(line.queue, Side::Send, data, to, context) {
            slices.taken_back(slice);
            slices.put(slice);
            return Err(error);
        }
        let departed = Departed { place: Place { size, slice }, key: Some(key), bytes: list.bytes };
        line.datagrams.as_mut().expect("a line of datagrams").under_way.push(departed);
        self.mark_dirty(index, Side::Send);
        Ok(())
    }

    /// A datagram has come, or gone.
    pub(super) fn datagram_moved(&mut self, index: u32, side: Side, place: Place, result: Result<u32, Error>) {
        self.datagrams[place.size].taken_back(place.slice);
        let line = &mut self.lines[index];
        let is_detached = line.socket.is_none();
        let Some(datagrams) = &mut line.datagrams else { return };
        if side == Side::Receive {
            datagrams.posted -= 1;
            if is_detached {
                return self.datagrams[place.size].put(place.slice);
            }
            return datagrams.arrived.push_back(Arrived { place, result });
        }
        self.datagrams[place.size].put(place.slice);
        if let Some(at) = datagrams.under_way.iter().position(|departed| departed.place == place) {
            let departed = datagrams.under_way.swap_remove(at);
            let result = result.map_or_else(EventResult::Failed, |_| EventResult::Sent(departed.bytes));
            datagrams.gone.extend(departed.key.map(|key| Event::last(key, result)));
        }
    }

    /// The socket goes.
    pub(super) fn give_up_datagrams(&mut self, index: u32) {
        let Some(datagrams) = &mut self.lines[index].datagrams else { return };
        datagrams.asked = None;
        for arrived in datagrams.arrived.drain(..) {
            self.datagrams[arrived.place.size].put(arrived.place.slice);
        }
    }
}

impl Datagrams {
    /// All that is asked for.
    pub(super) fn take_keys(&mut self) -> Vec<RequestKey> {
        let receive = self.asked.take().map(|(key, _)| key);
        let pending = self.pending.drain(..).map(|pending| pending.key);
        let under_way = self.under_way.iter_mut().filter_map(|departed| departed.key.take());
        receive.into_iter().chain(pending).chain(under_way).collect()
    }
}

/// Ends a request at once, if it is one of these.
pub(super) fn cancel(datagrams: &mut Datagrams, key: RequestKey) -> Option<EventResult> {
    let cancelled = EventResult::Failed(Error::new(ErrorKind::Cancelled));
    if datagrams.asked.is_some_and(|(asked, _)| asked == key) {
        datagrams.asked = None;
        return Some(cancelled);
    }
    if let Some(at) = datagrams.pending.iter().position(|pending| pending.key == key) {
        datagrams.pending.remove(at);
        return Some(cancelled);
    }
    // It is on its way and cannot be called back.
    let departed = datagrams.under_way.iter_mut().find(|departed| departed.key == Some(key))?;
    departed.key = None;
    Some(EventResult::Sent(departed.bytes))
}

/// An address as a SOCKADDR_INET.
fn encode(address: SocketAddr, into: &mut [u8]) {
    let into = &mut into[..ADDRESS_BYTES];
    into.fill(0);
    into[2..4].copy_from_slice(&address.port().to_be_bytes());
    match address {
        SocketAddr::V4(v4) => {
            into[..2].copy_from_slice(&AF_INET.to_ne_bytes());
            into[4..8].copy_from_slice(&v4.ip().octets());
        }
        SocketAddr::V6(v6) => {
            into[..2].copy_from_slice(&AF_INET6.to_ne_bytes());
            into[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
            into[8..24].copy_from_slice(&v6.ip().octets());
            into[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
        }
    }
}

fn decode(bytes: &[u8]) -> SocketAddr {
    let four = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    match u16::from_ne_bytes([bytes[0], bytes[1]]) {
        AF_INET => SocketAddrV4::new(Ipv4Addr::from(four(4)), port).into(),
        AF_INET6 => {
            let mut octets = [0; 16];
            octets.copy_from_slice(&bytes[8..24]);
            let (flow, scope) = (u32::from_be_bytes(four(4)), u32::from_ne_bytes(four(24)));
            SocketAddrV6::new(Ipv6Addr::from(octets), port, flow, scope).into()
        }
        _ => UNSPECIFIED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_went() {
        let mut room = [0xAA; ADDRESS_BYTES];
        for text in ["127.0.0.1:80", "255.0.1.2:65535", "[fe80::1%7]:9", "[2001:db8::2]:1"] {
            let address: SocketAddr = text.parse().unwrap();
            encode(address, &mut room);
            assert_eq!(decode(&room), address);
        }
        assert_eq!(decode(&[0; ADDRESS_BYTES]), UNSPECIFIED);
    }
}

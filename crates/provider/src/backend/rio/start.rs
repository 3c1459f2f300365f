//! Requests become posts, or are for the completion port.

use super::Rio;
use super::calls::Side;
use super::line::{Asked, Pending, RequestQueue, Sending, Source};
use crate::base::error::{Error, ErrorKind};
use crate::base::slots::Key;
use crate::contract::{Action, Event, EventResult, Request, RequestKey};
use crate::memory::buffer::BufferPool;

impl Rio {
    pub(super) fn start(&mut self, request: Request, pool: &mut BufferPool, events: &mut Vec<Event>) {
        let key = request.key;
        if matches!(request.action, Action::Accept | Action::Connect(_)) {
            return self.control_requests.push(request);
        }
        if matches!(request.action, Action::Cancel) {
            if !self.cancel(key, request.socket, events) {
                self.control_requests.push(request);
            }
            return;
        }
        let line = match self.line_of(request.socket) {
            Ok(Some(line)) => line,
            Ok(None) => return self.control_requests.push(request),
            Err(error) => return events.push(Event::last(key, EventResult::Failed(error))),
        };
        let index = line.index();
        match request.action {
            Action::Receive(_, shots) => self.ask(index, Asked::Stream(key, shots), pool, events),
            Action::ReceiveInto(span) => self.ask(index, Asked::Into(key, span), pool, events),
            Action::Send(span, _) => self.send(index, key, Source::One(span), events),
            Action::SendList(list, _) => self.send(index, key, Source::List(list), events),
            Action::ReceiveDatagrams(section, _) => self.ask_datagrams(index, (key, section), pool, events),
            Action::SendDatagram(list, target, _) => {
                self.send_datagram(index, Pending { key, list, target }, events);
            }
            Action::Accept | Action::Connect(_) | Action::Cancel => {}
        }
    }

    fn send(&mut self, index: u32, key: RequestKey, source: Source, events: &mut Vec<Event>) {
        let send_side = &mut self.lines[index].send_side;
        send_side.count += 1;
        send_side.asked =
            Some(Sending { key, number: send_side.count, source, bytes: source.bytes(), posted: 0, sent: 0 });
        self.send_on(index, events);
    }

    /// The line of a socket, made when it is first needed. `None`: its bytes go another way.
    fn line_of(&mut self, socket: u32) -> Result<Option<Key>, Error> {
        if let Some(error) = self.fatal {
            return Err(error);
        }
        let member = self.members[socket as usize];
        let (None, Some(quotas)) = (member.line, member.quotas) else { return Ok(member.line) };
        let line = RequestQueue::new(0, socket, quotas, member.is_datagram);
        let key = self.lines.insert(line).map_err(|_| Error::new(ErrorKind::Busy))?;
        match self.queues.create(member.handle, quotas, key.bits()) {
            Ok(queue) => {
                self.counters.kernel_entries.add(1);
                self.lines[key.index()].queue = queue;
                self.members[socket as usize].line = Some(key);
                Ok(Some(key))
            }
            Err(error) => {
                self.lines.remove(key.index());
                if member.is_foreign {
                    // The system says that it was made without the flag.
                    self.queues.release(quotas);
                    self.members[socket as usize].quotas = None;
                    return Ok(None);
                }
                Err(error)
            }
        }
    }

    /// Ends a request at once. False if it is not one of a line.
    //= CANCEL-1
    fn cancel(&mut self, key: RequestKey, socket: u32, events: &mut Vec<Event>) -> bool {
        let Some(line) = self.members[socket as usize].line else { return false };
        let line = &mut self.lines[line.index()];
        let cancelled = EventResult::Failed(Error::new(ErrorKind::Cancelled));
        let result = if line.receive_side.asked.is_some_and(|asked| asked.key() == key) {
            // What arrives in the slice that is posted goes to the next receive.
            line.receive_side.asked = None;
            Some(cancelled)
        } else if let Some(sending) = line.send_side.asked.filter(|sending| sending.key == key) {
            line.send_side.asked = None;
            // What was copied is on its way and cannot be called back: it counts as sent.
            Some(if sending.posted > 0 { EventResult::Sent(sending.posted) } else { cancelled })
        } else {
            line.datagrams.as_mut().and_then(|datagrams| super::datagram::cancel(datagrams, key))
        };
        events.extend(result.map(|result| Event::last(key, result)));
        // One that has ended meanwhile is not for the port either, unless the port has requests of this socket.
        true
    }

    /// Notes that a direction has deferred requests.
    pub(super) fn mark_dirty(&mut self, index: u32, side: Side) {
        let key = self.lines.key(index);
        let line = &mut self.lines[index];
        line.in_flight += 1;
        if !std::mem::replace(&mut line.is_dirty[side as usize], true) {
            self.dirty.push((key, side));
        }
    }

    /// One commit per queue and direction that has deferred requests.
    pub(super) fn commit(&mut self) {
        for (key, side) in self.dirty.drain(..) {
            let Some(index) = self.lines.resolve(key) else { continue };
            let line = &mut self.lines[index];
            line.is_dirty[side as usize] = false;
            // A closed socket's requests end by themselves.
            if line.socket.is_some() {
                self.counters.kernel_entries.add(1);
                self.queues.commit(line.queue, side);
            }
        }
    }
}

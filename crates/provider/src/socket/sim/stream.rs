//! Connections: how they begin, carry bytes, and end. Each end is a socket; each keeps the pipe that leads to it.
//!
//! 1. `connect.rs` makes two ends of a knock and a welcome.
//! 2. Bytes are written into the pipe at the other end and read from one's own.
//! 3. `shut_write` sends an end behind the bytes. A close does too, unless bytes that had arrived were never read, or
//!    linger 0 was asked for: then it is a reset. So is what comes to an end that has closed.
//! 4. A reset drops what was not on its way, and is told once: to whoever asks first, as the systems do.
#![forbid(unsafe_code)]

use super::node::{Body, Phase, Stream};
use super::pipe::Cargo;
use super::world::{Happening, World};
use crate::base::address::Address;
use crate::base::attempt::Attempt;
use crate::base::error::{Error, ErrorKind};
use crate::base::random::Random;

impl World {
    // Bytes.

    /// Whether a receive, or an accept, would have something to say.
    pub(crate) fn is_readable(&self, number: u32) -> bool {
        match self.node(number).map(|node| &node.body) {
            Some(Body::Listener(listener)) => !listener.waiting.is_empty(),
            Some(Body::Datagram(port)) => port.is_readable(),
            Some(Body::Stream(stream)) => {
                let has_end = stream.inbound.has_ended() || stream.error.is_some() || stream.is_reset;
                stream.inbound.arrived() > 0 || has_end || stream.phase == Phase::Unconnected
            }
            _ => true,
        }
    }

    /// Whether a send, or a connect, would have something to say.
    pub(crate) fn is_writable(&self, number: u32) -> bool {
        let Some(stream) = self.stream(number) else { return true };
        let is_over = stream.error.is_some() || stream.is_reset || stream.is_write_shut;
        let lost_room = self.lost_room(stream);
        let reader = self.stream(stream.other).filter(|reader| !reader.is_reset);
        let has_room = || reader.map_or(lost_room, |reader| reader.inbound.room()) > 0;
        is_over || (!stream.is_connecting() && has_room())
    }

    /// Receives what has arrived: 0 is the end.
    pub(crate) fn read(&mut self, number: u32, into: &mut [u8]) -> Attempt<usize> {
        let Some(stream) = self.stream_mut(number) else { return Attempt::Failed(Error::new(ErrorKind::InvalidInput)) };
        let length = stream.inbound.read(into);
        if length == 0 {
            return match stream.error {
                _ if stream.inbound.has_ended() => Attempt::Done(0),
                Some(error) => {
                    stream.error = None;
                    Attempt::Failed(Error::new(error))
                }
                None if stream.is_reset => Attempt::Done(0),
                None if stream.phase == Phase::Unconnected => Attempt::Failed(Error::new(ErrorKind::NotConnected)),
                None => Attempt::Later,
            };
        }
        self.note(number, format_args!("reads {length}"));
        self.transmit(number);
        self.settle();
        Attempt::Done(length)
    }

    /// Sends what there is room for.
    pub(crate) fn write(&mut self, number: u32, bytes: &[u8]) -> Attempt<usize> {
        let is_unix = self.is_unix(number);
        let Some(stream) = self.stream_mut(number) else { return Attempt::Failed(Error::new(ErrorKind::InvalidInput)) };
        let other = stream.other;
        if stream.is_reset && is_unix {
            // That the peer is gone. The reset is left for whoever receives.
            return Attempt::Failed(Error::new(ErrorKind::BrokenPipe));
        }
        if let Some(error) = stream.error.take() {
            return Attempt::Failed(Error::new(error));
        }
        match stream.phase {
            _ if stream.is_write_shut || stream.is_reset => return Attempt::Failed(Error::new(ErrorKind::BrokenPipe)),
            Phase::Unconnected => return Attempt::Failed(Error::new(ErrorKind::NotConnected)),
            Phase::Connecting => return Attempt::Later,
            Phase::Connected => {}
        }
        let Some(reader) = self.stream_mut(other).filter(|reader| !reader.is_reset) else {
            return self.write_to_nobody(number, bytes.len());
        };
        let length = reader.inbound.write(bytes);
        if length == 0 {
            return Attempt::Later;
        }
        if self.is_recording() {
            self.note(number, format_args!("writes {length} {:08x}", checksum(&bytes[..length])));
        }
        self.transmit(other);
        self.settle();
        Attempt::Done(length)
    }

    /// The other end has closed, or is broken: the bytes go out, and a reset comes back. A Unix socket knows at once.
    fn write_to_nobody(&mut self, number: u32, length: usize) -> Attempt<usize> {
        if self.is_unix(number) {
            return Attempt::Failed(Error::new(ErrorKind::BrokenPipe));
        }
        let length = self.stream(number).map_or(0, |stream| self.lost_room(stream).min(length));
        if let Some(stream) = self.stream_mut(number) {
            stream.lost_bytes += length;
        }
        if length == 0 {
            return Attempt::Later;
        }
        self.note(number, format_args!("writes {length} to nobody"));
        self.launch(number, Cargo::Reset);
        self.settle();
        Attempt::Done(length)
    }

    fn is_unix(&self, number: u32) -> bool {
        self.node(number).is_some_and(|node| node.local.ip().is_none())
    }

    fn lost_room(&self, stream: &Stream) -> usize {
        (self.plan.send_buffer_bytes as usize).saturating_sub(stream.lost_bytes)
    }

    /// Lets all that fits into the window take off towards a socket.
    fn transmit(&mut self, to: u32) {
        loop {
            let Some(stream) = self.stream_mut(to).filter(|stream| !stream.is_reset) else { return };
            let other = stream.other;
            let Some(cargo) = stream.inbound.next_cargo() else { return };
            let (resets, partitions) = (self.plan.resets, self.plan.partitions);
            if self.random.chance(resets) {
                self.note(to, format_args!("and #{other}: the network breaks the connection"));
                self.launch(other, Cargo::Reset);
                return self.launch(to, Cargo::Reset);
            }
            if self.random.chance(partitions) {
                self.cut_off(to);
            }
            self.launch(to, cargo);
        }
    }

    /// The hosts of a connection are cut off for a time that the plan allows.
    fn cut_off(&mut self, number: u32) {
        let for_ns = self.random.between_ns(std::time::Duration::ZERO, self.plan.partition_max);
        let ends = self.node(number).zip(self.stream(number));
        let hosts = ends.and_then(|(node, stream)| node.local.ip().zip(stream.peer.ip()));
        if let Some((first, second)) = hosts {
            self.cut(first.ip(), second.ip(), self.now_ns.saturating_add(for_ns));
        }
    }

    pub(crate) fn launch(&mut self, to: u32, cargo: Cargo) {
        let (now_ns, plan) = (self.now_ns, self.plan);
        let mut random = std::mem::replace(&mut self.random, Random::new(0));
        let at_ns = self.stream_mut(to).map(|stream| stream.inbound.launch(cargo, now_ns, &plan, &mut random));
        self.random = random;
        if let Some(at_ns) = at_ns {
            self.schedule(at_ns, Happening::Arrive(to));
        }
    }

    /// What has flown longest towards a socket is there, unless the hosts are cut off: then it comes when they no longer are.
    pub(crate) fn arrive(&mut self, number: u32) {
        let Some((node, stream)) = self.node(number).zip(self.stream(number)) else { return };
        let other = stream.other;
        if let Some(until_ns) = self.cut_until_ns(&node.local, &stream.peer) {
            self.wait_for_an_answer(other, until_ns);
            return self.schedule(until_ns, Happening::Arrive(number));
        }
        // To a connection that is broken nothing comes any more.
        let Some(stream) = self.stream_mut(number).filter(|stream| !stream.is_reset) else { return };
        let Some(cargo) = stream.inbound.land() else { return };
        match cargo {
            Cargo::Bytes(_) | Cargo::End => {}
            Cargo::Welcome if stream.is_connecting() => stream.phase = Phase::Connected,
            Cargo::Welcome => {}
            // A name in the file system is gone with its listener.
            Cargo::Refusal if stream.is_connecting() && matches!(stream.peer, Address::Unix(_)) => {
                stream.break_with(ErrorKind::NotFound);
            }
            Cargo::Refusal if stream.is_connecting() => stream.break_with(ErrorKind::ConnectionRefused),
            Cargo::Refusal => {}
            Cargo::Reset if stream.inbound.has_ended() => stream.break_with(ErrorKind::BrokenPipe),
            Cargo::Reset => stream.break_with(ErrorKind::ConnectionReset),
        }
        self.note(number, format_args!("gets {cargo:?}"));
        if cargo == Cargo::Reset
            && let Some(stream) = self.stream_mut(other)
        {
            stream.inbound.purge();
        }
        self.touch(number);
        // What has arrived no longer fills the sender's end.
        self.touch(other);
    }

    fn wait_for_an_answer(&mut self, number: u32, until_ns: u64) {
        let now_ns = self.now_ns;
        let Some(stream) = self.stream_mut(number) else { return };
        let gives_up_ns = now_ns.saturating_add(stream.user_timeout_ns);
        if stream.user_timeout_ns > 0 && stream.gives_up_ns.is_none() && gives_up_ns < until_ns {
            stream.gives_up_ns = Some(gives_up_ns);
            self.schedule(gives_up_ns, Happening::GiveUp(number));
        }
    }

    // The end.

    /// Ends the write side.
    pub(crate) fn shut_write(&mut self, number: u32) -> Result<(), Error> {
        let Some(stream) = self.stream_mut(number).filter(|stream| stream.is_connected()) else {
            return Err(Error::new(ErrorKind::NotConnected));
        };
        let other = stream.other;
        if !std::mem::replace(&mut stream.is_write_shut, true) {
            self.note(number, format_args!("shuts its write side"));
            self.end(other);
        }
        self.settle();
        Ok(())
    }

    fn end(&mut self, to: u32) {
        if let Some(stream) = self.stream_mut(to) {
            stream.inbound.is_ending = true;
            self.transmit(to);
        }
    }

    /// Resets a connection now, with all that is queued in it. A Unix socket knows no such thing.
    pub(crate) fn reset(&mut self, number: u32) {
        if self.is_unix(number) {
            return;
        }
        let Some(stream) = self.stream_mut(number).filter(|stream| !stream.is_reset) else { return };
        let other = stream.other;
        stream.break_with(ErrorKind::ConnectionAborted);
        self.note(number, format_args!("resets"));
        self.send_reset(other);
        self.touch(number);
        self.settle();
    }

    pub(crate) fn send_reset(&mut self, to: u32) {
        if let Some(stream) = self.stream_mut(to) {
            stream.inbound.purge();
            self.launch(to, Cargo::Reset);
        }
    }

    /// The socket is closed, and gone.
    pub(crate) fn close(&mut self, number: u32) {
        let Some(node) = self.remove(number) else { return };
        self.note(number, format_args!("closes"));
        match node.body {
            Body::Reserve | Body::Datagram(_) => {}
            Body::Listener(listener) => {
                for waiting in listener.waiting {
                    if let Some(stream) = self.stream_mut(waiting) {
                        stream.is_linger_zero = true;
                    }
                    self.close(waiting);
                }
            }
            Body::Stream(stream) => self.close_stream(&stream, node.local.ip().is_some()),
        }
        self.settle();
    }

    fn close_stream(&mut self, stream: &Stream, has_resets: bool) {
        if stream.is_reset || stream.other == 0 {
            return;
        }
        let is_abrupt = has_resets && (stream.is_linger_zero || stream.is_connecting());
        // On a Unix socket nothing is ever on its way: what was written is there to be read.
        let is_unread = stream.inbound.arrived() > 0 || (!has_resets && stream.inbound.has_more_to_come());
        // A peer that has said its end hears nothing more, one that goes on to send is told that nobody reads.
        if is_abrupt || is_unread {
            return self.send_reset(stream.other);
        }
        if !stream.is_write_shut {
            self.end(stream.other);
        }
        if stream.inbound.has_more_to_come() {
            self.send_reset(stream.other);
        }
    }
}

/// FNV-1a: enough to tell two traces apart.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811C_9DC5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

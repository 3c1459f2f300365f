//! Receive streams: a receive of no bytes tells when there is something, then it is read into pool buffers.

use super::blocks::{Job, Started, Use};
use super::{Arming, Io, message, transfer};
use crate::base::attempt::Attempt;
use crate::base::error::Error;
use crate::contract::input::{BATCH_MAX, Input, Label, Received, Source};
use crate::contract::{Event, RequestKey};
use crate::memory::SpanMut;
use crate::socket::AcceptedSocket;

impl Io {
    /// Waits until the socket has something; true: it has. Errors: the system's.
    pub(super) fn arm(&mut self, socket: u32, key: RequestKey) -> Result<bool, Error> {
        let state = &mut self.sockets[socket as usize];
        let (handle, skips) = (state.handle, state.facts.skips);
        let id = self.blocks.take(Use { key, socket, handle, job: Job::Ready });
        self.counters.kernel_entries.add(1);
        match transfer::receive(handle, SpanMut::of(&mut []), self.blocks.overlapped(id.index), skips) {
            Started::Pending => {
                state.arming = Arming::Armed;
                Ok(false)
            }
            Started::Done(_) => {
                self.blocks.release(id.index);
                Ok(true)
            }
            Started::Failed(error) => {
                self.blocks.settle(id.index, &self.port);
                Err(error)
            }
        }
    }
}

impl Source for Io {
    const DATAGRAMS_PER_CALL: usize = 1;

    /// Accepts do not come this way.
    fn accept(&mut self, _: u32, _: bool) -> Attempt<AcceptedSocket> {
        Attempt::Later
    }

    fn receive(&mut self, socket: u32, span: SpanMut) -> Attempt<Received> {
        self.counters.kernel_entries.add(1);
        let received = |bytes| Received { bytes, is_drained: bytes < span.length };
        transfer::receive_now(self.sockets[socket as usize].handle, span).map(received)
    }

    fn receive_datagrams(&mut self, socket: u32, spans: &[SpanMut], labels: &mut [Label; BATCH_MAX]) -> Attempt<usize> {
        let tried = match self.take_stashed(socket, spans[0]) {
            Some(label) => Attempt::Done(label),
            None => {
                self.counters.kernel_entries.add(1);
                message::receive_now(&self.extensions, self.sockets[socket as usize].handle, spans[0])
            }
        };
        tried.map(|label| {
            labels[0] = label;
            1
        })
    }

    fn await_more(
        &mut self,
        socket: u32,
        (key, input): (RequestKey, Input),
        events: &mut Vec<Event>,
    ) -> Result<bool, Error> {
        match input {
            // What has come meanwhile ends the wait at once.
            Input::Datagrams(section) => self.post_datagram(socket, key, section, events),
            _ => self.arm(socket, key),
        }
    }
}

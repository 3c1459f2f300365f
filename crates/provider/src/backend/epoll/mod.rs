//! epoll: edge-triggered, one registration per socket. All else is `readiness.rs`.

mod calls;
pub(crate) mod forms;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{self, SocketFlags};
use socket2::Socket;

use crate::backend::absence::{Trial, trial, uninterrupted};
use crate::backend::datagram;
use crate::backend::event_fd::EventFd;
use crate::backend::readiness::calls::{borrow, os, tried};
use crate::backend::readiness::{self, EDGES_PER_TURN, Edge, Message, Selector};
use crate::base::attempt::Attempt;
use crate::base::error::{Error, Feature};
use crate::base::kind::Kind;
use crate::base::wake::Waker;
use crate::config::Config;
use crate::contract::input::{BATCH_MAX, Label};
use crate::contract::merge::MergingProbe;
use crate::contract::{FeatureState, Opened};
use crate::memory::buffer::BufferPool;
use crate::memory::{Span, SpanMut};
use crate::platform::RawHandle;

/// Opens an epoll instance. Errors: the system's.
pub(crate) fn open(config: &Config, _: &mut BufferPool) -> Result<Opened, Error> {
    readiness::open::<EpollSelector>(config)
}

/// Data of the waker's registration; sockets have their index.
const WAKE: u64 = u64::MAX;

/// An epoll instance and what wakes it.
struct EpollSelector {
    epoll: OwnedFd,
    waker: Arc<EventFd>,
    buffer: Vec<epoll::Event>,
    /// Proof that waits are as short as they are asked for, or the reason why not.
    precise: Trial,
}

impl Selector for EpollSelector {
    const KIND: Kind = Kind::Epoll;

    fn open() -> Result<Self, Error> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(os)?;
        let waker = EventFd::new()?;
        let data = epoll::EventData::new_u64(WAKE);
        epoll::add(&epoll, &*waker, data, epoll::EventFlags::IN | epoll::EventFlags::ET).map_err(os)?;
        // A wait that takes no time is never interrupted, but what is asked costs nothing.
        let mut none = Vec::with_capacity(1);
        let precise = trial(
            uninterrupted(|| {
                let waited = calls::wait_precisely(&epoll, &mut none, Some(Duration::ZERO));
                waited.map_err(io::Error::from)
            })
            .map(|()| true),
        );
        Ok(EpollSelector { epoll, waker, buffer: Vec::with_capacity(EDGES_PER_TURN), precise })
    }

    fn add(&mut self, socket: u32, handle: RawHandle) -> Result<(), Error> {
        use epoll::EventFlags as On;
        let data = epoll::EventData::new_u64(u64::from(socket));
        epoll::add(&self.epoll, borrow(&handle), data, On::IN | On::OUT | On::RDHUP | On::PRI | On::ET).map_err(os)
    }

    fn remove(&mut self, handle: RawHandle) {
        // A failure means that it was not registered: then there is nothing to end.
        let _ = epoll::delete(&self.epoll, borrow(&handle));
    }

    fn wait(&mut self, wait: Option<Duration>, edges: &mut Vec<Edge>) -> Result<(), Error> {
        use epoll::EventFlags as On;
        self.buffer.clear();
        let waited = match self.precise {
            Ok(()) => calls::wait_precisely(&self.epoll, &mut self.buffer, wait),
            Err(_) => calls::wait_coarsely(&self.epoll, &mut self.buffer, wait),
        };
        match waited {
            // Rings that are set up or closed in this thread interrupt the wait without any signal: the driver calls again.
            Ok(()) | Err(Errno::INTR) => {}
            Err(errno) => return Err(os(errno)),
        }
        for entry in &self.buffer {
            let flags = entry.flags;
            if entry.data.u64() == WAKE {
                self.waker.clear();
                continue;
            }
            edges.push(Edge {
                socket: entry.data.u64() as u32,
                readable: flags.intersects(On::IN | On::RDHUP | On::HUP | On::ERR),
                writable: flags.intersects(On::OUT | On::HUP | On::ERR),
                may_have_gap: flags.intersects(On::RDHUP | On::HUP | On::ERR | On::PRI),
            });
        }
        Ok(())
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn features(&self) -> Vec<FeatureState> {
        let reason = self.precise.err().unwrap_or_default();
        vec![FeatureState { feature: Feature::PreciseWait, in_use: self.precise.is_ok(), reason }]
    }

    fn accept(handle: RawHandle) -> Attempt<Socket> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        tried(|| net::accept_with(borrow(&handle), flags).map(Socket::from))
    }

    fn receive_datagrams(handle: RawHandle, spans: &[SpanMut], labels: &mut [Label; BATCH_MAX]) -> Attempt<usize> {
        datagram::receive(handle, spans, labels)
    }

    fn send_messages(handle: RawHandle, messages: &[Message], spans: &[Span]) -> Attempt<usize> {
        datagram::send(handle, messages, spans)
    }

    fn probe_merging() -> MergingProbe {
        datagram::probe()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// As without `epoll_pwait2`, or with it if the kernel has it.
    fn both() -> [EpollSelector; 2] {
        let coarse = EpollSelector { precise: Err("for a test"), ..EpollSelector::open().unwrap() };
        [EpollSelector::open().unwrap(), coarse]
    }

    #[test]
    fn the_longest_wait_is_no_error() {
        for mut selector in both() {
            for wait in [Duration::from_secs(40 * 86_400), Duration::from_secs(1 << 40), Duration::MAX] {
                selector.waker().wake();
                selector.wait(Some(wait), &mut Vec::new()).unwrap();
            }
        }
    }

    #[test]
    fn no_wait_is_too_short() {
        for mut selector in both() {
            for wait in [1, 999, 1_000, 1_500_000].map(Duration::from_nanos) {
                let start = Instant::now();
                selector.wait(Some(wait), &mut Vec::new()).unwrap();
                // Setting up rings in another test does not interrupt this thread.
                assert!(start.elapsed() >= wait, "{wait:?}");
            }
        }
    }

    #[test]
    fn short_waits_are_short() {
        let mut selector = EpollSelector::open().unwrap();
        if let Err(reason) = selector.precise {
            return println!("not tested: epoll_pwait2: {reason}");
        }
        let mut is_short = || {
            let start = Instant::now();
            selector.wait(Some(Duration::from_micros(50)), &mut Vec::new()).unwrap();
            start.elapsed() < Duration::from_micros(900)
        };
        assert!((0..1000).any(|_| is_short()), "rounded up to a millisecond");
    }
}

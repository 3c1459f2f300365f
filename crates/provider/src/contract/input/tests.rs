//! Tests on sockets that no system shows on demand: they are never drained, or say exactly this much.

use std::collections::VecDeque;

use super::*;
use crate::base::slots::Key;
use crate::contract::ready_queue::BYTES_PER_TURN;
use crate::memory::config::PoolConfig;

/// Answer of a socket to one call.
#[derive(Clone, Copy)]
enum Says {
    /// Fills the room, and has more.
    Full,
    /// This number of bytes, and nothing is left.
    Last(usize),
    End,
    Nothing,
    Fails(ErrorKind),
}

/// Sockets that say what they are told to, and after that have bytes without end.
#[derive(Default)]
struct Script {
    says: VecDeque<Says>,
    /// Sockets that are waited for.
    awaited: Vec<u32>,
    has_more: bool,
    is_cut: bool,
    /// Spans of each call for datagrams.
    asked: Vec<usize>,
}

impl Source for Script {
    fn accept(&mut self, _: u32, _: bool) -> Attempt<AcceptedSocket> {
        Attempt::Later
    }

    fn receive(&mut self, _: u32, span: SpanMut) -> Attempt<Received> {
        match self.says.pop_front().unwrap_or(Says::Full) {
            Says::Full => Attempt::Done(Received { bytes: span.length, is_drained: false }),
            Says::Last(bytes) => Attempt::Done(Received { bytes, is_drained: true }),
            Says::End => Attempt::Done(Received { bytes: 0, is_drained: false }),
            Says::Nothing => Attempt::Later,
            Says::Fails(kind) => Attempt::Failed(Error::new(kind)),
        }
    }

    fn receive_datagrams(&mut self, _: u32, spans: &[SpanMut], labels: &mut [Label; BATCH_MAX]) -> Attempt<usize> {
        self.asked.push(spans.len());
        match self.says.pop_front().unwrap_or(Says::Full) {
            Says::Last(count) => {
                labels[..count].iter_mut().for_each(|label| label.length = 7);
                Attempt::Done(count)
            }
            Says::Fails(kind) => Attempt::Failed(Error::new(kind)),
            Says::Full => {
                labels[..spans.len()].iter_mut().for_each(|label| label.length = 4096);
                Attempt::Done(spans.len())
            }
            Says::End | Says::Nothing => Attempt::Later,
        }
    }

    fn await_more(&mut self, socket: u32, _: (RequestKey, Input), _: &mut Vec<Event>) -> Result<bool, Error> {
        self.awaited.push(socket);
        Ok(std::mem::take(&mut self.has_more))
    }

    fn goes_on(&mut self) -> bool {
        !self.is_cut
    }
}

/// A queue with `count` sockets, each of which waits for this.
struct Rig {
    inputs: InputQueue,
    script: Script,
    pool: BufferPool,
    counters: Rc<ProviderCounters>,
}

const STREAM: Input = Input::Stream(Section::Receive, Shots::Many);

fn key(socket: u32) -> RequestKey {
    Key::new(socket, 1)
}

impl Rig {
    fn new(count: u32, input: Input, share_bytes_max: u32) -> Self {
        let counters = Rc::default();
        let pool = BufferPool::new(&PoolConfig { receive_count: 128, ..PoolConfig::default() }).unwrap();
        let inputs = InputQueue::new(share_bytes_max, &counters);
        let mut rig = Rig { inputs, script: Script::default(), pool, counters };
        for socket in 0..count {
            rig.inputs.forget(socket);
            assert!(!rig.inputs.start(socket, key(socket), input), "nothing is known of it");
            rig.inputs.readable(socket);
        }
        rig
    }

    fn with(says: &[Says], input: Input) -> Self {
        let mut rig = Rig::new(1, input, u32::MAX);
        rig.script.says.extend(says);
        rig
    }

    /// Events of one turn: the socket, whether the request goes on, and the bytes or the error.
    fn turn(&mut self) -> Vec<(u32, bool, Result<usize, ErrorKind>)> {
        let mut events = Vec::new();
        self.inputs.run(&mut self.script, &mut self.pool, &mut events);
        let told = |event: Event| {
            let result = match event.result {
                EventResult::Received(buffer) => Ok(buffer.len()),
                EventResult::Datagram(buffer, _) => Ok(buffer.len()),
                EventResult::ReceivedInto(bytes) => Ok(bytes),
                EventResult::Failed(error) => Err(error.kind()),
                other => panic!("{other:?}"),
            };
            (event.key.index(), event.more, result)
        };
        events.into_iter().map(told).collect()
    }

    /// Number of buffers that each of two sockets gets in the next turn.
    fn shares(&mut self) -> [usize; 2] {
        let events = self.turn();
        [0, 1].map(|socket| events.iter().filter(|event| event.0 == socket && event.1).count())
    }
}

/// In the suite the pool and the kernel's own buffers bound a turn as well, so that a missing cap is not seen there.
//= STARVE-1
#[test]
fn no_socket_gets_more_than_its_share_of_a_turn() {
    let buffer_bytes = PoolConfig::default().buffer_bytes;
    for input in [STREAM, Input::Datagrams(Section::Receive)] {
        let mut rig = Rig::new(2, input, 4 * buffer_bytes);
        for _ in 0..3 {
            assert_eq!(rig.shares(), [4, 4]);
        }
    }
}

//= STARVE-1
#[test]
fn a_socket_that_had_nothing_of_a_turn_comes_first_in_the_next() {
    let all = BYTES_PER_TURN / PoolConfig::default().buffer_bytes as usize;
    let mut rig = Rig::new(2, STREAM, BYTES_PER_TURN as u32);
    // One that has had its share is served in every turn besides.
    assert_eq!([rig.shares(), rig.shares(), rig.shares()], [[all, 0], [all, all], [0, all]]);
}

#[test]
fn a_drained_socket_is_waited_for_and_read_again_when_it_is_readable() {
    let mut rig = Rig::with(&[Says::Full, Says::Last(10), Says::Nothing], STREAM);
    assert_eq!(rig.turn(), [(0, true, Ok(4096)), (0, true, Ok(10))]);
    assert!(rig.inputs.is_idle() && rig.script.awaited == [0]);
    assert_eq!(rig.turn(), []);
    rig.inputs.readable(0);
    assert!(!rig.inputs.is_idle());
    assert_eq!((rig.turn(), rig.script.awaited.len()), (vec![], 2));
}

#[test]
fn a_socket_that_has_something_again_at_once_is_read_in_the_next_turn() {
    let mut rig = Rig::with(&[Says::Last(1), Says::Last(2)], STREAM);
    rig.script.has_more = true;
    assert_eq!(rig.turn(), [(0, true, Ok(1))]);
    assert!(!rig.inputs.is_idle());
    assert_eq!(rig.turn(), [(0, true, Ok(2))]);
}

#[test]
fn the_end_an_error_and_one_shot_end_the_request() {
    let one = Input::Stream(Section::Receive, Shots::One);
    for (input, says, told) in [
        (STREAM, Says::End, Ok(0)),
        (STREAM, Says::Fails(ErrorKind::ConnectionReset), Err(ErrorKind::ConnectionReset)),
        (one, Says::Full, Ok(4096)),
        (one, Says::Last(3), Ok(3)),
    ] {
        let mut rig = Rig::with(&[says], input);
        assert_eq!(rig.turn(), [(0, false, told)]);
        assert!(rig.inputs.request(0).is_none());
        let is_known = rig.inputs.start(0, key(0), input);
        assert_eq!(is_known, !matches!(says, Says::Last(_)), "what is known of it stays");
    }
}

#[test]
fn a_request_without_a_buffer_ends_and_is_counted() {
    let mut rig = Rig::with(&[], STREAM);
    rig.inputs.ready = ReadyQueue::new(u32::MAX);
    rig.inputs.sockets[0].is_queued = false;
    rig.inputs.readable(0);
    let lent: Vec<Buffer> = std::iter::from_fn(|| rig.pool.lend_receive(Section::Receive)).collect();
    assert_eq!(rig.turn(), [(0, false, Err(ErrorKind::NoBuffers))]);
    assert_eq!((rig.counters.no_buffers.get(), lent.len()), (1, 128));
}

#[test]
fn batches_of_datagrams_grow_with_what_comes() {
    let says = [Says::Last(4), Says::Last(8), Says::Last(3), Says::Last(1), Says::Nothing];
    let mut rig = Rig::with(&says, Input::Datagrams(Section::Receive));
    assert_eq!(rig.turn().len(), 16);
    assert_eq!(rig.script.asked, [4, 8, 16, 1, 2]);
    assert_eq!(rig.pool.state().lent, 0, "what was not filled goes back");
}

#[test]
fn an_error_about_a_datagram_of_the_past_ends_nothing() {
    let says = [Says::Fails(ErrorKind::ConnectionRefused), Says::Last(1), Says::Nothing];
    let mut rig = Rig::with(&says, Input::Datagrams(Section::Receive));
    assert_eq!(rig.turn(), [(0, true, Err(ErrorKind::ConnectionRefused)), (0, true, Ok(7))]);
    rig.script.says.push_back(Says::Fails(ErrorKind::OutOfMemory));
    rig.inputs.readable(0);
    assert_eq!(rig.turn(), [(0, false, Err(ErrorKind::OutOfMemory))]);
}

#[test]
fn a_stream_that_is_cut_ends_with_its_last_item() {
    for input in [STREAM, Input::Datagrams(Section::Receive)] {
        let mut rig = Rig::with(&[Says::Last(1)], input);
        rig.script.is_cut = true;
        assert!(matches!(rig.turn()[..], [(0, false, Ok(_))]));
    }
}

//= CANCEL-1
#[test]
fn a_cancelled_request_says_so_once_and_the_next_socket_of_its_index_is_not_read_for_it() {
    let mut rig = Rig::with(&[], STREAM);
    assert!(rig.inputs.cancel(0, key(9)).is_none(), "another request's key");
    assert!(rig.inputs.cancel(0, key(0)).is_some_and(|event| !event.more));
    assert!(rig.inputs.cancel(0, key(0)).is_none());
    rig.inputs.forget(0);
    assert!(!rig.inputs.start(0, key(0), STREAM));
    assert_eq!(rig.turn(), []);
    rig.inputs.readable(0);
    assert!(!rig.turn().is_empty());
}

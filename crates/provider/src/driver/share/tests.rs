//! Tests of the shares: which streams are armed, in which order and for how many buffers, on a back end that does what the test
//! says.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::*;
use crate::base::error::{Error, ErrorKind};
use crate::base::id::SocketId;
use crate::base::kind::Kind;
use crate::base::wake::Wake;
use crate::contract::{Event, EventResult, Opened, Origin, Profile, Provider, Request, RequestKey};
use crate::driver::Driver;
use crate::driver::completion::Completions;
use crate::memory::buffer::BufferPool;
use crate::socket::{AcceptedSocket, AnySocket};

/// Report of one receive in a turn.
#[derive(Clone, Copy)]
enum Say {
    /// The buffer is full, and the request goes on.
    FullAndMore,
    /// The buffer is full, and the request has ended.
    FullAndLast,
    /// One byte came, and the request has ended.
    SmallAndLast,
    /// There was no buffer.
    NoBuffers,
}

/// One receive that the driver has asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Asked {
    socket: u32,
    section: Section,
    shots: Shots,
}

/// Back end of these tests: it remembers the receives it is asked for, and says what it was told to say.
#[derive(Default)]
struct Scripted {
    to_say: Vec<(u32, Say)>,
    /// Receives asked for in the last turn.
    asked: Vec<Asked>,
    under_way: HashMap<u32, (RequestKey, Section)>,
}

struct NobodyWaits;

impl Wake for NobodyWaits {
    fn wake(&self) {}
}

impl Scripted {
    fn take(&mut self, request: Request, events: &mut Vec<Event>) {
        match request.action {
            Action::Receive(section, shots) => {
                self.asked.push(Asked { socket: request.socket, section, shots });
                self.under_way.insert(request.socket, (request.key, section));
            }
            Action::Cancel => {
                self.under_way.retain(|_, (key, _)| *key != request.key);
                let error = Error::new(ErrorKind::Cancelled);
                events.push(Event { key: request.key, more: false, result: EventResult::Failed(error) });
            }
            _ => unreachable!("these tests only receive"),
        }
    }

    fn say(&mut self, socket: u32, say: Say, pool: &mut BufferPool) -> Event {
        let (key, section) = self.under_way[&socket];
        let more = matches!(say, Say::FullAndMore);
        if !more {
            self.under_way.remove(&socket);
        }
        let result = if matches!(say, Say::NoBuffers) {
            EventResult::Failed(Error::new(ErrorKind::NoBuffers))
        } else {
            let mut buffer = pool.lend_receive(section).expect("a buffer is free");
            let length = if matches!(say, Say::SmallAndLast) { 1 } else { buffer.capacity() };
            buffer.set_len(length);
            EventResult::Received(buffer)
        };
        Event { key, more, result }
    }
}

impl Provider for Scripted {
    fn attach(&mut self, _: u32, _: &AnySocket, _: Origin) -> Result<(), Error> {
        Ok(())
    }

    fn detach(&mut self, _: u32) {}

    fn turn(
        &mut self,
        requests: &mut Vec<Request>,
        _: Option<Duration>,
        pool: &mut BufferPool,
        events: &mut Vec<Event>,
    ) -> Result<(), Error> {
        self.asked.clear();
        for request in requests.drain(..) {
            self.take(request, events);
        }
        for (socket, say) in mem::take(&mut self.to_say) {
            let event = self.say(socket, say, pool);
            events.push(event);
        }
        Ok(())
    }
}

struct Rig {
    driver: Driver,
    script: Rc<RefCell<Scripted>>,
    sockets: Vec<SocketId>,
}

impl Rig {
    /// A driver with `count` streams that have been asked for once.
    fn new(count: usize, configure: impl FnOnce(&mut Config)) -> Rig {
        let mut config = Config::named(Kind::Sim);
        configure(&mut config);
        let script = Rc::new(RefCell::new(Scripted::default()));
        let profile =
            Profile { is_nonblocking: false, ..Profile::system(Kind::Sim, Arc::new(NobodyWaits), Vec::new()) };
        let opened = Opened { profile, provider: Box::new(script.clone()) };
        let mut driver = Driver::open_on(&config, |_, _| Ok(opened)).unwrap();
        let sockets = (0..count).map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            let socket = driver.adopt(AcceptedSocket::fresh(AnySocket::Os(socket), false)).unwrap();
            driver.receive(socket, 0).unwrap();
            socket
        });
        let sockets = sockets.collect();
        let mut rig = Rig { driver, script, sockets };
        assert_eq!(rig.turn(&[]).len(), count);
        rig
    }

    /// One turn in which the back end says this, by the place of the stream. Returns what it was asked for in the turn, with
    /// places instead of socket numbers. Buffers go back at once.
    fn turn(&mut self, says: &[(usize, Say)]) -> Vec<Asked> {
        let place_to_index: Vec<u32> = self.sockets.iter().map(|socket| socket.key().index()).collect();
        self.script.borrow_mut().to_say = says.iter().map(|(place, say)| (place_to_index[*place], *say)).collect();
        self.driver.poll(Some(Duration::ZERO), &mut Completions::with_capacity(4096)).unwrap();
        let place_of = |index| place_to_index.iter().position(|each| *each == index).unwrap() as u32;
        self.script.borrow().asked.iter().map(|asked| Asked { socket: place_of(asked.socket), ..*asked }).collect()
    }

    /// Stops all streams and lets them go on: that rations each.
    fn ration_all(&mut self) {
        for socket in &self.sockets {
            self.driver.pause_intake(*socket).unwrap();
        }
        self.turn(&[]);
        for socket in &self.sockets {
            self.driver.resume(*socket).unwrap();
        }
    }
}

fn places(asked: &[Asked]) -> Vec<u32> {
    asked.iter().map(|asked| asked.socket).collect()
}

#[test]
fn who_used_the_buffers_up_waits_behind_who_got_none() {
    let mut rig = Rig::new(3, |_| {});
    rig.turn(&[(0, Say::FullAndMore), (0, Say::NoBuffers), (1, Say::NoBuffers), (2, Say::NoBuffers)]);
    assert_eq!(places(&rig.turn(&[])), [1, 2, 0]);
}

#[test]
fn a_stream_that_was_served_waits_behind_who_waits() {
    let mut rig = Rig::new(2, |_| {});
    rig.turn(&[(1, Say::NoBuffers), (0, Say::SmallAndLast)]);
    assert_eq!(places(&rig.turn(&[])), [1, 0]);
}

#[test]
fn a_stream_that_waits_for_nobody_is_asked_at_once_and_for_good() {
    let mut rig = Rig::new(2, |_| {});
    rig.turn(&[(0, Say::SmallAndLast)]);
    assert_eq!(rig.turn(&[]), [Asked { socket: 0, section: Section::Receive, shots: Shots::Many }]);
}

#[test]
fn rationed_streams_get_a_bounded_number_of_bytes_in_a_turn() {
    let mut rig = Rig::new(200, |_| {});
    rig.ration_all();
    let mut served = Vec::new();
    for _ in 0..4 {
        let asked = rig.turn(&[]);
        assert!(asked.len() <= 256 / 4 && asked.iter().all(|asked| asked.shots == Shots::One), "{asked:?}");
        served.extend(places(&asked));
    }
    assert_eq!(served, (0..200).collect::<Vec<_>>(), "each in its turn");
}

fn eight_buffers(config: &mut Config) {
    (config.pool.receive_count, config.pool.send_count) = (8, 8);
}

/// Streams that were armed may have no bytes, so that nothing would come of a wait.
#[test]
fn the_driver_does_not_sleep_while_streams_in_a_queue_could_be_armed() {
    let mut rig = Rig::new(20, eight_buffers);
    let denied: Vec<_> = (0..20).map(|place| (place, Say::NoBuffers)).collect();
    rig.turn(&denied);
    let turns: Vec<_> = (0..4).map(|_| (rig.turn(&[]).len(), rig.driver.parts.receives.is_behind())).collect();
    assert_eq!(turns, [(8, true), (8, true), (4, false), (0, false)]);
}

#[test]
fn rationed_streams_are_not_forgotten_behind_starved_ones() {
    let mut rig = Rig::new(16, eight_buffers);
    let denied: Vec<_> = (8..16).map(|place| (place, Say::NoBuffers)).collect();
    rig.sockets[..8].iter().for_each(|socket| rig.driver.pause_intake(*socket).unwrap());
    rig.turn(&denied);
    rig.sockets[..8].iter().for_each(|socket| rig.driver.resume(*socket).unwrap());
    let turns: Vec<_> = (0..4).map(|_| (rig.turn(&[]).len(), rig.driver.parts.receives.is_behind())).collect();
    assert_eq!(turns, [(8, true), (4, true), (4, false), (0, false)]);
}

/// The turn's bytes are shared by both sections: 256 KiB are three bulk buffers and ten ordinary ones.
#[test]
fn bulk_buffers_count_for_what_they_hold() {
    let mut rig = Rig::new(100, |config| config.pool.bulk_count = 64);
    for place in 0..30 {
        rig.turn(&[(place, Say::FullAndMore), (place, Say::FullAndMore)]);
    }
    rig.ration_all();
    let asked = rig.turn(&[]);
    let bytes = |asked: &Asked| if asked.section == Section::Bulk { 69_632 } else { 4096 };
    let bulk = asked.iter().filter(|asked| asked.section == Section::Bulk).count();
    assert!(bulk > 0, "nobody is left out");
    assert!(asked.iter().map(bytes).sum::<usize>() <= 256 * 1024 + 69_632, "{asked:?}");
}

#[test]
fn more_bulk_streams_than_bulk_buffers_receive_one_at_a_time() {
    let mut rig = Rig::new(3, |config| config.pool.bulk_count = 2);
    let mut shots = Vec::new();
    for place in 0..3 {
        rig.turn(&[(place, Say::FullAndMore), (place, Say::FullAndMore)]);
        rig.turn(&[]);
        let asked = rig.turn(&[]);
        shots.extend(asked.iter().map(|asked| (asked.section, asked.shots)));
    }
    let bulk = |shots| (Section::Bulk, shots);
    assert_eq!(shots, [bulk(Shots::Many), bulk(Shots::Many), bulk(Shots::One)]);
    // One of them closes: the two others may have streams again.
    rig.driver.close(rig.sockets[0], crate::driver::operation::CloseMode::Abort, 0).unwrap();
    (0..3).for_each(|_| drop(rig.turn(&[])));
    rig.turn(&[(2, Say::FullAndLast)]);
    assert_eq!(rig.turn(&[]), [Asked { socket: 2, section: Section::Bulk, shots: Shots::Many }]);
}

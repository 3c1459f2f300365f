//! Tests of what is particular to completion ports, seen through the contract of back ends.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::{Deref, DerefMut};
use std::os::windows::io::AsRawSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::base::id::SocketId;
use crate::config::{Backend, IocpConfig};
use crate::driver::Driver;
use crate::driver::completion::{Completions, Outcome};
use crate::driver::operation::CloseMode;
use crate::socket::{AcceptedSocket, BindOptions, ListenOptions};
use crate::{ErrorKind, Feature, Operation, ReceiveBuffer};

/// A driver on a completion port, and that port.
struct Iocps {
    driver: Driver,
    iocp: Rc<RefCell<Iocp>>,
}

impl Iocps {
    fn open(config: &Config) -> Result<Self, Error> {
        let (profile, iocp) = Iocp::open(config)?;
        let iocp = Rc::new(RefCell::new(iocp));
        let opened = Opened { profile, provider: Box::new(iocp.clone()) };
        Ok(Iocps { driver: Driver::open_on(config, |_, _| Ok(opened))?, iocp })
    }

    /// Number of operations that the system has.
    fn under_way(&self) -> usize {
        self.iocp.borrow().io.blocks.used()
    }
}

impl Deref for Iocps {
    type Target = Driver;

    fn deref(&self) -> &Driver {
        &self.driver
    }
}

impl DerefMut for Iocps {
    fn deref_mut(&mut self) -> &mut Driver {
        &mut self.driver
    }
}

/// With completions left out where that is allowed, and with all of them.
fn forms() -> [Config; 2] {
    [true, false].map(|skip_on_success| {
        let iocp = IocpConfig { skip_on_success, ..IocpConfig::default() };
        Config { backend: Backend::Named(Kind::Iocp), iocp, ..Config::default() }
    })
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

/// Makes connections when told, on a thread and by a listener that are there already: so the first handles to be given
/// out are those that were closed last. The thread that waits for them asks the system for nothing meanwhile: what it has
/// left under way there goes on when it next waits.
struct PairsElsewhere {
    is_due: Arc<AtomicBool>,
    pairs: std::thread::JoinHandle<Vec<(TcpStream, TcpStream)>>,
}

impl PairsElsewhere {
    fn new() -> Self {
        let is_due = Arc::new(AtomicBool::new(false));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let pairs = std::thread::spawn({
            let is_due = is_due.clone();
            move || {
                while !is_due.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
                (0..8).map(|_| (TcpStream::connect(address).unwrap(), listener.accept().unwrap().0)).collect()
            }
        });
        PairsElsewhere { is_due, pairs }
    }

    fn make(self) -> Vec<(TcpStream, TcpStream)> {
        self.is_due.store(true, Ordering::Release);
        while !self.pairs.is_finished() {
            std::thread::yield_now();
        }
        self.pairs.join().unwrap()
    }
}

/// Polls until the condition holds, and gives it every completion; fails after a long time.
fn poll_until(driver: &mut Iocps, mut is_done: impl FnMut(Option<crate::Completion>, &mut Iocps) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut completions = Completions::with_capacity(64);
    while !is_done(None, driver) {
        assert!(Instant::now() < deadline, "nothing came for a long time");
        driver.poll(Some(Duration::from_millis(50)), &mut completions).unwrap();
        while let Some(completion) = completions.pop() {
            is_done(Some(completion), driver);
        }
    }
}

fn await_token(driver: &mut Iocps, token: u64) -> Outcome {
    let mut outcome = None;
    poll_until(driver, |completion, _| {
        if let Some(completion) = completion.filter(|completion| completion.token == token && !completion.more) {
            outcome = Some(completion.outcome);
        }
        outcome.is_some()
    });
    outcome.unwrap()
}

/// Fills what the system takes of a socket, so that the last send is under way until its peer reads.
fn stuff(driver: &mut Iocps, socket: SocketId, bytes: &Bytes) {
    loop {
        driver.submit(Operation::Send { socket, payload: bytes.clone().into(), quiet: false }, 99).unwrap();
        let mut completions = Completions::with_capacity(8);
        driver.poll(Some(Duration::from_millis(200)), &mut completions).unwrap();
        if completions.is_empty() {
            return assert!(driver.under_way() > 0, "it is under way");
        }
    }
}

#[test]
fn an_idle_stream_holds_no_buffer_and_one_block() {
    for config in forms() {
        let mut driver = Iocps::open(&config).unwrap();
        let (near, mut far) = pair();
        let socket = driver.adopt(near).unwrap();
        driver.receive(socket, 1).unwrap();
        driver.flush().unwrap();
        assert_eq!((driver.under_way(), driver.pool_state().lent), (1, 0));
        far.write_all(b"hello").unwrap();
        let mut bytes = Vec::new();
        poll_until(&mut driver, |completion, _| {
            if let Some(Outcome::Received(buffer)) = completion.map(|completion| completion.outcome) {
                bytes.extend_from_slice(&buffer);
            }
            bytes == b"hello"
        });
        driver.flush().unwrap();
        assert_eq!((driver.under_way(), driver.pool_state().lent), (1, 0), "armed again");
        drop(far);
        assert!(matches!(await_token(&mut driver, 1), Outcome::Received(end) if end.is_empty()));
        assert_eq!(driver.under_way(), 0);
    }
}

#[test]
fn accepts_wait_ahead_and_those_that_are_cancelled_leave_nothing_behind() {
    for config in forms() {
        let mut driver = Iocps::open(&config).unwrap();
        let listener = driver.listen(([127, 0, 0, 1], 0), &ListenOptions::default()).unwrap();
        let address = driver.local_address(listener).unwrap().ip().unwrap();
        let stream = driver.accept(listener, 1).unwrap();
        poll_until(&mut driver, |_, driver| driver.under_way() == 16);
        let mut clients: Vec<_> = (0..40).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut accepted: Vec<AcceptedSocket> = Vec::new();
        poll_until(&mut driver, |completion, driver| {
            if let Some(Outcome::Accepted(socket)) = completion.map(|completion| completion.outcome) {
                accepted.push(socket);
            }
            accepted.len() == 40 && driver.under_way() == 16
        });
        driver.cancel(stream).unwrap();
        let outcome = await_token(&mut driver, 1);
        assert_eq!(outcome.error().map(|error| error.kind()), Some(ErrorKind::Cancelled));
        assert_eq!(driver.under_way(), 0);
        // They are unattached: another driver may have them, and knows who is at the other end.
        let mut other = Iocps::open(&config).unwrap();
        for socket in accepted {
            let peer = socket.peer_address().unwrap().ip().unwrap();
            assert!(clients.iter().any(|client| client.local_addr().unwrap() == peer));
            let id = other.adopt(socket).unwrap();
            other.submit(Operation::Send { socket: id, payload: b"hi"[..].into(), quiet: true }, 2).unwrap();
        }
        other.flush().unwrap();
        for client in &mut clients {
            let mut bytes = [0; 2];
            client.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, b"hi");
        }
    }
}

/// The listener's end cancels accepts while connections come in: each of them is either delivered or never was.
#[test]
fn a_connection_that_meets_the_cancel_is_delivered_or_refused() {
    for config in forms() {
        let mut driver = Iocps::open(&config).unwrap();
        for round in 0..20 {
            let listener = driver.listen(([127, 0, 0, 1], 0), &ListenOptions::default()).unwrap();
            let address = driver.local_address(listener).unwrap().ip().unwrap();
            driver.accept(listener, 1).unwrap();
            driver.flush().unwrap();
            driver.flush().unwrap();
            let connecting = std::thread::spawn(move || TcpStream::connect(address));
            if round % 2 == 0 {
                driver.flush().unwrap();
            }
            driver.close(listener, CloseMode::Abort, 3).unwrap();
            let mut accepted = Vec::new();
            let mut is_closed = false;
            poll_until(&mut driver, |completion, _| {
                match completion.map(|completion| completion.outcome) {
                    Some(Outcome::Accepted(socket)) => accepted.push(socket),
                    Some(Outcome::Closed) => is_closed = true,
                    _ => {}
                }
                is_closed
            });
            assert_eq!(driver.under_way(), 0);
            assert!(accepted.len() <= 1);
            drop(accepted);
            // Connected, or told that nobody is there: either way it has ended.
            let _ = connecting.join().unwrap();
        }
    }
}

/// A close waits for the completion of a send that is under way. If it did not, what is left of the send could come out of
/// whichever socket is given the same handle next.
//= CLOSE-1
#[test]
fn a_send_that_was_pending_at_the_close_writes_into_no_later_socket() {
    // Kept here, so that what is sent too late can be read.
    let stuffing = Bytes::from(vec![0xee; 16 << 20]);
    for config in forms() {
        let mut driver = Iocps::open(&config).unwrap();
        let (mut round, mut given_again) = (0, 0);
        // Other tests of this process may be quicker to get the handle; they end.
        while given_again < 3 {
            assert!(round < 250, "the handle is never given out again");
            round += 1;
            let (near, far) = pair();
            let handle = near.as_raw_socket();
            let socket = driver.adopt(near).unwrap();
            stuff(&mut driver, socket, &stuffing);
            let elsewhere = PairsElsewhere::new();
            driver.close(socket, CloseMode::Abort, 5).unwrap();
            assert!(matches!(await_token(&mut driver, 5), Outcome::Closed));
            let later = elsewhere.make();
            given_again += usize::from(later.iter().any(|(near, _)| near.as_raw_socket() == handle));
            drop(far);
            for (near, mut far) in later {
                let id = driver.adopt(near).unwrap();
                driver
                    .submit(Operation::Send { socket: id, payload: vec![round; 100].into(), quiet: true }, 6)
                    .unwrap();
                driver.close(id, CloseMode::Graceful { deadline: Duration::from_secs(10) }, 7).unwrap();
                driver.flush().unwrap();
                far.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                let mut bytes = Vec::new();
                let read = far.read_to_end(&mut bytes);
                assert!(bytes == [round; 100], "{} bytes instead of 100: {read:?}", bytes.len());
                drop(far);
                assert!(matches!(await_token(&mut driver, 7), Outcome::Closed));
            }
            assert_eq!(driver.under_way(), 0);
        }
    }
}

#[test]
fn a_cancel_that_comes_after_the_end_does_no_harm() {
    for config in forms() {
        let mut driver = Iocps::open(&config).unwrap();
        let (near, mut far) = pair();
        let socket = driver.adopt(near).unwrap();
        for round in 0..50u8 {
            let receive = driver.receive_into(socket, vec![0; 16], 1).unwrap();
            driver.flush().unwrap();
            far.write_all(&[round]).unwrap();
            // Perhaps it has arrived, and its completion waits in the port: it is the answer of this request or the next.
            driver.cancel(receive).unwrap();
            let outcome = await_token(&mut driver, 1);
            let early = matches!(&outcome, Outcome::ReceivedInto(ReceiveBuffer::Vec(bytes)) if bytes[..] == [round]);
            if !early {
                assert_eq!(outcome.error().map(|error| error.kind()), Some(ErrorKind::Cancelled));
                driver.receive_into(socket, vec![0; 16], 2).unwrap();
                let later = await_token(&mut driver, 2);
                assert!(matches!(later, Outcome::ReceivedInto(ReceiveBuffer::Vec(bytes)) if bytes[..] == [round]));
            }
        }
    }
}

#[test]
fn datagrams_are_cut_off_told_and_followed_by_others() {
    for config in forms() {
        let mut driver = Iocps::open(&config).unwrap();
        let socket = driver.bind(([127, 0, 0, 1], 0), &BindOptions::default()).unwrap();
        let address = driver.local_address(socket).unwrap().ip().unwrap();
        driver.receive(socket, 1).unwrap();
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for round in 0..10u8 {
            // Before the receive waits, while it waits, and behind one that is too long.
            sender.send_to(&[round; 6000], address).unwrap();
            sender.send_to(&[round; 100], address).unwrap();
            sender.send_to(&[], address).unwrap();
            let (mut truncated, mut lengths) = (0, Vec::new());
            let from: SocketAddr = sender.local_addr().unwrap();
            poll_until(&mut driver, |completion, _| {
                match completion.map(|completion| completion.outcome) {
                    Some(Outcome::Truncated { from: sender }) => {
                        assert_eq!(sender, from);
                        truncated += 1;
                    }
                    Some(Outcome::Datagram { bytes, from: sender }) => {
                        assert_eq!(sender, from);
                        assert!(bytes.iter().all(|byte| *byte == round));
                        lengths.push(bytes.len());
                    }
                    Some(other) => panic!("{other:?}"),
                    None => {}
                }
                truncated == 1 && lengths == [100, 0]
            });
            driver.flush().unwrap();
            driver.flush().unwrap();
            assert_eq!((driver.under_way(), driver.pool_state().lent), (1, 0), "idle again");
        }
    }
}

#[test]
fn a_drop_without_time_for_it_still_gets_everything_back() {
    for config in forms() {
        let config = Config { drain_deadline: Duration::ZERO, ..config };
        let mut driver = Iocps::open(&config).unwrap();
        let (near, _far) = pair();
        let socket = driver.adopt(near).unwrap();
        driver.receive(socket, 1).unwrap();
        let listener = driver.listen(([127, 0, 0, 1], 0), &ListenOptions::default()).unwrap();
        driver.accept(listener, 2).unwrap();
        poll_until(&mut driver, |_, driver| driver.under_way() == 17);
        let leaked = crate::leaked_operations();
        drop(driver);
        assert!(crate::leaked_operations() > leaked, "the driver had no time to hear of them");
    }
}

#[test]
fn what_is_in_use_is_told_with_reasons() {
    let [skips, all] = forms();
    let [skips, all] = [skips, all].map(|config| Iocps::open(&config).unwrap().info());
    assert!(skips.uses(Feature::SkipOnSuccess) && !all.uses(Feature::SkipOnSuccess));
    for state in skips.features.iter().chain(&all.features) {
        assert_eq!(state.in_use, state.reason.is_empty(), "{state:?}");
    }
}

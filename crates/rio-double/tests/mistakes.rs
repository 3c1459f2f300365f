//! A caller who keeps every rule, and the mistakes that he could make: each is caught, by the rule that names it.
#![cfg(windows)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use rio_double::{Rule, Violation};
use support::{DEADLINE, FLAGS, PAGE_BYTES, Pages, Port, RECEIVE, Rio, SEND, cancel_all, close, pair, slice};
use windows_sys::Win32::Networking::WinSock::{RIO_MSG_DEFER, WSA_FLAG_OVERLAPPED};

/// What the caller gets wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mistake {
    None,
    RegionOffPage,
    QueueTooSmall,
    PlainSocket,
    TwoQueues,
    ReceivePastRegion,
    ReceiveUnregistered,
    TooManyReceives,
    SameBufferTwice,
    CommitForgotten,
    NotifiedAgain,
    DequeuedElsewhere,
    SentThenWritten,
    CancelledByForce,
    RegionGivenUpEarly,
    QueueClosedEarly,
    ReceiveAfterClose,
    ClosedInSilence,
}

const MISTAKES: [(Mistake, Rule); 17] = [
    (Mistake::RegionOffPage, Rule::RegionShape),
    (Mistake::QueueTooSmall, Rule::QuotasOverflow),
    (Mistake::PlainSocket, Rule::SocketUnflagged),
    (Mistake::TwoQueues, Rule::SecondQueue),
    (Mistake::ReceivePastRegion, Rule::SliceOutside),
    (Mistake::ReceiveUnregistered, Rule::SliceOutside),
    (Mistake::TooManyReceives, Rule::QuotaExceeded),
    (Mistake::SameBufferTwice, Rule::SliceHeld),
    (Mistake::CommitForgotten, Rule::Uncommitted),
    (Mistake::NotifiedAgain, Rule::NotifiedTwice),
    (Mistake::DequeuedElsewhere, Rule::ForeignThread),
    (Mistake::SentThenWritten, Rule::SliceTouched),
    (Mistake::CancelledByForce, Rule::CancelledRequest),
    (Mistake::RegionGivenUpEarly, Rule::RegionHeld),
    (Mistake::QueueClosedEarly, Rule::QueueHeld),
    (Mistake::ReceiveAfterClose, Rule::SocketClosed),
    (Mistake::ClosedInSilence, Rule::CloseUnannounced),
];

/// What a caller has in his hands.
struct Caller {
    rio: Rio,
    port: Port,
    /// Page 0 is received into, page 1 is sent from.
    pages: Pages,
    buffer: isize,
    completions: isize,
    near: TcpStream,
    far: TcpStream,
    requests: isize,
    /// What was found by another thread.
    elsewhere: Vec<Violation>,
    mistake: Mistake,
}

const PING: &[u8] = b"ping";

impl Caller {
    /// Everything up to the request queue; `None` if that was refused.
    fn new(mistake: Mistake) -> Option<Caller> {
        let (rio, port, pages) = (Rio::new(), Port::new(), Pages::new(2));
        let buffer = match mistake {
            Mistake::RegionOffPage => rio.register_part(&pages, 8, PAGE_BYTES),
            _ => rio.register(&pages),
        };
        // Two receives, two sends.
        let completions = rio.completions(if mistake == Mistake::QueueTooSmall { 3 } else { 4 }, Some((&port, 9)));
        let (near, far) = pair(if mistake == Mistake::PlainSocket { WSA_FLAG_OVERLAPPED } else { FLAGS });
        port.associate(std::os::windows::io::AsRawSocket::as_raw_socket(&near));
        let requests = rio.requests(&near, [2, 2], completions).ok()?;
        if mistake == Mistake::TwoQueues {
            rio.requests(&near, [2, 2], completions).ok()?;
        }
        let elsewhere = Vec::new();
        Some(Caller { rio, port, pages, buffer, completions, near, far, requests, elsewhere, mistake })
    }

    /// Hears a ping and answers it.
    fn talk(&mut self) -> Result<(), i32> {
        let (buffer, length) = match self.mistake {
            Mistake::ReceivePastRegion => (self.buffer, 2 * PAGE_BYTES + 1),
            Mistake::ReceiveUnregistered => (self.buffer + 1000, 100),
            _ => (self.buffer, 100),
        };
        self.rio.post(RECEIVE, self.requests, slice(buffer, 0, length), RIO_MSG_DEFER, 1)?;
        if self.mistake == Mistake::SameBufferTwice {
            self.rio.post(RECEIVE, self.requests, slice(buffer, 50, 100), RIO_MSG_DEFER, 2)?;
        }
        if self.mistake == Mistake::TooManyReceives {
            self.rio.post(RECEIVE, self.requests, slice(buffer, 200, 100), RIO_MSG_DEFER, 2)?;
            self.rio.post(RECEIVE, self.requests, slice(buffer, 400, 100), RIO_MSG_DEFER, 3)?;
        }
        if self.mistake != Mistake::CommitForgotten {
            self.rio.commit(RECEIVE, self.requests)?;
        }
        self.hear()?;
        self.answer()
    }

    fn hear(&mut self) -> Result<(), i32> {
        let notified = self.rio.notify(self.completions);
        if self.mistake == Mistake::NotifiedAgain {
            return Err(self.rio.notify(self.completions));
        }
        if notified != 0 || self.mistake == Mistake::CommitForgotten {
            return Err(notified);
        }
        if self.mistake == Mistake::CancelledByForce {
            cancel_all(&self.near);
        } else {
            self.far.write_all(PING).unwrap();
        }
        assert_eq!(self.port.wait(DEADLINE), Some(9), "only the notification comes to the port");
        if self.mistake == Mistake::DequeuedElsewhere {
            let (rio, completions) = (&self.rio, self.completions);
            let dequeue = || rio_double::catch(|| rio.dequeue(completions).is_ok()).1;
            self.elsewhere = std::thread::scope(|scope| scope.spawn(dequeue).join().unwrap());
            return Err(0);
        }
        let results = self.rio.dequeue(self.completions).unwrap();
        assert_eq!((results.len(), results[0].RequestContext, results[0].SocketContext), (1, 1, 77));
        if self.mistake != Mistake::CancelledByForce {
            assert_eq!((results[0].Status, results[0].BytesTransferred), (0, PING.len() as u32));
            assert_eq!(&self.pages.page(0)[..PING.len()], PING);
        }
        Ok(())
    }

    fn answer(&mut self) -> Result<(), i32> {
        self.pages.page_mut(1)[..PING.len()].copy_from_slice(PING);
        self.rio.post(SEND, self.requests, slice(self.buffer, PAGE_BYTES, PING.len()), 0, 3)?;
        if self.mistake == Mistake::SentThenWritten {
            self.pages.page_mut(1)[0] = b'P';
        }
        let mut heard = [0; PING.len()];
        self.far.read_exact(&mut heard).unwrap();
        assert_eq!(heard, PING);
        let results = self.rio.wait(self.completions, &self.port);
        assert_eq!((results.len(), results[0].RequestContext, results[0].Status), (1, 3, 0));
        Ok(())
    }

    /// Ends everything, with a receive under way.
    fn end(self) -> Result<(), i32> {
        let Caller { rio, port, buffer, completions, near, requests, pages, .. } = self;
        rio.post(RECEIVE, requests, slice(buffer, 0, 100), 0, 4)?;
        if self.mistake == Mistake::RegionGivenUpEarly {
            rio.deregister(buffer);
        }
        if self.mistake == Mistake::QueueClosedEarly {
            rio.close_completions(completions);
            return Err(0);
        }
        if self.mistake == Mistake::ClosedInSilence {
            let socket = std::os::windows::io::AsRawSocket::as_raw_socket(&near) as usize;
            // Whatever is made next may get this number.
            rio_double::socket_made(socket, FLAGS);
            return Err(0);
        }
        close(near);
        if self.mistake == Mistake::ReceiveAfterClose {
            rio.post(RECEIVE, requests, slice(buffer, 200, 100), 0, 5)?;
        }
        let results = rio.wait(completions, &port);
        assert_eq!((results.len(), results[0].RequestContext), (1, 4));
        assert_ne!(results[0].Status, 0);
        rio.close_completions(completions);
        rio.deregister(buffer);
        drop(pages);
        Ok(())
    }
}

/// What is found when the caller makes this mistake.
fn play(mistake: Mistake) -> Vec<Violation> {
    let mut elsewhere = Vec::new();
    let (_, mut violations) = rio_double::catch(|| {
        let mut caller = Caller::new(mistake)?;
        let talked = caller.talk();
        elsewhere = std::mem::take(&mut caller.elsewhere);
        talked.and_then(|()| caller.end()).ok()
    });
    violations.append(&mut elsewhere);
    violations
}

/// Whoever keeps the rules hears nothing. That comes first: a mistake may leave a queue behind for a socket whose number another
/// one gets.
#[test]
fn every_mistake_is_caught_by_its_rule() {
    let handle = std::thread::spawn(|| (play(Mistake::None), rio_double::remains()));
    let (violations, remains) = handle.join().unwrap();
    assert_eq!(violations, []);
    assert_eq!(remains, rio_double::Remains::default(), "all is given back");
    for (mistake, rule) in MISTAKES {
        let violations = play(mistake);
        let found: Vec<Rule> = violations.iter().map(|violation| violation.rule).collect();
        assert!(found.contains(&rule), "{mistake:?} is to break {rule:?}, found {violations:?}");
        let text = violations[0].to_string();
        assert!(text.contains("rule "), "the message names the rule: {text}");
    }
}

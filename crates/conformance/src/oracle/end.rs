//! End of a plan: in grace, where everything that must arrive has to arrive, or in the middle of it.

//= ONCE-1, CLOSE-1, CLOSE-2, EOF-1, HALF-1, LIMIT-1, STARVE-1, DROP-1

use std::time::{Duration, Instant};

use raon_provider::{CloseMode, Driver, ErrorKind, Operation};

use super::model::{End, Kind, Link, Op, Sock, WriteSide};
use super::play::Player;
use crate::rig::refusal;

/// Nothing moves for so long: what is missing now does not come.
pub(super) const STILL: Duration = Duration::from_millis(600);
/// And in so many polls.
pub(super) const STILL_POLLS: usize = 200;
const LONG: Duration = Duration::from_secs(60);

impl Player {
    /// Lets everything happen that is under way, and demands that it has; then ends all connections and demands that all
    /// see it.
    pub(super) fn drain(&mut self) {
        self.set_capacity(64);
        self.keeps = false;
        self.release();
        self.cancel_timers();
        self.until(false, Player::unsettled);
        self.peers.keys().copied().collect::<Vec<_>>().into_iter().for_each(|link| self.peer_shut(link));
        self.until(true, Player::unended);
        self.strays.clear();
        for index in 0..self.model.sockets.len() {
            self.close(index);
        }
        self.until(true, Player::unclosed);
        for _ in 0..3 {
            self.poll(Duration::from_millis(1));
        }
        assert!(self.model.ops.is_empty(), "never ended: {:?}", self.model.ops);
        for link in self.model.links.iter().filter(|link| !link.is_broken) {
            assert_eq!(link.pipes.iter().find_map(|pipe| pipe.missing()), None);
        }
    }

    /// Shuts the driver down in the middle of it: everything ends, and is told.
    //= DROP-1
    pub(super) fn shut_down(&mut self) {
        self.model.turn(self.rig.driver.now_ns());
        self.model.shut();
        self.rig.shut_down();
        let seen: Vec<_> = self.rig.seen().collect();
        seen.into_iter().for_each(|completion| self.take(completion));
        assert!(self.model.ops.is_empty(), "never ended: {:?}", self.model.ops);
        assert_eq!(self.unclosed(), None);
        let after = Duration::ZERO;
        assert_eq!(refusal(self.rig.driver.timer(after, 0)), ErrorKind::Closed);
        self.after_end();
    }

    /// Drops it in the middle of it: what was lent stays as it is, and nobody hears anything.
    pub(super) fn drop_driver(&mut self) {
        self.model.turn(self.rig.driver.now_ns());
        self.model.shut();
        let mut config = self.setup.config();
        self.shape.apply(&mut config);
        self.rig.replace(Driver::open(&config).unwrap());
        self.after_end();
    }

    fn after_end(&mut self) {
        let refused = self.submitter.submit(Operation::Timer { after: Duration::ZERO }, 0);
        assert_eq!(refusal(refused), ErrorKind::Closed);
        self.release();
        for link in self.peers.keys().copied().collect::<Vec<_>>() {
            while self.peer_read_some(link, 65_536) {}
        }
    }

    fn cancel_timers(&mut self) {
        let timers: Vec<_> = self.model.ops.iter().filter(|(_, op)| op.kind == Kind::Timer).collect();
        let timers: Vec<_> = timers.into_iter().filter_map(|(token, op)| Some((*token, op.id?))).collect();
        for (token, id) in timers {
            if self.rig.driver.cancel(id).is_ok() {
                self.model.cancel(token);
            }
        }
    }

    /// Polls, reads and receives until nothing is missing; fails when nothing moves any more.
    fn until(&mut self, is_ending: bool, missing: fn(&Player) -> Option<String>) {
        let (mut since, mut polls) = (Instant::now(), 0);
        loop {
            let has_moved = self.poll(Duration::from_micros(if polls < 3 { 0 } else { 500 })) > 0;
            let has_moved = self.nurse(is_ending) || has_moved;
            let Some(what) = missing(self) else { return };
            polls += 1;
            if has_moved {
                (since, polls) = (Instant::now(), 0);
            }
            let is_still = polls > STILL_POLLS && since.elapsed() > STILL;
            assert!(!is_still, "lost in silence: {what}; {:?}", self.model.ops);
        }
    }

    /// Does what lets everything go on. True if something came.
    fn nurse(&mut self, is_ending: bool) -> bool {
        while !self.accepted.is_empty() {
            self.adopt_accepted(0);
        }
        for (index, _) in self.open_listeners() {
            if self.model.sockets[index].receives.is_empty() {
                let socket = self.model.sockets[index].id;
                self.submit_plain(Kind::Accept, index, Operation::Accept { socket });
            }
        }
        for index in 0..self.model.sockets.len() {
            self.nurse_socket(index, is_ending);
        }
        let links: Vec<usize> = self.peers.keys().copied().collect();
        links.into_iter().filter(|link| self.peer_read_some(*link, 65_536)).count() > 0
    }

    fn nurse_socket(&mut self, index: usize, is_ending: bool) {
        let sock = &mut self.model.sockets[index];
        let (Some((link, side)), None) = (sock.place, sock.closing) else { return };
        let socket = sock.id;
        if sock.is_paused {
            self.rig.driver.resume(socket).unwrap();
            sock.is_paused = false;
        }
        let (is_idle, is_open) = (sock.receives.is_empty(), sock.write != WriteSide::Shut);
        let link = &self.model.links[link];
        if is_idle && !link.is_broken && !link.pipes[1 - side].is_ended {
            self.submit_plain(Kind::Receive, index, Operation::Receive { socket });
        }
        let is_shutting =
            self.model.sockets[index].sends.iter().any(|token| self.model.ops[token].kind == Kind::ShutdownWrite);
        if is_ending && is_open && !is_shutting {
            self.submit_plain(Kind::ShutdownWrite, index, Operation::ShutdownWrite { socket });
        }
    }

    fn submit_plain(&mut self, kind: Kind, index: usize, operation: Operation) {
        let token = self.token();
        self.submit(token, Op::new(kind, Some(index)), operation);
    }

    fn close(&mut self, index: usize) {
        let (sock, mode) = (&self.model.sockets[index], CloseMode::Graceful { deadline: LONG });
        if sock.closing.is_none() {
            let socket = sock.id;
            self.submit_plain(Kind::Close(mode), index, Operation::Close { socket, mode });
        }
    }

    /// What has not happened although nothing stands in its way.
    fn unsettled(&self) -> Option<String> {
        let model = &self.model;
        if !model.mail.is_empty() {
            return Some("the mailbox was not emptied".to_owned());
        }
        let must_end = |op: &Op| match op.kind {
            Kind::Send { is_quiet } => !is_quiet,
            Kind::ShutdownWrite | Kind::Connect { .. } | Kind::Timer => true,
            _ => op.is_cancelled,
        };
        if let Some((token, op)) = model.ops.iter().find(|(_, op)| must_end(op)) {
            return Some(format!("the end of {token}, {op:?}"));
        }
        let owed = |sock: &&Sock| sock.closing.is_none() && !sock.owed.is_empty();
        if let Some(sock) = model.sockets.iter().find(owed) {
            return Some(format!("Writable of {:?} for {:?}", sock.id, sock.owed));
        }
        self.whole_links().find_map(|link| {
            if link.ends.contains(&End::Pending) {
                return Some(format!("the accept of a connection from {:?}", link.origin));
            }
            link.pipes.iter().find_map(|pipe| pipe.missing())
        })
    }

    /// Who has not seen the end of the other side.
    fn unended(&self) -> Option<String> {
        let unended = |link: &Link| link.pipes.iter().any(|pipe| !pipe.is_ended && !pipe.is_discarded);
        let link = self.whole_links().find(|link| unended(link));
        self.unsettled().or_else(|| link.map(|link| format!("the end between {:?}", link.ends)))
    }

    fn unclosed(&self) -> Option<String> {
        let open = self.model.sockets.iter().find(|sock| !sock.is_closed);
        open.map(|sock| format!("Closed of {:?}", sock.id))
    }

    fn whole_links(&self) -> impl Iterator<Item = &Link> {
        self.model.links.iter().filter(|link| !link.is_broken)
    }
}

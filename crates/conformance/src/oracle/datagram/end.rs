//! End of a plan: in grace, where everything that must arrive has to arrive, or in the middle of it.

//= ONCE-1, CLOSE-1, CLOSE-2, LIMIT-1, STARVE-1, DROP-1

use std::time::{Duration, Instant};

use raon_provider::{CloseMode, Driver, ErrorKind};

use super::play::Player;
use crate::oracle::end::{STILL, STILL_POLLS};
use crate::rig::refusal;

const LONG: Duration = Duration::from_secs(60);

impl Player {
    /// Lets everything happen that is under way, and demands that it has; then closes all sockets.
    pub(super) fn drain(&mut self) {
        self.set_capacity(64);
        self.keeps = false;
        self.release();
        self.until(|player| player.model.unsettled());
        for index in 0..self.model.ports.len() {
            if self.model.ports[index].closing.is_none() {
                self.close(index, CloseMode::Graceful { deadline: LONG });
            }
        }
        self.until(Player::unclosed);
        for _ in 0..3 {
            self.poll(Duration::from_millis(1));
        }
        assert!(self.model.ops.is_empty(), "never ended: {:?}", self.model.ops.keys());
    }

    /// Shuts the driver down in the middle of it: everything ends, and is told.
    //= DROP-1
    pub(super) fn shut_down(&mut self) {
        self.model.turn(self.rig.driver.now_ns());
        self.model.shut();
        self.rig.shut_down();
        self.take_seen();
        assert!(self.model.ops.is_empty(), "never ended: {:?}", self.model.ops.keys());
        assert_eq!(self.unclosed(), None);
        assert_eq!(refusal(self.rig.driver.bind(([127, 0, 0, 1], 0), &Default::default())), ErrorKind::Closed);
        self.release();
    }

    /// Drops it in the middle of it: what was lent stays as it is, and nobody hears anything.
    pub(super) fn drop_driver(&mut self) {
        let mut config = self.setup.config();
        self.shape.apply(&mut config);
        self.rig.replace(Driver::open(&config).unwrap());
        self.release();
    }

    /// Polls and receives until nothing is missing; fails when nothing moves any more.
    fn until(&mut self, missing: fn(&Player) -> Option<String>) {
        let (mut since, mut polls) = (Instant::now(), 0);
        loop {
            self.nurse();
            let has_moved = self.poll(Duration::from_micros(if polls < 3 { 0 } else { 500 })) > 0;
            let Some(what) = missing(self) else { return };
            polls += 1;
            if has_moved {
                (since, polls) = (Instant::now(), 0);
            }
            let is_still = polls > STILL_POLLS && since.elapsed() > STILL;
            assert!(!is_still, "lost in silence: {what}");
        }
    }

    /// Every open socket receives.
    fn nurse(&mut self) {
        for index in 0..self.model.ports.len() {
            let port = &mut self.model.ports[index];
            if port.closing.is_some() {
                continue;
            }
            if port.is_paused {
                self.rig.driver.resume(port.id).unwrap();
                port.is_paused = false;
            }
            if port.stream.is_none() {
                self.start_stream(index);
            }
        }
    }

    fn unclosed(&self) -> Option<String> {
        let open = self.model.ports.iter().find(|port| !port.is_closed);
        open.map(|port| format!("Closed of {:?}", port.id))
    }
}

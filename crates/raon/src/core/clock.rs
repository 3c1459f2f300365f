//! The application's timers and its tick.

use raon_provider::{Driver, Error};
use std::time::Duration;

use crate::base::id::Token;
use crate::error::MailboxRefusal;

/// Timers that were set and have not fired.
pub(crate) struct Clock {
    /// Tokens of the application, by place.
    timers: Vec<u64>,
    free: Vec<u32>,
    timers_max: usize,
    tick: Option<Duration>,
    next_tick_ns: u64,
}

impl Clock {
    pub(crate) fn new(timers_max: usize, tick: Option<Duration>) -> Self {
        Clock { timers: Vec::new(), free: Vec::new(), timers_max, tick, next_tick_ns: 0 }
    }

    /// Sets a timer. Errors: `Busy` at `timers_max`.
    pub(crate) fn set(&mut self, driver: &mut Driver, after: Duration, token: u64) -> Result<(), MailboxRefusal> {
        if self.free.is_empty() && self.timers.len() >= self.timers_max {
            return Err(MailboxRefusal::Busy);
        }
        let place = self.free.pop().unwrap_or(self.timers.len() as u32);
        if let Err(_refused) = driver.timer(after, Token::Timer(place).bits()) {
            // A place that was never used is not there yet.
            if (place as usize) < self.timers.len() {
                self.free.push(place);
            }
            return Err(MailboxRefusal::Busy);
        }
        match self.timers.get_mut(place as usize) {
            Some(own) => *own = token,
            None => self.timers.push(token),
        }
        Ok(())
    }

    /// A timer has fired, or was taken back: the application's token. Its place is free.
    pub(crate) fn ended(&mut self, place: u32) -> Option<u64> {
        let token = self.timers.get(place as usize).copied()?;
        self.free.push(place);
        Some(token)
    }

    /// The first tick. Errors: those of the driver's timer.
    pub(crate) fn start(&mut self, driver: &mut Driver) -> Result<(), Error> {
        self.next_tick_ns = driver.now_ns();
        self.set_tick(driver)
    }

    /// The next tick, on the grid of the first one; those that were missed are left out. Errors: as `start`.
    pub(crate) fn set_tick(&mut self, driver: &mut Driver) -> Result<(), Error> {
        let Some(tick) = self.tick else { return Ok(()) };
        let (now_ns, tick_ns) = (driver.now_ns(), tick.as_nanos() as u64);
        let behind = now_ns.saturating_sub(self.next_tick_ns) / tick_ns;
        self.next_tick_ns = self.next_tick_ns.saturating_add(behind.saturating_add(1).saturating_mul(tick_ns));
        let wait_ns = self.next_tick_ns.saturating_sub(now_ns);
        driver.timer(Duration::from_nanos(wait_ns), Token::Tick.bits()).map(drop)
    }
}

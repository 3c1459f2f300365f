//! Number of receive buffers that the kernel has.

use super::Uring;
use super::entries::{self, Tag};
use crate::base::slots::Key;
use crate::memory::buffer::{BufferPool, Section};

/// How many buffers of a section the kernel has at a time. It uses them in turn, first in first out: the more it has, the
/// colder each is when its turn comes. So it gets four times what a turn has used, from the pool's hot end.
pub(super) struct Level {
    wanted: u32,
    maximum: u32,
    pub(super) with_kernel: u32,
    /// Since the last refill.
    pub(super) used: u32,
    pub(super) has_run_out: bool,
}

/// 1 MiB each with the default sizes: what an L2 cache holds.
pub(super) const LEVEL_MIN: u32 = 256;
pub(super) const LEVEL_MIN_BULK: u32 = 16;

impl Level {
    pub(super) fn new(minimum: u32, maximum: u32) -> Self {
        Level { wanted: minimum.min(maximum), maximum, with_kernel: 0, used: 0, has_run_out: false }
    }

    /// Grows at once when a turn used more than a quarter, or found nothing. What it has needed once it keeps.
    fn adapt(&mut self) {
        let is_low = self.used.saturating_mul(4) > self.wanted || self.has_run_out;
        if is_low {
            self.wanted = (self.wanted * 2).max(self.used * 4).min(self.maximum);
        }
        (self.used, self.has_run_out) = (0, false);
    }
}

impl Uring {
    /// Gives the kernel receive buffers up to the section's level: through the ring, or by a request each where there is
    /// none.
    pub(super) fn refill(&mut self, pool: &mut BufferPool) {
        for section in [Section::Receive, Section::Bulk] {
            let level = &mut self.levels[section as usize];
            level.adapt();
            let missing = level.wanted.saturating_sub(level.with_kernel).min(pool.free(section) as u32);
            level.with_kernel += missing;
            if missing == 0 {
                continue;
            }
            for _ in 0..missing {
                let Some((number, span)) = pool.give_kernel(section) else { break };
                if self.features.buffer_ring {
                    self.ring.provide_buffer(section as u16, number as u16, span);
                } else {
                    let data = entries::user_data(Tag::Provide, Key::new(number, section as u32));
                    if !self.push_entry(entries::provide(section as u16, number as u16, span).user_data(data)) {
                        pool.take_unused(section, number);
                        self.levels[section as usize].with_kernel -= 1;
                    }
                }
            }
            if self.features.buffer_ring {
                self.ring.publish_buffers(section as u16);
            }
        }
    }
}

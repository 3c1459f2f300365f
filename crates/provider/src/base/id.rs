//! Ids that are checked wherever they are used: driver + index + generation in 64 bits.

use std::fmt;
use std::sync::Mutex;

use crate::base::slots::Key;

const DRIVER_BITS: u32 = 12;
const DRIVER_SHIFT: u32 = 64 - DRIVER_BITS;
/// Driver numbers run from 1 to this, so that no id is ever 0.
pub(crate) const DRIVERS_MAX: u16 = (1 << DRIVER_BITS) - 1;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u64);

        impl $name {
            /// No socket, no operation: the id that is always stale.
            pub const NONE: $name = $name(0);

            pub(crate) fn new(driver: u16, key: Key) -> Self {
                $name(u64::from(driver) << DRIVER_SHIFT | key.bits())
            }

            pub(crate) fn driver(self) -> u16 {
                (self.0 >> DRIVER_SHIFT) as u16
            }

            pub(crate) fn key(self) -> Key {
                Key::from_bits(self.0 & ((1 << DRIVER_SHIFT) - 1))
            }

            /// The id as a number, for logs and foreign code.
            pub fn to_bits(self) -> u64 {
                self.0
            }

            /// The id that [`to_bits`](Self::to_bits) gave. Any other number is a stale id, never a wrong one.
            pub fn from_bits(bits: u64) -> Self {
                $name(bits)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}.{}.{}", $prefix, self.driver(), self.key().index(), self.key().generation())
            }
        }
    };
}

id!(
    /// One socket of one driver. It never moves to another driver, and after the socket's close it is stale for good.
    SocketId, "socket-"
);
id!(
    /// One accepted operation of one driver; stale once its last completion has been delivered.
    OperationId, "operation-"
);

struct Numbers {
    taken: Vec<bool>,
    next: u16,
    opened: u32,
}

static NUMBERS: Mutex<Numbers> = Mutex::new(Numbers { taken: Vec::new(), next: 1, opened: 0 });

/// The number of a live driver in this process, free again on drop.
#[derive(Debug)]
pub(crate) struct DriverNumber {
    pub(crate) number: u16,
    /// Where this driver's generations start: differs between drivers that have the same number one after the other.
    pub(crate) first_generation: u32,
}

impl DriverNumber {
    /// The next free number, or `None` when 4,095 drivers are open in this process.
    pub(crate) fn take() -> Option<Self> {
        let mut numbers = NUMBERS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        numbers.taken.resize(usize::from(DRIVERS_MAX) + 1, false);
        for _ in 0..DRIVERS_MAX {
            let number = numbers.next;
            numbers.next = if number == DRIVERS_MAX { 1 } else { number + 1 };
            if !numbers.taken[usize::from(number)] {
                numbers.taken[usize::from(number)] = true;
                let round = numbers.opened / u32::from(DRIVERS_MAX);
                numbers.opened = numbers.opened.wrapping_add(1);
                return Some(DriverNumber { number, first_generation: 1 + (round % 1024) * 1_000_003 });
            }
        }
        None
    }
}

impl Drop for DriverNumber {
    fn drop(&mut self) {
        let mut numbers = NUMBERS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        numbers.taken[usize::from(self.number)] = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_carries_its_three_parts() {
        let id = SocketId::new(DRIVERS_MAX, Key::new((1 << 20) - 1, u32::MAX));
        assert_eq!((id.driver(), id.key().index(), id.key().generation()), (DRIVERS_MAX, (1 << 20) - 1, u32::MAX));
        assert_eq!(SocketId::from_bits(id.to_bits()), id);
    }

    #[test]
    fn live_drivers_have_different_numbers() {
        let (first, second) = (DriverNumber::take().unwrap(), DriverNumber::take().unwrap());
        assert_ne!(first.number, second.number);
        assert_ne!(first.number, 0);
    }
}

//! Memory that is taken when a driver is opened. It may not be there: then the error names the setting that asked for it.
//!
//! What is small is taken as usual. So that this does not fail in its turn, which would end the process, each large piece is
//! had only if some memory is left beside it.

use std::collections::VecDeque;
use std::hint::black_box;

use crate::base::error::Error;
use crate::base::setting::Setting;
use crate::base::slots::Slots;

/// Memory that must be left beside a large piece: several times as much as a driver takes in small ones.
const HEADROOM_BYTES: usize = 1 << 20;

/// An empty vector with room for `count`. Errors: `OutOfMemory`.
pub(crate) fn vector<T>(count: usize, setting: Setting) -> Result<Vec<T>, Error> {
    let mut vector = Vec::new();
    vector.try_reserve_exact(count).map_err(|_| refused(bytes_of::<T>(count), setting))?;
    leave_headroom(bytes_of::<T>(count), setting)?;
    Ok(vector)
}

/// An empty queue with room for `count`. Errors: `OutOfMemory`.
pub(crate) fn queue<T>(count: usize, setting: Setting) -> Result<VecDeque<T>, Error> {
    // A queue of a vector's memory keeps that memory.
    Ok(VecDeque::from(vector(count, setting)?))
}

/// A slice of `count` values. Errors: `OutOfMemory`.
pub(crate) fn slice<T>(count: u32, setting: Setting, make: impl FnMut(u32) -> T) -> Result<Box<[T]>, Error> {
    let mut values = vector(count as usize, setting)?;
    values.extend((0..count).map(make));
    Ok(values.into_boxed_slice())
}

/// A table for `occupants`, with its memory. Errors: `OutOfMemory`.
pub(crate) fn table<T>(occupants: usize, first_generation: u32, setting: Setting) -> Result<Slots<T>, Error> {
    let mut table = Slots::new(occupants, first_generation);
    table.reserve().map_err(|_| refused(table.bytes(), setting))?;
    leave_headroom(table.bytes(), setting)?;
    Ok(table)
}

/// Whether so much memory can be had, for those who take it by a way that cannot fail: it is taken and given back.
/// Errors: `OutOfMemory`.
pub(crate) fn check(bytes: usize, setting: Setting) -> Result<(), Error> {
    if can_be_had(bytes.saturating_add(HEADROOM_BYTES)) { Ok(()) } else { Err(refused(bytes, setting)) }
}

/// As [`check`], after so many bytes were taken.
pub(crate) fn leave_headroom(bytes: usize, setting: Setting) -> Result<(), Error> {
    let is_small = bytes < HEADROOM_BYTES / 16;
    if is_small || can_be_had(HEADROOM_BYTES) { Ok(()) } else { Err(refused(bytes, setting)) }
}

pub(crate) fn refused(bytes: usize, setting: Setting) -> Error {
    Error::out_of_memory(setting, bytes as u64)
}

pub(crate) fn bytes_of<T>(count: usize) -> usize {
    count.saturating_mul(size_of::<T>())
}

fn can_be_had(bytes: usize) -> bool {
    let mut trial = Vec::<u8>::new();
    let is_there = trial.try_reserve_exact(bytes).is_ok();
    // An allocation that nobody looks at may be left out by the compiler.
    black_box(&trial);
    is_there
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::ErrorKind;

    #[test]
    fn what_cannot_be_had_is_an_error_with_a_name() {
        let error = vector::<u64>(usize::MAX / 16, Setting::SocketsMax).unwrap_err();
        assert_eq!((error.kind(), error.setting()), (ErrorKind::OutOfMemory, Some(Setting::SocketsMax)));
        assert!(error.to_string().contains("sockets_max"), "{error}");
        assert!(
            vector::<u64>(usize::MAX, Setting::SocketsMax).is_err() && check(usize::MAX, Setting::SocketsMax).is_err()
        );
        assert!(queue::<u64>(usize::MAX / 16, Setting::SocketsMax).is_err());
    }

    #[test]
    fn what_can_be_had_is_there() {
        assert!(vector::<u64>(1000, Setting::SocketsMax).unwrap().capacity() >= 1000);
        assert!(queue::<u64>(1000, Setting::SocketsMax).unwrap().capacity() >= 1000);
        assert_eq!(*slice(3, Setting::SocketsMax, |place| place).unwrap(), [0, 1, 2]);
        assert_eq!(check(1 << 20, Setting::SocketsMax), Ok(()));
    }
}

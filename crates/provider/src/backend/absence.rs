//! Reasons why a feature of Linux cannot be used: what the errno of its trial says. A trial that was interrupted says nothing
//! and is repeated, see [`uninterrupted`].

use std::io;

use crate::base::error::ErrorKind;

/// The kernel has no such feature.
pub(crate) const LACKING: &str = "this kernel lacks it";

/// What a trial has shown: the feature works, or why it does not.
pub(crate) type Trial = Result<(), &'static str>;

/// The outcome of a trial that was done to its end.
pub(crate) fn trial(works: io::Result<bool>) -> Trial {
    match works {
        Ok(true) => Ok(()),
        Ok(false) => Err(LACKING),
        Err(error) => Err(reason(error.raw_os_error().unwrap_or(0))),
    }
}

/// What an errno of a trial means, see errno(3).
pub(crate) fn reason(code: i32) -> &'static str {
    match code {
        libc::ENOSYS | libc::EINVAL | libc::EOPNOTSUPP | libc::ENOPROTOOPT | libc::EBADR => LACKING,
        libc::EPERM | libc::EACCES => "a seccomp filter or security policy forbids it",
        libc::ENOMEM | libc::ENOBUFS => "the kernel had no memory for its trial",
        libc::EMFILE | libc::ENFILE => "no descriptor was left for its trial",
        _ => "its trial failed",
    }
}

/// Repeats a call until no interruption ends it. Setting up and closing rings interrupts calls without any signal.
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// What stands around a process that is refused a ring.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Surroundings {
    /// kernel.io_uring_disabled is not 0.
    pub(crate) is_disabled: bool,
    /// A seccomp filter looks at this thread's calls.
    pub(crate) is_filtered: bool,
    /// The memory of rings counts against a limit of locked memory that holds for this process.
    pub(crate) locks_memory: bool,
}

/// Why the kernel refuses a ring; `None`: the errno says enough.
pub(crate) fn ring_refusal(code: i32, around: Surroundings) -> Option<ErrorKind> {
    match code {
        libc::EPERM if around.is_disabled => Some(ErrorKind::DisabledBySysctl),
        libc::EPERM | libc::EACCES => Some(ErrorKind::BlockedBySeccomp),
        libc::ENOSYS if around.is_filtered => Some(ErrorKind::BlockedBySeccomp),
        libc::ENOSYS | libc::EINVAL => Some(ErrorKind::KernelTooOld),
        libc::ENOMEM if around.locks_memory => Some(ErrorKind::LockedMemoryLimit),
        _ => None,
    }
}

/// True if the memory of rings is locked memory on a kernel of that release (before 5.12; later it counts as the process's
/// own), the process has a limit of it, and not CAP_IPC_LOCK, which lifts the limit.
pub(crate) fn locks_memory(release: &str, limit_bytes: Option<u64>, effective_capabilities: u64) -> bool {
    const CAP_IPC_LOCK: u32 = 14;
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    let is_old = numbers.next().zip(numbers.next()).is_some_and(|version| version < (5, 12));
    is_old && limit_bytes.is_some() && effective_capabilities >> CAP_IPC_LOCK & 1 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORBIDDEN: &str = "a seccomp filter or security policy forbids it";
    const NO_MEMORY: &str = "the kernel had no memory for its trial";

    #[test]
    fn each_errno_of_a_trial_has_its_reason() {
        let table = [
            (libc::ENOSYS, LACKING),
            (libc::EINVAL, LACKING),
            (libc::EOPNOTSUPP, LACKING),
            (libc::ENOPROTOOPT, LACKING),
            (libc::EPERM, FORBIDDEN),
            (libc::EACCES, FORBIDDEN),
            (libc::ENOMEM, NO_MEMORY),
            (libc::ENOBUFS, NO_MEMORY),
            (libc::EMFILE, "no descriptor was left for its trial"),
            (libc::EIO, "its trial failed"),
        ];
        for (code, expected) in table {
            assert_eq!(trial(Err(io::Error::from_raw_os_error(code))), Err(expected), "{code}");
        }
        assert_eq!((trial(Ok(true)), trial(Ok(false))), (Ok(()), Err(LACKING)));
    }

    #[test]
    fn an_interruption_says_nothing() {
        let mut codes = [libc::EINTR, libc::EINTR, 0, libc::EPERM].into_iter();
        let mut call = || match codes.next() {
            Some(0) => Ok(7),
            Some(code) => Err(io::Error::from_raw_os_error(code)),
            None => panic!("nobody asks again"),
        };
        assert_eq!(uninterrupted(&mut call).unwrap(), 7);
        assert_eq!(uninterrupted(&mut call).unwrap_err().raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn each_refusal_of_a_ring_has_its_cause() {
        use ErrorKind::{BlockedBySeccomp, DisabledBySysctl, KernelTooOld, LockedMemoryLimit};
        let none = Surroundings::default();
        let disabled = Surroundings { is_disabled: true, ..none };
        let filtered = Surroundings { is_filtered: true, ..none };
        let locked = Surroundings { locks_memory: true, ..none };
        let table = [
            (libc::EPERM, none, Some(BlockedBySeccomp)),
            (libc::EPERM, disabled, Some(DisabledBySysctl)),
            (libc::EPERM, locked, Some(BlockedBySeccomp)),
            (libc::EACCES, disabled, Some(BlockedBySeccomp)),
            (libc::ENOSYS, none, Some(KernelTooOld)),
            (libc::ENOSYS, filtered, Some(BlockedBySeccomp)),
            (libc::EINVAL, filtered, Some(KernelTooOld)),
            (libc::ENOMEM, none, None),
            (libc::ENOMEM, filtered, None),
            (libc::ENOMEM, locked, Some(LockedMemoryLimit)),
            (libc::EMFILE, locked, None),
            (libc::EINTR, filtered, None),
        ];
        for (code, around, expected) in table {
            assert_eq!(ring_refusal(code, around), expected, "{code} {around:?}");
        }
    }

    #[test]
    fn the_limit_of_locked_memory_is_named_where_it_counts() {
        const IPC_LOCK: u64 = 1 << 14;
        let limit = Some(65_536);
        let table = [
            ("5.10.223", limit, 0, true),
            ("5.11.0-49-generic", limit, !IPC_LOCK, true),
            ("5.10.223", limit, IPC_LOCK, false),
            ("5.10.223", None, 0, false),
            ("5.12.0", limit, 0, false),
            ("6.1.176", limit, 0, false),
            ("10.0", limit, 0, false),
            ("", limit, 0, false),
        ];
        for (release, limit_bytes, capabilities, expected) in table {
            assert_eq!(locks_memory(release, limit_bytes, capabilities), expected, "{release} {limit_bytes:?}");
        }
    }
}

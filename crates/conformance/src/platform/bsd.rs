//! Facts about macOS and FreeBSD.

use std::collections::BTreeMap;
use std::time::Duration;

use raon_provider::Address;

use super::Skipped;

/// How the kernel's name begins.
pub fn kernel() -> &'static str {
    if std::env::consts::OS == "freebsd" { "FreeBSD " } else { "Darwin " }
}

/// What is about Linux.
pub const SKIPPED: &[Skipped] = &[
    ("roles::a_seccomp_filter_with_eperm", "io_uring and its filters are Linux's"),
    ("roles::a_seccomp_filter_with_enosys", "io_uring and its filters are Linux's"),
    ("roles::a_seccomp_filter_of_one_thread", "io_uring and its filters are Linux's"),
    ("roles::a_seccomp_filter_after_the_start", "io_uring and its filters are Linux's"),
    ("roles::epoll_waits_in_milliseconds_if_it_must", "epoll and its filters are Linux's"),
    ("roles::io_uring_disabled_by_sysctl", "io_uring and its switch are Linux's"),
    ("choice::what_is_named_is_never_replaced", "filters a back end away that is Linux's"),
    ("settings::without_memory_a_driver_is_refused_by_name", "the system has no limit that a process sets for itself"),
];

/// What the system's own sockets do not do.
pub const SKIPPED_REAL: &[Skipped] = &[
    ("storm::a_connect_without_an_answer_times_out", "there is no TCP_USER_TIMEOUT; the kernel's own takes 75 s"),
    ("unix::both_ends_have_addresses", "peers get no names by themselves, which is Linux's autobind"),
];

/// How long a peer may acknowledge nothing: that cannot be set.
pub const USER_TIMEOUT: Option<Duration> = None;

/// Another address of this host: none answers without being set up.
pub const SECOND_HOST: [u8; 4] = [127, 0, 0, 1];

/// A host of loopback of one's own: there is one for all.
pub fn own_host(_process: u32, _place: u8) -> [u8; 4] {
    [127, 0, 0, 1]
}

/// A local name that nobody else has.
pub fn local_name(number: u32) -> Address {
    std::env::temp_dir().join(format!("raon-{}-{number}", std::process::id())).into()
}

/// A name at which a listener can be, in a form that looks strange.
pub fn strange_name() -> Address {
    std::env::temp_dir().join(format!("raon {} \u{3bb}", std::process::id())).into()
}

/// All descriptors of this process; what they are is not told.
pub fn descriptors() -> BTreeMap<u32, String> {
    let entries = std::fs::read_dir("/dev/fd").expect("fdescfs is mounted");
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.map(|number| (number, String::new())).collect()
}

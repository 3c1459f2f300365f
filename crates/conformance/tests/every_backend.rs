//! Every test on every back end in every form. A new back end is one more line in `suites!`.

use raon_conformance::{alone, child, every_choice, every_storm, every_test, platform, setup};

macro_rules! cases {
    ($setup:expr; $($group:ident: $($test:ident)*;)*) => {
        $(mod $group {
            $(#[test] fn $test() {
                let name = concat!(stringify!($group), "::", stringify!($test));
                super::alone::run(&$setup, name, raon_conformance::$group::$test);
            })*
        })*
    };
    ($($group:ident: $($test:ident)*;)*) => {
        $(mod $group {
            $(#[test] fn $test() {
                let name = concat!(stringify!($group), "::", stringify!($test));
                super::alone::run_choice(name, raon_conformance::$group::$test);
            })*
        })*
    };
}

macro_rules! suites {
    ($($name:ident: $setup:ident $(, $storms:ident)?;)*) => {
        $(mod $name {
            use super::{alone, every_test, setup};
            every_test!(cases, super::setup::$setup);
            $(use super::$storms; $storms!(cases, super::setup::$setup);)?
        })*
    };
}

// Storms take seconds each, and what they storm, the driver and the ring's set-up, is the same when a feature is switched
// off: they run on each mechanism and rung only.
#[cfg(target_os = "linux")]
suites! {
    epoll: EPOLL, every_storm;
    epoll_one_by_one: EPOLL_ONE_BY_ONE;
    io_uring_defer: URING_DEFER, every_storm;
    io_uring_coop: URING_COOP, every_storm;
    io_uring_plain: URING_PLAIN, every_storm;
    io_uring_single_shot: URING_SINGLE_SHOT;
    io_uring_no_buffer_ring: URING_NO_BUFFER_RING;
    io_uring_no_skip: URING_NO_SKIP;
    io_uring_zero_copy: URING_ZERO_COPY;
    io_uring_bare: URING_BARE;
    epoll_unix: EPOLL_UNIX, every_storm;
    io_uring_defer_unix: URING_DEFER_UNIX, every_storm;
    io_uring_coop_unix: URING_COOP_UNIX;
    io_uring_plain_unix: URING_PLAIN_UNIX;
    io_uring_zero_copy_unix: URING_ZERO_COPY_UNIX;
    io_uring_bare_unix: URING_BARE_UNIX;
}

#[cfg(any(target_vendor = "apple", target_os = "freebsd", raon_kqueue_shim))]
suites! {
    kqueue: KQUEUE, every_storm;
    kqueue_unix: KQUEUE_UNIX;
}

#[cfg(windows)]
suites! {
    iocp: IOCP, every_storm;
    iocp_bare: IOCP_BARE;
    rio: RIO, every_storm;
}

suites! {
    sim: SIM, every_storm;
    sim_rough: SIM_ROUGH, every_storm;
    sim_unix: SIM_UNIX;
    sim_rough_unix: SIM_ROUGH_UNIX;
}

every_choice!(cases);

macro_rules! names {
    ($setup:expr; $($rest:tt)*) => { names! { $($rest)* } };
    ($($group:ident: $($test:ident)*;)*) => {
        [$($(concat!(stringify!($group), "::", stringify!($test)),)*)*]
    };
}

/// A test that is written and not listed would never run.
#[test]
fn every_test_is_listed() {
    let listed = [&every_test!(names, 0)[..], &every_storm!(names, 0), &every_choice!(names)].concat();
    let sources = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap();
    for path in sources.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        let group = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if group == "oracle" || group == "platform" {
            continue; // tests/oracle.rs sees to the one, and the other has none
        }
        let tail = if group == "roles" { "()" } else { "(setup: &Setup)" };
        let source = std::fs::read_to_string(&path).unwrap();
        let written =
            source.lines().filter_map(|line| line.strip_prefix("pub fn ")?.strip_suffix(" {")?.strip_suffix(tail));
        for test in written.map(|name| format!("{group}::{name}")) {
            assert!(listed.contains(&test.as_str()), "{test} is in no list of src/lib.rs");
        }
    }
}

/// A set-up that no suite is about would be left out in silence.
#[test]
fn every_set_up_has_its_suite() {
    let source = include_str!("every_backend.rs");
    for setup in platform::ALL {
        assert!(source.contains(&format!("\n    {}: ", setup.name)), "{} is in no list of this file", setup.name);
    }
}

/// What is left out is written down for a test that there is.
#[test]
fn every_reason_is_about_a_test() {
    let listed = [&every_test!(names, 0)[..], &every_storm!(names, 0), &every_choice!(names)].concat();
    for (test, reason) in platform::SKIPPED.iter().chain(platform::SKIPPED_REAL) {
        assert!(listed.contains(test) && !reason.is_empty(), "{test} is no test");
    }
}

/// A role in a process of its own, see `child`; in this process it has none.
#[test]
fn child_process() {
    child::enter(raon_conformance::roles::play);
}

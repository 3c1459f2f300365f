//! The choice of a back end where something stands in its way: seccomp filters, the sysctl, the environment.

//= FALL-1

use std::collections::BTreeMap;
use std::io::ErrorKind as IoErrorKind;

use raon_provider::{AnyProvider, Backend, Config, Driver, ErrorKind, Feature, Kind};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use crate::child::{self, BACKEND};
use crate::rig::{Rig, refusal};
use crate::setup::{EPOLL, Setup};
use crate::simulated;

const EPERM: i32 = 1;
const ENOSYS: i32 = 38;
/// io_uring_setup, io_uring_enter, io_uring_register: the same numbers on every architecture.
const CALLS: [i64; 3] = [425, 426, 427];
const SYSCTL: &str = "/proc/sys/kernel/io_uring_disabled";

pub fn a_seccomp_filter_with_eperm() {
    child::run("seccomp", "all EPERM", &[]);
    child::run("seccomp named by the environment", "all EPERM", &[(BACKEND, "io_uring")]);
}

pub fn a_seccomp_filter_with_enosys() {
    child::run("seccomp", "all ENOSYS", &[]);
}

pub fn a_seccomp_filter_of_one_thread() {
    child::run("seccomp", "one EPERM", &[]);
    child::run("seccomp", "one ENOSYS", &[]);
}

/// The switch is the whole system's: it is off for as short as can be, and put back whatever happens.
pub fn io_uring_disabled_by_sysctl() {
    struct Restore(String);
    impl Drop for Restore {
        fn drop(&mut self) {
            std::fs::write(SYSCTL, &self.0).expect("what could be changed can be changed back");
        }
    }
    let Ok(before) = std::fs::read_to_string(SYSCTL) else {
        return println!("not tested: this kernel has no kernel.io_uring_disabled");
    };
    let restore = Restore(before.trim().to_owned());
    match std::fs::write(SYSCTL, "2") {
        Ok(()) => child::run("sysctl", "", &[]),
        Err(error) => {
            std::mem::forget(restore);
            println!("not tested: kernel.io_uring_disabled cannot be set here: {error}");
            assert!(matches!(error.kind(), IoErrorKind::PermissionDenied | IoErrorKind::ReadOnlyFilesystem));
        }
    }
}

pub fn the_environment_replaces_auto_only() {
    for name in ["epoll", "io_uring", "EPOLL", "auto", "", "kqueue"] {
        child::run("environment", name, &[(BACKEND, name)]);
    }
}

pub fn available_tells_the_truth() {
    child::run("available", "", &[]);
}

/// What a child does.
pub fn play(role: &str, argument: &str) {
    match role {
        "descriptors" => crate::accept::run_out_of_descriptors(alone(argument)),
        "leak" => crate::lifetime::leak(alone(argument)),
        "seccomp" => seccomp(argument),
        "seccomp named by the environment" => {
            forbid(argument);
            let opened = Driver::<AnyProvider>::open(&Config::default());
            assert_eq!(refusal(opened), ErrorKind::BlockedBySeccomp, "what is named is never replaced in silence");
        }
        "sysctl" => assert_passed_over(ErrorKind::DisabledBySysctl, EPERM),
        "environment" => environment(argument),
        "available" => available(),
        other => panic!("no role {other}"),
    }
}

fn alone(name: &str) -> Setup {
    let setup = Setup::by_name(name);
    simulated::enter(setup.network);
    setup
}

fn seccomp(argument: &str) {
    let code = forbid(argument);
    assert_passed_over(ErrorKind::BlockedBySeccomp, code);
}

/// Filters io_uring away, for this thread or all threads, with an error.
pub(crate) fn forbid(argument: &str) -> i32 {
    let (threads, error) = argument.split_once(' ').expect("threads and error");
    let code = if error == "EPERM" { EPERM } else { ENOSYS };
    let rules: BTreeMap<i64, Vec<_>> = CALLS.map(|call| (call, Vec::new())).into();
    let architecture = std::env::consts::ARCH.try_into().expect("an architecture that has filters");
    let action = SeccompAction::Errno(code as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, architecture).expect("a valid filter");
    let program: BpfProgram = filter.try_into().expect("a valid program");
    match threads {
        "all" => seccompiler::apply_filter_all_threads(&program),
        _ => seccompiler::apply_filter(&program),
    }
    .expect("a process may filter itself");
    code
}

/// `auto` runs on epoll and says why; io_uring by name fails with the reason; epoll by name is as ever.
fn assert_passed_over(kind: ErrorKind, os_code: i32) {
    let driver = Driver::<AnyProvider>::open(&Config::default()).expect("auto finds epoll");
    let info = driver.info();
    assert_eq!(info.kind, Kind::Epoll);
    let [(passed_over, error)] = info.passed_over[..] else { panic!("{:?}", info.passed_over) };
    assert_eq!((passed_over, error.kind(), error.os_code()), (Kind::IoUring, kind, os_code), "{error}");
    assert_eq!(error.feature(), Some(Feature::Ring));
    assert_echoes(Rig::of(EPOLL, driver, 64));

    let error = Driver::<AnyProvider>::open(&Config::named(Kind::IoUring)).err().expect("no silent fallback");
    assert_eq!((error.kind(), error.os_code()), (kind, os_code));
    let word = if kind == ErrorKind::DisabledBySysctl { "kernel.io_uring_disabled" } else { "seccomp" };
    assert!(error.to_string().contains(word), "cause and remedy are named: {error}");

    assert_eq!(Kind::best().unwrap(), Kind::Epoll);
    let available = Kind::available();
    assert_eq!(available[0].error.map(|error| error.kind()), Some(kind));
    let named = Driver::<AnyProvider>::open(&Config::named(Kind::Epoll)).unwrap();
    assert!(named.info().passed_over.is_empty());
}

fn assert_echoes(mut rig: Rig) {
    let (near, far) = rig.pair();
    rig.receive(far, 1);
    rig.send(near, b"raon".as_slice(), 2);
    assert_eq!(rig.wait_bytes(1, 4), b"raon");
}

fn environment(name: &str) {
    let best = Kind::best().unwrap();
    let auto = Driver::<AnyProvider>::open(&Config::default());
    match name.parse::<Backend>() {
        Ok(Backend::Named(kind)) => assert_eq!(auto.unwrap().info().kind, kind),
        Ok(Backend::Auto) => assert_eq!(auto.unwrap().info().kind, best),
        Err(_) if name.is_empty() => assert_eq!(auto.unwrap().info().kind, best),
        Err(_) => assert_eq!(refusal(auto), ErrorKind::UnknownBackend),
    }
    for kind in [Kind::Epoll, Kind::IoUring] {
        let named = Driver::<AnyProvider>::open(&Config::named(kind)).unwrap();
        assert_eq!(named.info().kind, kind, "a named back end stays");
    }
}

fn available() {
    let available = Kind::available();
    assert_eq!(available.iter().map(|each| each.kind).collect::<Vec<_>>(), [Kind::IoUring, Kind::Epoll], "best first");
    for each in &available {
        let opened = Driver::<AnyProvider>::open(&Config::named(each.kind));
        assert_eq!(opened.err().map(|error| error.kind()), each.error.map(|error| error.kind()));
        assert_eq!(each.features.is_empty(), each.error.is_some());
    }
    let first = available.iter().find(|each| each.error.is_none()).expect("one works");
    assert_eq!(Kind::best().unwrap(), first.kind);
    let auto = Driver::<AnyProvider>::open(&Config::default()).unwrap();
    assert_eq!((auto.info().kind, auto.info().passed_over.len()), (first.kind, 0));
}

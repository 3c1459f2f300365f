//! The choice of a back end where something stands in its way: seccomp filters, the sysctl, the environment.

//= FALL-1

use std::io::ErrorKind as IoErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use raon_provider::{
    Backend, BindOptions, CloseMode, Completions, Config, Driver, ErrorKind, Feature, Kind, UringConfig,
};

use crate::child::{self, BACKEND};
use crate::peer;
use crate::platform::{self, forbid};
use crate::rig::{Rig, refusal};
use crate::setup::{self, Setup};
use crate::simulated;

const EPERM: i32 = 1;
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

pub fn a_seccomp_filter_after_the_start() {
    child::run("late seccomp", "one EPERM", &[]);
    child::run("late seccomp", "one ENOSYS", &[]);
}

pub fn epoll_waits_in_milliseconds_if_it_must() {
    child::run("coarse waits", "EPERM", &[]);
    child::run("coarse waits", "ENOSYS", &[]);
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
    // Whatever the system, some of these are of another one.
    for name in ["epoll", "io_uring", "EPOLL", "rio", "iocp", "kqueue", "sim", "auto", "", "netmap"] {
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
        "memory" => crate::settings::run_out_of_memory(alone(argument)),
        "seccomp" => seccomp(argument),
        "late seccomp" => late_seccomp(argument),
        "seccomp named by the environment" => {
            forbid(argument);
            let opened = Driver::open(&Config::default());
            assert_eq!(refusal(opened), ErrorKind::BlockedBySeccomp, "what is named is never replaced in silence");
        }
        "coarse waits" => coarse_waits(argument),
        "sysctl" => assert_passed_over(ErrorKind::DisabledBySysctl, EPERM),
        "environment" => environment(argument),
        "available" => available(),
        other => panic!("no role {other}"),
    }
}

fn alone(name: &str) -> Setup {
    let setup = Setup::by_name(name);
    simulated::enter(setup.plan);
    setup
}

fn seccomp(argument: &str) {
    let code = forbid(argument);
    assert_passed_over(ErrorKind::BlockedBySeccomp, code);
}

/// A ring that cannot be entered any more, with more requests than it has entries: `poll` says why, what has not reached
/// the kernel ends, and a drop counts the rest.
//= DROP-1
fn late_seccomp(argument: &str) {
    const COUNT: u64 = 64;
    let uring = UringConfig::default().with(|uring| uring.submission_entries = 8);
    let config = Config::named(Kind::IoUring)
        .with(|config| (config.uring, config.drain_deadline) = (uring, Duration::from_millis(200)));
    let mut driver = Driver::open(&config).unwrap();
    let peers: Vec<_> = (0..COUNT).map(|_| peer::connection(&Setup::by_name("io_uring_defer"), 0, 0)).collect();
    let (sockets, _peers): (Vec<_>, Vec<_>) =
        peers.into_iter().map(|(near, far)| (driver.adopt(near).unwrap(), far)).unzip();
    for socket in &sockets {
        driver.receive_into(*socket, vec![0; 8], 1).unwrap();
    }
    let mut completions = Completions::with_capacity(256);
    driver.poll(Some(Duration::ZERO), &mut completions).unwrap();
    forbid(argument);
    for socket in &sockets {
        driver.send(*socket, vec![1; 8], 2).unwrap();
    }
    let (mut failed, mut refused) = (0, 0);
    for _ in 0..4 {
        match driver.poll(Some(Duration::from_secs(1)), &mut completions) {
            Ok(_) => failed += completions.drain().filter(|each| each.outcome.error().is_some()).count() as u64,
            Err(error) => {
                assert_eq!((error.kind(), error.feature()), (ErrorKind::BlockedBySeccomp, Some(Feature::Ring)));
                refused += 1;
            }
        }
    }
    assert!(failed > 0 && failed <= COUNT && refused > 0, "{failed} of {COUNT} sends failed, {refused} polls did");
    let (leaked, start) = (raon_provider::leaked_operations(), Instant::now());
    drop(driver);
    assert!(start.elapsed() < Duration::from_secs(5), "the drain deadline is 200 ms: {:?}", start.elapsed());
    assert_eq!(raon_provider::leaked_operations() - leaked, 2 * COUNT - failed, "what has not ended is counted");
}

/// Without precise waits a driver says why, and neither a short nor an endless timer is an error.
fn coarse_waits(error: &str) {
    platform::forbid_precise_waits(error);
    let mut driver = Driver::open(&Config::named(Kind::Epoll)).expect("epoll waits in milliseconds, too");
    let features = driver.info().features;
    let precise = features.iter().find(|state| state.feature == Feature::PreciseWait).expect("epoll has it");
    let word = if error == "EPERM" { "seccomp" } else { "lacks" };
    assert!(!precise.in_use && precise.reason.contains(word), "{precise:?}");
    let mut completions = Completions::with_capacity(4);
    let endless = driver.timer(Duration::from_secs(40 * 86_400), 1).unwrap();
    driver.timer(Duration::from_micros(1), 2).unwrap();
    while driver.poll(None, &mut completions).expect("a timer in 40 days is no error") == 0 {}
    assert_eq!(completions.pop().map(|completion| completion.token), Some(2));
    // Something is there, so that the wait ends at once however long it may be.
    let socket = driver.bind(([127, 0, 0, 1], 0), &BindOptions::default()).unwrap();
    let address = driver.local_address(socket).unwrap().ip().unwrap();
    driver.receive(socket, 3).unwrap();
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().send_to(b"raon", address).unwrap();
    while driver.poll(None, &mut completions).expect("a timer in 40 days is no error") == 0 {}
    assert_eq!(completions.pop().map(|completion| completion.token), Some(3));
    driver.close(socket, CloseMode::Abort, 4).unwrap();
    while completions.pop().is_none_or(|completion| completion.token != 4) {
        driver.poll(None, &mut completions).unwrap();
    }
    driver.cancel(endless).unwrap();
    assert_eq!(driver.poll(None, &mut completions).unwrap(), 1);
    assert_echoes(Rig::of(Setup::by_name("epoll"), driver, 64));
}

/// `auto` runs on epoll and says why; io_uring by name fails with the reason; epoll by name is as ever.
fn assert_passed_over(kind: ErrorKind, os_code: i32) {
    let driver = Driver::open(&Config::default()).expect("auto finds epoll");
    let info = driver.info();
    assert_eq!(info.kind, Kind::Epoll);
    let [(passed_over, error)] = info.passed_over[..] else { panic!("{:?}", info.passed_over) };
    assert_eq!((passed_over, error.kind(), error.os_code()), (Kind::IoUring, kind, os_code), "{error}");
    assert_eq!(error.feature(), Some(Feature::Ring));
    assert_echoes(Rig::of(Setup::by_name("epoll"), driver, 64));

    let error = Driver::open(&Config::named(Kind::IoUring)).err().expect("no silent fallback");
    assert_eq!((error.kind(), error.os_code()), (kind, os_code));
    let word = if kind == ErrorKind::DisabledBySysctl { "kernel.io_uring_disabled" } else { "seccomp" };
    assert!(error.to_string().contains(word), "cause and remedy are named: {error}");

    assert_eq!(Kind::best().unwrap(), Kind::Epoll);
    let available = Kind::available();
    assert_eq!(available[0].error.map(|error| error.kind()), Some(kind));
    let named = Driver::open(&Config::named(Kind::Epoll)).unwrap();
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
    let auto = Driver::open(&Config::default());
    let available = Kind::available();
    let here = |kind: Kind| available.iter().find(|each| each.kind == kind);
    match name.parse::<Backend>() {
        Ok(Backend::Named(Kind::Sim)) => assert_eq!(auto.unwrap().info().kind, Kind::Sim),
        Ok(Backend::Named(kind)) if here(kind).is_some() => match here(kind).and_then(|each| each.error) {
            None => assert_eq!(auto.unwrap().info().kind, kind),
            Some(error) => assert_eq!(refusal(auto), error.kind()),
        },
        Ok(Backend::Named(_)) => {
            let error = auto.err().expect("that is a back end of another system");
            assert_eq!(error.kind(), ErrorKind::BackendUnavailable);
            assert!(error.to_string().contains("a back end of "), "the system is named: {error}");
        }
        Ok(Backend::Auto) => assert_eq!(auto.unwrap().info().kind, best),
        Err(_) if name.is_empty() => assert_eq!(auto.unwrap().info().kind, best),
        Err(_) => assert_eq!(refusal(auto), ErrorKind::UnknownBackend),
    }
    for each in available.iter().filter(|each| each.error.is_none()) {
        let named = Driver::open(&Config::named(each.kind)).unwrap();
        assert_eq!(named.info().kind, each.kind, "a named back end stays");
    }
}

fn available() {
    let available = Kind::available();
    assert_eq!(available.iter().map(|each| each.kind).collect::<Vec<_>>(), setup::kinds(), "best first");
    for each in &available {
        let opened = Driver::open(&Config::named(each.kind));
        assert_eq!(opened.err().map(|error| error.kind()), each.error.map(|error| error.kind()));
        assert_eq!(each.features.is_empty(), each.error.is_some());
    }
    let first = available.iter().position(|each| each.error.is_none()).expect("one works");
    assert_eq!(Kind::best().unwrap(), available[first].kind);
    let auto = Driver::open(&Config::default()).unwrap();
    assert_eq!((auto.info().kind, auto.info().passed_over.len()), (available[first].kind, first));
}

//! A named back end is that one, and no other; `auto` says why it has chosen.

//= FALL-1

use std::thread;

use raon_provider::{Backend, Driver, ErrorKind, Feature, Kind};

use crate::platform::{self, forbid};
use crate::rig::Rig;
use crate::setup::Setup;

pub fn a_named_back_end_is_the_one_that_runs(setup: &Setup) {
    let rig = Rig::new(setup);
    let info = rig.driver.info();
    assert!(info.passed_over.is_empty() && info.kind == setup.kind);
    assert!(info.kernel.starts_with(platform::kernel()) && !info.features.is_empty());
    assert!(info.depth >= 1);
    for state in &info.features {
        assert_eq!(state.in_use, state.reason.is_empty(), "a feature is in use, or there is a reason: {state:?}");
    }
    let config = setup.config();
    assert_eq!((info.sockets_max, info.operations_max), (config.sockets_max, config.operations_max));
    assert_eq!(info.receive_buffers, (config.pool.receive_count, config.pool.buffer_bytes));
    assert_eq!(info.pool_bytes, (256 + 128) * 4096 + 16 * 69_632);
    assert_eq!(setup.kind.name().parse::<Kind>().unwrap(), setup.kind);
    assert_eq!(setup.kind.name().to_uppercase().parse::<Backend>().unwrap(), Backend::Named(setup.kind));
    assert!("netmap".parse::<Backend>().is_err() && Driver::open(&config).is_ok());
}

/// In a thread that may not use io_uring.
pub fn what_is_named_is_never_replaced(setup: &Setup) {
    let (kind, named) = (setup.kind, setup.config());
    let auto = named.clone().with(|config| config.backend = Backend::Auto);
    let forbidden = move || {
        let code = forbid("one EPERM");
        match (kind, Driver::open(&named)) {
            (Kind::IoUring, Err(error)) => {
                assert_eq!((error.kind(), error.os_code()), (ErrorKind::BlockedBySeccomp, code));
                assert_eq!(error.feature(), Some(Feature::Ring), "what is missing is named");
            }
            (Kind::IoUring, Ok(driver)) => panic!("it was replaced in silence by {}", driver.info().kind),
            (_, driver) => assert_eq!(driver.unwrap().info().kind, kind),
        }
        let info = Driver::open(&auto).unwrap().info();
        let [(passed_over, error)] = info.passed_over[..] else { panic!("{:?}", info.passed_over) };
        let reason = (info.kind, passed_over, error.kind());
        assert_eq!(reason, (Kind::Epoll, Kind::IoUring, ErrorKind::BlockedBySeccomp));
    };
    thread::spawn(forbidden).join().unwrap();
}

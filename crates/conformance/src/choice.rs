//! A named back end is that one.

//= FALL-1

use raon_provider::{AnyProvider, Backend, Driver, Epoll, Kind, Sim, Uring};

use crate::rig::Rig;
use crate::setup::Setup;

pub fn a_named_back_end_is_the_one_that_runs(setup: &Setup) {
    let rig = Rig::new(setup);
    let info = rig.driver.info();
    assert!(info.passed_over.is_empty() && info.kind == setup.kind);
    assert!(info.kernel.starts_with("Linux ") && !info.features.is_empty());
    assert!(info.depth >= 1);
    for state in &info.features {
        assert_eq!(state.in_use, state.reason.is_empty(), "a feature is in use, or there is a reason: {state:?}");
    }
    let config = setup.config();
    assert_eq!((info.sockets_max, info.operations_max), (config.sockets_max, config.operations_max));
    assert_eq!(info.receive_buffers, (config.pool.receive_count, config.pool.buffer_bytes));
    assert_eq!(info.pool_bytes, (256 + 128) * 4096 + 16 * 65_536);
    // By type as well as by name.
    let kind = match setup.kind {
        Kind::Sim => Driver::<Sim>::open(&config).unwrap().info().kind,
        Kind::Epoll => Driver::<Epoll>::open(&config).unwrap().info().kind,
        _ => Driver::<Uring>::open(&config).unwrap().info().kind,
    };
    assert_eq!(kind, setup.kind);
    assert_eq!(setup.kind.name().parse::<Kind>().unwrap(), setup.kind);
    assert_eq!(setup.kind.name().to_uppercase().parse::<Backend>().unwrap(), Backend::Named(setup.kind));
    assert!("kqueue".parse::<Backend>().is_err() && Driver::<AnyProvider>::open(&config).is_ok());
}

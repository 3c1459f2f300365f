//! Random sequences against the model, on every set-up. Variables: `ORACLE_CASES`, `ORACLE_SEED`, `ORACLE_REPLAY`.

use raon_conformance::oracle;
use raon_conformance::setup::{self, Setup};

macro_rules! explore {
    ($($name:ident)*) => {
        $(#[test] fn $name() { oracle::explore(&Setup::by_name(stringify!($name))); })*

        #[test]
        fn every_set_up_is_explored() {
            let named = [$(stringify!($name)),*];
            // epoll_one_by_one differs from epoll in datagrams alone.
            let known = setup::ALL.iter().filter(|setup| setup.name != "epoll_one_by_one");
            assert!(known.map(|setup| setup.name).eq(named));
        }
    };
}

explore! {
    epoll io_uring_defer io_uring_coop io_uring_plain io_uring_single_shot io_uring_no_buffer_ring io_uring_no_skip
    io_uring_zero_copy io_uring_bare epoll_unix io_uring_defer_unix io_uring_coop_unix io_uring_plain_unix
    io_uring_zero_copy_unix io_uring_bare_unix sim sim_rough sim_unix sim_rough_unix
}

/// The one that `ORACLE_REPLAY` names: a set-up and a plan, as a failure prints them.
#[test]
fn replay() {
    if let Ok(line) = std::env::var("ORACLE_REPLAY") {
        let (name, plan) = line.split_once(' ').expect("a set-up and a plan");
        oracle::replay(&Setup::by_name(name), plan);
    }
}

//! Random sequences against the model, on every set-up. Variables: `ORACLE_CASES`, `ORACLE_SEED`, `ORACLE_REPLAY`.

use raon_conformance::oracle;
use raon_conformance::setup::{self, Setup};

macro_rules! explore {
    ($explore:ident, $is_left_out:expr; $($name:ident)*) => {
        $(#[test] fn $name() { super::oracle::$explore(&super::Setup::by_name(stringify!($name))); })*

        #[test]
        fn every_set_up_is_explored() {
            let named = [$(stringify!($name)),*];
            let known = super::setup::ALL.iter().filter(|setup| !$is_left_out(setup));
            assert!(known.map(|setup| setup.name).eq(named));
        }
    };
}

#[cfg(all(target_os = "linux", not(raon_kqueue_shim)))]
mod connections {
    // epoll_one_by_one differs from epoll in datagrams alone.
    explore! { explore, |setup: &&super::Setup| setup.name == "epoll_one_by_one";
        epoll io_uring_defer io_uring_coop io_uring_plain io_uring_single_shot io_uring_no_buffer_ring io_uring_no_skip
        io_uring_zero_copy io_uring_bare epoll_unix io_uring_defer_unix io_uring_coop_unix io_uring_plain_unix
        io_uring_zero_copy_unix io_uring_bare_unix sim sim_rough sim_unix sim_rough_unix
    }
}

#[cfg(all(target_os = "linux", not(raon_kqueue_shim)))]
mod datagrams {
    // Over Unix sockets there are none.
    explore! { explore_datagrams, |setup: &&super::Setup| setup.is_unix();
        epoll epoll_one_by_one io_uring_defer io_uring_coop io_uring_plain io_uring_single_shot io_uring_no_buffer_ring
        io_uring_no_skip io_uring_zero_copy io_uring_bare sim sim_rough
    }
}

#[cfg(windows)]
mod connections {
    explore! { explore, |_: &&super::Setup| false; iocp iocp_bare rio sim sim_rough sim_unix sim_rough_unix }
}

#[cfg(windows)]
mod datagrams {
    explore! { explore_datagrams, |setup: &&super::Setup| setup.is_unix(); iocp iocp_bare rio sim sim_rough }
}

#[cfg(any(target_vendor = "apple", target_os = "freebsd", raon_kqueue_shim))]
mod connections {
    // Played on Linux, the others are explored elsewhere.
    explore! { explore, |setup: &&super::Setup| setup.name.starts_with("epoll") || setup.name.starts_with("io_uring");
        kqueue kqueue_unix sim sim_rough sim_unix sim_rough_unix
    }
}

#[cfg(any(target_vendor = "apple", target_os = "freebsd", raon_kqueue_shim))]
mod datagrams {
    explore! { explore_datagrams, |setup: &&super::Setup| {
            setup.is_unix() || setup.name.starts_with("epoll") || setup.name.starts_with("io_uring")
        };
        kqueue sim sim_rough
    }
}

/// The one that `ORACLE_REPLAY` names: a set-up and a plan, as a failure prints them.
#[test]
fn replay() {
    if let Ok(line) = std::env::var("ORACLE_REPLAY") {
        let (name, plan) = line.split_once(' ').expect("a set-up and a plan");
        oracle::replay(&Setup::by_name(name), plan);
    }
}

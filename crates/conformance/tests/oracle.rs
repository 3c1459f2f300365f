//! Random sequences against the model, on every set-up. Variables: `ORACLE_CASES`, `ORACLE_SEED`, `ORACLE_REPLAY`.

use raon_conformance::setup::Setup;
use raon_conformance::{for_each_setup, oracle};

macro_rules! explore {
    ($([$condition:meta] $($name:ident($($program:ident)*))*;)*) => {
        mod connections {
            $($($(#[cfg($condition)] streams!($program $name);)*)*)*
        }
        mod datagrams {
            $($($(#[cfg($condition)] datagrams!($program $name);)*)*)*
        }

        /// Names of the set-ups of this system with their programs.
        fn programs() -> Vec<(&'static str, &'static [&'static str])> {
            let lines: &[&[(&str, &[&str])]] =
                &[$(#[cfg($condition)] &[$((stringify!($name), &[$(stringify!($program)),*])),*],)*];
            lines.concat()
        }
    };
}

macro_rules! streams {
    (streams $name:ident) => {
        #[test]
        fn $name() {
            super::oracle::explore(&super::Setup::by_name(stringify!($name)));
        }
    };
    ($program:ident $name:ident) => {};
}

macro_rules! datagrams {
    (datagrams $name:ident) => {
        #[test]
        fn $name() {
            super::oracle::explore_datagrams(&super::Setup::by_name(stringify!($name)));
        }
    };
    ($program:ident $name:ident) => {};
}

for_each_setup!(explore);

#[test]
fn every_set_up_is_explored() {
    for (name, programs) in programs() {
        let has = |program| programs.contains(&program);
        assert_eq!(has("datagrams"), !Setup::by_name(name).is_unix, "{name}: over Unix sockets there are none");
        assert!(has("streams") || name == "epoll_one_by_one", "{name}: that one differs from epoll in datagrams alone");
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

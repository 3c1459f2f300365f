//! Every test on every back end in every form, see `for_each_setup!`.

use raon_conformance::setup::{self, Setup};
use raon_conformance::{alone, child, every_choice, every_storm, every_test, for_each_setup, platform};

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
    ($([$condition:meta] $($name:ident($($program:ident)*))*;)*) => {
        $($(
            #[cfg($condition)]
            mod $name {
                use super::{Setup, alone};
                raon_conformance::every_test!(cases, super::Setup::by_name(stringify!($name)));
                $(storms!($program $name);)*
            }
        )*)*

        /// Names of all suites of this system.
        fn suites() -> Vec<&'static str> {
            [$(#[cfg($condition)] &[$(stringify!($name)),*][..],)*].concat()
        }
    };
}

macro_rules! storms {
    (storms $name:ident) => {
        raon_conformance::every_storm!(cases, super::Setup::by_name(stringify!($name)));
    };
    ($program:ident $name:ident) => {};
}

for_each_setup!(suites);

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
    assert!(setup::all().map(|setup| setup.name).eq(suites()), "a form of a back end is not in `for_each_setup!`");
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

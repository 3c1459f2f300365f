//! Legs under Wine: what runs, and what does not, with the reason.

/// Tests of one package that are built and run together.
pub(super) struct Leg {
    pub(super) name: &'static str,
    /// What cargo is told after `cargo test`.
    pub(super) cargo: &'static [&'static str],
    /// How the names begin of tests that must be among them: a leg that has lost them is not green.
    pub(super) includes: &'static [&'static str],
    /// Parts of names of tests that another leg of the same programs runs.
    pub(super) leaves_to_others: &'static [&'static str],
    /// Tests that do not run here.
    pub(super) leaves_out: &'static [LeftOut],
}

/// A test, by its full name, and why it cannot run under Wine.
pub(super) struct LeftOut {
    pub(super) test: &'static str,
    pub(super) reason: &'static str,
}

const IOCP: [&str; 2] = ["iocp::", "iocp_bare::"];
const RIO: [&str; 1] = ["rio::"];
const SIM: [&str; 4] = ["sim::", "sim_rough::", "sim_unix::", "sim_rough_unix::"];

const NO_RATE: &str =
    "it asks for hundreds of messages a second: where each takes several trips to Wine's server, none is sure";

const NO_HURRY: &str =
    "two hundred peers close and write within a deadline of 50 ms: each needs several trips to Wine's server";

/// Those that take longest come first, so that all processors have work to the end. The conformance suite is in three
/// parts: a set-up that is new runs in each of them until it is left to one.
pub(super) const LEGS: &[Leg] = &[
    Leg {
        name: "iocp",
        cargo: &["--package", "raon-conformance", "--test", "every_backend"],
        includes: &IOCP,
        leaves_to_others: &[RIO[0], SIM[0], SIM[1], SIM[2], SIM[3]],
        leaves_out: &[
            LeftOut { test: "iocp::close::a_deadline_waits_for_what_has_arrived", reason: NO_HURRY },
            LeftOut { test: "iocp_bare::close::a_deadline_waits_for_what_has_arrived", reason: NO_HURRY },
        ],
    },
    Leg {
        name: "rio",
        cargo: &["--package", "raon-conformance", "--test", "every_backend", "--test", "rio"],
        includes: &["rio::", "a_corrupt_queue"],
        leaves_to_others: &[IOCP[0], IOCP[1], SIM[0], SIM[1], SIM[2], SIM[3]],
        leaves_out: &[
            LeftOut {
                test: "rio::bounds::sixty_six_thousand_sends_of_one_socket",
                reason: "66,000 sends over the double, each several trips to Wine's server, take longer than a test may",
            },
            LeftOut {
                test: "rio::settings::every_value_works_or_is_refused_by_name",
                reason: "it exchanges bytes with hundreds of drivers, each with queues of its own on the double",
            },
            LeftOut { test: "rio::close::a_deadline_waits_for_what_has_arrived", reason: NO_HURRY },
            LeftOut {
                test: "rio::close::unread_input_is_known",
                reason: "bytes that registered I/O has taken into a slice are in no socket and not reported yet",
            },
        ],
    },
    Leg {
        name: "engine",
        cargo: &[
            "--package",
            "raon",
            "--lib",
            "--test",
            "echo",
            "--test",
            "examples",
            "--test",
            "fence",
            "--test",
            "flow",
            "--test",
            "limits",
            "--test",
            "rooms",
            "--test",
            "seeds",
            "--test",
            "server",
            "--test",
            "shutdown",
        ],
        includes: &["people_chat_in_rooms"],
        leaves_to_others: &[],
        leaves_out: &[],
    },
    Leg {
        name: "cli",
        // All that it has: the tests of the gate start the example `double`.
        cargo: &["--package", "raon-cli"],
        includes: &["commands::", "double::", "generator::", "load::"],
        leaves_to_others: &[],
        leaves_out: &[
            LeftOut { test: "open::a_rate_is_kept_on_each_backend", reason: NO_RATE },
            LeftOut { test: "open::a_sweep_over_given_rates_is_a_table_and_a_picture", reason: NO_RATE },
            LeftOut { test: "open::either_loop_can_be_drawn", reason: NO_RATE },
            LeftOut { test: "generator::tests::an_open_loop_is_charged_for_a_stall", reason: NO_RATE },
            LeftOut { test: "generator::tests::what_may_not_leave_is_charged_just_the_same", reason: NO_RATE },
            LeftOut { test: "generator::tests::random_arrivals_are_charged_just_the_same", reason: NO_RATE },
            LeftOut {
                test: "generator::tests::what_never_comes_back_is_told_and_spoils_no_later_load",
                reason: NO_RATE,
            },
        ],
    },
    Leg {
        name: "sim",
        cargo: &["--package", "raon-conformance", "--test", "every_backend"],
        includes: &SIM,
        leaves_to_others: &[RIO[0], IOCP[0], IOCP[1]],
        leaves_out: &[],
    },
    Leg {
        name: "provider",
        cargo: &["--package", "raon-provider"],
        includes: &["base::slots::"],
        leaves_to_others: &[],
        leaves_out: &[],
    },
    Leg {
        name: "double",
        cargo: &["--package", "rio-double"],
        includes: &["every_mistake"],
        leaves_to_others: &[],
        leaves_out: &[],
    },
    Leg {
        name: "session",
        cargo: &["--package", "raon-session"],
        includes: &["delimiters"],
        leaves_to_others: &[],
        leaves_out: &[],
    },
];

/// Whole files of tests that are not built for Windows or not run under Wine.
pub(super) const FILES_LEFT_OUT: &[LeftOut] = &[
    LeftOut {
        test: "raon, stress",
        reason: "hundreds of thousands of messages: each operation asks Wine's server, 5,000 times a second at most",
    },
    LeftOut {
        test: "raon, steady",
        reason: "160,000 messages for the same slow server; the conformance suite counts allocations per operation",
    },
    LeftOut {
        test: "raon-conformance, oracle and faults",
        reason: "minutes under Wine; run by hand, see docs/backends/iocp.md; the gate runs them on the back ends of Linux",
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn legs_have_names_and_what_is_left_out_has_reasons() {
        let names: BTreeSet<&str> = LEGS.iter().map(|leg| leg.name).collect();
        assert_eq!(names.len(), LEGS.len());
        assert!(LEGS.iter().all(|leg| !leg.includes.is_empty()));
        let left_out = LEGS.iter().flat_map(|leg| leg.leaves_out).chain(FILES_LEFT_OUT);
        assert!(left_out.into_iter().all(|left_out| left_out.reason.len() > 20 && !left_out.test.is_empty()));
    }
}

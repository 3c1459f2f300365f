//! Planted in how sockets, accepts and drivers end.

use super::{Mutant, Tests};

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "stale_id_accepted",
        bug: "a closed socket's id is still taken",
        breaks: &["CLOSE-1", "STALE-1"],
        file: "driver.rs",
        old: "if self.sockets[index].is(Flags::CLOSING) { Err(stale) } else { Ok(index) }",
        new: "Ok(index)",
        tests: Tests::Suite(&["epoll"], &["close::the_id_is_stale_at_once"]),
    },
    Mutant {
        name: "closed_too_early",
        bug: "Closed overtakes the operations that ended before it",
        breaks: &["CLOSE-1"],
        file: "driver/close.rs",
        old: "self.push(Completion { token, operation, socket, more: false, outcome: Outcome::Closed });",
        new: "self.ready.push_front(Completion { token, operation, socket, more: false, outcome: Outcome::Closed });",
        tests: Tests::Suite(&["sim"], &["close::what_is_pending_ends_before_closed"]),
    },
    Mutant {
        name: "close_forgets_sends",
        bug: "a graceful close drops what is queued and not yet in the kernel",
        breaks: &["CLOSE-2"],
        file: "driver/close.rs",
        old: "        self.discard_held(index);\n        let head",
        new: "        self.discard_held(index);
        if self.sockets[index].batch_count == 0 {
            self.fail_sends(index, Error::new(ErrorKind::Cancelled));
        }
        let head",
        tests: Tests::Suite(&["epoll"], &["close::a_goodbye_arrives_although_input_is_unread"]),
    },
    Mutant {
        name: "close_without_deadline",
        bug: "a graceful close has no deadline",
        breaks: &["CLOSE-2"],
        file: "driver/close.rs",
        old: "self.timers.insert(deadline_ns, Due::Close(index));",
        new: "self.timers.insert(deadline_ns | 1 << 63, Due::Close(index));",
        tests: Tests::Suite(&["epoll"], &["close::a_graceful_close_ends_at_its_deadline"]),
    },
    Mutant {
        name: "abort_without_reset",
        bug: "an abort closes the connection in order, without a reset",
        breaks: &["CLOSE-2"],
        file: "driver/close.rs",
        old: "if is_abort && is_stream {",
        new: "if is_abort && !is_stream {",
        tests: Tests::Suite(&["epoll"], &["close::an_abort_is_a_reset"]),
    },
    Mutant {
        name: "drop_without_drain",
        bug: "a driver is dropped without waiting for the kernel",
        breaks: &["DROP-1"],
        file: "driver/close.rs",
        old: "        self.drain();\n",
        new: "",
        tests: Tests::Suite(&["io_uring_defer"], &["lifetime::a_drop_with_a_thousand_operations_in_flight"]),
    },
    Mutant {
        name: "leaks_not_counted",
        bug: "operations that are leaked are not counted",
        breaks: &["DROP-1"],
        file: "driver/close.rs",
        old: "stats::count_leaked(self.in_kernel as u64);",
        new: "stats::count_leaked(0);",
        tests: Tests::Suite(&["epoll"], &["lifetime::a_passed_drain_deadline_leaks_and_counts"]),
    },
    Mutant {
        name: "cancelled_accept_leaks",
        bug: "a connection that was accepted after the cancel is forgotten with its descriptor",
        breaks: &["CANCEL-1"],
        file: "driver/accept.rs",
        old: "self.report(operation, Outcome::Accepted(socket));",
        new: "if self.operations[operation].is_cancelled {
            std::mem::forget(socket);
        } else {
            self.report(operation, Outcome::Accepted(socket));
        }",
        tests: Tests::Suite(&["io_uring_plain", "io_uring_defer"], &["cancel::a_cancelled_accept_leaks_no_connection"]),
    },
];

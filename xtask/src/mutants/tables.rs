//! Planted in what the driver is built of: slots, buffers, the mailbox.

use super::{Mutant, Tests};

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "generation_kept",
        bug: "an emptied slot keeps its generation",
        breaks: &["STALE-1"],
        file: "slots.rs",
        old: "slot.generation += 1;",
        new: "slot.generation += 0;",
        tests: Tests::Suite(&["epoll"], &["stale::ids_of_closed_sockets_are_refused"]),
    },
    Mutant {
        name: "generation_unchecked",
        bug: "an id is looked up by its index alone",
        breaks: &["STALE-1"],
        file: "slots.rs",
        old: "(slot.generation == key.generation() && slot.value.is_some())",
        new: "slot.value.is_some()",
        tests: Tests::Suite(&["sim"], &["stale::forged_ids_are_refused"]),
    },
    Mutant {
        name: "generation_wraps",
        bug: "a slot whose generations are used up starts again with the first",
        breaks: &["STALE-1"],
        file: "slots.rs",
        old: "        if slot.generation < u32::MAX {
            slot.generation += 1;
            slot.next_free = self.free_head;
            self.free_head = index;
        }\n",
        new: "        slot.generation = slot.generation.wrapping_add(1);
        slot.next_free = self.free_head;
        self.free_head = index;\n",
        tests: Tests::Unit(&["slots::tests::a_used_up_generation_retires_its_slot"]),
    },
    Mutant {
        name: "buffer_back_twice",
        bug: "a dropped buffer goes to the free list twice, and is lent to two",
        breaks: &["OWN-1"],
        file: "memory.rs",
        old: "local.free[self.index.section() as usize].push(self.index.number());",
        new: "local.free[self.index.section() as usize].extend([self.index.number(); 2]);",
        tests: Tests::Suite(&["epoll"], &["starve::an_exhausted_pool_recovers"]),
    },
    Mutant {
        name: "buffer_to_wrong_section",
        bug: "a dropped buffer of the senders goes to the receivers",
        breaks: &["STARVE-1"],
        file: "memory.rs",
        old: "local.free[self.index.section() as usize].push(self.index.number());",
        new: "local.free[Section::Receive as usize].push(self.index.number());",
        tests: Tests::Suite(&["epoll"], &["starve::senders_have_their_own_quota"]),
    },
    Mutant {
        name: "buffer_wakes_nobody",
        bug: "a buffer given back by another thread does not wake the owner who waits for it",
        breaks: &["STARVE-1", "THREAD-1"],
        file: "memory/returns.rs",
        old: "let waker = if head == STARVING {",
        new: "let waker = if head == CLOSED {",
        tests: Tests::Unit(&["memory::tests::a_sleeping_owner_is_woken_once_by_the_first_buffer"]),
    },
    Mutant {
        name: "wake_dropped",
        bug: "a submit does not wake the owner",
        breaks: &["THREAD-1"],
        file: "mailbox.rs",
        old: "            self.waker.wake();\n",
        new: "",
        tests: Tests::Unit(&["mailbox::tests::a_sleeping_owner_hears_of_every_message"]),
    },
    Mutant {
        name: "wake_race",
        bug: "the owner falls asleep without a second look into the mailbox",
        breaks: &["THREAD-1"],
        file: "mailbox.rs",
        old: "if self.queue.is_empty() && !self.is_woken",
        new: "if self.queue.capacity() > 0 && !self.is_woken",
        tests: Tests::Unit(&["mailbox::tests::many_messages_wake_a_sleeper_once"]),
    },
    Mutant {
        name: "wake_not_coalesced",
        bug: "every submit to a sleeping owner wakes it",
        breaks: &["THREAD-1"],
        file: "mailbox.rs",
        old: "self.is_asleep.swap(false, Ordering::AcqRel)",
        new: "self.is_asleep.load(Ordering::SeqCst)",
        tests: Tests::Suite(&["epoll"], &["threads::many_submits_are_one_wake"]),
    },
];

//! The suite under faults: which tests can run so, with what, and how a run that failed is repeated.

use raon_provider::{FaultRates, Faults};

use crate::random::Random;
use crate::setup::Setup;

/// A test that contradicts some faults.
pub struct Exception {
    /// Which.
    pub test: &'static str,
    /// Takes those faults away; `None`: the test cannot run with any.
    pub spare: Option<fn(&mut FaultRates)>,
    /// Why.
    pub reason: &'static str,
}

const fn exception(test: &'static str, spare: Option<fn(&mut FaultRates)>, reason: &'static str) -> Exception {
    Exception { test, spare, reason }
}

/// Its calls of the driver are its own and are not repeated when a fault makes them fail, as those of the rig are.
const CALLS: Option<fn(&mut FaultRates)> = Some(|rates| (rates.attach_refused, rates.turn_fails) = (0, 0));
/// It looks at what one `poll` or `flush` does.
const POLLS: Option<fn(&mut FaultRates)> = Some(|rates| rates.turn_fails = 0);
/// It knows how many bytes each single receive gets.
const ROOMS: Option<fn(&mut FaultRates)> = Some(|rates| (rates.receive_short, rates.attach_refused) = (0, 0));

/// The tests that contradict some faults, or all.
pub const EXCEPTIONS: &[Exception] = &[
    exception("accept::an_accept_stream_backs_off_without_descriptors", None, "runs in a child, with real faults"),
    exception(
        "accept::a_cancelled_stream_leaves_nobody_in_a_shared_listener",
        None,
        "a missing descriptor turns away the one connection that is to come",
    ),
    exception("lifetime::a_passed_drain_deadline_leaks_and_counts", None, "runs in a child, which has no faults"),
    exception("limits::statistics_count_what_happened", None, "counts each event, also those that faults make more"),
    exception("once::nothing_completes_or_moves_inside_submit", None, "knows the turn in which bytes move"),
    exception(
        "starve::quiet_datagrams_pass_buffers_on",
        None,
        "has a driver without a rig, and knows what comes of each poll",
    ),
    exception("starve::a_starved_driver_does_not_spin", None, "counts turns, of which the wrapper needs more"),
    exception("steady::no_allocation_per_operation", None, "the wrapper allocates"),
    exception("datagram::no_allocation_per_datagram", None, "the wrapper allocates"),
    exception("merged::the_kernel_merges_where_it_can", None, "counts what leaves together, which faults cut apart"),
    exception("merged::a_bad_destination_ends_no_merging", None, "counts what leaves together, as well"),
    exception("address::ipv4_peers_of_a_dual_stack_listener_are_ipv4", CALLS, "listens at addresses of its own"),
    exception("address::datagram_sockets_of_both_families_reach_ipv4", CALLS, "binds to addresses of its own"),
    exception("address::destinations_that_nobody_has_fail_alone", CALLS, "binds to addresses of its own"),
    exception("address::link_local_peers_keep_their_scope", CALLS, "binds to addresses of its own"),
    exception("endpoints::times_out_of_range_are_named", CALLS, "listens with options of its own"),
    exception("bounds::a_send_of_more_than_two_gibibytes", None, "moves gigabytes, which faults cut into small pieces"),
    exception("bounds::sixty_six_thousand_sends_of_one_socket", None, "takes minutes if each is held back"),
    exception("settings::every_value_works_or_is_refused_by_name", None, "has drivers and configurations of its own"),
    exception(
        "settings::any_combination_works_or_is_refused_by_name",
        None,
        "has drivers and configurations of its own",
    ),
    exception("settings::faults_of_any_rate_leave_a_way_out", None, "brings faults of its own"),
    exception("settings::every_option_works_or_is_refused_by_name", None, "has a driver without a rig"),
    exception("settings::without_memory_a_driver_is_refused_by_name", None, "runs in a child, with real faults"),
    exception("once::a_failed_turn_delivers_what_has_ended_first", None, "brings faults of its own"),
    exception("bounds::what_is_far_ahead_does_not_come_early", POLLS, "looks at what one poll brings"),
    exception("bounds::a_wait_for_centuries_sleeps", POLLS, "looks at how long one poll takes"),
    exception("datagram::addresses_of_both_families", CALLS, "binds to addresses of its own"),
    exception("datagram::multicast_reaches_the_members", CALLS, "binds to addresses of its own"),
    exception("datagram::a_refused_peer_does_not_end_the_stream", CALLS, "binds to addresses of its own"),
    exception("datagram::only_what_fits_the_socket_is_accepted", CALLS, "binds to addresses of its own"),
    exception("endpoints::options_reach_the_sockets", CALLS, "connects with options of its own"),
    exception("merged::parts_outlive_their_driver", CALLS, "has a driver without a rig"),
    exception("lifetime::a_drop_with_a_thousand_operations_in_flight", CALLS, "has a driver without a rig"),
    exception("threads::eight_threads_while_the_driver_shuts_down", CALLS, "has a driver without a rig"),
    exception("lifetime::rings_that_come_and_go_do_not_disturb_a_wait", POLLS, "measures how long a poll takes"),
    exception("starve::buffers_from_another_thread_wake_a_sleeping_owner", POLLS, "one poll must bring the bytes"),
    exception("time::a_poll_ends_at_its_timeout", POLLS, "measures how long a poll takes"),
    exception("order::single_receives_are_first_in_first_out", ROOMS, "every room is to be filled"),
    exception("stream::the_end_comes_again_and_again_to_receive_into", ROOMS, "knows the length of each receive"),
    exception("threads::an_accepted_socket_goes_to_another_driver", ROOMS, "a message is one receive"),
    exception("endpoints::connections_over_every_address_family", CALLS, "listens at addresses of its own"),
    exception("endpoints::an_address_in_use_is_refused", CALLS, "listens at addresses of its own"),
    exception("endpoints::listeners_may_share_a_port", CALLS, "listens at addresses of its own"),
    exception("endpoints::what_no_driver_can_use_is_given_back", CALLS, "adopts by itself"),
    exception("storm::a_connect_without_an_answer_times_out", CALLS, "connects with options of its own"),
    exception("once::one_poll_delivers_no_more_than_there_is_room_for", POLLS, "looks at what each poll brings"),
    exception("unix::a_dead_listeners_path_is_taken_over", CALLS, "listens at addresses of its own"),
    exception("unix::both_ends_have_addresses", CALLS, "listens at addresses of its own"),
    exception("lifetime::a_shut_driver_refuses_everything", POLLS, "polls a driver that is shut"),
    exception("lifetime::buffers_outlive_their_driver", Some(|rates| rates.send_short = 0), "a message is one receive"),
    exception("stream::bulk_bytes_arrive_exact", Some(|rates| rates.send_short = 0), "a message is one receive"),
    exception(
        "storm::five_thousand_sockets_open_and_close",
        Some(|rates| (rates.send_short, rates.attach_refused) = (0, 0)),
        "a greeting is one receive, and it listens at an address of its own",
    ),
];

fn exception_of(test: &str) -> Option<&'static Exception> {
    EXCEPTIONS.iter().find(|exception| exception.test == test)
}

/// True if the test can run with faults.
pub fn can_run(test: &str) -> bool {
    exception_of(test).is_none_or(|exception| exception.spare.is_some())
}

/// The variable that names one run to repeat: set-up, test and seed.
pub const REPLAY: &str = "RAON_FAULTS";

/// The faults of a seed. Not every kind in every run: what is always in the way of the other hides it.
pub fn of_seed(seed: u64) -> Faults {
    let mut random = Random::new(seed ^ 0xFA17);
    let scale = [1, 3, 10][random.below(3)];
    let mut rate = |most: usize| if random.below(2) == 0 { (random.below(most) * scale / 10) as u16 } else { 0 };
    let rates = FaultRates::default().with(|rates| {
        rates.send_short = rate(600);
        rates.send_refused = rate(400);
        rates.receive_short = rate(600);
        rates.no_buffers = rate(300);
        rates.no_buffers_run_max = rate(40);
        rates.stream_ended = rate(600);
        rates.accept_fails = rate(150);
        rates.accept_without_descriptor = 0;
        rates.connect_refused = rate(400);
        rates.attach_refused = rate(300);
        rates.request_late = rate(400);
        rates.event_late = rate(400);
        rates.turns_late_max = 1 + rate(6);
        rates.events_exchanged = rate(800);
        rates.turn_interrupted = rate(300);
        rates.turn_fails = rate(200);
        rates.wake_lost = rate(500);
        rates.wake_doubled = rate(300);
    });
    Faults::new(seed, rates)
}

/// Runs a test under the faults of a seed; a failure says how to repeat it.
pub fn run(setup: &Setup, name: &'static str, test: fn(&Setup), seed: u64) {
    let command = format!("{REPLAY}={}/{name}/{seed} cargo test -p raon-conformance --test faults replay", setup.name);
    let mut faults = of_seed(seed);
    if let Some(spare) = exception_of(name).and_then(|exception| exception.spare) {
        spare(&mut faults.rates);
    }
    let _tell = Tell { command: &command, faults };
    crate::alone::run_as(&command, || test(&setup.with_faults(faults)));
}

/// Says how to repeat a run, if it fails.
struct Tell<'a> {
    command: &'a str,
    faults: Faults,
}

impl Drop for Tell<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with {:?}\nto repeat it:\n{}", self.faults, self.command);
        }
    }
}

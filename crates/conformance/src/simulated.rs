//! The simulated back end in the suite: the network of the test that runs, its clock, and the tests that cannot
//! run there.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use raon_provider::{FaultPlan, SimNetwork};

use crate::setup::Setup;

/// The tests that are left out on the simulated back end, each with the reason.
const SKIPPED: [(&str, &str); 14] = [
    ("pause::a_reset_that_waits_for_delivery_is_held", "turns without a wait, in which no virtual time passes"),
    ("datagram::any_datagram_socket_can_be_adopted", "adopts the operating system's sockets"),
    ("datagram::no_allocation_per_datagram", "the network itself keeps a copy of each"),
    (
        "accept::an_accept_stream_backs_off_without_descriptors",
        "lowers the process's own limit; crates/provider/tests/simulation.rs has its like",
    ),
    ("accept::a_cancelled_stream_leaves_nobody_in_a_shared_listener", "adopts the operating system's sockets"),
    ("endpoints::any_stream_socket_can_be_adopted", "adopts the operating system's sockets"),
    ("endpoints::what_no_driver_can_use_is_given_back", "offers the operating system's sockets"),
    ("storm::cancels_race_completions_of_receives", "the race is with a peer that waits in a thread of its own"),
    ("storm::cancels_race_completions_of_sends", "the race is with a peer that waits in a thread of its own"),
    ("stream::an_urgent_byte_holds_nothing_up", "simulated streams have no urgent bytes"),
    ("unix::a_dead_listeners_path_is_taken_over", "a simulated name goes with its listener: none is ever dead"),
    ("unix::a_path_in_use_is_refused", "the path is one of the file system"),
    ("unix::a_listener_from_outside_can_be_adopted", "adopts the operating system's sockets"),
    ("unix::descriptors_on_the_way_hold_nothing_up", "simulated streams carry no descriptors"),
];

/// The tests that are left out when the simulated network is rough, each with the reason.
const SKIPPED_ROUGH: [(&str, &str); 3] = [
    ("once::nothing_completes_or_moves_inside_submit", "looks at once whether bytes have arrived that take their time"),
    ("steady::no_allocation_per_operation", "queues grow whenever chance makes them longer than before"),
    ("order::single_receives_are_first_in_first_out", "every room is to be filled"),
];

/// The tests that are left out on simulated Unix sockets, each with the reason.
const SKIPPED_UNIX: [(&str, &str); 1] = [(
    "accept::a_connection_that_ended_in_the_backlog_does_no_harm",
    "tells connections apart by the peers' names, and simulated peers have none",
)];

/// The network of the test that runs (they run one at a time), and how long a turn takes in it.
static NETWORK: Mutex<Option<(SimNetwork, Duration)>> = Mutex::new(None);

/// Why this test is left out on this set-up, if it is.
pub fn reason(setup: &Setup, test: &str) -> Option<&'static str> {
    let plan = setup.plan?();
    let rough: &[_] = if plan == FaultPlan::default() { &[] } else { &SKIPPED_ROUGH };
    let unix: &[_] = if setup.is_unix { &SKIPPED_UNIX } else { &[] };
    let skipped = SKIPPED.iter().chain(rough).chain(unix).find(|(name, _)| *name == test);
    skipped.map(|(_, reason)| *reason)
}

/// A new network for the test that begins, or none.
pub fn enter(faults: Option<fn() -> FaultPlan>) {
    let network = faults.map(|faults| {
        let plan = faults();
        let is_instant = plan.latency_max.is_zero();
        let turn = if is_instant { Duration::ZERO } else { Duration::from_micros(100) };
        (SimNetwork::with_faults(1, plan), turn)
    });
    *NETWORK.lock().unwrap_or_else(PoisonError::into_inner) = network;
}

/// The network of the test that runs, if its back end is simulated.
pub fn network() -> Option<SimNetwork> {
    current().map(|(network, _)| network)
}

/// A look at the system takes some time, in which bytes travel.
pub fn pass_time() {
    if let Some((network, turn)) = current().filter(|(_, turn)| !turn.is_zero()) {
        network.advance(turn);
    }
}

/// A moment on the clock that the driver's deadlines follow: the network's, or the real one.
#[derive(Clone, Copy)]
pub struct Moment(Duration);

impl Moment {
    pub fn now() -> Self {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        Moment(network().map_or_else(|| START.elapsed(), |network| Duration::from_nanos(network.now_ns())))
    }

    pub fn elapsed(self) -> Duration {
        Moment::now().0.saturating_sub(self.0)
    }
}

/// Does nothing for some time.
pub fn idle(duration: Duration) {
    if let Some(network) = network() {
        return network.advance(duration);
    }
    let begun = Moment::now();
    while begun.elapsed() < duration {
        std::hint::spin_loop();
    }
}

fn current() -> Option<(SimNetwork, Duration)> {
    NETWORK.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

//! Every field of every configuration at the ends of its type, and all of them at once: a driver opens and works, or an error
//! names the setting.

//= LIMIT-1

use std::time::Duration;

use raon_provider::{
    BindOptions, CloseMode, Completions, Config, ConnectOptions, Driver, Error, ErrorKind, FaultRates, Faults, Kind,
    ListenOptions, Outcome, SetupTier,
};

use crate::bounds::is_first_of_its_kind;
use crate::child;
use crate::peer::{self, Peer};
use crate::platform::MemoryLimit;
use crate::random::Random;
use crate::rig::PATIENCE;
use crate::setup::Setup;

type Number = fn(&mut Config, u32);
type Time = fn(&mut Config, Duration);

/// All fields that are numbers.
const NUMBERS: [Number; 21] = [
    |config, value| config.sockets_max = value,
    |config, value| config.operations_max = value,
    |config, value| config.send_queue_bytes_max = value,
    |config, value| config.send_queue_count_max = value,
    |config, value| config.mailbox_capacity = value,
    |config, value| config.turn_bytes_max = value,
    |config, value| config.pool.buffer_bytes = value,
    |config, value| config.pool.receive_count = value,
    |config, value| config.pool.send_count = value,
    |config, value| config.pool.bulk_bytes = value,
    |config, value| config.pool.bulk_count = value,
    |config, value| config.uring.submission_entries = value,
    |config, value| config.uring.zero_copy_bytes_min = Some(value),
    |config, value| config.iocp.accepts_ahead = value,
    |config, value| config.rio.receive_bytes = value,
    |config, value| config.rio.send_bytes = value,
    |config, value| config.rio.sends_ahead = value,
    |config, value| config.rio.datagrams_ahead = value,
    |config, value| config.rio.completions_first = value,
    |config, value| config.rio.completions_max = value,
    |config, value| config.sim.seed = u64::from(value) << 32 | u64::from(value),
];

/// All fields that are times.
const TIMES: [Time; 3] = [
    |config, value| config.drain_deadline = value,
    |config, value| config.rio.poll = value,
    |config, value| config.sim.patience = value,
];

/// The ends of the type, and what is allowed for sizes and for counts.
const VALUES: [u32; 6] = [0, 1, 4096, 32_768, u32::MAX - 1, u32::MAX];

const MOMENTS: [Duration; 7] = [
    Duration::ZERO,
    Duration::from_nanos(1),
    Duration::from_secs(1),
    Duration::from_secs(18_446_744_074),
    Duration::from_secs(u64::MAX),
    Duration::new(u64::MAX, 999_999_998),
    Duration::MAX,
];

pub fn every_value_works_or_is_refused_by_name(setup: &Setup) {
    if !is_first_of_its_kind(setup) {
        return;
    }
    for set in NUMBERS {
        for value in VALUES {
            let mut config = setup.config();
            set(&mut config, value);
            try_out(setup, &config);
        }
    }
    for set in TIMES {
        for value in MOMENTS {
            let mut config = setup.config();
            set(&mut config, value);
            try_out(setup, &config);
        }
    }
}

pub fn any_combination_works_or_is_refused_by_name(setup: &Setup) {
    let mut random = Random::new(14);
    for _ in 0..24 {
        let mut config = setup.config();
        for _ in 0..1 + random.below(6) {
            NUMBERS[random.below(NUMBERS.len())](&mut config, VALUES[random.below(VALUES.len())]);
        }
        TIMES[random.below(TIMES.len())](&mut config, MOMENTS[random.below(MOMENTS.len())]);
        config.uring.tier_first = [SetupTier::Defer, SetupTier::Coop, SetupTier::Plain][random.below(3)];
        for switch in [
            &mut config.uring.multishot_accept,
            &mut config.uring.multishot_receive,
            &mut config.uring.send_address,
            &mut config.uring.buffer_ring,
            &mut config.uring.skip_success,
            &mut config.datagrams.segment,
            &mut config.datagrams.coalesce,
            &mut config.iocp.skip_on_success,
            &mut config.iocp.precise_waits,
        ] {
            *switch = random.below(2) == 0;
        }
        try_out(setup, &config);
    }
}

/// Faults as often and for as long as their type has it: at most nine of ten, so there is always a way out.
pub fn faults_of_any_rate_leave_a_way_out(setup: &Setup) {
    for rate in [0, 1, 999, 1000, u16::MAX - 1, u16::MAX] {
        let rates = FaultRates::default().with(|rates| {
            rates.send_short = rate;
            rates.send_refused = rate;
            rates.receive_short = rate;
            // Who is told twice that there are none, while the kernel has them all, waits for one to come back.
            rates.no_buffers = 0;
            rates.no_buffers_run_max = rate;
            rates.stream_ended = rate;
            rates.accept_fails = rate;
            rates.accept_without_descriptor = rate;
            rates.connect_refused = rate;
            rates.attach_refused = 0;
            rates.request_late = rate;
            rates.event_late = rate;
            rates.turns_late_max = rate.min(3);
            rates.events_exchanged = rate;
            rates.turn_interrupted = rate;
            rates.turn_fails = rate;
            rates.wake_lost = rate;
            rates.wake_doubled = rate;
        });
        try_out(setup, &setup.config().with(|config| config.faults = Some(Faults::new(u64::MAX, rates))));
    }
}

/// Opens a driver; what opens exchanges bytes and ends.
fn try_out(setup: &Setup, config: &Config) {
    match Driver::open(config) {
        Ok(driver) => exchange(setup, driver, config),
        Err(error) => assert_named(error, config),
    }
}

fn assert_named(error: Error, config: &Config) {
    let is_named = error.setting().is_some_and(|setting| error.to_string().contains(setting.name()));
    let is_typed = matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::OutOfMemory) && is_named;
    // Kernels before 5.12 count rings as locked memory.
    assert!(is_typed || error.kind() == ErrorKind::LockedMemoryLimit, "{error:?} of {config:?}");
}

/// One operation at a time, as the smallest table allows.
fn exchange(setup: &Setup, mut driver: Driver, config: &Config) {
    let mut completions = Completions::with_capacity(usize::MAX);
    let (near, mut far) = peer::connection(setup, 0, 0);
    let socket = driver.adopt(near).expect("a table has a place");
    driver.send(socket, b"raon".to_vec(), 1).expect("an empty queue takes one");
    let mut came = Vec::new();
    until(&mut driver, &mut completions, config, |outcome| {
        read(&mut far, &mut came);
        matches!(outcome, Some(Outcome::Sent(_)))
    });
    until(&mut driver, &mut completions, config, |_| {
        read(&mut far, &mut came);
        came == b"raon"
    });
    driver.receive(socket, 2).expect("the send has ended");
    assert_eq!(far.write_some(b"naor"), 4);
    let mut echoed = Vec::new();
    until(&mut driver, &mut completions, config, |outcome| {
        if let Some(Outcome::Received(bytes)) = outcome {
            echoed.extend_from_slice(bytes);
        }
        echoed == b"naor"
    });
    driver.close(socket, CloseMode::Graceful { deadline: Duration::MAX }, 3).expect("it is open");
    far.shut_write();
    until(&mut driver, &mut completions, config, |outcome| matches!(outcome, Some(Outcome::Closed)));
    driver.timer(Duration::MAX, 4).expect("nothing else is under way");
}

fn read(far: &mut Peer, came: &mut Vec<u8>) {
    let mut bytes = [0; 16];
    if let Ok(Some(length)) = far.read_some(&mut bytes) {
        came.extend_from_slice(&bytes[..length]);
    }
}

/// Polls until something has been seen; asks without an outcome, too.
fn until(
    driver: &mut Driver,
    completions: &mut Completions,
    config: &Config,
    mut is_seen: impl FnMut(Option<&Outcome>) -> bool,
) {
    let start = std::time::Instant::now();
    while !is_seen(None) {
        assert!(start.elapsed() < PATIENCE, "nothing comes with {config:?}");
        // Faults make a poll fail.
        let _ = driver.poll(Some(Duration::from_millis(1)), completions);
        let mut is_done = false;
        while let Some(completion) = completions.pop() {
            is_done |= is_seen(Some(&completion.outcome));
        }
        if is_done {
            return;
        }
    }
}

pub fn every_option_works_or_is_refused_by_name(setup: &Setup) {
    let mut driver = setup.open();
    let mut completions = Completions::with_capacity(16);
    // Nobody need listen there: it is the options that are looked at.
    let to = if setup.is_unix { setup.address() } else { raon_provider::Address::from(([127, 0, 0, 1], 9)) };
    let (sizes, address) = ([0, 1, 1472, 69_504, u32::MAX - 1, u32::MAX], setup.address());
    for backlog in sizes {
        let options = ListenOptions::default().with(|options| options.backlog = backlog);
        let listener = driver.listen(&address, &options).expect("any backlog will do");
        end(&mut driver, listener, &mut completions);
    }
    for after in MOMENTS.into_iter().chain([Duration::from_millis(1), Duration::from_secs(32_768)]) {
        for (keepalive, user_timeout) in [(Some(after), None), (None, Some(after))] {
            let listened = driver.listen(
                &address,
                &ListenOptions::default()
                    .with(|options| (options.keepalive, options.user_timeout) = (keepalive, user_timeout)),
            );
            let options = ConnectOptions::default()
                .with(|options| (options.keepalive, options.user_timeout) = (keepalive, user_timeout));
            let connected = driver.connect(&to, &options, 1).map(|operation| driver.cancel(operation));
            for refused in [listened.err(), connected.err()].into_iter().flatten() {
                assert!(
                    refused.setting().is_some() || refused.kind() == ErrorKind::NotSupported,
                    "{refused} ({after:?})"
                );
            }
            if let Ok(listener) = listened {
                end(&mut driver, listener, &mut completions);
            }
        }
    }
    for bytes in sizes {
        for options in [
            BindOptions::default().with(|options| options.datagram_bytes_max = bytes),
            BindOptions::default().with(|options| options.receive_queue_bytes = Some(bytes)),
            BindOptions::default().with(|options| options.send_queue_bytes = Some(bytes)),
        ] {
            match driver.bind(([127, 0, 0, 1], 0), &options) {
                Ok(socket) => end(&mut driver, socket, &mut completions),
                Err(error) => assert!(error.setting().is_some(), "{error} ({options:?})"),
            }
        }
    }
}

fn end(driver: &mut Driver, socket: raon_provider::SocketId, completions: &mut Completions) {
    driver.close(socket, CloseMode::Abort, 2).expect("it is open");
    until(driver, completions, &Config::default(), |outcome| matches!(outcome, Some(Outcome::Closed)));
}

pub fn without_memory_a_driver_is_refused_by_name(setup: &Setup) {
    if !is_first_of_its_kind(setup) {
        return;
    }
    // Arenas that are there already, and thresholds that rise, would give a driver memory that no limit counts.
    let plain = [("MALLOC_ARENA_MAX", "1"), ("MALLOC_MMAP_THRESHOLD_", "65536"), ("MALLOC_TRIM_THRESHOLD_", "65536")];
    child::run("memory", setup.name, &plain);
}

/// The child's part: with any limit above what the process has a driver opens, or says what it could not have.
pub fn run_out_of_memory(setup: Setup) {
    const MIB: u64 = 1 << 20;
    let large = |config: &mut Config| {
        (config.mailbox_capacity, config.uring.submission_entries) = (1 << 17, 32_768);
        (config.sockets_max, config.operations_max) = (1 << 17, 1 << 17);
        (config.pool.bulk_count, config.pool.send_count) = (1, 0);
    };
    let changes: [fn(&mut Config); 2] = [|_| {}, large];
    let (mut refused, mut opened) = (0, 0);
    for change in changes {
        let mut config = setup.config();
        change(&mut config);
        let absolute = [20, 64, 160].map(|limit| limit * MIB);
        // A ring tries its features out each time that it is opened, which takes a while.
        let (steps, step_bytes) = if setup.kind == Kind::IoUring { (12, 9 * MIB) } else { (36, 3 * MIB) };
        let beyond = (0..steps).map(|step| MemoryLimit::used_bytes() + step * step_bytes);
        for limit in absolute.into_iter().chain(beyond) {
            let result = {
                let _limit = MemoryLimit::set(limit);
                Driver::open(&config)
            };
            match result {
                Ok(_) => opened += 1,
                Err(error) => {
                    assert_named(error, &config);
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 3 && opened > 3, "{refused} were refused, {opened} opened");
}

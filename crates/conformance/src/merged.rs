//! Datagrams that travel together, where the kernel can: seen from outside each is still alone, as DGRAM-1 says. What is
//! shown to be merged is shown by the statistics.

//= DGRAM-1

use std::net::SocketAddr;
use std::thread;

use raon_provider::{
    BindOptions, Completions, DatagramConfig, ErrorKind, Feature, Form, Operation, Outcome, Payload, SocketId,
};

use crate::random::{Random, pattern};
use crate::rig::{ANY, Rig, refusal};
use crate::setup::Setup;

const KIB: u32 = 1024;

fn options(coalesce: bool) -> BindOptions {
    BindOptions::default()
        .with(|options| (options.coalesce, options.receive_queue_bytes) = (coalesce, Some(1024 * KIB)))
}

/// Sender and receiver, each with and without the kernel's help, as far as the set-up allows it.
fn combinations(setup: &Setup) -> [(DatagramConfig, bool); 4] {
    [(false, false), (false, true), (true, false), (true, true)].map(|(segment, coalesce)| {
        (
            setup.config().datagrams.with(|datagrams| datagrams.segment = segment && setup.config().datagrams.segment),
            coalesce,
        )
    })
}

/// For every combination a rig with a sender, and so many receivers whose streams have the tokens 10, 11, …
fn each_combination(setup: &Setup, receivers: u64, mut test: impl FnMut(&mut Rig, SocketId, &[SocketAddr])) {
    let all = combinations(setup).into_iter();
    // The smallest bulk buffers that may coalesce, and those that leave a ring room for what it writes in front.
    for ((datagrams, coalesce), bulk_bytes) in all.flat_map(|each| [65_536, 69_632].map(|bytes| (each, bytes))) {
        if !coalesce && bulk_bytes > 65_536 {
            continue;
        }
        // What the set-up promises to use is switched off on purpose.
        let setup = Setup { form: Form { uses: &[], ..setup.form }, datagrams: Some(datagrams), ..*setup };
        // Where nothing is merged each datagram holds a bulk buffer of its own.
        let mut rig = Rig::with(&setup, |config| (config.pool.bulk_count, config.pool.bulk_bytes) = (128, bulk_bytes));
        let (near, _) = rig.bind(&BindOptions::default());
        let addresses: Vec<_> = (10..10 + receivers)
            .map(|token| {
                let (far, address) = rig.bind(&options(coalesce));
                rig.receive(far, token);
                address
            })
            .collect();
        rig.turns(2);
        test(&mut rig, near, &addresses);
    }
}

/// Sends datagrams of these lengths in one turn, the n-th to the n-th address, in a circle; says what each is to get.
fn burst(rig: &mut Rig, near: SocketId, to: &[SocketAddr], lengths: &[usize], quiet: bool) -> Vec<Vec<Vec<u8>>> {
    let mut expected = vec![Vec::new(); to.len()];
    for (at, length) in lengths.iter().enumerate() {
        let bytes = pattern(at * 101, *length);
        expected[at % to.len()].push(bytes.clone());
        let payload = match at % 3 {
            0 => Payload::Vec(bytes),
            1 => Payload::from(bytes::Bytes::from(bytes)),
            _ => Payload::Gather(bytes.chunks(700).map(|piece| Payload::Vec(piece.to_vec())).collect()),
        };
        rig.submit(Operation::SendTo { socket: near, to: to[at % to.len()], payload, quiet }, 2);
    }
    expected
}

/// What has been expected comes, in whatever order, and each send comes back with its payload.
fn settle(rig: &mut Rig, expected: Vec<Vec<Vec<u8>>>, quiet: bool) {
    let mut sent: Vec<_> = expected.concat();
    for (mut expected, token) in expected.into_iter().zip(10..) {
        let mut came: Vec<_> = expected.iter().map(|_| rig.wait_datagram(token).0).collect();
        came.sort_unstable();
        expected.sort_unstable();
        assert!(came == expected, "each once, whole and alone");
    }
    if !quiet {
        let back = |rig: &mut Rig| match rig.wait(2).outcome {
            Outcome::Sent(payload) => payload.to_vec(),
            other => panic!("it was to be sent: {other:?}"),
        };
        let mut came: Vec<_> = sent.iter().map(|_| back(rig)).collect();
        came.sort_unstable();
        sent.sort_unstable();
        assert!(came == sent, "each payload once");
    }
    rig.turns(2);
    rig.assert_nothing_seen();
}

pub fn bursts_of_any_lengths_arrive_whole_and_alone(setup: &Setup) {
    let mut random = Random::new(7);
    let mut mixes =
        vec![vec![1200; 40], vec![1], vec![1; 90], vec![9; 64], vec![0; 5], [vec![500; 9], vec![20]].concat()];
    mixes.push([vec![300; 5], vec![0], vec![300; 5], vec![301, 300, 1, 1, 0, 0, 7]].concat());
    mixes.push(vec![3900; 20]);
    mixes.extend((0..8).map(|_| (0..30).map(|_| [100, 100, 100, 99, 1000][random.below(5)]).collect::<Vec<_>>()));
    each_combination(setup, 1, |rig, near, to| {
        for (at, lengths) in mixes.iter().enumerate() {
            let expected = burst(rig, near, to, lengths, at % 2 == 1);
            settle(rig, expected, at % 2 == 1);
        }
    });
}

pub fn bursts_to_several_addresses_go_where_they_should(setup: &Setup) {
    each_combination(setup, 3, |rig, near, to| {
        for quiet in [false, true] {
            let circle = burst(rig, near, to, &[200; 45], quiet);
            settle(rig, circle, quiet);
            // A run of each.
            let mut expected: Vec<_> =
                to.iter().map(|one| burst(rig, near, &[*one], &[150; 20], quiet).remove(0)).collect();
            expected[2].extend(burst(rig, near, &to[2..], &[150; 3], quiet).remove(0));
            settle(rig, expected, quiet);
        }
    });
}

pub fn one_that_is_too_long_takes_no_other_with_it(setup: &Setup) {
    each_combination(setup, 1, |rig, near, to| {
        let mut expected = burst(rig, near, to, &[400; 7], false);
        rig.send_to(near, to[0], vec![7; 70_000], 3);
        expected[0].extend(burst(rig, near, to, &[400; 7], false).remove(0));
        assert_eq!(rig.wait_failure(3).0, ErrorKind::MessageTooLong);
        settle(rig, expected, false);
    });
}

pub fn what_does_not_fit_is_truncated_one_by_one(setup: &Setup) {
    each_combination(setup, 1, |rig, near, to| {
        let (far, _) = rig.bind(&BindOptions::default());
        let address = rig.driver.local_address(far).unwrap().ip().unwrap();
        rig.receive(far, 5);
        for lengths in [[5000, 5000, 5000, 17], [6000, 10, 6000, 20]] {
            burst(rig, near, &[address], &lengths, true);
            let mut whole = 0;
            for _ in lengths {
                match rig.wait(5).outcome {
                    Outcome::Truncated { .. } => {}
                    Outcome::Datagram { bytes, .. } => whole += bytes.len(),
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(whole, lengths.into_iter().filter(|length| *length < 4096 - 128).sum());
        }
        // Two of these are the longest message that loopback leaves whole: it fits, a datagram of that length does not.
        let long = [32_740, 32_740];
        let limit = rig.driver.info().bulk_buffers.1 - 128;
        let bulk = options(true).with(|options| options.datagram_bytes_max = limit);
        let (far, address) = rig.bind(&bulk);
        rig.receive(far, 6);
        burst(rig, near, &[address], &long, true);
        for length in long {
            assert_eq!(rig.wait_datagram(6).0.len(), length);
        }
        let longest = 65_507.min(limit as usize);
        if longest < 65_507 {
            rig.send_to(near, address, vec![1; 65_507], ANY);
            assert!(matches!(rig.wait(6).outcome, Outcome::Truncated { .. }));
            rig.wait(ANY);
        }
        rig.send_to(near, address, vec![1; longest], ANY);
        assert_eq!(rig.wait_datagram(6).0.len(), longest);
        let last = burst(rig, near, to, &[10], true);
        rig.wait(ANY);
        settle(rig, last, true);
    });
}

pub fn the_kernel_merges_where_it_can(setup: &Setup) {
    each_combination(setup, 1, |rig, near, to| {
        let (segments, coalesces) =
            (rig.driver.info().uses(Feature::UdpSegment), rig.driver.info().uses(Feature::UdpGro));
        for quiet in [false, true] {
            for length in [1000, 33, 7] {
                let before = rig.driver.stats();
                let alone = burst(rig, near, to, &[length], quiet);
                settle(rig, alone, quiet);
                let after = rig.driver.stats();
                assert_eq!(after.merged_sent, before.merged_sent, "one is not many");
                let lengths = [&vec![length; 63][..], &[length - 1]].concat();
                let together = burst(rig, near, to, &lengths, quiet);
                settle(rig, together, quiet);
                let after = rig.driver.stats();
                assert_eq!(after.merged_sent - before.merged_sent, if segments { 64 } else { 0 });
                // Loopback hands a merged message on as it is.
                let merged = after.merged_received - before.merged_received;
                assert!(merged == 0 || coalesces && merged == 64, "{merged}");
            }
        }
        let is_sure = setup.config().datagrams.coalesce && segments && coalesces;
        assert!(is_sure || rig.driver.stats().merged_received == 0);
    });
    let mut rig = Rig::new(setup);
    let (near, _) = rig.bind(&BindOptions::default());
    let (far, address) = rig.bind(&options(true));
    rig.receive(far, 10);
    let together = burst(&mut rig, near, &[address], &[100; 30], true);
    settle(&mut rig, together, true);
    let is_merged = rig.driver.info().uses(Feature::UdpSegment) && rig.driver.info().uses(Feature::UdpGro);
    assert_eq!(rig.driver.stats().merged_received, if is_merged { 30 } else { 0 });
}

/// The kernel refuses broadcasts to who has not asked for them, and in the other run a datagram to port 0: no reason to send
/// those to others one by one.
pub fn a_bad_destination_ends_no_merging(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (near, _) = rig.bind(&BindOptions::default());
    let (far, address) = rig.bind(&options(false));
    rig.receive(far, 10);
    let merged = if rig.driver.info().uses(Feature::UdpSegment) { 30 } else { 0 };
    for bad in ["127.0.0.1:0", "255.255.255.255:9"].map(|text| text.parse().unwrap()) {
        for quiet in [true, false, true] {
            for _ in 0..20 {
                let payload = vec![7; 100].into();
                rig.submit(Operation::SendTo { socket: near, to: bad, payload, quiet }, 2);
            }
            // In a simulated network nobody minds a broadcast.
            let is_sent = setup.is_simulated() && bad.port() != 0;
            for _ in 0..if is_sent && quiet { 0 } else { 20 } {
                match rig.wait(2).outcome {
                    Outcome::Failed { error, .. } => assert!(REFUSALS.contains(&error.kind()), "{error:?}"),
                    other => assert!(is_sent && matches!(other, Outcome::Sent(_)), "{other:?}"),
                }
            }
            let before = rig.driver.stats().merged_sent;
            let together = burst(&mut rig, near, &[address], &[100; 30], quiet);
            settle(&mut rig, together, quiet);
            assert_eq!(rig.driver.stats().merged_sent - before, merged, "after {bad}");
        }
    }
    assert_eq!(rig.driver.info().uses(Feature::UdpSegment), merged > 0);
}

/// What systems say of a broadcast that nobody has asked for, and of port 0.
const REFUSALS: [ErrorKind; 4] =
    [ErrorKind::InvalidInput, ErrorKind::PermissionDenied, ErrorKind::AddressNotAvailable, ErrorKind::Unreachable];

pub fn parts_are_buffers_of_their_own(setup: &Setup) {
    let mut random = Random::new(3);
    each_combination(setup, 1, |rig, near, to| {
        let (back, back_address) = rig.bind(&BindOptions::default());
        rig.receive(back, 4);
        let mut kept = Vec::new();
        for round in 0..12u8 {
            for at in 0..4 {
                rig.send_to(near, to[0], vec![round * 4 + at; 90 + usize::from(round)], ANY);
            }
            for _ in 0..4 {
                let Outcome::Datagram { mut bytes, .. } = rig.wait(10).outcome else { panic!("a datagram was due") };
                let number = bytes[0];
                assert!(bytes.iter().all(|byte| *byte == number) && bytes.len() == 90 + usize::from(round));
                // Writing to its last byte reaches no neighbour.
                let length = bytes.len();
                bytes.set_len(length + 7);
                bytes.fill(number);
                bytes.set_len(length);
                kept.push((number, bytes));
            }
            assert!(kept.iter().all(|(number, bytes)| bytes.iter().all(|byte| byte == number)), "nobody wrote to it");
            while kept.len() > 7 {
                let (number, bytes) = kept.swap_remove(random.below(kept.len()));
                match random.below(3) {
                    0 => drop(bytes),
                    1 => thread::spawn(move || drop(bytes)).join().unwrap(),
                    _ => {
                        let expected = bytes.to_vec();
                        rig.send_to(near, back_address, bytes, ANY);
                        assert_eq!((rig.wait_datagram(4).0, expected[0]), (expected.clone(), number));
                    }
                }
            }
        }
        drop(kept);
        rig.settle();
        rig.seen().for_each(drop);
        assert_eq!(rig.driver.pool_state().lent, 0);
    });
}

pub fn parts_outlive_their_driver(setup: &Setup) {
    let mut driver = setup.open();
    let near = driver.bind(([127, 0, 0, 1], 0), &BindOptions::default()).unwrap();
    let far = driver.bind(([127, 0, 0, 1], 0), &options(true)).unwrap();
    let address = driver.local_address(far).unwrap().ip().unwrap();
    driver.receive(far, 1).unwrap();
    for at in 0..10u8 {
        driver.send_to_quiet(near, address, vec![at; 64], 0).unwrap();
    }
    let mut completions = Completions::with_capacity(64);
    let mut parts = Vec::new();
    while parts.len() < 10 {
        driver.poll(None, &mut completions).unwrap();
        parts.extend(completions.drain().filter_map(|one| match one.outcome {
            Outcome::Datagram { bytes, .. } => Some(bytes),
            _ => None,
        }));
    }
    let there = parts.split_off(5);
    let thread = thread::spawn(move || there.iter().all(|bytes| bytes[..] == [bytes[0]; 64]));
    drop(driver);
    assert!(parts.iter().all(|bytes| bytes[..] == [bytes[0]; 64]) && thread.join().unwrap());
}

pub fn a_paused_stream_keeps_what_came_together(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (near, _) = rig.bind(&BindOptions::default());
    let (far, address) = rig.bind(&options(true));
    rig.receive(far, 10);
    for round in 0..10 {
        rig.turns(round % 3);
        let mut expected = burst(&mut rig, near, &[address], &[40; 5], true);
        rig.turns(round % 2);
        rig.driver.pause(far).unwrap();
        expected[0].extend(burst(&mut rig, near, &[address], &[50; 6], true).remove(0));
        let before = rig.seen().filter(|one| one.token == 10).map(|one| match one.outcome {
            Outcome::Datagram { bytes, .. } => bytes.to_vec(),
            other => panic!("{other:?}"),
        });
        let before: Vec<_> = before.collect();
        rig.settle();
        rig.assert_nothing_seen_of(10);
        rig.driver.resume(far).unwrap();
        expected[0].retain(|bytes| !before.contains(bytes));
        settle(&mut rig, expected, true);
    }
}

pub fn a_cancelled_stream_loses_none_of_them(setup: &Setup) {
    let mut rig = Rig::new(setup);
    let (near, _) = rig.bind(&BindOptions::default());
    let (far, address) = rig.bind(&options(true));
    for round in 0..20 {
        let stream = rig.receive(far, 10);
        rig.turns(round % 3);
        let mut expected = burst(&mut rig, near, &[address], &[round + 1; 8], true).remove(0);
        rig.turns(round % 2);
        rig.cancel(stream);
        loop {
            match rig.wait(10).outcome {
                Outcome::Datagram { bytes, .. } => {
                    let place = expected.iter().position(|one| one[..] == bytes[..]).expect("each once");
                    expected.remove(place);
                }
                Outcome::Failed { error, .. } => break assert_eq!(error.kind(), ErrorKind::Cancelled),
                other => panic!("{other:?}"),
            }
        }
        // The others are still with the system: the next stream gets them.
        let next = rig.receive(far, 10);
        settle(&mut rig, vec![expected], true);
        rig.cancel(next);
        assert_eq!(rig.wait_failure(10).0, ErrorKind::Cancelled);
    }
}

//= STARVE-1
pub fn held_parts_exhaust_the_pool_and_it_recovers(setup: &Setup) {
    let mut rig = Rig::with(setup, |config| config.pool.bulk_count = 2);
    let (near, _) = rig.bind(&BindOptions::default());
    let (far, address) = rig.bind(&options(true));
    rig.receive(far, 10);
    let mut expected = Vec::new();
    for length in 1..=8 {
        expected.extend(burst(&mut rig, near, &[address], &[length; 6], true).remove(0));
        rig.settle();
    }
    let mut rounds = 0;
    while !expected.is_empty() {
        // All that can come has come, and is held at once.
        let first = rig.wait(10);
        rig.settle();
        let held: Vec<_> = std::iter::once(first).chain(rig.seen()).collect();
        for one in &held {
            let Outcome::Datagram { bytes, .. } = &one.outcome else { panic!("a datagram was due: {one:?}") };
            let place = expected.iter().position(|one| one[..] == bytes[..]).expect("each once");
            expected.remove(place);
        }
        rounds += 1;
    }
    assert!(rounds > 2, "two buffers do not hold eight messages");
}

pub fn coalescing_needs_large_buffers(setup: &Setup) {
    let mut rig = Rig::with(setup, |config| config.pool.bulk_bytes = 65_536 - 4096);
    assert_eq!(refusal(rig.driver.bind(([127, 0, 0, 1], 0), &options(true))), ErrorKind::InvalidInput);
    drop(rig);
    // With room beside the longest message a ring receives it by a request that serves many.
    rig = Rig::with(setup, |config| config.pool.bulk_bytes = 65_536 + 4096);
    let (near, _) = rig.bind(&BindOptions::default());
    let (far, address) = rig.bind(&options(true));
    rig.receive(far, 10);
    for lengths in [vec![1472; 44], vec![32_740, 32_740], vec![65_507], vec![0, 1, 1, 1]] {
        let expected = burst(&mut rig, near, &[address], &lengths, true);
        settle(&mut rig, expected, true);
    }
}

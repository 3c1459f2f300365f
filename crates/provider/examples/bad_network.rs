//! The same line through the same bad network, twice: the same happens.

use std::time::Duration;

use raon_provider::{Completions, Config, Driver, FaultPlan, ListenOptions, Outcome, SimNetwork};

/// Sends a line through a network that is slow, loses segments and cuts every transfer into pieces; returns when it had
/// come back, in virtual time, and all that happened.
fn echo(seed: u64) -> Result<(Duration, String), raon_provider::Error> {
    let plan =
        FaultPlan::rough().with(|plan| (plan.latency_max, plan.lost_segments) = (Duration::from_millis(80), 0.2));
    let network = SimNetwork::with_faults(seed, plan);
    network.record();
    let mut server = Driver::open(&Config::simulated(&network))?;
    let listener = server.listen(([10, 0, 0, 1], 9000), &ListenOptions::default())?;
    server.accept(listener, 0)?;
    let mut client = network.connect(([10, 0, 0, 1], 9000));

    let line = b"a line that comes in pieces";
    let (mut sent, mut echoed, mut piece) = (0, Vec::new(), [0; 64]);
    let mut completions = Completions::with_capacity(64);
    while echoed.len() < line.len() {
        sent += client.write(&line[sent..])?;
        while let Some(length @ 1..) = client.read(&mut piece)? {
            echoed.extend_from_slice(&piece[..length]);
        }
        // Waits no longer than until the next thing happens; no time passes outside.
        server.poll(Some(Duration::from_millis(1)), &mut completions)?;
        for completion in completions.drain() {
            match completion.outcome {
                Outcome::Accepted(socket) => drop(server.adopt(socket).map(|socket| server.receive(socket, 1))?),
                Outcome::Received(bytes) => drop(server.send_quiet(completion.socket, bytes, 2)?),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(echoed, line);
    Ok((Duration::from_nanos(network.now_ns()), network.trace()))
}

fn main() -> Result<(), raon_provider::Error> {
    let (took, trace) = echo(7)?;
    println!("{} events in {took:?}", trace.lines().count());
    assert_eq!(echo(7)?.1, trace, "the same seed, the same run");
    assert_ne!(echo(8)?.1, trace);
    Ok(())
}

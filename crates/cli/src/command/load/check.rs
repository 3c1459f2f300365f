//! Checks of a load's arguments: what cannot be done is told before anything is begun.

use super::{Arguments, ArrivalsName, datagrams, talk};
use crate::failure::Failure;
use crate::{platform, plot};

/// Descriptors beside those of connections.
const DESCRIPTORS_OWN: u64 = 32;
const DESCRIPTORS_PER_WORKER: u64 = 8;

pub(super) fn check(arguments: &Arguments) -> Result<(), Failure> {
    if let Some(contradiction) = contradiction(arguments) {
        return Err(Failure::usage(contradiction));
    }
    if let Some(contradiction) = datagrams::contradiction(arguments) {
        return Err(Failure::usage(contradiction));
    }
    if let Some(contradiction) = talk::contradiction(arguments) {
        return Err(Failure::usage(contradiction));
    }
    check_connections(arguments)?;
    arguments.plot.as_deref().map_or(Ok(()), plot::check_file)
}

/// Arguments that do not go together, and what to do about it.
fn contradiction(arguments: &Arguments) -> Option<&'static str> {
    let open = &arguments.open;
    let cases = [
        (
            open.sweep && open.rate.is_some(),
            "--rate is one rate and --sweep is several: drop one of them, or name the rates with --rates 1000,2000",
        ),
        (
            open.rates.is_some() && !open.sweep,
            "--rates are those of a sweep: add --sweep, or name one rate with --rate",
        ),
        (
            open.is_open() && arguments.pipeline.is_some(),
            "--pipeline belongs to the closed loop, where answers make messages due; with --rate or --sweep a schedule \
             does: drop --pipeline, or limit what is in flight with --in-flight-max",
        ),
        (
            open.is_open() && arguments.connections == 0,
            "--rate and --sweep need connections that exchange messages: set --connections above 0",
        ),
        (
            !open.is_open() && (open.arrivals.is_some() || open.in_flight_max.is_some() || open.seed.is_some()),
            "--arrivals, --seed and --in-flight-max belong to the open loop: add --rate N or --sweep",
        ),
        (
            open.seed.is_some() && open.arrivals != Some(ArrivalsName::Poisson),
            "--seed chooses random times and even ones have none: add --arrivals poisson, or drop --seed",
        ),
        (
            arguments.plot.is_some() && arguments.connections == 0,
            "without messages there is no latency to draw: set --connections above 0, or drop --plot",
        ),
    ];
    cases.into_iter().find_map(|(is_so, text)| is_so.then_some(text))
}

fn check_connections(arguments: &Arguments) -> Result<(), Failure> {
    let (connections, workers) =
        (u64::from(arguments.connections) + u64::from(arguments.idle), arguments.threads.workers());
    if connections == 0 {
        return Err(Failure::usage("no connections to open: set --connections or --idle above 0"));
    }
    const PER_WORKER_MAX: u64 = 262_144;
    if connections.div_ceil(workers.into()) > PER_WORKER_MAX {
        let text = format!("{connections} connections are too many for {workers} workers: raise --workers");
        return Err(Failure::usage(text));
    }
    let needed = connections + DESCRIPTORS_OWN + DESCRIPTORS_PER_WORKER * u64::from(workers);
    let allowed = platform::raise_descriptor_limit();
    if needed > allowed {
        let most = allowed.saturating_sub(needed - connections);
        return Err(Failure::new(format!(
            "{connections} connections need {needed} descriptors, {allowed} are allowed: raise the hard limit \
             (`ulimit -Hn`), or ask for at most {most}"
        )));
    }
    Ok(())
}

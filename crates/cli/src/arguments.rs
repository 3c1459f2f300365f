//! Arguments that several verbs share, and the forms in which durations, rates and CPUs are written.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use raon_provider::{Address, Backend, Config, Error, Kind, RioFunctions};

use crate::failure::Failure;
use crate::platform;
use crate::stop::Stop;

/// Which back end, on how many threads, on which CPUs.
#[derive(Args, Clone, Debug)]
pub(crate) struct Threads {
    /// auto, or one that `raon info` lists; auto takes the best that works here, RAON_BACKEND may name another [default: auto]
    #[arg(long, value_name = "NAME", value_parser = backend)]
    pub(crate) backend: Option<Backend>,
    /// Threads, each with a driver of its own [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) workers: Option<u16>,
    /// CPUs for the threads in turn, such as 0,1 or 0-3
    #[arg(long, value_name = "CPUS")]
    pub(crate) pin: Option<Cpus>,
    /// Stops when the standard input ends, as that of a process does which is started with a pipe: by the one that started
    /// it, or with it
    #[arg(long, hide = true)]
    pub(crate) with_parent: bool,
    /// Of whoever runs the command line, not of its user
    #[arg(skip)]
    pub(crate) rio: Option<RioFunctions>,
}

impl Threads {
    /// What tells these threads to stop. Once per process.
    pub(crate) fn stop(&self) -> Result<Arc<Stop>, Failure> {
        let stop = Stop::install()?;
        if self.with_parent {
            stop.follow(std::io::stdin());
        }
        Ok(stop)
    }

    /// The back end, `auto` unless another one is named.
    pub(crate) fn backend(&self) -> Backend {
        self.backend.unwrap_or(Backend::Auto)
    }

    /// What every driver of theirs starts from.
    pub(crate) fn config(&self, backend: Backend) -> Config {
        config(backend, self.rio)
    }

    /// How many there are, one unless it is said.
    pub(crate) fn workers(&self) -> u16 {
        self.workers.unwrap_or(1)
    }

    /// The CPU for a worker, if threads are to be pinned.
    pub(crate) fn cpu(&self, worker: usize) -> Option<usize> {
        self.pin.as_ref().map(|cpus| cpus.0[worker % cpus.0.len()])
    }
}

/// Failure to open a driver, naming who asked for that back end.
pub(crate) fn backend_failure(backend: Backend, error: Error) -> Failure {
    match (backend, platform::backend_variable()) {
        (Backend::Auto, Some(name)) => Failure::of(format!("RAON_BACKEND={name}"), error),
        (Backend::Auto, None) => Failure::of("no back end works here", error),
        (Backend::Named(kind), _) => Failure::of(format!("back end {kind}"), error),
    }
}

/// What every driver starts from: this back end, with these functions if it is registered I/O.
pub(crate) fn config(backend: Backend, rio: Option<RioFunctions>) -> Config {
    Config::default().with(|config| {
        config.backend = backend;
        config.rio.functions = rio;
    })
}

/// A list of CPU numbers, not empty.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cpus(pub(crate) Vec<usize>);

impl FromStr for Cpus {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "write CPUs as 0,1 or 0-3";
        const NUMBER_MAX: usize = 4095;
        let number = |text: &str| text.parse::<usize>().ok().filter(|cpu| *cpu <= NUMBER_MAX).ok_or(WANTED);
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(WANTED);
            }
            cpus.extend(first..=last);
        }
        Ok(Cpus(cpus))
    }
}

/// Versions from one to another, both included.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Versions(pub(crate) RangeInclusive<u32>);

impl FromStr for Versions {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "write versions as 3 or 3-5, the lower one first";
        let number = |text: &str| text.parse::<u32>().map_err(|_| WANTED);
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (number(first)?, number(last)?);
        if first > last { Err(WANTED) } else { Ok(Versions(first..=last)) }
    }
}

/// A back end that reaches other processes.
fn backend(text: &str) -> Result<Backend, String> {
    match text.parse() {
        Ok(Backend::Named(Kind::Sim)) => {
            Err("sim is for tests inside one process: use auto, or one that `raon info` lists".to_owned())
        }
        parsed => parsed.map_err(|error| error.to_string()),
    }
}

/// Where to listen or to connect: ADDRESS:PORT, unix:/PATH or unix:@NAME.
pub(crate) fn address(text: &str) -> Result<Address, &'static str> {
    /// What a Unix address holds, less the zero behind a path or before a name, see unix(7).
    const NAME_BYTES_MAX: usize = 107;
    match text.strip_prefix("unix:") {
        Some("" | "@") => Err("a name is missing: write unix:/PATH, or unix:@NAME for one that is in no file system"),
        Some(name) if name.len() > NAME_BYTES_MAX => Err("a Unix address has at most 107 bytes: choose a shorter one"),
        _ => {
            let address = text
                .parse()
                .map_err(|_| "write ADDRESS:PORT, such as 127.0.0.1:9000 or [::1]:9000, unix:/PATH or unix:@NAME")?;
            platform::check_address(&address).map(|()| address)
        }
    }
}

/// A time such as 10s, 500ms or 2m.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds_per_unit = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("write a time with its unit: 500ms, 10s or 2m".into()),
    };
    let seconds = number.parse::<f64>().map_err(|_| "write a time as 500ms, 10s or 2m")? * seconds_per_unit;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    if duration.is_zero() || duration > Duration::from_secs(7 * 24 * 3600) {
        return Err("a time between 1ms and 168h is needed".into());
    }
    Ok(duration)
}

/// How long an answer is waited for: a duration of at most a minute.
pub(crate) fn timeout(text: &str) -> Result<Duration, String> {
    const MAX: Duration = Duration::from_secs(60);
    let timeout = duration(text)?;
    if timeout > MAX { Err("a time of at most 60s is needed".into()) } else { Ok(timeout) }
}

/// A rate such as 1000/s, or 1000 for short.
pub(crate) fn rate(text: &str) -> Result<u32, &'static str> {
    const PER_SECOND_MAX: u32 = 10_000_000;
    let number = text.strip_suffix("/s").unwrap_or(text);
    let rate = number.parse().ok().filter(|rate| (1..=PER_SECOND_MAX).contains(rate));
    rate.ok_or("write a rate per second between 1 and 10000000, such as 1000/s")
}

/// Rates in ascending order, not empty, each once.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rates(pub(crate) Vec<u32>);

impl FromStr for Rates {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut rates = text.split(',').map(rate).collect::<Result<Vec<_>, _>>()?;
        rates.sort_unstable();
        rates.dedup();
        Ok(Rates(rates))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        for wrong in ["10", "s", "", "0s", "-1s", "1e9s", "10 s", "9999999999999999999999m", "1.2.3s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_are_of_several_families() {
        for right in ["127.0.0.1:9000", "[::1]:0"] {
            assert_eq!(address(right).unwrap().to_string(), right);
        }
        let long = format!("unix:/{}", "x".repeat(107));
        for wrong in ["here", "localhost:9000", "127.0.0.1", "unix:", "unix:@", &long] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn cpus_are_lists_and_ranges() {
        assert_eq!("0,1".parse(), Ok(Cpus(vec![0, 1])));
        assert_eq!("0-2,5".parse(), Ok(Cpus(vec![0, 1, 2, 5])));
        for wrong in ["", "a", "1-", "2-1", "0,,1", "99999"] {
            assert!(wrong.parse::<Cpus>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn versions_are_one_or_a_range() {
        assert_eq!(("3".parse(), "3-5".parse()), (Ok(Versions(3..=3)), Ok(Versions(3..=5))));
        for wrong in ["", "-", "5-3", "a", "3-", "4294967296"] {
            assert!(wrong.parse::<Versions>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_are_per_second() {
        assert_eq!((rate("1000/s"), rate("5")), (Ok(1000), Ok(5)));
        for wrong in ["0", "5/m", "-1", "1k", "10000001", ""] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_are_sorted() {
        assert_eq!("2000,1000/s,2000".parse(), Ok(Rates(vec![1000, 2000])));
        for wrong in ["", "1000,", "1000 2000", "1000,0"] {
            assert!(wrong.parse::<Rates>().is_err(), "{wrong}");
        }
    }
}

//! Figures of a load over UDP beside those of any load. The names in JSON are stable.

use std::time::Duration;

use raon_provider::ErrorKind;
use serde::Serialize;

use super::Arguments;
use super::figures::because;
use crate::failure::Failure;
use crate::generator::{DATAGRAM_BYTES_MIN, Tally};
use crate::{datagrams, report};

/// What became of the datagrams. Each one that was sent was answered in time, or is lost.
#[derive(Serialize)]
pub(super) struct Datagrams {
    transport: &'static str,
    timeout_s: f64,
    sent: u64,
    answered: u64,
    lost: u64,
    lost_percent: f64,
    late: u64,
    duplicates: u64,
    corrupt: u64,
    undelivered: u64,
}

impl Datagrams {
    /// `None` for connections.
    pub(super) fn of(arguments: &Arguments, tally: &Tally) -> Option<Self> {
        let figures = &tally.datagrams;
        let percent = 100.0 * figures.lost as f64 / figures.sent.max(1) as f64;
        Some(Datagrams {
            transport: "udp",
            timeout_s: arguments.datagram_timeout()?.as_secs_f64(),
            sent: figures.sent,
            answered: figures.sent - figures.lost,
            lost: figures.lost,
            // To three digits behind the point.
            lost_percent: (percent * 1000.0).round() / 1000.0,
            late: figures.late,
            duplicates: figures.duplicates,
            corrupt: figures.corrupt,
            undelivered: figures.undelivered,
        })
    }

    /// How many were lost, and which share of those sent.
    pub(super) fn lost(&self) -> String {
        match self.lost {
            0 => "0".into(),
            lost => format!("{} ({} %)", report::grouped(lost), self.lost_percent),
        }
    }

    /// For people.
    pub(super) fn rows(&self, tally: &Tally) -> Vec<(&'static str, String)> {
        let undelivered = tally.datagrams.first_undelivered.map(|error| error.to_string());
        vec![
            ("sent", report::grouped(self.sent)),
            ("answered", report::grouped(self.answered)),
            ("lost", self.lost()),
            ("late answers", report::grouped(self.late)),
            ("duplicate answers", report::grouped(self.duplicates)),
            ("corrupt answers", report::grouped(self.corrupt)),
            ("reported undelivered", because(self.undelivered, undelivered.as_ref())),
        ]
    }
}

/// What datagrams have no use for, or what only they have, and what to do about it.
pub(super) fn contradiction(arguments: &Arguments) -> Option<String> {
    if !arguments.udp {
        let text = "--timeout is how long an answer to a datagram is waited for: add --udp, or drop it";
        return arguments.timeout.map(|_| text.into());
    }
    let size = arguments.size_bytes() as usize;
    if arguments.connect.ip().is_none() {
        Some(datagrams::no_names(&arguments.connect, "--connect"))
    } else if size < DATAGRAM_BYTES_MIN {
        Some(format!(
            "with --udp a message has at least {DATAGRAM_BYTES_MIN} bytes: 4 for the socket's number and 8 for its own, by \
             which its answer is known, and 4 to see that nothing was mixed up: raise --size"
        ))
    } else if arguments.size_bytes() > datagrams::BYTES_MAX {
        let most = datagrams::BYTES_MAX;
        Some(format!(
            "a datagram of this load has at most {most} bytes, the network's own limit is little more: lower --size"
        ))
    } else if arguments.idle > 0 {
        Some("an idle UDP socket is nothing to a server: drop --idle, or drop --udp to weigh idle connections".into())
    } else if arguments.connect_rate.is_some() {
        Some("UDP sockets do not connect, so there is nothing to slow down: drop --connect-rate".into())
    } else {
        None
    }
}

/// Why there was not a single answer, if there was none.
pub(super) fn silence(arguments: &Arguments, tally: &Tally) -> Option<Failure> {
    if !arguments.udp || tally.datagrams.sent == 0 || tally.messages > 0 {
        return None;
    }
    let is_refused =
        tally.datagrams.first_undelivered.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused);
    Some(match tally.datagrams.late {
        0 if is_refused => nobody(arguments),
        0 => no_answer(arguments),
        late => Failure::new(format!(
            "no datagram was answered in time, and {} later: raise --timeout, or lower what is in flight",
            report::grouped(late)
        )),
    })
}

/// The network says that nobody listens.
pub(super) fn nobody(arguments: &Arguments) -> Failure {
    let address = &arguments.connect;
    Failure::new(format!(
        "nothing listens at {address} for datagrams: start the server (`raon serve echo --udp --listen {address}`) or \
         check the port"
    ))
}

/// Nobody says anything.
pub(super) fn no_answer(arguments: &Arguments) -> Failure {
    let address = &arguments.connect;
    Failure::new(format!(
        "no datagram was answered by {address}: check the address and the firewalls on the way, and that an echo server is \
         there (`raon serve echo --udp`)"
    ))
}

/// Short ones come back, long ones do not.
pub(super) fn too_long(arguments: &Arguments) -> Failure {
    let (address, size) = (&arguments.connect, arguments.size_bytes());
    Failure::new(format!(
        "{address} answers short datagrams but none of {size} bytes: start the server with --datagram-max {size}, or lower \
         --size"
    ))
}

impl Arguments {
    /// `None` for connections.
    pub(super) fn datagram_timeout(&self) -> Option<Duration> {
        const DEFAULT: Duration = Duration::from_secs(1);
        self.udp.then(|| self.timeout.unwrap_or(DEFAULT))
    }

    /// What messages go through, in words.
    pub(super) fn sockets(&self, count: u64) -> String {
        report::plural(count, if self.udp { "UDP socket" } else { "connection" })
    }
}

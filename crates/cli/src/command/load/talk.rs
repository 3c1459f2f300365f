//! Figures of loads of pings and of chats beside those of any load. The names in JSON are stable.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use serde::Serialize;

use super::{Arguments, ServiceName};
use crate::generator::{LINE_BYTES_MAX, LINE_BYTES_MIN, Language, PING_BYTES, Tally};
use crate::report;

/// Members per room, if the number of rooms is not said.
const MEMBERS_DEFAULT: u32 = 16;
/// Numbers of next lines that are kept in all: one for each two people in a room.
const PAIRS_MAX: u64 = 1 << 26;

/// What became of answers or lines.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Talk {
    Pingpong {
        service: &'static str,
        client_version: u32,
        wrong_answers: u64,
    },
    Chat {
        service: &'static str,
        rooms: u32,
        deliveries: u64,
        lost: u64,
        duplicates: u64,
        misordered: u64,
        corrupt: u64,
    },
}

impl Talk {
    /// `None` for echo.
    pub(super) fn of(arguments: &Arguments, tally: &Tally) -> Option<Self> {
        let talk = &tally.talk;
        match arguments.service {
            ServiceName::Echo => None,
            ServiceName::Pingpong => Some(Talk::Pingpong {
                service: "pingpong",
                client_version: arguments.client_version(),
                wrong_answers: talk.wrong_answers,
            }),
            ServiceName::Chat => Some(Talk::Chat {
                service: "chat",
                rooms: arguments.rooms(),
                deliveries: talk.deliveries,
                lost: talk.lost,
                duplicates: talk.duplicates,
                misordered: talk.misordered,
                corrupt: talk.corrupt,
            }),
        }
    }

    /// For people.
    pub(super) fn rows(&self) -> Vec<(&'static str, String)> {
        let rows: &[(&'static str, u64)] = match self {
            Talk::Pingpong { wrong_answers, .. } => &[("wrong answers", *wrong_answers)],
            Talk::Chat { deliveries, lost, duplicates, misordered, corrupt, .. } => &[
                ("lines delivered", *deliveries),
                ("lost deliveries", *lost),
                ("duplicates", *duplicates),
                ("out of order", *misordered),
                ("corrupt lines", *corrupt),
            ],
        };
        rows.iter().map(|(name, count)| (*name, report::grouped(*count))).collect()
    }
}

impl Arguments {
    pub(super) fn client_version(&self) -> u32 {
        self.client_version.unwrap_or(1)
    }

    fn rooms(&self) -> u32 {
        let workers = u32::from(self.threads.workers());
        self.rooms.unwrap_or(self.connections.div_ceil(MEMBERS_DEFAULT).max(workers))
    }

    /// Bytes of each message that is sent.
    pub(super) fn size_bytes(&self) -> u32 {
        const DEFAULT: u32 = 64;
        match self.service {
            ServiceName::Pingpong => PING_BYTES as u32,
            _ => self.size.unwrap_or(DEFAULT),
        }
    }

    /// What the generator says, for each worker.
    pub(super) fn languages(&self) -> impl Fn(u32) -> Language {
        let session_ids: Arc<Mutex<HashSet<u64>>> = Arc::default();
        let (service, client_version, rooms) = (self.service, self.client_version(), self.rooms());
        let workers = u32::from(self.threads.workers());
        move |worker| match service {
            ServiceName::Echo => Language::Echo,
            ServiceName::Pingpong => Language::Pingpong { client_version, session_ids: session_ids.clone() },
            ServiceName::Chat => Language::Chat { rooms: rooms / workers + u32::from(worker < rooms % workers) },
        }
    }

    /// So many connections and what they exchange, in words.
    pub(super) fn exchange(&self, connections: u64) -> String {
        let (sockets, bytes) = (self.sockets(connections), report::plural(self.size_bytes().into(), "byte"));
        match self.service {
            ServiceName::Echo => format!("{sockets} of {bytes}"),
            ServiceName::Pingpong => format!("{sockets} with pings of {bytes}"),
            ServiceName::Chat => {
                let rooms = report::plural(self.rooms().into(), "room");
                format!("{sockets} in {rooms} with lines of {bytes}")
            }
        }
    }
}

/// Arguments that a service has no use for, or cannot do, and what to do about it.
pub(super) fn contradiction(arguments: &Arguments) -> Option<String> {
    let (is_echo, is_chat) = (arguments.service == ServiceName::Echo, arguments.service == ServiceName::Chat);
    let is_pingpong = arguments.service == ServiceName::Pingpong;
    let cases = [
        (!is_echo && arguments.udp, "--udp is for echo: pings and lines go over connections, so drop it"),
        (!is_chat && arguments.rooms.is_some(), "--rooms are those of a chat: drop it, or load chat"),
        (
            !is_pingpong && arguments.client_version.is_some(),
            "--client-version belongs to the protocol of pingpong: drop it, or load pingpong",
        ),
        (is_pingpong && arguments.size.is_some(), "pings have 16 bytes and their answers 24: drop --size"),
    ];
    let contradiction = cases.into_iter().find_map(|(is_so, text)| is_so.then(|| text.to_owned()));
    contradiction.or_else(|| if is_chat { contradiction_of_chat(arguments) } else { None })
}

fn contradiction_of_chat(arguments: &Arguments) -> Option<String> {
    let (rooms, workers) = (arguments.rooms(), u32::from(arguments.threads.workers()));
    let (least, most) = (LINE_BYTES_MIN, LINE_BYTES_MAX);
    if !(least..=most).contains(&(arguments.size_bytes() as usize)) {
        return Some(format!(
            "a line has {least} to {most} bytes, its end included: its writer and number have to fit, and the server takes \
             no longer ones; change --size"
        ));
    }
    if rooms > arguments.connections && arguments.rooms.is_some() {
        return Some("--rooms are more than those who would be in them: raise --connections, or lower --rooms".into());
    }
    if rooms < workers {
        return Some(format!(
            "a room belongs to one worker, so {workers} workers need as many rooms: raise --rooms, or lower --workers"
        ));
    }
    let members = u64::from(arguments.connections).div_ceil(u64::from(rooms));
    let is_too_much = members * members * u64::from(rooms) > PAIRS_MAX;
    is_too_much
        .then(|| format!("rooms of {members} are too large to keep books about each two people in them: raise --rooms"))
}

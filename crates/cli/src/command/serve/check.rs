//! Arguments of `raon serve` that do not go together, and what to do about it.

use super::{Arguments, ServiceName};
use crate::datagrams;
use crate::failure::Failure;

pub(super) fn check(arguments: &Arguments) -> Result<(), Failure> {
    let is_engine = !matches!(arguments.service, ServiceName::Echo | ServiceName::Sink);
    let contradiction = if is_engine { of_engine(arguments) } else { of_bytes(arguments) };
    contradiction.map_or(Ok(()), |text| Err(Failure::usage(text)))
}

fn of_bytes(arguments: &Arguments) -> Option<String> {
    let engine = &arguments.engine;
    let of_engine = [
        ("--config", engine.config.is_some()),
        ("--profile", engine.profile.is_some()),
        ("--grace", engine.grace.is_some()),
        ("--clients-max", engine.clients_max.is_some()),
        ("--client-versions", engine.client_versions.is_some()),
    ];
    if let Some((name, _)) = of_engine.into_iter().find(|(_, is_given)| *is_given) {
        return Some(format!("{name} is for servers on the engine: drop it, or serve pingpong or chat"));
    }
    if arguments.udp && arguments.listen().ip().is_none() {
        return Some(datagrams::no_names(&arguments.listen(), "--listen"));
    }
    let is_lost = !arguments.udp && arguments.datagram_max.is_some();
    is_lost.then(|| "--datagram-max is about datagrams: add --udp, or drop it".into())
}

fn of_engine(arguments: &Arguments) -> Option<String> {
    if arguments.udp || arguments.datagram_max.is_some() {
        return Some("--udp and --datagram-max are for echo and sink: sessions are connections, so drop them".into());
    }
    let engine = &arguments.engine;
    let is_lost = matches!(arguments.service, ServiceName::Chat)
        && (engine.clients_max.is_some() || engine.client_versions.is_some());
    is_lost.then(|| {
        "--clients-max and --client-versions belong to the protocol of pingpong: drop them; RAON_SESSIONS_MAX limits a chat"
            .into()
    })
}

//! Judge of a run: what must hold at its end.

use raon::{CloseReason, ServerHandle};

use crate::client::Client;
use crate::game::{Account, Game, Log};
use crate::play::Weather;

/// Panics with everything that does not hold.
pub(crate) fn judge(
    weather: Weather,
    handle: &ServerHandle<Game>,
    log: &Log,
    clients: &[Client],
    memory_bytes_max: u64,
) {
    let mut faults = log.faults.clone();
    faults.extend(clients.iter().flat_map(|client| client.faults.iter().cloned()));
    for (id, account) in &log.sessions {
        if (account.opens, account.closes.len()) != (1, 1) {
            faults.push(format!("{id}: {} opens, closes {:?}", account.opens, account.closes));
        }
    }
    judge_counts(handle, log, memory_bytes_max, &mut faults);
    for client in clients {
        let Some(account) = client.id.and_then(|id| log.sessions.get(&id)) else { continue };
        judge_client(weather, client, account, &mut faults);
    }
    let stats = handle.stats();
    let is_calm = clients.iter().all(|client| client.has_ended && !client.is_broken);
    if is_calm && weather != Weather::Stormy && stats.messages_lost + stats.messages_dropped + stats.forced == 0 {
        let delivered: u64 = clients.iter().map(|client| client.received).sum();
        if delivered != stats.messages_queued {
            faults.push(format!("{delivered} of {} queued messages were delivered", stats.messages_queued));
        }
    }
    assert!(faults.is_empty(), "{weather:?}:\n{}", faults.join("\n"));
}

fn judge_counts(handle: &ServerHandle<Game>, log: &Log, memory_bytes_max: u64, faults: &mut Vec<String>) {
    let stats = handle.stats();
    let shards = handle.shard_stats().len();
    let mut check = |what: &str, is: u64, expected: u64| {
        if is != expected {
            faults.push(format!("{what}: {is}, expected {expected}"));
        }
    };
    check("sessions that are left", handle.sessions() as u64 + stats.sessions, 0);
    check("memory that came back", handle.memory_bytes_left(), memory_bytes_max);
    check("memory that is still charged", stats.memory_bytes, 0);
    check("opens", stats.opened, log.sessions.len() as u64);
    check(
        "messages received",
        stats.messages_received,
        log.sessions.values().map(|each| u64::from(each.received)).sum(),
    );
    check("shutdowns told", u64::from(log.shutdowns), shards as u64);
    check("homes of one key", u64::from(log.homes.len() > 1), 0);
    // What was posted and taken came, unless its shard had stopped by then.
    let (posted, came): (u64, u64) = (log.posted.values().sum(), log.came.values().sum());
    check("posts that came though nobody posted them", came.saturating_sub(posted), 0);
}

/// What a client has read and sent, against what the application has heard and said.
fn judge_client(weather: Weather, client: &Client, account: &Account, faults: &mut Vec<String>) {
    let reason = account.closes.first().copied();
    if account.received > client.sent {
        faults.push(format!("{client_id:?}: more was heard than said", client_id = client.id));
    }
    if client.replies > account.replies {
        faults.push(format!("{:?}: {} replies came, {} were queued", client.id, client.replies, account.replies));
    }
    let is_whole = client.has_ended && !client.is_broken;
    let is_abrupt = reason.is_some_and(CloseReason::is_abrupt);
    // The server's orderly end comes after everything that it had queued.
    if is_whole && !is_abrupt && weather != Weather::Stormy && client.replies != account.replies {
        faults.push(format!(
            "{:?}: {} of {} replies came before the orderly end ({reason:?})",
            client.id, client.replies, account.replies
        ));
    }
    // Who says all and ends its side in order is heard whole.
    if reason == Some(CloseReason::PeerClosed) && !client.is_broken && account.received != client.sent {
        faults.push(format!("{:?}: {} of {} messages were heard", client.id, account.received, client.sent));
    }
}

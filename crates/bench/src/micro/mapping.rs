//! From a completion to its session: the table that Raon uses, and the ways that were proposed for it before.

use std::collections::HashMap;
use std::sync::Mutex;

use super::{Visit, keep};

/// The provider's own table, which is not part of its interface.
#[allow(dead_code, unreachable_pub, reason = "a file of another crate, of which only what is measured is used")]
#[path = "../../../provider/src/base/slots.rs"]
mod slots;

const SESSIONS: u32 = 10_000;

struct Session {
    generation: u32,
    messages: u64,
}

pub(super) fn each(visit: Visit<'_>) {
    cycle(visit);
    by_slots(visit);
    by_packed_id(visit);
    by_pooled_context(visit);
    by_locked_map(visit);
}

fn session(generation: u32) -> Session {
    Session { generation, messages: 0 }
}

/// Scattered, as completions are, and the same for all.
fn order() -> impl Iterator<Item = u32> {
    (0..SESSIONS).map(|n| n.wrapping_mul(7919) % SESSIONS)
}

fn cycle(visit: Visit<'_>) {
    let mut table = slots::Slots::new(1024, 1);
    visit("slots: insert and remove", 1024, &mut || {
        for n in 0..1024u64 {
            let key = table.insert(n).expect("there is room");
            keep(table.remove(key.index()));
        }
    });
}

fn by_slots(visit: Visit<'_>) {
    let mut table = slots::Slots::new(SESSIONS as usize, 1);
    let keys: Vec<_> = (0..SESSIONS).map(|_| table.insert(session(1)).ok().expect("there is room")).collect();
    let keys: Vec<_> = order().map(|n| keys[n as usize]).collect();
    visit("completion to session: slots with generations (Raon)", SESSIONS.into(), &mut || {
        for key in &keys {
            if let Some(index) = table.resolve(*key) {
                table[index].messages += 1;
            }
        }
    });
}

/// Index and generation packed into 64 bits, checked by hand.
fn by_packed_id(visit: Visit<'_>) {
    let mut table: Vec<Session> = (0..SESSIONS).map(|_| session(1)).collect();
    let ids: Vec<u64> = order().map(|n| 1 << 32 | u64::from(n)).collect();
    visit("completion to session: packed id", SESSIONS.into(), &mut || {
        for id in &ids {
            let session = &mut table[(*id & 0xFFFF_FFFF) as usize];
            if u64::from(session.generation) == *id >> 32 {
                session.messages += 1;
            }
        }
    });
}

/// A context from a pool for each request, released when it completes.
fn by_pooled_context(visit: Visit<'_>) {
    struct Context {
        session: u32,
        generation: u32,
    }
    let mut table: Vec<Session> = (0..SESSIONS).map(|_| session(1)).collect();
    let mut pool: Vec<Box<Context>> = (0..SESSIONS).map(|_| Box::new(Context { session: 0, generation: 0 })).collect();
    let order: Vec<u32> = order().collect();
    let mut in_flight = Vec::with_capacity(64);
    visit("completion to session: pooled context per request", SESSIONS.into(), &mut || {
        for chunk in order.chunks(64) {
            for session in chunk {
                let mut context = pool.pop().expect("there is one per session");
                (context.session, context.generation) = (*session, 1);
                in_flight.push(context);
            }
            for context in in_flight.drain(..) {
                let session = &mut table[context.session as usize];
                if session.generation == context.generation {
                    session.messages += 1;
                }
                pool.push(context);
            }
        }
    });
}

fn by_locked_map(visit: Visit<'_>) {
    let table: HashMap<u64, Session> = (0..SESSIONS).map(|n| (u64::from(n), session(1))).collect();
    let table = Mutex::new(table);
    let ids: Vec<u64> = order().map(u64::from).collect();
    visit("completion to session: map behind a mutex", SESSIONS.into(), &mut || {
        for id in &ids {
            if let Some(session) = table.lock().expect("nobody panics").get_mut(id) {
                session.messages += 1;
            }
        }
    });
}

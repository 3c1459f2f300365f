//! Bytes between spans and the network, as much at a time as the plan lets through.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::base::attempt::Attempt;
use crate::contract::{CompletionMode, EventResult};
use crate::memory::{Span, SpanList, Target};
use crate::socket::sim::datagram::DATAGRAM_BYTES_MAX;
use crate::socket::sim::fault::escapable;
use crate::socket::sim::world::{Happening, World};

/// Whether a completion that could come now is kept back by the plan, and until when.
pub(super) fn is_late(late_ns: &mut Option<u64>, number: u32, world: &mut World) -> bool {
    let plan = world.plan;
    match *late_ns {
        Some(until_ns) if world.now_ns < until_ns => return true,
        Some(_) => *late_ns = None,
        None if world.random.chance(plan.late_completions) => {
            let held_ns = world.random.between_ns(Duration::from_nanos(1), plan.late_max);
            let until_ns = world.now_ns.saturating_add(held_ns);
            world.schedule(until_ns, Happening::Look(number));
            *late_ns = Some(until_ns);
            return true;
        }
        None => {}
    }
    false
}

/// What is left of a length at a rate of short ones.
fn shorten(rate: f64, length: usize, least: usize, world: &mut World) -> usize {
    if length > least && world.random.chance(rate) { least + world.random.below(length - least) } else { length }
}

pub(super) fn receive(world: &mut World, number: u32, bytes: &mut [u8]) -> Attempt<usize> {
    let room = shorten(world.plan.short_reads, bytes.len(), 1, world);
    world.read(number, &mut bytes[..room])
}

pub(super) fn send(world: &mut World, number: u32, span: Span) -> Attempt<usize> {
    span.with(|bytes| {
        let length = shorten(escapable(world.plan.short_writes), bytes.len(), 0, world);
        if length == 0 { Attempt::Done(0) } else { world.write(number, &bytes[..length]) }
    })
}

/// Piece by piece, until one does not go out whole. What has gone out counts; an error behind it comes with the next send.
pub(super) fn send_list(world: &mut World, number: u32, spans: &[Span]) -> Attempt<usize> {
    let mut done = 0;
    for span in spans.iter().filter(|span| span.length > 0) {
        match send(world, number, *span) {
            Attempt::Done(length) if length == span.length => done += length,
            // What follows would not be the next bytes of the stream.
            Attempt::Done(length) => return Attempt::Done(done + length),
            other if done == 0 => return other,
            _ => break,
        }
        if !world.is_writable(number) {
            break;
        }
    }
    Attempt::Done(done)
}

/// A short write is a socket without room: who waits for room does not see it.
pub(super) fn send_datagram(
    world: &mut World,
    number: u32,
    list: SpanList,
    target: Target,
    mode: CompletionMode,
) -> EventResult {
    if mode == CompletionMode::OnError && list.bytes > 0 && world.random.chance(world.plan.short_writes) {
        return EventResult::Sent(0);
    }
    // Of one that is too long no more is copied than shows that it is.
    let mut bytes = Vec::with_capacity(list.bytes.min(DATAGRAM_BYTES_MAX + 1));
    let mut copy = |piece: &[u8]| {
        let room = (DATAGRAM_BYTES_MAX + 1).saturating_sub(bytes.len());
        bytes.extend_from_slice(&piece[..piece.len().min(room)]);
    };
    list.with(|spans| spans.iter().for_each(|span| span.with(&mut copy)));
    world.send_datagram(number, target.address(), bytes).map_or_else(EventResult::Failed, EventResult::Sent)
}

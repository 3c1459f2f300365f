//! Merging of datagrams: which leave as one message, and when that is given up; the same rule for every back end that can merge.
//!
//! 1. [`run`] says how many of the next datagrams belong together. One message carries them, with their common length
//!    beside it, and the system takes them apart again: each arrives alone (DGRAM-1).
//! 2. A message that fails was not sent at all. [`Merging::refused`] tells whether the merging may be to blame; then all its
//!    datagrams go again, each alone. Else the error is about an earlier datagram: the first one is told, as it would have
//!    been, and the others go again.
//! 3. A datagram that fails alone, too, is to blame itself, and nothing is concluded from it. One that goes alone shows that
//!    its message failed for being merged ([`Merging::alone`]): what that socket sends to that address is not merged for a
//!    while, or only when it is shorter. No other socket or address is concerned: whether the kernel can merge at all was
//!    found out when the driver was opened, and no peer can change it.

use std::net::SocketAddr;

use crate::base::error::{Error, Feature};
use crate::contract::{Action, CompletionMode, FeatureState, Request, RequestKey};
use crate::memory::Target;
use crate::platform::MergeRefusal;

/// Bytes of one merged message at most, sent or received: the longest IP packet, rounded up. A receive buffer of this size
/// cuts none of them short.
pub(crate) const MERGED_BYTES_MAX: usize = 65_536;
/// Bytes in one message to send: the longest datagram of IPv4.
const RUN_BYTES_MAX: usize = 65_507;
/// Datagrams in one message to send: UDP_MAX_SEGMENTS of the kernels that have the fewest.
pub(crate) const RUN_MAX: usize = 64;
/// Spans of one message: IOV_MAX.
pub(crate) const RUN_SPANS_MAX: usize = crate::contract::GATHER_PIECES_MAX;

/// Routes on which something was refused that are remembered. A refusal that is forgotten costs one system call.
const REFUSED_MAX: usize = 16;
/// Runs of a refused route that go alone before it is tried again: a route may change, and the length that it takes.
const RUNS_ALONE: u32 = 1024;

/// What decides whether a datagram goes together with the one before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) socket: u32,
    pub(crate) bytes: usize,
    pub(crate) spans: usize,
    pub(crate) target: Target,
    pub(crate) mode: CompletionMode,
}

impl Segment {
    fn route(&self) -> Route {
        (self.socket, self.target.address())
    }

    fn belongs_to(&self, first: &Segment) -> bool {
        self.socket == first.socket
            && self.mode == first.mode
            && (1..=first.bytes).contains(&self.bytes)
            && self.target.is_same(first.target)
    }

    /// Of a request to send a datagram.
    pub(crate) fn of(request: &Request) -> Option<Self> {
        let Action::SendDatagram(list, target, mode) = request.action else { return None };
        Some(Segment { socket: request.socket, bytes: list.bytes, spans: list.count, target, mode })
    }
}

/// Number of the next ones that form one message: of one socket, to one address, with one mode, and of one length, except
/// that the last may be shorter. At least 1; it ends before the first `None`. `segment_bytes_max` says up to which length
/// datagrams like the first one may be merged.
fn run(next: impl IntoIterator<Item = Option<Segment>>, segment_bytes_max: impl FnOnce(&Segment) -> usize) -> usize {
    let mut next = next.into_iter();
    let Some(first) = next.next().flatten() else { return 1 };
    let Some(second) = next.next().flatten() else { return 1 };
    if first.bytes == 0 || !second.belongs_to(&first) || first.bytes > segment_bytes_max(&first) {
        return 1;
    }
    let (mut count, mut bytes, mut spans) = (1, first.bytes, first.spans);
    for segment in std::iter::once(second).chain(next.map_while(|segment| segment)).take(RUN_MAX - 1) {
        (bytes, spans) = (bytes + segment.bytes, spans + segment.spans);
        if !segment.belongs_to(&first) || bytes > RUN_BYTES_MAX || spans > RUN_SPANS_MAX {
            break;
        }
        count += 1;
        if segment.bytes < first.bytes {
            break;
        }
    }
    count
}

/// Whether merged messages can be sent, and received; if not, why.
pub(crate) type MergingProbe = (Result<(), &'static str>, Result<(), &'static str>);

/// Where datagrams come from and go to.
type Route = (u32, Option<SocketAddr>);

/// A route that has refused merged messages.
#[derive(Clone, Copy, Debug)]
struct Refused {
    route: Route,
    /// Segments of this length are merged there, longer ones are not.
    segment_bytes_max: usize,
    /// Runs that still go alone before it is forgotten.
    runs_left: u32,
}

/// A message that was refused, until its first datagram has gone alone or not.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    key: RequestKey,
    route: Route,
    segment_bytes_max: usize,
}

/// Whether a back end merges, and on which routes it does not.
#[derive(Clone, Debug)]
pub(crate) struct Merging {
    in_use: bool,
    /// Why not.
    reason: &'static str,
    refused: Vec<Refused>,
    /// The latest one; a second one is found out about when it is refused again.
    suspect: Option<Suspect>,
    /// The place in `refused` that is given away next.
    oldest: usize,
}

impl Merging {
    pub(crate) fn new(is_wanted: bool, possible: Result<(), &'static str>) -> Self {
        let reason = reason(is_wanted, possible);
        let refused = Vec::with_capacity(REFUSED_MAX);
        Merging { in_use: reason.is_empty(), reason, refused, suspect: None, oldest: 0 }
    }

    /// How many of the next ones form one message, at least 1; it ends before the first `None`.
    pub(crate) fn run(&mut self, next: impl IntoIterator<Item = Option<Segment>>) -> usize {
        if self.in_use { run(next, |first| self.segment_bytes_max(first)) } else { 1 }
    }

    /// True if the datagrams of a message that failed are to go again, each alone; `first` and `key` are those of the first
    /// one. False: the error is the first one's.
    pub(crate) fn refused(&mut self, refusal: MergeRefusal, key: RequestKey, first: &Segment) -> bool {
        let segment_bytes_max = match refusal {
            MergeRefusal::None => return false,
            MergeRefusal::Once => return true,
            MergeRefusal::Length => first.bytes - 1,
            MergeRefusal::Always => 0,
        };
        self.suspect = Some(Suspect { key, route: first.route(), segment_bytes_max });
        true
    }

    /// A datagram has ended that was in no merged message.
    //= DGRAM-1
    pub(crate) fn alone(&mut self, key: RequestKey, has_gone: bool) {
        let Some(suspect) = self.suspect.take_if(|suspect| suspect.key == key) else { return };
        if has_gone {
            self.remember(suspect);
        }
    }

    fn remember(&mut self, Suspect { route, segment_bytes_max, .. }: Suspect) {
        let refused = Refused { route, segment_bytes_max, runs_left: RUNS_ALONE };
        match self.refused.iter().position(|known| known.route == route) {
            // A shorter one than before, or it would not have been merged.
            Some(at) => self.refused[at] = refused,
            None if self.refused.len() < REFUSED_MAX => self.refused.push(refused),
            None => {
                self.refused[self.oldest] = refused;
                self.oldest = (self.oldest + 1) % REFUSED_MAX;
            }
        }
    }

    fn segment_bytes_max(&mut self, first: &Segment) -> usize {
        if self.refused.is_empty() {
            return RUN_BYTES_MAX;
        }
        let route = first.route();
        let Some(at) = self.refused.iter().position(|known| known.route == route) else { return RUN_BYTES_MAX };
        let known = &mut self.refused[at];
        let is_refused = first.bytes > known.segment_bytes_max;
        known.runs_left -= u32::from(is_refused);
        if known.runs_left == 0 {
            self.refused.swap_remove(at);
            return 0;
        }
        known.segment_bytes_max
    }

    pub(crate) fn state(&self) -> FeatureState {
        FeatureState { feature: Feature::UdpSegment, in_use: self.in_use, reason: self.reason }
    }
}

/// State of the receiving side.
pub(crate) fn coalescing_state(is_wanted: bool, possible: Result<(), &'static str>) -> FeatureState {
    let reason = reason(is_wanted, possible);
    FeatureState { feature: Feature::UdpGro, in_use: reason.is_empty(), reason }
}

/// Why a feature is not in use; empty if it is.
fn reason(is_wanted: bool, possible: Result<(), &'static str>) -> &'static str {
    if is_wanted { possible.err().unwrap_or_default() } else { "switched off in the configuration" }
}

/// How many of these datagrams a message that took so many bytes has carried whole, by their lengths.
pub(crate) fn carried(lengths: impl IntoIterator<Item = usize>, mut bytes: usize) -> usize {
    let whole = |length: &usize| {
        let is_whole = *length <= bytes;
        bytes = bytes.saturating_sub(*length);
        is_whole
    };
    lengths.into_iter().take_while(whole).count()
}

/// What the error of a message says about merging.
pub(crate) fn refusal(error: Error) -> MergeRefusal {
    crate::platform::merge_refusal(error.os_code())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use socket2::SockAddr;

    use super::*;

    fn address(text: &str) -> SockAddr {
        text.parse::<SocketAddr>().unwrap().into()
    }

    fn segments<'a>(target: &SockAddr, lengths: impl IntoIterator<Item = &'a usize>) -> Vec<Option<Segment>> {
        let target = Target::of(Some(target));
        let mode = CompletionMode::Always;
        let of = |bytes: &usize| Some(Segment { socket: 1, bytes: *bytes, spans: 1, target, mode });
        lengths.into_iter().map(of).collect()
    }

    fn any(_: &Segment) -> usize {
        RUN_BYTES_MAX
    }

    fn run_of(lengths: &[usize]) -> usize {
        run(segments(&address("127.0.0.1:9"), lengths), any)
    }

    #[test]
    fn equal_lengths_and_a_shorter_last_one() {
        assert_eq!(run_of(&[100]), 1);
        assert_eq!(run_of(&[100, 100, 100]), 3);
        assert_eq!(run_of(&[100, 100, 7, 100]), 3);
        assert_eq!(run_of(&[100, 100, 101, 100]), 2);
        assert_eq!(run_of(&[100, 7, 7]), 2);
    }

    #[test]
    fn empty_ones_and_what_is_no_datagram_stand_alone() {
        assert_eq!(run_of(&[0, 0]), 1);
        assert_eq!(run_of(&[5, 5, 0, 5]), 2);
        let mut mixed = segments(&address("127.0.0.1:9"), &[5, 5, 5]);
        mixed[1] = None;
        assert_eq!(run(mixed, any), 1);
        assert_eq!((run([None], any), run([], any)), (1, 1));
    }

    #[test]
    fn a_message_has_its_bounds() {
        assert_eq!(run_of(&[10; 200]), RUN_MAX);
        assert_eq!(run_of(&[30_000; 4]), 2);
        assert_eq!(run_of(&[70_000, 70_000]), 1);
        assert_eq!(run_of(&[1472; 60]), RUN_BYTES_MAX / 1472);
        assert_eq!(run(segments(&address("127.0.0.1:9"), &[1472; 9]), |_| 1471), 1);
        let mut pieces = segments(&address("127.0.0.1:9"), &[2000; 9]);
        pieces.iter_mut().flatten().for_each(|segment| segment.spans = 400);
        assert_eq!(run(pieces, any), 2);
    }

    #[test]
    fn only_what_goes_the_same_way_goes_together() {
        let (one, two) = (address("127.0.0.1:9"), address("127.0.0.1:10"));
        let same = address("127.0.0.1:9");
        let mixed = [segments(&one, &[5]), segments(&same, &[5]), segments(&two, &[5])].concat();
        assert_eq!(run(mixed, any), 2);
        let mut connected = segments(&one, &[5, 5]);
        connected[1].as_mut().unwrap().target = Target::of(None);
        assert_eq!(run(connected.clone(), any), 1);
        connected[0].as_mut().unwrap().target = Target::of(None);
        assert_eq!(run(connected, any), 2);
        let mut others = segments(&one, &[5, 5]);
        others[1].as_mut().unwrap().socket = 2;
        assert_eq!(run(others, any), 1);
        let mut lazy = segments(&one, &[5, 5]);
        lazy[1].as_mut().unwrap().mode = CompletionMode::OnError;
        assert_eq!(run(lazy, any), 1);
    }

    fn key(index: u32) -> RequestKey {
        RequestKey::new(index, 1)
    }

    const LACKING: &str = "this kernel lacks it";

    /// How many of ten datagrams of this length go together to that address.
    fn together(merging: &mut Merging, target: &SockAddr, length: usize) -> usize {
        merging.run(segments(target, &[length; 10]))
    }

    /// A message to that address is refused; then its first datagram goes alone, or does not.
    fn refuse(merging: &mut Merging, target: &SockAddr, length: usize, refusal: MergeRefusal, has_gone: bool) -> bool {
        let first = segments(target, &[length])[0].unwrap();
        let is_retried = merging.refused(refusal, key(3), &first);
        merging.alone(key(4), true);
        merging.alone(key(3), has_gone);
        is_retried
    }

    #[test]
    fn a_datagram_that_fails_alone_is_to_blame_itself() {
        let (bad, good) = (address("127.0.0.1:9"), address("127.0.0.1:10"));
        let mut merging = Merging::new(true, Ok(()));
        for refusal in [MergeRefusal::Once, MergeRefusal::Length, MergeRefusal::Always] {
            assert!(refuse(&mut merging, &bad, 100, refusal, false));
            assert_eq!([&bad, &good].map(|to| together(&mut merging, to, 100)), [10, 10], "{refusal:?}");
        }
        assert!(!refuse(&mut merging, &bad, 100, MergeRefusal::None, true));
        assert_eq!(together(&mut merging, &bad, 100), 10);
    }

    #[test]
    fn a_route_that_refuses_is_left_alone_for_a_while() {
        let (bad, good) = (address("127.0.0.1:9"), address("127.0.0.1:10"));
        let mut merging = Merging::new(true, Ok(()));
        assert!(refuse(&mut merging, &bad, 100, MergeRefusal::Length, true));
        assert_eq!([99, 100, 200].map(|length| together(&mut merging, &bad, length)), [10, 1, 1]);
        assert_eq!(together(&mut merging, &good, 200), 10, "others are not concerned");
        assert!(refuse(&mut merging, &bad, 50, MergeRefusal::Always, true));
        assert_eq!(together(&mut merging, &bad, 1), 1);
        assert!(merging.state().in_use, "the kernel has it all the same");
        let runs = (0..2 * RUNS_ALONE).position(|_| together(&mut merging, &bad, 100) == 10);
        assert_eq!(runs, Some(RUNS_ALONE as usize - 1), "then it is tried again");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut merging = Merging::new(true, Ok(()));
        let bad: Vec<_> = (1..=100).map(|port| SockAddr::from(SocketAddr::from(([127, 0, 0, 1], port)))).collect();
        for to in &bad {
            refuse(&mut merging, to, 100, MergeRefusal::Always, true);
        }
        assert_eq!(merging.refused.len(), REFUSED_MAX);
        assert_eq!([&bad[0], &bad[99]].map(|to| together(&mut merging, to, 100)), [10, 1]);
    }

    #[test]
    fn what_is_not_wanted_or_not_there_is_not_used() {
        for (is_wanted, possible) in [(false, Ok(())), (true, Err(LACKING)), (false, Err(LACKING))] {
            let mut merging = Merging::new(is_wanted, possible);
            assert!(!merging.state().in_use && !merging.state().reason.is_empty());
            assert_eq!(together(&mut merging, &address("127.0.0.1:9"), 100), 1);
        }
        assert_eq!(Merging::new(true, Err(LACKING)).state().reason, LACKING);
        assert_eq!(coalescing_state(true, Err(LACKING)).reason, LACKING);
        assert!(coalescing_state(true, Ok(())).in_use && !coalescing_state(false, Ok(())).in_use);
    }

    #[test]
    fn only_whole_datagrams_are_credited() {
        assert_eq!(carried([5, 5, 3], 13), 3);
        assert_eq!(carried([5, 5, 3], 12), 2);
        assert_eq!(carried([5, 5, 3], 4), 0);
    }
}

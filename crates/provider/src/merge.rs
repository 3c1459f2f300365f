//! Which datagrams leave as one message, and when that is given up: the same rule for every back end that can merge.
//!
//! 1. [`run`] says how many of the next datagrams belong together. One message carries them, with their common length
//!    beside it, and the system takes them apart again: each arrives alone (DGRAM-1).
//! 2. A message that fails was not sent at all. [`Merging::refused`] tells whether the merging is to blame; then all its
//!    datagrams go again, each alone. Else the error is about the network or an earlier datagram: the first one is told,
//!    as it would have been, and the others go again.
//! 3. What was refused once is not tried again and again: segments of that length go alone from then on, or all do.

use crate::error::{Error, Feature};
use crate::memory::Target;
use crate::provider::{Action, FeatureState, Notice, Request};

/// Bytes of one merged message at most, sent or received: the longest IP packet, rounded up. A receive buffer of this size
/// cuts none of them short.
pub(crate) const MERGED_BYTES_MAX: usize = 65_536;
/// Bytes in one message to send: the longest datagram of IPv4.
const RUN_BYTES_MAX: usize = 65_507;
/// Datagrams in one message to send: UDP_MAX_SEGMENTS of the kernels that have the fewest.
pub(crate) const RUN_MAX: usize = 64;
/// Spans of one message: IOV_MAX.
pub(crate) const RUN_SPANS_MAX: usize = crate::operation::GATHER_PIECES_MAX;

/// What decides whether a datagram goes together with the one before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) socket: u32,
    pub(crate) bytes: usize,
    pub(crate) spans: usize,
    pub(crate) target: Target,
    pub(crate) notice: Notice,
}

impl Segment {
    /// Of a request to send a datagram.
    pub(crate) fn of(request: &Request) -> Option<Self> {
        let Action::SendDatagram(list, target, notice) = request.action else { return None };
        Some(Segment { socket: request.socket, bytes: list.bytes, spans: list.count, target, notice })
    }
}

/// How many of the next ones form one message: of one socket, to one address, with one notice, and of one length, except
/// that the last may be shorter. At least 1; it ends before the first `None`.
pub(crate) fn run(next: impl IntoIterator<Item = Option<Segment>>, segment_bytes_max: usize) -> usize {
    let mut next = next.into_iter();
    let Some(first) = next.next().flatten() else { return 1 };
    if first.bytes == 0 || first.bytes > segment_bytes_max {
        return 1;
    }
    let (mut count, mut bytes, mut spans) = (1, first.bytes, first.spans);
    for segment in next.map_while(|segment| segment).take(RUN_MAX - 1) {
        let belongs = segment.socket == first.socket
            && segment.notice == first.notice
            && (1..=first.bytes).contains(&segment.bytes)
            && segment.target.is_same(first.target);
        (bytes, spans) = (bytes + segment.bytes, spans + segment.spans);
        if !belongs || bytes > RUN_BYTES_MAX || spans > RUN_SPANS_MAX {
            break;
        }
        count += 1;
        if segment.bytes < first.bytes {
            break;
        }
    }
    count
}

/// Whether, and up to which length, a back end merges.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Merging {
    /// 0: not at all.
    pub(crate) segment_bytes_max: usize,
    /// Why not.
    reason: &'static str,
}

impl Merging {
    pub(crate) fn new(is_wanted: bool, is_possible: bool) -> Self {
        let segment_bytes_max = if is_wanted && is_possible { RUN_BYTES_MAX } else { 0 };
        Merging { segment_bytes_max, reason: reason(is_wanted, is_possible) }
    }

    /// True if a message of such segments failed for being merged, not for what is in it.
    pub(crate) fn refused(&mut self, refusal: Refusal, segment_bytes: usize) -> bool {
        match refusal {
            Refusal::None => return false,
            Refusal::Length => self.segment_bytes_max = self.segment_bytes_max.min(segment_bytes - 1),
            Refusal::Always => {
                (self.segment_bytes_max, self.reason) = (0, "a network device has refused it");
            }
        }
        true
    }

    pub(crate) fn state(&self) -> FeatureState {
        FeatureState { feature: Feature::UdpSegment, in_use: self.segment_bytes_max > 0, reason: self.reason }
    }
}

/// What a failure says about merging.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// Nothing: it would have come without it.
    None,
    /// Segments of this length cannot be merged on this route.
    Length,
    /// Nothing can.
    Always,
}

/// State of the receiving side.
pub(crate) fn coalescing_state(is_wanted: bool, is_possible: bool) -> FeatureState {
    let in_use = is_wanted && is_possible;
    FeatureState { feature: Feature::UdpGro, in_use, reason: reason(is_wanted, is_possible) }
}

fn reason(is_wanted: bool, is_possible: bool) -> &'static str {
    match (is_wanted, is_possible) {
        (false, _) => "switched off in the configuration",
        (true, false) => "this kernel lacks it",
        (true, true) => "",
    }
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
pub(crate) fn refusal(error: Error) -> Refusal {
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
        let notice = Notice::Prompt;
        let of = |bytes: &usize| Some(Segment { socket: 1, bytes: *bytes, spans: 1, target, notice });
        lengths.into_iter().map(of).collect()
    }

    fn run_of(lengths: &[usize]) -> usize {
        run(segments(&address("127.0.0.1:9"), lengths), RUN_BYTES_MAX)
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
        assert_eq!(run(mixed, RUN_BYTES_MAX), 1);
        assert_eq!((run([None], RUN_BYTES_MAX), run([], RUN_BYTES_MAX)), (1, 1));
    }

    #[test]
    fn a_message_has_its_bounds() {
        assert_eq!(run_of(&[10; 200]), RUN_MAX);
        assert_eq!(run_of(&[30_000; 4]), 2);
        assert_eq!(run_of(&[70_000, 70_000]), 1);
        assert_eq!(run_of(&[1472; 60]), RUN_BYTES_MAX / 1472);
        assert_eq!(run(segments(&address("127.0.0.1:9"), &[1472; 9]), 1471), 1);
        let mut pieces = segments(&address("127.0.0.1:9"), &[2000; 9]);
        pieces.iter_mut().flatten().for_each(|segment| segment.spans = 400);
        assert_eq!(run(pieces, RUN_BYTES_MAX), 2);
    }

    #[test]
    fn only_what_goes_the_same_way_goes_together() {
        let (one, two) = (address("127.0.0.1:9"), address("127.0.0.1:10"));
        let same = address("127.0.0.1:9");
        let mixed = [segments(&one, &[5]), segments(&same, &[5]), segments(&two, &[5])].concat();
        assert_eq!(run(mixed, RUN_BYTES_MAX), 2);
        let mut connected = segments(&one, &[5, 5]);
        connected[1].as_mut().unwrap().target = Target::of(None);
        assert_eq!(run(connected.clone(), RUN_BYTES_MAX), 1);
        connected[0].as_mut().unwrap().target = Target::of(None);
        assert_eq!(run(connected, RUN_BYTES_MAX), 2);
        let mut others = segments(&one, &[5, 5]);
        others[1].as_mut().unwrap().socket = 2;
        assert_eq!(run(others, RUN_BYTES_MAX), 1);
        let mut lazy = segments(&one, &[5, 5]);
        lazy[1].as_mut().unwrap().notice = Notice::Lazy;
        assert_eq!(run(lazy, RUN_BYTES_MAX), 1);
    }

    #[test]
    fn what_was_refused_is_not_tried_again() {
        let mut merging = Merging::new(true, true);
        assert!(!merging.refused(Refusal::None, 1400) && merging.state().in_use);
        assert!(merging.refused(Refusal::Length, 1400));
        assert_eq!(merging.segment_bytes_max, 1399);
        assert!(merging.refused(Refusal::Length, 2000));
        assert_eq!(merging.segment_bytes_max, 1399);
        assert!(merging.refused(Refusal::Always, 10));
        assert!(!merging.state().in_use && !merging.state().reason.is_empty());
        assert!(!Merging::new(false, true).state().in_use && !Merging::new(true, false).state().in_use);
    }

    #[test]
    fn only_whole_datagrams_are_credited() {
        assert_eq!(carried([5, 5, 3], 13), 3);
        assert_eq!(carried([5, 5, 3], 12), 2);
        assert_eq!(carried([5, 5, 3], 4), 0);
    }
}

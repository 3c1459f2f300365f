//! The rule that decides between a candidate and an incumbent, and the figures that it looks at. Pure.

use raon_provider::Kind;
use serde::Serialize;

/// From this share of the incumbent's messages per second on the candidate is chosen: 15 % more.
pub(super) const SPEED_RATIO_MIN: f64 = 1.15;
/// Down from this share of the incumbent's CPU time per message the candidate is chosen: 30 % less.
pub(super) const CPU_RATIO_MAX: f64 = 0.70;

/// A figure over all rounds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(super) struct Figure {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Figure {
    /// `None` without rounds, or if one of them has none.
    pub(super) fn of(rounds: impl Iterator<Item = Option<f64>>) -> Option<Self> {
        let mut figures = rounds.collect::<Option<Vec<f64>>>()?;
        figures.sort_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        let middle = figures.len() / 2;
        let median =
            if figures.len() % 2 == 1 { figures[middle] } else { f64::midpoint(figures[middle - 1], figures[middle]) };
        Some(Figure { median, min, max })
    }

    /// True if rounds of one were among those of the other.
    fn overlaps(&self, other: &Figure) -> bool {
        self.min <= other.max && other.min <= self.max
    }
}

/// What one back end has shown.
#[derive(Clone, Copy)]
pub(super) struct Side {
    pub(super) kind: Kind,
    pub(super) messages_per_s: Figure,
    /// Of the server; none where the system does not tell it.
    pub(super) cpu_ns_per_message: Option<Figure>,
}

/// Who is chosen, and why.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    /// The back end's name.
    pub(super) chosen: &'static str,
    /// The candidate's messages per second, as a multiple of the incumbent's.
    pub(super) messages_ratio: f64,
    /// The same for the server's CPU time per message.
    pub(super) cpu_ratio: Option<f64>,
    /// Rounds of both overlap in the figure that decided for the candidate.
    pub(super) is_scattered: bool,
    /// All of this in a sentence.
    pub(super) why: String,
}

/// The candidate if it is enough faster or enough cheaper, else the incumbent. A side that did nothing decides nothing.
pub(super) fn decide(candidate: Side, incumbent: Side) -> Option<Verdict> {
    let messages_ratio = candidate.messages_per_s.median / incumbent.messages_per_s.median;
    let cpu = candidate.cpu_ns_per_message.zip(incumbent.cpu_ns_per_message);
    let cpu_ratio = cpu.map(|(one, other)| one.median / other.median).filter(|ratio| ratio.is_finite());
    if !messages_ratio.is_finite() || messages_ratio == 0.0 {
        return None;
    }
    let is_faster = messages_ratio >= SPEED_RATIO_MIN;
    let is_cheaper = cpu_ratio.is_some_and(|ratio| ratio <= CPU_RATIO_MAX);
    let chosen = if is_faster || is_cheaper { candidate.kind } else { incumbent.kind };
    let faster_by_chance = candidate.messages_per_s.overlaps(&incumbent.messages_per_s);
    let cheaper_by_chance = cpu.is_some_and(|(one, other)| one.overlaps(&other));
    let is_sure = (is_faster && !faster_by_chance) || (is_cheaper && !cheaper_by_chance);
    Some(Verdict {
        chosen: chosen.name(),
        messages_ratio,
        cpu_ratio,
        is_scattered: (is_faster || is_cheaper) && !is_sure,
        why: why(candidate.kind, incumbent.kind, messages_ratio, cpu_ratio),
    })
}

fn why(candidate: Kind, incumbent: Kind, messages_ratio: f64, cpu_ratio: Option<f64>) -> String {
    let cpu = match cpu_ratio {
        Some(ratio) => format!("{} server CPU per message", change(ratio)),
        None => "a CPU time that could not be read".to_owned(),
    };
    format!(
        "{candidate} has {} messages/s and {cpu}, compared with {incumbent}; it is chosen from 15 % more messages/s or \
         30 % less CPU on",
        change(messages_ratio)
    )
}

/// A ratio in words.
fn change(ratio: f64) -> String {
    let percent = (ratio - 1.0) * 100.0;
    format!("{:.1} % {}", percent.abs(), if percent < 0.0 { "less" } else { "more" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(median: f64) -> Figure {
        Figure { median, min: median, max: median }
    }

    fn side(kind: Kind, messages_per_s: f64, cpu_ns: Option<f64>) -> Side {
        Side { kind, messages_per_s: figure(messages_per_s), cpu_ns_per_message: cpu_ns.map(figure) }
    }

    fn chosen(messages_per_s: f64, cpu_ns: Option<f64>) -> &'static str {
        let candidate = side(Kind::Rio, messages_per_s, cpu_ns);
        decide(candidate, side(Kind::Iocp, 100_000.0, Some(1000.0))).unwrap().chosen
    }

    #[test]
    fn the_bounds_are_15_percent_faster_or_30_percent_cheaper() {
        assert_eq!(chosen(115_000.0, Some(1000.0)), "rio");
        assert_eq!(chosen(114_999.0, Some(1000.0)), "iocp");
        assert_eq!(chosen(100_000.0, Some(700.0)), "rio");
        assert_eq!(chosen(100_000.0, Some(701.0)), "iocp");
        assert_eq!(chosen(114_999.0, Some(701.0)), "iocp", "half of each is none");
        assert_eq!(chosen(60_000.0, Some(2000.0)), "iocp");
    }

    #[test]
    fn without_cpu_times_speed_decides() {
        assert_eq!((chosen(115_000.0, None), chosen(114_999.0, None)), ("rio", "iocp"));
        let verdict = decide(side(Kind::Rio, 2.0, None), side(Kind::Iocp, 1.0, Some(1.0))).unwrap();
        assert!(verdict.cpu_ratio.is_none() && verdict.why.contains("could not be read"), "{verdict:?}");
    }

    #[test]
    fn who_did_nothing_decides_nothing() {
        for (one, other) in [(0.0, 100.0), (100.0, 0.0), (0.0, 0.0)] {
            assert!(decide(side(Kind::Rio, one, None), side(Kind::Iocp, other, None)).is_none(), "{one} {other}");
        }
    }

    #[test]
    fn the_sentence_says_by_how_much() {
        let verdict = decide(side(Kind::Rio, 122.0, Some(900.0)), side(Kind::Iocp, 100.0, Some(1000.0))).unwrap();
        assert!(verdict.why.starts_with("rio has 22.0 % more messages/s and 10.0 % less server CPU"), "{verdict:?}");
        assert!(verdict.why.contains("compared with iocp"), "{verdict:?}");
    }

    #[test]
    fn rounds_that_overlap_make_it_doubtful() {
        let wide = |median: f64| Figure { median, min: median - 30.0, max: median + 30.0 };
        let scattered = |kind, messages_per_s| Side { messages_per_s, ..side(kind, 0.0, Some(1000.0)) };
        let of = |one, other| decide(scattered(Kind::Rio, one), scattered(Kind::Iocp, other)).unwrap().is_scattered;
        assert!(of(wide(120.0), wide(100.0)));
        assert!(!of(figure(120.0), figure(100.0)));
        assert!(!of(wide(110.0), wide(100.0)), "the incumbent needs no proof");
    }

    #[test]
    fn figures_are_medians_with_their_spread() {
        let of = |rounds: &[f64]| Figure::of(rounds.iter().copied().map(Some));
        assert_eq!(of(&[3.0, 1.0, 10.0]), Some(Figure { median: 3.0, min: 1.0, max: 10.0 }));
        assert_eq!(of(&[4.0, 1.0, 10.0, 2.0]), Some(Figure { median: 3.0, min: 1.0, max: 10.0 }));
        assert_eq!((of(&[]), Figure::of([Some(1.0), None].into_iter())), (None, None));
    }
}

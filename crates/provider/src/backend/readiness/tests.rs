//! Waits of a selector that never has anything.

use std::cell::{Cell, RefCell};

use super::*;
use crate::base::attempt::Attempt;
use crate::driver::Driver;
use crate::driver::completion::Completions;
use crate::driver::submitter::Submitter;

/// Selector without edges.
struct Silent;

thread_local! {
    /// The longest wait that was asked for.
    static LONGEST: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    /// Whoever ends the poll that waits, if anybody does.
    static SUBMITTER: RefCell<Option<Submitter>> = const { RefCell::new(None) };
}

struct Nobody;

impl crate::base::wake::Wake for Nobody {
    fn wake(&self) {}
}

impl Selector for Silent {
    const KIND: Kind = Kind::Epoll;

    fn open() -> Result<Self, Error> {
        Ok(Silent)
    }

    fn add(&mut self, _: u32, _: RawHandle) -> Result<(), Error> {
        Ok(())
    }

    fn remove(&mut self, _: RawHandle) {}

    fn wait(&mut self, wait: Option<Duration>, _: &mut Vec<Edge>) -> Result<(), Error> {
        LONGEST.set(LONGEST.get().max(wait.unwrap_or_default()));
        SUBMITTER.with_borrow(|submitter| submitter.iter().for_each(Submitter::wake));
        Ok(())
    }

    fn waker(&self) -> Waker {
        std::sync::Arc::new(Nobody)
    }

    fn features(&self) -> Vec<FeatureState> {
        Vec::new()
    }

    fn accept(_: RawHandle) -> Attempt<Socket> {
        Attempt::Later
    }

    fn receive_datagrams(_: RawHandle, _: &[SpanMut], _: &mut [Label; BATCH_MAX]) -> Attempt<usize> {
        Attempt::Later
    }

    fn send_messages(_: RawHandle, _: &[Message], _: &[Span]) -> Attempt<usize> {
        Attempt::Later
    }

    fn probe_merging() -> MergingProbe {
        (Err("nothing is merged"), Err("nothing is merged"))
    }
}

/// Without epoll_pwait2 a wait is an int of milliseconds, and io_uring adds the present moment to a signed count.
//= TIME-1
#[test]
fn no_wait_is_longer_than_a_kernel_counts() {
    let mut driver = Driver::open_on(&Config::default(), |config, _| open::<Silent>(config)).unwrap();
    SUBMITTER.set(Some(driver.submitter()));
    let mut completions = Completions::with_capacity(1);
    for wait in [Duration::from_secs(40 * 24 * 3600), Duration::from_secs(300 * 365 * 24 * 3600), Duration::MAX] {
        LONGEST.set(Duration::ZERO);
        assert_eq!(driver.poll(Some(wait), &mut completions), Ok(0));
        let longest_ms = LONGEST.get().as_millis();
        assert!((1..=i32::MAX as u128).contains(&longest_ms), "{longest_ms} ms of {wait:?}");
    }
    driver.timer(Duration::MAX, 1).unwrap();
    LONGEST.set(Duration::ZERO);
    assert_eq!(driver.poll(None, &mut completions), Ok(0));
    assert!(LONGEST.get().as_millis() <= i32::MAX as u128);
    SUBMITTER.set(None);
}

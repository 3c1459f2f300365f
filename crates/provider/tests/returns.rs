//! The stack of buffers that come back, in every order in which its threads' steps can happen: the file itself, with loom's
//! atomics in the place of the standard library's.

mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
}
#[path = "../src/memory/returns.rs"]
mod returns;

use atomic::{AtomicU32, Ordering};
use loom::sync::Arc;
use loom::thread::{self, JoinHandle};
use returns::{Returns, Taken};

/// A pool of three slots.
struct Pool {
    returns: Returns,
    /// What the last user of a slot has left there: not ordered by itself.
    bytes: [AtomicU32; SLOTS],
    wakes: AtomicU32,
}

const SLOTS: usize = 3;

impl Pool {
    fn new() -> Arc<Self> {
        let bytes = std::array::from_fn(|_| AtomicU32::new(0));
        Arc::new(Pool {
            returns: Returns::new((0..SLOTS).map(|_| AtomicU32::new(0)).collect()),
            bytes,
            wakes: AtomicU32::new(0),
        })
    }

    fn push(&self, place: usize, left: u32) -> bool {
        self.bytes[place].store(left, Ordering::Relaxed);
        match self.returns.push(place, || Some(())) {
            Ok(waker) => {
                self.wakes.fetch_add(u32::from(waker.is_some()), Ordering::Relaxed);
                true
            }
            Err(_) => false,
        }
    }

    /// The places of what was taken, each with what lies in it.
    fn unwind(&self, mut taken: Taken) -> Vec<(usize, u32)> {
        let place = || self.returns.next(&mut taken);
        std::iter::from_fn(place).map(|place| (place, self.bytes[place].load(Ordering::Relaxed))).collect()
    }
}

/// In every order in which a thread is interrupted by another at most three times, which loom's makers advise: without the
/// bound it is the same in a minute.
fn in_every_order(run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}

/// A thread that has used these slots gives them back. True for each that the owner was there to take.
fn give_back(pool: &Arc<Pool>, places: &'static [usize], left: u32) -> JoinHandle<Vec<bool>> {
    let pool = pool.clone();
    thread::spawn(move || places.iter().map(|place| pool.push(*place, left)).collect())
}

#[test]
fn every_slot_comes_back_once_with_what_was_left_in_it() {
    in_every_order(|| {
        let pool = Pool::new();
        let givers = [give_back(&pool, &[0, 1], 7), give_back(&pool, &[2], 7)];
        let mut back = pool.unwind(pool.returns.take());
        givers.into_iter().for_each(|giver| assert!(giver.join().unwrap().iter().all(|is_in| *is_in)));
        back.extend(pool.unwind(pool.returns.take()));
        back.sort_unstable();
        assert_eq!(back, [(0, 7), (1, 7), (2, 7)]);
    });
}

#[test]
fn a_slot_may_come_back_again_at_once() {
    in_every_order(|| {
        let pool = Pool::new();
        assert!(pool.push(0, 1));
        let other = give_back(&pool, &[1], 7);
        let mut back = pool.unwind(pool.returns.take());
        assert!(back.contains(&(0, 1)));
        // Lent again, to somebody who is as quick as can be.
        let again = give_back(&pool, &[0], 2);
        let early = pool.unwind(pool.returns.take());
        other.join().unwrap();
        again.join().unwrap();
        back.extend(early);
        back.extend(pool.unwind(pool.returns.take()));
        back.sort_unstable();
        assert_eq!(back, [(0, 1), (0, 2), (1, 7)]);
    });
}

#[test]
fn an_owner_that_starves_is_woken_once() {
    in_every_order(|| {
        let pool = Pool::new();
        let givers = [give_back(&pool, &[0], 7), give_back(&pool, &[1], 7)];
        let sleeps = pool.returns.mark_starving();
        givers.into_iter().for_each(|giver| drop(giver.join().unwrap()));
        assert_eq!(pool.wakes.load(Ordering::Relaxed), u32::from(sleeps), "who sleeps is woken, and nobody else");
        assert_eq!(pool.unwind(pool.returns.take()).len(), 2);
    });
}

#[test]
fn a_slot_is_taken_by_the_close_or_refused_after_it() {
    in_every_order(|| {
        let pool = Pool::new();
        let givers = [give_back(&pool, &[0, 1], 7), give_back(&pool, &[2], 7)];
        let taken = pool.unwind(pool.returns.close());
        assert!(taken.iter().all(|(_, left)| *left == 7));
        let answers = givers.into_iter().flat_map(|giver| giver.join().unwrap());
        assert_eq!(answers.filter(|is_in| *is_in).count(), taken.len());
        assert!(pool.unwind(pool.returns.close()).is_empty());
    });
}

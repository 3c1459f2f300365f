//! Lending, splitting and giving back, on one thread and on several.

use super::*;

fn owner() -> Owner {
    Owner::new([4, 1, 2], [4096, 65536, 4096]).unwrap()
}

fn lend(owner: &mut Owner, section: Section) -> Loan {
    let number = owner.take(section).expect("a free slot");
    owner.lend(section, number)
}

#[test]
fn sections_do_not_overlap_and_start_on_pages() {
    let mut owner = owner();
    let mut spans = Vec::new();
    for section in SECTIONS {
        for number in 0..owner.shared().sections[section as usize].count {
            let span = owner.slot_span(section, number);
            spans.push((span.pointer as usize, span.length));
        }
    }
    spans.sort_unstable();
    assert!(spans.iter().all(|(start, _)| start % PAGE_BYTES == 0));
    assert!(spans.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
    lend(&mut owner, Section::Bulk).bytes_mut().fill(7);
}

#[test]
fn a_loan_dropped_elsewhere_comes_back_at_the_next_collect() {
    let mut owner = owner();
    let loans: Vec<_> = (0..4).map(|_| lend(&mut owner, Section::Receive)).collect();
    assert_eq!(owner.take(Section::Receive), None);
    std::thread::spawn(move || drop(loans)).join().unwrap();
    assert_eq!(owner.free_count(Section::Receive), 0);
    assert_eq!(owner.collect(), 4);
    assert_eq!((owner.free_count(Section::Receive), owner.lent()), (4, 0));
}

#[test]
fn loans_outlive_their_owner_on_both_threads() {
    let mut owner = owner();
    let mut here = lend(&mut owner, Section::Send);
    let there = lend(&mut owner, Section::Send);
    drop(owner);
    here.bytes_mut()[0] = 1;
    let thread = std::thread::spawn(move || there.bytes()[0]);
    assert_eq!(thread.join().unwrap(), 0);
    assert_eq!(here.bytes()[0], 1);
}

#[test]
fn loans_may_go_home_while_the_owner_goes_away() {
    for round in 0..500 {
        let mut owner = owner();
        let loans: Vec<_> = (0..4).map(|_| lend(&mut owner, Section::Receive)).collect();
        let threads: Vec<_> = loans.into_iter().map(|loan| std::thread::spawn(move || drop(loan))).collect();
        if round % 2 == 0 {
            owner.collect();
        }
        drop(owner);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// A bulk slot in parts, the n-th filled with n.
fn parts(owner: &mut Owner, lengths: &[usize]) -> Vec<Loan> {
    let mut rest = lend(owner, Section::Bulk);
    let mut parts = Vec::new();
    for (number, length) in lengths.iter().enumerate() {
        let next = rest.split_off(*length);
        rest.bytes_mut().fill(number as u8);
        parts.push(std::mem::replace(&mut rest, next));
    }
    parts
}

#[test]
fn parts_of_a_slot_do_not_reach_each_other() {
    let mut owner = owner();
    let mut parts = parts(&mut owner, &[10, 0, 4000, 1]);
    assert_eq!(owner.lent(), 1);
    for (number, length) in [10, 0, 4000, 1].into_iter().enumerate() {
        assert_eq!((parts[number].len(), parts[number].capacity()), (length, length));
        parts[number].set_len(100_000);
        assert_eq!(parts[number].bytes(), vec![number as u8; length]);
    }
    // Two of them written at once.
    let (first, others) = parts.split_at_mut(1);
    let (one, two) = (first[0].bytes_mut(), others[1].bytes_mut());
    one.fill(7);
    two.fill(8);
    assert!(one.iter().all(|byte| *byte == 7) && two.iter().all(|byte| *byte == 8));
    parts[0].narrow(4, 100);
    assert_eq!((parts[0].len(), parts[0].capacity()), (6, 6));
}

#[test]
fn a_split_slot_goes_home_once_with_its_last_part() {
    let mut owner = owner();
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut parts: Vec<_> = parts(&mut owner, &[5, 6, 7]).into_iter().map(Some).collect();
        for place in order {
            assert_eq!((owner.take(Section::Bulk), owner.lent()), (None, 1));
            parts[place] = None;
        }
        assert_eq!((owner.free_count(Section::Bulk), owner.lent()), (1, 0));
    }
    let mut parts = parts(&mut owner, &[5, 6, 7]);
    let there = parts.split_off(1);
    drop(parts);
    std::thread::spawn(move || drop(there)).join().unwrap();
    assert_eq!((owner.collect(), owner.free_count(Section::Bulk), owner.lent()), (1, 1, 0));
}

#[test]
fn parts_go_home_while_the_owner_goes_away() {
    for round in 0..200 {
        let mut owner = owner();
        let parts = parts(&mut owner, &[1, 2, 3]);
        let threads: Vec<_> = parts.into_iter().map(|part| std::thread::spawn(move || drop(part))).collect();
        if round % 2 == 0 {
            owner.collect();
        }
        drop(owner);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

#[test]
fn a_sleeping_owner_is_woken_once_by_the_first_buffer() {
    struct Count(AtomicU32);
    impl Wake for Count {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let mut owner = owner();
    let count = std::sync::Arc::new(Count(AtomicU32::new(0)));
    let waker: Waker = count.clone();
    owner.set_waker(&waker);
    let loans: Vec<_> = (0..4).map(|_| lend(&mut owner, Section::Receive)).collect();
    assert!(owner.mark_starving());
    std::thread::spawn(move || drop(loans)).join().unwrap();
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert!(!owner.mark_starving(), "buffers are back: do not sleep");
    assert_eq!(owner.collect(), 4);
}

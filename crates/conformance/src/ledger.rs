//! The books: what was accepted, what has completed, and whether the two agree.

use std::collections::{HashMap, HashSet};

use raon_provider::{Completion, OperationId, Outcome, SocketId};

/// How an accepted operation may complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    /// Exactly once.
    Single,
    /// Any number of times with `more`, then once without.
    Stream,
    /// Once if it fails, never if not.
    Quiet,
}

struct Account {
    token: u64,
    manner: Manner,
}

/// Who submitted what, by operation, and by token for what went through a mailbox.
#[derive(Default)]
pub struct Ledger {
    open: HashMap<OperationId, Account>,
    ended: HashSet<OperationId>,
    mailed: HashMap<u64, usize>,
    perhaps: HashSet<u64>,
    closing: HashMap<SocketId, u64>,
    closed: HashSet<SocketId>,
}

impl Ledger {
    /// An operation was accepted.
    pub fn accept(&mut self, operation: OperationId, token: u64, manner: Manner) {
        assert_ne!(operation, OperationId::NONE);
        let known = self.open.insert(operation, Account { token, manner });
        assert!(known.is_none() && !self.ended.contains(&operation), "{operation:?} was given out twice");
    }

    /// `count` operations with this token went through a mailbox: their ids are not known.
    pub fn expect_mailed(&mut self, token: u64, count: usize) {
        *self.mailed.entry(token).or_default() += count;
    }

    /// An operation with this token went through a mailbox; it reports only if it is refused or fails.
    pub fn expect_perhaps(&mut self, token: u64) {
        self.perhaps.insert(token);
    }

    /// A close was accepted.
    pub fn close(&mut self, socket: SocketId, token: u64) {
        assert!(self.closing.insert(socket, token).is_none(), "{socket:?} was closed twice");
    }

    /// Books one completion.
    //= ONCE-1
    pub fn book(&mut self, completion: &Completion) {
        assert!(!self.closed.contains(&completion.socket), "after Closed comes nothing: {completion:?}");
        match completion.outcome {
            Outcome::Closed => self.book_closed(completion),
            Outcome::Writable => assert!(!completion.more && completion.operation == OperationId::NONE),
            _ => self.book_operation(completion),
        }
    }

    /// Everything accepted has ended, every close was reported.
    pub fn assert_settled(&self) {
        let left: Vec<_> = self.open.iter().filter(|(_, account)| account.manner != Manner::Quiet).collect();
        assert!(
            left.is_empty(),
            "accepted and never completed: {:?}",
            left.iter().map(|(id, _)| id).collect::<Vec<_>>()
        );
        assert!(self.closing.is_empty(), "closed and never reported: {:?}", self.closing);
        assert!(self.mailed.values().all(|count| *count == 0), "mailed and never completed: {:?}", self.mailed);
    }

    fn book_closed(&mut self, completion: &Completion) {
        // A shutdown closes what is open without being asked per socket.
        if let Some(token) = self.closing.remove(&completion.socket) {
            assert_eq!(completion.token, token);
        }
        assert!(!completion.more);
        assert!(self.closed.insert(completion.socket));
    }

    fn book_operation(&mut self, completion: &Completion) {
        let id = completion.operation;
        assert!(!self.ended.contains(&id), "completed after its last completion: {completion:?}");
        if let Some(account) = self.open.get(&id) {
            assert_eq!(completion.token, account.token, "{completion:?}");
            assert!(!completion.more || account.manner == Manner::Stream, "{completion:?}");
            let has_failed = completion.outcome.error().is_some();
            assert!(account.manner != Manner::Quiet || has_failed, "a quiet success: {completion:?}");
        } else if !completion.more && !self.perhaps.remove(&completion.token) {
            let left = self.mailed.get_mut(&completion.token).filter(|left| **left > 0);
            *left.unwrap_or_else(|| panic!("nobody submitted it: {completion:?}")) -= 1;
        }
        if !completion.more {
            self.open.remove(&id);
            if id != OperationId::NONE {
                self.ended.insert(id);
            }
        }
    }
}

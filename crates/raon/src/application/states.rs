//! States of a shard's sessions, as the application keeps them, by slot.
//!
//! 1. `put`, when `on_open` has returned.
//! 2. A callback borrows the state of its session; those of all others are at hand beside it, so nothing is moved.
//! 3. `take`, when the session has ended: `on_close` gets it for good.

/// See the module.
pub(crate) struct States<S>(Vec<Option<S>>);

impl<S> Default for States<S> {
    fn default() -> Self {
        States(Vec::new())
    }
}

impl<S> States<S> {
    /// Keeps the state of a session that has been opened.
    pub(crate) fn put(&mut self, index: u32, state: S) {
        let place = index as usize;
        if place >= self.0.len() {
            self.0.resize_with(place + 1, || None);
        }
        self.0[place] = Some(state);
    }

    /// Takes the state of a session that has ended. `None`: it was never opened, or has ended before.
    pub(crate) fn take(&mut self, index: u32) -> Option<S> {
        self.0.get_mut(index as usize)?.take()
    }

    /// The state of one session, and those of all others.
    #[inline]
    pub(crate) fn split(&mut self, index: u32) -> Option<(&mut S, OtherStates<'_, S>)> {
        let (before, rest) = self.0.split_at_mut_checked(index as usize)?;
        let (own, after) = rest.split_first_mut()?;
        Some((own.as_mut()?, OtherStates { before, after }))
    }

    /// All states, for a callback that has none.
    pub(crate) fn all(&mut self) -> OtherStates<'_, S> {
        OtherStates { before: &mut self.0, after: &mut [] }
    }
}

/// States of all sessions but the one whose state a callback has.
pub(crate) struct OtherStates<'a, S> {
    before: &'a mut [Option<S>],
    after: &'a mut [Option<S>],
}

impl<S> OtherStates<'_, S> {
    /// `None` for the session whose state the callback has, and for one without a state.
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut S> {
        let place = index as usize;
        match place.checked_sub(self.before.len()) {
            None => self.before.get_mut(place)?.as_mut(),
            Some(behind) => self.after.get_mut(behind.checked_sub(1)?)?.as_mut(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callback_has_its_own_state_and_finds_all_others() {
        let mut states = States::default();
        for index in [0, 2, 3, 5] {
            states.put(index, index * 10);
        }
        assert_eq!((states.take(5), states.take(5), states.take(9)), (Some(50), None, None));
        for own in [0, 2, 3] {
            let (state, mut others) = states.split(own).unwrap();
            assert_eq!(*state, own * 10);
            let found: Vec<u32> = (0..8).filter_map(|index| others.get_mut(index).copied()).collect();
            let expected: Vec<u32> = [0, 20, 30].into_iter().filter(|other| *other != own * 10).collect();
            assert_eq!(found, expected);
        }
        assert!(states.split(1).is_none() && states.split(5).is_none() && states.split(6).is_none());
        assert_eq!((0..8).filter_map(|index| states.all().get_mut(index).copied()).sum::<u32>(), 50);
    }
}

//! Datagrams under way: which were sent from where to where, and which of them must arrive.

//= DGRAM-1

use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What makes datagrams alike.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Label {
    pub to: SocketAddr,
    pub from: SocketAddr,
    /// `None`: longer than the receiver takes.
    pub bytes: Option<Vec<u8>>,
}

#[derive(Default, Debug)]
struct Alike {
    /// Sent, or perhaps.
    sent: usize,
    /// Sent for sure, to a socket that takes them.
    owed: usize,
    came: usize,
    /// What those that are unread take of the receiver's queue.
    charge: usize,
}

/// All that was sent, by label.
#[derive(Default)]
pub(super) struct Flights {
    alike: BTreeMap<Label, Alike>,
}

/// What a datagram takes of a socket's queue at most: Linux charges the memory that it lies in, a power of two, and its
/// descriptor.
pub(super) fn charge(length: usize) -> usize {
    2 * length + 1500
}

impl Flights {
    /// One is sent, or will be.
    pub(super) fn launch(&mut self, label: &Label, length: usize) {
        let alike = self.alike.entry(label.clone()).or_default();
        alike.sent += 1;
        alike.charge += charge(length);
    }

    /// It has gone, and must arrive.
    pub(super) fn owe(&mut self, label: &Label) {
        self.alike.entry(label.clone()).or_default().owed += 1;
    }

    /// It has not gone.
    pub(super) fn fail(&mut self, label: &Label) {
        let alike = self.alike.get_mut(label).expect("it was launched");
        alike.sent -= 1;
        alike.settle(label);
        assert!(alike.came <= alike.sent, "{} has arrived, and its send has failed", label.describe());
    }

    /// One came out of a receive stream.
    pub(super) fn land(&mut self, label: &Label) {
        let alike = self.alike.entry(label.clone()).or_default();
        alike.came += 1;
        alike.settle(label);
        assert!(alike.came <= alike.sent, "{} has come {} times: {alike:?}", label.describe(), alike.came);
    }

    /// The receiver is gone: nothing has to arrive there any more. Says how many are unread, by their senders.
    pub(super) fn lose(&mut self, to: SocketAddr) -> Vec<(SocketAddr, usize)> {
        let lost = self.alike.iter_mut().filter(|(label, _)| label.to == to);
        lost.map(|(label, alike)| {
            (alike.sent, alike.owed, alike.came) = (alike.sent - alike.came, 0, 0);
            (label.from, alike.sent)
        })
        .collect()
    }

    /// What the queue of this address may hold now.
    pub(super) fn charge_at(&self, to: SocketAddr) -> usize {
        self.alike.iter().filter(|(label, _)| label.to == to).map(|(_, alike)| alike.charge).sum()
    }

    /// One that has not arrived although it must, if these were sent as well.
    pub(super) fn missing<'a>(&self, quiet: impl Iterator<Item = &'a Label>) -> Option<String> {
        let mut owed: BTreeMap<&Label, usize> = self.alike.iter().map(|(label, alike)| (label, alike.owed)).collect();
        quiet.for_each(|label| *owed.entry(label).or_default() += 1);
        let late = owed.into_iter().find(|(label, owed)| self.alike[*label].came < *owed);
        late.map(|(label, owed)| format!("{}: {owed} must come, {:?}", label.describe(), self.alike[label]))
    }
}

impl Alike {
    fn settle(&mut self, label: &Label) {
        match &label.bytes {
            Some(bytes) => self.charge = self.sent.saturating_sub(self.came) * charge(bytes.len()),
            // Which of the lengths it was, nobody is told.
            None if self.came >= self.sent => self.charge = 0,
            None => {}
        }
    }
}

impl Label {
    fn describe(&self) -> String {
        let Label { to, from, bytes } = self;
        match bytes {
            Some(bytes) => format!("a datagram of {} bytes from {from} to {to}", bytes.len()),
            None => format!("a datagram from {from} that is too long for {to}"),
        }
    }
}

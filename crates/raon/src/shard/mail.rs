//! Mail: what others have put into the mailbox, and what the shard has posted to itself.

use super::Shard;
use crate::application::{Application, Head};
use crate::routing::mailbox::{Broadcasting, Command};

impl<A: Application> Shard<A> {
    /// Everything that was there at once, in order. True if there was anything.
    pub(super) fn take_mail(&mut self) -> bool {
        if let Some(mailbox) = self.router.mailbox(self.number) {
            mailbox.swap(&mut self.batch);
        }
        let arena = std::mem::take(&mut self.batch.arena);
        let is_any = !self.batch.commands.is_empty();
        // The rest stays where it is: if one of them ends the shard, connections behind it go to another.
        self.batch.commands.reverse();
        while !self.batch.commands.is_empty() {
            self.delivery.queue_mail(&mut self.batch.commands, &arena);
            if let Some(command) = self.batch.commands.pop() {
                self.obey(command);
            }
        }
        self.batch.arena = arena;
        self.batch.clear();
        is_any
    }

    /// Delivers posts of before this; those that they post come in the next step. True if there was anything.
    pub(super) fn take_posts(&mut self) -> bool {
        let is_any = self.delivery.has_posts();
        self.delivery.own_posts();
        is_any
    }

    fn obey(&mut self, command: Command<Head<A>, A::Post>) {
        match command {
            // Others are queued already.
            Command::Send { id, .. } | Command::SendShared { id, .. } => {
                self.delivery.with_core(|core| core.note_late(id));
            }
            Command::Close { id, reason } => self.delivery.with_core(|core| match core.table().resolve_live(id) {
                Some(index) => core.close(index, reason),
                None => core.note_late(id),
            }),
            Command::Post { key, post } => self.delivery.post(key, post),
            Command::Broadcast(broadcasting) => {
                let Broadcasting { group, except, frame, droppable } = *broadcasting;
                self.delivery.with_core(|core| core.broadcast_here(&group, except, &frame, droppable));
            }
            Command::Adopt(arrival) => self.open_session(*arrival),
            Command::Listen(handover) => self.take_over(handover),
        }
    }
}

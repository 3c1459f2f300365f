//! What others have put into the mailbox, and what the shard has posted to itself.

use raon_session::CloseReason;

use super::Shard;
use crate::application::{Application, Head};
use crate::id::SessionId;
use crate::mailbox::{Broadcasting, Command};

impl<A: Application> Shard<A> {
    /// Everything that was there at once, in order. True if there was anything.
    pub(super) fn take_mail(&mut self) -> bool {
        if let Some(mailbox) = self.inside.router.mailbox(usize::from(self.inside.number)) {
            mailbox.swap(&mut self.batch);
        }
        let arena = std::mem::take(&mut self.batch.arena);
        let is_any = !self.batch.commands.is_empty();
        // The rest stays where it is: if one of them ends the shard, connections behind it go to another.
        self.batch.commands.reverse();
        while let Some(command) = self.batch.commands.pop() {
            self.obey(command, &arena);
        }
        self.batch.arena = arena;
        self.batch.clear();
        is_any
    }

    /// What was posted before this; what these posts post comes in the next step. True if there was anything.
    pub(super) fn take_posts(&mut self) -> bool {
        let is_any = !self.inside.posts.is_empty();
        for _ in 0..self.inside.posts.len() {
            if let Some((key, post)) = self.inside.posts.pop_front() {
                self.on_post(key, post);
            }
        }
        is_any
    }

    fn obey(&mut self, command: Command<Head<A>, A::Post>, arena: &[u8]) {
        let inside = &mut self.inside;
        match command {
            Command::Send { id, head, body } => {
                let body = &arena[body.start as usize..body.end as usize];
                match inside.table.resolve(id) {
                    Some(index) => drop(inside.append(index, head, body)),
                    None => inside.note_late(id),
                }
            }
            Command::SendShared { id, head, body } => match inside.table.resolve(id) {
                Some(index) => drop(inside.append_shared(index, head, &body)),
                None => inside.note_late(id),
            },
            Command::Close { id, reason } => self.close_live(id, reason),
            Command::Post { key, post } => self.on_post(key, post),
            Command::Broadcast(broadcasting) => {
                let Broadcasting { group, except, frame, droppable } = *broadcasting;
                inside.broadcast_here(&group, except, &frame, droppable);
            }
            Command::Adopt(arrival) => self.open_session(*arrival),
            Command::Listen(handover) => self.take_over(handover),
        }
    }

    fn close_live(&mut self, id: SessionId, reason: CloseReason) {
        match self.inside.table.resolve_live(id) {
            Some(index) => self.inside.close(index, reason),
            None => self.inside.note_late(id),
        }
        self.tell_ended();
    }

    fn on_post(&mut self, key: u64, post: A::Post) {
        self.inside.stats.posts += 1;
        self.call(|application, ctx| application.on_post(ctx, key, post));
    }
}

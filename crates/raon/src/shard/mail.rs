//! What others have put into the inlet, and what the shard has posted to itself.

use raon_session::{COPY_BYTES_MAX, CloseReason, Refusal, SendOutcome};

use super::Shard;
use crate::application::{Application, Head};
use crate::id::SessionId;
use crate::inlet::{Broadcasting, Command};

impl<A: Application> Shard<A> {
    /// Everything that was there at once, in order. True if there was anything.
    pub(super) fn take_mail(&mut self) -> bool {
        let mut batch = std::mem::take(&mut self.batch);
        if let Some(inlet) = self.inside.router.inlet(usize::from(self.inside.number)) {
            inlet.swap(&mut batch);
        }
        let mut commands = std::mem::take(&mut batch.commands);
        let is_any = !commands.is_empty();
        for command in commands.drain(..) {
            self.obey(command, &batch.arena);
        }
        batch.commands = commands;
        batch.clear();
        self.batch = batch;
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
                Some(index) => {
                    inside.queue(index, |outbox, framing, config, supply| {
                        if body.len() > COPY_BYTES_MAX && !supply.charge(body.len()) {
                            return SendOutcome::Refused(Refusal::Memory);
                        }
                        outbox.append_shared(framing, head, &body, &config.outbox, supply)
                    });
                }
                None => inside.note_late(id),
            },
            Command::Close { id, reason } => self.close_live(id, reason),
            Command::Post { key, post } => self.on_post(key, post),
            Command::Broadcast(broadcasting) => {
                let Broadcasting { group, except, frame, droppable } = *broadcasting;
                inside.broadcast_here(&group, except, &frame, droppable);
            }
            Command::Adopt(arrival) => self.open_session(arrival.socket, arrival.place),
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

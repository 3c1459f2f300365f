//! `cargo run -p raon --example chat`, then `nc 127.0.0.1 9000` in several terminals: a chat with rooms, a line a message.

use raon::{Application, CloseReason, Context, Delimiter, Message, Server, ServerBuilder, ServerError};

/// One per shard. It keeps nothing: who is in which room, the groups know.
pub(crate) struct Chat;

/// What is kept of each who chats.
pub(crate) struct Member {
    name: String,
    room: String,
}

impl Application for Chat {
    type Framing = Delimiter;
    type Session = Member;
    type Post = ();

    fn on_open(&mut self, ctx: &mut Context<'_, Self>) -> Member {
        ctx.reply((), b"Welcome! /name NAME, /join ROOM, /quit, or just talk.");
        ctx.group("lobby").join();
        ctx.group("everybody").join();
        Member { name: format!("guest-{}", ctx.id()), room: "lobby".to_owned() }
    }

    fn on_message(&mut self, ctx: &mut Context<'_, Self>, member: &mut Member, message: Message<'_, ()>) {
        let Ok(line) = std::str::from_utf8(&message).map(str::trim) else {
            ctx.reply((), b"Text in UTF-8, please.");
            return;
        };
        match line.split_once(' ').unwrap_or((line, "")) {
            ("", _) => {}
            ("/quit", _) => ctx.close(0),
            ("/name", name) if !name.is_empty() => name.trim().clone_into(&mut member.name),
            ("/join", room) if !room.is_empty() => enter(ctx, member, room.trim()),
            (command, _) if command.starts_with('/') => {
                ctx.reply((), b"/name NAME, /join ROOM or /quit");
            }
            _ => tell(ctx, &member.room, &format!("{}: {line}", member.name)),
        }
    }

    fn on_close(&mut self, ctx: &mut Context<'_, Self>, member: Member, reason: CloseReason) {
        tell(ctx, &member.room, &format!("* {} has left: {reason}", member.name));
    }

    fn on_shutdown(&mut self, ctx: &mut Context<'_, Self>) {
        // Each shard is asked, and tells its own.
        ctx.group("everybody").broadcast_here(None, (), b"* The server closes. Goodbye!");
    }
}

fn enter(ctx: &mut Context<'_, Chat>, member: &mut Member, room: &str) {
    ctx.group(member.room.as_str()).leave();
    tell(ctx, &member.room, &format!("* {} has gone to {room}", member.name));
    room.clone_into(&mut member.room);
    ctx.group(room).join();
    tell(ctx, room, &format!("* {} is here", member.name));
}

/// To everybody else in the room, on whichever shard.
fn tell(ctx: &mut Context<'_, Chat>, room: &str, line: &str) {
    let own = ctx.id();
    ctx.group(room).broadcast(Some(own), (), line.as_bytes());
}

/// For the tests, which start it in another way.
pub(crate) fn server() -> ServerBuilder<Chat> {
    let builder = Server::builder().listen("127.0.0.1:9000");
    // Whoever only listens is welcome too.
    let builder = builder.configure(|config| config.handshake_timeout_ms = 0);
    builder.application(Delimiter::line(), |_shard| Chat)
}

#[allow(dead_code, reason = "the tests have their own")]
fn main() -> Result<(), ServerError> {
    server().run()
}

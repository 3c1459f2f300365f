//! Application of `serve chat`: `/join room`, `/leave`, `/name x`; every other line goes to all who are in the room, its writer
//! included.
//! Lines of the server itself begin with an asterisk.

use raon::{Application, CloseReason, Context, Delimiter, GroupKey, Message};

/// A line is one message, of at most 1 KiB.
pub(crate) const LINES: Delimiter = Delimiter::line().with_limit(1024);
/// Longest names of people and rooms, in bytes.
const NAME_BYTES_MAX: usize = 32;
/// Longest text, in bytes: with a name, a colon, a blank and the line feed it is a whole line.
const TEXT_BYTES_MAX: usize = 1024 - NAME_BYTES_MAX - 3;

/// The group of all; rooms are groups with names.
const EVERYONE: u64 = 0;

/// The application of one shard. All it knows is with the sessions and in the groups of the engine.
pub(crate) struct Chat;

/// A session: somebody who is here.
pub(crate) struct Guest {
    name: String,
    /// The room's name and group.
    room: Option<(String, GroupKey)>,
}

impl Application for Chat {
    type Framing = Delimiter;
    type Session = Guest;
    type Post = ();

    fn on_open(&mut self, ctx: &mut Context<'_, Self>) -> Guest {
        // People may think before they write: there is no handshake to wait for.
        ctx.establish();
        ctx.group(EVERYONE).join();
        tell(ctx, "welcome; write /name NAME, /join ROOM, /leave, or a line for your room");
        Guest { name: format!("guest-{}", ctx.id()), room: None }
    }

    fn on_message(&mut self, ctx: &mut Context<'_, Self>, guest: &mut Guest, message: Message<'_, ()>) {
        let line = message.trim_ascii_end();
        match line.split_first() {
            Some((b'/', command)) => obey(ctx, guest, command),
            Some(_) => say(ctx, guest, line),
            None => {}
        }
    }

    fn on_close(&mut self, ctx: &mut Context<'_, Self>, mut guest: Guest, _reason: CloseReason) {
        leave(ctx, &mut guest);
    }

    fn on_shutdown(&mut self, ctx: &mut Context<'_, Self>) {
        // Every shard is asked, and tells its own.
        ctx.group(EVERYONE).broadcast_here(None, (), b"* the server is shutting down");
    }
}

fn obey(ctx: &mut Context<'_, Chat>, guest: &mut Guest, command: &[u8]) {
    let mut words = command.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    match (words.next(), words.next().map(name), words.next()) {
        (Some(b"name"), Some(Some(name)), None) => {
            tell(ctx, &format!("you are {name}"));
            guest.name = name.to_owned();
        }
        (Some(b"join"), Some(Some(room)), None) => join(ctx, guest, room),
        (Some(b"name" | b"join"), _, _) => tell(ctx, "a name has 1 to 32 letters, digits, dots, dashes or underscores"),
        (Some(b"leave"), None, None) if guest.room.is_none() => tell(ctx, "you are in no room"),
        (Some(b"leave"), None, None) => leave(ctx, guest),
        _ => tell(ctx, "there is no such command; write /name NAME, /join ROOM or /leave"),
    }
}

fn join(ctx: &mut Context<'_, Chat>, guest: &mut Guest, room: &str) {
    leave(ctx, guest);
    let group = GroupKey::from(room);
    ctx.group(&group).join();
    announce(ctx, &group, &format!("{} has joined {room}", guest.name));
    guest.room = Some((room.to_owned(), group));
}

fn leave(ctx: &mut Context<'_, Chat>, guest: &mut Guest) {
    let Some((room, group)) = guest.room.take() else { return };
    announce(ctx, &group, &format!("{} has left {room}", guest.name));
    ctx.group(&group).leave();
}

fn say(ctx: &mut Context<'_, Chat>, guest: &Guest, text: &[u8]) {
    let Some((_, group)) = &guest.room else { return tell(ctx, "you are in no room; write /join ROOM") };
    if text.len() > TEXT_BYTES_MAX {
        return tell(ctx, "a line has at most 989 bytes");
    }
    // Written once, where it leaves from, for everybody in the room.
    let parts = [guest.name.as_bytes(), b": ", text];
    ctx.group(group).broadcast_with(None, (), parts.iter().map(|part| part.len()).sum(), |body| {
        parts.iter().for_each(|part| body.put(part));
    });
}

/// The server's own words, to one.
fn tell(ctx: &mut Context<'_, Chat>, text: &str) {
    ctx.reply((), format!("* {text}").as_bytes());
}

/// And to a room.
fn announce(ctx: &mut Context<'_, Chat>, group: &GroupKey, text: &str) {
    ctx.group(group).broadcast(None, (), format!("* {text}").as_bytes());
}

/// A name that can stand in a line.
fn name(word: &[u8]) -> Option<&str> {
    let is_sound = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    let fits = word.len() <= NAME_BYTES_MAX && word.iter().all(is_sound);
    str::from_utf8(word).ok().filter(|_| fits)
}

#[cfg(test)]
mod tests;

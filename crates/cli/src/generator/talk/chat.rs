//! Lines to rooms: each must come to everybody in the room exactly once, and those of one writer in order.
//!
//! 1. A person takes a name and joins the room of this worker that has the fewest. A room has members of one worker only,
//!    so that all the books about it are here.
//! 2. A line says who wrote it and its number, and is filled up with letters that follow from both.
//! 3. Every member knows which number of every other member comes next. A later one means that those before it are lost
//!    here; if one of these comes after all it was out of order; what comes twice is a duplicate.
//! 4. A line is answered when it has come to all who were there when it left. One that was lost somewhere is damaged.

use std::collections::{HashSet, VecDeque};

use super::pieces::Pieces;
use super::{Heard, entry};
use crate::generator::connection::State;
use crate::generator::pattern::mix;
use crate::generator::tally::TalkTally;

/// The writer, a blank, the number, a blank, a letter and the line feed: each number has up to eight digits.
pub(crate) const LINE_BYTES_MIN: usize = 20;
/// What `raon serve chat` takes, with the line feed.
pub(crate) const LINE_BYTES_MAX: usize = 990;
/// Lost lines that are remembered, to know them if they come after all: some tens of MiB.
const MISSING_MAX: usize = 1 << 20;

/// The rooms of a worker.
pub(in crate::generator) struct Chat {
    worker: u32,
    seed: u64,
    size_bytes: usize,
    people: Vec<Person>,
    rooms: Vec<Room>,
    /// Lost so far: who missed it, who wrote it, its number.
    missing: HashSet<(u32, u32, u32)>,
    pub(in crate::generator) tally: TalkTally,
}

#[derive(Default)]
struct Room {
    /// All who ever joined, by place.
    joined: Vec<u32>,
    /// Those who are there.
    present: u32,
}

#[derive(Default)]
struct Person {
    pieces: Pieces,
    name: String,
    /// Its room, and its place there.
    room: Option<(usize, usize)>,
    is_greeted: bool,
    is_over: bool,
    /// Lines that have left.
    sent: u32,
    /// The last of those that are under way.
    awaited: VecDeque<Line>,
    /// The number of the next line of each member of the room, by place.
    next: Vec<u32>,
}

/// A line that is under way.
#[derive(Clone, Copy)]
struct Line {
    /// Members that do not have it yet.
    missing: u32,
    is_damaged: bool,
}

impl Chat {
    pub(super) fn new(rooms: u32, worker: u32, seed: u64, size_bytes: usize) -> Self {
        let rooms = (0..rooms).map(|_| Room::default()).collect();
        let (people, missing, tally) = (Vec::new(), HashSet::new(), TalkTally::default());
        Chat { worker, seed, size_bytes, people, rooms, missing, tally }
    }

    /// A name, and for those who are to write a room.
    pub(super) fn greet(&mut self, token: u64, role: State) -> Vec<u8> {
        let name = format!("load-{}.{token}", self.worker);
        let mut words = format!("/name {name}\n");
        let mut place = None;
        if role == State::Active
            && let Some((number, room)) = self.rooms.iter_mut().enumerate().min_by_key(|(_, room)| room.present)
        {
            words += &format!("/join {}\n", room_name(self.seed, number));
            place = Some((number, room.joined.len()));
            room.joined.push(token as u32);
            room.present += 1;
        }
        *entry(&mut self.people, token) = Person { name, room: place, ..Person::default() };
        words.into_bytes()
    }

    pub(super) fn fill(&mut self, token: u64, bytes: &mut [u8]) {
        let numbers = self.people[token as usize].sent..;
        for (line, number) in bytes.chunks_exact_mut(self.size_bytes).zip(numbers) {
            let (text, end) = line.split_at_mut(self.size_bytes - 1);
            write_text(self.seed, token as u32, number, text);
            end[0] = b'\n';
        }
    }

    pub(super) fn sent(&mut self, token: u64, bytes: usize) {
        let person = &mut self.people[token as usize];
        let missing = person.room.map_or(0, |(room, _)| self.rooms[room].present);
        for _ in 0..bytes / self.size_bytes {
            person.sent += 1;
            person.awaited.push_back(Line { missing, is_damaged: false });
        }
    }

    pub(super) fn hear(&mut self, token: u64, bytes: &[u8], heard: &mut Vec<Heard>) {
        let mut pieces = std::mem::take(&mut self.people[token as usize].pieces);
        let length = |bytes: &[u8]| bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        pieces.take(bytes, length, |line| {
            let line = &line[..line.len() - 1];
            match line.strip_prefix(b"* ") {
                Some(notice) => self.notice(token, notice, heard),
                None => self.line(token as u32, line, heard),
            }
            true
        });
        self.people[token as usize].pieces = pieces;
    }

    /// Nobody waits for this one any more, and what it has not got it has lost.
    pub(super) fn end(&mut self, token: u64, heard: &mut Vec<Heard>) {
        let person = entry(&mut self.people, token);
        if std::mem::replace(&mut person.is_over, true) {
            return;
        }
        self.tally.lost += person.awaited.drain(..).map(|line| u64::from(line.missing)).sum::<u64>();
        let Some((room, _)) = person.room else { return };
        let (next, is_greeted) = (std::mem::take(&mut person.next), person.is_greeted);
        self.rooms[room].present -= 1;
        if !is_greeted {
            return;
        }
        for place in 0..self.rooms[room].joined.len() {
            let writer = self.rooms[room].joined[place];
            let Person { sent, is_over: false, .. } = self.people[writer as usize] else { continue };
            for number in next.get(place).copied().unwrap_or(0)..sent {
                self.tally.lost += 1;
                self.account(writer, number, true, heard);
            }
        }
    }

    /// The server's own words.
    fn notice(&mut self, token: u64, notice: &[u8], heard: &mut Vec<Heard>) {
        let person = &self.people[token as usize];
        if person.is_greeted {
            return;
        }
        let expected = match person.room {
            None => format!("you are {}", person.name),
            Some((room, _)) => format!("{} has joined {}", person.name, room_name(self.seed, room)),
        };
        if notice == expected.as_bytes() {
            // What the others wrote before is not for this one.
            let next = person.room.map_or(Vec::new(), |(room, _)| {
                self.rooms[room].joined.iter().map(|other| self.people[*other as usize].sent).collect()
            });
            let person = &mut self.people[token as usize];
            (person.is_greeted, person.next) = (true, next);
            heard.push(Heard::Ready);
        }
    }

    /// A line of somebody in the room.
    fn line(&mut self, reader: u32, line: &[u8], heard: &mut Vec<Heard>) {
        let Some((writer, number)) = self.parse(reader, line) else {
            self.tally.corrupt += 1;
            return heard.push(Heard::Wrong("a line came that nobody in the room has written"));
        };
        let Person { room: Some((_, place)), is_over: false, .. } = self.people[writer as usize] else { return };
        let next = &mut self.people[reader as usize].next;
        if next.len() <= place {
            next.resize(place + 1, 0);
        }
        let expected = next[place];
        if number < expected {
            let was_missing = self.missing.remove(&(reader, writer, number));
            let (count, text) = match was_missing {
                true => (&mut self.tally.misordered, "a line came after a later one of the same writer"),
                false => (&mut self.tally.duplicates, "a line came twice"),
            };
            *count += 1;
            self.tally.lost -= u64::from(was_missing);
            return heard.push(Heard::Wrong(text));
        }
        next[place] = number + 1;
        for lost in expected..number {
            self.tally.lost += 1;
            if self.missing.len() < MISSING_MAX {
                self.missing.insert((reader, writer, lost));
            }
            self.account(writer, lost, true, heard);
        }
        self.tally.deliveries += 1;
        self.account(writer, number, false, heard);
    }

    /// Who wrote it and its number, if somebody in this room has written just this.
    fn parse(&self, reader: u32, line: &[u8]) -> Option<(u32, u32)> {
        let line = str::from_utf8(line).ok()?;
        let (name, text) = line.split_once(": ")?;
        let mut words = text.split(' ');
        let (writer, number) = (hexadecimal(words.next()?)?, hexadecimal(words.next()?)?);
        let person = self.people.get(writer as usize)?;
        let (own, other) = (self.people[reader as usize].room?, person.room?);
        let is_sent = number < person.sent && own.0 == other.0 && person.name == name;
        let mut expected = [0; LINE_BYTES_MAX];
        let expected = &mut expected[..self.size_bytes - 1];
        write_text(self.seed, writer, number, expected);
        (is_sent && *expected == *text.as_bytes()).then_some((writer, number))
    }

    /// One member more has a line, or has lost it.
    fn account(&mut self, writer: u32, number: u32, is_lost: bool, heard: &mut Vec<Heard>) {
        let person = &mut self.people[writer as usize];
        let first = person.sent - person.awaited.len() as u32;
        let line = number.checked_sub(first).and_then(|at| person.awaited.get_mut(at as usize));
        let Some(line) = line else { return };
        line.missing = line.missing.saturating_sub(1);
        line.is_damaged |= is_lost;
        let token = u64::from(writer);
        while let Some(Line { missing: 0, is_damaged }) = person.awaited.front() {
            heard.push(if *is_damaged { Heard::Damaged { token } } else { Heard::Answered { token, messages: 1 } });
            person.awaited.pop_front();
        }
    }
}

/// One's own of this run and worker, so that no other load writes there.
fn room_name(seed: u64, number: usize) -> String {
    format!("load-{seed:016x}-{number}")
}

fn write_text(seed: u64, writer: u32, number: u32, out: &mut [u8]) {
    let head = format!("{writer:x} {number:x} ");
    let (start, rest) = out.split_at_mut(head.len());
    start.copy_from_slice(head.as_bytes());
    let mut letters = mix(seed ^ u64::from(writer) << 32 ^ u64::from(number));
    for letter in rest {
        *letter = b'a' + (letters % 26) as u8;
        letters = letters.rotate_left(5).wrapping_add(1);
    }
}

fn hexadecimal(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests;

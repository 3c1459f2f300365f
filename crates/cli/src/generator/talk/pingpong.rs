//! Pings: each must come back with its number and its time, in order.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::pieces::Pieces;
use super::{Heard, entry};
use crate::generator::tally::TalkTally;
use crate::pingpong::{
    self, Body, ConnectAnswer, ConnectRequest, HEADER_BYTES, PingAnswer, PingRequest, packet, write_packet,
};

/// Length of a ping on its way.
pub(crate) const PING_BYTES: usize = HEADER_BYTES + 12;

/// The pings of a worker.
pub(in crate::generator) struct Pingpong {
    client_version: u32,
    /// Of all workers.
    session_ids: Arc<Mutex<HashSet<u64>>>,
    clients: Vec<Client>,
    /// In what was filled last.
    time_ms: u64,
    pub(in crate::generator) tally: TalkTally,
}

#[derive(Default)]
struct Client {
    pieces: Pieces,
    /// Not 0 once its greeting is answered.
    session_id: u64,
    /// The number of the next ping.
    next: u32,
    /// Numbers and times of those without an answer.
    awaited: VecDeque<(u32, u64)>,
}

impl Pingpong {
    pub(super) fn new(client_version: u32, session_ids: Arc<Mutex<HashSet<u64>>>) -> Self {
        Pingpong { client_version, session_ids, clients: Vec::new(), time_ms: 0, tally: TalkTally::default() }
    }

    pub(super) fn greet(&mut self, token: u64) -> Vec<u8> {
        *entry(&mut self.clients, token) = Client::default();
        packet(&ConnectRequest { client_version: self.client_version })
    }

    pub(super) fn fill(&mut self, token: u64, bytes: &mut [u8]) {
        self.time_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let mut sequence = self.clients[token as usize].next;
        for ping in bytes.chunks_exact_mut(PING_BYTES) {
            write_packet(&PingRequest { client_time_ms: self.time_ms, sequence }, ping);
            sequence = sequence.wrapping_add(1);
        }
    }

    pub(super) fn sent(&mut self, token: u64, bytes: usize) {
        let client = &mut self.clients[token as usize];
        for _ in 0..bytes / PING_BYTES {
            client.awaited.push_back((client.next, self.time_ms));
            client.next = client.next.wrapping_add(1);
        }
    }

    pub(super) fn hear(&mut self, token: u64, bytes: &[u8], heard: &mut Vec<Heard>) {
        let client = &mut self.clients[token as usize];
        let (ids, tally) = (&self.session_ids, &mut self.tally);
        let mut pieces = std::mem::take(&mut client.pieces);
        let mut messages = 0;
        pieces.take(bytes, length, |packet| match client.take(packet, ids) {
            Ok(true) => {
                messages += 1;
                true
            }
            Ok(false) => {
                heard.push(Heard::Ready);
                true
            }
            Err(reason) => {
                tally.wrong_answers += u64::from(client.session_id != 0);
                heard.push(Heard::Broken(reason));
                false
            }
        });
        client.pieces = pieces;
        if messages > 0 {
            // Before the reason why there are no more of them.
            let at = heard.iter().position(|one| matches!(one, Heard::Broken(_))).unwrap_or(heard.len());
            heard.insert(at, Heard::Answered { token, messages });
        }
    }

    pub(super) fn end(&mut self, token: u64) {
        let id = std::mem::take(&mut entry(&mut self.clients, token).session_id);
        self.session_ids.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

impl Client {
    /// True for the answer to a ping, false for that to the greeting. Errors: what is wrong with it.
    fn take(&mut self, packet: &[u8], ids: &Mutex<HashSet<u64>>) -> Result<bool, String> {
        let Some((&[_, _, low, high], body)) = packet.split_first_chunk() else {
            return Err("a packet is shorter than its header".into());
        };
        let id = u16::from_le_bytes([low, high]);
        match id {
            ConnectAnswer::ID if self.session_id == 0 => self.take_greeting(body, ids).map(|()| false),
            PingAnswer::ID if self.session_id != 0 => self.take_answer(body).map(|()| true),
            _ => Err(format!("a packet of kind {id} came, which nobody asked for")),
        }
    }

    fn take_greeting(&mut self, body: &[u8], ids: &Mutex<HashSet<u64>>) -> Result<(), String> {
        let answer = ConnectAnswer::parse(body).ok_or("the answer to the connect request has a wrong size")?;
        if answer.result != pingpong::OK {
            let (result, text) = (answer.result, pingpong::result_text(answer.result));
            return Err(format!("the server refused: {text} (result {result})"));
        }
        let is_new = ids.lock().unwrap_or_else(PoisonError::into_inner).insert(answer.session_id);
        if answer.session_id == 0 || !is_new {
            return Err(format!("session id {} is zero or that of another open session", answer.session_id));
        }
        self.session_id = answer.session_id;
        Ok(())
    }

    fn take_answer(&mut self, body: &[u8]) -> Result<(), String> {
        let answer = PingAnswer::parse(body).ok_or("the answer to a ping has a wrong size")?;
        let came = (answer.sequence, answer.client_time_ms);
        match self.awaited.pop_front() {
            Some(awaited) if awaited == came => Ok(()),
            Some((sequence, time_ms)) => {
                Err(format!("ping {sequence} of {time_ms} ms was answered by number {} of {} ms", came.0, came.1))
            }
            None => Err(format!("an answer to ping {} came, which was not sent or is answered", came.0)),
        }
    }
}

/// A size below the header's is a message of that size, which is then found to be none.
fn length(bytes: &[u8]) -> Option<usize> {
    let size = u16::from_le_bytes(*bytes.first_chunk()?);
    Some(usize::from(size).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeted() -> (Pingpong, Vec<Heard>) {
        let mut pingpong = Pingpong::new(3, Arc::default());
        assert_eq!(pingpong.greet(0), [8, 0, 1, 0, 3, 0, 0, 0]);
        let mut heard = Vec::new();
        let answer = packet(&ConnectAnswer { session_id: 7, server_time_s: 1, result: pingpong::OK });
        pingpong.hear(0, &answer, &mut heard);
        assert_eq!(std::mem::take(&mut heard), [Heard::Ready]);
        (pingpong, heard)
    }

    /// Sends so many pings; their answers.
    fn answers(pingpong: &mut Pingpong, count: usize) -> Vec<PingAnswer> {
        let mut bytes = vec![0; count * PING_BYTES];
        pingpong.fill(0, &mut bytes);
        pingpong.sent(0, bytes.len());
        let answer = |ping: &[u8]| {
            let PingRequest { client_time_ms, sequence } = PingRequest::parse(&ping[HEADER_BYTES..]).unwrap();
            PingAnswer { client_time_ms, server_time_ms: 1, sequence }
        };
        bytes.chunks(PING_BYTES).map(answer).collect()
    }

    #[test]
    fn answers_in_order_are_counted_however_they_are_cut() {
        let (mut pingpong, mut heard) = greeted();
        let bytes: Vec<u8> = answers(&mut pingpong, 3).iter().flat_map(packet).collect();
        pingpong.hear(0, &bytes[..30], &mut heard);
        pingpong.hear(0, &bytes[30..], &mut heard);
        assert_eq!(heard, [Heard::Answered { token: 0, messages: 1 }, Heard::Answered { token: 0, messages: 2 }]);
        assert_eq!(pingpong.tally.wrong_answers, 0);
    }

    #[test]
    fn every_wrong_answer_is_found() {
        type Change = fn(&mut Vec<PingAnswer>);
        let changes: [Change; 4] = [
            |answers| answers[1].sequence += 1,
            |answers| answers[1].client_time_ms -= 1,
            |answers| answers.insert(1, answers[0]),
            |answers| answers.swap(1, 2),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let (mut pingpong, mut heard) = greeted();
            let mut answers = answers(&mut pingpong, 3);
            change(&mut answers);
            pingpong.hear(0, &answers.iter().flat_map(packet).collect::<Vec<u8>>(), &mut heard);
            assert_eq!(heard.first(), Some(&Heard::Answered { token: 0, messages: 1 }), "change {number}");
            assert!(matches!(heard[1..], [Heard::Broken(_)]), "change {number}: {heard:?}");
            assert_eq!(pingpong.tally.wrong_answers, 1);
        }
    }

    #[test]
    fn session_ids_are_not_zero_and_each_once() {
        let (mut pingpong, mut heard) = greeted();
        for (token, session_id) in [(1, 0), (2, 7)] {
            pingpong.greet(token);
            let answer = ConnectAnswer { session_id, server_time_s: 1, result: pingpong::OK };
            pingpong.hear(token, &packet(&answer), &mut heard);
            assert!(matches!(heard.pop(), Some(Heard::Broken(_))), "{session_id}");
        }
        // Once its session is over an id may come again.
        pingpong.end(0);
        pingpong.greet(3);
        pingpong.hear(3, &packet(&ConnectAnswer { session_id: 7, server_time_s: 1, result: 0 }), &mut heard);
        assert_eq!(heard, [Heard::Ready]);
    }

    #[test]
    fn a_refusal_says_why() {
        let (mut pingpong, mut heard) = greeted();
        pingpong.greet(1);
        pingpong.hear(1, &packet(&ConnectAnswer { session_id: 9, server_time_s: 1, result: 2 }), &mut heard);
        assert_eq!(heard, [Heard::Broken("the server refused: the server is full (result 2)".into())]);
    }
}

//! A thousand clients on a driver and a thread of their own. Whoever's connection ends comes back as another.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use raon::SessionId;
use raon_provider::{Completions, Config, Driver, Outcome, SocketId};

use crate::common::BACKENDS;
use crate::common::frames::Frames;

/// What one client hears.
#[derive(Default)]
pub(crate) struct Ear {
    /// Whose ear it is, as the server's welcome said.
    pub(crate) id: Option<SessionId>,
    /// Messages of game threads.
    pub(crate) count: u64,
    pub(crate) broadcasts: u64,
    last: BTreeMap<u64, u64>,
}

impl Ear {
    /// A message: for this client, and behind those that its sender has sent before.
    pub(crate) fn hear(&mut self, id: u16, body: &[u8]) {
        let word = |place: usize| u64::from_le_bytes(body[place * 8..place * 8 + 8].try_into().unwrap());
        match id {
            1 => self.id = Some(SessionId::from_bits(word(0))),
            2 => {
                assert_eq!(Some(SessionId::from_bits(word(0))), self.id, "given to another session");
                let last = self.last.insert(word(1), word(2)).unwrap_or(0);
                assert!(word(2) > last, "thread {}: {} after {last}", word(1), word(2));
                self.count += 1;
            }
            _ => self.broadcasts += 1,
        }
    }
}

#[derive(Default)]
struct Heard {
    by_session: BTreeMap<SessionId, u64>,
    broadcasts_min: u64,
}

/// See the module.
pub(crate) struct Fleet {
    heard: Arc<Mutex<Heard>>,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Fleet {
    /// So many clients of that server.
    pub(crate) fn launch(address: SocketAddr, count: usize) -> Self {
        let (heard, is_over) = (Arc::new(Mutex::new(Heard::default())), Arc::new(AtomicBool::new(false)));
        let thread = {
            let (heard, is_over) = (heard.clone(), is_over.clone());
            std::thread::spawn(move || sail(address, count, &heard, &is_over))
        };
        Fleet { heard, is_over, thread }
    }

    /// Messages of game threads so far, by session.
    pub(crate) fn heard(&self) -> BTreeMap<SessionId, u64> {
        self.heard.lock().unwrap().by_session.clone()
    }

    /// Broadcasts that each of them has heard.
    pub(crate) fn broadcasts_min(&self) -> u64 {
        self.heard.lock().unwrap().broadcasts_min
    }

    /// Ends all connections.
    pub(crate) fn land(self) -> BTreeMap<SessionId, u64> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        let heard = self.heard.lock().unwrap();
        heard.by_session.clone()
    }
}

struct Client {
    ear: Ear,
    frames: Frames,
    socket: SocketId,
}

fn sail(address: SocketAddr, count: usize, heard: &Mutex<Heard>, is_over: &AtomicBool) {
    let mut driver = Driver::open(&Config::named(BACKENDS[BACKENDS.len() - 1].parse().unwrap())).unwrap();
    let mut completions = Completions::with_capacity(1024);
    let client = || Client { ear: Ear::default(), frames: Frames::default(), socket: SocketId::NONE };
    let mut clients: Vec<Client> = (0..count).map(|_| client()).collect();
    for number in 0..count as u64 {
        driver.connect(address, &Default::default(), number).unwrap();
    }
    let mut gone = BTreeMap::new();
    while !is_over.load(Ordering::Relaxed) {
        driver.poll(Some(Duration::from_millis(5)), &mut completions).unwrap();
        while let Some(completion) = completions.pop() {
            let own = &mut clients[completion.token as usize];
            match completion.outcome {
                Outcome::Connected => {
                    own.socket = completion.socket;
                    driver.receive(own.socket, completion.token).unwrap();
                }
                Outcome::Received(bytes) if !bytes.is_empty() => {
                    own.frames.push(&bytes);
                    own.frames.take().iter().for_each(|(id, body)| own.ear.hear(*id, body));
                }
                Outcome::Received(_) | Outcome::Failed { .. } if own.socket == completion.socket => {
                    let before = std::mem::replace(own, client());
                    gone.extend(before.ear.id.map(|id| (id, before.ear.count)));
                    let deadline = Duration::from_secs(1);
                    let mode = raon_provider::CloseMode::Graceful { deadline };
                    driver.close(completion.socket, mode, completion.token).unwrap();
                    driver.connect(address, &Default::default(), completion.token).unwrap();
                }
                _ => {}
            }
        }
        tell(&clients, &gone, heard);
    }
}

fn tell(clients: &[Client], gone: &BTreeMap<SessionId, u64>, heard: &Mutex<Heard>) {
    let there = clients.iter().filter_map(|client| Some((client.ear.id?, client.ear.count)));
    let by_session = gone.iter().map(|(id, count)| (*id, *count)).chain(there).collect();
    let broadcasts_min = clients.iter().map(|client| client.ear.broadcasts).min().unwrap_or(0);
    *heard.lock().unwrap() = Heard { by_session, broadcasts_min };
}

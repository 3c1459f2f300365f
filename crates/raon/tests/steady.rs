//! The steady state asks for no memory: not for a message, not for one that comes in pieces, not for one of another thread.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use common::frames::packet;
use common::{BACKENDS, PATIENCE, address_of};
use raon::{Application, Context, Message, Packet, PacketHead, Server, SessionId};
use raon_conformance::allocator::allocations;

const CLIENTS: usize = 16;
const IN_FLIGHT: usize = 20;
const ROUNDS: usize = 300;
/// Rounds in which tables and spares grow to the load.
const WARM_ROUNDS: usize = 200;

/// Two batches with an arena and commands each, two lists of sessions, three tables of the driver.
const GROWN_MAX: u64 = 9;

/// Echoes, and notes what the shard's thread has asked for when it is told that a round begins.
struct Echo {
    ids: Arc<Mutex<Vec<SessionId>>>,
    asked: Arc<Mutex<Vec<u64>>>,
}

impl Application for Echo {
    type Framing = Packet;
    type Session = ();
    type Post = ();

    fn on_open(&mut self, ctx: &mut Context<'_, Self>) {
        self.ids.lock().unwrap().push(ctx.id());
    }

    fn on_message(&mut self, ctx: &mut Context<'_, Self>, _session: &mut (), message: Message<'_, PacketHead>) {
        ctx.reply(message.head(), &message);
        // The longer way to the same place.
        ctx.reply_with(PacketHead { id: 2 }, message.len(), |body| body.put(&message));
    }

    fn on_post(&mut self, _ctx: &mut Context<'_, Self>, _key: u64, (): ()) {
        self.asked.lock().unwrap().push(allocations());
    }
}

/// All clients say something, some of it in pieces; somebody else sends to them; all answers are read.
fn round(clients: &mut [TcpStream], ids: &[SessionId], handle: &raon::ServerHandle<Echo>) {
    let request = packet(1, &[7; 60]).repeat(IN_FLIGHT);
    for (place, client) in clients.iter_mut().enumerate() {
        let (first, second) = request.split_at(request.len() / 2 + place);
        client.write_all(first).unwrap();
        client.write_all(second).unwrap();
    }
    for id in ids {
        while handle.send(*id, PacketHead { id: 3 }, &[1; 60]).is_err() {}
    }
    let mut answers = vec![0; (2 * IN_FLIGHT + 1) * 64];
    clients.iter_mut().for_each(|client| client.read_exact(&mut answers).unwrap());
}

#[test]
fn no_allocation_per_message() {
    for backend in BACKENDS {
        let (ids, asked) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::with_capacity(2 * ROUNDS))));
        let shared = (ids.clone(), asked.clone());
        let server = Server::builder()
            .listen("127.0.0.1:0")
            .workers(1)
            .configure(|config| config.backend = backend.into())
            .application(Packet::new(), move |_| Echo { ids: shared.0.clone(), asked: shared.1.clone() })
            .start()
            .unwrap();
        let handle = server.handle().clone();
        let mut clients: Vec<TcpStream> = (0..CLIENTS)
            .map(|_| {
                let client = TcpStream::connect(address_of(&handle)).unwrap();
                client.set_nodelay(true).unwrap();
                client.set_read_timeout(Some(PATIENCE)).unwrap();
                client
            })
            .collect();
        common::until("all to be in", || ids.lock().unwrap().len() == CLIENTS);
        let ids = ids.lock().unwrap().clone();
        for count in 1..=ROUNDS {
            round(&mut clients, &ids, &handle);
            handle.post(0, ()).unwrap();
            common::until("the round to be noted", || asked.lock().unwrap().len() == count);
        }
        let asked = asked.lock().unwrap().clone();
        assert!(asked[0] > 0, "the allocator counts");
        let grown = asked[ROUNDS - 1] - asked[WARM_ROUNDS];
        // Load that comes in another rhythm may still double a table or the other: not more than that.
        assert!(
            grown <= GROWN_MAX,
            "{backend}: {grown} allocations in {} messages",
            (ROUNDS - WARM_ROUNDS) * CLIENTS * 41
        );
        drop(clients);
        handle.stop(std::time::Duration::from_secs(1));
        server.join().unwrap();
    }
}

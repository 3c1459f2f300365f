//! Messages through a server of the engine, both ends in one thread and in a simulated network: no kernel takes part, so
//! the same code always takes the same number of instructions.

use std::time::Duration;

use raon::{Application, Context, Message, Packet, PacketHead, Server, ServerHandle, SessionId, SimPeer, Simulation};

use super::Visit;

/// Sessions, and messages of a batch.
const SESSIONS: usize = 64;
/// Members of the group that hears a broadcast.
const AUDIENCE: usize = 20;
const BODY_BYTES: usize = 64;
/// A packet: length, id, body.
const FRAME_BYTES: usize = 4 + BODY_BYTES;
/// Simulated time that a batch may take.
const LIMIT: Duration = Duration::from_secs(60);

const ECHO: PacketHead = PacketHead { id: 1 };
const BROADCAST: PacketHead = PacketHead { id: 2 };
const TIMERS: PacketHead = PacketHead { id: 3 };

pub(super) fn each(visit: Visit<'_>) {
    let mut rig = Rig::new(SESSIONS);
    visit("message echoed by Packet, engine in a simulated network", SESSIONS as u64, &mut || {
        rig.write_all(ECHO);
        rig.read_all(FRAME_BYTES);
    });
    visit("message pushed by a handle, engine in a simulated network", SESSIONS as u64, &mut || {
        for session in &rig.sessions {
            rig.handle.send(*session, ECHO, &[7; BODY_BYTES]).expect("the mailbox has room");
        }
        rig.read_all(FRAME_BYTES);
    });
    visit("timer, set to fired, engine in a simulated network", SESSIONS as u64, &mut || {
        rig.write_all(TIMERS);
        rig.read_all(FRAME_BYTES);
    });
    let mut rig = Rig::new(AUDIENCE);
    visit("message broadcast to 20, engine in a simulated network", AUDIENCE as u64, &mut || {
        rig.write_all(BROADCAST);
        rig.read_all(AUDIENCE * FRAME_BYTES);
    });
}

/// A server and its clients, each of which is a session.
struct Rig {
    simulation: Simulation,
    handle: ServerHandle<Service>,
    clients: Vec<SimPeer>,
    sessions: Vec<SessionId>,
}

impl Rig {
    fn new(count: usize) -> Rig {
        let mut simulation = Simulation::new(1);
        let server = Server::builder().workers(1).application(Packet::new(), |_| Service);
        let handle = simulation.serve(server).expect("a simulated server starts");
        let clients = (0..count).map(|_| simulation.connect()).collect();
        let mut rig = Rig { simulation, handle, clients, sessions: Vec::new() };
        rig.write_all(ECHO);
        rig.sessions = rig.first_bodies();
        rig
    }

    fn write_all(&mut self, head: PacketHead) {
        let Rig { simulation, clients, .. } = self;
        let frame = frame(head);
        simulation.run_until(LIMIT, || clients.iter().all(SimPeer::is_connected));
        for client in clients {
            assert_eq!(client.write(&frame).ok(), Some(FRAME_BYTES));
        }
    }

    /// Reads until each client has so many bytes.
    fn read_all(&mut self, bytes: usize) {
        let Rig { simulation, clients, .. } = self;
        let (mut place, mut read, mut buffer) = (0, 0, [0; AUDIENCE * FRAME_BYTES]);
        let is_done = simulation.run_until(LIMIT, || {
            while let Some(client) = clients.get_mut(place) {
                let Some(length) = client.read(&mut buffer[read..bytes]).expect("the session lives") else { break };
                read += length;
                if read == bytes {
                    (place, read) = (place + 1, 0);
                }
            }
            place == clients.len()
        });
        assert!(is_done, "{place} of {} clients have their {bytes} bytes", clients.len());
    }

    /// The ids of the sessions, as each has been told in the body of its first packet.
    fn first_bodies(&mut self) -> Vec<SessionId> {
        let mut ids = Vec::new();
        for client in &mut self.clients {
            let mut frame = [0; FRAME_BYTES];
            self.simulation.run_until(LIMIT, || client.read(&mut frame).expect("the session lives").is_some());
            let bits = u64::from_le_bytes(frame[4..12].try_into().expect("eight bytes"));
            ids.push(SessionId::from_bits(bits));
        }
        ids
    }
}

fn frame(head: PacketHead) -> Vec<u8> {
    let mut frame = (FRAME_BYTES as u16).to_le_bytes().to_vec();
    frame.extend_from_slice(&head.id.to_le_bytes());
    frame.resize(FRAME_BYTES, 7);
    frame
}

/// Answers each packet by its kind; the body begins with the session's id.
struct Service;

impl Application for Service {
    type Framing = Packet;
    type Session = ();
    type Post = ();

    fn on_open(&mut self, ctx: &mut Context<'_, Self>) {
        ctx.group(1u64).join();
    }

    fn on_message(&mut self, ctx: &mut Context<'_, Self>, _: &mut (), message: Message<'_, PacketHead>) {
        let own = ctx.id().to_bits();
        match message.head() {
            BROADCAST => drop(ctx.group(1u64).broadcast(None, BROADCAST, &message)),
            TIMERS => ctx.set_timer(Duration::ZERO, own).expect("timers are left"),
            head => drop(ctx.reply(head, &body(own))),
        }
    }

    fn on_timer(&mut self, ctx: &mut Context<'_, Self>, token: u64) {
        let _ = ctx.send(SessionId::from_bits(token), TIMERS, &body(token));
    }
}

fn body(bits: u64) -> [u8; BODY_BYTES] {
    let mut body = [7; BODY_BYTES];
    body[..8].copy_from_slice(&bits.to_le_bytes());
    body
}

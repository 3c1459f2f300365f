//! Memory that others have used, on real back ends: what a sloppy writer or framing sends is its own, or nothing.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use common::{BACKENDS, PATIENCE, address_of};
use raon::{
    Application, Context, Decoded, EncodeError, Framing, FramingError, Message, Refusal, SendOutcome, Server, SessionId,
};

/// What a stranger is told.
const SECRET: u8 = 0xA5;
/// Few, so that each is used again at once.
const SEND_BUFFERS: u32 = 4;

/// A length of two bytes in a prefix of four, of which the last two are never written.
#[derive(Clone)]
struct Sloppy;

impl Framing for Sloppy {
    type Head = ();

    fn decode(&self, input: &[u8], _scanned: usize) -> Result<Decoded<()>, FramingError> {
        let Some(field) = input.first_chunk::<2>() else {
            return Ok(Decoded::Incomplete { length: None, scanned: 0 });
        };
        let length = usize::from(u16::from_le_bytes(*field)).max(4);
        if input.len() < length {
            return Ok(Decoded::Incomplete { length: Some(length), scanned: 0 });
        }
        Ok(Decoded::Frame { head: (), body: 4..length, length })
    }

    fn prefix_bytes(&self) -> usize {
        4
    }

    fn write_prefix(&self, _head: (), body_bytes: usize, out: &mut [u8]) {
        out[..2].copy_from_slice(&((4 + body_bytes) as u16).to_le_bytes());
    }

    fn check(&self, _head: (), body: &[u8]) -> Result<(), EncodeError> {
        EncodeError::check_limit(body.len() + 4, self.message_bytes_max())
    }

    fn message_bytes_max(&self) -> usize {
        4096
    }
}

#[derive(Clone, Default)]
struct Teller {
    outcomes: Arc<Mutex<Vec<SendOutcome>>>,
    ids: Arc<Mutex<Vec<SessionId>>>,
}

impl Application for Teller {
    type Framing = Sloppy;
    type Session = ();
    type Post = ();

    fn on_open(&mut self, ctx: &mut Context<'_, Self>) {
        ctx.group("all").join();
        self.ids.lock().unwrap().push(ctx.id());
    }

    fn on_message(&mut self, ctx: &mut Context<'_, Self>, _session: &mut (), message: Message<'_, ()>) {
        if message.first() == Some(&1) {
            ctx.reply((), &[SECRET; 4000]);
            return;
        }
        let mut outcomes = self.outcomes.lock().unwrap();
        outcomes.push(ctx.reply_with((), 3000, |_| ()));
        outcomes.push(ctx.reply_with((), 2, |body| body.put(b"long")));
        outcomes.push(ctx.reply_with((), usize::MAX, |body| body.put_repeated(0, 4093)));
        // To those of the other shard, too.
        for id in self.ids.lock().unwrap().iter() {
            outcomes.push(ctx.send_with(*id, (), 3000, |body| body.put(b"to you")));
            outcomes.push(ctx.send_with(*id, (), 3, |body| body.put(b"long")));
            outcomes.push(ctx.send_droppable_with(*id, None, (), 3000, |body| body.put(b"perhaps")));
        }
        ctx.group("all").broadcast_with(None, (), 3000, |body| body.put(b"to all"));
        ctx.group("all").broadcast_droppable_with(None, 1, (), 3000, |body| body.put(b"snapshot"));
        ctx.group("all").broadcast_droppable_with(None, 1, (), 3, |body| body.put(b"long"));
    }
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = vec![4 + body.len() as u8, 0, 0, 0];
    frame.extend_from_slice(body);
    frame
}

//= OUTBOX-5, OWN-3
#[test]
fn no_strangers_bytes_leave_with_a_short_body_or_prefix() {
    for backend in BACKENDS {
        let teller = Teller::default();
        let shared = teller.clone();
        let server = Server::builder()
            .listen("127.0.0.1:0")
            .workers(2)
            .configure(|config| (config.backend, config.send_buffers) = (backend.into(), SEND_BUFFERS))
            .application(Sloppy, move |_| shared.clone())
            .start()
            .unwrap();
        let handle = server.handle().clone();
        let mut clients: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(address_of(&handle)).unwrap()).collect();
        clients.iter().for_each(|client| client.set_read_timeout(Some(PATIENCE)).unwrap());
        common::until("both to be in", || teller.ids.lock().unwrap().len() == 2);
        // Every send buffer of either shard has held the secret.
        let mut secret = vec![0; 4004];
        for client in &mut clients {
            for _ in 0..2 * SEND_BUFFERS {
                client.write_all(&frame(&[1])).unwrap();
                client.read_exact(&mut secret).unwrap();
                assert_eq!(secret[4..], [SECRET; 4000]);
            }
        }
        clients[0].write_all(&frame(&[2])).unwrap();
        let told = [&b"to you"[..], b"perhaps", b"to all", b"snapshot"].map(frame).concat();
        let expected = [[frame(b""), told.clone()].concat(), told];
        for (client, expected) in clients.iter_mut().zip(expected) {
            let mut heard = vec![0; expected.len()];
            client.read_exact(&mut heard).unwrap();
            assert_eq!(heard, expected, "{backend}");
        }
        let too_long = |frame_bytes, limit_bytes| {
            SendOutcome::Refused(Refusal::Unencodable(EncodeError::TooLong { frame_bytes, limit_bytes }))
        };
        let mut expected = vec![SendOutcome::Queued, too_long(8, 6), too_long(4097, 4096)];
        for _ in 0..2 {
            expected.extend([SendOutcome::Queued, too_long(8, 7), SendOutcome::Queued]);
        }
        assert_eq!(*teller.outcomes.lock().unwrap(), expected, "{backend}");
        drop(clients);
        handle.stop(std::time::Duration::from_secs(1));
        server.join().unwrap();
        assert_eq!(handle.stats().messages_refused, 5, "one of them a broadcast");
    }
}

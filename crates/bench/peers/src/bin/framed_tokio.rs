//! Frames with tokio, current_thread runtime: a task per connection, and for what other threads send a bounded channel per
//! session. By default as the documentation of tokio-util shows it: `Framed` with a length-delimited codec, and a `send`
//! for every message. `--tuned`: what is there is taken together and fed, and flushed once. `--per-session-buffer`:
//! without a codec, an output buffer per session and one write for all that a read has brought.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use clap::Parser;
use futures_util::{FutureExt, SinkExt, StreamExt};
use raon_bench_peers::Common;
use raon_bench_peers::framed::{Asked, Assembler, FRAME_MAX, JOINED, Producer, SIZE_BYTES, answer, asked};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

#[derive(Clone, Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Take together what is there, feed it, flush once.
    #[arg(long, conflicts_with = "per_session_buffer")]
    tuned: bool,
    /// An output buffer per session in place of a codec.
    #[arg(long)]
    per_session_buffer: bool,
}

/// Messages that may wait for a session before whoever sends to it waits.
const CHANNEL: usize = 1024;
/// Messages that are taken together.
const TOGETHER: usize = 256;

/// By session number, for the producer. Frames are whole.
type Sessions = Arc<Mutex<Vec<Option<mpsc::Sender<Bytes>>>>>;

/// What a session needs besides its connection.
struct Session {
    sessions: Sessions,
    producer: Producer,
    sender: mpsc::Sender<Bytes>,
    pushes: mpsc::Receiver<Bytes>,
    number: Option<u32>,
}

impl Session {
    fn new(sessions: &Sessions, producer: &Producer) -> Self {
        let (sender, pushes) = mpsc::channel(CHANNEL);
        Self { sessions: sessions.clone(), producer: producer.clone(), sender, pushes, number: None }
    }

    /// Does what a message asks for, and says under which id it goes back, if it does.
    fn serve(&mut self, message: &[u8]) -> io::Result<Option<u16>> {
        match asked(message)? {
            Asked::Answer(id) => return Ok(Some(id)),
            Asked::Join(number) => {
                let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
                if sessions.len() <= number as usize {
                    sessions.resize(number as usize + 1, None);
                }
                sessions[number as usize] = Some(self.sender.clone());
                self.number = Some(number);
                return Ok(Some(JOINED));
            }
            Asked::Grant { count, sessions } => self.producer.grant(count, sessions)?,
        }
        Ok(None)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.sessions.lock().unwrap_or_else(PoisonError::into_inner)[number as usize] = None;
        }
    }
}

/// Frames come and go without their size, which the codec reads and writes.
fn framed(stream: TcpStream) -> Framed<TcpStream, LengthDelimitedCodec> {
    let codec = LengthDelimitedCodec::builder()
        .little_endian()
        .length_field_type::<u16>()
        .length_adjustment(-(SIZE_BYTES as isize))
        .max_frame_length(FRAME_MAX)
        .new_codec();
    Framed::new(stream, codec)
}

/// What goes back for a message.
fn reply(session: &mut Session, mut message: BytesMut) -> io::Result<Option<Bytes>> {
    Ok(session.serve(&message)?.map(|id| {
        message[..size_of::<u16>()].copy_from_slice(&id.to_le_bytes());
        message.freeze()
    }))
}

async fn idiomatic(stream: TcpStream, mut session: Session) -> io::Result<()> {
    let mut framed = framed(stream);
    loop {
        tokio::select! {
            message = framed.next() => {
                let Some(message) = message.transpose()? else { return Ok(()) };
                if let Some(reply) = reply(&mut session, message)? {
                    framed.send(reply).await?;
                }
            }
            Some(push) = session.pushes.recv() => framed.send(push.slice(SIZE_BYTES..)).await?,
        }
    }
}

async fn flush(framed: &mut Framed<TcpStream, LengthDelimitedCodec>) -> io::Result<()> {
    SinkExt::<Bytes>::flush(framed).await
}

async fn tuned(stream: TcpStream, mut session: Session) -> io::Result<()> {
    let mut framed = framed(stream);
    let mut pushes = Vec::new();
    loop {
        tokio::select! {
            message = framed.next() => {
                let mut there = Some(message);
                while let Some(message) = there {
                    let Some(message) = message.transpose()? else { return flush(&mut framed).await };
                    if let Some(reply) = reply(&mut session, message)? {
                        framed.feed(reply).await?;
                    }
                    there = framed.next().now_or_never();
                }
            }
            _ = session.pushes.recv_many(&mut pushes, TOGETHER) => {
                for push in pushes.drain(..) {
                    framed.feed(push.slice(SIZE_BYTES..)).await?;
                }
            }
        }
        flush(&mut framed).await?;
    }
}

async fn buffered(mut stream: TcpStream, mut session: Session, buffer_bytes: usize) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    let (mut buf, mut out, mut pushes) = (vec![0; buffer_bytes], Vec::new(), Vec::new());
    let mut assembler = Assembler::default();
    loop {
        tokio::select! {
            count = reader.read(&mut buf) => match count? {
                0 => return Ok(()),
                count => assembler.feed(&buf[..count], |frame| {
                    if let Some(id) = session.serve(&frame[SIZE_BYTES..])? {
                        answer(frame, id, &mut out);
                    }
                    Ok(())
                })?,
            },
            _ = session.pushes.recv_many(&mut pushes, TOGETHER) => {
                pushes.drain(..).for_each(|push: Bytes| out.extend_from_slice(&push));
            }
        }
        writer.write_all(&out).await?;
        out.clear();
    }
}

async fn run(stream: TcpStream, session: Session, args: Args) -> io::Result<()> {
    match args {
        Args { tuned: true, .. } => tuned(stream, session).await,
        Args { per_session_buffer: true, common, .. } => buffered(stream, session, common.buffer_bytes).await,
        _ => idiomatic(stream, session).await,
    }
}

async fn serve(listener: std::net::TcpListener, args: Args) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let sessions = Sessions::default();
    let reached = sessions.clone();
    let producer = Producer::spawn(move |number, push| {
        let sender = reached.lock().unwrap_or_else(PoisonError::into_inner).get(number as usize).cloned().flatten();
        if let Some(sender) = sender {
            // A session that is gone misses it.
            let _ = sender.blocking_send(Bytes::copy_from_slice(&push));
        }
    })?;
    loop {
        let (stream, _) = match listener.accept().await {
            // The peer is gone already; another may wait.
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => continue,
            result => result?,
        };
        tokio::spawn(run(stream, Session::new(&sessions, &producer), args.clone()));
    }
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let listener = args.common.start(env!("CARGO_BIN_NAME"))?;
    listener.set_nonblocking(true)?;
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(serve(listener, args))
}

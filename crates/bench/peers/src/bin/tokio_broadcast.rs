//! One message to everyone with tokio, current_thread runtime, one task per connection. By default the way that
//! tokio's documentation shows: a `tokio::sync::broadcast` channel that each task selects on. With `--direct` the task
//! that has read the message writes it to every connection with `try_write`, and each task writes only its backlog.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use clap::Parser;
use raon_bench_peers::{Common, FRAME, Frames};
use slab::Slab;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, broadcast};

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Write to all connections from the task that has read the message.
    #[arg(long)]
    direct: bool,
    /// Messages that a connection may lag behind before it is closed (not with --direct).
    #[arg(long, default_value_t = 32768)]
    lag: usize,
}

type Message = [u8; FRAME];

async fn member(
    mut stream: TcpStream,
    sender: broadcast::Sender<Message>,
    mut receiver: broadcast::Receiver<Message>,
    buffer_bytes: usize,
) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    let mut buf = vec![0; buffer_bytes];
    let mut frames = Frames::default();
    loop {
        tokio::select! {
            count = reader.read(&mut buf) => match count? {
                0 => return Ok(()),
                // Never an error: this task itself has a receiver.
                count => frames.feed(&buf[..count], |message| drop(sender.send(*message))),
            },
            message = receiver.recv() => {
                writer.write_all(&message.map_err(io::Error::other)?).await?;
            }
        }
    }
}

struct DirectMember {
    stream: TcpStream,
    /// What the socket did not take.
    backlog: RefCell<Vec<u8>>,
    behind: Notify,
}

type DirectMembers = Rc<RefCell<Slab<Rc<DirectMember>>>>;

fn send_to_all(members: &DirectMembers, message: &Message) {
    for (_, member) in members.borrow().iter() {
        let mut backlog = member.backlog.borrow_mut();
        // An error is left to the member's task, which meets it again.
        let sent = if backlog.is_empty() { member.stream.try_write(message).unwrap_or(0) } else { 0 };
        if sent < FRAME {
            backlog.extend_from_slice(&message[sent..]);
            member.behind.notify_one();
        }
    }
}

fn write_backlog(member: &DirectMember) -> io::Result<()> {
    let mut backlog = member.backlog.borrow_mut();
    match member.stream.try_write(&backlog) {
        Ok(sent) => drop(backlog.drain(..sent)),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
        Err(e) => return Err(e),
    }
    Ok(())
}

async fn direct_member(member: &DirectMember, members: &DirectMembers, buffer_bytes: usize) -> io::Result<()> {
    let mut buf = vec![0; buffer_bytes];
    let mut frames = Frames::default();
    loop {
        let is_behind = !member.backlog.borrow().is_empty();
        tokio::select! {
            ready = member.stream.readable() => {
                ready?;
                match member.stream.try_read(&mut buf) {
                    Ok(0) => return Ok(()),
                    Ok(count) => frames.feed(&buf[..count], |message| send_to_all(members, message)),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    Err(e) => return Err(e),
                }
            }
            // Reading goes on meanwhile: a member that reads nothing until it has spoken must not be waited for.
            ready = member.stream.writable(), if is_behind => {
                ready?;
                write_backlog(member)?;
            }
            () = member.behind.notified(), if !is_behind => {}
        }
    }
}

async fn serve(listener: std::net::TcpListener, args: Args) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let buffer_bytes = args.common.buffer_bytes;
    let (sender, _) = broadcast::channel(args.lag);
    let members = DirectMembers::default();
    loop {
        let (stream, _) = match listener.accept().await {
            // The peer is gone already; another may wait.
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => continue,
            result => result?,
        };
        if args.direct {
            let (backlog, behind) = (RefCell::default(), Notify::new());
            let new = Rc::new(DirectMember { stream, backlog, behind });
            let key = members.borrow_mut().insert(new.clone());
            let members = members.clone();
            tokio::task::spawn_local(async move {
                let _ = direct_member(&new, &members, buffer_bytes).await;
                members.borrow_mut().remove(key);
            });
        } else {
            tokio::spawn(member(stream, sender.clone(), sender.subscribe(), buffer_bytes));
        }
    }
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let listener = args.common.start(env!("CARGO_BIN_NAME"))?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let tasks = tokio::task::LocalSet::new();
    if args.direct { tasks.block_on(&runtime, serve(listener, args)) } else { runtime.block_on(serve(listener, args)) }
}

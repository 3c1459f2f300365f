//! quinn-udp on tokio's UdpSocket, current_thread runtime, as quinn itself uses it: a batch of buffers with room for what
//! the kernel coalesces, and an answer to each buffer in as few messages as the kernel takes.

use std::io::{self, IoSliceMut};

use clap::Parser;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use raon_bench_peers::Common;
use tokio::io::Interest;
use tokio::net::UdpSocket;

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
}

/// The longest datagram that a server on Ethernet meets.
const DATAGRAM_BYTES: usize = 1472;

async fn answer(socket: &UdpSocket, state: &UdpSocketState, meta: &RecvMeta, bytes: &[u8]) -> io::Result<()> {
    let most = meta.stride * state.max_gso_segments();
    let mut rest = bytes;
    loop {
        let (contents, after) = rest.split_at(most.min(rest.len()));
        let transmit = Transmit {
            destination: meta.addr,
            ecn: None,
            contents,
            segment_size: Some(meta.stride),
            src_ip: meta.dst_ip,
        };
        // What cannot be sent is lost, as any datagram may be.
        let _ = socket.async_io(Interest::WRITABLE, || state.try_send(socket.into(), &transmit)).await;
        rest = after;
        if rest.is_empty() {
            return Ok(());
        }
    }
}

async fn serve(socket: std::net::UdpSocket) -> io::Result<()> {
    let state = UdpSocketState::new((&socket).into())?;
    let socket = UdpSocket::from_std(socket)?;
    let buffer_bytes = DATAGRAM_BYTES * state.gro_segments();
    let mut memory = vec![0; buffer_bytes * BATCH_SIZE];
    let mut metas = [RecvMeta::default(); BATCH_SIZE];
    loop {
        let mut chunks = memory.chunks_exact_mut(buffer_bytes);
        let mut buffers: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().expect("memory for so many")));
        let receive = || state.recv((&socket).into(), &mut buffers, &mut metas);
        let count = socket.async_io(Interest::READABLE, receive).await?;
        for (meta, bytes) in metas[..count].iter().zip(memory.chunks(buffer_bytes)) {
            answer(&socket, &state, meta, &bytes[..meta.len]).await?;
        }
    }
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let socket = args.common.start_datagrams(env!("CARGO_BIN_NAME"), false)?;
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(serve(socket))
}

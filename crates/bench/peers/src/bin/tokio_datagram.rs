//! tokio, current_thread runtime: after `examples/echo-udp.rs` and the documentation of `UdpSocket`, one buffer,
//! `recv_from` and `send_to` in turn.

use clap::Parser;
use raon_bench_peers::Common;
use tokio::net::UdpSocket;

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
}

fn main() -> std::io::Result<()> {
    let args = Args::parse();
    let socket = args.common.start_datagrams(env!("CARGO_BIN_NAME"), false)?;
    socket.set_nonblocking(true)?;
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
        let socket = UdpSocket::from_std(socket)?;
        let mut buf = vec![0; args.common.buffer_bytes];
        loop {
            let (count, from) = socket.recv_from(&mut buf).await?;
            // What cannot be sent is lost, as any datagram may be.
            let _ = socket.send_to(&buf[..count], from).await;
        }
    })
}

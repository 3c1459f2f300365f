//! tokio, current_thread runtime: one task per connection, read and write_all with one buffer per connection.

use clap::Parser;
use raon_bench_peers::Common;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
}

async fn echo(mut stream: TcpStream, buffer_bytes: usize) -> std::io::Result<()> {
    let mut buf = vec![0; buffer_bytes];
    loop {
        let count = stream.read(&mut buf).await?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buf[..count]).await?;
    }
}

fn main() -> std::io::Result<()> {
    let args = Args::parse();
    let listener = args.common.start(env!("CARGO_BIN_NAME"))?;
    listener.set_nonblocking(true)?;
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = match listener.accept().await {
                // The peer is gone already; another may wait.
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionAborted => continue,
                result => result?,
            };
            tokio::spawn(echo(stream, args.common.buffer_bytes));
        }
    })
}

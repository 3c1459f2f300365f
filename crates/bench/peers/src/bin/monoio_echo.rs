//! monoio on its io_uring driver: one task per connection, one owned buffer per connection that each operation takes
//! and gives back. The ring is built with SINGLE_ISSUER and DEFER_TASKRUN, through `uring_builder`.

use clap::Parser;
use io_uring_of_monoio::IoUring;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, RuntimeBuilder};
use raon_bench_peers::Common;

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Entries of the submission queue (monoio's default).
    #[arg(long, default_value_t = 1024)]
    sq_entries: u32,
    /// Leave the flags of the ring as monoio sets them: none.
    #[arg(long)]
    default_flags: bool,
}

async fn echo(mut stream: TcpStream, buffer_bytes: usize) -> std::io::Result<()> {
    let mut buf = Vec::with_capacity(buffer_bytes);
    let mut result;
    loop {
        (result, buf) = stream.read(buf).await;
        if result? == 0 {
            return Ok(());
        }
        (result, buf) = stream.write_all(buf).await;
        result?;
        buf.clear();
    }
}

fn main() -> std::io::Result<()> {
    let args = Args::parse();
    let listener = args.common.start(env!("CARGO_BIN_NAME"))?;
    let mut ring = IoUring::builder();
    if !args.default_flags {
        ring.setup_single_issuer().setup_defer_taskrun();
    }
    let builder = RuntimeBuilder::<IoUringDriver>::new().uring_builder(ring).with_entries(args.sq_entries);
    builder.build()?.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = match listener.accept().await {
                // The peer is gone already; another may wait.
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionAborted => continue,
                result => result?,
            };
            monoio::spawn(echo(stream, args.common.buffer_bytes));
        }
    })
}

//! compio on its io_uring driver: one runtime on one thread, one task per connection, one owned buffer per connection
//! that each operation takes and gives back.

use clap::{Parser, ValueEnum};
use compio::BufResult;
use compio::driver::ProactorBuilder;
use compio::io::{AsyncRead, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::Runtime;
use raon_bench_peers::Common;

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// How the ring runs its task work.
    #[arg(long, value_enum, default_value_t = TaskRun::Coop)]
    taskrun: TaskRun,
}

#[derive(Clone, Copy, ValueEnum)]
enum TaskRun {
    /// COOP_TASKRUN and TASKRUN_FLAG: what compio's documentation recommends for a single thread.
    Coop,
    /// SINGLE_ISSUER and DEFER_TASKRUN.
    Defer,
    /// No flags, compio's default.
    Default,
}

async fn echo(mut stream: TcpStream, buffer_bytes: usize) -> std::io::Result<()> {
    let mut buf = Vec::with_capacity(buffer_bytes);
    let mut result;
    loop {
        BufResult(result, buf) = stream.read(buf).await;
        if result? == 0 {
            return Ok(());
        }
        let written;
        BufResult(written, buf) = stream.write_all(buf).await;
        written?;
        buf.clear();
    }
}

fn main() -> std::io::Result<()> {
    let args = Args::parse();
    let listener = args.common.start(env!("CARGO_BIN_NAME"))?;
    let mut proactor = ProactorBuilder::new();
    match args.taskrun {
        TaskRun::Coop => proactor.coop_taskrun(true).taskrun_flag(true),
        TaskRun::Defer => proactor.single_issuer(true).defer_taskrun(true),
        TaskRun::Default => &mut proactor,
    };
    Runtime::builder().with_proactor(proactor).build()?.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = match listener.accept().await {
                // The peer is gone already; another may wait.
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionAborted => continue,
                result => result?,
            };
            compio::runtime::spawn(echo(stream, args.common.buffer_bytes)).detach();
        }
    })
}

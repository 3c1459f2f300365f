//! A server and a load of this same program on one back end, as processes of their own.
//!
//! 1. The server starts on a free port and says where it listens.
//! 2. The load runs against it to its end. Ctrl-C ends it early: then nothing that either of them says counts any more, for
//!    a terminal has told them, too, at whatever they were about.
//! 3. The server is asked to end, drains and tells what it has done.
//!
//! Neither outlives its [`Running`], nor this process.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use raon_provider::Kind;
use serde_json::Value;

use crate::failure::{Context, Failure};
use crate::progress::{Progress, TICK};
use crate::stop::Stop;

/// Ctrl-C in a terminal ends processes that do not listen to it yet sooner than this one hears of it.
const PATIENCE: Duration = Duration::from_secs(1);

/// What to measure.
pub(super) struct Trial {
    /// On both sides.
    pub(super) kind: Kind,
    /// As the command line calls it.
    pub(super) service: &'static str,
    pub(super) connections: u32,
    pub(super) seconds: u32,
    /// Further arguments of both sides.
    pub(super) common: Vec<String>,
    /// Further arguments of the load.
    pub(super) load: Vec<String>,
    /// In the live line and in errors.
    pub(super) name: String,
}

/// What both sides say of it, as their `--json` has it.
pub(super) struct Measured {
    /// The load's report.
    pub(super) load: Value,
    /// The server's summary; null if it gave none.
    pub(super) server: Value,
}

impl Trial {
    /// Runs it; `None` if it was time to stop before its end.
    pub(super) fn run(&self, stop: &Arc<Stop>, progress: &Progress) -> Result<Option<Measured>, Failure> {
        match self.measure(stop, progress) {
            _ if stop.is_asked() => Ok(None),
            Ok(measured) => Ok(Some(measured)),
            Err(_) if stop.is_asked_within(PATIENCE) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    fn measure(&self, stop: &Arc<Stop>, progress: &Progress) -> Result<Measured, Failure> {
        progress.say(format!("{}: starting the server", self.name));
        let mut server = start(&self.server_arguments())?;
        let address = listening_address(&mut server)?;
        let mut load = start(&self.load_arguments(&address))?;
        let (output, complaints) = (read_all(load.0.stdout.take()), read_all(load.0.stderr.take()));
        self.wait_for(&mut load, stop, progress)?;
        let server = finish(server).context(format_args!("the server on {} failed", self.name))?;
        let report = output.recv().unwrap_or_default();
        let load = serde_json::from_str(&report).map_err(|_| {
            let complaint = complaints.recv().unwrap_or_default();
            let status = load.0.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
            Failure::of(format!("the load on {} failed with {status}", self.name), words_of(&complaint))
        })?;
        Ok(Measured { load, server })
    }

    fn wait_for(&self, load: &mut Running, stop: &Arc<Stop>, progress: &Progress) -> Result<(), Failure> {
        let begin = Instant::now();
        while load.0.try_wait().context("cannot wait for the load")?.is_none() {
            let elapsed_s = begin.elapsed().as_secs_f64().min(self.seconds.into());
            progress.say(format!("{}: {elapsed_s:.1} of {} s", self.name, self.seconds));
            if stop.is_asked() {
                load.ask_to_stop();
            }
            thread::sleep(TICK);
        }
        Ok(())
    }

    fn server_arguments(&self) -> Vec<String> {
        let own = ["serve", self.service, "--listen", "127.0.0.1:0", "--json", "--backend", self.kind.name()];
        // The load is one address that says as much as it can.
        let profile: &[&str] = if self.service == "pingpong" { &["--profile", "lan"] } else { &[] };
        own.iter().chain(profile).map(|word| (*word).to_owned()).chain(self.common.clone()).collect()
    }

    fn load_arguments(&self, address: &str) -> Vec<String> {
        let own = ["load", self.service, "--connect", address, "--json", "--backend", self.kind.name()];
        let how =
            ["--connections".into(), self.connections.to_string(), "--duration".into(), format!("{}s", self.seconds)];
        own.map(String::from).into_iter().chain(self.common.clone()).chain(self.load.clone()).chain(how).collect()
    }
}

/// Ends the process it stands for when it goes out of scope.
struct Running(Child);

impl Running {
    /// As Ctrl-C would: closes the pipe whose end the process waits for (`--with-parent`). Every system can do that.
    fn ask_to_stop(&mut self) {
        drop(self.0.stdin.take());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already if this fails.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// This same program with other arguments, ending when this process does.
fn start(arguments: &[String]) -> Result<Running, Failure> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = Command::new(program);
    command.args(arguments).arg("--with-parent");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map(Running).context("cannot start a process of this program")
}

fn listening_address(server: &mut Running) -> Result<String, Failure> {
    let stdout = server.0.stdout.take().ok_or_else(|| Failure::new("the server has no output"))?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).context("cannot read what the server says")?;
    if let Some(address) = line.strip_prefix("listening on ").and_then(|rest| rest.split_whitespace().next()) {
        return Ok(address.to_owned());
    }
    let mut complaint = String::new();
    if let Some(mut stderr) = server.0.stderr.take() {
        // Without its words there is still the fact.
        let _ = stderr.read_to_string(&mut complaint);
    }
    let status = server.0.wait().context("cannot wait for the server's end")?;
    Err(Failure::of(format!("the server did not start and has ended with {status}"), words_of(&complaint)))
}

/// Lets the server drain; returns the summary that it prints. What was measured of one that does not end well is worth
/// nothing.
fn finish(mut server: Running) -> Result<Value, Failure> {
    server.ask_to_stop();
    let words = read_all(server.0.stderr.take()).recv().unwrap_or_default();
    let status = server.0.wait().context("cannot wait for its end")?;
    if !status.success() {
        return Err(Failure::of(status, words_of(&words)));
    }
    let summary = words.lines().rev().find_map(|line| serde_json::from_str(line).ok());
    Ok(summary.unwrap_or(Value::Null))
}

/// What a process complains of; one that dies may not have come to that.
fn words_of(complaint: &str) -> &str {
    match complaint.trim().trim_start_matches("error: ") {
        "" => "it has said nothing",
        words => words,
    }
}

/// Reads a pipe to its end on a thread of its own, so that the writer never blocks on it.
fn read_all(pipe: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is worth having.
            let _ = pipe.read_to_string(&mut text);
        }
        let _ = tell.send(text);
    });
    told
}

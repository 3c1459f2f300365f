//! Runs the real program, and ends it whatever happens to the test.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The program with these arguments, without the environment's wishes. One address says as much as it likes.
pub(crate) fn raon(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raon"));
    command.args(arguments).env_remove("RAON_BACKEND").env("RAON_PROFILE", "lan").stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    raon(arguments).output().expect("the program starts")
}

/// Runs it to its end; its output must be JSON.
pub(crate) fn run_json(arguments: &[&str]) -> (Value, ExitStatus) {
    let output = run(arguments);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    let value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"));
    (value, output.status)
}

/// Runs it to its end; it must fail with this code and one line that holds all of `parts`. The driver's own word that `auto`
/// had to fall back may stand above it.
pub(crate) fn assert_fails(command: &mut Command, code: i32, parts: &[&str]) {
    let output = command.output().expect("the program starts");
    let words = text(&output.stderr);
    let line = words.lines().filter(|line| !line.starts_with(" WARN using ")).collect::<Vec<_>>().join("\n");
    assert_eq!(output.status.code(), Some(code), "{line}");
    assert!(line.starts_with("error: ") && line.lines().count() == 1, "not one line: {line}");
    for part in parts {
        assert!(line.contains(part), "no {part:?} in: {line}");
    }
    assert!(output.stdout.is_empty());
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The back ends that this machine has.
pub(crate) fn backends() -> Vec<String> {
    let (info, _) = run_json(&["info", "--json"]);
    let all = info["backends"].as_array().expect("a list");
    let available = all.iter().filter(|backend| backend["available"] == true);
    available.map(|backend| backend["name"].as_str().expect("a name").to_owned()).collect()
}

/// What pins threads to the first processor that this process may use, which need not be number 0; nothing where threads
/// cannot be pinned.
pub(crate) fn pinned() -> Vec<String> {
    let (info, _) = run_json(&["info", "--json"]);
    let first = info["cpus_usable"].as_array().expect("a list").first();
    first.map_or_else(Vec::new, |cpu| vec!["--pin".to_owned(), cpu.to_string()])
}

/// A running program.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    pub(crate) fn start(arguments: &[&str]) -> Running {
        Running::start_command(raon(arguments))
    }

    pub(crate) fn start_command(mut command: Command) -> Running {
        if cfg!(windows) {
            command.arg("--with-parent").stdin(Stdio::piped());
        }
        Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts"))
    }

    /// What stops it from outside: SIGTERM.
    #[cfg(unix)]
    pub(crate) fn terminate(&mut self) {
        let pid = i32::try_from(self.0.id()).expect("pids are small");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).expect("it runs");
    }

    /// What stops it from outside: the end of its input.
    #[cfg(windows)]
    pub(crate) fn terminate(&mut self) {
        drop(self.0.stdin.take().expect("piped"));
    }

    /// Waits for its end; returns what it has said on standard error.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let words = rest(self.0.stderr.take());
        (self.0.wait().expect("it ends"), words)
    }

    /// Waits for its end, which must be a good one; returns its report.
    pub(crate) fn report(mut self) -> Value {
        let printed = rest(self.0.stdout.take());
        let (status, words) = self.end();
        assert!(status.success(), "{status}\n{printed}\n{words}");
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}\n{words}"))
    }

    /// Waits for the first line that it prints. If that is not what was promised, or does not come, all that it has to say
    /// is in the failure, and how it has ended.
    fn first_line(&mut self, is_right: impl Fn(&str) -> bool) -> (String, BufReader<ChildStdout>) {
        let mut reader = BufReader::new(self.0.stdout.take().expect("piped"));
        let (tell, told) = mpsc::channel();
        let reading = thread::spawn(move || {
            let mut line = String::new();
            // What is no text is told as it is: none.
            let _ = reader.read_line(&mut line);
            // Nobody waits any longer for what comes too late.
            let _ = tell.send(line.clone());
            (line, reader)
        });
        let line = told.recv_timeout(PATIENCE).unwrap_or_else(|_| format!("nothing for {PATIENCE:?}"));
        if !is_right(&line) {
            self.kill_unless_it_ends();
            let status = self.0.wait().expect("it ends");
            let (_, reader) = reading.join().expect("no panic");
            let (printed, words) = (rest(Some(reader)), rest(self.0.stderr.take()));
            panic!("it said {line:?}, then {printed:?}, and has ended with {status}: {words}");
        }
        reading.join().expect("no panic")
    }

    /// One that is about to end does so by itself: its exit status says why.
    fn kill_unless_it_ends(&mut self) {
        let deadline = Instant::now() + ENDING;
        while Instant::now() < deadline && self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.0.kill();
    }
}

/// Longer than any program takes to say that it listens.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a program may take to end that has closed its output.
const ENDING: Duration = Duration::from_secs(1);

/// What is left to be read, as text.
fn rest(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    // What was read before an error is worth having.
    let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
    text(&bytes)
}

/// A running server.
pub(crate) struct Server {
    pub(crate) process: Running,
    pub(crate) address: String,
    /// What it says later goes somewhere.
    _output: BufReader<ChildStdout>,
}

impl Server {
    /// Starts one on a free port and waits until it says that it listens.
    pub(crate) fn start(arguments: &[&str]) -> Server {
        Server::start_at("127.0.0.1:0", arguments)
    }

    /// Starts one there and waits until it says that it listens.
    pub(crate) fn start_at(address: &str, arguments: &[&str]) -> Server {
        Server::start_process(&[&["serve"], arguments, &["--listen", address, "--json"]].concat())
    }

    /// One on a free port whose summary is for people.
    pub(crate) fn start_telling_people(arguments: &[&str]) -> Server {
        Server::start_process(&[&["serve"], arguments, &["--listen", "127.0.0.1:0"]].concat())
    }

    fn start_process(arguments: &[&str]) -> Server {
        Server::of(Running::start(arguments))
    }

    /// The server that a program is; waits until it says that it listens.
    pub(crate) fn of(mut process: Running) -> Server {
        let (line, output) = process.first_line(|line| listening_at(line).is_some());
        let address = listening_at(&line).expect("looked at").to_owned();
        Server { process, address, _output: output }
    }

    /// Stops it; it must end well. Returns its summary.
    pub(crate) fn stop(mut self) -> Value {
        self.process.terminate();
        let (status, words) = self.process.end();
        assert!(status.success(), "{status}: {words}");
        let summary = serde_json::from_str(words.lines().last().unwrap_or_default());
        summary.unwrap_or_else(|error| panic!("{error}: {words}"))
    }
}

fn listening_at(line: &str) -> Option<&str> {
    line.strip_prefix("listening on ")?.split(' ').next()
}

#[test]
#[should_panic(expected = "exit status: 2: ")]
#[cfg(unix)]
fn a_server_that_does_not_start_says_why_in_the_failure() {
    Server::start(&["echo", "--no-such-option"]);
}

#[test]
#[should_panic(expected = "no-such-option")]
fn the_words_of_a_server_that_does_not_start_are_in_the_failure() {
    Server::start(&["echo", "--no-such-option"]);
}

/// A file of one test, which goes when the test ends.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        Scratch(std::env::temp_dir().join(format!("raon-{}-{name}", std::process::id())))
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    pub(crate) fn assert_is_picture(&self, parts: &[&str]) {
        let svg = fs::read_to_string(&self.0).unwrap();
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{svg}");
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        assert!(!svg.contains("NaN") && !svg.contains("inf,"), "{svg}");
        for part in parts {
            assert!(svg.contains(part), "no {part:?} in {svg}");
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A test that failed early has not made it.
        let _ = fs::remove_file(&self.0);
    }
}

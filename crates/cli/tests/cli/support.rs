//! Runs the real program, and ends it whatever happens to the test.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

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
        let mut words = String::new();
        self.0.stderr.take().expect("piped").read_to_string(&mut words).expect("text");
        (self.0.wait().expect("it ends"), words)
    }
}

/// A running server.
pub(crate) struct Server {
    pub(crate) process: Running,
    pub(crate) address: String,
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
        let mut process = Running::start(arguments);
        let mut line = String::new();
        BufReader::new(process.0.stdout.as_mut().expect("piped")).read_line(&mut line).expect("text");
        let address = line.strip_prefix("listening on ").and_then(|rest| rest.split(' ').next());
        let address = address.unwrap_or_else(|| panic!("not the line that was promised: {line:?}")).to_owned();
        Server { process, address }
    }

    /// Stops it; it must end well. Returns its summary.
    pub(crate) fn stop(mut self) -> Value {
        self.process.terminate();
        let (status, words) = self.process.end();
        assert!(status.success(), "{status}: {words}");
        serde_json::from_str(words.lines().last().unwrap_or_default()).expect("the summary is JSON")
    }
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

//! Ctrl-C at every moment: what had not ended by then was interrupted, and nothing else is wrong with it. And processes that
//! end uncalled.

use std::net::TcpListener;

use crate::support::Running;

/// What a shell reports of a program that Ctrl-C has ended.
const INTERRUPTED: Option<i32> = Some(130);

#[test]
fn a_load_stopped_before_it_measures_was_interrupted() {
    let loads = [&[][..], &["--sweep", "--rates", "100"]].map(|more| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut load = Running::start(&[&["load", "echo", "--connect", &address], more].concat());
        // It asks whether a server is there, and gives up in some seconds: long after it was told to stop.
        let (asks, _) = listener.accept().unwrap();
        load.terminate();
        (load, asks)
    });
    for (load, _asks) in loads {
        let (status, words) = load.end();
        assert!(status.code() == INTERRUPTED && words.starts_with("stopped before "), "{status}: {words}");
    }
}

#[cfg(target_os = "linux")]
mod comparisons {
    use std::fs;
    use std::os::unix::process::CommandExt;
    use std::process::Stdio;

    use nix::sys::signal::{Signal, kill, killpg};
    use nix::unistd::Pid;

    use super::*;
    use crate::support::raon;

    /// How far it has come.
    #[derive(Clone, Copy, Debug)]
    enum Moment {
        /// It listens to Ctrl-C.
        Ready,
        /// The first of its processes is there, or both are: the server, then the load.
        Processes(usize),
    }

    impl Moment {
        fn has_come(self, pid: Pid) -> bool {
            match self {
                Moment::Ready => listens(pid),
                Moment::Processes(count) => children(pid).len() >= count,
            }
        }
    }

    /// The processes that its first thread has started, the first one first, see proc_pid_task_children(5).
    fn children(pid: Pid) -> Vec<Pid> {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.split_whitespace().map(|child| Pid::from_raw(child.parse().unwrap())).collect()
    }

    /// Whether SIGINT has a handler there, see proc_pid_status(5).
    fn listens(pid: Pid) -> bool {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
        u64::from_str_radix(caught, 16).unwrap() & (1 << (Signal::SIGINT as u32 - 1)) != 0
    }

    fn assert_interrupted(arguments: &[&str]) {
        for moment in [Moment::Ready, Moment::Processes(1), Moment::Processes(2)] {
            // A terminal tells the whole group, `kill` one process.
            for send in [kill::<Signal>, killpg::<Signal>] {
                let mut command = raon(arguments);
                command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
                let process = Running(command.spawn().unwrap());
                let pid = Pid::from_raw(process.0.id() as i32);
                while !moment.has_come(pid) {
                    std::thread::yield_now();
                }
                send(pid, Signal::SIGINT).unwrap();
                let (status, words) = process.end();
                assert_eq!((status.code(), words.as_str()), (INTERRUPTED, ""), "{arguments:?}, {moment:?}");
            }
        }
    }

    #[test]
    fn a_server_that_does_not_end_well_is_told() {
        let mut command = raon(&["demo", "--seconds", "60"]);
        let process = Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        let pid = Pid::from_raw(process.0.id() as i32);
        while !Moment::Processes(2).has_come(pid) {
            std::thread::yield_now();
        }
        kill(children(pid)[0], Signal::SIGKILL).unwrap();
        let (status, words) = process.end();
        assert!(status.code() == Some(1) && words.starts_with("error: the server on "), "{status}: {words}");
        assert!(words.contains("signal: 9"), "{words}");
    }

    #[test]
    fn a_demo_stopped_at_any_time_was_interrupted() {
        assert_interrupted(&["demo", "--seconds", "60"]);
    }

    #[test]
    fn a_gate_stopped_at_any_time_was_interrupted() {
        let backends = crate::support::backends();
        let [candidate, incumbent, ..] = &backends[..] else { panic!("two back ends are needed: {backends:?}") };
        assert_interrupted(&["bench", "rio-gate", "--candidate", candidate, "--incumbent", incumbent]);
    }
}

//! Two claims about io_uring on sockets that Raon was once to be built on, and what this machine says to them:
//!
//! - Registered buffers with READ_FIXED and WRITE_FIXED save 20 to 30 %. The same bare server with and without them, as
//!   any other comparison.
//! - A ring with IORING_SETUP_IOPOLL serves sockets. A program of the peers tries.

use std::io;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::server;

/// Without and with fixed buffers.
pub(crate) const SERVERS: [&str; 2] = ["floor_single", "floor_single_fixed"];

/// From small messages to large ones, and more in flight.
pub(crate) const WORKLOADS: [&str; 4] = ["W1", "W2", "W5", "W6"];

/// What the kernel said to one operation on a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// `plain`, or `iopoll` for one set up with IORING_SETUP_IOPOLL.
    pub(crate) ring: String,
    pub(crate) operation: String,
    pub(crate) answer: String,
}

/// Tries all operations on both rings.
pub(crate) fn iopoll() -> io::Result<Vec<Answer>> {
    let program = server::peer("iopoll_socket");
    let failed = |what: String| io::Error::other(format!("{}: {what}", program.display()));
    let output = Command::new(&program).output().map_err(|error| failed(error.to_string()))?;
    let answers: Option<Vec<Answer>> = String::from_utf8_lossy(&output.stdout).lines().map(answer).collect();
    match answers {
        Some(answers) if output.status.success() && !answers.is_empty() => Ok(answers),
        _ => Err(failed(String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}

/// `iopoll recv: Invalid argument (os error 22)`.
fn answer(line: &str) -> Option<Answer> {
    let (what, answer) = line.split_once(": ")?;
    let (ring, operation) = what.split_once(' ')?;
    Some(Answer { ring: ring.into(), operation: operation.into(), answer: answer.into() })
}

/// The answers for people.
pub(crate) fn table(answers: &[Answer]) -> String {
    let line = |answer: &Answer| format!("  {:<6}  {:<5}  {}\n", answer.ring, answer.operation, answer.answer);
    answers.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read() {
        let Answer { ring, operation, answer } = answer("iopoll recv: Invalid argument (os error 22)").expect("is one");
        assert_eq!([ring.as_str(), operation.as_str()], ["iopoll", "recv"]);
        assert_eq!(answer, "Invalid argument (os error 22)");
    }
}

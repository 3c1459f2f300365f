//! Counts of `strace -c -f`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// System calls by name.
pub(crate) type Calls = BTreeMap<String, u64>;

/// strace writes when its process has ended, a moment later.
const PATIENCE: Duration = Duration::from_secs(20);

/// A file for the counts, gone when this goes.
pub(crate) struct CountsFile(PathBuf);

impl CountsFile {
    /// A place of this process's own.
    pub(crate) fn new() -> Self {
        CountsFile(std::env::temp_dir().join(format!("raon-bench-{}.strace", std::process::id())))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Waits for the counts and takes them.
    pub(crate) fn take(self) -> io::Result<Calls> {
        let start = Instant::now();
        loop {
            let text = std::fs::read_to_string(&self.0).unwrap_or_default();
            if let Some(calls) = calls(&text) {
                return Ok(calls);
            }
            if start.elapsed() > PATIENCE {
                return Err(io::Error::other(format!("strace has counted nothing: {text:?}; may it trace here?")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for CountsFile {
    fn drop(&mut self) {
        // There is none if strace has not come so far.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Reads the table; `None` before its last line is there.
fn calls(text: &str) -> Option<Calls> {
    let (table, last) = text.trim_end().rsplit_once('\n')?;
    if !last.ends_with(" total") || !text.ends_with('\n') {
        return None;
    }
    // `% time  seconds  usecs/call  calls  [errors]  syscall`
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        Some((words.last()?.to_string(), words.get(3)?.parse().ok()?))
    };
    Some(table.lines().filter_map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_once_it_is_whole() {
        let text = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ------------------
 54.91    0.002118        1059         2           execve
  3.86    0.000149          18        34        13 openat
------ ----------- ----------- --------- --------- ------------------
100.00    0.003857          21        36        13 total
";
        let calls = calls(text).expect("it is whole");
        assert_eq!(calls, Calls::from([("execve".to_owned(), 2), ("openat".to_owned(), 34)]));
        assert_eq!(super::calls(&text[..text.len() - 8]), None);
        assert_eq!(super::calls(""), None);
    }
}

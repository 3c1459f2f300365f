//! A private copy of the workspace, where bugs are planted and tests run. The working tree is only read.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A test that takes longer hangs. The suite itself ends one after a minute.
const HANGS_AFTER: Duration = Duration::from_secs(150);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How one of cargo's messages names a program.
const EXECUTABLE: &str = "\"executable\":\"";

/// A program that holds tests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Binary {
    /// Of its package, below `crates`.
    pub(super) folder: String,
    /// The file of the package's `tests`, without its ending; `None`: the unit tests.
    pub(super) file: Option<String>,
}

impl Binary {
    fn target<'a>(&'a self, package: &Path) -> Vec<&'a str> {
        match &self.file {
            Some(file) => vec!["--test", file],
            None if package.join("src/lib.rs").exists() => vec!["--lib"],
            None => vec!["--bins"],
        }
    }
}

/// How a test has ended.
pub(super) enum Ended {
    Passed,
    /// It fails, aborts or hangs.
    Caught(&'static str),
}

pub(super) struct Copy {
    /// Holds the copy, what is built of it, and what the last test has printed.
    folder: PathBuf,
}

impl Copy {
    /// Copies what version control tracks, as it is in the working tree. What has not changed since the last time stays, so
    /// that it is not built again.
    pub(super) fn make(root: &Path) -> Result<Self, String> {
        let built = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
        let copy = Copy { folder: root.join(built).join("mutants") };
        let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output();
        let listed = listed.map_err(|error| format!("git: {error}"))?;
        if !listed.status.success() {
            return Err(format!("git ls-files: {}", String::from_utf8_lossy(&listed.stderr)));
        }
        let paths = String::from_utf8(listed.stdout).map_err(|error| format!("git ls-files: {error}"))?;
        for path in paths.split('\0').filter(|path| !path.is_empty()) {
            let (from, to) = (root.join(path), copy.sources().join(path));
            match fs::read(&from) {
                Ok(bytes) if fs::read(&to).is_ok_and(|before| before == bytes) => {}
                Ok(bytes) => copy.write(path, bytes)?,
                // Deleted, and not yet for version control: not in the copy either.
                Err(_) => drop(fs::remove_file(to)),
            }
        }
        Ok(copy)
    }

    pub(super) fn write(&self, path: &str, bytes: impl AsRef<[u8]>) -> Result<(), String> {
        let path = self.sources().join(path);
        let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
        folder.and_then(|()| fs::write(&path, bytes)).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Builds the program of these tests and says where it is. The error is what the compiler says.
    pub(super) fn build(&self, binary: &Binary) -> Result<PathBuf, String> {
        let output = Command::new("cargo")
            .args(["test", "--locked", "--no-run", "--message-format", "json-render-diagnostics"])
            .args(binary.target(&self.package(binary)))
            // Without a package's name cargo takes that of the folder.
            .current_dir(self.package(binary))
            .env("CARGO_TARGET_DIR", self.folder.join("target"))
            // Nobody looks at them with a debugger: linking takes a fraction of the time.
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("CARGO_INCREMENTAL", "1")
            .output()
            .map_err(|error| format!("cargo: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        executable(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| "cargo names no program".to_owned())
    }

    /// Runs one test alone in a process.
    pub(super) fn run_test(&self, binary: &Binary, program: &Path, test: &str) -> Result<Ended, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", program.display());
        let log = fs::File::create(self.log()).map_err(failed)?;
        let mut child = Command::new(program)
            .args(["--exact", test])
            .current_dir(self.package(binary))
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().map_err(failed)? {
                break status;
            }
            if start.elapsed() > HANGS_AFTER {
                child.kill().and_then(|()| child.wait()).map_err(failed)?;
                return Ok(Ended::Caught("hangs"));
            }
            std::thread::sleep(LOOK_EVERY);
        };
        let output = self.output();
        match status.code() {
            Some(0) if output.contains("test result: ok. 1 passed") => Ok(Ended::Passed),
            Some(0) => Err(format!("{test} is no test any more")),
            Some(_) => Ok(Ended::Caught("fails")),
            None if output.contains(" hangs\n") => Ok(Ended::Caught("hangs")),
            None => Ok(Ended::Caught("aborts")),
        }
    }

    /// What the last test has printed.
    pub(super) fn output(&self) -> String {
        fs::read(self.log()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn package(&self, binary: &Binary) -> PathBuf {
        self.sources().join("crates").join(&binary.folder)
    }

    fn sources(&self) -> PathBuf {
        self.folder.join("copy")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("output.txt")
    }
}

/// The program with tests that cargo's messages name last. Those without tests are what it starts.
fn executable(messages: &str) -> Option<PathBuf> {
    let is_tests = |line: &&str| {
        let profile = line.split("\"profile\":{").nth(1).and_then(|rest| rest.split('}').next());
        profile.is_some_and(|profile| profile.contains("\"test\":true"))
    };
    let line = messages.lines().filter(is_tests).rfind(|line| line.contains(EXECUTABLE))?;
    let after = line.split(EXECUTABLE).nth(1)?;
    Some(after[..after.find('"')?].into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_in_the_messages() {
        let artifact = |is_test: bool, program: &str| {
            format!("{{\"target\":{{\"test\":true}},\"profile\":{{\"test\":{is_test}}},\"executable\":{program}}}\n")
        };
        let tests = artifact(true, "\"/a/b-1\"");
        assert_eq!(executable(&[&artifact(true, "null"), &tests[..]].concat()), Some("/a/b-1".into()));
        assert_eq!(executable(&[&tests[..], &artifact(false, "\"/a/raon\"")].concat()), Some("/a/b-1".into()));
        assert_eq!(executable(&artifact(true, "null")), None);
    }
}

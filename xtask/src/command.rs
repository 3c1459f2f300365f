//! Running other programs, with errors that say which step failed, by which command, and how its output ends.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// How much of a failed program's output is shown.
const LINES_SHOWN: usize = 20;

/// Tells what takes a while, before it does.
pub(crate) fn say(text: &str) {
    eprintln!("-- {text}");
}

/// Runs a program to its end and returns what it has printed. `remedy` says what its caller may do if it fails.
pub(crate) fn run(step: &str, command: &mut Command, remedy: &str) -> Result<String, String> {
    let line = line(command);
    let output = command.output().map_err(|error| format!("{step}: cannot start `{line}`: {error}\n{remedy}"))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(printed);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{step}: `{line}` ended with {}\n{}\n{remedy}", output.status, last_lines(&printed, &errors)))
}

/// As `run`, for a program whose output is watched while it runs.
pub(crate) fn watch(step: &str, command: &mut Command) -> Result<(), String> {
    let line = line(command);
    let status = command.status().map_err(|error| format!("{step}: cannot start `{line}`: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{step}: `{line}` ended with {status}")) }
}

/// As `watch`, for programs that run at the same time: each line says whose it is.
pub(crate) fn watch_marked(step: &str, command: &mut Command) -> Result<(), String> {
    let line = line(command);
    let cannot = |error: std::io::Error| format!("{step}: cannot start `{line}`: {error}");
    let (lines, writer) = std::io::pipe().map_err(cannot)?;
    command.stdout(writer.try_clone().map_err(cannot)?).stderr(writer);
    let mut child = command.spawn().map_err(cannot)?;
    // What it holds of the pipe would keep the lines from ending.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    for line in BufReader::new(lines).split(b'\n').map_while(Result::ok) {
        println!("{step}: {}", String::from_utf8_lossy(&line).trim_end());
    }
    let status = child.wait().map_err(cannot)?;
    if status.success() { Ok(()) } else { Err(format!("{step}: `{line}` ended with {status}")) }
}

/// Where a program lies that is called by its name.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// A command as one would type it, without its environment.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn last_lines(printed: &str, errors: &str) -> String {
    let lines: Vec<&str> = printed.lines().chain(errors.lines()).filter(|line| !line.trim().is_empty()).collect();
    let first = lines.len().saturating_sub(LINES_SHOWN);
    lines[first..].iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_step_command_output_and_remedy() {
        let script = "for i in $(seq 30); do echo line $i; done; echo bad >&2; exit 3";
        let message = run("step one", Command::new("sh").args(["-c", script]), "try again").unwrap_err();
        assert!(message.starts_with("step one: `sh -c for"), "{message}");
        assert!(message.contains("exit status: 3\n    line 12\n"), "{message}");
        assert!(message.ends_with("    line 30\n    bad\ntry again"), "{message}");
    }

    #[test]
    fn what_is_printed_comes_back() {
        assert_eq!(run("step", Command::new("echo").arg("a b"), ""), Ok("a b\n".to_owned()));
        assert!(
            run("step", &mut Command::new("no-such-program-here"), "install it").unwrap_err().contains("cannot start")
        );
    }

    #[test]
    fn what_is_marked_is_read_to_its_end() {
        let script = |code: u8| ["-c".to_owned(), format!("echo one; printf two >&2; exit {code}")];
        assert_eq!(watch_marked("step", Command::new("sh").args(script(0))), Ok(()));
        assert!(watch_marked("step", Command::new("sh").args(script(3))).unwrap_err().contains("exit status: 3"));
    }

    #[test]
    fn programs_are_found_as_a_shell_does() {
        assert!(find("sh").is_some_and(|file| file.ends_with("sh")));
        assert_eq!(find("no-such-program-here"), None);
    }
}

//! `cargo xtask bench-check [--write]`: instructions per step of fixed micro workloads, counted by callgrind and compared
//! with the checked-in numbers. Unlike times they do not depend on what else the machine does.
//!
//! Each workload is run for N and for 3 N batches; the difference is free of what starting costs.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// Steps of `raon-bench micro` that run in one thread, and how much their numbers may differ, in per cent.
const STEPS: [(&str, f64); 8] = [
    ("timer, submit to completion, io_uring", WITH_KERNEL_PERCENT),
    ("64-byte message over loopback, io_uring", WITH_KERNEL_PERCENT),
    ("64-byte message over loopback, epoll", WITH_KERNEL_PERCENT),
    ("buffer, lent and returned on the owner's thread", WITH_KERNEL_PERCENT),
    ("message echoed by Packet, engine in a simulated network", SIMULATED_PERCENT),
    ("message pushed by a handle, engine in a simulated network", SIMULATED_PERCENT),
    ("timer, set to fired, engine in a simulated network", SIMULATED_PERCENT),
    ("message broadcast to 20, engine in a simulated network", SIMULATED_PERCENT),
];
const BATCHES: u64 = 200;
/// The kernel decides how many messages a turn finds.
const WITH_KERNEL_PERCENT: f64 = 4.0;
/// Only where memory happens to lie differs from run to run.
const SIMULATED_PERCENT: f64 = 1.0;
const RESULTS: &str = "crates/bench/results/instructions.txt";

pub(crate) fn run(root: &Path, write: bool) -> Result<(), String> {
    let status = Command::new("cargo").args(["build", "--release", "-p", "raon-bench"]).current_dir(root).status();
    if !status.is_ok_and(|status| status.success()) {
        return Err("the bench does not build".to_owned());
    }
    let counted: Vec<(&str, f64)> =
        STEPS.into_iter().map(|(step, _)| per_step(root, step).map(|count| (step, count))).collect::<Result<_, _>>()?;
    let path = root.join(RESULTS);
    if write {
        return std::fs::write(&path, text(&counted)).map_err(|error| format!("{}: {error}", path.display()));
    }
    let expected = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut worse = 0;
    for ((step, count), (_, tolerance_percent)) in counted.iter().zip(STEPS) {
        let before = number(&expected, step).ok_or_else(|| format!("{RESULTS} has no line for `{step}`"))?;
        let change = (count / before - 1.0) * 100.0;
        let is_off = change.abs() > tolerance_percent;
        worse += usize::from(is_off);
        println!("{count:>8.0} (was {before:.0}, {change:+.1} %) {step}{}", if is_off { "  <-- off" } else { "" });
    }
    if worse == 0 {
        return Ok(());
    }
    Err(format!(
        "{worse} counts are off by more than {WITH_KERNEL_PERCENT} %, or {SIMULATED_PERCENT} % without a kernel; if that is \
         meant: cargo xtask bench-check --write"
    ))
}

fn text(counted: &[(&str, f64)]) -> String {
    let mut text = "# Instructions of ours per step, by `cargo xtask bench-check --write`.\n".to_owned();
    for (step, count) in counted {
        let _ = writeln!(text, "{count:.0} {step}");
    }
    text
}

fn number(text: &str, step: &str) -> Option<f64> {
    text.lines().filter_map(|line| line.split_once(' ')).find(|(_, name)| *name == step)?.0.parse().ok()
}

fn per_step(root: &Path, step: &str) -> Result<f64, String> {
    let (few, few_steps) = count(root, step, BATCHES)?;
    let (many, many_steps) = count(root, step, BATCHES * 3)?;
    Ok((many - few) / (many_steps - few_steps))
}

/// Instructions of a whole run, and how many steps it did.
fn count(root: &Path, step: &str, batches: u64) -> Result<(f64, f64), String> {
    let batches = batches.to_string();
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "target/release/raon-bench"])
        .args(["micro", "--only", step, "--batches", &batches])
        .current_dir(root)
        .output()
        .map_err(|error| format!("valgrind: {error}; install it (Debian: apt-get install valgrind)"))?;
    let (steps, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let collected = log.lines().find_map(|line| line.split_once("Collected :"));
    match (collected.and_then(|(_, count)| count.trim().parse().ok()), steps.trim().parse()) {
        (Some(instructions), Ok(steps)) if output.status.success() => Ok((instructions, steps)),
        _ => Err(format!("`{step}` could not be counted:\n{log}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let text = text(&[("a step", 12.4), ("another step", 1705.0)]);
        assert_eq!(number(&text, "another step"), Some(1705.0));
        assert_eq!(number(&text, "a step"), Some(12.0));
        assert_eq!(number(&text, "no step"), None);
    }
}

//! `raon bench`: verdicts, and why there is none.

use crate::support::{assert_fails, backends, raon};
#[cfg(target_os = "linux")]
use crate::support::{run, run_json, text};

/// One short round, on the back ends that this machine has in place of those that it has not.
const SHORT: [&str; 6] = ["bench", "rio-gate", "--rounds", "1", "--seconds", "1"];

#[cfg(target_os = "linux")]
#[test]
fn a_gate_compares_and_decides() {
    let backends = backends();
    let [candidate, incumbent, ..] = &backends[..] else { panic!("two back ends are needed: {backends:?}") };
    let arguments = [&SHORT[..], &["--candidate", candidate, "--incumbent", incumbent, "--json"]].concat();
    let (report, status) = run_json(&arguments);
    assert!(status.success(), "{report}");
    assert_eq!((&report["connections"], &report["rounds"]), (&256.into(), &1.into()));
    for (backend, name) in report["backends"].as_array().unwrap().iter().zip([candidate, incumbent]) {
        assert_eq!((&backend["backend"], &backend["errors"]), (&name.as_str().into(), &0.into()));
        let round = &backend["rounds"][0];
        assert_eq!(round["messages_per_s"], backend["messages_per_s"]["median"]);
        assert!(round["messages"].as_u64().unwrap() >= 256 && round["corrupt_bytes"] == 0, "{round}");
        assert!(backend["server_cpu_ns_per_message"]["median"].as_f64().unwrap() > 0.0, "{backend}");
    }
    let verdict = &report["verdict"];
    let is_chosen =
        verdict["messages_ratio"].as_f64().unwrap() >= 1.15 || verdict["cpu_ratio"].as_f64().unwrap() <= 0.7;
    assert_eq!(verdict["chosen"], if is_chosen { candidate.as_str() } else { incumbent.as_str() });
    assert!(verdict["why"].as_str().unwrap().contains("server CPU per message"), "{verdict}");
}

#[cfg(target_os = "linux")]
#[test]
fn people_get_a_table_and_a_sentence() {
    let backends = backends();
    let arguments = [&SHORT[..], &["--candidate", &backends[1], "--incumbent", &backends[0]]].concat();
    let output = run(&arguments);
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{shown}{}", text(&output.stderr));
    for part in ["256 connections", "messages/s", "lowest to highest round", "verdict: ", "compared with"] {
        assert!(shown.contains(part), "no {part:?} in {shown}");
    }
}

#[test]
fn what_cannot_be_compared_is_told() {
    for (arguments, code, part) in [
        (&["--candidate", "sim"][..], 2, "sim is for tests"),
        (&["--candidate", "iocp"], 2, "iocp cannot be compared with itself"),
        (&["--connections", "255"], 2, "256..="),
        (&["--incumbent", "winsock"], 2, "unknown back end"),
    ] {
        assert_fails(&mut raon(&[&SHORT[..], arguments].concat()), code, &[part]);
    }
}

/// On Windows as well, where there is no registered I/O.
#[test]
fn without_registered_io_it_says_what_is_missing() {
    let missing = if cfg!(windows) { "[registered I/O]" } else { "a back end of Windows" };
    if !backends().contains(&"rio".to_owned()) {
        let parts = ["rio-gate compares rio with iocp", "rio is not available here", missing];
        assert_fails(&mut raon(&SHORT), 1, &parts);
    }
}

//! `raon bench rio-gate` with both sides, on the double of registered I/O: what it measures says nothing here, so nothing is
//! asked of the verdict but that there is one.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::text;

/// The example `double`, which is built when all tests of this package are.
fn raon_on_the_double(arguments: &[&str]) -> Command {
    let raon = Path::new(env!("CARGO_BIN_EXE_raon"));
    let double = raon.with_file_name("examples").join("double").with_extension("exe");
    assert!(double.exists(), "no {}: `cargo build --package raon-cli --example double` makes it", double.display());
    let mut command = Command::new(double);
    command.args(arguments).env_remove("RAON_BACKEND").stdin(Stdio::null());
    command
}

#[test]
fn the_gate_measures_both_and_decides() {
    let rounds = ["--rounds", "2", "--seconds", "1"];
    let output = raon_on_the_double(&[&["bench", "rio-gate", "--json"], &rounds[..]].concat()).output().unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&report["connections"], &report["rounds"]), (&256.into(), &2.into()), "{report}");
    for (backend, name) in report["backends"].as_array().unwrap().iter().zip(["rio", "iocp"]) {
        assert_eq!(
            (&backend["backend"], &backend["errors"], &backend["corrupt_bytes"]),
            (&name.into(), &0.into(), &0.into())
        );
        let rounds = backend["rounds"].as_array().unwrap();
        assert_eq!(rounds.len(), 2);
        for round in rounds {
            assert!(round["messages"].as_u64().unwrap() >= 256, "{round}");
        }
        assert!(backend["server_cpu_ns_per_message"]["median"].as_f64().unwrap() > 0.0, "{backend}");
    }
    let chosen = report["verdict"]["chosen"].as_str().unwrap();
    assert!(["rio", "iocp"].contains(&chosen), "{report}");
}

#[test]
fn people_get_the_table_and_the_verdict() {
    let output = raon_on_the_double(&["bench", "rio-gate", "--rounds", "1", "--seconds", "1"]).output().unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    for part in ["256 connections", "rio", "iocp", "messages/s", "corrupt bytes", "\nverdict: "] {
        assert!(stdout.contains(part), "no {part:?} in {stdout}");
    }
}

//! Everything runs. What it measures in so short a time is worth nothing, and nothing is decided by it.

use std::process::Command;

fn smoke(arguments: &[&str]) -> serde_json::Value {
    let output = Command::new(env!("CARGO_BIN_EXE_raon-bench")).args(arguments).args(["--smoke", "--json"]).output();
    let output = output.expect("the bench can be started");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

#[test]
fn echo_on_both_back_ends() {
    let report = smoke(&["bytes", "--server", "raon-io_uring,raon-epoll"]);
    let workloads = report["workloads"].as_array().expect("a list");
    assert_eq!(workloads.len(), 6);
    for workload in workloads {
        for server in workload["servers"].as_array().expect("a list") {
            assert!(server["messages_per_s"].as_f64().is_some_and(|rate| rate > 0.0), "{workload}");
        }
    }
}

#[test]
fn broadcast_on_both_back_ends() {
    let servers = "raon-io_uring+broadcast,raon-epoll+broadcast";
    let report = smoke(&["broadcast", "--members", "100", "--server", servers]);
    assert_eq!(report["workloads"][0]["servers"].as_array().map(Vec::len), Some(2));
}

#[test]
fn memory_on_both_back_ends() {
    let report = smoke(&["memory", "--server", "raon-io_uring,raon-epoll"]);
    assert_eq!(report["memory"].as_array().map(Vec::len), Some(2));
}

#[test]
fn single_steps() {
    let report = smoke(&["micro"]);
    let steps = report["micro"].as_array().expect("a list");
    assert!(steps.iter().all(|step| step["ns"].as_f64().is_some_and(|ns| ns > 0.0)), "{steps:?}");
}

#[test]
fn a_server_that_is_not_there_is_an_error() {
    let output = Command::new(env!("CARGO_BIN_EXE_raon-bench")).args(["bytes", "--server", "raon-abacus"]).output();
    let output = output.expect("the bench can be started");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("raon-abacus"));
}

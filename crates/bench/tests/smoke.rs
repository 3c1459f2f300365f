//! Every comparison runs with Raon's own servers. What it measures in so short a time is worth nothing, and nothing is
//! decided by it. `raon-bench smoke` does the same with all servers, and what needs more than a Rust toolchain.

use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_raon-bench")).args(arguments).output().expect("the bench can be started")
}

fn smoke(arguments: &[&str]) -> serde_json::Value {
    let output = bench(&[arguments, &["--smoke", "--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

fn error(arguments: &[&str]) -> String {
    let output = bench(arguments);
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The elements of a list in a report.
fn rows<'a>(report: &'a serde_json::Value, name: &str) -> &'a [serde_json::Value] {
    report[name].as_array().map_or(&[], Vec::as_slice)
}

const BOTH: &str = "raon-io_uring,raon-epoll";

#[test]
fn echo_on_both_back_ends() {
    let report = smoke(&["bytes", "--server", BOTH]);
    assert_eq!(report["machine"]["congestion_control"], "reno");
    assert_eq!(rows(&report, "workloads").len(), 6);
    for workload in rows(&report, "workloads") {
        for server in rows(workload, "servers") {
            assert!(server["messages_per_s"].as_f64().is_some_and(|rate| rate > 0.0), "{workload}");
            assert!(server["generator_limited"].is_u64(), "{workload}");
        }
    }
}

#[test]
fn broadcast_on_both_back_ends_and_its_picture() {
    let file = |name: &str| format!("{}/{name}", env!("CARGO_TARGET_TMPDIR"));
    let (results, first, second) = (file("broadcast.json"), file("broadcast.svg"), file("again.svg"));
    let servers = "raon-io_uring+broadcast,raon-epoll+broadcast";
    let report = smoke(&["broadcast", "--server", servers, "--out", &results, "--plot", &first]);
    assert_eq!(rows(&report["workloads"][0], "servers").len(), 2);
    assert!(bench(&["plot", &results, &second]).status.success());
    let pictures = [first, second].map(|path| std::fs::read_to_string(path).expect("it was drawn"));
    assert_eq!(pictures[0], pictures[1]);
    assert!(pictures[0].starts_with("<svg") && pictures[0].contains("raon-epoll+broadcast"), "{}", pictures[0]);
}

#[test]
fn datagrams_on_both_back_ends() {
    let servers = ["raon-io_uring+datagrams", "raon-epoll+datagrams", "raon-io_uring+datagrams+coalesce"].join(",");
    let report = smoke(&["datagrams", "--server", &servers]);
    assert_eq!(rows(&report, "workloads").len(), 3);
    for workload in rows(&report, "workloads") {
        assert_eq!(rows(workload, "servers").len(), 3);
        for server in rows(workload, "servers") {
            assert!(server["messages_per_s"].as_f64().is_some_and(|rate| rate > 0.0), "{workload}");
            assert!(server["lost"].is_u64(), "{workload}");
        }
    }
}

#[test]
fn memory_on_both_back_ends() {
    let report = smoke(&["memory", "--server", BOTH]);
    assert_eq!(rows(&report, "memory").len(), 2);
    for server in rows(&report, "memory") {
        assert!(server["cpu_ns_per_accept_high"].as_f64().is_some_and(|ns| ns > 0.0), "{server}");
    }
}

#[test]
fn connections_on_both_back_ends() {
    let report = smoke(&["connections", "--server", BOTH]);
    assert_eq!(rows(&report, "connections").len(), 2);
    for server in rows(&report, "connections") {
        assert!(server["messages"].as_u64().is_some_and(|messages| messages > 0), "{server}");
        assert!(server["kernel_entries_per_message"].as_f64().is_some_and(|entries| entries > 0.0), "{server}");
    }
}

#[test]
fn single_steps() {
    let report = smoke(&["micro"]);
    let steps = rows(&report, "micro");
    assert!(!steps.is_empty() && steps.iter().all(|step| step["ns"].as_f64().is_some_and(|ns| ns > 0.0)), "{steps:?}");
}

#[test]
fn what_cannot_be_measured_is_an_error() {
    assert!(error(&["bytes", "--smoke", "--server", "raon-abacus"]).contains("raon-abacus"));
    assert!(error(&["bytes", "--smoke", "--server", BOTH, "--workload", "W7"]).contains("W7"));
    let many = ["connections", "--server", BOTH, "--connections", "100000000"];
    let reason = if cfg!(debug_assertions) { "optimised" } else { "connections need" };
    assert!(error(&many).contains(reason));
}

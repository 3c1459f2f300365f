//! Output that users see: reports that parse, and errors of one line with the remedy.

use std::net::TcpListener;

use raon_conformance::vacant::Vacant;

use crate::support::{Server, assert_fails, backends, raon, run, run_json, text};

#[test]
fn info_is_json() {
    let (info, status) = run_json(&["info", "--json"]);
    assert!(status.success());
    assert!(info["backends"].as_array().unwrap().len() == 2 || !cfg!(target_os = "linux"), "{info}");
    assert!(info["chosen"].is_string() && info["limits"]["descriptors"]["soft"].is_number() == cfg!(unix), "{info}");
    let shown = text(&run(&["info"]).stdout);
    assert!(shown.contains("auto chooses ") && shown.contains("somaxconn"), "{shown}");
}

#[cfg(target_os = "linux")]
#[test]
fn the_environment_replaces_auto() {
    let output = raon(&["info", "--json"]).env("RAON_BACKEND", "epoll").output().unwrap();
    let info: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&info["chosen"], &info["environment"]), (&"epoll".into(), &"epoll".into()));
    for arguments in [&["info"][..], &["demo"], &["serve", "echo", "--listen", "127.0.0.1:0"]] {
        assert_fails(raon(arguments).env("RAON_BACKEND", "iocp"), 1, &["RAON_BACKEND=iocp", "a back end of Windows"]);
    }
}

#[test]
fn a_demo_compares_all_backends() {
    let (demo, status) = run_json(&["demo", "--seconds", "1", "--json"]);
    assert!(status.success(), "{demo}");
    let runs = demo["runs"].as_array().unwrap();
    assert_eq!(runs.iter().filter(|run| run["available"] == true).count(), backends().len());
    for run in runs.iter().filter(|run| run["available"] == true) {
        assert!(run["messages"].as_u64().unwrap() > 0 && run["kernel_entries_per_message"].is_number(), "{run}");
        assert_eq!((&run["errors"], &run["corrupt_bytes"]), (&0.into(), &0.into()));
        let udp = &run["udp"];
        assert!(udp["sent"].as_u64().unwrap() > 0 && udp["answered_per_s"].as_f64().unwrap() > 0.0, "{run}");
        assert_eq!(udp["corrupt"], 0);
        let pings = &run["pingpong"];
        assert!(pings["messages"].as_u64().unwrap() > 0 && pings["messages_per_s"].as_f64().unwrap() > 0.0, "{run}");
        assert_eq!(pings["errors"], 0, "{run}");
    }
    assert!(demo["chosen"].is_string());
}

#[test]
fn a_port_in_use_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let parts = [format!("cannot listen on {address}"), "choose another port".into()];
    assert_fails(&mut raon(&["serve", "echo", "--listen", &address]), 1, &[&parts[0], &parts[1]]);
}

#[test]
fn a_refused_connection_is_told() {
    let vacant = Vacant::stream();
    let address = vacant.address().to_string();
    assert_fails(&mut raon(&["load", "echo", "--connect", &address]), 1, &["connection refused", "start the server"]);
}

#[test]
fn a_server_that_does_not_echo_is_told() {
    let server = Server::start(&["sink"]);
    assert_fails(&mut raon(&["load", "echo", "--connect", &server.address]), 1, &["raon serve echo"]);
}

#[test]
fn wrong_arguments_are_told() {
    let cases: [(&[&str], &str); 10] = [
        (&["serve", "echo", "--backend", "winsock"], "use auto, io_uring or epoll"),
        (&["serve", "echo", "--backend", "sim"], "sim is for tests inside one process"),
        (&["serve", "echo", "--listen", "here"], "--listen"),
        (&["serve"], "<SERVICE>"),
        (&["serve", "discard"], "possible values: echo, sink, pingpong, chat"),
        (&["load", "echo", "--duration", "10"], "500ms, 10s or 2m"),
        (&["load", "echo", "--conections", "1"], "--connections"),
        (&["load", "echo", "--connections", "0"], "--idle"),
        (&["load", "echo", "--size", "0"], "1..="),
        (&["demo", "--pin", "x"], "--pin"),
    ];
    for (arguments, part) in cases {
        assert_fails(&mut raon(arguments), 2, &[part]);
    }
}

#[test]
fn a_back_end_of_another_system_is_told() {
    for service in ["echo", "chat"] {
        assert_fails(
            &mut raon(&["serve", service, "--backend", "kqueue"]),
            1,
            &["back end kqueue", "macOS and FreeBSD"],
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn too_few_descriptors_are_told() {
    assert_fails(
        &mut raon(&["load", "echo", "--connections", "1000000", "--workers", "16"]),
        1,
        &["1000000 connections need", "ulimit -Hn", "at most"],
    );
}

#[test]
fn a_cpu_that_is_not_there_is_told() {
    assert_fails(
        &mut raon(&["serve", "echo", "--listen", "127.0.0.1:0", "--pin", "1000"]),
        1,
        &["cannot pin a thread to CPU 1000: "],
    );
}

#[test]
fn help_has_examples() {
    for command in ["info", "serve", "load", "demo", "bench", "bench rio-gate"] {
        let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let output = run(&words);
        assert!(output.status.success() && text(&output.stdout).contains("Examples:\n  raon "), "{command}");
    }
    let help = text(&run(&["load", "--help"]).stdout);
    for example in [
        "echo --rate 20000/s",
        "--arrivals poisson --seed 7",
        "--plot latency.svg",
        "--sweep --rates 1000,",
        "echo --udp",
        "pingpong --rate 20000/s",
        "chat --connections 400 --rooms 20",
    ] {
        assert!(help.contains(example), "no {example:?} in {help}");
    }
    let help = text(&run(&["bench", "rio-gate", "--help"]).stdout);
    for part in ["15 % more messages/s", "30 % less server CPU", "msquic"] {
        assert!(help.contains(part) && !help.contains("--candidate"), "no {part:?} in {help}");
    }
    let help = text(&run(&["serve", "--help"]).stdout);
    for example in ["serve pingpong --client-versions 3-5", "--config server.toml", "raon serve chat "] {
        assert!(help.contains(example), "no {example:?} in {help}");
    }
}

//! Datagrams: nothing is lost in silence.

use std::net::{SocketAddr, UdpSocket};
use std::process::ExitStatus;
use std::time::Duration;

use raon_conformance::platform::own_host;
use raon_conformance::vacant::Vacant;
use serde_json::Value;

#[cfg(target_os = "linux")]
use crate::support::Running;
use crate::support::{Server, assert_fails, backends, raon, run, run_json, text};

/// Workers on one port: Windows has nothing that spreads datagrams over sockets.
const SHARERS_MAX: &str = if cfg!(windows) { "1" } else { "2" };

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no whole number"))
}

/// A socket that talks to a server.
fn client(server: &Server) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(&server.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket
}

#[test]
fn each_datagram_goes_back_to_its_sender() {
    for backend in backends() {
        let server = Server::start(&["echo", "--udp", "--workers", SHARERS_MAX, "--backend", &backend]);
        let mut bytes = [0; 65_536];
        for peer in 0..8u8 {
            let client = client(&server);
            for length in [0, 1, 1472, 3968] {
                client.send(&vec![peer; length]).unwrap();
                assert_eq!(client.recv(&mut bytes).unwrap(), length);
                assert!(bytes[..length].iter().all(|byte| *byte == peer));
            }
        }
        let client = client(&server);
        // Too long for this server; the next one shows that it has been seen.
        client.send(&[1; 3969]).unwrap();
        client.send(&[2; 5]).unwrap();
        assert_eq!(client.recv(&mut bytes).unwrap(), 5);
        let summary = server.stop();
        assert_eq!(
            (&summary["received"], &summary["sent"], &summary["truncated"]),
            (&33.into(), &33.into(), &1.into())
        );
        let bytes = 8 * (1 + 1472 + 3968) + 5;
        assert_eq!((number(&summary["received_bytes"]), number(&summary["sent_bytes"])), (bytes, bytes), "{summary}");
        for key in ["dropped", "undelivered", "errors"] {
            assert_eq!(summary[key], 0, "{summary}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_sink_of_datagrams_counts_them() {
    let server = Server::start(&["sink", "--udp", "--datagram-max", "65000"]);
    let client = client(&server);
    for length in [1, 65_000, 7] {
        client.send(&vec![9; length]).unwrap();
    }
    // It has come when it has been counted: there is no answer to wait for.
    let descriptor = format!("/proc/{}/net/udp", server.process.0.id());
    let port = format!(":{:04X} ", client.peer_addr().unwrap().port());
    let is_empty = || {
        let table = std::fs::read_to_string(&descriptor).unwrap();
        let line = table
            .lines()
            .find(|line| line.split_whitespace().nth(1).is_some_and(|it| format!("{it} ").ends_with(&port)));
        line.is_some_and(|line| line.contains("00000000:00000000"))
    };
    while !is_empty() {
        std::thread::yield_now();
    }
    let summary = server.stop();
    assert_eq!((&summary["received"], &summary["sent"]), (&3.into(), &0.into()), "{summary}");
    assert_eq!(number(&summary["received_bytes"]), 65_008);
}

#[cfg(windows)]
#[test]
fn workers_that_cannot_share_a_port_are_told() {
    let arguments = ["serve", "echo", "--udp", "--workers", "2", "--listen", "127.0.0.1:0"];
    assert_fails(&mut raon(&arguments), 1, &["cannot listen on 127.0.0.1:", "SO_REUSEPORT"]);
}

#[test]
fn arguments_that_datagrams_do_not_have_are_told() {
    let cases: [(&[&str], &str); 3] = [
        (&["serve", "echo", "--udp", "--listen", "unix:@x"], "ADDRESS:PORT"),
        (&["serve", "echo", "--datagram-max", "100"], "add --udp"),
        (&["serve", "echo", "--udp", "--datagram-max", "65001"], "65000"),
    ];
    for (arguments, part) in cases {
        assert_fails(&mut raon(arguments), 2, &[part]);
    }
}

#[test]
fn a_datagram_port_in_use_is_told() {
    let taken = Server::start(&["echo", "--udp", "--workers", SHARERS_MAX]);
    for workers in ["1", SHARERS_MAX] {
        let arguments = ["serve", "echo", "--udp", "--workers", workers, "--listen", &taken.address];
        assert_fails(&mut raon(&arguments), 1, &[&format!("cannot listen on {}", taken.address), "in use"]);
    }
    taken.stop();
}

fn load(address: &str, arguments: &[&str]) -> (Value, ExitStatus) {
    run_json(&[&["load", "echo", "--udp", "--json", "--connect", address], arguments].concat())
}

/// Every datagram that was sent is somewhere.
fn assert_accounted_for(report: &Value) {
    assert_eq!(number(&report["sent"]), number(&report["answered"]) + number(&report["lost"]), "{report}");
    assert_eq!(report["answered"], report["messages"]);
}

fn assert_all_answered(report: &Value) {
    assert!(number(&report["answered"]) > 0, "{report}");
    assert_accounted_for(report);
    for key in ["lost", "late", "duplicates", "corrupt", "undelivered", "errors", "connect_errors"] {
        assert_eq!(report[key], 0, "{key} in {report}");
    }
}

#[test]
fn at_a_low_rate_nothing_is_lost_on_any_backend() {
    for backend in backends() {
        let server = Server::start(&["echo", "--udp", "--workers", SHARERS_MAX, "--backend", &backend]);
        let arguments =
            ["--rate", "400", "--duration", "500ms", "--connections", "10", "--workers", "2", "--timeout", "20s"];
        let (report, status) = load(&server.address, &[&arguments[..], &["--backend", &backend]].concat());
        assert!(status.success(), "{report}");
        assert_all_answered(&report);
        assert_eq!((&report["transport"], &report["sent"]), (&"udp".into(), &200.into()));
        assert_eq!((&report["open_loop"]["scheduled"], &report["open_loop"]["unsent"]), (&200.into(), &0.into()));
        assert!(report["server_cpu_ns_per_message"].is_number() && number(&report["latency_ns"]["p50"]) > 0);
        let summary = server.stop();
        // The probe is a short datagram and one of the load's size.
        assert_eq!((&summary["received"], &summary["sent"]), (&202.into(), &202.into()), "{summary}");
        assert_eq!((number(&summary["received_bytes"]), &summary["dropped"]), (200 * 64 + 8 + 64, &0.into()));
    }
}

#[test]
fn datagrams_of_all_sizes_come_back() {
    for backend in backends() {
        let server = Server::start(&["echo", "--udp", "--datagram-max", "65000", "--backend", &backend]);
        for size in ["16", "17", "1472", "9000", "65000"] {
            let fixed = ["--connections", "2", "--pipeline", "2", "--duration", "100ms", "--timeout", "20s"];
            let (report, status) =
                load(&server.address, &[&fixed[..], &["--size", size, "--backend", &backend]].concat());
            assert!(status.success(), "{report}");
            assert_all_answered(&report);
        }
        server.stop();
    }
}

/// Any port of a host that is this program's: what goes on to a port that has closed there hits nobody else's.
fn own_address() -> SocketAddr {
    (own_host(std::process::id(), 100), 0).into()
}

/// A server of our own, on a thread: it gets the number of each datagram and says which answers go out.
fn peculiar_server(answer: impl Fn(usize, &[u8]) -> Option<Vec<Vec<u8>>> + Send + 'static) -> String {
    let socket = UdpSocket::bind(own_address()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut bytes = [0; 2048];
        // The first two are the probe's.
        for number in 0.. {
            let (length, from) = socket.recv_from(&mut bytes).unwrap();
            let bytes = &bytes[..length];
            let answers = if number < 2 { Some(vec![bytes.to_vec()]) } else { answer(number - 2, bytes) };
            let Some(answers) = answers else { return };
            for answer in answers {
                // The load may have ended.
                let _ = socket.send_to(&answer, from);
            }
        }
    });
    address
}

#[test]
fn what_is_lost_frees_its_place_and_is_no_error() {
    let address = peculiar_server(|number, bytes| {
        Some(match number % 10 {
            3 => Vec::new(),
            7 => vec![bytes.to_vec(); 2],
            _ => vec![bytes.to_vec()],
        })
    });
    let arguments = ["--connections", "4", "--pipeline", "4", "--timeout", "20ms", "--duration", "500ms"];
    let (report, status) = load(&address, &arguments);
    assert!(status.success(), "{report}");
    assert_accounted_for(&report);
    assert!(number(&report["lost"]) > 20, "places that are never free again would allow 16: {report}");
    assert!(number(&report["duplicates"]) > 20 && number(&report["corrupt"]) == 0, "{report}");
    assert!(report["lost_percent"].as_f64().unwrap() > 5.0, "{report}");
}

#[test]
fn answers_after_the_timeout_are_late() {
    let held = std::cell::RefCell::new(Vec::new());
    // Each answer goes out when three others have come, which takes longer than the timeout.
    let address = peculiar_server(move |_, bytes| {
        held.borrow_mut().push(bytes.to_vec());
        let is_due = held.borrow().len() > 3;
        Some(if is_due { vec![held.borrow_mut().remove(0)] } else { Vec::new() })
    });
    let arguments = ["--connections", "1", "--timeout", "20ms", "--duration", "500ms"];
    let output = run(&[&["load", "echo", "--udp", "--json", "--connect", &address], &arguments[..]].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_accounted_for(&report);
    assert!(number(&report["late"]) > 2 && number(&report["duplicates"]) == 0, "{report}");
    assert_eq!((number(&report["answered"]), number(&report["corrupt"])), (0, 0), "{report}");
    assert_eq!(output.status.code(), Some(1), "not one in time");
    assert!(text(&output.stderr).contains("raise --timeout"), "{}", text(&output.stderr));
}

#[test]
fn wrong_contents_are_errors() {
    let address = peculiar_server(|number, bytes| {
        let mut bytes = bytes.to_vec();
        bytes[40] ^= u8::from(number == 5);
        Some(vec![bytes])
    });
    let (report, status) = load(&address, &["--connections", "2", "--timeout", "50ms", "--duration", "200ms"]);
    assert_accounted_for(&report);
    assert_eq!((status.code(), &report["corrupt"], &report["corrupt_bytes"]), (Some(1), &1.into(), &1.into()));
    assert!(report["errors"] == 1 && number(&report["lost"]) > 0, "it answers nothing: {report}");
}

#[test]
fn a_server_that_goes_away_costs_datagrams_and_nothing_else() {
    for loop_arguments in [&["--pipeline", "2"][..], &["--rate", "500"]] {
        let address = peculiar_server(|number, bytes| (number < 50).then(|| vec![bytes.to_vec()]));
        let fixed = ["--connections", "3", "--timeout", "50ms", "--duration", "500ms"];
        let (report, status) = load(&address, &[&fixed, loop_arguments].concat());
        assert!(status.success(), "{report}");
        assert_accounted_for(&report);
        // The machine may be slower than the timeout.
        assert!((1..=50).contains(&number(&report["answered"])) && number(&report["lost"]) > 5, "{report}");
        assert!(number(&report["undelivered"]) > 0, "{report}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_killed_under_load_costs_datagrams_and_nothing_else() {
    for backend in backends() {
        let mut server = Server::start_at(&own_address().to_string(), &["echo", "--udp", "--backend", &backend]);
        let fixed = ["load", "echo", "--udp", "--json", "--connect", &server.address, "--backend", &backend];
        let arguments = ["--connections", "8", "--timeout", "100ms", "--duration", "2s", "--rate", "2000"];
        let mut load = Running::start(&[&fixed[..], &arguments].concat());
        // It works once its threads have run more often than for the probe.
        let threads = format!("/proc/{}/task", server.process.0.id());
        let runs = |thread: std::fs::DirEntry| -> u64 {
            let text = std::fs::read_to_string(thread.path().join("schedstat")).unwrap();
            text.split_whitespace().nth(2).unwrap().parse().unwrap()
        };
        while std::fs::read_dir(&threads).unwrap().map(|thread| runs(thread.unwrap())).sum::<u64>() < 200 {
            assert!(load.0.try_wait().unwrap().is_none(), "the load goes on");
        }
        server.process.0.kill().unwrap();
        server.process.0.wait().unwrap();
        let report = load.report();
        assert_accounted_for(&report);
        assert!(number(&report["answered"]) > 0 && number(&report["lost"]) > 0, "{report}");
    }
}

#[test]
fn who_does_not_answer_is_told_before_the_measurement() {
    let vacant = Vacant::datagrams();
    let address = vacant.address().to_string();
    let load = ["load", "echo", "--udp", "--connect"];
    let parts = [format!("nothing listens at {address}"), format!("raon serve echo --udp --listen {address}")];
    assert_fails(&mut raon(&[&load[..], &[&address]].concat()), 1, &[&parts[0], &parts[1]]);
    let sink = Server::start(&["sink", "--udp"]);
    assert_fails(
        &mut raon(&[&load[..], &[&sink.address]].concat()),
        1,
        &["no datagram was answered", "serve echo --udp"],
    );
    let small = Server::start(&["echo", "--udp"]);
    let arguments = [&load[..], &[&small.address, "--size", "4000"]].concat();
    assert_fails(&mut raon(&arguments), 1, &["none of 4000 bytes", "--datagram-max 4000"]);
}

#[test]
fn a_sweep_over_datagrams_has_their_losses() {
    let server = Server::start(&["echo", "--udp"]);
    let fixed = ["--sweep", "--rates", "200,400", "--duration", "200ms", "--connections", "4", "--timeout", "20s"];
    let (report, status) = load(&server.address, &fixed);
    assert!(status.success(), "{report}");
    for step in report["steps"].as_array().unwrap() {
        assert_all_answered(&{
            let mut step = step.clone();
            step["connect_errors"] = 0.into();
            step
        });
    }
    let picture = std::env::temp_dir().join(format!("raon-{}-datagrams.svg", std::process::id()));
    let plot = ["--plot", picture.to_str().unwrap()];
    let output = run(&[&["load", "echo", "--udp", "--connect", &server.address], &fixed[..], &plot].concat());
    let shown = text(&output.stdout);
    assert!(
        output.status.success() && shown.contains("lost") && shown.contains("4 UDP sockets of 64 bytes"),
        "{shown}"
    );
    let svg = std::fs::read_to_string(&picture).unwrap();
    std::fs::remove_file(&picture).unwrap();
    assert!(svg.contains("4 UDP sockets") && !svg.contains("NaN"));
    server.stop();
}

#[test]
fn loads_that_datagrams_cannot_have_are_refused() {
    let cases: [(&[&str], &str); 7] = [
        (&["--udp", "--connect", "unix:@x"], "ADDRESS:PORT"),
        (&["--udp", "--size", "15"], "at least 16 bytes: 4 for the socket's number and 8"),
        (&["--udp", "--size", "65001"], "at most 65000"),
        (&["--udp", "--idle", "5"], "drop --idle"),
        (&["--udp", "--connect-rate", "5"], "drop --connect-rate"),
        (&["--timeout", "1s"], "add --udp"),
        (&["--udp", "--timeout", "2m"], "at most 60s"),
    ];
    for (arguments, part) in cases {
        assert_fails(&mut raon(&[&["load", "echo"], arguments].concat()), 2, &[part]);
    }
}

//! The open loop, sweeps and pictures.

use serde_json::Value;

use crate::support::{Scratch, Server, assert_fails, backends, raon, run, run_json, text};

fn load(server: &Server, arguments: &[&str]) -> Value {
    let fixed = ["load", "echo", "--json", "--connect", &server.address];
    let (report, status) = run_json(&[&fixed, arguments].concat());
    assert!(status.success(), "{report}");
    report
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Every message that was due is somewhere.
fn assert_accounted_for(open: &Value, messages: &Value) {
    let sum = number(messages) + number(&open["unanswered"]) + number(&open["unsent"]);
    assert_eq!(number(&open["scheduled"]), sum, "{open}");
}

fn assert_near(figure: &Value, wanted: f64) {
    assert!((0.75 * wanted..1.1 * wanted).contains(&number(figure)), "{figure} is far from {wanted}");
}

#[test]
fn a_rate_is_kept_on_each_backend() {
    for backend in backends() {
        let server = Server::start(&["echo", "--backend", &backend]);
        let report = load(
            &server,
            &["--backend", &backend, "--rate", "500/s", "--duration", "1s", "--connections", "7", "--workers", "2"],
        );
        let open = &report["open_loop"];
        assert_eq!((&open["rate_per_s"], &open["scheduled"]), (&500.into(), &500.into()), "{report}");
        assert_eq!((number(&open["offered_per_s"]), &open["arrivals"]), (500.0, &"even".into()));
        assert_near(&report["messages_per_s"], 500.0);
        assert_accounted_for(open, &report["messages"]);
        assert_eq!((&report["errors"], &open["unsent"], report.get("pipeline")), (&0.into(), &0.into(), None));
        let (lag, latency) = (&open["lag_ns"], &report["latency_ns"]);
        assert!(number(&lag["p50"]) > 0.0 && number(&lag["p50"]) <= number(&lag["max"]), "{lag}");
        assert!(number(&lag["p50"]) < number(&latency["p50"]), "latency has the lag in it: {report}");
        server.stop();
    }
}

#[test]
fn a_seed_makes_the_schedule() {
    let server = Server::start(&["echo"]);
    let scheduled = |arguments: &[&str]| {
        let fixed = ["--rate", "2000", "--duration", "500ms", "--connections", "6", "--arrivals", "poisson"];
        let report = load(&server, &[&fixed, arguments].concat());
        let open = &report["open_loop"];
        assert_near(&open["offered_per_s"], 2000.0);
        assert_accounted_for(open, &report["messages"]);
        (number(&open["scheduled"]), number(&open["seed"]))
    };
    let (first, seed) = scheduled(&["--seed", "7"]);
    assert_eq!(seed, 7.0);
    assert_eq!(scheduled(&["--seed", "7", "--workers", "3"]).0, first, "however many threads send");
    assert_eq!(scheduled(&[]).1, 1.0);
    server.stop();
}

#[test]
fn what_may_not_leave_waits_and_is_counted() {
    let server = Server::start(&["echo"]);
    let arguments = ["--rate", "50000", "--duration", "300ms", "--connections", "1", "--in-flight-max", "1"];
    let output = run(&[&["load", "echo", "--json", "--connect", &server.address], &arguments[..]].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let open = &report["open_loop"];
    assert!(number(&open["backlogged"]) > 100.0, "{report}");
    assert_accounted_for(open, &report["messages"]);
    assert_eq!(output.status.success(), open["unsent"] == 0, "{report}");
    server.stop();
}

#[test]
fn either_loop_can_be_drawn() {
    let server = Server::start(&["echo"]);
    for (name, arguments, title) in [
        ("closed.svg", &["--connections", "3"][..], "Latency in a closed loop of "),
        ("open.svg", &["--rate", "2000"], "Latency at 2,000 messages/s"),
    ] {
        let file = Scratch::new(name);
        let fixed = ["load", "echo", "--connect", &server.address, "--duration", "200ms", "--plot", file.path()];
        let output = run(&[&fixed, arguments].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains(file.path()));
        file.assert_is_picture(&[title, "99 %", "max "]);
    }
    server.stop();
}

#[test]
fn a_sweep_over_given_rates_is_a_table_and_a_picture() {
    let server = Server::start(&["echo"]);
    let file = Scratch::new("sweep.svg");
    let fixed =
        ["load", "echo", "--connect", &server.address, "--sweep", "--rates", "800,400/s", "--duration", "300ms"];
    let output = run(&[&fixed[..], &["--plot", file.path()]].concat());
    let table = text(&output.stdout);
    assert!(output.status.success(), "{table}{}", text(&output.stderr));
    for part in ["offered/s", "achieved/s", "p99.9", "lag p99", "\n 400 ", "\n 800 "] {
        assert!(table.contains(part), "no {part:?} in {table}");
    }
    file.assert_is_picture(&["Latency against rate", "p99.9", "messages offered per second"]);
    let (report, status) = run_json(&[&fixed[..], &["--json"]].concat());
    assert!(status.success(), "{report}");
    let steps = report["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 2);
    for (step, rate) in steps.iter().zip([400, 800]) {
        assert_eq!((&step["rate_per_s"], &step["errors"]), (&rate.into(), &0.into()), "{report}");
        assert_near(&step["achieved_per_s"], rate.into());
        assert_accounted_for(step, &step["messages"]);
        assert!(number(&step["latency_ns"]["p50"]) <= number(&step["latency_ns"]["p999"]));
        assert!(step["lag_ns"]["p99"].is_number());
    }
    assert!(report["closed_loop"].is_null());
    server.stop();
}

#[test]
fn a_sweep_finds_its_rates() {
    let server = Server::start(&["echo"]);
    let (report, _) = run_json(&[
        "load",
        "echo",
        "--connect",
        &server.address,
        "--sweep",
        "--duration",
        "60ms",
        "--json",
        "--idle",
        "5",
    ]);
    let reached = number(&report["closed_loop"]["messages_per_s"]);
    let steps = report["steps"].as_array().unwrap();
    assert_eq!((steps.len(), &report["idle_connections"]), (10, &5.into()));
    let last = number(&steps[9]["rate_per_s"]);
    assert!((1.05 * reached..1.15 * reached).contains(&last), "{last} against {reached}");
    server.stop();
}

#[test]
fn contradictions_are_refused_with_the_remedy() {
    let cases: [(&[&str], &str); 14] = [
        (&["--rate", "0"], "between 1 and 10000000"),
        (&["--rate", "fast"], "such as 1000/s"),
        (&["--rates", "1000,0", "--sweep"], "between 1 and 10000000"),
        (&["--rate", "5", "--sweep"], "--rates 1000,2000"),
        (&["--rates", "5,6"], "add --sweep"),
        (&["--rate", "5", "--pipeline", "2"], "--in-flight-max"),
        (&["--sweep", "--pipeline", "2"], "drop --pipeline"),
        (&["--sweep", "--connections", "0", "--idle", "1"], "--connections above 0"),
        (&["--arrivals", "poisson"], "add --rate N or --sweep"),
        (&["--in-flight-max", "5"], "add --rate N or --sweep"),
        (&["--rate", "5", "--seed", "1"], "add --arrivals poisson"),
        (&["--rate", "5", "--arrivals", "bursts"], "even, poisson"),
        (&["--plot", "latency.png"], "name the file latency.svg"),
        (&["--plot", "x.svg", "--connections", "0", "--idle", "1"], "drop --plot"),
    ];
    for (arguments, part) in cases {
        assert_fails(&mut raon(&[&["load", "echo"], arguments].concat()), 2, &[part]);
    }
}

#[test]
fn a_picture_that_could_not_be_written_is_told_before_the_measurement() {
    let nowhere = std::env::temp_dir().join("raon-no-such-folder").join("latency.svg");
    let nowhere = nowhere.to_str().unwrap();
    assert_fails(&mut raon(&["load", "echo", "--plot", nowhere]), 1, &["cannot write", "a folder that exists"]);
}

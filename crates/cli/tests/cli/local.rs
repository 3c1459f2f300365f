//! Unix sockets: the same server and load on names instead of ports.

use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Server, assert_fails, backends, raon, run, run_json, text};

/// A socket's path, of one test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        Place(std::env::temp_dir().join(format!("raon-{}-{name}.sock", std::process::id())))
    }

    fn address(&self) -> String {
        format!("unix:{}", self.0.display())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Names in no file system leave nothing.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn assert_echoes(server: Server, address: &str, backend: &str) {
    assert_eq!(server.address, address);
    let arguments = ["--connections", "20", "--workers", "2", "--duration", "200ms", "--backend", backend];
    let (report, status) = run_json(&[&["load", "echo", "--json", "--connect", address], &arguments[..]].concat());
    assert!(status.success(), "{report}");
    assert!(report["messages"].as_u64().unwrap() > 0 && report["server_cpu_ns_per_message"].is_number(), "{report}");
    let summary = server.stop();
    assert_eq!((&summary["connections"], &summary["errors"]), (&21.into(), &0.into()), "{summary}");
}

#[test]
fn a_path_echoes_on_each_backend() {
    let place = Place::new("path");
    for backend in backends() {
        // The second one takes over the name that the first has left.
        let server = Server::start_at(&place.address(), &["echo", "--workers", "2", "--backend", &backend]);
        assert_echoes(server, &place.address(), &backend);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_abstract_name_echoes_on_each_backend() {
    for backend in backends() {
        let address = format!("unix:@raon-{}-{backend}", std::process::id());
        assert_echoes(Server::start_at(&address, &["echo", "--backend", &backend]), &address, &backend);
    }
}

#[test]
fn an_open_loop_names_the_path() {
    let place = Place::new("open");
    let server = Server::start_at(&place.address(), &["echo"]);
    let output = run(&["load", "echo", "--connect", &place.address(), "--rate", "1000", "--duration", "200ms"]);
    let shown = text(&output.stdout);
    assert!(output.status.success() && shown.contains(&format!("to {}, 1,000 messages/s", place.address())), "{shown}");
    server.stop();
}

#[test]
fn a_path_in_use_is_told() {
    let place = Place::new("busy");
    let server = Server::start_at(&place.address(), &["echo"]);
    let doing = format!("cannot listen on {}", place.address());
    assert_fails(&mut raon(&["serve", "echo", "--listen", &place.address()]), 1, &[&doing, "in use"]);
    let summary: Value = server.stop();
    assert_eq!(summary["errors"], 0);
    let doing = format!("cannot connect to {}", place.address());
    let remedy = format!("raon serve echo --listen {}", place.address());
    assert_fails(&mut raon(&["load", "echo", "--connect", &place.address()]), 1, &[&doing, &remedy]);
}

#[test]
fn names_that_cannot_be_are_told() {
    let long = format!("unix:/{}", "x".repeat(120));
    for (address, part) in [("unix:", "a name is missing"), (&long, "107 bytes"), ("localhost:9000", "unix:/PATH")] {
        assert_fails(&mut raon(&["serve", "echo", "--listen", address]), 2, &["--listen", part]);
        assert_fails(&mut raon(&["load", "echo", "--connect", address]), 2, &["--connect", part]);
    }
    let arguments = ["serve", "echo", "--listen", "unix:/raon-no-such-folder/echo.sock"];
    assert_fails(&mut raon(&arguments), 1, &["its folder does not exist"]);
}

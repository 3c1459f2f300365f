//! Results for people and for machines.

use std::io::IsTerminal;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::memory::MemoryFigures;
use crate::micro::Step;
use crate::plot::{self, Bar, Panel};
use crate::rounds::{Figures, Load};

/// All results of one call.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    machine: Machine,
    workloads: Vec<Section>,
    memory: Vec<MemoryFigures>,
    micro: Vec<Step>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Section {
    name: String,
    description: String,
    servers: Vec<Figures>,
}

/// One line that is written over again while something runs.
pub(crate) fn progress(line: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{line}\r");
    }
}

impl Report {
    pub(crate) fn new(machine: Machine) -> Self {
        Report { machine, workloads: Vec::new(), memory: Vec::new(), micro: Vec::new() }
    }

    /// The report that an earlier call wrote.
    pub(crate) fn read(path: &Path) -> std::io::Result<Self> {
        Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
    }

    /// Takes the figures of one load, and prints them unless all are to be JSON.
    pub(crate) fn add(&mut self, load: &impl Load, servers: Vec<Figures>, json: bool) {
        let section = Section { name: load.name().into(), description: load.description(), servers };
        if !json {
            progress("");
            section.print();
        }
        self.workloads.push(section);
    }

    /// Takes the memory figures of one server, likewise.
    pub(crate) fn add_memory(&mut self, row: MemoryFigures, json: bool) {
        if !json {
            progress("");
            if self.memory.is_empty() {
                println!("M: {} idle connections, then connects and resets", row.idle_connections);
                println!("  {:<24} {:>12} {:>12} {:>14}", "server", "bytes/idle", "accepts/s", "CPU ns/accept");
            }
            let MemoryFigures { server, rss_bytes_per_idle, accepts_per_s, cpu_ns_per_accept, .. } = &row;
            println!("  {server:<24} {rss_bytes_per_idle:>12.0} {accepts_per_s:>12.0} {cpu_ns_per_accept:>14.0}");
        }
        self.memory.push(row);
    }

    /// Takes the costs of single steps, likewise.
    pub(crate) fn add_micro(&mut self, steps: Vec<Step>, json: bool) {
        if !json {
            progress("");
            println!("{:<62} {:>8}  quartiles", "step", "ns");
            for Step { name, ns, ns_low, ns_high } in &steps {
                println!("{name:<62} {ns:>8.1}  {ns_low:.1}-{ns_high:.1}");
            }
        }
        self.micro = steps;
    }

    /// The ratios of all loads as a picture.
    pub(crate) fn plot(&self) -> String {
        let bar = |row: &Figures| Bar {
            name: row.server.clone(),
            cost: 1.0 / row.cheaper,
            error: row.cheaper_error / row.cheaper.powi(2),
            label: format!("{:.2} ±{:.2}", 1.0 / row.cheaper, row.cheaper_error / row.cheaper.powi(2)),
        };
        let panel = |section: &Section| Panel {
            title: format!("{}: {}", section.name, section.description),
            bars: section.servers.iter().map(bar).collect(),
        };
        let Machine { commit, date, kernel, cpu, .. } = &self.machine;
        let panels: Vec<Panel> = self.workloads.iter().map(panel).collect();
        let what = "Server CPU per message relative to the first server (shorter is cheaper), one standard error";
        plot::svg(&panels, &format!("{what}. Commit {commit}, {date}, Linux {kernel}, {cpu}, loopback."))
    }

    /// Writes the JSON, and says what was thrown away.
    pub(crate) fn finish(&self, json: bool, out: Option<&Path>) -> std::io::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        if json {
            println!("{text}");
        }
        if let Some(path) = out {
            std::fs::write(path, text + "\n")?;
        }
        let discarded: usize =
            self.workloads.iter().flat_map(|section| &section.servers).map(|row| row.discarded).sum();
        eprintln!("{discarded} disturbed runs were thrown away");
        Ok(())
    }
}

impl Section {
    fn print(&self) {
        let Section { name, description, servers } = self;
        println!("{name}: {description}");
        println!(
            "  {:<24} {:>4} {:>10} {:>15} {:>10} {:>8} {:>8} {:>9} {:>11}",
            "server", "runs", "CPU ns/msg", "quartiles", "msg/s", "p50 us", "p99 us", "busy s/g", "cheaper"
        );
        for row in servers {
            println!(
                "  {:<24} {:>4} {:>10.0} {:>7.0}-{:<7.0} {:>10.0} {:>8.0} {:>8.0} {:>4.0}/{:<3.0}% {:>5.2} ±{:.2}",
                row.server,
                row.runs,
                row.cpu_ns_per_message,
                row.cpu_ns_per_message_low,
                row.cpu_ns_per_message_high,
                row.messages_per_s,
                row.p50_ns as f64 / 1e3,
                row.p99_ns as f64 / 1e3,
                row.server_busy * 100.0,
                row.generator_busy * 100.0,
                row.cheaper,
                row.cheaper_error,
            );
        }
    }
}

//! Results for people and for machines.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::claims::{self, Answer};
use crate::connections::{self, ConnectionsFigures};
use crate::entries::{self, EntriesFigures};
use crate::machine::Machine;
use crate::memory::{self, Effort, MemoryFigures};
use crate::micro::Step;
use crate::rounds::{self, Figures, Load};
use crate::{picture, plot, table};

/// How results are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Form {
    /// For people.
    #[default]
    Tables,
    /// For machines, at the end.
    Json,
    /// Only that it went well: the figures mean nothing.
    Smoke,
}

/// All results of one call.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    machine: Machine,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    workloads: Vec<Section>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    memory: Vec<MemoryFigures>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    micro: Vec<Step>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    iopoll: Vec<Answer>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    connections: Vec<ConnectionsFigures>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    entries: Vec<EntriesFigures>,
    #[serde(skip)]
    form: Form,
    /// Where the JSON goes besides.
    #[serde(skip)]
    out: Option<PathBuf>,
}

/// What was measured under one load.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) servers: Vec<Figures>,
}

/// One line that is written over again while something runs.
pub(crate) fn progress(line: &str) {
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[K{line}\r");
    }
}

impl Report {
    pub(crate) fn new(machine: Machine, form: Form, out: Option<PathBuf>) -> Self {
        let (workloads, memory, micro) = (Vec::new(), Vec::new(), Vec::new());
        let (iopoll, connections, entries) = (Vec::new(), Vec::new(), Vec::new());
        Report { machine, workloads, memory, micro, iopoll, connections, entries, form, out }
    }

    /// The report that an earlier call wrote.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
    }

    /// Takes the figures of one load, and prints them.
    pub(crate) fn add(&mut self, load: &impl Load, servers: Vec<Figures>) {
        let (name, description) = (load.name().to_owned(), load.description());
        self.show(&format!("{name}: {description}"), servers.len(), || rounds::table(&servers));
        self.workloads.push(Section { name, description, servers });
    }

    /// Likewise of idle connections.
    pub(crate) fn add_memory(&mut self, effort: Effort, rows: Vec<MemoryFigures>) {
        let title = format!("{}: {} idle connections, then connects and resets", effort.name, effort.idle);
        self.show(&title, rows.len(), || memory::table(&rows));
        self.memory = rows;
    }

    /// Likewise of single steps.
    pub(crate) fn add_micro(&mut self, steps: Vec<Step>) {
        self.show("single steps", steps.len(), || {
            let row = |Step { name, ns, ns_low, ns_high }: &Step| {
                vec![name.clone(), format!("{ns:.1}"), format!("{ns_low:.1}-{ns_high:.1}")]
            };
            table::lines(&["step", "ns", "quartiles"], &steps.iter().map(row).collect::<Vec<_>>())
        });
        self.micro = steps;
    }

    /// Likewise of a ring for polled devices.
    pub(crate) fn add_iopoll(&mut self, answers: Vec<Answer>) {
        let title = "operations on a socket in a plain ring, and in one set up with IORING_SETUP_IOPOLL";
        self.show(title, answers.len(), || claims::table(&answers));
        self.iopoll = answers;
    }

    /// Likewise of many connections.
    pub(crate) fn add_connections(&mut self, rows: Vec<ConnectionsFigures>) {
        let (count, window_s) = rows.first().map_or((0, 0.0), |row| (row.connections, row.window_s));
        let title = format!("{count} connections x 64 bytes, 1 in flight each, {window_s} s");
        self.show(&title, rows.len(), || connections::table(&rows));
        self.connections = rows;
    }

    /// Likewise of kernel entries.
    pub(crate) fn add_entries(&mut self, rows: Vec<EntriesFigures>) {
        let title = "kernel entries per message, 64 connections x 64 bytes";
        self.show(title, rows.len(), || entries::table(&rows));
        self.entries = rows;
    }

    fn show(&self, title: &str, rows: usize, table: impl FnOnce() -> String) {
        progress("");
        match self.form {
            Form::Tables => println!("{title}\n{}", table()),
            Form::Smoke => println!("ok: {title}, {rows} rows"),
            Form::Json => {}
        }
    }

    /// Prints and writes the JSON and draws the picture, as far as that is asked for, and says what was thrown away.
    pub(crate) fn finish(&self, plot: Option<&Path>) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        if self.form == Form::Json {
            println!("{text}");
        }
        if let Some(path) = &self.out {
            std::fs::write(path, text + "\n")?;
        }
        if let Some(path) = plot {
            self.draw(path)?;
        }
        let servers = || self.workloads.iter().flat_map(|section| &section.servers);
        let discarded: usize = servers().map(|row| row.discarded).sum();
        let all = discarded + servers().map(|row| row.runs).sum::<usize>();
        if discarded > 0 {
            eprintln!("{discarded} of {all} runs were disturbed and thrown away");
        }
        Ok(())
    }

    /// Draws the figures into an SVG file.
    pub(crate) fn draw(&self, path: &Path) -> io::Result<()> {
        let picture = match self {
            Report { machine, workloads, .. } if !workloads.is_empty() => picture::ratios(machine, workloads),
            Report { machine, memory, .. } if !memory.is_empty() => picture::idle(machine, memory),
            _ => return Err(io::Error::other("there is nothing in these results that can be drawn")),
        };
        std::fs::write(path, plot::svg(&picture))
    }
}

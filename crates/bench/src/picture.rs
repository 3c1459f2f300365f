//! Pictures: which figures are drawn, and how they are called there.

use crate::machine::Machine;
use crate::memory::MemoryFigures;
use crate::plot::{Bar, Panel, Picture};
use crate::report::Section;
use crate::rounds::Figures;

/// Cost per message, relative to the first server's.
pub(crate) fn ratios(machine: &Machine, workloads: &[Section]) -> Picture {
    let panel = |section: &Section| Panel {
        title: format!("{}: {}", section.name, section.description),
        unit: "server CPU per message, relative".to_owned(),
        bars: section.servers.iter().enumerate().map(|(index, row)| ratio(row, index == 0)).collect(),
    };
    let first = workloads.iter().flat_map(|section| section.servers.first()).next();
    let first = first.map_or("the first server", |row| &row.server);
    Picture {
        heading: format!("Server CPU per message, relative to {first}: shorter is cheaper"),
        panels: workloads.iter().map(panel).collect(),
        whisker: "± one standard error",
        reference: Some((1.0, format!("1.00 = {first}"))),
        footer: footer(machine),
    }
}

/// The first server's ratio to itself has no error.
fn ratio(row: &Figures, is_first: bool) -> Bar {
    let (value, error) = (1.0 / row.cheaper, row.cheaper_error / row.cheaper.powi(2));
    let error = if is_first { f64::NAN } else { error };
    let label = match (value.is_finite(), is_first) {
        (false, _) => "too few runs".to_owned(),
        (true, true) => format!("{value:.2}"),
        (true, false) => format!("{value:.2} ±{error:.2}"),
    };
    Bar { name: row.server.clone(), value, low: value - error, high: value + error, label }
}

/// What an idle connection holds, and what it costs to accept and close one.
pub(crate) fn idle(machine: &Machine, rows: &[MemoryFigures]) -> Picture {
    let bytes = |row: &MemoryFigures| {
        let [value, low, high] = [row.rss_bytes_per_idle, row.rss_bytes_per_idle_low, row.rss_bytes_per_idle_high];
        Bar { name: row.server.clone(), value, low, high, label: format!("{value:.0}") }
    };
    let accepts = |row: &MemoryFigures| {
        let ns = [row.cpu_ns_per_accept, row.cpu_ns_per_accept_low, row.cpu_ns_per_accept_high];
        let [value, low, high] = ns.map(|ns| ns / 1e3);
        Bar { name: row.server.clone(), value, low, high, label: format!("{value:.1}") }
    };
    let panel = |title: &str, unit: &str, bars: Vec<Bar>| Panel { title: title.into(), unit: unit.into(), bars };
    let count = rows.first().map_or(0, |row| row.idle_connections);
    Picture {
        heading: format!("{count} idle connections, then connects and resets: shorter is better"),
        panels: vec![
            panel("Memory per idle connection", "resident bytes (RSS)", rows.iter().map(bytes).collect()),
            panel("One connection accepted and closed", "server CPU, µs", rows.iter().map(accepts).collect()),
        ],
        whisker: "quartiles",
        reference: None,
        footer: footer(machine),
    }
}

fn footer(machine: &Machine) -> String {
    let Machine { commit, date, kernel, cpu, cores, congestion_control } = machine;
    format!(
        "Commit {commit}, {date}, Linux {kernel}, {cpu}, {cores} cores, congestion control {congestion_control}, loopback."
    )
}

//! What a bench is asked for, and what it prints.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// Words on the command line: `--quick`, `--no-peers`, `--json FILE`, and names of sections.
pub(crate) struct Options {
    /// Fewer rounds and smaller amounts.
    pub(crate) quick: bool,
    /// Other tunnels beside ours.
    pub(crate) peers: bool,
    json: Option<PathBuf>,
    only: Vec<String>,
}

impl Options {
    pub(crate) fn read() -> Self {
        let mut args = pico_args::Arguments::from_env();
        // Cargo says so to every bench.
        let _ = args.contains("--bench");
        let quick = args.contains("--quick");
        let peers = !args.contains("--no-peers");
        let json = args.opt_value_from_str("--json").expect("--json FILE");
        let only = args.finish().iter().map(|word| word.to_string_lossy().into_owned()).collect();
        Self { quick, peers, json, only }
    }

    /// `section` is wanted: it is named, or nothing is.
    pub(crate) fn wants(&self, section: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| word == section)
    }
}

/// Tables on standard output, and the same figures as JSON at the end.
pub(crate) struct Report {
    json: Option<PathBuf>,
    all: Vec<Value>,
}

/// One figure: its column, its value, and how many digits follow the point.
pub(crate) type Figure<'a> = (&'a str, f64, usize);

impl Report {
    pub(crate) fn new(options: &Options) -> Self {
        println!("{}", machine());
        Self { json: options.json.clone(), all: Vec::new() }
    }

    /// What is to be known about the figures.
    pub(crate) fn notes(&mut self, title: &str, notes: &[String]) {
        for note in notes {
            println!("{title}: {note}");
            self.all.push(json!({ "table": title, "note": note }));
        }
    }

    pub(crate) fn table(&mut self, title: &str, rows: &[(String, Vec<Figure<'_>>)]) {
        let Some((_, first)) = rows.first() else { return };
        let mut text = format!("\n{title}\n{:<44}", "");
        for (column, ..) in first {
            let _ = write!(text, " {column:>16}");
        }
        for (name, figures) in rows {
            let _ = write!(text, "\n{name:<44}");
            for &(column, value, digits) in figures {
                let _ = write!(text, " {value:>16.digits$}");
                self.all
                    .push(json!({ "table": title, "row": name, "column": column, "value": value }));
            }
        }
        println!("{text}");
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let Some(path) = &self.json else { return };
        let when = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs());
        let all = json!({ "unixTime": when, "machine": machine(), "figures": self.all });
        std::fs::write(path, all.to_string()).expect("the JSON file can be written");
    }
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("?");
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{}, {cores} cores, kernel {}, load {load}", model.unwrap_or("?"), kernel.trim())
}

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The value below which `percent` of the values are.
pub(crate) fn quantile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = values.len() * percent / 100;
    values.get(at.min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

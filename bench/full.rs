//! The full tunnel: TLS from end to end and streams, from a client to the auth proxy's plaintext
//! side, without TLS to kubectl or to the API server. That is what `cluster-connect bench` measures;
//! here it runs beside the chains, one thing at a time, so that the processor time is that thing's.

use serde_json::Value;

use crate::GIB;
use crate::rig::chain::{Chain, Site};
use crate::rig::process;
use crate::rig::report::{Figure, Options, Report, median};

type Rows = Vec<(String, Vec<Figure<'static>>)>;

/// One run: what the command says, and the processor time of each process, the client's last.
struct Run {
    said: Value,
    spent: Vec<(&'static str, f64)>,
}

impl Run {
    fn of(site: &Site, chain: &Chain, cluster: &str, words: &[&str]) -> Self {
        let cpu = || {
            let ours = std::iter::once(&site.relay).chain(&chain.processes);
            let ours = ours.map(|it| (it.name, it.cpu()));
            ours.chain([("client", process::spent_by_children())]).collect::<Vec<_>>()
        };
        let before = cpu();
        let said = site.probe(cluster, words);
        let spent =
            cpu().into_iter().zip(before).map(|((name, now), (_, then))| (name, now - then));
        let said = serde_json::from_str(&said).expect("JSON");
        Self { said, spent: spent.collect() }
    }

    fn number(&self, path: &str) -> f64 {
        let found = self.said.pointer(path).and_then(Value::as_f64);
        found.unwrap_or_else(|| panic!("no {path} in {}", self.said))
    }

    fn spent(&self) -> f64 {
        self.spent.iter().map(|(_, seconds)| seconds).sum()
    }
}

pub(crate) fn measure(site: &Site, chains: &[Chain], options: &Options, report: &mut Report) {
    let chains: Vec<_> = chains.iter().filter_map(|chain| Some((chain.cluster?, chain))).collect();
    // In turns: what the machine does meanwhile meets all of them.
    let rounds = if options.quick { 1 } else { 5 };
    let time = if options.quick { "2s" } else { "5s" };
    let runs = |words: &[&str]| -> Vec<(&'static str, Vec<Run>)> {
        let words = [&["--time", time], words].concat();
        let mut all: Vec<_> = chains.iter().map(|(_, chain)| (chain.name, Vec::new())).collect();
        for _ in 0..rounds {
            for ((cluster, chain), (_, runs)) in chains.iter().zip(&mut all) {
                runs.push(Run::of(site, chain, cluster, &words));
            }
        }
        all
    };
    for way in ["down", "up"] {
        for streams in ["1", "8", "48"] {
            let rows = runs(&["--only", way, "--streams", streams]);
            let rows = rows.into_iter().map(|(name, runs)| (name.to_owned(), bulk(way, &runs)));
            let title = format!("full tunnel {way}, {streams} streams, and an echo beside them");
            report.table(&title, &rows.collect::<Rows>());
        }
    }
    let rows = runs(&["--only", "round-trip"]).into_iter();
    let rows = rows.map(|(name, runs)| (name.to_owned(), echo("/roundTrip", &runs)));
    report.table("full tunnel, echo of 64 bytes alone", &rows.collect::<Rows>());
    let rows = runs(&["--only", "streams"]).into_iter();
    for (name, runs) in rows {
        report.table(&format!("full tunnel, new streams in one session: {name}"), &streams(&runs));
    }
}

fn middle(runs: &[Run], figure: impl Fn(&Run) -> f64) -> f64 {
    median(runs.iter().map(figure).collect())
}

fn bulk(way: &str, runs: &[Run]) -> Vec<Figure<'static>> {
    let speed = |run: &Run| run.number(&format!("/{way}/bytesPerSecond")) / GIB;
    let cost = |run: &Run| run.spent() * GIB / run.number(&format!("/{way}/bytes"));
    let mut figures = vec![("GiB/s", middle(runs, speed), 2), ("CPU-s/GiB", middle(runs, cost), 2)];
    figures.extend(echo(&format!("/{way}/roundTrip"), runs));
    figures
}

fn echo(path: &str, runs: &[Run]) -> Vec<Figure<'static>> {
    let figure = |name| middle(runs, |run| run.number(&format!("{path}/{name}")));
    vec![("p50 us", figure("p50Micros"), 0), ("p99 us", figure("p99Micros"), 0)]
}

/// One row for all of them, and one for each process.
fn streams(runs: &[Run]) -> Rows {
    let count = |run: &Run| run.number("/streamsPerSecond") * run.number("/secondsEachWay");
    let row = |name: &str, cost: f64| {
        let speed = middle(runs, |run| run.number("/streamsPerSecond"));
        (name.to_owned(), vec![("per s", speed, 0), ("CPU us each", cost, 1)])
    };
    let mut rows = vec![row("all", middle(runs, |run| run.spent() * 1e6 / count(run)))];
    let names = runs.first().into_iter().flat_map(|run| &run.spent).map(|(name, _)| name);
    rows.extend(
        names
            .enumerate()
            .map(|(at, name)| row(name, middle(runs, |run| run.spent[at].1 * 1e6 / count(run)))),
    );
    rows
}

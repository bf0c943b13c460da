//! What the executables weigh: bytes of the file, memory, threads and wake-ups of each process,
//! idle and while it holds streams that nothing moves on. See `README.md`.

mod rig;

use std::thread;
use std::time::Duration;

use rig::chain::{Chain, Site};
use rig::process::Process;
use rig::report::{Options, Report};

/// A chain, and how many streams it is to hold, in ascending order.
type Case = (&'static str, fn(&Site) -> Chain, [usize; 3]);

/// A stream of the byte pipe is a rendezvous, of which an agent carries no more than
/// [`SESSIONS_MAX`](cluster_connect::limits::SESSIONS_MAX).
const CASES: [Case; 3] = [
    ("apart", Site::apart, [0, 1_000, 10_000]),
    ("edge", Site::edge, [0, 1_000, 10_000]),
    ("pipe", Site::pipe, [0, 1_000, 4_000]),
];

/// What opening streams has left behind is not idle.
const SETTLES: Duration = Duration::from_secs(12);

fn main() {
    rig::play(measure);
}

fn measure(options: &Options) {
    let mut report = Report::new(options);
    for (section, start, counts) in CASES {
        if options.wants(section) {
            case(start, &counts[..if options.quick { 2 } else { 3 }], options, &mut report);
        }
    }
}

/// What the kernel says of one process.
struct Weight {
    rss: f64,
    dirty: f64,
    threads: f64,
    wake_ups: f64,
}

fn case(start: fn(&Site) -> Chain, counts: &[usize], options: &Options, report: &mut Report) {
    let site = Site::with_origin_apart();
    let chain = start(&site);
    // The sender is the bench's own.
    let shipped = chain.processes.iter().filter(|process| process.name != "sender");
    let all: Vec<&Process> = std::iter::once(&site.relay).chain(shipped).collect();
    let mut held = Vec::new();
    let mut found: Vec<Vec<Weight>> = Vec::new();
    for &count in counts {
        while held.len() < count {
            held.push(chain.way.open());
        }
        thread::sleep(SETTLES);
        found.push(weigh(&all, if options.quick { 10 } else { 60 }));
    }
    let mut rows = Vec::new();
    let mut each = Vec::new();
    for (at, process) in all.iter().enumerate() {
        for (count, weights) in counts.iter().zip(&found) {
            let Weight { rss, dirty, threads, wake_ups } = weights[at];
            let figures = vec![
                ("file bytes", process.executable_bytes(), 0),
                ("RSS KiB", rss, 0),
                ("private dirty", dirty, 0),
                ("threads", threads, 0),
                ("wake-ups per s", wake_ups, 2),
            ];
            rows.push((format!("{}, {count} streams", process.name), figures));
        }
        let (first, last) = (&found[0][at], &found[found.len() - 1][at]);
        let count = counts[counts.len() - 1] as f64;
        each.push((process.name.to_owned(), vec![("KiB each", (last.rss - first.rss) / count, 2)]));
    }
    report.table(chain.name, &rows);
    report.table(&format!("an idle stream, {}", chain.name), &each);
}

fn weigh(all: &[&Process], seconds: u64) -> Vec<Weight> {
    let before: Vec<f64> = all.iter().map(|process| process.wake_ups()).collect();
    thread::sleep(Duration::from_secs(seconds));
    let weights = all.iter().zip(before).map(|(process, before)| Weight {
        rss: process.memory(),
        dirty: process.private_dirty(),
        threads: process.threads(),
        wake_ups: (process.wake_ups() - before) / seconds as f64,
    });
    weights.collect()
}

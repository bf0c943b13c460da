//! The tunnel as its users get it: processes of a release build on loopback. See `README.md`.

mod full;
mod peers;
mod rig;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rig::chain::{Chain, Site, Way};
use rig::hop;
use rig::origin::ask;
use rig::report::{Figure, Options, Report, median, quantile};
use rig::stream::{CHUNK, Stream};

const GIB: f64 = (1u64 << 30) as f64;

fn main() {
    rig::play(measure);
}

fn measure(options: &Options) {
    let mut report = Report::new(options);
    let site = Site::start();
    let direct = site.direct();
    let mut chains = vec![site.pipe(), site.edge(), site.apart()];
    let (peers, notes) = if options.peers { peers::start(&site) } else { (Vec::new(), Vec::new()) };
    report.notes("peers", &notes);
    chains.extend(peers);
    chains.push(hop::three(&site.dir, &site.pki, rig::origin::plain()));
    if options.wants("bulk") {
        bulk(&site, &direct, &chains, options, &mut report);
    }
    if options.wants("full") {
        full::measure(&site, &chains, options, &mut report);
    }
    if options.wants("echo") {
        echo(&direct, &chains, options, &mut report);
    }
    // What follows is about connections and what they hold, which those hops do not try to do well.
    chains.retain(|chain| chain.name != hop::THREE);
    if options.wants("streams") {
        streams(&site, &chains, options, &mut report);
    }
    if options.wants("http") {
        http(&site, &chains, options, &mut report);
    }
    if options.wants("idle") {
        idle(&site, &chains, options, &mut report);
    }
    if options.wants("stalled") {
        stalled(&site, &chains, &mut report);
    }
    if options.wants("footprint") {
        footprint(&site, &chains, options, &mut report);
    }
}

/// Moves `total` bytes over `count` streams at once; returns the seconds it took.
fn transfer(way: &Way, kind: u8, count: usize, total: usize) -> f64 {
    let streams: Vec<Box<dyn Stream>> = (0..count).map(|_| way.open()).collect();
    let each = total / count;
    let start = Instant::now();
    thread::scope(|scope| {
        for mut stream in streams {
            scope.spawn(move || move_bytes(&mut *stream, kind, each));
        }
    });
    start.elapsed().as_secs_f64()
}

fn move_bytes(stream: &mut dyn Stream, kind: u8, total: usize) {
    let mut chunk = vec![0x5a; CHUNK / 2];
    stream.write_all(&ask(kind, total)).expect("the stream is open");
    let mut left = total;
    while 0 < left {
        let most = left.min(chunk.len());
        let part = &mut chunk[..most];
        left -= if kind == b'D' { stream.read(part) } else { stream.write(part) }
            .ok()
            .filter(|len| 0 < *len)
            .expect("the stream goes on");
    }
    if kind == b'U' {
        stream.read_exact(&mut [0]).expect("the origin has it all");
    }
}

fn bulk(site: &Site, direct: &Way, chains: &[Chain], options: &Options, report: &mut Report) {
    let (rounds, total) = if options.quick { (1, 128 << 20) } else { (5, 512 << 20) };
    for (kind, title) in [(b'D', "down"), (b'U', "up")] {
        for count in [1, 8, 64] {
            let mut raw = Vec::new();
            let mut found = vec![(Vec::new(), Vec::new()); chains.len()];
            for _ in 0..rounds {
                raw.push(total as f64 / GIB / transfer(direct, kind, count, total));
                for (chain, (speeds, costs)) in chains.iter().zip(&mut found) {
                    // Windows grow and pools fill before it counts.
                    transfer(&chain.way, kind, count, total / 16);
                    let before = site.cpu(chain);
                    let seconds = transfer(&chain.way, kind, count, total);
                    costs.push((site.cpu(chain) - before) * GIB / total as f64);
                    speeds.push(total as f64 / GIB / seconds);
                }
            }
            let mut rows = vec![(
                "raw loopback".to_owned(),
                vec![("GiB/s", median(raw), 2), ("CPU-s/GiB", f64::NAN, 2)],
            )];
            for (chain, (speeds, costs)) in chains.iter().zip(found) {
                let figures: Vec<Figure<'_>> =
                    vec![("GiB/s", median(speeds), 2), ("CPU-s/GiB", median(costs), 2)];
                rows.push((chain.name.to_owned(), figures));
            }
            report.table(&format!("bulk {title}, {count} streams"), &rows);
        }
    }
}

fn round_trips(stream: &mut dyn Stream, count: usize) -> Vec<f64> {
    let mut byte = [0; 64];
    let one = |_| {
        let start = Instant::now();
        stream.write_all(&byte).expect("the stream is open");
        stream.read_exact(&mut byte).expect("the echo comes");
        start.elapsed().as_secs_f64() * 1e6
    };
    (0..count).map(one).collect()
}

fn echo(direct: &Way, chains: &[Chain], options: &Options, report: &mut Report) {
    let count = if options.quick { 500 } else { 5000 };
    let ways = chains.iter().map(|chain| (chain.name, &chain.way));
    let mut rows = Vec::new();
    for (name, way) in std::iter::once(("raw loopback", direct)).chain(ways) {
        let mut stream = way.open();
        stream.write_all(&ask(b'E', usize::MAX >> 1)).expect("the stream is open");
        round_trips(&mut *stream, 100);
        let mut alone = round_trips(&mut *stream, count);
        let stop = AtomicBool::new(false);
        let mut beside = thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut bulk = way.open();
                    while !stop.load(Ordering::Relaxed) {
                        move_bytes(&mut *bulk, b'D', 8 << 20);
                    }
                });
            }
            thread::sleep(Duration::from_millis(300));
            let found = round_trips(&mut *stream, count / 5);
            stop.store(true, Ordering::Relaxed);
            found
        });
        let figures = vec![
            ("p50 us", quantile(&mut alone, 50), 0),
            ("p99 us", quantile(&mut alone, 99), 0),
            ("beside 4: p50", quantile(&mut beside, 50), 0),
            ("beside 4: p99", quantile(&mut beside, 99), 0),
        ];
        rows.push((name.to_owned(), figures));
    }
    report.table("echo of 64 bytes on an open stream, and beside 4 bulk streams", &rows);
}

fn streams(site: &Site, chains: &[Chain], options: &Options, report: &mut Report) {
    let count = if options.quick { 100 } else { 1000 };
    let mut rows = Vec::new();
    for chain in chains {
        let mut figures = Vec::new();
        for (workers, speed, cost) in
            [(1, "1: per s", "1: CPU us"), (16, "16: per s", "16: CPU us")]
        {
            let before = site.cpu(chain);
            let start = Instant::now();
            thread::scope(|scope| {
                for _ in 0..workers {
                    scope.spawn(|| {
                        for _ in 0..count / workers {
                            move_bytes(&mut *chain.way.open(), b'D', 100);
                        }
                    });
                }
            });
            let done = (count / workers * workers) as f64;
            figures.push((speed, done / start.elapsed().as_secs_f64(), 0));
            figures.push((cost, (site.cpu(chain) - before) * 1e6 / done, 0));
        }
        rows.push((chain.name.to_owned(), figures));
    }
    report.table("new connections (for the byte pipe: rendezvous), 100 bytes down, closed", &rows);
}

fn http(site: &Site, chains: &[Chain], options: &Options, report: &mut Report) {
    let count = if options.quick { 200 } else { 2000 };
    let mut rows = Vec::new();
    let mut scratch = vec![0; CHUNK];
    for chain in chains.iter().filter(|chain| matches!(chain.way, Way::Proxy { .. })) {
        let mut stream = chain.way.connection();
        let mut times = |path: &str, count: usize| {
            let before = site.cpu(chain);
            let mut found: Vec<f64> = (0..count)
                .map(|_| {
                    let start = Instant::now();
                    chain.way.get(&mut stream, path, &mut scratch);
                    start.elapsed().as_secs_f64() * 1e6
                })
                .collect();
            let cost = (site.cpu(chain) - before) * 1e6 / count as f64;
            (quantile(&mut found, 50), quantile(&mut found, 99), cost)
        };
        times("/api/v1/namespaces", 50);
        let small = times("/api/v1/namespaces", count);
        let large = times("/api/v1/configmaps", count / 10);
        let figures = vec![
            ("GET p50 us", small.0, 0),
            ("GET p99 us", small.1, 0),
            ("GET CPU us", small.2, 0),
            ("1.25 MB p50 us", large.0, 0),
            ("1.25 MB CPU us", large.2, 0),
        ];
        rows.push((chain.name.to_owned(), figures));
    }
    report.table("HTTP on a kept connection", &rows);
}

fn idle(site: &Site, chains: &[Chain], options: &Options, report: &mut Report) {
    let counts: &[usize] = if options.quick { &[200] } else { &[1000, 9000] };
    for &count in counts {
        let mut rows = Vec::new();
        for chain in chains {
            let most = match (chain.is_ours, &chain.way) {
                (true, Way::Proxy { .. }) => count,
                // A stream of the byte pipe is a session, of which an agent carries 4,096.
                (true, Way::Tcp(_)) => 4_000,
                // Not every peer has descriptors or threads for more.
                (false, _) => 400,
            };
            let count = count.min(most);
            let before = (site.relay.memory(), site.memory(chain));
            let held: Vec<_> = (0..count).map(|_| chain.way.open()).collect();
            let after = (site.relay.memory(), site.memory(chain));
            drop(held);
            let figures = vec![
                ("streams", count as f64, 0),
                ("KiB each, relay", (after.0 - before.0) / count as f64, 2),
                ("KiB each, all", (after.1 - before.1) / count as f64, 2),
            ];
            rows.push((chain.name.to_owned(), figures));
        }
        report.table(&format!("memory of open, idle streams ({count} asked for)"), &rows);
    }
}

/// A reader stops while its writer runs; what grows, and what its neighbour notices.
fn stalled(site: &Site, chains: &[Chain], report: &mut Report) {
    let mut rows = Vec::new();
    for chain in chains {
        let total = 128 << 20;
        transfer(&chain.way, b'D', 2, total / 2);
        let alone = transfer(&chain.way, b'D', 1, total);
        let before = site.memory(chain);
        let mut stalled = chain.way.open();
        stalled.write_all(&ask(b'D', 1 << 40)).expect("the stream is open");
        thread::sleep(Duration::from_secs(1));
        let grown = site.memory(chain) - before;
        let beside = transfer(&chain.way, b'D', 1, total);
        let figures = vec![("grown KiB", grown, 0), ("neighbour", alone / beside, 2)];
        rows.push((chain.name.to_owned(), figures));
    }
    report.table("a reader that stalls (neighbour: share of its speed that is left)", &rows);
}

fn footprint(site: &Site, chains: &[Chain], options: &Options, report: &mut Report) {
    let seconds = if options.quick { 5 } else { 30 };
    // What a burst has left behind is not idle.
    thread::sleep(Duration::from_secs(2));
    let all = || {
        let named = |chain: &'_ Chain, name: &str| format!("{name} ({})", chain.name);
        let rest = chains.iter().flat_map(move |chain| {
            chain.processes.iter().map(move |process| (named(chain, process.name), process))
        });
        std::iter::once(("relay".to_owned(), &site.relay)).chain(rest)
    };
    let before: Vec<f64> = all().map(|(_, process)| process.wake_ups()).collect();
    thread::sleep(Duration::from_secs(seconds));
    let rows: Vec<_> = all()
        .zip(before)
        .map(|((name, process), before)| {
            let figures = vec![
                ("RSS KiB", process.memory(), 0),
                ("threads", process.threads(), 0),
                ("wake-ups per s", (process.wake_ups() - before) / seconds as f64, 2),
            ];
            (name, figures)
        })
        .collect();
    report.table("idle processes", &rows);
}

//! The relay alone: what it costs to carry bytes, to bring two together, and to hold them. See
//! `README.md`.

mod forwarder;
mod registry;
mod rig;

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cluster_connect::engine::ws;
use cluster_connect::wire::ws::Opcode;

use forwarder::Forwarder;
use rig::process::Process;
use rig::rendezvous::{Listener, Place};
use rig::report::{Options, Report, median};
use rig::stream::{CHUNK, Secure};

const GIB: f64 = (1u64 << 30) as f64;

/// Payload of one message: with its head it fills one TLS record.
const MESSAGE: usize = 16 * 1024 - 8;

/// Listeners that one hybrid connection may have.
const LISTENERS: usize = 25;

fn main() {
    rig::play(measure);
}

/// A relay in a process and a directory of its own.
struct Site {
    relay: Process,
    place: Place,
    state: PathBuf,
    dir: PathBuf,
}

impl Site {
    fn start(name: &str) -> Self {
        Self::start_with(name, 0, &[])
    }

    /// With so many connected clusters, and options.
    fn start_with(name: &str, clusters: usize, options: &[&str]) -> Self {
        let dir = std::env::temp_dir().join(format!("relay-bench-{}-{name}", std::process::id()));
        std::fs::create_dir(&dir).expect("a directory");
        let state = dir.join("relay");
        registry::make(&state, clusters);
        let at = state.to_string_lossy().into_owned();
        let mut words = vec!["relay", "--listen", "127.0.0.1:0", "--state-dir", &at];
        words.extend(["--tls-self-signed", "localhost", "--log-level", "warn"]);
        words.extend(options);
        // All senders have one key.
        words.extend(["--max-senders-per-caller", "10000"]);
        let (relay, place) = Process::role("relay", &words, "relay listens on ");
        let address = place.split(';').next().and_then(|it| it.parse().ok()).expect("an address");
        let place = Place::new(address, &state);
        Self { relay, place, state, dir }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // What is left of a temporary directory does no harm.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn measure(options: &Options) {
    let mut report = Report::new(options);
    if options.wants("pump") {
        pump(options, &mut report);
    }
    if options.wants("loops") {
        loops(options, &mut report);
    }
    if options.wants("rendezvous") {
        meetings(options, &mut report);
    }
    if options.wants("idle") {
        idle(options, &mut report);
    }
    if options.wants("slow") {
        slow(options, &mut report);
    }
    if options.wants("clusters") {
        clusters(options, &mut report);
    }
}

/// Writes messages with `total` bytes of payload in all.
fn pour(into: &mut Secure, total: usize) {
    let message = ws::frame(Opcode::Binary, Some([1, 2, 3, 4]), &[0x5a; MESSAGE]);
    let chunk = message.repeat(CHUNK / message.len());
    let per_chunk = chunk.len() / message.len() * MESSAGE;
    for _ in 0..total / per_chunk {
        into.write_all(&chunk).expect("the pair is open");
    }
}

/// Reads what [`pour`] has written, as the other end of the pair gets it.
fn drink(from: &mut Secure, total: usize) {
    let message = ws::frame(Opcode::Binary, None, &[0x5a; MESSAGE]).len();
    let per_chunk = CHUNK / (MESSAGE + 8);
    let mut left = total / (per_chunk * MESSAGE) * per_chunk * message;
    let mut chunk = vec![0; CHUNK];
    while 0 < left {
        let most = left.min(chunk.len());
        match from.read(&mut chunk[..most]).expect("the pair is open") {
            0 => panic!("the pair has ended"),
            len => left -= len,
        }
    }
}

/// Seconds that `total` bytes take from one end to the other.
fn transfer(into: &mut Secure, from: &mut Secure, total: usize) -> f64 {
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| pour(into, total));
        drink(from, total);
    });
    start.elapsed().as_secs_f64()
}

/// One pair, TLS on both legs, beside programs that do the same without the protocol.
fn pump(options: &Options, report: &mut Report) {
    let (rounds, total) = if options.quick { (3, 128 << 20) } else { (7, 512 << 20) };
    let site = Site::start("pump");
    let entity = &site.place.entities(&site.state, 1)[0];
    let mut listener = site.place.listen(entity);
    let (mut sender, mut accepted) = site.place.pair(entity, &mut listener);
    let mut others = Forwarder::all();
    let mut costs = vec![Vec::new(); others.len() + 2];
    let mut speeds = costs.clone();
    for _ in 0..rounds {
        for (at, (into, from)) in
            [(&mut sender, &mut accepted)].into_iter().enumerate().collect::<Vec<_>>()
        {
            run(&site.relay, into, from, total, (&mut costs[at], &mut speeds[at]));
            run(&site.relay, from, into, total, (&mut costs[at + 1], &mut speeds[at + 1]));
        }
        for (at, other) in others.iter_mut().enumerate() {
            let (mut into, mut from) = other.pair();
            transfer_raw(&mut into, &mut from, total / 16);
            let before = other.process.cpu();
            let seconds = transfer_raw(&mut into, &mut from, total);
            costs[at + 2].push((other.process.cpu() - before) * GIB / total as f64);
            speeds[at + 2].push(total as f64 / GIB / seconds);
        }
    }
    let names = ["relay, sender to listener", "relay, listener to sender"].map(str::to_owned);
    let names = names.into_iter().chain(others.iter().map(|it| it.name.to_owned()));
    let rows: Vec<_> = names
        .zip(costs.into_iter().zip(speeds))
        .map(|(name, (costs, speeds))| {
            (name, vec![("CPU-s/GiB", median(costs), 3), ("GiB/s", median(speeds), 2)])
        })
        .collect();
    report.table("one relayed pair, TLS on both legs: the process in the middle", &rows);
}

fn run(
    relay: &Process,
    into: &mut Secure,
    from: &mut Secure,
    total: usize,
    (costs, speeds): (&mut Vec<f64>, &mut Vec<f64>),
) {
    transfer(into, from, total / 16);
    let before = relay.cpu();
    let seconds = transfer(into, from, total);
    costs.push((relay.cpu() - before) * GIB / total as f64);
    speeds.push(total as f64 / GIB / seconds);
}

/// Pairs on one loop and on several. Where the bench itself needs the cores, bytes per second do not
/// show what the relay could carry; what its busiest loop has to do for them does.
fn loops(options: &Options, report: &mut Report) {
    let (pairs, each) = if options.quick { (8, 32 << 20) } else { (8, 256 << 20) };
    let mut rows = Vec::new();
    for count in ["1", "2", "4"] {
        let site = Site::start_with(&format!("loops-{count}"), 0, &["--loops", count]);
        let entity = &site.place.entities(&site.state, 1)[0];
        let mut listener = site.place.listen(entity);
        let mut ends: Vec<_> = (0..pairs).map(|_| site.place.pair(entity, &mut listener)).collect();
        let all_move = |ends: &mut Vec<(Secure, Secure)>, total: usize| {
            let start = Instant::now();
            thread::scope(|scope| {
                for (sender, accepted) in ends {
                    scope.spawn(move || transfer(sender, accepted, total));
                }
            });
            start.elapsed().as_secs_f64()
        };
        all_move(&mut ends, each / 16);
        let before = (site.relay.cpu(), site.relay.threads_cpu());
        let seconds = all_move(&mut ends, each);
        let gib = (pairs * each) as f64 / GIB;
        let busiest = site.relay.threads_cpu()[0] - before.1[0];
        let figures = vec![
            ("GiB/s", gib / seconds, 2),
            ("CPU-s/GiB", (site.relay.cpu() - before.0) / gib, 3),
            ("busiest loop", busiest / gib, 3),
            ("GiB/s it could", gib / busiest, 2),
        ];
        rows.push((format!("{count} loops"), figures));
    }
    report.table(&format!("{pairs} relayed pairs, by loops of the relay"), &rows);
}

fn transfer_raw(into: &mut Secure, from: &mut Secure, total: usize) -> f64 {
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(move || {
            let chunk = vec![0x5a; CHUNK];
            for _ in 0..total / CHUNK {
                into.write_all(&chunk).expect("the way is open");
            }
        });
        let mut chunk = vec![0; CHUNK];
        let mut left = total / CHUNK * CHUNK;
        while 0 < left {
            let most = left.min(chunk.len());
            left -= from.read(&mut chunk[..most]).expect("the way is open");
        }
    });
    start.elapsed().as_secs_f64()
}

/// New pairs, each closed as soon as it is there: four TLS handshakes' halves at the relay.
fn meetings(options: &Options, report: &mut Report) {
    let count = if options.quick { 200 } else { 2000 };
    let site = Site::start("meetings");
    let entities = site.place.entities(&site.state, 16);
    let mut rows = Vec::new();
    for workers in [1, 4, 16] {
        let mut listeners: Vec<Listener> =
            entities.iter().take(workers).map(|entity| site.place.listen(entity)).collect();
        let before = site.relay.cpu();
        let start = Instant::now();
        thread::scope(|scope| {
            for (entity, listener) in entities.iter().zip(&mut listeners) {
                let place = &site.place;
                scope.spawn(move || {
                    for _ in 0..count / workers {
                        place.pair(entity, listener);
                    }
                });
            }
        });
        let done = (count / workers * workers) as f64;
        let figures = vec![
            ("per s", done / start.elapsed().as_secs_f64(), 0),
            ("relay CPU us", (site.relay.cpu() - before) * 1e6 / done, 0),
        ];
        rows.push((format!("{workers} at a time"), figures));
    }
    report.table("new rendezvous, two TLS connections each", &rows);
}

/// What it costs to hold control channels and pairs on which nothing happens.
fn idle(options: &Options, report: &mut Report) {
    let counts: &[usize] = if options.quick { &[1000] } else { &[1000, 5000, 9000] };
    let mut rows = Vec::new();
    for &count in counts {
        let site = Site::start(&format!("idle-{count}"));
        let entities = site.place.entities(&site.state, count.div_ceil(LISTENERS));
        let alone = site.relay.memory();
        let listeners: Vec<Listener> =
            (0..count).map(|n| site.place.listen(&entities[n / LISTENERS])).collect();
        settle();
        let channels = (site.relay.memory() - alone) / count as f64;
        drop(listeners);
        drop(site);

        let site = Site::start(&format!("pairs-{count}"));
        let entity = &site.place.entities(&site.state, 1)[0];
        let mut listener = site.place.listen(entity);
        let alone = site.relay.memory();
        let held: Vec<_> = (0..count).map(|_| site.place.pair(entity, &mut listener)).collect();
        settle();
        let pairs = (site.relay.memory() - alone) / count as f64;
        drop(held);
        rows.push((
            format!("{count} of each"),
            vec![("KiB per channel", channels, 2), ("KiB per pair", pairs, 2)],
        ));
    }
    report.table("resident memory of the relay, idle", &rows);
}

/// What it costs to know connected clusters, and to read them at the start.
fn clusters(options: &Options, report: &mut Report) {
    let counts: &[usize] = if options.quick { &[10_000] } else { &[1000, 10_000, 50_000] };
    let alone = Site::start("clusters-none");
    settle();
    let (base, base_cpu) = (alone.relay.memory(), alone.relay.cpu());
    drop(alone);
    let mut rows = Vec::new();
    for &count in counts {
        let site = Site::start_with(&format!("clusters-{count}"), count, &[]);
        settle();
        let (memory, cpu) = (site.relay.memory() - base, site.relay.cpu() - base_cpu);
        let figures = vec![("KiB each", memory / count as f64, 2), ("CPU-s at start", cpu, 2)];
        rows.push((format!("{count} clusters"), figures));
    }
    report.table("resident memory of the relay for what it knows", &rows);
}

/// What a burst has left behind is given back within a second or two.
fn settle() {
    thread::sleep(Duration::from_secs(3));
}

/// One reader in each of several pairs stops while its writer runs on; a neighbour moves bytes.
fn slow(options: &Options, report: &mut Report) {
    let total = if options.quick { 128 << 20 } else { 512 << 20 };
    let site = Site::start("slow");
    let entity = &site.place.entities(&site.state, 1)[0];
    let mut listener = site.place.listen(entity);
    let (mut sender, mut accepted) = site.place.pair(entity, &mut listener);
    let mut rows = Vec::new();
    for stalled in [1, 16] {
        transfer(&mut sender, &mut accepted, total / 4);
        let alone = median((0..3).map(|_| transfer(&mut sender, &mut accepted, total)).collect());
        let before = site.relay.memory();
        let pairs: Vec<_> = (0..stalled).map(|_| site.place.pair(entity, &mut listener)).collect();
        let written = AtomicBool::new(true);
        thread::scope(|scope| {
            let mut readers = Vec::new();
            for (mut into, from) in pairs {
                readers.push(from);
                let written = &written;
                // Ends with an error once the reader is gone.
                scope.spawn(move || {
                    let message = ws::frame(Opcode::Binary, Some([1; 4]), &[0x5a; MESSAGE]);
                    while written.load(Ordering::Relaxed) && into.write_all(&message).is_ok() {}
                });
            }
            settle();
            let grown = site.relay.memory() - before;
            let beside =
                median((0..3).map(|_| transfer(&mut sender, &mut accepted, total)).collect());
            let figures = vec![
                ("grown KiB", grown, 0),
                ("KiB each", grown / stalled as f64, 0),
                ("neighbour", alone / beside, 2),
            ];
            rows.push((format!("{stalled} stalled"), figures));
            written.store(false, Ordering::Relaxed);
            drop(readers);
        });
    }
    report.table("readers that stall (neighbour: share of its speed that is left)", &rows);
}

//! The tunnel over long and thin lines: does one stream fill the line, and what does an echo beside
//! it cost. The line ([`line`]) lies between client proxy and relay. See `README.md`.

#[allow(dead_code, reason = "other benches use more of it")]
mod chain;
#[path = "../bin/quickstart/issuer.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod issuer;
mod line;
mod origin;
#[allow(dead_code, reason = "other benches use more of it")]
mod process;
#[allow(dead_code, reason = "other benches use more of it")]
mod report;
mod sender;
mod stream;
#[path = "../tests/support/tls.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chain::{Site, Way};
use line::{Kind, Line};
use report::{Options, Report, quantile};
use stream::{CHUNK, Stream};

/// More than any measurement moves.
const ENDLESS: usize = 1 << 50;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.split_first() {
        Some((first, rest)) if first == sender::SENDER => sender::run(rest),
        Some((first, _)) if first == process::SELF => {
            let words = std::env::args_os().skip(2).collect();
            // The exit code of a process that is killed at the end is of no interest.
            let _ = cluster_connect::start::run(words);
        }
        _ => measure(&Options::read()),
    }
}

fn measure(options: &Options) {
    let mut report = Report::new(options);
    let site = Site::start();
    let line = Line::to(site.address());
    let chain = site.edge_over(line.address.port());
    let raw_line = Line::to(origin::plain());
    let raw = Way::Tcp(raw_line.address);
    let seconds = if options.quick { 3 } else { 10 };
    for mbits in [10, 100, 1000] {
        if !options.wants(&mbits.to_string()) {
            continue;
        }
        let mut rows = Vec::new();
        for ms in [20, 100, 300] {
            let kind = Kind { mbits, ms };
            for (name, way, line) in [("raw TCP", &raw, &raw_line), ("tunnel", &chain.way, &line)] {
                let figures = over(way, line, kind, Duration::from_secs(seconds));
                rows.push((format!("{ms} ms, {name}"), figures));
            }
        }
        report.table(&format!("{mbits} Mbit/s: share of the line, and an echo in ms"), &rows);
    }
}

fn over(way: &Way, line: &Line, kind: Kind, time: Duration) -> Vec<report::Figure<'static>> {
    // The client needs its first connections, and a new session after the cut.
    line.become_of(kind);
    let mut figures = Vec::new();
    let mut echo = patiently(way);
    echo.write_all(&ask(b'E', ENDLESS)).expect("the stream is open");
    let mut alone = round_trips(&mut *echo, Duration::from_secs(1));
    figures.push(("echo alone", quantile(&mut alone, 0.5), 1));
    for (direction, columns) in
        [(b'D', ["down %", "echo p50", "p99"]), (b'U', ["up %", "echo p50", "p99"])]
    {
        let moved = Arc::new(AtomicU64::new(0));
        let mut bulk = way.open();
        let count = Arc::clone(&moved);
        let mover = thread::spawn(move || move_bytes(&mut *bulk, direction, &count));
        // Windows grow once for each round trip.
        thread::sleep(Duration::from_millis(kind.ms * 12 + 1000));
        let (before, start) = (moved.load(Ordering::Relaxed), Instant::now());
        let mut beside = round_trips(&mut *echo, time);
        let bytes = moved.load(Ordering::Relaxed) - before;
        let share = bytes as f64 * 8e-6 / start.elapsed().as_secs_f64() / kind.mbits as f64;
        figures.push((columns[0], share * 100.0, 1));
        figures.push((columns[1], quantile(&mut beside, 0.5), 1));
        figures.push((columns[2], quantile(&mut beside, 0.99), 1));
        line.cut();
        // It ends with its stream.
        let _ = mover.join();
        echo = patiently(way);
        echo.write_all(&ask(b'E', ENDLESS)).expect("the stream is open");
    }
    line.cut();
    figures
}

/// A stream, once the client has a session again.
fn patiently(way: &Way) -> Box<dyn Stream> {
    loop {
        match way.try_open() {
            Ok(stream) => return stream,
            Err(_) => thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// Round trips of 64 bytes, in milliseconds.
fn round_trips(stream: &mut dyn Stream, time: Duration) -> Vec<f64> {
    let mut bytes = [0; 64];
    let (start, mut found) = (Instant::now(), Vec::new());
    while start.elapsed() < time || found.is_empty() {
        let sent = Instant::now();
        stream.write_all(&bytes).expect("the stream is open");
        stream.read_exact(&mut bytes).expect("the echo comes");
        found.push(sent.elapsed().as_secs_f64() * 1e3);
        // A keystroke now and then, not a load.
        thread::sleep(Duration::from_millis(10));
    }
    found
}

/// Moves bytes until the stream is cut.
fn move_bytes(stream: &mut dyn Stream, direction: u8, moved: &AtomicU64) {
    let mut chunk = vec![0x5a; CHUNK / 2];
    if stream.write_all(&ask(direction, ENDLESS)).is_err() {
        return;
    }
    loop {
        let result = if direction == b'D' { stream.read(&mut chunk) } else { stream.write(&chunk) };
        match result {
            Ok(len @ 1..) => moved.fetch_add(len as u64, Ordering::Relaxed),
            Ok(0) | Err(_) => return,
        };
    }
}

fn ask(kind: u8, total: usize) -> [u8; 9] {
    let mut asked = [0; 9];
    asked[0] = kind;
    asked[1..].copy_from_slice(&(total as u64).to_be_bytes());
    asked
}

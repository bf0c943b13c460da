//! The tunnel over long and thin lines: does one stream fill the line, and what does an echo beside
//! it cost. The line ([`line`]) lies between client proxy and relay. See `README.md`.

mod line;
#[cfg(target_os = "linux")]
mod packets;
mod rig;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use line::{Kind, Line};
use rig::chain::{Site, Way};
use rig::origin::{self, ask};
use rig::report::{Figure, Options, Report, quantile};
use rig::stream::{CHUNK, Stream};

/// More than any measurement moves.
const ENDLESS: usize = 1 << 50;

fn main() {
    rig::play(measure);
}

fn measure(options: &Options) {
    let mut report = Report::new(options);
    if [10, 100, 1000].iter().any(|mbits| options.wants(&mbits.to_string())) {
        delayed(options, &mut report);
    }
    if options.wants("loss") || LOSSY.iter().any(|(section, ..)| options.wants(section)) {
        #[cfg(target_os = "linux")]
        lossy(options, &mut report);
        #[cfg(not(target_os = "linux"))]
        report.notes("loss", &["not measured: it takes Linux".to_owned()]);
    }
}

/// Names of sections, Mbit/s, and packets lost in a thousand.
const LOSSY: [(&str, u64, u64); 6] = [
    ("packets-10", 10, 0),
    ("loss-10", 10, 10),
    ("packets-100", 100, 0),
    ("loss-100", 100, 10),
    ("packets-1000", 1000, 0),
    ("loss-1000", 1000, 10),
];

/// Lines that lose nothing.
fn delayed(options: &Options, report: &mut Report) {
    let site = Site::start();
    let line = Line::to(site.address());
    let chain = site.edge_over(&format!("https://localhost:{}", line.address.port()));
    let raw_line = Line::to(origin::plain());
    let raw = Way::Tcp(raw_line.address);
    for mbits in [10, 100, 1000] {
        if !options.wants(&mbits.to_string()) {
            continue;
        }
        let mut rows = Vec::new();
        for ms in [20, 100, 300] {
            let kind = Kind { mbits, ms };
            for (name, way, line) in [("raw TCP", &raw, &raw_line), ("tunnel", &chain.way, &line)] {
                // The client needs its first connections, and a new session after the cut.
                line.become_of(kind);
                let figures = over(way, kind, seconds(options));
                rows.push((format!("{ms} ms, {name}"), figures));
                line.cut();
            }
        }
        report.table(&format!("{mbits} Mbit/s: share of the line, and an echo in ms"), &rows);
    }
}

/// Lines of real packets, some of which are lost. What comes again shows what TCP still knows of them.
#[cfg(target_os = "linux")]
fn lossy(options: &Options, report: &mut Report) {
    use packets::{FAR, NEAR, Packets};

    let site = Site::at(("0.0.0.0:0", &format!("localhost,127.0.0.1,{NEAR},{FAR}")));
    let raw = origin::plain_at("0.0.0.0:0").port();
    let line = match Packets::up(&[site.address().port(), raw]) {
        Ok(line) => line,
        Err(why) => return report.notes("loss", &[format!("not measured: {why}")]),
    };
    let relay = format!("https://{FAR}:{}", site.address().port());
    let chain = site.edge_over(&relay);
    drop(chain.way);
    let raw = Way::Tcp(format!("{FAR}:{raw}").parse().expect("an address"));
    for (section, mbits, loss) in LOSSY {
        if !options.wants(section) && !options.wants("loss") {
            continue;
        }
        let mut rows = Vec::new();
        for ms in [20, 100, 300] {
            let kind = Kind { mbits, ms };
            line.become_of(kind, loss);
            rows.push((format!("{ms} ms, raw TCP"), over(&raw, kind, seconds(options))));
            // What TCP has learnt of the line before is gone with its connections.
            let (_client, way) = site.client("one", &relay);
            rows.push((format!("{ms} ms, tunnel"), over(&way, kind, seconds(options))));
            // Who comes again finds that what was crowded has recovered.
            thread::sleep(Duration::from_secs(6));
            rows.push((format!("{ms} ms, tunnel again"), over(&way, kind, seconds(options))));
        }
        let title = format!("{mbits} Mbit/s, {} % lost: share, and an echo in ms", loss / 10);
        report.table(&title, &rows);
    }
}

fn seconds(options: &Options) -> Duration {
    Duration::from_secs(if options.quick { 3 } else { 10 })
}

/// Bulk one way and then the other, beside an echo.
fn over(way: &Way, kind: Kind, time: Duration) -> Vec<Figure<'static>> {
    let mut figures = Vec::new();
    let mut echo = patiently(way);
    echo.write_all(&ask(b'E', ENDLESS)).expect("the stream is open");
    // Who types has been there for a while when the download begins.
    let mut alone = round_trips(&mut *echo, Duration::from_secs(6));
    figures.push(("echo alone", quantile(&mut alone, 50), 1));
    for (direction, columns) in [
        (b'D', ["down %", "echo p50", "p99", "later"]),
        (b'U', ["up %", "echo p50", "p99", "later"]),
    ] {
        let (moved, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let mut bulk = patiently(way);
        thread::scope(|scope| {
            scope.spawn(|| move_bytes(&mut *bulk, direction, &moved, &stop));
            // Windows grow once for each round trip.
            thread::sleep(Duration::from_millis(kind.ms * 12 + 1000));
            let (before, start) = (moved.load(Ordering::Relaxed), Instant::now());
            let mut times = round_trips(&mut *echo, time);
            let bytes = moved.load(Ordering::Relaxed) - before;
            let elapsed = start.elapsed();
            // One that comes when the line is full already.
            let mut later = patiently(way);
            later.write_all(&ask(b'E', ENDLESS)).expect("the stream is open");
            let mut later = round_trips(&mut *later, time / 3);
            stop.store(true, Ordering::Relaxed);
            let share = bytes as f64 * 8e-6 / elapsed.as_secs_f64() / kind.mbits as f64;
            figures.push((columns[0], share * 100.0, 1));
            figures.push((columns[1], quantile(&mut times, 50), 1));
            figures.push((columns[2], quantile(&mut times, 99), 1));
            figures.push((columns[3], quantile(&mut later, 50), 1));
        });
    }
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

/// Moves bytes until it is told to stop.
fn move_bytes(stream: &mut dyn Stream, direction: u8, moved: &AtomicU64, stop: &AtomicBool) {
    let mut chunk = vec![0x5a; CHUNK / 2];
    if stream.write_all(&ask(direction, ENDLESS)).is_err() {
        return;
    }
    while !stop.load(Ordering::Relaxed) {
        let result = if direction == b'D' { stream.read(&mut chunk) } else { stream.write(&chunk) };
        match result {
            Ok(len @ 1..) => moved.fetch_add(len as u64, Ordering::Relaxed),
            Ok(0) | Err(_) => return,
        };
    }
}

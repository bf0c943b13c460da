//! What one core does with the layers of the data path, in memory: masking, WebSocket frames,
//! records, whole sessions. Allocations are counted, rustls' own included.

#[allow(dead_code, reason = "the other bench uses more of it")]
mod report;
#[path = "../tests/support/tls.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod tls;

use std::hint::black_box;
use std::time::Instant;

use allocation_counter::measure;
use cluster_connect::buf::Pool;
use cluster_connect::engine::mux::Event;
use cluster_connect::engine::tls::Session;
use cluster_connect::engine::tunnel::{ALPN_MUX, Tunnel};
use cluster_connect::engine::ws::{Splice, frame_up, push_frame};
use cluster_connect::limits::{BUFFER_SIZE, FRAME_MAX, MUX_HEADER};
use cluster_connect::wire::mux::StreamId;
use cluster_connect::wire::ws::{Opcode, mask};
use report::{Options, Report};
use tls::Pki;

const GIB: f64 = (1u64 << 30) as f64;
const KEY: [u8; 4] = [0xa1, 0xb2, 0xc3, 0xd4];

/// Bytes of stream data in one frame.
const PIECE: usize = FRAME_MAX - MUX_HEADER;

struct Found {
    name: String,
    bytes: usize,
    seconds: f64,
    allocations: u64,
    rounds: usize,
}

fn main() {
    let options = Options::read();
    let mut report = Report::new(&options);
    let rounds = if options.quick { 2_000 } else { 40_000 };
    let mut all = vec![masking(rounds), frames_up(rounds), relayed(rounds)];
    for len in [1024, 16 * 1024] {
        all.extend(records(rounds, len));
    }
    all.push(session(rounds));
    all.push(streams(rounds / 4));
    let rows: Vec<_> = all
        .into_iter()
        .map(|it| {
            let rounds = it.rounds as f64;
            let figures = vec![
                ("GiB/s", it.bytes as f64 * rounds / GIB / it.seconds, 2),
                ("us each", it.seconds * 1e6 / rounds, 3),
                ("allocations", it.allocations as f64 / rounds, 3),
            ];
            (it.name, figures)
        })
        .collect();
    report.table("one core, in memory", &rows);
}

/// Times `act`, after it has been done often enough for buffers to have their size.
fn time(name: &str, bytes: usize, rounds: usize, mut act: impl FnMut()) -> Found {
    for _ in 0..16 {
        act();
    }
    let mut seconds = 0.0;
    let counted = measure(|| {
        let start = Instant::now();
        for _ in 0..rounds {
            act();
        }
        seconds = start.elapsed().as_secs_f64();
    });
    Found { name: name.to_owned(), bytes, seconds, allocations: counted.count_total, rounds }
}

fn masking(rounds: usize) -> Found {
    let mut payload = vec![7; PIECE];
    time("mask 16 KiB in place", PIECE, rounds, || mask(black_box(&mut payload), KEY, 0))
}

fn frames_up(rounds: usize) -> Found {
    let mut payload = vec![7; BUFFER_SIZE];
    let mut steps = Vec::new();
    time("frame and mask 32 KiB (agent)", BUFFER_SIZE, rounds, || {
        steps.clear();
        frame_up(black_box(&mut payload), || KEY, &mut steps);
    })
}

fn relayed(rounds: usize) -> Found {
    let mut frame = Vec::new();
    push_frame(&mut frame, Opcode::Binary, true, Some(KEY), &vec![7; PIECE]);
    let mut buffer = frame.clone();
    let (mut splice, mut steps) = (Splice::frames(), Vec::new());
    time("unmask and reframe 16 KiB (relay), with a copy", PIECE, rounds, || {
        buffer.copy_from_slice(&frame);
        steps.clear();
        splice.handle(black_box(&mut buffer), &mut steps).expect("a frame");
    })
}

/// Seals and opens one record at a time.
fn records(rounds: usize, len: usize) -> [Found; 2] {
    let pki = Pki::new();
    let mut near = Session::client(pki.client(&[]), pki.name()).expect("a session");
    let mut far = Session::server(pki.server(&[])).expect("a session");
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        near.receive(&mut down, |_| (), &mut up).expect("TLS");
        down.clear();
        far.receive(&mut up, |_| (), &mut down).expect("TLS");
        up.clear();
    }
    near.receive(&mut down, |_| (), &mut up).expect("TLS");
    let plain = vec![7; len];
    let mut sealed = Vec::new();
    let seal = time(&format!("seal a record of {len}"), len, rounds, || {
        sealed.clear();
        near.seal(black_box(&plain), &mut sealed).expect("established");
        far.receive(&mut sealed, |_| (), &mut down).expect("TLS");
    });
    let mut batch = Vec::new();
    let each = 8;
    let open = time(
        &format!("seal and open 8 records of {len} at once"),
        len * each,
        rounds / each,
        || {
            batch.clear();
            for _ in 0..each {
                near.seal(black_box(&plain), &mut batch).expect("established");
            }
            far.receive(
                &mut batch,
                |bytes| {
                    black_box(bytes.len());
                },
                &mut down,
            )
            .expect("TLS");
        },
    );
    [Found { name: format!("seal and open a record of {len}"), ..seal }, open]
}

struct Pair {
    pool: Pool,
    near: Tunnel,
    far: Tunnel,
    bytes: Vec<u8>,
}

impl Pair {
    fn new() -> Self {
        let pki = Pki::new();
        let near = Tunnel::dial(pki.client(&[ALPN_MUX]), pki.name()).expect("a tunnel");
        let far = Tunnel::accept(pki.server(&[ALPN_MUX])).expect("a tunnel");
        let mut pair = Self { pool: Pool::new(64, 64, BUFFER_SIZE), near, far, bytes: Vec::new() };
        while !pair.near.is_established() || !pair.far.is_established() {
            pair.carry();
        }
        pair
    }

    /// Everything that either side has to say, once.
    fn carry(&mut self) {
        let now = Instant::now();
        self.bytes.clear();
        while self.near.transmit(&mut self.bytes) {}
        self.far.receive(&mut self.bytes, &self.pool, now).expect("TLS");
        self.bytes.clear();
        while self.far.transmit(&mut self.bytes) {}
        self.near.receive(&mut self.bytes, &self.pool, now).expect("TLS");
    }

    fn send(&mut self, stream: StreamId, bytes: &[u8]) {
        let mut lease = self.pool.lease_beyond();
        lease.fill(bytes);
        let _ = self.near.send(stream, lease.freeze());
    }

    /// The far end takes what has come. Returns the stream that was opened last.
    fn take(&mut self) -> Option<StreamId> {
        let now = Instant::now();
        let mut opened = None;
        while let Some(event) = self.far.poll_event() {
            match event {
                Event::Opened(id) => opened = Some(id),
                Event::Data(id, data) => self.far.drained(id, data.len(), now),
                _ => (),
            }
        }
        opened
    }
}

fn session(rounds: usize) -> Found {
    let mut pair = Pair::new();
    let stream = pair.near.open().expect("a stream");
    let piece = vec![7; PIECE];
    time("session: a full frame, sealed, opened, drained", PIECE, rounds, || {
        pair.send(stream, &piece);
        pair.carry();
        pair.take();
    })
}

fn streams(rounds: usize) -> Found {
    let mut pair = Pair::new();
    time("session: open, 100 bytes, answer, close", 100, rounds, || {
        let stream = pair.near.open().expect("a stream");
        pair.send(stream, &[7; 100]);
        pair.near.finish(stream);
        pair.carry();
        let far = pair.take().expect("opened");
        pair.far.finish(far);
        pair.carry();
        while pair.near.poll_event().is_some() {}
    })
}

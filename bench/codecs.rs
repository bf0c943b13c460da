//! What one core does with the layers of the data path, in memory: masking, WebSocket frames,
//! records, whole sessions. Allocations are counted, rustls' own included.

#[allow(dead_code, reason = "the other benches use more of it")]
#[path = "rig/cost.rs"]
mod cost;
#[allow(dead_code, reason = "the other bench uses more of it")]
#[path = "rig/report.rs"]
mod report;
#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;

use cluster_connect::engine::ws::{Splice, frame_up, push_frame};
use cluster_connect::limits::{BUFFER_SIZE, FRAME_MAX, MUX_HEADER};
use cluster_connect::wire::ws::{Opcode, mask};
use cost::Cost;
use report::{Options, Report};
use support::pair::{Pair, sessions};

const GIB: f64 = (1u64 << 30) as f64;
const KEY: [u8; 4] = [0xa1, 0xb2, 0xc3, 0xd4];

/// Bytes of stream data in one frame.
const PIECE: usize = FRAME_MAX - MUX_HEADER;

struct Found {
    name: String,
    bytes: usize,
    cost: Cost,
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
            let figures = vec![
                ("GiB/s", it.bytes as f64 * 1e6 / GIB / it.cost.micros, 2),
                ("us each", it.cost.micros, 3),
                ("allocations", it.cost.allocations, 3),
            ];
            (it.name, figures)
        })
        .collect();
    report.table("one core, in memory", &rows);
}

fn time(name: &str, bytes: usize, rounds: usize, act: impl FnMut()) -> Found {
    Found { name: name.to_owned(), bytes, cost: Cost::of(rounds, act) }
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
    let (mut near, mut far) = sessions();
    let mut down = Vec::new();
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
    time("session: open, 100 bytes, answer, close", 100, rounds, || pair.open_and_close())
}

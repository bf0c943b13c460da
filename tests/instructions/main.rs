//! How many instructions the data path takes, counted by callgrind, so that a regression shows
//! whatever else the machine does.
//!
//! What seals and opens is held against the same bytes sealed and opened by ring alone, in the same
//! run: which instructions of the processor ring uses differs from machine to machine, what we and
//! rustls add does not. `counts.txt` has what it was when it was last looked at; more than a tenth
//! above that is a regression. To take note of an improvement, write down what the test prints.

#[path = "../support/mod.rs"]
mod support;
#[path = "../support/trial.rs"]
#[allow(dead_code, reason = "shared with other test programs, each of which uses a part")]
mod trial;

use std::hint::black_box;
use std::process::{Command, ExitCode};

use cluster_connect::engine::ws::{Splice, frame_up, push_frame};
use cluster_connect::limits::{FRAME_MAX, MUX_HEADER};
use cluster_connect::wire::ws::Opcode;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use support::pair::{Pair, sessions};
use trial::{Absent, Trial, named};

/// Says which work is to be done, to the process that is counted.
const WORK: &str = "CLUSTER_CONNECT_TEST_WORK";

const ROUNDS: u32 = 200;

/// Bytes of stream data in one frame.
const PIECE: usize = FRAME_MAX - MUX_HEADER;

/// What stands in `counts.txt` for it, and whether ring's own share is taken off.
const ALL: [(&str, Against); 5] = [
    ("frame, mask, unmask and reframe 16 KiB", Against::Nothing),
    ("seal and open a record of 16 KiB", Against::Ring),
    ("a full frame through the session", Against::Ring),
    ("a stream opened, used and closed", Against::Nothing),
    ("a record of 100 bytes", Against::Nothing),
];

const RING: &str = "ring alone";

#[derive(Clone, Copy, PartialEq)]
enum Against {
    Nothing,
    Ring,
}

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(WORK) {
        return work(&name);
    }
    trial::run([trials()])
}

fn trials() -> Vec<Trial> {
    ALL.into_iter().map(|(name, against)| named(name, move || check(name, against))).collect()
}

fn check(name: &str, against: Against) -> Result<(), Absent> {
    // Other builds have other counts.
    if !cfg!(debug_assertions) {
        return Err(Absent("count for an optimised build".to_owned()));
    }
    let mut count = count(name)?;
    if against == Against::Ring {
        count = count.saturating_sub(self::count(RING)?);
    }
    let written = include_str!("counts.txt").lines().find_map(|line| line.strip_prefix(name));
    let written = written.and_then(|rest| rest.trim_start_matches(':').trim().parse::<u64>().ok());
    let line = format!("{name}: {count}");
    println!("instructions each, {line}");
    let written = written.unwrap_or_else(|| panic!("counts.txt has no line: {line}"));
    assert!(count <= written + written / 10, "{line}, which was {written}");
    Ok(())
}

/// Instructions of one round.
fn count(name: &str) -> Result<u64, Absent> {
    let program = std::env::current_exe().expect("we run");
    let mut command = Command::new("valgrind");
    // Counting begins when the function is entered, and ends when it is left.
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.args(["--toggle-collect=*counted_rounds*", "--collect-systime=no"]);
    let output = command.arg(program).env(WORK, name).output();
    let Ok(output) = output else { return Err(Absent("valgrind".to_owned())) };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let collected = said.lines().find_map(|line| line.split("Collected : ").nth(1));
    let collected = collected.and_then(|it| it.trim().parse::<u64>().ok());
    let collected = collected.unwrap_or_else(|| panic!("no count in: {said}"));
    assert_ne!(collected, 0, "{said}");
    Ok(collected / u64::from(ROUNDS))
}

#[inline(never)]
fn counted_rounds(act: &mut dyn FnMut()) {
    for _ in 0..ROUNDS {
        act();
    }
}

/// Once buffers have their size.
fn run(mut act: impl FnMut()) {
    for _ in 0..16 {
        act();
    }
    counted_rounds(&mut act);
}

fn work(name: &str) -> ExitCode {
    match ALL.iter().position(|(known, _)| *known == name) {
        Some(0) => frames(),
        Some(1) => records(16 * 1024),
        Some(2) => session(),
        Some(3) => {
            let mut pair = Pair::new();
            run(|| pair.open_and_close());
        }
        Some(_) => records(100),
        None if name == RING => ring_alone(),
        None => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}

/// What agent and relay do.
fn frames() {
    let mut payload = vec![7; PIECE];
    let mut framed = Vec::new();
    let mut steps = Vec::new();
    let (mut splice, key) = (Splice::frames(), [1, 2, 3, 4]);
    run(|| {
        steps.clear();
        frame_up(black_box(&mut payload), || key, &mut steps);
        framed.clear();
        push_frame(&mut framed, Opcode::Binary, true, Some(key), &payload);
        steps.clear();
        splice.handle(black_box(&mut framed), &mut steps).expect("a frame");
    });
}

fn records(len: usize) {
    let (mut near, mut far) = sessions();
    let plain = vec![7; len];
    let (mut sealed, mut answer) = (Vec::new(), Vec::new());
    run(|| {
        sealed.clear();
        near.seal(black_box(&plain), &mut sealed).expect("established");
        let read = |bytes: &[u8]| assert_ne!(black_box(bytes.len()), 0);
        far.receive(&mut sealed, read, &mut answer).expect("TLS");
    });
}

fn session() {
    let mut pair = Pair::new();
    let stream = pair.near.open().expect("a stream");
    let piece = vec![7; PIECE];
    run(|| {
        pair.send(stream, &piece);
        pair.carry();
        pair.take();
    });
}

/// A record of 16 KiB as the sessions above have it, without rustls and without us.
fn ring_alone() {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).expect("a key"));
    let nonce = || Nonce::assume_unique_for_key([9; 12]);
    let mut record = vec![7; 16 * 1024];
    run(|| {
        record.truncate(16 * 1024);
        key.seal_in_place_append_tag(nonce(), Aad::empty(), black_box(&mut record))
            .expect("sealed");
        key.open_in_place(nonce(), Aad::empty(), black_box(&mut record)).expect("opened");
    });
}

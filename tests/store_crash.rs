//! The store under SIGKILL: a child appends records and acknowledges each over a pipe; it is killed
//! at seeded moments; nothing that it acknowledged may be missing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cluster_connect::io::store::Store;

const DIR: &str = "STORE_CRASH_DIR";

/// Record `n`: its number, and a length of its own.
fn record(n: usize) -> Vec<u8> {
    let mut record = format!("{n}:").into_bytes();
    record.resize(16 + n.wrapping_mul(7919) % 6000, b'x');
    record
}

/// Not a test of its own: the child, when the parent has started this binary with a directory.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let (mut store, records) = Store::open(Path::new(&dir)).unwrap();
    let mut out = std::io::stdout();
    for n in records.len().. {
        store.append(&record(n)).unwrap();
        writeln!(out, "\nack {n}").unwrap();
        out.flush().unwrap();
        if n % 50 == 49 {
            store.compact(&(0..=n).map(record).collect::<Vec<_>>()).unwrap();
        }
    }
}

/// Starts the child, reads so many acknowledgements, lets some time go by, kills it; the last
/// record that it acknowledged.
fn life(dir: &Path, acks: u64, spins: u64) -> usize {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ack = |line: std::io::Result<String>| line.unwrap().strip_prefix("ack ")?.parse().ok();
    let last = lines.by_ref().filter_map(ack).nth(usize::try_from(acks).unwrap()).unwrap();
    (0..spins).for_each(|spin| {
        std::hint::black_box(spin);
    });
    child.kill().unwrap();
    child.wait().unwrap();
    lines.filter_map(ack).last().unwrap_or(last)
}

#[test]
fn nothing_acknowledged_is_lost_to_a_kill() {
    let name = format!("cc-store-crash-{}", std::process::id());
    let dir: PathBuf = std::env::temp_dir().join(name);
    let mut seed: u64 = 7;
    let mut next = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (seed >> 33) % below
    };
    for round in 0..40 {
        let acknowledged = life(&dir, next(30), next(2_000_000));
        let (store, records) = Store::open(&dir).unwrap();
        drop(store);
        assert!(records.len() > acknowledged, "round {round}: {acknowledged} is missing");
        assert!(records.len() <= acknowledged + 2, "round {round}: only one was under way");
        let good = records.iter().enumerate().all(|(n, found)| *found == record(n));
        assert!(good, "round {round}: a record is not what was appended");
    }
    fs::remove_dir_all(&dir).unwrap();
}

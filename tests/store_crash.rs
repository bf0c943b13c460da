//! The store under SIGKILL: a child appends records and acknowledges each over a pipe; it is killed
//! at seeded moments; nothing that it acknowledged may be missing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cluster_connect::io::store::Store;

const DIR: &str = "STORE_CRASH_DIR";

/// How many records the child writes; without it, until it is killed.
const RECORDS: &str = "STORE_CRASH_RECORDS";

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
    let most = std::env::var(RECORDS).map_or(usize::MAX, |text| text.parse().unwrap());
    let (mut store, records) = Store::open(Path::new(&dir)).unwrap();
    let mut out = std::io::stdout();
    let mut kept: Vec<usize> = (0..records.len()).collect();
    for n in records.len()..most {
        let word = match store.append(&record(n)) {
            Ok(()) => {
                kept.push(n);
                "ack"
            }
            Err(_) => "full",
        };
        writeln!(out, "\n{word} {n}").unwrap();
        out.flush().unwrap();
        // Few are many calls each: more of them are among compactions when there are few.
        let every = if most == usize::MAX { 50 } else { 5 };
        if n % every == every - 1 {
            let compacted = store.compact(kept.iter().map(|&n| record(n)));
            // On a full disk it may fail, and the journal goes on as it was.
            assert!(compacted.is_ok() || kept.len() <= n);
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
        let good = records.iter().enumerate().all(|(n, found)| found == record(n));
        assert!(good, "round {round}: a record is not what was appended");
    }
    fs::remove_dir_all(&dir).unwrap();
}

/// Whether `strace` can stop a program here, which a sandbox may not allow.
fn can_trace() -> bool {
    let traced = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    traced.is_ok_and(|status| status.success())
}

/// What a file's state depends on: between two of these calls nothing changes on the disk, so to
/// die at each is to die at every instruction. A `?` is for those that a machine may not have.
const CALLS: [&str; 14] = [
    "write",
    "pwrite64",
    "fsync",
    "fdatasync",
    "ftruncate",
    "?rename",
    "?renameat",
    "renameat2",
    "?unlink",
    "unlinkat",
    "openat",
    "flock",
    "fchmod",
    "?mkdir",
];

/// The child, killed when it makes `call` for the `nth` time; true if it ran to its end before.
fn killed_at(call: &str, nth: usize, dir: &Path) -> bool {
    let out = Command::new("strace")
        .args(["-f", "-o", "/dev/null", "-e"])
        .arg(format!("inject={call}:signal=KILL:when={nth}"))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(DIR, dir.join("state"))
        .env(RECORDS, "6")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    let acknowledged = said.lines().filter(|line| line.starts_with("ack ")).count();
    let (store, records) = Store::open(&dir.join("state")).unwrap();
    drop(store);
    let place = format!("{call} {nth}: {acknowledged} and {}", records.len());
    assert!(records.len() >= acknowledged, "{place}");
    assert!(records.len() <= acknowledged + 1, "only one was under way: {place}");
    assert!(records.iter().enumerate().all(|(n, found)| found == record(n)), "{place}");
    out.status.success()
}

#[test]
fn killed_at_every_system_call_it_has_all_that_it_acknowledged() {
    if !can_trace() {
        eprintln!("skipped: strace is not here, or may not trace");
        return;
    }
    let name = format!("cc-store-trace-{}", std::process::id());
    let dir: PathBuf = std::env::temp_dir().join(name);
    let mut kills = 0;
    for call in CALLS {
        for nth in 1.. {
            // A directory of its own each time: the first start is among what may be interrupted.
            fs::create_dir_all(&dir).unwrap();
            let has_ended = killed_at(call, nth, &dir);
            fs::remove_dir_all(&dir).unwrap();
            if has_ended {
                break;
            }
            kills += 1;
        }
    }
    assert!(kills > 40, "only {kills} kills");
}

#[test]
fn a_disk_that_is_full_in_the_middle_of_a_record_costs_that_record_alone() {
    let name = format!("cc-store-full-{}", std::process::id());
    let dir: PathBuf = std::env::temp_dir().join(name);
    // A limit on the length of files fails as a full disk does: the write ends in the middle.
    let out = Command::new("/bin/sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 40; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(DIR, &dir)
        .env(RECORDS, "40")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    let lines: Vec<&str> = said.lines().collect();
    let acks: Vec<usize> =
        lines.iter().filter_map(|line| line.strip_prefix("ack ")?.parse().ok()).collect();
    let full = lines.iter().filter(|line| line.starts_with("full ")).count();
    assert!(out.status.success() && full > 0 && acks.len() + full == 40, "{said}");
    let first_full = lines.iter().position(|line| line.starts_with("full "));
    let last_ack = lines.iter().rposition(|line| line.starts_with("ack "));
    assert!(first_full < last_ack, "what is short enough still fits: {said}");
    let (mut store, records) = Store::open(&dir).unwrap();
    let expected: Vec<Vec<u8>> = acks.iter().map(|&n| record(n)).collect();
    assert!(records.iter().eq(expected.iter().map(Vec::as_slice)), "nothing more and nothing less");
    store.append(b"there is room again").unwrap();
    fs::remove_dir_all(&dir).unwrap();
}

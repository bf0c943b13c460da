//! Processes of the chain, and what the kernel knows of them.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// As the first argument: what follows is a command line of `cluster-connect`.
pub(crate) const SELF: &str = "--as-cluster-connect";

/// A clock tick of `/proc/PID/stat`, everywhere on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process that ends with this.
pub(crate) struct Process {
    pub(crate) name: &'static str,
    child: Child,
    /// The last that it said, if nobody waited for it to say something.
    said: Arc<Mutex<String>>,
}

impl Process {
    /// Starts a role and waits for `ready`; returns what stands behind it on that line.
    pub(crate) fn role(name: &'static str, words: &[&str], ready: &str) -> (Self, String) {
        Self::start(name, command(words), ready)
    }

    pub(crate) fn start(name: &'static str, mut command: Command, ready: &str) -> (Self, String) {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|err| panic!("cannot start {name}: {err}"));
        let (tell, hear) = channel();
        let ends: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("piped")),
            Box::new(child.stderr.take().expect("piped")),
        ];
        for end in ends {
            let tell = tell.clone();
            thread::spawn(move || {
                for line in BufReader::new(end).lines().map_while(|line| line.ok()) {
                    // Nobody listens any more once the process is ready.
                    let _ = tell.send(line);
                }
            });
        }
        drop(tell);
        let process = Self { name, child, said: Arc::default() };
        let mut said = String::new();
        loop {
            let Ok(line) = hear.recv_timeout(Duration::from_secs(60)) else {
                panic!("{name} did not become ready:\n{said}")
            };
            if let Some((_, rest)) = line.split_once(ready) {
                return (process, rest.to_owned());
            }
            said.push_str(&line);
            said.push('\n');
        }
    }

    /// Starts a program that does not say when it is ready.
    pub(crate) fn silent(name: &'static str, mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|err| panic!("cannot start {name}: {err}"));
        let said: Arc<Mutex<String>> = Arc::default();
        let (end, last) = (child.stderr.take().expect("piped"), Arc::clone(&said));
        thread::spawn(move || {
            for line in BufReader::new(end).lines().map_while(|line| line.ok()) {
                *last.lock().unwrap_or_else(PoisonError::into_inner) = line;
            }
        });
        Self { name, child, said }
    }

    /// What it said last, if it has ended.
    pub(crate) fn complaint(&self) -> Option<String> {
        // One that was waited for would no longer be a zombie.
        let has_ended = field(self.child.id(), 0).is_none_or(|state| state == "Z");
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        has_ended.then(|| format!("{} has ended: {said}", self.name))
    }

    /// Processor time so far, of all threads and all processes below it, in seconds.
    pub(crate) fn cpu(&self) -> f64 {
        // utime and stime, and the same of children that have ended.
        self.family().into_iter().map(|pid| seconds(pid, 11..15)).sum()
    }

    /// Processor time of each of its threads so far, in seconds, the busiest first.
    pub(crate) fn threads_cpu(&self) -> Vec<f64> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten();
        let seconds = |task: fs::DirEntry| {
            let stat = fs::read_to_string(task.path().join("stat")).ok()?;
            let (_, rest) = stat.rsplit_once(") ")?;
            let ticks = rest.split(' ').skip(11).take(2).map(|it| it.parse().unwrap_or(0.0));
            Some(ticks.sum::<f64>() / TICKS_PER_SECOND)
        };
        let mut all: Vec<f64> = tasks.flatten().filter_map(seconds).collect();
        all.sort_by(|one, other| other.total_cmp(one));
        all
    }

    /// Resident memory in KiB, with the processes below it.
    pub(crate) fn memory(&self) -> f64 {
        let status = |pid| fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let each = self.family().into_iter().map(|pid| value(&status(pid), "VmRSS:"));
        each.filter(|memory| memory.is_finite()).sum()
    }

    /// The process and all that it has started.
    fn family(&self) -> Vec<u32> {
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let all: Vec<(u32, u32)> =
            all.filter_map(|pid| Some((pid, field(pid, 1)?.parse().ok()?))).collect();
        let mut family = vec![self.child.id()];
        let mut at = 0;
        while let Some(&parent) = family.get(at) {
            family.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
            at += 1;
        }
        family
    }

    /// Memory in KiB that is its own and has been written to.
    pub(crate) fn private_dirty(&self) -> f64 {
        value(&self.proc("smaps_rollup"), "Private_Dirty:")
    }

    /// Bytes of the file that it runs.
    pub(crate) fn executable_bytes(&self) -> f64 {
        let file = fs::metadata(format!("/proc/{}/exe", self.child.id()));
        file.map_or(f64::NAN, |file| file.len() as f64)
    }

    pub(crate) fn threads(&self) -> f64 {
        self.status("Threads:")
    }

    /// How often its threads have gone to sleep so far.
    pub(crate) fn wake_ups(&self) -> f64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs");
        let count = |status: String| value(&status, "voluntary_ctxt_switches:");
        tasks
            .filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok())
            .map(count)
            .sum()
    }

    fn status(&self, name: &str) -> f64 {
        value(&self.proc("status"), name)
    }

    fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(path).unwrap_or_else(|err| panic!("{} has ended: {err}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already needs nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of the processes that have ended and were waited for, in seconds.
pub(crate) fn spent_by_children() -> f64 {
    seconds(std::process::id(), 13..15)
}

/// The sum of these fields of `/proc/PID/stat`, which count clock ticks.
fn seconds(pid: u32, fields: std::ops::Range<usize>) -> f64 {
    let ticks = fields.filter_map(|at| field(pid, at)?.parse::<f64>().ok());
    ticks.sum::<f64>() / TICKS_PER_SECOND
}

/// A field of `/proc/PID/stat`, counted from the one behind the name.
fn field(pid: u32, at: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold blanks.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(at).map(str::to_owned)
}

fn value(status: &str, name: &str) -> f64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|it| it.parse().ok()).unwrap_or(f64::NAN)
}

/// Is `cluster-connect`, with this command line.
pub(crate) fn be_cluster_connect(words: &[String]) {
    // The exit code of a process that is killed at the end is of no interest.
    let _ = cluster_connect::start::run(words.iter().map(Into::into).collect());
}

/// Runs a command of `cluster-connect` to its end and returns what it printed.
pub(crate) fn run(words: &[&str]) -> String {
    let output = command(words).output().expect("the executable can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", words.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The executable that is measured: `$CLUSTER_CONNECT`; in `$CLUSTER_CONNECT_BINARIES`, a directory,
/// the one that has this role alone; or the library as this bench was built with.
pub(crate) fn command(words: &[&str]) -> Command {
    if let Some(binaries) = std::env::var_os("CLUSTER_CONNECT_BINARIES") {
        let (name, words) = match words {
            ["relay", rest @ ..] => ("clusterconnect-relay", rest),
            ["agent", rest @ ..] => ("clusterconnect-agent", rest),
            ["auth-proxy", rest @ ..] => ("kube-aad-proxy", rest),
            ["proxy", rest @ ..] => ("clusterconnect-proxy", rest),
            all => ("cluster-connect", all),
        };
        let mut command = Command::new(std::path::Path::new(&binaries).join(name));
        command.args(words);
        return command;
    }
    match std::env::var_os("CLUSTER_CONNECT") {
        Some(path) => {
            let mut command = Command::new(path);
            command.args(words);
            command
        }
        None => {
            let mut command = Command::new(std::env::current_exe().expect("we run"));
            command.arg(SELF).args(words);
            command
        }
    }
}

//! Real processes: a private directory, a program in it, and what the system says about a process.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How long anything may take before a test gives up: a guard, never part of a verdict.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A private directory that is gone at the end.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cluster-connect-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // What a test left behind that was killed long ago, under the same number.
        let _ = fs::remove_dir_all(&path);
        fs::DirBuilder::new().mode(0o700).create(&path).expect("a directory");
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The path as a word of a command line.
    pub fn word(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    /// Writes a file that only its owner reads, and returns its path as a word.
    pub fn write(&self, name: &str, content: &str) -> String {
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(self.path(name)).expect("a file");
        file.write_all(content.as_bytes()).expect("written");
        self.word(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running program, killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts `program` and waits for the line in which it says `ready`. Returns what stands
    /// behind those words.
    pub fn start(
        name: &'static str,
        program: impl AsRef<Path>,
        words: &[&str],
        ready: &str,
    ) -> (Self, String) {
        Self::start_in(&[], name, program, words, ready)
    }

    /// Like [`Self::start`], with these variables in its environment.
    pub fn start_in(
        variables: &[(&str, &str)],
        name: &'static str,
        program: impl AsRef<Path>,
        words: &[&str],
        ready: &str,
    ) -> (Self, String) {
        let mut child = Command::new(program.as_ref())
            .args(words)
            .env_clear()
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect(name);
        let said = Arc::default();
        let (tell, hear) = channel();
        let ends: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("a pipe")),
            Box::new(child.stderr.take().expect("a pipe")),
        ];
        for end in ends {
            let (said, tell) = (Arc::clone(&said), tell.clone());
            thread::spawn(move || keep(end, &said, &tell));
        }
        drop(tell);
        let process = Self { name, child, said };
        loop {
            let Ok(line) = hear.recv_timeout(PATIENCE) else {
                panic!("{name} did not become ready:\n{}", process.log());
            };
            if let Some((_, rest)) = line.split_once(ready) {
                return (process, rest.trim().to_owned());
            }
        }
    }

    /// Everything that it has printed.
    pub fn log(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it has ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours")
    }

    #[track_caller]
    pub fn assert_alive(&mut self) {
        if let Some(status) = self.ended() {
            panic!("{} ended with {status}:\n{}", self.name, self.log());
        }
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.id())).expect("a living process").count()
    }

    /// Resident memory, in KiB.
    pub fn resident_kib(&self) -> usize {
        self.kib("VmRSS:")
    }

    /// The most that was resident at any time, in KiB.
    pub fn peak_kib(&self) -> usize {
        self.kib("VmHWM:")
    }

    fn kib(&self, name: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()));
        let status = status.expect("a living process");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|text| text.parse().ok()).expect(name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already needs nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let start = log.lines().count().saturating_sub(40);
            let tail: Vec<_> = log.lines().skip(start).collect();
            eprintln!("--- {} ---\n{}", self.name, tail.join("\n"));
        }
    }
}

fn keep(from: impl Read, said: &Mutex<Vec<String>>, tell: &Sender<String>) {
    for line in BufReader::new(from).lines().map_while(Result::ok) {
        said.lock().unwrap_or_else(PoisonError::into_inner).push(line.clone());
        // Nobody listens any more once the process is ready.
        let _ = tell.send(line);
    }
}

//! The processes of the chain: this executable, started again in each role.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use crate::Result;

/// As the first argument: what follows is a command line of `cluster-connect`.
pub const SELF: &str = "--as-cluster-connect";

/// How long a process may take to be ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// Processes that are stopped when this is dropped, the last one first.
pub struct Processes {
    running: Vec<Child>,
    logs: PathBuf,
}

/// A process to start, and the line by which it says that it is ready.
pub struct Wish<'a> {
    pub name: &'a str,
    pub words: &'a [&'a str],
    pub ready: &'a str,
}

impl Processes {
    pub fn new(dir: &Path) -> Self {
        Self { running: Vec::new(), logs: dir.to_owned() }
    }

    pub fn log_dir(&self) -> &Path {
        &self.logs
    }

    /// Starts a process and waits until it is ready. Returns what stands behind the words that say
    /// so.
    pub fn start(&mut self, wish: &Wish<'_>) -> Result<String> {
        let mut child = command(wish.words)?
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|err| format!("cannot start {}: {err}", wish.name))?;
        let log = self.logs.join(format!("{}.log", wish.name));
        let log = fs::File::create(&log).map_err(|err| format!("{}: {err}", log.display()))?;
        let (tell, hear) = channel();
        let ends: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|it| Box::new(it) as _),
            child.stderr.take().map(|it| Box::new(it) as _),
        ];
        for end in ends.into_iter().flatten() {
            let log = log.try_clone().map_err(|err| err.to_string())?;
            let tell = tell.clone();
            thread::spawn(move || keep(end, log, &tell));
        }
        drop(tell);
        self.running.push(child);
        wait_for(&hear, wish)
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        while let Some(mut child) = self.running.pop() {
            // One that has ended already needs nothing.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a command to its end and returns what it printed.
pub fn run(words: &[&str]) -> Result<String> {
    let output = command(words)?.output().map_err(|err| err.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr)))
}

/// Returns at SIGINT or SIGTERM.
pub fn wait_for_interrupt() -> Result<()> {
    let (mut read, write) = UnixStream::pair().map_err(|err| err.to_string())?;
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let write = write.try_clone().map_err(|err| err.to_string())?;
        signal_hook::low_level::pipe::register(signal, write).map_err(|err| err.to_string())?;
    }
    read.read_exact(&mut [0]).map_err(|err| err.to_string())
}

fn command(words: &[&str]) -> Result<Command> {
    let own = std::env::current_exe().map_err(|err| err.to_string())?;
    let mut command = Command::new(own);
    command.arg(SELF).args(words);
    Ok(command)
}

/// Copies each line to the log and to whoever waits for one.
fn keep(from: impl Read, mut log: fs::File, tell: &Sender<String>) {
    for line in BufReader::new(from).lines().map_while(|line| line.ok()) {
        let _ = writeln!(log, "{line}");
        // Nobody waits any more once the process is ready.
        let _ = tell.send(line);
    }
}

fn wait_for(lines: &Receiver<String>, wish: &Wish<'_>) -> Result<String> {
    let mut said = Vec::new();
    loop {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                if let Some((_, rest)) = line.split_once(wish.ready) {
                    return Ok(rest.to_owned());
                }
                said.push(line);
            }
            Err(_) => {
                return Err(format!("{} did not become ready:\n{}", wish.name, said.join("\n")));
            }
        }
    }
}

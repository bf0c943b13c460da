//! The processes of the chain: each says by a line of its output that it is ready, keeps its lines
//! in a log, and is killed when it is dropped.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What went wrong, for whoever reads the terminal.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// As the first argument of the quickstart: what follows is a command line of `cluster-connect`.
pub(crate) const SELF: &str = "--as-cluster-connect";

/// How long a process may take to say a line.
const PATIENCE: Duration = Duration::from_secs(60);

/// An executable that understands command lines of `cluster-connect`.
#[derive(Clone)]
pub(crate) struct Program {
    path: PathBuf,
    first: &'static [&'static str],
}

/// A process to start, and the words by which it says that it is ready.
pub(crate) struct Wish<'a> {
    pub(crate) name: &'a str,
    pub(crate) words: &'a [&'a str],
    pub(crate) ready: &'a str,
    /// What it says beside that, before or after.
    pub(crate) also: Option<&'a str>,
}

/// A running process.
pub(crate) struct Process {
    child: Child,
    name: String,
    lines: Receiver<String>,
    said: Vec<String>,
    keepers: Vec<JoinHandle<()>>,
    stdout: PathBuf,
}

/// What a process says on one of its outputs.
type End = Box<dyn Read + Send>;

/// Processes that are stopped when this is dropped, the last one first.
pub(crate) struct Processes {
    program: Program,
    running: Vec<Process>,
    logs: PathBuf,
}

impl Program {
    /// This very executable, which hands its arguments on when they begin with [`SELF`].
    pub(crate) fn own() -> Result<Self> {
        let path = std::env::current_exe().map_err(|err| err.to_string())?;
        Ok(Self { path, first: &[SELF] })
    }

    pub(crate) fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), first: &[] }
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        // One of our own lives no longer than this pipe does: see [`ends_with_its_parent`].
        let stdin = if self.first.is_empty() { Stdio::null() } else { Stdio::piped() };
        command.args(self.first).args(words).stdin(stdin);
        command
    }

    /// Runs a command to its end and returns what it printed.
    pub(crate) fn run(&self, words: &[&str]) -> Result<String> {
        let mut command = self.command(words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|err| err.to_string())?;
        // It is open for as long as the command runs.
        let stdin = child.stdin.take();
        let output = child.wait_with_output().map_err(|err| err.to_string())?;
        drop(stdin);
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(format!("{}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr)))
    }
}

/// Ends this process when the one that started it has ended in whatever way: its end of the pipe
/// that is our standard input closes then, and nothing else is ever said on it.
pub(crate) fn ends_with_its_parent() {
    thread::spawn(|| {
        let mut byte = [0];
        while std::io::stdin().read(&mut byte).is_ok_and(|count| count != 0) {}
        std::process::exit(1);
    });
}

impl Process {
    /// Starts a process and waits until it is ready. Returns it and what stands behind the words
    /// that say so. Its lines are in `logs`, those of standard output in a file of their own too.
    pub(crate) fn start(program: &Program, logs: &Path, wish: &Wish<'_>) -> Result<(Self, String)> {
        let mut command = program.command(wish.words);
        let mut process = Self::spawn(&mut command, logs, wish.name)?;
        let rest = process.says(wish.ready)?;
        if let Some(words) = wish.also
            && !process.said.iter().any(|line| line.contains(words))
        {
            process.says(words)?;
        }
        Ok((process, rest))
    }

    /// Starts a command without waiting for anything.
    pub(crate) fn spawn(command: &mut Command, logs: &Path, name: &str) -> Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|err| format!("cannot start {name}: {err}"))?;
        let stdout = logs.join(format!("{name}.out"));
        let open = |path: &Path| {
            let mut options = fs::OpenOptions::new();
            let file = options.create(true).append(true).open(path);
            file.map_err(|err| format!("{}: {err}", path.display()))
        };
        let log = logs.join(format!("{name}.log"));
        let (tell, lines) = channel();
        let ends: [(Option<End>, Vec<fs::File>); 2] = [
            (child.stdout.take().map(|it| Box::new(it) as _), vec![open(&log)?, open(&stdout)?]),
            (child.stderr.take().map(|it| Box::new(it) as _), vec![open(&log)?]),
        ];
        let mut keepers = Vec::new();
        for (end, logs) in ends {
            let (Some(end), tell) = (end, tell.clone()) else { continue };
            keepers.push(thread::spawn(move || keep(end, logs, &tell)));
        }
        Ok(Self { child, name: name.to_owned(), lines, said: Vec::new(), keepers, stdout })
    }

    /// Waits for a line with `words` that has not been waited for yet, and returns what stands
    /// behind them.
    pub(crate) fn says(&mut self, words: &str) -> Result<String> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let rest = line.split_once(words).map(|(_, rest)| rest.to_owned());
                    self.said.push(line);
                    if let Some(rest) = rest {
                        return Ok(rest);
                    }
                }
                Err(_) => {
                    let said = self.said.join("\n");
                    return Err(format!("{} did not say {words:?}:\n{said}", self.name));
                }
            }
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&mut self) {
        // One that has ended already needs nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end. What it printed on standard output is complete then.
    pub(crate) fn ended(mut self) -> Result<(ExitStatus, String)> {
        let status = self.child.wait().map_err(|err| err.to_string())?;
        for keeper in self.keepers.drain(..) {
            // A keeper that has panicked has kept what it could.
            let _ = keeper.join();
        }
        let printed = fs::read_to_string(&self.stdout).map_err(|err| err.to_string())?;
        Ok((status, printed))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Processes {
    pub(crate) fn new(program: Program, dir: &Path) -> Self {
        Self { program, running: Vec::new(), logs: dir.to_owned() }
    }

    pub(crate) fn log_dir(&self) -> &Path {
        &self.logs
    }

    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    /// The name of one that does not run any more.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let has_ended = |process: &mut Process| !matches!(process.child.try_wait(), Ok(None));
        self.running.iter_mut().find_map(|it| has_ended(it).then(|| it.name.clone()))
    }

    /// Starts one more, as [`Process::start`] does.
    pub(crate) fn start(&mut self, wish: &Wish<'_>) -> Result<String> {
        let (process, rest) = Process::start(&self.program, &self.logs, wish)?;
        self.running.push(process);
        Ok(rest)
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        while self.running.pop().is_some() {}
    }
}

/// Copies each line to the logs and to whoever waits for one.
fn keep(from: impl Read, mut logs: Vec<fs::File>, tell: &Sender<String>) {
    for line in BufReader::new(from).lines().map_while(|line| line.ok()) {
        for log in &mut logs {
            // A full disk costs the log, not the process.
            let _ = writeln!(log, "{line}");
        }
        // Nobody waits any more once the process is dropped.
        let _ = tell.send(line);
    }
}

//! The real kubectl, in every version that this machine has: found, run with a kubeconfig, home
//! and cache of its own, and never waited for without a deadline.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use serde_json::Value;

use crate::trial::{Absent, Trial, name_of, named};

/// Longer than any command takes on a slow machine; only a failing test waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// One kubectl executable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kubectl {
    path: PathBuf,
    pub(crate) minor: u32,
}

/// A kubectl with a kubeconfig and a home directory of its own.
pub(crate) struct Session {
    kubectl: Kubectl,
    home: TempDir,
    variables: Vec<(String, String)>,
}

/// What carries the streams of exec, attach and port-forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    WebSocket,
    Spdy,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A command that is still running; it is killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    seen: Vec<String>,
}

/// A private directory, removed when this is dropped.
pub(crate) struct TempDir(PathBuf);

/// Every kubectl there is, one per minor version, oldest first.
pub(crate) fn all() -> &'static [Kubectl] {
    static ALL: OnceLock<Vec<Kubectl>> = OnceLock::new();
    ALL.get_or_init(find)
}

/// The newest kubectl.
pub(crate) fn newest() -> Result<&'static Kubectl, Absent> {
    all().last().ok_or_else(|| Absent(WHAT.to_owned()))
}

/// Those of this minor version or a later one; what was added later than the oldest here.
pub(crate) fn since(minor: u32) -> Result<Vec<&'static Kubectl>, Absent> {
    let new: Vec<_> = all().iter().filter(|kubectl| minor <= kubectl.minor).collect();
    if new.is_empty() { Err(Absent(format!("kubectl 1.{minor} or later"))) } else { Ok(new) }
}

/// The oldest and the newest.
pub(crate) fn ends() -> Vec<&'static Kubectl> {
    chosen(|all| [all.first(), all.last(), None])
}

/// The oldest, one in the middle, and the newest.
pub(crate) fn some() -> Vec<&'static Kubectl> {
    chosen(|all| [all.first(), all.get(all.len() / 2), all.last()])
}

fn chosen(which: fn(&'static [Kubectl]) -> [Option<&'static Kubectl>; 3]) -> Vec<&'static Kubectl> {
    let mut chosen: Vec<_> = which(all()).into_iter().flatten().collect();
    chosen.dedup();
    chosen
}

/// A test of `check` for each of these, or one that finds none here.
pub(crate) fn trials<C: Copy + Send + 'static>(
    of: Vec<&'static Kubectl>,
    check: C,
    run: fn(&'static Kubectl, C),
) -> Vec<Trial> {
    let cases = of.into_iter().map(|kubectl| (format!("kubectl_1_{}", kubectl.minor), kubectl));
    each(cases.collect(), check, run)
}

/// The same, over everything that carries the streams of each.
pub(crate) fn streaming_trials<C: Copy + Send + 'static>(
    of: Vec<&'static Kubectl>,
    check: C,
    run: fn((&'static Kubectl, Transport), C),
) -> Vec<Trial> {
    let cases = of.into_iter().flat_map(|kubectl| {
        let name = |it| format!("kubectl_1_{}_{it:?}", kubectl.minor).to_lowercase();
        kubectl.transports().iter().map(move |it| (name(it), (kubectl, *it)))
    });
    each(cases.collect(), check, run)
}

fn each<K: Send + 'static, C: Copy + Send + 'static>(
    cases: Vec<(String, K)>,
    check: C,
    run: fn(K, C),
) -> Vec<Trial> {
    let name = name_of::<C>();
    if cases.is_empty() {
        return vec![named(name, || Err(Absent(WHAT.to_owned())))];
    }
    let test = |(case, with)| named(format!("{name}::{case}"), move || run(with, check));
    cases.into_iter().map(test).collect()
}

const WHAT: &str = "kubectl";

impl Kubectl {
    /// Those that this version has.
    pub(crate) fn transports(&self) -> &'static [Transport] {
        // Older ones know nothing but SPDY and do not look at the variables.
        if self.minor < 29 { &[Transport::Spdy] } else { &[Transport::WebSocket, Transport::Spdy] }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn with(&self, kubeconfig: &str) -> Session {
        let home = TempDir::new();
        fs::write(home.path().join("kubeconfig"), kubeconfig).expect("a kubeconfig is written");
        Session { kubectl: self.clone(), home, variables: Vec::new() }
    }
}

impl Session {
    pub(crate) fn minor(&self) -> u32 {
        self.kubectl.minor
    }

    /// The private directory, which is also where the command runs.
    pub(crate) fn directory(&self) -> &Path {
        self.home.path()
    }

    /// Writes a file into the private directory and gives its path.
    pub(crate) fn file(&self, name: &str, contents: &[u8]) -> String {
        let path = self.home.path().join(name);
        fs::write(&path, contents).expect("a file is written");
        path.display().to_string()
    }

    /// Sets an environment variable for the commands that follow.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.into(), value.into()));
    }

    pub(crate) fn stream_over(&mut self, transport: Transport) {
        let websockets = if transport == Transport::WebSocket { "true" } else { "false" };
        self.set("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets);
        self.set("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets);
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with_input(arguments, b"")
    }

    /// Standard output of a command that must succeed.
    pub(crate) fn output(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.code, Some(0), "kubectl 1.{} {arguments:?}: {ended:?}", self.minor());
        ended.stdout
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.output(arguments)).expect("kubectl printed JSON")
    }

    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Ended {
        let mut child = self.command(arguments).spawn().expect("kubectl starts");
        let stdout = read_all(child.stdout.take());
        let stderr = read_all(child.stderr.take());
        let mut stdin = child.stdin.take();
        let input = input.to_vec();
        // A command that does not want its input ends before it has read it.
        let writer = thread::spawn(move || stdin.as_mut().map(|to| to.write_all(&input)));
        let code = wait(&mut child, arguments);
        drop(writer);
        let text = |from: Receiver<Vec<u8>>| {
            let bytes = from.recv_timeout(PATIENCE).expect("the output of an ended command ends");
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Ended { code, stdout: text(stdout), stderr: text(stderr) }
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        Running::spawn(&mut self.command(arguments)).expect("kubectl starts")
    }

    /// At a terminal, which echoes, and which `script` lends.
    pub(crate) fn start_in_terminal(&self, arguments: &[&str]) -> Result<Running, Absent> {
        let line = format!("{} {}", self.kubectl.path.display(), arguments.join(" "));
        match Running::spawn(self.around(Command::new("script").args(in_terminal(&line)))) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Err(Absent("script".into())),
            other => Ok(other.expect("a terminal")),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl.path);
        self.around(command.args(arguments));
        command
    }

    /// Its files and environment, and nothing else's.
    fn around<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .current_dir(self.home.path())
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.home.path().join("kubeconfig"))
            .env("KUBECACHEDIR", self.home.path().join("cache"))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
    }
}

/// What `script` is told in order to run one command at a terminal and to end as it does. A shell
/// that stays between them would be interrupted with it, and some end then as interrupted.
pub(crate) fn in_terminal(command: &str) -> [String; 3] {
    ["-qefc".to_owned(), format!("exec {command}"), "/dev/null".to_owned()]
}

impl Running {
    /// A command whose three streams are pipes.
    pub(crate) fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut child = command.spawn()?;
        let (sender, lines) = channel();
        let streams: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|from| Box::new(from) as Box<dyn Read + Send>),
            child.stderr.take().map(|from| Box::new(from) as Box<dyn Read + Send>),
        ];
        for stream in streams.into_iter().flatten() {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        let stdin = child.stdin.take();
        Ok(Self { child, stdin, lines, seen: Vec::new() })
    }

    /// The first line, of either output, that satisfies `wanted`; lines before it are passed over.
    pub(crate) fn line(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if wanted(&line) {
                        return line;
                    }
                }
                Err(why) => {
                    let how = match why {
                        RecvTimeoutError::Timeout => "no such line came in time",
                        RecvTimeoutError::Disconnected => "the command ended without such a line",
                    };
                    panic!("{how}; seen: {:#?}", self.seen);
                }
            }
        }
    }

    pub(crate) fn line_with(&mut self, part: &str) -> String {
        self.line(|line| line.contains(part))
    }

    pub(crate) fn type_in(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("input is still open");
        stdin.write_all(text.as_bytes()).expect("the command reads its input");
        stdin.flush().expect("the command reads its input");
    }

    pub(crate) fn end_input(&mut self) {
        self.stdin = None;
    }

    /// Waits for the command to end by itself.
    pub(crate) fn ended(mut self) -> Option<i32> {
        wait(&mut self.child, &[])
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl TempDir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("cluster-connect-test-{}-{number}", std::process::id());
        let path = env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a temporary directory is made");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Looks in the directories of PATH, and where a kubectl found there really is, because packages
/// keep other versions beside it.
fn find() -> Vec<Kubectl> {
    let mut directories: Vec<PathBuf> =
        env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    let real = directories.iter().filter_map(|directory| {
        directory.join("kubectl").canonicalize().ok()?.parent().map(Path::to_path_buf)
    });
    let real: Vec<PathBuf> = real.collect();
    directories.extend(real);
    let mut found = BTreeMap::new();
    for directory in directories {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_kubectl = name == "kubectl" || name.starts_with("kubectl.1.");
            if is_kubectl && let Some(minor) = minor_version(&entry.path()) {
                found.insert(minor, entry.path());
            }
        }
    }
    found.into_iter().map(|(minor, path)| Kubectl { path, minor }).collect()
}

fn minor_version(path: &Path) -> Option<u32> {
    let mut command = Command::new(path);
    command.args(["version", "--client", "-o", "json"]).env("KUBECONFIG", "/dev/null");
    let output = command.output().ok()?;
    let version: Value = serde_json::from_slice(&output.stdout).ok()?;
    let minor = version.pointer("/clientVersion/minor")?.as_str()?;
    minor.trim_end_matches('+').parse().ok()
}

fn read_all(from: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            let _ = from.read_to_end(&mut bytes);
        }
        let _ = sender.send(bytes);
    });
    receiver
}

/// The exit code; a command that does not end in time is killed and fails the test.
fn wait(child: &mut Child, arguments: &[&str]) -> Option<i32> {
    let until = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(1);
    loop {
        match child.try_wait().expect("a child can be waited for") {
            Some(status) => return status.code(),
            None if Instant::now() >= until => {
                let _ = child.kill();
                panic!("kubectl {arguments:?} did not end in time");
            }
            None => {
                // std has no wait with a deadline; this polls, and nothing is decided by it.
                thread::park_timeout(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
        }
    }
}

/// Writes a file that is nobody else's.
pub(crate) fn private(path: &Path, content: &str) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(content.as_bytes())).expect("a file is written");
}

//! `kubectl exec`: a real command in the pod's private directory. There is no container around
//! it; absolute paths among the arguments of the usual file commands are moved into the
//! directory, which is what `kubectl cp` needs.

use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::{fs, thread};

use serde_json::{Value, json};

use super::connection::{Answer, Exchange};
use super::logs::container_of;
use super::status::{Failure, Status};
use super::streams::{self, Input, Output, Remote, Wants, exit_status};

/// Commands whose absolute paths mean the pod's files.
const FILE_COMMANDS: [&str; 16] = [
    "cat",
    "cp",
    "head",
    "ls",
    "mkdir",
    "mv",
    "rm",
    "sha256sum",
    "stat",
    "tail",
    "tar",
    "tee",
    "test",
    "touch",
    "wc",
    "rmdir",
];

pub(crate) fn answer(exchange: &mut Exchange<'_>) -> Result<Answer, Failure> {
    container_of(exchange)?;
    let query = &exchange.request.query;
    let command: Vec<String> = query.all("command").map(String::from).collect();
    if command.is_empty() {
        let message = "you must specify at least 1 command for the container";
        return Err(Status::bad_request(message).into());
    }
    let wants = Wants::of(query);
    let (namespace, name) = (exchange.route.namespace.clone(), exchange.route.name.clone());
    let root = exchange.world.pods.root(&namespace, &name)?;
    let remote = streams::open(exchange, wants)?;
    let output = remote.output.clone();
    output.finish(&run(&root, &command, wants, remote))?;
    Ok(Answer::Sent)
}

/// Runs a command to its end and says how it ended.
pub(crate) fn run(root: &Path, command: &[String], wants: Wants, remote: Remote) -> Value {
    let mut child = match spawn(root, command, wants) {
        Ok(child) => child,
        Err(error) => {
            let program = command.first().map(String::as_str).unwrap_or_default();
            return json!({
                "metadata": {},
                "status": "Failure",
                "reason": "InternalError",
                "code": 500,
                "message": format!("error executing command in container: exec: {program:?}: {error}"),
            });
        }
    };
    let group = child.id();
    let (stdin, output) = (child.stdin.take(), remote.output);
    let terminal = wants.tty.then(|| Terminal { output: output.clone(), line: Vec::new() });
    let sizes = root.join("tty-size");
    let ended = Arc::new(AtomicBool::new(false));
    let has_ended = ended.clone();
    thread::spawn(move || {
        feed(&remote.input, stdin, terminal, &sizes, group);
        // Once it has been waited for, the number may be another's.
        if !has_ended.load(Ordering::SeqCst) {
            signal(group, "KILL");
        }
    });
    let stderr = child.stderr.take().map(|from| {
        let output = output.clone();
        thread::spawn(move || {
            pump(from, |data| {
                if wants.tty { output.stdout(&with_returns(data)) } else { output.stderr(data) }
            })
        })
    });
    if let Some(from) = child.stdout.take() {
        pump(from, |data| match wants.tty {
            true => output.stdout(&with_returns(data)),
            false => output.stdout(data),
        });
    }
    // A panicking pump has nothing more to say either.
    let _ = stderr.map(thread::JoinHandle::join);
    let status = child.wait();
    ended.store(true, Ordering::SeqCst);
    match status {
        Ok(status) => exit_status(
            status.code().unwrap_or_else(|| 128_i32.saturating_add(status.signal().unwrap_or(0))),
        ),
        Err(error) => json!({ "status": "Failure", "message": error.to_string(), "code": 500 }),
    }
}

fn spawn(root: &Path, command: &[String], wants: Wants) -> io::Result<Child> {
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let moved = FILE_COMMANDS.contains(&program.as_str());
    let is_shell = matches!(program.as_str(), "sh" | "bash" | "ash") && arguments.is_empty();
    let session = if wants.tty && is_shell { session_of_its_own() } else { None };
    let mut command = Command::new(session.unwrap_or(program));
    match session {
        Some(_) => command.args([program, "-i"]),
        None => command.process_group(0),
    };
    for argument in arguments {
        match argument.strip_prefix('/') {
            Some("") if moved => command.arg("."),
            Some(inside) if moved && !inside.starts_with("dev/") => command.arg(inside),
            _ => command.arg(argument),
        };
    }
    command
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", root)
        .env("PS1", "$ ")
        .current_dir(root)
        .stdin(if wants.stdin { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// The command that starts another in a session of its own, and so in a process group of its own.
/// An interactive shell stops itself where this process has a terminal whose foreground it is not;
/// without this command, shells are not interactive.
fn session_of_its_own() -> Option<&'static str> {
    ["/usr/bin/setsid", "/bin/setsid"].into_iter().find(|path| Path::new(path).exists())
}

/// Carries input to the command until the caller or the command ends.
fn feed(
    input: &Receiver<Input>,
    mut stdin: Option<ChildStdin>,
    mut terminal: Option<Terminal>,
    sizes: &Path,
    group: u32,
) {
    while let Ok(said) = input.recv() {
        match said {
            Input::Stdin(data) => {
                let typed = match &mut terminal {
                    Some(terminal) => terminal.type_in(&data),
                    None => Typed { data, interrupt: false, end: false },
                };
                if typed.interrupt {
                    signal(group, "INT");
                }
                let written = stdin.as_mut().is_none_or(|to| to.write_all(&typed.data).is_ok());
                if typed.end || !written {
                    stdin = None;
                }
            }
            Input::StdinEnd => stdin = None,
            Input::Resize { width, height } => {
                // Only tests look at it.
                let _ = fs::write(sizes, format!("{width}x{height}\n"));
            }
        }
    }
}

fn pump(mut from: impl Read, mut send: impl FnMut(&[u8]) -> io::Result<()>) {
    let mut buffer = vec![0; 32 * 1024];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        if send(buffer.get(..len).unwrap_or_default()).is_err() {
            return;
        }
    }
}

/// Signals a whole process group, by the shell's own `kill`. A group that has ended is no mistake.
fn signal(group: u32, name: &str) {
    let mut kill = Command::new("sh");
    kill.args(["-c", &format!("kill -{name} -{group}")]);
    let _ = kill.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// A terminal's line editing, without a terminal: echo, erase, interrupt, end of input.
struct Terminal {
    output: Output,
    line: Vec<u8>,
}

struct Typed {
    data: Vec<u8>,
    interrupt: bool,
    end: bool,
}

impl Terminal {
    fn type_in(&mut self, keys: &[u8]) -> Typed {
        let mut typed = Typed { data: Vec::new(), interrupt: false, end: false };
        let mut echo = Vec::new();
        for key in keys {
            match key {
                b'\r' | b'\n' => {
                    self.line.push(b'\n');
                    typed.data.append(&mut self.line);
                    echo.extend_from_slice(b"\r\n");
                }
                0x08 | 0x7f => {
                    if self.line.pop().is_some() {
                        echo.extend_from_slice(b"\x08 \x08");
                    }
                }
                0x03 => {
                    self.line.clear();
                    typed.interrupt = true;
                    echo.extend_from_slice(b"^C\r\n");
                }
                0x04 if self.line.is_empty() => typed.end = true,
                0x04 => typed.data.append(&mut self.line),
                key => {
                    self.line.push(*key);
                    echo.push(*key);
                }
            }
        }
        // A caller who has gone shows soon enough on the input.
        let _ = self.output.stdout(&echo);
        typed
    }
}

fn with_returns(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 16);
    for byte in data {
        if *byte == b'\n' {
            out.push(b'\r');
        }
        out.push(*byte);
    }
    out
}

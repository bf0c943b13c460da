//! An agent that may use 16 MiB, by its control group: readers that stop behind it cost it no more
//! than that, it lives, and the streams beside them go on.
//!
//! Needs a memory controller that this user may make groups in; without one the test counts as
//! ignored.

#![deny(dead_code, reason = "a test that is not listed would not run")]

#[path = "../support/process.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared with other test programs, each of which uses a part"
)]
mod process;
#[path = "../../bench/rig/rendezvous.rs"]
#[allow(dead_code, reason = "a bench uses more of it")]
mod rendezvous;
#[path = "../../bench/rig/stream.rs"]
#[allow(dead_code, reason = "a bench uses more of it")]
mod stream;
#[path = "../support/trial.rs"]
#[allow(dead_code, reason = "shared with other test programs, each of which uses a part")]
mod trial;

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use cluster_connect::engine::ws;
use cluster_connect::wire::ws::{Head, Opcode};

use process::{Process, Scratch};
use rendezvous::Place;
use stream::Secure;
use trial::{Absent, trial};

/// What a small node gives an agent.
const LIMIT: usize = 16 << 20;

/// Together they would take four times that if each took what it takes alone.
const STALLED: usize = 40;

/// What each of them has to say.
const BULK: usize = 8 << 20;

/// Payload of one message.
const MESSAGE: usize = 16 * 1024 - 8;

fn main() -> ExitCode {
    trial::run([vec![trial(an_agent_of_16_mib_lives_and_slows_down)]])
}

/// A control group with a limit, gone at the end.
struct Group(PathBuf);

impl Group {
    /// By the first version of control groups, or the second.
    fn new() -> Result<Self, Absent> {
        let name = format!("cluster-connect-test-{}", std::process::id());
        let kinds =
            [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        for (root, limit) in kinds {
            let path = PathBuf::from(root).join(&name);
            if fs::create_dir(&path).is_ok() {
                let group = Self(path);
                if fs::write(group.0.join(limit), LIMIT.to_string()).is_ok() {
                    return Ok(group);
                }
            }
        }
        Err(Absent("memory controller for control groups of our own".to_owned()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A group with a process in it stays, and its process is gone when the test is.
        let _ = fs::remove_dir(&self.0);
    }
}

/// What stands behind the agent: a connection says by its first byte whether it is echoed, or read
/// when the gate is open and not before.
struct Origin {
    address: SocketAddr,
    /// Bytes that came through the gate.
    drunk: Arc<AtomicUsize>,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn open(&self) {
        *self.0.lock().expect("nobody panics with it") = true;
        self.1.notify_all();
    }

    fn wait(&self) {
        let is_open = self.0.lock().expect("nobody panics with it");
        drop(self.1.wait_while(is_open, |is_open| !*is_open).expect("nobody panics with it"));
    }
}

impl Origin {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (drunk, gate) = (Arc::<AtomicUsize>::default(), Arc::<Gate>::default());
        let all = Self { address, drunk: Arc::clone(&drunk), gate: Arc::clone(&gate) };
        thread::spawn(move || {
            for tcp in listener.incoming().map_while(Result::ok) {
                let (drunk, gate) = (Arc::clone(&drunk), Arc::clone(&gate));
                thread::spawn(move || serve(tcp, &drunk, &gate));
            }
        });
        all
    }
}

fn serve(mut tcp: TcpStream, drunk: &AtomicUsize, gate: &Gate) -> io::Result<()> {
    let mut kind = [0];
    tcp.read_exact(&mut kind)?;
    let is_echo = kind == *b"E";
    if !is_echo {
        gate.wait();
    }
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let len = tcp.read(&mut chunk)?;
        let Some(part) = chunk.get(..len).filter(|part| !part.is_empty()) else { return Ok(()) };
        if is_echo {
            tcp.write_all(part)?;
        } else {
            assert!(part.iter().all(|&byte| byte == b's'), "bytes change on the way");
            drunk.fetch_add(len, Ordering::Relaxed);
        }
    }
}

fn message(payload: &[u8]) -> Vec<u8> {
    ws::frame(Opcode::Binary, Some([1, 2, 3, 4]), payload)
}

/// A round trip of one message.
fn echo(sender: &mut Secure, payload: &[u8]) {
    sender.write_all(&message(payload)).expect("the neighbour is open");
    let mut got = Vec::new();
    while got.len() < payload.len() {
        let mut head = vec![0; 2];
        sender.read_exact(&mut head).expect("the neighbour is served");
        let len = loop {
            if let Some((head, _)) = Head::parse(&head).expect("a frame") {
                break usize::try_from(head.len).expect("a frame that fits");
            }
            let mut byte = [0];
            sender.read_exact(&mut byte).expect("the neighbour is served");
            head.extend(byte);
        };
        let at = got.len();
        got.resize(at + len, 0);
        sender.read_exact(&mut got[at..]).expect("the neighbour is served");
    }
    assert!(got == payload, "the neighbour gets back what it has sent");
}

fn relay(scratch: &Scratch) -> (Process, Place) {
    let words = ["--listen", "127.0.0.1:0", "--state-dir", &scratch.word("relay")];
    let words = [&words[..], &["--tls-self-signed", "localhost", "--log-level", "warn"]].concat();
    let relay = env!("CARGO_BIN_EXE_clusterconnect-relay");
    let (relay, place) = Process::start("relay", relay, &words, "relay listens on ");
    let address: SocketAddr =
        place.split(';').next().and_then(|it| it.parse().ok()).expect("an address");
    (relay, Place::new(address, &scratch.path("relay")))
}

fn an_agent_of_16_mib_lives_and_slows_down() -> Result<(), Absent> {
    let group = Group::new()?;
    let scratch = Scratch::new();
    let (_relay, place) = relay(&scratch);
    let entity = &place.entities(&scratch.path("relay"), 1)[0];

    let origin = Origin::start();
    let target = origin.address.to_string();
    let string = scratch.write("listen", &place.connection_string(entity));
    let tasks = group.0.join("cgroup.procs");
    let enter = format!("echo $$ >{} && exec \"$@\"", tasks.display());
    let ca = scratch.word("relay/ca.pem");
    let agent = env!("CARGO_BIN_EXE_clusterconnect-agent");
    let mut words = vec!["-c", &enter, "sh", agent, "--auth-proxy", &target, "-n", "edge-7"];
    words.extend(["--connection-string-file", &string, "--relay-ca", &ca, "--log-level", "warn"]);
    let own = scratch.word("agent");
    words.extend(["--state-dir", &own]);
    let (mut agent, _) = Process::start("agent", "/bin/sh", &words, "is connected to");

    let mut neighbour = place.sender(entity);
    neighbour.write_all(&message(b"E")).expect("the neighbour is open");
    let payload: Vec<u8> = (0..251).cycle().take(MESSAGE).collect();
    echo(&mut neighbour, &payload);

    let pushed = Arc::<AtomicUsize>::default();
    let writers: Vec<_> = (0..STALLED)
        .map(|_| {
            let (mut sender, pushed) = (place.sender(entity), Arc::clone(&pushed));
            thread::spawn(move || {
                sender.write_all(&message(b"S")).expect("the sender is open");
                let piece = message(&[b's'; MESSAGE]);
                for _ in 0..BULK / MESSAGE {
                    sender.write_all(&piece).expect("the sender stays open");
                    pushed.fetch_add(MESSAGE, Ordering::Relaxed);
                }
                sender
            })
        })
        .collect();
    // All that is between writers and readers fills up, until nothing moves for a hundred round
    // trips of their neighbour.
    let (mut before, mut at_rest) = (0, 0);
    while at_rest < 100 {
        echo(&mut neighbour, &payload);
        let now = pushed.load(Ordering::Relaxed);
        at_rest = if now == before { at_rest + 1 } else { 0 };
        before = now;
    }
    agent.assert_alive();
    assert!(LIMIT < before, "{before} bytes went in, which are less than the agent may hold");
    assert!(before < STALLED * (BULK - MESSAGE), "the writers wait for their readers");
    assert!(agent.peak_kib() * 1024 <= LIMIT, "{} KiB resident", agent.peak_kib());

    // They read on, and lose nothing.
    origin.gate.open();
    let held: Vec<Secure> = writers.into_iter().map(|it| it.join().expect("a writer")).collect();
    let all = STALLED * (BULK / MESSAGE) * MESSAGE;
    while origin.drunk.load(Ordering::Relaxed) < all {
        echo(&mut neighbour, &payload);
    }
    drop(held);
    agent.assert_alive();
    drop(agent);
    Ok(())
}

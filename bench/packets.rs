//! A line with loss: a network device whose packets are late, queue for their turn, and are dropped
//! now and then. The kernel's TCP is at both ends, so what is measured is what loss does to it.
//!
//! Every packet that is sent to [`FAR`] comes back from there: with its two addresses exchanged,
//! which leaves every checksum as it is. Whoever dials a port of `FAR` reaches that port of [`NEAR`].

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tun_tap::{Iface, Mode};

use crate::line::Kind;

/// The address on this machine.
pub(crate) const NEAR: &str = "10.213.77.1";
/// The address at the other end of the line.
pub(crate) const FAR: &str = "10.213.77.2";

/// What waits for its turn in front of the line, at least; a round trip's worth on longer lines.
const QUEUE: Duration = Duration::from_millis(50);

/// Where in an IPv4 header without options the addresses are, and the ports of TCP behind it.
const SOURCE: usize = 12;
const TARGET: usize = 16;
const PORTS: usize = 20;

/// A packet, and when it arrives.
type Late = (Instant, Vec<u8>);

/// The device, which is gone with its last thread at the end of the process.
pub(crate) struct Packets {
    state: Arc<Mutex<State>>,
}

struct State {
    kind: Kind,
    /// Packets lost in a thousand, each way.
    loss: u64,
    /// When each direction has sent what it was given.
    free: [Instant; 2],
    random: u64,
}

impl Packets {
    /// Brings the device up. `servers` are the ports that are dialled.
    ///
    /// # Errors
    ///
    /// Why there is none, for a note: no right to, no device, no `ip`.
    pub(crate) fn up(servers: &[u16]) -> Result<Self, String> {
        let iface = Iface::without_packet_info("ccbench%d", Mode::Tun)
            .map_err(|err| format!("no TUN device ({err})"))?;
        let address = format!("{NEAR}/30");
        ip(&["addr", "add", &address, "dev", iface.name()])?;
        ip(&["link", "set", iface.name(), "up", "mtu", "1500"])?;
        let now = Instant::now();
        let kind = Kind { mbits: 100_000, ms: 0 };
        let state = State { kind, loss: 0, free: [now, now], random: 0x9e37_79b9_7f4a_7c15 };
        let (iface, state) = (Arc::new(iface), Arc::new(Mutex::new(state)));
        let ends = [0, 1].map(|_| {
            let (enter, leave) = channel();
            let iface = Arc::clone(&iface);
            thread::spawn(move || deliver(&iface, &leave));
            enter
        });
        let (shared, servers) = (Arc::clone(&state), servers.iter().copied().collect());
        thread::spawn(move || enter(&iface, &shared, &servers, &ends));
        Ok(Self { state })
    }

    /// Is of another kind from now on.
    pub(crate) fn become_of(&self, kind: Kind, loss: u64) {
        let mut state = self.state.lock().expect("no thread panics");
        (state.kind, state.loss) = (kind, loss);
    }
}

impl State {
    /// When a packet arrives; `None` if it does not.
    fn arrival(&mut self, direction: usize, len: usize, now: Instant) -> Option<Instant> {
        let way = Duration::from_millis(self.kind.ms);
        let begins = self.free.get(direction).copied()?.max(now);
        let is_lost = self.below(1000) < self.loss;
        if is_lost || QUEUE.max(way) < begins - now {
            return None;
        }
        let through = begins + self.kind.time(len);
        *self.free.get_mut(direction)? = through;
        Some(through + way / 2)
    }

    /// Xorshift: the same losses in every run.
    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }
}

fn ip(words: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(words).output().map_err(|err| format!("no ip: {err}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("ip {}: {said}", words.join(" "))) }
}

/// Takes packets in and decides when they arrive.
fn enter(iface: &Iface, state: &Mutex<State>, servers: &BTreeSet<u16>, ends: &[Sender<Late>; 2]) {
    let mut buffer = vec![0; 2048];
    while let Ok(len) = iface.recv(&mut buffer) {
        let Some(packet) = buffer.get_mut(..len).filter(|it| is_tcp(it)) else { continue };
        let target = u16::from_be_bytes([packet[PORTS + 2], packet[PORTS + 3]]);
        let direction = usize::from(servers.contains(&target));
        let (head, rest) = packet.split_at_mut(TARGET);
        head[SOURCE..].swap_with_slice(&mut rest[..4]);
        let due = {
            let mut state = state.lock().expect("no thread panics");
            state.arrival(direction, len, Instant::now())
        };
        if let Some(due) = due
            && ends[direction].send((due, packet.to_vec())).is_err()
        {
            return;
        }
    }
}

/// IPv4 without options, TCP, and long enough to have ports.
fn is_tcp(packet: &[u8]) -> bool {
    PORTS + 4 <= packet.len() && packet[0] == 0x45 && packet[9] == 6
}

fn deliver(iface: &Iface, line: &Receiver<Late>) {
    for (due, packet) in line {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // A packet that the device does not take is lost.
        let _ = iface.send(&packet);
    }
}

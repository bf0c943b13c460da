#![allow(dead_code, unreachable_pub, reason = "each test uses its own part of this")]
//! A network of roles in one thread, under simulated time, from one seed.
//!
//! Every step flushes and delivers in pieces of random size and with random delay, so a seed is one
//! schedule. A failing test names its seed; the same seed gives the same run. There is no TLS here
//! between the processes: that is the reactor's. What roles encrypt themselves is real.

mod node;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use cluster_connect::buf::Slice;
use cluster_connect::role::{Close, ConnId, Endpoint, Event, Job, Notice, Outcome, Peer, Role};

use node::{Node, Piece, SimNet};

/// What the two kernels of a connection hold at most, per direction.
const IN_FLIGHT: usize = 64 * 1024;

/// Steps after which a run has no end.
const STEPS_MAX: u64 = 3_000_000;

/// Answers the jobs of a node.
pub type Clerk = Box<dyn FnMut(&Job, u64) -> Outcome>;

pub struct World {
    pub now: Instant,
    start: Instant,
    pub rng: Rng,
    nodes: Vec<Node>,
    steps: u64,
}

/// Seconds since 1970 when a world begins.
pub const EPOCH: u64 = 1_795_000_000;

impl World {
    pub fn new(seed: u64) -> Self {
        let now = Instant::now();
        Self { now, start: now, rng: Rng(seed), nodes: Vec::new(), steps: 0 }
    }

    /// Adds a node that others reach as `host`, on any port. Returns its number.
    pub fn add(&mut self, host: &str, role: impl Role + 'static, clerk: Clerk) -> usize {
        let net = SimNet::new(self.now, self.rng.next(), clerk);
        self.nodes.push(Node { host: host.into(), role: Box::new(role), net, up: true });
        let number = self.nodes.len() - 1;
        self.emit(number, Event::Started);
        number
    }

    /// Gives `event` to the role on node `node`, from outside.
    pub fn poke(&mut self, node: usize, event: Event) {
        self.emit(node, event);
    }

    /// Takes the process on `node` away and puts a new one in its place.
    pub fn replace(&mut self, node: usize, role: impl Role + 'static) {
        let ids: Vec<ConnId> = self.nodes[node].net.conns.keys().copied().collect();
        for id in ids {
            self.nodes[node].net.conns.remove(&id);
        }
        self.nodes[node].net.forget_jobs();
        self.nodes[node].role = Box::new(role);
        self.emit(node, Event::Started);
    }

    /// Whether others can connect to `node`.
    pub fn set_up(&mut self, node: usize, up: bool) {
        self.nodes[node].up = up;
    }

    /// Runs until nothing can happen before `limit` has passed.
    pub fn run_for(&mut self, limit: Duration) {
        let end = self.now + limit;
        while self.now < end {
            self.steps += 1;
            assert!(self.steps < STEPS_MAX, "no end after {STEPS_MAX} steps");
            if !self.step(end) {
                self.now = end;
            }
        }
    }

    /// Runs until `done`, for at most `limit` of simulated time. Returns whether it came to that.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit;
        while !done(self) {
            self.steps += 1;
            assert!(self.steps < STEPS_MAX, "no end after {STEPS_MAX} steps");
            if end <= self.now || !self.step(end) {
                return done(self);
            }
        }
        true
    }

    /// Takes at most `steps` steps.
    pub fn run_steps(&mut self, steps: u64) {
        let end = self.now + Duration::from_secs(3600);
        for _ in 0..steps {
            self.step(end);
        }
    }

    fn step(&mut self, end: Instant) -> bool {
        let mut progress = self.dial();
        progress |= self.flush();
        progress |= self.deliver();
        progress |= self.reap();
        progress |= self.do_jobs();
        progress |= self.wake_roles();
        progress || self.advance(end)
    }

    /// Breaks every connection of `node` that exists now, at both ends.
    pub fn break_conns(&mut self, node: usize) {
        for conn in self.nodes[node].net.conns.values_mut() {
            conn.inbound.push_back((self.now, Piece::Reset));
        }
    }

    /// Breaks one connection chosen by the seed, anywhere.
    pub fn break_one(&mut self) {
        let all = self.all();
        if all.is_empty() {
            return;
        }
        let (node, id) = all[self.rng.index(all.len())];
        if let Some(conn) = self.nodes[node].net.conns.get_mut(&id) {
            conn.inbound.clear();
            conn.inbound.push_back((self.now, Piece::Reset));
        }
    }

    /// Buffers not returned and connections not closed, on `node`.
    pub fn leftovers(&self, node: usize) -> (usize, usize) {
        let net = &self.nodes[node].net;
        (net.pool.leased(), net.conns.len())
    }

    /// What the role on `node` has told whoever runs it.
    pub fn notices(&self, node: usize) -> &[Notice] {
        &self.nodes[node].net.notices
    }

    /// The audit log of `node`.
    pub fn records(&self, node: usize) -> &[String] {
        &self.nodes[node].net.records
    }

    fn emit(&mut self, node: usize, event: Event) {
        let elapsed = (self.now - self.start).as_secs();
        let Node { role, net, .. } = &mut self.nodes[node];
        net.now = self.now;
        net.unix = EPOCH + elapsed;
        role.on_event(event, net);
    }

    fn dial(&mut self) -> bool {
        let mut progress = false;
        for node in 0..self.nodes.len() {
            for (conn, to) in std::mem::take(&mut self.nodes[node].net.dials) {
                progress = true;
                self.connect(node, conn, &to);
            }
        }
        progress
    }

    fn connect(&mut self, node: usize, conn: ConnId, to: &Endpoint) {
        let (target, tag, peer) = match to {
            Endpoint::Local(tag) => (Some(node), *tag, Peer::Local),
            Endpoint::Tcp { host, .. } => {
                let found = self.nodes.iter().position(|node| node.up && node.host == *host);
                let peer = Peer::Tcp(([192, 0, 2, 1], 40_000).into());
                (found, cluster_connect::role::ListenerTag::Main, peer)
            }
            Endpoint::Unix(_) => (None, cluster_connect::role::ListenerTag::Main, Peer::Local),
        };
        let Some(target) = target else {
            if self.nodes[node].net.conns.remove(&conn).is_some() {
                let why = Close::Refused("nobody listens there".into());
                self.emit(node, Event::Closed(conn, why));
            }
            return;
        };
        let accepted = self.nodes[target].net.add(Some((node, conn)));
        let Some(state) = self.nodes[node].net.conns.get_mut(&conn) else {
            self.nodes[target].net.conns.remove(&accepted);
            return;
        };
        state.peer = Some((target, accepted));
        self.emit(target, Event::Accepted(accepted, tag, peer));
        self.emit(node, Event::Connected(conn));
    }

    fn flush(&mut self) -> bool {
        let mut progress = false;
        for (node, id) in self.all() {
            let at = self.now + Duration::from_millis(self.rng.below(20));
            let most = self.rng.size(20_000);
            let Some(conn) = self.nodes[node].net.conns.get(&id) else { continue };
            let Some(peer) = conn.peer else { continue };
            if IN_FLIGHT <= self.in_flight(peer) {
                continue;
            }
            let Some(conn) = self.nodes[node].net.conns.get_mut(&id) else { continue };
            let piece: Option<Slice> = conn.outbox.take(most);
            let fin = piece.is_none() && conn.finishing && !conn.sent_fin;
            conn.sent_fin |= fin;
            match piece {
                Some(slice) => {
                    self.push(peer, at, Piece::Bytes(slice.to_vec().into()));
                    let len = slice.len();
                    drop(slice);
                    if !self.nodes[node].net.conns[&id].lingering {
                        self.emit(node, Event::Drained(id, len));
                    }
                    progress = true;
                }
                None if fin => {
                    self.push(peer, at, Piece::Fin);
                    progress = true;
                }
                None => (),
            }
        }
        progress
    }

    fn deliver(&mut self) -> bool {
        let mut progress = false;
        for (node, id) in self.all() {
            let want = self.rng.size(20_000);
            let Some(event) = self.nodes[node].net.receive(id, self.now, want) else { continue };
            progress = true;
            let lingering = self.nodes[node].net.conns.get(&id).is_none_or(|conn| conn.lingering);
            if let Event::Closed(..) = event {
                self.nodes[node].net.conns.remove(&id);
            }
            if !lingering {
                self.emit(node, event);
            }
        }
        progress
    }

    fn reap(&mut self) -> bool {
        let mut progress = false;
        for (node, id) in self.all() {
            let Some(conn) = self.nodes[node].net.conns.get(&id) else { continue };
            let orphan = conn.peer.is_some_and(|(n, c)| !self.nodes[n].net.conns.contains_key(&c));
            let why = if conn.sent_fin && (conn.got_fin || conn.lingering) {
                Close::Clean
            } else if orphan && conn.inbound.is_empty() && !conn.got_fin {
                Close::Reset
            } else if orphan && conn.got_fin && conn.lingering {
                Close::Clean
            } else {
                continue;
            };
            let told = conn.lingering;
            self.nodes[node].net.conns.remove(&id);
            if !told {
                self.emit(node, Event::Closed(id, why));
            }
            progress = true;
        }
        progress
    }

    fn do_jobs(&mut self) -> bool {
        let mut progress = false;
        for node in 0..self.nodes.len() {
            let elapsed = (self.now - self.start).as_secs();
            while let Some((id, job)) = self.nodes[node].net.take_job(self.now) {
                let outcome = (self.nodes[node].net.clerk)(&job, EPOCH + elapsed);
                self.emit(node, Event::Done(id, outcome));
                progress = true;
            }
        }
        progress
    }

    fn wake_roles(&mut self) -> bool {
        let mut progress = false;
        for node in 0..self.nodes.len() {
            if self.nodes[node].role.deadline().is_some_and(|at| at <= self.now) {
                self.emit(node, Event::Deadline);
                progress = true;
            }
        }
        progress
    }

    fn advance(&mut self, end: Instant) -> bool {
        let conns = self.nodes.iter().flat_map(|node| node.net.conns.values());
        let arrivals = conns.filter_map(|conn| conn.next_arrival());
        let jobs = self.nodes.iter().filter_map(|node| node.net.next_job());
        let wishes = self.nodes.iter().filter_map(|node| node.role.deadline());
        let next = arrivals.chain(jobs).chain(wishes).filter(|at| self.now < *at).min();
        match next {
            Some(at) if at < end => {
                self.now = at;
                true
            }
            _ => false,
        }
    }

    fn all(&self) -> Vec<(usize, ConnId)> {
        let nodes = self.nodes.iter().enumerate();
        nodes.flat_map(|(n, node)| node.net.conns.keys().map(move |id| (n, *id))).collect()
    }

    fn in_flight(&self, (node, id): (usize, ConnId)) -> usize {
        let Some(conn) = self.nodes[node].net.conns.get(&id) else { return 0 };
        conn.inbound.iter().map(|(_, piece)| piece.len()).sum()
    }

    fn push(&mut self, (node, id): (usize, ConnId), at: Instant, piece: Piece) {
        let Some(conn) = self.nodes[node].net.conns.get_mut(&id) else { return };
        let at = conn.inbound.back().map_or(at, |(last, _)| at.max(*last));
        conn.inbound.push_back((at, piece));
    }
}

/// A clerk for roles that ask for nothing.
pub fn no_jobs() -> Clerk {
    Box::new(|job, _| panic!("an unexpected job: {job:?}"))
}

/// `SplitMix64`: small, seedable, good enough to choose schedules.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Below `len`.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below len")
    }

    /// From 1 to `max`, small ones as likely as large ones.
    pub fn size(&mut self, max: u64) -> usize {
        let bits = 64 - max.leading_zeros();
        let most = max.min(1 << self.below(u64::from(bits) + 1));
        1 + self.index(usize::try_from(most).expect("small"))
    }
}

pub type Bytes = VecDeque<u8>;

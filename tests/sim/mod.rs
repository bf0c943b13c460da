#![allow(dead_code, unreachable_pub, reason = "each test uses its own part of this")]
//! A network of roles in one thread, under simulated time, from one seed.
//!
//! Every step flushes and delivers in pieces of random size and with random delay, so a seed is one
//! schedule. A failing test names its seed; the same seed gives the same run. There is no TLS here
//! between the processes: that is the reactor's. What roles encrypt themselves is real.

pub mod courier;
pub mod http;
mod loops;
mod node;
mod straight;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use cluster_connect::role::{
    Close, ConnId, Endpoint, Event, HttpAnswer, HttpCall, Job, Letter, ListenerTag, Notice,
    Outcome, Peer, Role, Signal,
};

use courier::{Courier, Errands, Sender};
use node::{Node, Piece, SimNet};

/// What the two kernels of a connection hold at most, per direction.
const IN_FLIGHT: usize = 64 * 1024;

/// Steps after which a run has no end.
const STEPS_MAX: u64 = 3_000_000;

/// Deadlines in a row, without time passing, after which a role is taken to spin.
const SPINS_MAX: u32 = 50;

/// Connections that one node may have: their ids are nobody else's.
const IDS: u64 = 1 << 32;

/// Answers the jobs of a node. `None` leaves an HTTP call to the courier, who takes it to the node
/// that its URL names.
pub type Clerk = Box<dyn FnMut(&Job, u64) -> Option<Outcome>>;

pub struct World {
    pub now: Instant,
    start: Instant,
    pub rng: Rng,
    nodes: Vec<Node>,
    /// What loops have sent each other: when it is there, from, to.
    mail: Vec<(Instant, usize, usize, Letter)>,
    errands: Rc<RefCell<Errands>>,
    courier: Option<usize>,
    steps: u64,
    /// Nothing is held up or cut any more: each step carries so many bytes of each connection one
    /// hop further, and no time passes on the way.
    straight: Option<usize>,
}

/// Seconds since 1970 when a world begins.
pub const EPOCH: u64 = 1_795_000_000;

impl World {
    pub fn new(seed: u64) -> Self {
        let now = Instant::now();
        let errands = Rc::default();
        Self {
            now,
            start: now,
            rng: Rng(seed),
            nodes: Vec::new(),
            mail: Vec::new(),
            errands,
            courier: None,
            steps: 0,
            straight: None,
        }
    }

    /// Adds a node that others reach as `host`, on any port. Returns its number.
    pub fn add(&mut self, host: &str, role: impl Role + 'static, clerk: Clerk) -> usize {
        let net = SimNet::new(self.now, self.rng.next(), self.nodes.len() as u64 * IDS + 1, clerk);
        self.nodes.push(Node::new(host, Box::new(role), net));
        let number = self.nodes.len() - 1;
        self.emit(number, Event::Started);
        number
    }

    /// Adds the node that takes HTTP calls where they belong.
    pub fn add_courier(&mut self) {
        let errands = Rc::clone(&self.errands);
        self.courier = Some(self.add("", Courier::new(errands), no_jobs()));
    }

    /// Gives `event` to the role on node `node`, from outside.
    pub fn poke(&mut self, node: usize, event: Event) {
        self.emit(node, event);
    }

    /// Makes an HTTP call from outside, and runs until there is an answer.
    pub fn call(&mut self, call: HttpCall) -> Result<HttpAnswer, String> {
        self.send_off(Sender::Test, call);
        let errands = Rc::clone(&self.errands);
        let limit = Duration::from_secs(60);
        assert!(self.run_until(limit, |_| errands.borrow().has_answer_for_test()), "no answer");
        let answer = self.errands.borrow_mut().take_for_test();
        answer.expect("there is one")
    }

    /// Kills the process on `node` and puts a new one in its place. Its peers find out one by one.
    pub fn replace(&mut self, node: usize, role: impl Role + 'static) {
        for (_, conn) in std::mem::take(&mut self.nodes[node].net.conns) {
            let Some(peer) = conn.peer else { continue };
            // The kernel of a dead process says FIN, or RST if there was something unread.
            if self.rng.below(2) == 0 {
                self.push(peer, self.now, Piece::Fin);
            } else {
                self.reset(peer);
            }
        }
        self.nodes[node].begin_anew(Box::new(role));
        self.mail.retain(|(_, from, to, _)| *from != node && *to != node);
        self.emit(node, Event::Started);
    }

    /// Whether others can connect to `node`.
    pub fn set_up(&mut self, node: usize, up: bool) {
        self.nodes[node].up = up;
    }

    /// Runs until `limit` has passed.
    pub fn run_for(&mut self, limit: Duration) {
        let end = self.now + limit;
        while self.now < end {
            if !self.step(end) {
                self.now = end;
            }
        }
    }

    /// Runs until `done`, for at most `limit` of simulated time. Returns whether it came to that.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit;
        while !done(self) {
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
        self.steps += 1;
        assert!(self.steps < STEPS_MAX, "no end after {STEPS_MAX} steps");
        let mut progress = self.dial();
        progress |= self.deliver_letters();
        progress |= self.flush();
        progress |= self.deliver();
        progress |= self.reap();
        progress |= self.do_jobs();
        progress |= self.wake_roles();
        progress || self.advance(end)
    }

    /// Breaks every connection of `node` that exists now, at both ends.
    pub fn break_conns(&mut self, node: usize) {
        let ids: Vec<ConnId> = self.nodes[node].net.conns.keys().copied().collect();
        for id in ids {
            self.reset((node, id));
        }
    }

    /// Breaks one connection chosen by the seed, anywhere.
    pub fn break_one(&mut self) {
        let all = self.all();
        if !all.is_empty() {
            let unlucky = all[self.rng.index(all.len())];
            self.reset(unlucky);
        }
    }

    /// Buffers not returned and connections not closed, on `node`.
    pub fn leftovers(&self, node: usize) -> (usize, usize) {
        let net = &self.nodes[node].net;
        (net.pool.leased(), net.conns.len())
    }

    /// The most buffers that `node` ever had out at the end of an event.
    pub fn peak(&self, node: usize) -> usize {
        self.nodes[node].peak
    }

    /// What the process on `node` has told whoever runs it.
    pub fn notices(&self, node: usize) -> &[Notice] {
        &self.nodes[node].net.notices
    }

    /// Whether the process on `node` has said that it is ready.
    pub fn is_ready(&self, node: usize) -> bool {
        self.notices(node).iter().any(|notice| matches!(notice, Notice::Ready))
    }

    /// The audit log of `node`.
    pub fn records(&self, node: usize) -> &[String] {
        &self.nodes[node].net.records
    }

    pub fn unix(&self) -> u64 {
        EPOCH + (self.now - self.start).as_secs()
    }

    fn emit(&mut self, number: usize, event: Event) {
        let unix = self.unix();
        let node = &mut self.nodes[number];
        (node.net.now, node.net.unix) = (self.now, unix);
        node.role.on_event(event, &mut node.net);
        node.peak = node.peak.max(node.net.pool.leased());
        let letters = std::mem::take(&mut node.net.letters);
        for peer in std::mem::take(&mut node.net.resets) {
            self.reset(peer);
        }
        for posted in letters {
            self.send_letter(number, posted);
        }
    }

    /// The kernel of the connection hears of a reset, after a while.
    fn reset(&mut self, (node, id): (usize, ConnId)) {
        let at = self.now + Duration::from_millis(self.rng.below(20));
        if let Some(conn) = self.nodes[node].net.conns.get_mut(&id) {
            conn.reset_at = Some(conn.reset_at.map_or(at, |before| before.min(at)));
        }
    }

    fn send_off(&mut self, sender: Sender, call: HttpCall) {
        self.errands.borrow_mut().asked.push_back((sender, call));
        let courier = self.courier.expect("somebody makes a call, so there is a courier");
        self.emit(courier, Event::Signal(Signal::Reload));
    }

    fn dial(&mut self) -> bool {
        let mut progress = false;
        for node in 0..self.nodes.len() {
            for (conn, to) in std::mem::take(&mut self.nodes[node].net.dials) {
                let is_near = self.straight.is_some() || matches!(to, Endpoint::Local(_));
                let wait = if is_near { 0 } else { self.rng.below(40) };
                let at = self.now + Duration::from_millis(wait);
                self.nodes[node].dialling.push((at, conn, to));
            }
            let due = |(at, ..): &mut (Instant, ConnId, Endpoint)| *at <= self.now;
            let due: Vec<_> = self.nodes[node].dialling.extract_if(.., due).collect();
            for (_, conn, to) in due {
                progress = true;
                self.connect(node, conn, &to);
            }
        }
        progress
    }

    fn connect(&mut self, node: usize, conn: ConnId, to: &Endpoint) {
        if !self.nodes[node].net.conns.contains_key(&conn) {
            return;
        }
        let (target, tag, peer) = match to {
            Endpoint::Local(tag) => (Some(node), *tag, Peer::Local),
            Endpoint::Tcp { host, .. } => {
                let found = self.nodes.iter().position(|node| node.up && node.host == *host);
                let peer = Peer::Tcp(([192, 0, 2, 1], 40_000).into());
                (found, ListenerTag::Main, peer)
            }
            Endpoint::Unix(_) => (None, ListenerTag::Main, Peer::Local),
        };
        let Some(target) = target else {
            self.nodes[node].net.conns.remove(&conn);
            let why = Close::Refused("nobody listens there".into());
            return self.emit(node, Event::Closed(conn, why));
        };
        let accepted = self.nodes[target].net.add(Some((node, conn)));
        if let Some(state) = self.nodes[node].net.conns.get_mut(&conn) {
            state.peer = Some((target, accepted));
        }
        self.emit(target, Event::Accepted(accepted, tag, peer));
        if self.nodes[node].net.conns.contains_key(&conn) {
            self.emit(node, Event::Connected(conn));
        }
    }

    fn flush(&mut self) -> bool {
        let mut progress = false;
        for (node, id) in self.all() {
            let at = self.now + self.delay(node);
            let most = self.portion();
            let Some(conn) = self.nodes[node].net.conns.get(&id) else { continue };
            let Some(peer) = conn.peer else { continue };
            if IN_FLIGHT <= self.in_flight(peer) {
                continue;
            }
            let is_heard = self.nodes[peer.0].net.conns.contains_key(&peer.1);
            let Some(conn) = self.nodes[node].net.conns.get_mut(&id) else { continue };
            if let Some(slice) = conn.outbox.take(most) {
                let is_lingering = conn.linger.is_some();
                let mut bytes = slice.to_vec();
                drop(slice);
                // As the real loop does, which gathers what is queued.
                while self.straight.is_some() && bytes.len() < most {
                    let Some(more) = conn.outbox.take(most - bytes.len()) else { break };
                    bytes.extend_from_slice(&more);
                }
                progress = true;
                let len = bytes.len();
                if is_heard {
                    self.push(peer, at, Piece::Bytes(bytes.into()));
                } else {
                    self.reset((node, id));
                }
                if !is_lingering {
                    self.emit(node, Event::Drained(id, len));
                }
            } else if conn.finishing && !conn.sent_fin {
                conn.sent_fin = true;
                progress = true;
                self.push(peer, at, Piece::Fin);
            }
        }
        progress
    }

    fn deliver(&mut self) -> bool {
        let mut progress = false;
        for (node, id) in self.all() {
            let want = self.portion();
            let Some(event) = self.nodes[node].net.receive(id, self.now, want) else { continue };
            progress = true;
            let conn = self.nodes[node].net.conns.get(&id);
            if conn.is_some_and(|conn| conn.linger.is_none()) {
                self.emit(node, event);
            }
        }
        progress
    }

    /// Takes away connections that have ended.
    fn reap(&mut self) -> bool {
        let mut progress = false;
        for (node, id) in self.all() {
            let Some(conn) = self.nodes[node].net.conns.get(&id) else { continue };
            let why = if conn.reset_at.is_some_and(|at| at <= self.now)
                || conn.linger.is_some_and(|until| until <= self.now)
            {
                Close::Reset
            } else if conn.sent_fin && conn.got_fin {
                Close::Clean
            } else {
                continue;
            };
            progress = true;
            let Some(conn) = self.nodes[node].net.conns.remove(&id) else { continue };
            if let Some(peer) = conn.peer.filter(|_| why == Close::Reset) {
                self.reset(peer);
            }
            let is_known = conn.linger.is_none();
            drop(conn);
            if is_known {
                self.emit(node, Event::Closed(id, why));
            }
        }
        progress
    }

    fn do_jobs(&mut self) -> bool {
        let mut progress = false;
        let unix = self.unix();
        for node in 0..self.nodes.len() {
            while let Some((id, job)) = self.nodes[node].net.take_job(self.now) {
                progress = true;
                match ((self.nodes[node].net.clerk)(&job, unix), job) {
                    (Some(outcome), _) => self.emit(node, Event::Done(id, outcome)),
                    (None, Job::Http(call)) => {
                        let process = self.nodes[node].process;
                        self.send_off(Sender::Node { node, process, job: id }, call);
                    }
                    (None, job) => panic!("only calls are for the courier: {job:?}"),
                }
            }
        }
        while let Some((node, process, job, answer)) = self.take_answer() {
            progress = true;
            if self.nodes[node].process == process {
                self.emit(node, Event::Done(job, Outcome::Http(answer)));
            }
        }
        progress
    }

    fn take_answer(&mut self) -> Option<courier::Delivery> {
        self.errands.borrow_mut().take_for_node()
    }

    /// A role whose deadline stays in the past would make the real loop spin.
    fn wake_roles(&mut self) -> bool {
        let mut progress = false;
        for number in 0..self.nodes.len() {
            let due = |node: &Node, now| node.role.deadline().is_some_and(|at| at <= now);
            if due(&self.nodes[number], self.now) {
                self.emit(number, Event::Deadline);
                progress = true;
            }
            let node = &mut self.nodes[number];
            let is_spinning = due(node, self.now) && node.woken == self.now;
            node.spins = if is_spinning { node.spins + 1 } else { 0 };
            node.woken = self.now;
            assert!(node.spins < SPINS_MAX, "{}: the deadline stays in the past", node.host);
        }
        progress
    }

    fn advance(&mut self, end: Instant) -> bool {
        let conns = self.nodes.iter().flat_map(|node| node.net.conns.values());
        let arrivals = conns.flat_map(|conn| conn.next_events());
        let jobs = self.nodes.iter().filter_map(|node| node.net.next_job());
        let wishes = self.nodes.iter().filter_map(|node| node.role.deadline());
        let dials = self.nodes.iter().flat_map(|node| node.dialling.iter().map(|(at, ..)| *at));
        let letters = self.mail.iter().map(|(at, ..)| *at);
        let all = arrivals.chain(jobs).chain(wishes).chain(dials).chain(letters);
        match all.filter(|at| self.now < *at).min() {
            Some(at) if at < end => {
                self.now = at;
                true
            }
            _ => false,
        }
    }

    fn all(&self) -> Vec<(usize, ConnId)> {
        let nodes = self.nodes.iter().enumerate();
        let here = nodes.flat_map(|(n, node)| node.net.conns.iter().map(move |conn| (n, conn)));
        here.filter(|(_, (_, conn))| !conn.is_travelling).map(|(n, (id, _))| (n, *id)).collect()
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
#[derive(Clone)]
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

    /// Bytes that do not repeat.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(len);
        bytes
    }
}

pub type Bytes = VecDeque<u8>;

//! A `Net` that records what a role does, and a clock that only the test moves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cluster_connect::buf::{Lease, Outbox, Pool, Pressure, Slice};
use cluster_connect::limits::BUFFER_SIZE;
use cluster_connect::role::{
    Busy, Close, ConnId, Endpoint, Event, Job, JobId, ListenerTag, Net, Notice, Outcome, Peer,
    Role, Unrecorded,
};

/// How a connection was ended by the role.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    Closed,
    Aborted,
}

pub(crate) struct Script {
    now: Instant,
    pub(crate) unix: u64,
    seed: u64,
    pool: Pool,
    pub(crate) out: BTreeMap<ConnId, Vec<u8>>,
    pub(crate) full: BTreeSet<ConnId>,
    /// What is sent to these waits here until the test takes it, as it does in a process.
    pub(crate) outboxes: BTreeMap<ConnId, Outbox>,
    pub(crate) paused: BTreeSet<ConnId>,
    pub(crate) finished: BTreeSet<ConnId>,
    pub(crate) fates: BTreeMap<ConnId, Fate>,
    pub(crate) connects: Vec<(ConnId, Endpoint)>,
    pub(crate) jobs: Vec<(JobId, Job)>,
    pub(crate) notices: Vec<Notice>,
    next: u64,
}

impl Script {
    pub(crate) fn new() -> Self {
        Self {
            now: Instant::now(),
            unix: 1_795_463_640,
            seed: 1,
            pool: Pool::new(64, 64, BUFFER_SIZE),
            out: BTreeMap::new(),
            full: BTreeSet::new(),
            outboxes: BTreeMap::new(),
            paused: BTreeSet::new(),
            finished: BTreeSet::new(),
            fates: BTreeMap::new(),
            connects: Vec::new(),
            jobs: Vec::new(),
            notices: Vec::new(),
            next: 1,
        }
    }

    pub(crate) fn leased(&self) -> usize {
        self.pool.leased()
    }

    /// Takes buffers until `left` are left.
    pub(crate) fn lease_all_but(&self, left: usize) -> Vec<Lease> {
        (left..self.pool.available()).filter_map(|_| self.pool.lease()).collect()
    }

    fn conn(&mut self) -> ConnId {
        self.next += 1;
        self.out.insert(ConnId(self.next), Vec::new());
        ConnId(self.next)
    }
}

impl Net for Script {
    fn now(&self) -> Instant {
        self.now
    }

    fn unix_time(&self) -> u64 {
        self.unix
    }

    fn random(&mut self, into: &mut [u8]) {
        for byte in into {
            self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = u8::try_from(self.seed >> 56).unwrap();
        }
    }

    fn connect(&mut self, to: &Endpoint) -> Option<ConnId> {
        let conn = self.conn();
        self.connects.push((conn, to.clone()));
        Some(conn)
    }

    fn send(&mut self, conn: ConnId, data: Slice) -> Pressure {
        assert!(!self.finished.contains(&conn), "sent after finish");
        if let Some(outbox) = self.outboxes.get_mut(&conn) {
            return outbox.push(data);
        }
        if !self.fates.contains_key(&conn)
            && let Some(out) = self.out.get_mut(&conn)
        {
            out.extend_from_slice(&data);
        }
        self.pressure(conn)
    }

    fn pressure(&self, conn: ConnId) -> Pressure {
        match self.outboxes.get(&conn) {
            Some(outbox) => outbox.pressure(),
            None if self.full.contains(&conn) => Pressure::Full,
            None => Pressure::Open,
        }
    }

    fn pause(&mut self, conn: ConnId) {
        self.paused.insert(conn);
    }

    fn resume(&mut self, conn: ConnId) {
        self.paused.remove(&conn);
    }

    fn finish(&mut self, conn: ConnId) {
        self.finished.insert(conn);
    }

    fn close(&mut self, conn: ConnId) {
        self.fates.entry(conn).or_insert(Fate::Closed);
    }

    fn abort(&mut self, conn: ConnId) {
        self.fates.entry(conn).or_insert(Fate::Aborted);
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn submit(&mut self, job: Job) -> Result<JobId, Busy> {
        self.next += 1;
        let id = JobId(self.next);
        self.jobs.push((id, job));
        Ok(id)
    }

    fn record(&mut self, _: &str) -> Result<(), Unrecorded> {
        Ok(())
    }

    fn tell(&mut self, notice: Notice) {
        self.notices.push(notice);
    }
}

/// A role and its recorded world.
pub(crate) struct Stage<R> {
    pub(crate) role: R,
    pub(crate) net: Script,
}

impl<R: Role> Stage<R> {
    pub(crate) fn new(role: R) -> Self {
        let mut stage = Self { role, net: Script::new() };
        stage.event(Event::Started);
        stage
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.role.on_event(event, &mut self.net);
    }

    /// A new connection to the listener for operators.
    pub(crate) fn visitor(&mut self) -> ConnId {
        let conn = self.net.conn();
        self.event(Event::Accepted(conn, ListenerTag::Admin, Peer::Local));
        conn
    }

    /// A new connection from `address`.
    pub(crate) fn accept_from(&mut self, address: &str) -> ConnId {
        let conn = self.net.conn();
        let peer = Peer::Tcp(address.parse().unwrap());
        self.event(Event::Accepted(conn, ListenerTag::Main, peer));
        conn
    }

    pub(crate) fn accept(&mut self) -> ConnId {
        self.accept_from("203.0.113.7:50123")
    }

    /// `bytes` arrive on `conn`.
    pub(crate) fn data(&mut self, conn: ConnId, bytes: &[u8]) {
        for piece in bytes.chunks(BUFFER_SIZE) {
            let mut lease = self.net.pool.lease().unwrap();
            lease.fill(piece);
            self.event(Event::Data(conn, lease));
        }
    }

    pub(crate) fn finished(&mut self, conn: ConnId) {
        self.event(Event::Finished(conn));
    }

    pub(crate) fn closed(&mut self, conn: ConnId, why: Close) {
        self.event(Event::Closed(conn, why));
    }

    pub(crate) fn drained(&mut self, conn: ConnId, count: usize) {
        self.event(Event::Drained(conn, count));
    }

    pub(crate) fn done(&mut self, job: JobId, outcome: Outcome) {
        self.event(Event::Done(job, outcome));
    }

    /// What the role has sent to `conn` since the last call.
    pub(crate) fn take(&mut self, conn: ConnId) -> Vec<u8> {
        std::mem::take(self.net.out.get_mut(&conn).unwrap())
    }

    pub(crate) fn take_text(&mut self, conn: ConnId) -> String {
        self.take(conn).into_iter().map(char::from).collect()
    }

    pub(crate) fn fate(&self, conn: ConnId) -> Option<Fate> {
        self.net.fates.get(&conn).copied()
    }

    /// Lets time pass, one deadline after another.
    pub(crate) fn pass(&mut self, seconds: u64) {
        self.pass_for(Duration::from_secs(seconds));
    }

    /// The same, of less than a second, too.
    pub(crate) fn pass_for(&mut self, time: Duration) {
        let start = self.net.now;
        let unix = self.net.unix;
        let end = start + time;
        while let Some(at) = self.role.deadline().filter(|&at| at <= end) {
            self.net.now = self.net.now.max(at);
            self.net.unix = unix + self.net.now.duration_since(start).as_secs();
            self.event(Event::Deadline);
            let next = self.role.deadline();
            assert!(next.is_none_or(|next| next > self.net.now), "a deadline that is not kept");
        }
        self.net.now = end;
        self.net.unix = unix + time.as_secs();
    }
}

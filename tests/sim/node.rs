//! One simulated process: its role, and the network as its role sees it.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use cluster_connect::buf::{Lease, Outbox, Pool, Pressure, Slice};
use cluster_connect::limits::{CONN_OUTBOX, LINGER};
use cluster_connect::role::{
    Busy, ConnId, Endpoint, Event, Job, JobId, Letter, LoopId, Net, Notice, Role, Unrecorded,
};

use super::{Bytes, Clerk, Rng};

/// Unless a test wants otherwise.
const LAG: u64 = 20;

pub(super) struct Node {
    pub(super) host: String,
    pub(super) role: Box<dyn Role>,
    pub(super) net: SimNet,
    pub(super) up: bool,
    /// Counts the processes that have been on this node.
    pub(super) process: u64,
    /// Connections on their way, and when they are made.
    pub(super) dialling: Vec<(Instant, ConnId, Endpoint)>,
    /// Milliseconds that what it sends takes, at most.
    pub(super) lag: u64,
    pub(super) peak: usize,
    /// Deadlines in a row that moved nothing.
    pub(super) spins: u32,
    pub(super) woken: Instant,
    /// The nodes that are loops of this one's process, itself first. Empty where it is alone.
    pub(super) loops: Vec<usize>,
}

impl Node {
    pub(super) fn new(host: &str, role: Box<dyn Role>, net: SimNet) -> Self {
        let (dialling, woken) = (Vec::new(), net.now);
        let host = host.to_owned();
        Self {
            host,
            role,
            net,
            up: true,
            process: 0,
            dialling,
            lag: LAG,
            peak: 0,
            spins: 0,
            woken,
            loops: Vec::new(),
        }
    }

    /// Another process; nothing is left of the one before.
    pub(super) fn begin_anew(&mut self, role: Box<dyn Role>) {
        self.role = role;
        self.process += 1;
        self.dialling.clear();
        self.net.begin_anew();
        assert_eq!(self.net.pool.leased(), 0, "buffers outlived their process");
    }
}

pub(super) struct SimNet {
    pub(super) now: Instant,
    pub(super) unix: u64,
    pub(super) pool: Pool,
    pub(super) conns: BTreeMap<ConnId, SimConn>,
    pub(super) dials: Vec<(ConnId, Endpoint)>,
    jobs: VecDeque<(Instant, JobId, Job)>,
    pub(super) clerk: Clerk,
    pub(super) notices: Vec<Notice>,
    pub(super) records: Vec<String>,
    /// Ends of connections that were dropped here.
    pub(super) resets: Vec<(usize, ConnId)>,
    /// Letters to other loops of the process, and the connections that go with them.
    pub(super) letters: Vec<Posted>,
    rng: Rng,
    next_id: u64,
}

/// A letter to another loop, and what goes with it.
pub(super) struct Posted {
    pub(super) to: LoopId,
    pub(super) letter: Letter,
    pub(super) conns: Vec<(ConnId, SimConn)>,
}

pub(super) struct SimConn {
    pub(super) outbox: Outbox,
    pub(super) inbound: VecDeque<(Instant, Piece)>,
    /// Node and connection at the other end, once there is one.
    pub(super) peer: Option<(usize, ConnId)>,
    pub(super) paused: bool,
    pub(super) finishing: bool,
    /// The role has closed it: what is queued still goes out until then, and what comes is dropped.
    pub(super) linger: Option<Instant>,
    pub(super) sent_fin: bool,
    pub(super) got_fin: bool,
    /// When it breaks, whatever is still on its way.
    pub(super) reset_at: Option<Instant>,
    /// Its letter has not been read yet on the loop that it goes to.
    pub(super) is_travelling: bool,
}

pub(super) enum Piece {
    Bytes(Bytes),
    Fin,
}

impl Piece {
    pub(super) fn len(&self) -> usize {
        if let Self::Bytes(bytes) = self { bytes.len() } else { 0 }
    }
}

impl SimConn {
    /// When something will come in, unless the role does not want it.
    fn next_arrival(&self) -> Option<Instant> {
        let (at, _) = self.inbound.front()?;
        (!self.paused || self.linger.is_some()).then_some(*at)
    }

    /// When anything will happen to it.
    pub(super) fn next_events(&self) -> impl Iterator<Item = Instant> {
        [self.next_arrival(), self.linger, self.reset_at].into_iter().flatten()
    }
}

impl SimNet {
    pub(super) fn new(now: Instant, seed: u64, first_id: u64, clerk: Clerk) -> Self {
        Self {
            now,
            unix: super::EPOCH,
            pool: Pool::new(256, 16, 32 * 1024),
            conns: BTreeMap::new(),
            dials: Vec::new(),
            jobs: VecDeque::new(),
            clerk,
            notices: Vec::new(),
            records: Vec::new(),
            resets: Vec::new(),
            letters: Vec::new(),
            rng: Rng(seed),
            next_id: first_id,
        }
    }

    fn begin_anew(&mut self) {
        self.conns.clear();
        self.dials.clear();
        self.jobs.clear();
        self.notices.clear();
        self.resets.clear();
        self.letters.clear();
    }

    /// Takes in a connection of another loop, whose buffers stay there.
    pub(super) fn adopt(&mut self, id: ConnId, mut conn: SimConn) {
        let mut outbox = Outbox::new(CONN_OUTBOX);
        while let Some(slice) = conn.outbox.take(usize::MAX) {
            for slice in self.pool.slices(&slice) {
                let _ = outbox.push(slice);
            }
        }
        conn.outbox = outbox;
        conn.is_travelling = true;
        self.conns.insert(id, conn);
    }

    pub(super) fn add(&mut self, peer: Option<(usize, ConnId)>) -> ConnId {
        let id = ConnId(self.next_id);
        self.next_id += 1;
        let conn = SimConn {
            outbox: Outbox::new(CONN_OUTBOX),
            inbound: VecDeque::new(),
            peer,
            paused: false,
            finishing: false,
            linger: None,
            sent_fin: false,
            got_fin: false,
            reset_at: None,
            is_travelling: false,
        };
        self.conns.insert(id, conn);
        id
    }

    /// The letter that `id` came with has been read.
    pub(super) fn arrive(&mut self, id: ConnId) {
        self.conns.entry(id).and_modify(|conn| conn.is_travelling = false);
    }

    pub(super) fn receive(&mut self, id: ConnId, now: Instant, want: usize) -> Option<Event> {
        let conn = self.conns.get_mut(&id)?;
        if conn.next_arrival().is_none_or(|at| now < at) {
            return None;
        }
        let (_, piece) = conn.inbound.front_mut()?;
        match piece {
            Piece::Bytes(bytes) => {
                let mut lease: Lease = self.pool.lease()?;
                let take = want.min(bytes.len()).min(lease.spare());
                let front: Vec<u8> = bytes.drain(..take).collect();
                lease.fill(&front);
                if bytes.is_empty() {
                    conn.inbound.pop_front();
                }
                Some(Event::Data(id, lease))
            }
            Piece::Fin => {
                conn.inbound.pop_front();
                conn.got_fin = true;
                Some(Event::Finished(id))
            }
        }
    }

    pub(super) fn take_job(&mut self, now: Instant) -> Option<(JobId, Job)> {
        if self.jobs.front()?.0 > now {
            return None;
        }
        self.jobs.pop_front().map(|(_, id, job)| (id, job))
    }

    pub(super) fn next_job(&self) -> Option<Instant> {
        self.jobs.front().map(|(at, ..)| *at)
    }
}

impl Net for SimNet {
    fn now(&self) -> Instant {
        self.now
    }

    fn unix_time(&self) -> u64 {
        self.unix
    }

    fn random(&mut self, into: &mut [u8]) {
        for chunk in into.chunks_mut(8) {
            let bytes = self.rng.next().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }

    fn connect(&mut self, to: &Endpoint) -> Option<ConnId> {
        let id = self.add(None);
        self.dials.push((id, to.clone()));
        Some(id)
    }

    fn send(&mut self, conn: ConnId, data: Slice) -> Pressure {
        self.conns.get_mut(&conn).map_or(Pressure::Open, |state| state.outbox.push(data))
    }

    fn pressure(&self, conn: ConnId) -> Pressure {
        self.conns.get(&conn).map_or(Pressure::Open, |state| state.outbox.pressure())
    }

    fn pause(&mut self, conn: ConnId) {
        self.conns.entry(conn).and_modify(|state| state.paused = true);
    }

    fn resume(&mut self, conn: ConnId) {
        self.conns.entry(conn).and_modify(|state| state.paused = false);
    }

    fn finish(&mut self, conn: ConnId) {
        self.conns.entry(conn).and_modify(|state| state.finishing = true);
    }

    fn close(&mut self, conn: ConnId) {
        let Some(state) = self.conns.get_mut(&conn) else { return };
        if state.peer.is_none() {
            self.conns.remove(&conn);
            return;
        }
        state.finishing = true;
        state.linger = Some(self.now + LINGER);
    }

    fn abort(&mut self, conn: ConnId) {
        self.resets.extend(self.conns.remove(&conn).and_then(|state| state.peer));
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn submit(&mut self, job: Job) -> Result<JobId, Busy> {
        let id = JobId(self.next_id);
        self.next_id += 1;
        let last = self.jobs.back().map_or(self.now, |(at, ..)| *at);
        let at = last.max(self.now + Duration::from_millis(self.rng.below(30)));
        self.jobs.push_back((at, id, job));
        Ok(id)
    }

    fn post(&mut self, to: LoopId, letter: Letter) {
        let conns = letter.conns().iter().filter_map(|id| self.conns.remove_entry(id)).collect();
        self.letters.push(Posted { to, letter, conns });
    }

    fn record(&mut self, line: &str) -> Result<(), Unrecorded> {
        self.records.push(line.into());
        Ok(())
    }

    fn tell(&mut self, notice: Notice) {
        self.notices.push(notice);
    }
}

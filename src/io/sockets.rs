//! The reactor as its role sees it: the second half of [`Net`].

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::Registry;
use mio::net::UnixStream;
use ring::rand::{SecureRandom, SystemRandom};

use super::audit::AuditSink;
use super::conn::{Conn, Parted};
use super::dial::{self, Dial, Origin, Stage};
use super::handoff::{Mail, Parcel};
use super::link::Link;
use super::workers::{Work, Workers};
use crate::buf::{Pool, Pressure, Slice};
use crate::engine::timers::Timers;
use crate::engine::tls::Acceptor;
use crate::limits::{CONN_OUTBOX, CONNECT_TIMEOUT, HANDSHAKE_TIMEOUT, LINGER};
use crate::role::{
    Busy, Close, ConnId, Endpoint, Event, Job, JobId, Letter, ListenerTag, LoopId, Net, Notice,
    Peer, Unrecorded,
};

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) registry: Registry,
    pub(super) pool: Pool,
    pub(super) conns: HashMap<ConnId, Conn>,
    pub(super) most_conns: usize,
    /// Connections to look at in this turn, or in the next if one of them is cut short.
    pub(super) ready: BTreeSet<ConnId>,
    /// Connections with something to flush.
    pub(super) dirty: BTreeSet<ConnId>,
    /// Connections that could be read if there were buffers.
    pub(super) hungry: BTreeSet<ConnId>,
    /// What the role has to hear of at the end of the turn.
    pub(super) news: VecDeque<Event>,
    pub(super) notices: VecDeque<Notice>,
    pub(super) timers: Timers<ConnId>,
    pub(super) workers: Workers,
    pub(super) audit: AuditSink,
    pub(super) random: SystemRandom,
    /// Connections whose descriptor is gone, so that accepting may be possible again.
    pub(super) freed: bool,
    pub(super) next_id: u64,
    pub(super) mail: Mail,
    pub(super) now: Instant,
}

impl Sockets {
    /// Takes in an accepted socket. It becomes the role's once its TLS handshake is done.
    pub(super) fn accept(
        &mut self,
        link: Link,
        tag: ListenerTag,
        peer: Peer,
        tls: Option<&Acceptor>,
    ) {
        let Some(id) = self.add(link, Stage::Securing(Origin::Accepted(tag, peer))) else { return };
        if let Some(acceptor) = tls {
            let session = acceptor.session();
            let conn = self.conns.get_mut(&id).expect("just added");
            let started = session.map(|session| conn.start_tls(session, &self.pool));
            if !matches!(started, Ok(Ok(()))) {
                self.remove(id);
                return;
            }
            self.timers.set(id, self.now + HANDSHAKE_TIMEOUT);
        }
        self.ready.insert(id);
    }

    /// The addresses for a connection are known, or there are none.
    pub(super) fn on_resolved(
        &mut self,
        id: ConnId,
        found: Result<Vec<std::net::SocketAddr>, String>,
    ) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let Stage::Resolving(dial) = &conn.stage else { return };
        let dial = dial.clone();
        match found {
            Ok(addresses) => self.start(id, dial, addresses.into()),
            Err(why) => self.fail(id, Close::Refused(why)),
        }
    }

    /// Tries the next address after a failure. `false` when there is none left.
    pub(super) fn try_next(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(&id) else { return false };
        let Stage::Connecting(dial, rest) = &mut conn.stage else { return false };
        if rest.is_empty() {
            return false;
        }
        let (dial, rest) = (dial.clone(), std::mem::take(rest));
        conn.link.deregister(&self.registry);
        self.start(id, dial, rest);
        true
    }

    fn start(&mut self, id: ConnId, dial: Dial, addresses: VecDeque<std::net::SocketAddr>) {
        let (host, port) = dial.first_hop();
        let refused = Close::Refused(format!("cannot connect to {host}:{port}"));
        let Some((mut link, rest)) = dial::start(addresses) else { return self.fail(id, refused) };
        if link.register(&self.registry, id).is_err() {
            return self.fail(id, refused);
        }
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.link = link;
        (conn.readable, conn.hung_up, conn.writable) = (false, false, false);
        conn.stage = Stage::Connecting(dial, rest);
    }

    /// The connection is of no use: the role hears of it at the end of the turn.
    pub(super) fn fail(&mut self, id: ConnId, why: Close) {
        let Some(conn) = self.remove(id) else { return };
        let known = match conn.stage {
            // The role has never heard of a connection that did not get through its handshake.
            Stage::Securing(Origin::Accepted(_, peer)) => {
                log::debug!("conn={} peer={peer:?} handshake failed: {why}", id.0);
                false
            }
            _ => !conn.lingering,
        };
        if known {
            self.news.push_back(Event::Closed(id, why));
        }
    }

    pub(super) fn remove(&mut self, id: ConnId) -> Option<Conn> {
        let mut conn = self.conns.remove(&id)?;
        conn.link.deregister(&self.registry);
        if let Link::Memory(peer) = conn.link {
            self.orphan(peer, conn.has_sent_all());
        }
        self.timers.cancel(id);
        self.freed = true;
        Some(conn)
    }

    /// The other end of a pipe in memory is gone, after its end or before.
    fn orphan(&mut self, id: ConnId, ended: bool) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if !ended {
            conn.inbox.clear();
            conn.failed = Some(Close::Reset);
        }
        self.ready.insert(id);
        self.dirty.insert(id);
    }

    pub(super) fn note(&mut self, id: ConnId, event: &mio::event::Event) {
        // An event may come for a connection closed earlier in the same turn.
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        conn.hung_up |= event.is_read_closed() || event.is_error();
        conn.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
        if event.is_error() && matches!(conn.stage, Stage::Open) {
            conn.failed.get_or_insert(Close::Reset);
        }
        self.ready.insert(id);
        self.dirty.insert(id);
    }

    /// Moves what is queued on a pipe in memory to its other end. Returns how many bytes.
    pub(super) fn pour(&mut self, id: ConnId, to: ConnId) -> usize {
        let Some(mut conn) = self.conns.remove(&id) else { return 0 };
        let mut moved = 0;
        if let Some(peer) = self.conns.get_mut(&to) {
            while peer.inbox.len() < CONN_OUTBOX
                && let Some(slice) = conn.outbox.take(usize::MAX)
            {
                moved += slice.len();
                peer.inbox.push_back(slice.thaw().unwrap_or_else(|shared| {
                    let mut lease = self.pool.lease_beyond();
                    lease.fill(&shared);
                    lease
                }));
            }
            if conn.end_in_memory() {
                peer.got_fin = true;
            }
            self.ready.insert(to);
        } else {
            conn.outbox.clear();
            conn.end_in_memory();
        }
        self.conns.insert(id, conn);
        moved
    }

    /// One connection more is within the limit of the process.
    pub(super) fn has_room(&self) -> bool {
        self.conns.len() + self.mail.lent() < self.most_conns
    }

    /// Takes in what another loop has sent. Of a connection that cannot be had here the role hears
    /// that it broke.
    pub(super) fn adopt(&mut self, parcel: Parcel) {
        let Parcel { from, letter, conns } = parcel;
        let mut lost = letter.conns().to_vec();
        for (id, parted) in conns {
            let mut conn = Conn::join(parted, &self.pool);
            if conn.link.register(&self.registry, id).is_ok() {
                self.conns.insert(id, conn);
                self.ready.insert(id);
                self.dirty.insert(id);
                lost.retain(|other| *other != id);
            }
        }
        self.news.push_back(Event::Letter(from, letter));
        self.news.extend(lost.into_iter().map(|id| Event::Closed(id, Close::Reset)));
    }

    /// Takes `id` out of this loop, with all that is queued.
    fn part_with(&mut self, id: ConnId) -> Option<(ConnId, Parted)> {
        let guest = self.mail.guest();
        let conn = self.remove(id)?;
        Some((id, conn.part(guest)?))
    }

    fn add(&mut self, mut link: Link, stage: Stage) -> Option<ConnId> {
        if !self.has_room() {
            return None;
        }
        let id = self.fresh_id();
        link.register(&self.registry, id).ok()?;
        self.conns.insert(id, Conn::new(link, stage));
        Some(id)
    }

    fn fresh_id(&mut self) -> ConnId {
        let id = ConnId(self.next_id);
        // The loops of a process take turns, so that an id is one connection's wherever it goes.
        self.next_id += self.mail.loops as u64;
        id
    }

    fn pair(&mut self, tag: ListenerTag) -> Option<ConnId> {
        if self.most_conns < self.conns.len() + 2 {
            return None;
        }
        let (near, far) = (self.fresh_id(), self.fresh_id());
        self.conns.insert(near, Conn::new(Link::Memory(far), Stage::Open));
        self.conns.insert(far, Conn::new(Link::Memory(near), Stage::Open));
        self.news.push_back(Event::Accepted(far, tag, Peer::Local));
        self.news.push_back(Event::Connected(near));
        Some(near)
    }

    fn dial(&mut self, dial: Dial) -> Option<ConnId> {
        if self.most_conns <= self.conns.len() {
            return None;
        }
        let id = self.fresh_id();
        let (host, port) = dial.first_hop();
        let (host, port) = (host.to_owned(), port);
        // Until there is an address there is no socket; a pipe to nowhere keeps the place.
        let nowhere = Link::Memory(ConnId(0));
        self.conns.insert(id, Conn::new(nowhere, Stage::Resolving(dial)));
        self.timers.set(id, self.now + CONNECT_TIMEOUT);
        match host.parse::<std::net::IpAddr>() {
            Ok(address) => self.on_resolved(id, Ok(vec![(address, port).into()])),
            Err(_) => {
                if self.workers.submit(Work::Resolve(id, host, port)).is_err() {
                    self.fail(id, Close::Refused("too many names are being looked up".into()));
                }
            }
        }
        Some(id)
    }
}

impl Net for Sockets {
    fn now(&self) -> Instant {
        self.now
    }

    fn unix_time(&self) -> u64 {
        since_1970().as_secs()
    }

    fn unix_micros(&self) -> u64 {
        u64::try_from(since_1970().as_micros()).unwrap_or(u64::MAX)
    }

    fn random(&mut self, into: &mut [u8]) {
        self.random.fill(into).expect("the system gives random bytes");
    }

    fn connect(&mut self, to: &Endpoint) -> Option<ConnId> {
        match to {
            Endpoint::Local(tag) => self.pair(*tag),
            Endpoint::Unix(path) => match UnixStream::connect(path) {
                Ok(socket) => {
                    let id = self.add(Link::Unix(socket), Stage::Securing(Origin::Dialled))?;
                    self.ready.insert(id);
                    Some(id)
                }
                Err(err) => {
                    let id = self.fresh_id();
                    let why = format!("cannot connect to {}: {err}", path.display());
                    self.news.push_back(Event::Closed(id, Close::Refused(why)));
                    Some(id)
                }
            },
            Endpoint::Tcp { host, port, tls, via } => self.dial(Dial {
                host: host.clone(),
                port: *port,
                tls: tls.clone(),
                via: via.clone(),
            }),
        }
    }

    fn send(&mut self, conn: ConnId, data: Slice) -> Pressure {
        let Some(state) = self.conns.get_mut(&conn) else { return Pressure::Open };
        self.dirty.insert(conn);
        let _ = state.outbox.push(data);
        self.pressure(conn)
    }

    fn pressure(&self, conn: ConnId) -> Pressure {
        let Some(state) = self.conns.get(&conn) else { return Pressure::Open };
        // A queue that drains will say so; one that does not has no more than what it has now.
        if self.pool.is_short() && state.will_drain() {
            return Pressure::Full;
        }
        state.pressure()
    }

    fn pause(&mut self, conn: ConnId) {
        if let Some(conn) = self.conns.get_mut(&conn) {
            conn.paused = true;
        }
    }

    fn resume(&mut self, conn: ConnId) {
        if let Some(state) = self.conns.get_mut(&conn)
            && std::mem::replace(&mut state.paused, false)
        {
            self.ready.insert(conn);
        }
    }

    fn finish(&mut self, conn: ConnId) {
        if let Some(state) = self.conns.get_mut(&conn) {
            state.finish();
            self.dirty.insert(conn);
        }
    }

    fn close(&mut self, conn: ConnId) {
        let Some(state) = self.conns.get_mut(&conn) else { return };
        if !matches!(state.stage, Stage::Open) {
            self.remove(conn);
            return;
        }
        state.lingering = true;
        state.inbox.clear();
        state.finish();
        self.dirty.insert(conn);
        self.ready.insert(conn);
        self.timers.set(conn, self.now + LINGER);
    }

    fn abort(&mut self, conn: ConnId) {
        if let Some(state) = self.conns.get(&conn) {
            state.link.reset_on_drop();
            self.remove(conn);
        }
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn submit(&mut self, job: Job) -> Result<JobId, Busy> {
        let id = JobId(self.fresh_id().0);
        self.workers.submit(Work::Job(id, job)).map(|()| id)
    }

    fn post(&mut self, to: LoopId, letter: Letter) {
        let conns = letter.conns().iter().filter_map(|id| self.part_with(*id)).collect();
        let from = LoopId(self.mail.number);
        self.mail.send(to, Parcel { from, letter, conns });
    }

    fn record(&mut self, line: &str) -> Result<(), Unrecorded> {
        self.audit.write(line).map_err(|_| Unrecorded)
    }

    fn tell(&mut self, notice: Notice) {
        self.notices.push_back(notice);
    }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
}

//! The auth proxy: ends the callers' TLS sessions, authenticates every request by its token, and
//! passes it on to kube-apiserver as that user by Kubernetes user impersonation.
//!
//! ```text
//! rendezvous ── Tunnel ── stream ── Exchange ── upstream connection ── kube-apiserver
//!                          └ admit: who is it, may it, as whom does it go on?
//! ```
//!
//! Each stream has an upstream connection of its own, so no answer can reach another caller.
//! Reading order: [`session`] and [`stream`] move the bytes, [`request`] takes a request from its
//! arrival to its way upstream and [`response`] its answer back, [`admit`] decides, [`fault`] says
//! no, [`throttle`]
//! says how often, [`question`] asks the API server and [`groups`] Microsoft Graph where a decision
//! needs that, [`head`] makes the head that goes on, [`upstream`] knows our own credential,
//! [`spares`] has connections ready, [`audit`] writes down, [`metrics`] counts, [`admin`] shows and
//! cuts, [`probe`] lets callers measure the tunnel.

mod admin;
mod admit;
mod audit;
mod fault;
pub mod groups;
pub mod head;
mod metrics;
mod probe;
pub mod question;
mod request;
mod response;
mod session;
mod spares;
mod stream;
mod throttle;
pub mod upstream;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use rustls::ServerConfig;

use self::admin::Visitor;
use self::groups::Groups;
use self::metrics::Metrics;
use self::probe::Callers;
use self::question::{Api, Questions, Waiting};
use self::session::Session;
use self::spares::Spares;
pub use self::throttle::Guesses;
use self::upstream::{Credential, Upstream};
use super::keys::Keys;
use super::{Close, ConnId, Event, JobId, ListenerTag, Net, Notice, Outcome, Peer, Role, Signal};
use crate::auth::fields::HeaderPolicy;
use crate::auth::impersonate::Verbs;
use crate::buf::Lease;
use crate::engine::exchange::Times;
use crate::engine::timers::Timers;
use crate::limits::{
    AUTH_PROXY_DRAIN, CROSSED, IN_FLIGHT_CALLER, IN_FLIGHT_MAX, IN_FLIGHT_SESSION, PROBE_RATE,
    SESSION_HANDSHAKE, SESSION_MAX, SESSIONS_MAX, STRANGER_SESSION,
};
use crate::wire::mux::StreamId;

/// What differs from auth proxy to auth proxy.
#[derive(Clone, Debug)]
pub struct Config {
    /// Certificate and protocols of the end-to-end session.
    pub tls: Arc<ServerConfig>,
    /// The API server.
    pub upstream: Upstream,
    /// Where to ask about service accounts and impersonation.
    pub api: Option<Api>,
    /// Where to ask for groups that tokens leave out.
    pub groups: Vec<groups::Source>,
    /// Service accounts' tokens are passed on as they are, once [`Self::api`] says they are good.
    pub sa_passthrough: bool,
    /// Callers may act as whom [`Self::api`] allows them to.
    pub impersonation: bool,
    /// By which verbs the own account may impersonate.
    pub verbs: Verbs,
    /// How long exec, attach and port-forward may last.
    pub session_max: Duration,
    /// They end with the token that they were opened with, if that is earlier.
    pub session_ends_with_token: bool,
    /// Which ordinary fields of a caller go on.
    pub header_policy: HeaderPolicy,
    /// Requests with an `Origin` are refused.
    pub deny_browser_origins: bool,
    /// Requests at a time.
    pub in_flight: InFlight,
    /// Sessions at a time.
    pub sessions: usize,
    /// How much a session may try.
    pub guesses: Guesses,
    /// How long is waited for what.
    pub times: Arc<Times>,
    /// Connections to the API server that are ready for a request.
    pub spares: usize,
    /// Requests go on although they cannot be written down.
    pub audit_fail_open: bool,
    /// Bytes per second that a session which measures may move.
    pub probe_rate: u64,
}

/// Requests at a time.
#[derive(Clone, Copy, Debug)]
pub struct InFlight {
    /// Of one caller.
    pub caller: usize,
    /// Of one session.
    pub session: usize,
    /// Of all.
    pub all: usize,
}

impl Config {
    /// Everything that is optional is off, every limit is the usual one.
    #[must_use]
    pub fn new(tls: Arc<ServerConfig>, upstream: Upstream) -> Self {
        Self {
            tls,
            upstream,
            api: None,
            groups: Vec::new(),
            sa_passthrough: false,
            impersonation: false,
            verbs: Verbs::Legacy,
            session_max: SESSION_MAX,
            session_ends_with_token: false,
            header_policy: HeaderPolicy::DenyList,
            deny_browser_origins: false,
            in_flight: InFlight {
                caller: IN_FLIGHT_CALLER,
                session: IN_FLIGHT_SESSION,
                all: IN_FLIGHT_MAX,
            },
            sessions: SESSIONS_MAX,
            guesses: Guesses::default(),
            times: Arc::default(),
            spares: 0,
            audit_fail_open: false,
            probe_rate: PROBE_RATE,
        }
    }
}

/// The role of the auth proxy.
#[derive(Debug)]
pub struct AuthProxy {
    config: Config,
    keys: Keys,
    credential: Credential,
    /// When the own token became what it is now, in unix seconds.
    token_since: Option<u64>,
    questions: Questions,
    groups: Groups,
    metrics: Metrics,
    visitors: BTreeMap<ConnId, Box<Visitor>>,
    sessions: BTreeMap<ConnId, Box<Session>>,
    /// The stream that each upstream connection belongs to.
    upstreams: BTreeMap<ConnId, (ConnId, StreamId)>,
    spares: Spares,
    /// The API server, as a sentence about it has it.
    server: Arc<str>,
    /// Requests that wait for the keys of an issuer, by its index.
    keys_awaited: BTreeMap<usize, BTreeSet<Waiting>>,
    /// When trouble upstream may be a line of the log again.
    complaint_due: Option<Instant>,
    /// Requests in flight, by caller.
    callers: BTreeMap<(String, String), usize>,
    timers: Timers<Key>,
    probes: Callers,
    is_ready: bool,
    is_stopping: bool,
    /// It has said that it is done; others of the process may not be.
    has_exited: bool,
}

/// What a deadline is for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Key {
    /// A session has to be established, or to have had a request that was let through.
    Handshake(ConnId),
    /// The machine of a stream has one.
    Exchange(ConnId, StreamId),
    /// The token of what a stream carries has expired, or its time is up.
    Expiry(ConnId, StreamId),
    /// A request has waited long enough for answers.
    Parked(ConnId, StreamId),
    /// A connection has waited long enough for a request.
    Spare(ConnId),
    /// An operator or a probe has to say what it wants.
    Visitor(ConnId),
    /// A session that measures may move bytes again.
    Probe(ConnId),
    /// It has measured for long enough.
    ProbeEnd(ConnId),
    /// What was on its way to a stopping auth proxy has come, and was refused.
    Crossed,
    /// A stopping auth proxy ends.
    Exit,
}

impl AuthProxy {
    /// An auth proxy without sessions, which verifies callers with `keys`.
    #[must_use]
    pub fn new(config: Config, keys: Keys) -> Self {
        let credential = Credential::new(&config.upstream);
        let questions = Questions::new(config.api.clone());
        let groups = Groups::new(config.groups.clone());
        let server = Arc::from(format!("the API server at {}", config.upstream.host));
        Self {
            config,
            keys,
            credential,
            token_since: None,
            questions,
            groups,
            metrics: Metrics::default(),
            visitors: BTreeMap::new(),
            sessions: BTreeMap::new(),
            upstreams: BTreeMap::new(),
            spares: Spares::new(),
            server,
            keys_awaited: BTreeMap::new(),
            complaint_due: None,
            callers: BTreeMap::new(),
            timers: Timers::new(),
            probes: Callers::default(),
            is_ready: false,
            is_stopping: false,
            has_exited: false,
        }
    }

    /// Sessions and upstream connections: a test that ends with other than nothing has found a
    /// leak.
    #[must_use]
    pub fn leftovers(&self) -> (usize, usize, usize) {
        (self.sessions.len() + self.visitors.len(), self.upstreams.len(), self.callers.len())
    }

    fn on_accepted(&mut self, conn: ConnId, peer: Peer, net: &mut dyn Net) {
        if self.is_stopping {
            net.close(conn);
            return;
        }
        if self.config.sessions <= self.sessions.len() {
            self.metrics.on_rejected("sessions");
            debug!("conn={} refused: as many sessions as there may be", conn.0);
            net.abort(conn);
            return;
        }
        match Session::accept(Arc::clone(&self.config.tls), self.config.guesses, peer, net) {
            Ok(session) => {
                self.sessions.insert(conn, Box::new(session));
                self.timers.set(Key::Handshake(conn), net.now() + SESSION_HANDSHAKE);
            }
            Err(why) => {
                warn!("conn={} no session: {why}", conn.0);
                net.abort(conn);
            }
        }
    }

    fn on_data(&mut self, conn: ConnId, mut data: Lease, net: &mut dyn Net) {
        if let Some(&(session, stream)) = self.upstreams.get(&conn) {
            self.on_upstream_data(session, stream, data, net);
            return;
        }
        if self.visitors.contains_key(&conn) {
            self.on_visitor_data(conn, &data, net);
            return;
        }
        self.drop_spare(conn, net);
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let pool = net.pool().clone();
        session.carried.0 += data.len() as u64;
        match session.tunnel.receive(data.filled_mut(), &pool, net.now()) {
            Ok(()) => {
                if session.tunnel.is_established() && !session.was_established {
                    session.was_established = true;
                    debug!(
                        "conn={} session established resumed={}",
                        conn.0,
                        session.tunnel.is_resumed()
                    );
                    self.timers.set(Key::Handshake(conn), net.now() + STRANGER_SESSION);
                    if self.is_stopping {
                        // It was not there yet to hear the farewell.
                        self.close_when_idle(conn, net);
                    }
                }
                drop(data);
                self.serve(conn, net);
            }
            Err(why) => {
                debug!("conn={} session closed: {why}", conn.0);
                self.pump(conn, net);
                net.close(conn);
                self.on_session_gone(conn, net);
            }
        }
    }

    fn on_closed(&mut self, conn: ConnId, why: &Close, net: &mut dyn Net) {
        self.drop_spare(conn, net);
        if self.visitors.remove(&conn).is_some() {
            self.timers.cancel(Key::Visitor(conn));
        } else if let Some((session, stream)) = self.upstreams.remove(&conn) {
            self.on_upstream_closed(session, stream, why, net);
        } else if self.sessions.contains_key(&conn) {
            debug!("conn={} session closed: {why}", conn.0);
            self.on_session_gone(conn, net);
        }
    }

    fn on_finished(&mut self, conn: ConnId, net: &mut dyn Net) {
        self.drop_spare(conn, net);
        if let Some(&(session, stream)) = self.upstreams.get(&conn) {
            self.on_upstream_finished(session, stream, net);
        } else if let Some(session) = self.sessions.get(&conn)
            && !session.tunnel.is_owed()
        {
            net.close(conn);
            self.on_session_gone(conn, net);
        }
    }

    fn on_drained(&mut self, conn: ConnId, len: usize, net: &mut dyn Net) {
        if let Some(&(session, stream)) = self.upstreams.get(&conn) {
            let pressure = net.pressure(conn);
            self.on_upstream_drained(session, stream, len, pressure, net);
        } else if self.sessions.contains_key(&conn) {
            self.serve(conn, net);
        }
    }

    fn on_deadline(&mut self, net: &mut dyn Net) {
        let now = net.now();
        while let Some(key) = self.timers.expire(now) {
            match key {
                Key::Handshake(conn) => self.on_stranger_due(conn, net),
                Key::Exchange(conn, stream) => self.on_exchange_deadline(conn, stream, net),
                Key::Expiry(conn, stream) => self.on_expiry(conn, stream, net),
                Key::Parked(conn, stream) => self.on_unanswered(conn, stream, net),
                Key::Spare(conn) => self.drop_spare(conn, net),
                Key::Visitor(conn) => {
                    self.visitors.remove(&conn);
                    net.abort(conn);
                }
                Key::Probe(conn) => self.on_probe_due(conn, net),
                Key::ProbeEnd(conn) => self.end_probe(conn, net),
                Key::Crossed => (),
                Key::Exit => net.tell(Notice::Exit(0, None)),
            }
        }
        self.keys.handle_deadline(net);
        self.credential.handle_deadline(net);
    }

    fn on_signal(&mut self, signal: Signal, net: &mut dyn Net) {
        match signal {
            Signal::Reload => {
                self.credential.read_again(net);
                self.keys.reload(net);
            }
            Signal::Stop if self.is_stopping => (),
            Signal::Stop => {
                info!("stopping: requests in flight may end by themselves");
                self.is_stopping = true;
                self.drop_spares(net);
                self.timers.set(Key::Exit, net.now() + AUTH_PROXY_DRAIN);
                self.timers.set(Key::Crossed, net.now() + CROSSED);
                let sessions: Vec<ConnId> = self.sessions.keys().copied().collect();
                for conn in sessions {
                    self.close_when_idle(conn, net);
                }
                self.exit_if_idle(net);
            }
        }
    }

    /// Whoever has heard that we go leaves; who has not may have asked for something meanwhile, and
    /// must be told that it was not taken.
    fn exit_if_idle(&mut self, net: &mut dyn Net) {
        let has_crossed = self.sessions.is_empty() || self.timers.get(Key::Crossed).is_none();
        let is_due = self.is_stopping && !self.has_exited && has_crossed;
        if is_due && self.sessions.values().all(|it| it.is_idle()) {
            self.timers.cancel(Key::Crossed);
            self.timers.cancel(Key::Exit);
            net.tell(Notice::Exit(0, None));
            self.has_exited = true;
        }
    }

    fn on_done(&mut self, job: JobId, outcome: Outcome, net: &mut dyn Net) {
        let Some(outcome) = self.keys.handle_done(job, outcome, net) else {
            return self.on_keys(net);
        };
        let outcome = match self.groups.handle_done(job, outcome, self.keys.verifier(), net) {
            Ok(waiting) => {
                waiting.into_iter().for_each(|one| self.on_answered(one, net));
                return;
            }
            Err(outcome) => outcome,
        };
        let outcome = match self.questions.handle_done(job, outcome, net.now()) {
            Ok(waiting) => {
                waiting.into_iter().for_each(|one| self.on_answered(one, net));
                return;
            }
            Err(outcome) => outcome,
        };
        let before = self.credential.token().cloned();
        self.credential.handle_done(job, outcome, net);
        if self.credential.token() != before.as_ref() {
            self.token_since = Some(net.unix_time());
        }
        self.on_token_read(net);
        self.become_ready(net);
    }

    fn become_ready(&mut self, net: &mut dyn Net) {
        if !self.is_ready && self.credential.is_usable() {
            self.is_ready = true;
            net.tell(Notice::Ready);
        }
    }
}

impl Role for AuthProxy {
    fn on_event(&mut self, event: Event, net: &mut dyn Net) {
        match event {
            Event::Started => {
                self.questions.start(net);
                self.groups.start(net);
                self.keys.start(net);
                self.token_since = self.credential.token().map(|_| net.unix_time());
                self.credential.start(net);
                self.become_ready(net);
            }
            Event::Accepted(conn, ListenerTag::Main | ListenerTag::AuthProxy, peer) => {
                self.on_accepted(conn, peer, net);
            }
            Event::Accepted(conn, ListenerTag::Admin, peer) => self.on_visitor(conn, peer, net),
            Event::Connected(conn) => {
                self.spares.on_connected(conn);
                if let Some(&(session, stream)) = self.upstreams.get(&conn) {
                    self.on_upstream_connected(session, stream, net);
                }
            }
            Event::Data(conn, data) => self.on_data(conn, data, net),
            Event::Finished(conn) => self.on_finished(conn, net),
            Event::Drained(conn, len) => self.on_drained(conn, len, net),
            Event::Closed(conn, why) => self.on_closed(conn, &why, net),
            Event::Done(job, outcome) => self.on_done(job, outcome, net),
            Event::Signal(signal) => self.on_signal(signal, net),
            Event::Deadline => self.on_deadline(net),
            // There is one loop.
            Event::Letter(..) => (),
        }
        self.exit_if_idle(net);
    }

    fn deadline(&self) -> Option<Instant> {
        let all = [self.timers.next(), self.keys.deadline(), self.credential.deadline()];
        all.into_iter().flatten().min()
    }
}

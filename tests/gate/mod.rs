#![allow(unreachable_pub, dead_code, reason = "each test uses its own part of this")]
//! An auth proxy between a caller that speaks through a real session, and a network that does what
//! the test says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use cluster_connect::auth::profile::OidcIssuer;
use cluster_connect::buf::{Lease, Pool, Pressure, Slice};
use cluster_connect::engine::mux::{Ended, Event as Inner};
use cluster_connect::engine::tunnel::{ALPN_MUX, Tunnel};
use cluster_connect::limits::QUESTIONS_OPEN;
use cluster_connect::role::auth_proxy::question::Api;
use cluster_connect::role::auth_proxy::upstream::{TokenSource, Upstream};
use cluster_connect::role::auth_proxy::{AuthProxy, Config};
use cluster_connect::role::keys::Keys;
use cluster_connect::role::{
    Busy, Close, ConnId, Endpoint, Event, HttpAnswer, HttpCall, Job, JobId, ListenerTag, Net,
    Notice, Outcome, Peer, Role, Signal, Unrecorded,
};
use cluster_connect::secret::Secret;
use cluster_connect::wire::mux::StreamId;

use crate::sim::EPOCH;
use crate::support::tls::Pki;
use crate::tokens;

pub const OWN_TOKEN: &str = "the-own-token";
pub const ACCOUNTS: &str = "https://kubernetes.default.svc";

/// What the role does to the network.
pub struct Script {
    pub now: Instant,
    begun: Instant,
    random: u8,
    next: u64,
    pool: Pool,
    /// What was sent and not yet looked at.
    pub sent: BTreeMap<ConnId, Vec<u8>>,
    /// Connections asked for, with the path of their Unix socket.
    pub dialled: Vec<(ConnId, String)>,
    pub ended: Vec<ConnId>,
    pub jobs: VecDeque<(JobId, HttpCall)>,
    /// Files that are being read.
    pub reads: VecDeque<JobId>,
    pub audit: Vec<String>,
    pub is_audit_broken: bool,
    pub has_exited: bool,
}

impl Net for Script {
    fn now(&self) -> Instant {
        self.now
    }
    fn unix_time(&self) -> u64 {
        EPOCH + self.now.duration_since(self.begun).as_secs()
    }
    fn random(&mut self, into: &mut [u8]) {
        self.random = self.random.wrapping_add(1);
        into.fill(self.random);
    }
    fn connect(&mut self, to: &Endpoint) -> Option<ConnId> {
        let Endpoint::Unix(path) = to else { panic!("{to:?}") };
        let conn = self.fresh();
        self.dialled.push((conn, path.display().to_string()));
        Some(conn)
    }
    fn send(&mut self, conn: ConnId, data: Slice) -> Pressure {
        self.sent.entry(conn).or_default().extend_from_slice(&data);
        Pressure::Open
    }
    fn pressure(&self, _: ConnId) -> Pressure {
        Pressure::Open
    }
    fn pause(&mut self, _: ConnId) {}
    fn resume(&mut self, _: ConnId) {}
    fn finish(&mut self, conn: ConnId) {
        self.ended.push(conn);
    }
    fn close(&mut self, conn: ConnId) {
        self.ended.push(conn);
    }
    fn abort(&mut self, conn: ConnId) {
        self.ended.push(conn);
    }
    fn pool(&self) -> &Pool {
        &self.pool
    }
    fn submit(&mut self, job: Job) -> Result<JobId, Busy> {
        let id = JobId(self.fresh().0);
        match job {
            Job::Http(call) => self.jobs.push_back((id, call)),
            Job::Read { .. } => self.reads.push_back(id),
            other => panic!("{other:?}"),
        }
        Ok(id)
    }
    fn record(&mut self, line: &str) -> Result<(), Unrecorded> {
        self.audit.push(line.to_owned());
        if self.is_audit_broken { Err(Unrecorded) } else { Ok(()) }
    }
    fn tell(&mut self, notice: Notice) {
        self.has_exited |= matches!(notice, Notice::Exit(0, None));
    }
}

impl Script {
    fn fresh(&mut self) -> ConnId {
        self.next += 1;
        ConnId(self.next)
    }
}

/// See the module's documentation.
pub struct Gate {
    pub proxy: AuthProxy,
    pub net: Script,
    pub session: ConnId,
    caller: Tunnel,
    dial: Box<dyn Fn() -> Tunnel>,
    got: BTreeMap<StreamId, Vec<u8>>,
    pub closed: Vec<StreamId>,
    /// Those that came after the auth proxy had asked for no more.
    pub refused: Vec<StreamId>,
    /// The auth proxy asks for no more streams.
    pub is_asked_to_go: bool,
}

impl Gate {
    /// A session that stands, through an auth proxy that is `configured`.
    pub fn new(configured: impl FnOnce(&mut Config)) -> Self {
        Self::speaking(ALPN_MUX, configured, |_| ())
    }

    /// The same with an issuer that is `changed`.
    pub fn of(configured: impl FnOnce(&mut Config), changed: impl FnOnce(&mut OidcIssuer)) -> Self {
        Self::speaking(ALPN_MUX, configured, changed)
    }

    /// The same, where the caller speaks `protocol`.
    pub fn speaking(
        protocol: &[u8],
        configured: impl FnOnce(&mut Config),
        changed: impl FnOnce(&mut OidcIssuer),
    ) -> Self {
        let keys = tokens::keys_of("cluster", Some(ACCOUNTS.to_owned()), changed);
        Self::with(protocol, configured, keys)
    }

    /// The same with these keys.
    pub fn with(protocol: &[u8], configured: impl FnOnce(&mut Config), keys: Keys) -> Self {
        let pki = Pki::new();
        let place = |name: &str| Endpoint::Unix(name.into());
        let upstream = Upstream {
            endpoint: place("ours"),
            anonymous: place("theirs"),
            host: "apiserver.test".to_owned(),
            token: TokenSource::Fixed(Secret::new(OWN_TOKEN.to_owned())),
        };
        let mut config = Config::new(pki.server(&[protocol]), upstream);
        config.api = Some(Api {
            url: "https://apiserver.test".to_owned(),
            roots: std::sync::Arc::default(),
            audiences: Vec::new(),
            questions: QUESTIONS_OPEN,
        });
        configured(&mut config);
        let now = Instant::now();
        let net = Script {
            now,
            begun: now,
            random: 0,
            next: 0,
            pool: Pool::new(256, 64, 32 * 1024),
            sent: BTreeMap::new(),
            dialled: Vec::new(),
            ended: Vec::new(),
            jobs: VecDeque::new(),
            reads: VecDeque::new(),
            audit: Vec::new(),
            is_audit_broken: false,
            has_exited: false,
        };
        let (tls, name) = (pki.client(&[protocol]), pki.name());
        let dial = move || Tunnel::dial(tls.clone(), name.clone()).unwrap();
        let mut gate = Self {
            proxy: AuthProxy::new(config, keys),
            net,
            session: ConnId(0),
            caller: dial(),
            dial: Box::new(dial),
            got: BTreeMap::new(),
            closed: Vec::new(),
            refused: Vec::new(),
            is_asked_to_go: false,
        };
        gate.emit(Event::Started);
        gate.join();
        gate
    }

    /// Goes on with another session; nothing is heard of the one before.
    pub fn join(&mut self) {
        self.caller = (self.dial)();
        (self.got, self.closed, self.is_asked_to_go) = (BTreeMap::new(), Vec::new(), false);
        self.refused = Vec::new();
        self.session = self.accept();
        self.carry();
        assert!(self.caller.is_established());
    }

    /// The same where the auth proxy is told to stop before it has heard anything of it.
    pub fn join_across_stop(&mut self) {
        self.caller = (self.dial)();
        self.session = self.accept();
        self.emit(Event::Signal(Signal::Stop));
        self.carry();
    }

    /// A connection that says nothing yet.
    pub fn accept(&mut self) -> ConnId {
        let conn = self.net.fresh();
        self.emit(Event::Accepted(conn, ListenerTag::Main, Peer::Local));
        conn
    }

    /// The session's connection breaks.
    pub fn leave(&mut self) {
        self.emit(Event::Closed(self.session, Close::Reset));
    }

    pub fn emit(&mut self, event: Event) {
        self.proxy.on_event(event, &mut self.net);
    }

    fn lease(&self, bytes: &[u8]) -> Lease {
        let mut lease = self.net.pool.lease_beyond();
        assert_eq!(lease.fill(bytes), bytes.len());
        lease
    }

    /// Carries the session's bytes both ways until there are none.
    pub fn carry(&mut self) {
        loop {
            let mut out = Vec::new();
            while self.caller.transmit(&mut out) {}
            let back = self.net.sent.remove(&self.session).unwrap_or_default();
            if out.is_empty() && back.is_empty() {
                return;
            }
            for piece in out.chunks(16_000) {
                let lease = self.lease(piece);
                self.emit(Event::Data(self.session, lease));
            }
            for piece in back.chunks(16_000) {
                let mut piece = piece.to_vec();
                self.caller.receive(&mut piece, &self.net.pool, self.net.now).unwrap();
            }
            while let Some(event) = self.caller.poll_event() {
                match event {
                    Inner::Data(id, data) => {
                        self.got.entry(id).or_default().extend_from_slice(&data);
                        self.caller.drained(id, data.len(), self.net.now);
                    }
                    Inner::Closed(id, Ended::Refused) => self.refused.push(id),
                    Inner::Finished(id) | Inner::Closed(id, _) => self.closed.push(id),
                    Inner::GoingAway => self.is_asked_to_go = true,
                    _ => (),
                }
            }
        }
    }

    /// Sends `text` on a new stream.
    pub fn ask(&mut self, text: &str) -> StreamId {
        let id = self.caller.open().unwrap();
        self.say(id, text);
        id
    }

    /// Begins a stream before anything of what the auth proxy said last is heard, and sends `text`
    /// on it after that.
    pub fn ask_across(&mut self, time: Duration, text: &str) -> StreamId {
        let id = self.caller.open().unwrap();
        self.pass(time);
        self.say(id, text);
        id
    }

    /// The same where the auth proxy is told to stop meanwhile.
    pub fn ask_across_stop(&mut self, text: &str) -> StreamId {
        let id = self.caller.open().unwrap();
        self.emit(Event::Signal(Signal::Stop));
        self.say(id, text);
        id
    }

    pub fn ask_bytes(&mut self, bytes: &[u8]) -> StreamId {
        let id = self.caller.open().unwrap();
        self.say_bytes(id, bytes);
        id
    }

    pub fn say(&mut self, id: StreamId, text: &str) {
        self.say_bytes(id, text.as_bytes());
    }

    /// Sends at most a buffer full.
    pub fn say_bytes(&mut self, id: StreamId, bytes: &[u8]) {
        let lease = self.lease(bytes);
        let _ = self.caller.send(id, lease.freeze());
        self.carry();
    }

    /// What has come back on a stream since it was last looked at.
    pub fn heard(&mut self, id: StreamId) -> String {
        String::from_utf8(self.heard_bytes(id)).unwrap()
    }

    /// The same, where it is no text.
    pub fn heard_bytes(&mut self, id: StreamId) -> Vec<u8> {
        self.carry();
        self.got.remove(&id).unwrap_or_default()
    }

    /// The caller sends no more on a stream.
    pub fn finish(&mut self, id: StreamId) {
        self.caller.finish(id);
        self.carry();
    }

    /// Answers a question to the API server that was asked, and says which it was.
    pub fn answer(&mut self, result: Result<(u16, String), String>) -> HttpCall {
        let (id, call) = self.net.jobs.pop_front().expect("a question");
        let result = result.map(|(status, body)| HttpAnswer {
            status,
            headers: Vec::new(),
            body: body.into_bytes(),
        });
        self.emit(Event::Done(id, Outcome::Http(result)));
        self.carry();
        call
    }

    /// The file that is being read has this in it.
    pub fn read(&mut self, text: &str) {
        let id = self.net.reads.pop_front().expect("a file");
        let bytes = Secret::new(text.as_bytes().to_vec());
        self.emit(Event::Done(id, Outcome::Read(Ok(bytes))));
        self.carry();
    }

    /// The next connection that was asked for stands: its socket and what it gets.
    pub fn upstream(&mut self) -> (ConnId, String, String) {
        assert!(!self.net.dialled.is_empty(), "nothing goes upstream");
        let (conn, place) = self.net.dialled.remove(0);
        self.emit(Event::Connected(conn));
        let sent = self.net.sent.remove(&conn).unwrap_or_default();
        (conn, place, String::from_utf8(sent).unwrap())
    }

    /// The API server says something.
    pub fn reply(&mut self, conn: ConnId, text: &str) {
        let lease = self.lease(text.as_bytes());
        self.emit(Event::Data(conn, lease));
        self.carry();
    }

    /// Time passes, and every deadline in it.
    pub fn pass(&mut self, time: Duration) {
        let end = self.net.now + time;
        while let Some(at) = self.proxy.deadline().filter(|at| *at <= end) {
            self.net.now = self.net.now.max(at);
            self.emit(Event::Deadline);
        }
        self.net.now = end;
        self.carry();
    }

    /// What the listener for operators answers to `text` from `peer`.
    pub fn visit(&mut self, peer: Peer, text: &str) -> String {
        let conn = self.net.fresh();
        self.emit(Event::Accepted(conn, ListenerTag::Admin, peer));
        let lease = self.lease(text.as_bytes());
        self.emit(Event::Data(conn, lease));
        assert!(self.net.ended.contains(&conn), "one request for each connection");
        String::from_utf8(self.net.sent.remove(&conn).unwrap_or_default()).unwrap()
    }
}

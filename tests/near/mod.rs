//! A client proxy, its callers, and the other ends of its sessions: real ones, moved by hand.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use cluster_connect::auth::certify::Authority;
use cluster_connect::buf::{Pool, Pressure};
use cluster_connect::engine::mux::Event as Inner;
use cluster_connect::engine::tlsconf::{self, Versions};
use cluster_connect::engine::tunnel::{ALPN_MUX, Tunnel};
use cluster_connect::engine::upgrade::Request;
use cluster_connect::engine::ws::{self, Side, Splice, Step};
use cluster_connect::limits::BUFFER_SIZE;
use cluster_connect::role::client_proxy::{
    ClientProxy, Config, Shared, admission::Bearer, identity::Source, route::path_of,
};
use cluster_connect::role::shared_key::SharedKey;
use cluster_connect::role::{Close, ConnId, Endpoint, Event, Job, JobId, Net as _, Outcome};
use cluster_connect::secret::Secret;
use cluster_connect::wire::h1::Scan;
use cluster_connect::wire::mux::StreamId;
use cluster_connect::wire::resource::ResourceId;
use cluster_connect::wire::url::Url;
use cluster_connect::wire::ws::Opcode;
use rustls::ServerConfig;
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

use crate::net::Stage;

/// What the clock of [`crate::net::Script`] shows at first.
pub(crate) const NOW: u64 = 1_795_463_640;

#[derive(Debug)]
struct Stopped;

impl TimeProvider for Stopped {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(NOW)))
    }
}

fn cluster() -> ResourceId {
    ResourceId::parse("edge-7").unwrap()
}

fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| Authority::create(&[&cluster().server_name()]).unwrap())
}

fn bearer() -> Bearer {
    Bearer::new([7; 32])
}

pub(crate) fn connection_string(key: &str) -> String {
    let place = "Endpoint=sb://relay.test/;SharedAccessKeyName=r;EntityPath=ent";
    format!("{place};SharedAccessKey={key}")
}

/// A request of kubectl's, its fields, and what there is of its body.
pub(crate) fn request(method: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let (path, bearer) = (path_of(&cluster().cluster_id()), bearer());
    let bearer = bearer.text().expose();
    let head = format!(
        "{method} {path}/api/v1/pods HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bearer}\r\n\
         {fields}\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// The other end of a session.
pub(crate) struct Far {
    pub(crate) tunnel: Tunnel,
    frames: Splice,
    pool: Pool,
    /// What has come on each stream.
    pub(crate) got: BTreeMap<StreamId, Vec<u8>>,
    /// It goes as soon as it stands.
    is_leaving: bool,
    /// The client proxy has said goodbye.
    pub(crate) is_left: bool,
}

impl Far {
    fn hear(&mut self, bytes: &mut [u8], now: Instant) {
        // Byte by byte, so that nothing is heard before it goes.
        let size = if self.is_leaving { 1 } else { bytes.len() };
        for piece in bytes.chunks_mut(size.max(1)) {
            self.tunnel.receive(piece, &self.pool, now).unwrap();
            if self.is_leaving {
                self.tunnel.go_away();
            }
        }
    }

    pub(crate) fn say(&mut self, stream: StreamId, bytes: &[u8]) {
        let pool = self.pool.clone();
        for slice in pool.slices(bytes) {
            let _: Pressure = self.tunnel.send(stream, slice);
        }
    }

    /// The only stream there has been.
    pub(crate) fn only(&self) -> StreamId {
        assert_eq!(self.got.len(), 1, "{:?}", self.got.keys());
        *self.got.keys().next().unwrap()
    }

    pub(crate) fn text(&self, stream: StreamId) -> String {
        String::from_utf8_lossy(&self.got[&stream]).into_owned()
    }
}

/// See the module's documentation.
pub(crate) struct Near {
    pub(crate) stage: Stage<ClientProxy>,
    tls: Arc<ServerConfig>,
    pub(crate) fars: BTreeMap<ConnId, Far>,
    /// What bytes take to the other ends and back.
    way: Duration,
}

impl Near {
    /// One that has just started.
    pub(crate) fn new(key: SharedKey) -> Self {
        let time = Arc::new(Stopped);
        let roots = [authority().certificate().clone()];
        let tls = tlsconf::client(&roots, None, &[], Versions::Both, time.clone()).unwrap();
        let authority_of = authority().certificate().clone();
        let config = Config {
            relay: Url::parse("http://relay.test").unwrap(),
            shared: Some(Shared { key, authority: authority_of }),
            roots: None,
            tls,
            egress: Default::default(),
            clusters: vec![cluster()],
            identity: Source::Files { relay: None, cluster: None },
            audiences: ["relay".to_owned(), "cluster".to_owned()],
            kubernetes_token: Some(Secret::new("of-kubernetes".to_owned())),
            bearer: bearer(),
            known: Default::default(),
            known_path: "/known".into(),
            fingerprint: None,
            accept_new_ca: false,
            patience: Default::default(),
            measure: None,
            time: time.clone(),
        };
        let leaf = authority().leaf(NOW, [1; 16]).unwrap();
        let server = tlsconf::server(leaf, &[ALPN_MUX], Versions::Newest, time).unwrap();
        let stage = Stage::new(ClientProxy::new(config));
        Self { stage, tls: server.config, fars: BTreeMap::new(), way: Duration::ZERO }
    }

    /// One with a session that stands.
    pub(crate) fn ready() -> (Self, ConnId) {
        Self::ready_over(Duration::ZERO)
    }

    /// One with a session that stands, over a way that takes so long there and back.
    pub(crate) fn ready_over(way: Duration) -> (Self, ConnId) {
        let key = SharedKey::parse(&connection_string("k")).unwrap();
        let mut near = Self::new(key);
        near.way = way;
        let (id, _) = near.stage.net.jobs.pop().unwrap();
        near.stage.done(id, Outcome::Written(Ok(())));
        let session = near.dialled(1);
        near.meet(session);
        (near, session)
    }

    /// The connection that was asked for last, of so many.
    pub(crate) fn dialled(&self, count: usize) -> ConnId {
        assert_eq!(self.stage.net.connects.len(), count, "connections asked for");
        let (conn, to) = &self.stage.net.connects[count - 1];
        assert!(matches!(to, Endpoint::Tcp { host, .. } if host == "relay.test"), "{to:?}");
        *conn
    }

    /// A connection to the relay stands. Returns what it is asked.
    pub(crate) fn connected(&mut self, conn: ConnId) -> Request {
        self.stage.event(Event::Connected(conn));
        let bytes = self.stage.take(conn);
        Request::parse(&bytes, &mut Scan::default()).unwrap().unwrap().0
    }

    /// The relay joins a connection to an auth proxy.
    pub(crate) fn meet(&mut self, conn: ConnId) {
        self.join(conn, false);
        assert!(self.far(conn).tunnel.is_established());
    }

    /// The same, to one that goes before it has heard of any stream.
    pub(crate) fn meet_leaving(&mut self, conn: ConnId) {
        self.join(conn, true);
    }

    fn join(&mut self, conn: ConnId, is_leaving: bool) {
        let asked = self.connected(conn);
        let answer = asked.upgrade().unwrap().unwrap().answer(None);
        let far = Far {
            tunnel: Tunnel::accept(Arc::clone(&self.tls)).unwrap(),
            frames: Splice::payload(Side::Server),
            pool: Pool::new(64, 64, BUFFER_SIZE),
            got: BTreeMap::new(),
            is_leaving,
            is_left: false,
        };
        self.fars.insert(conn, far);
        self.stage.data(conn, &answer);
        self.carry();
    }

    /// The relay refuses.
    pub(crate) fn refuse(&mut self, conn: ConnId, status: &str) -> Request {
        let asked = self.connected(conn);
        self.stage.data(conn, format!("HTTP/1.1 {status}\r\n\r\n").as_bytes());
        asked
    }

    pub(crate) fn far(&mut self, conn: ConnId) -> &mut Far {
        self.fars.get_mut(&conn).unwrap()
    }

    /// Everything that the client proxy has to say reaches the other ends.
    pub(crate) fn carry_up(&mut self) -> bool {
        let now = self.stage.net.now();
        let mut any = false;
        for (conn, far) in &mut self.fars {
            let mut bytes = self.stage.take(*conn);
            any |= !bytes.is_empty();
            let mut steps = Vec::new();
            far.frames.handle(&mut bytes, &mut steps).unwrap();
            for step in steps {
                match step {
                    Step::Bytes(range) => far.hear(&mut bytes[range], now),
                    Step::Close(_) => far.is_left = true,
                    Step::Head(_) | Step::Ping(_) => (),
                }
            }
            while let Some(event) = far.tunnel.poll_event() {
                match event {
                    Inner::Opened(id) => drop(far.got.insert(id, Vec::new())),
                    Inner::Data(id, data) => {
                        far.got.get_mut(&id).unwrap().extend_from_slice(&data);
                        far.tunnel.drained(id, data.len(), now);
                    }
                    _ => (),
                }
            }
        }
        any
    }

    /// All that the other end of a session has to say arrives in one piece, with what the relay says
    /// behind it.
    pub(crate) fn carry_down_at_once(&mut self, conn: ConnId, behind: &[u8]) {
        let far = self.far(conn);
        let mut bytes = Vec::new();
        while far.tunnel.transmit(&mut bytes) {}
        let frame = ws::frame(Opcode::Binary, None, &bytes);
        self.stage.data(conn, &[&frame, behind].concat());
    }

    /// And the other way round.
    pub(crate) fn carry_down(&mut self) -> bool {
        let mut frames = Vec::new();
        for (conn, far) in &mut self.fars {
            let mut bytes = Vec::new();
            while far.tunnel.transmit(&mut bytes) {
                frames.push((*conn, ws::frame(Opcode::Binary, None, &bytes)));
                bytes.clear();
            }
        }
        let any = !frames.is_empty();
        frames.into_iter().for_each(|(conn, frame)| self.stage.data(conn, &frame));
        any
    }

    /// Both, until nothing is left to say.
    pub(crate) fn carry(&mut self) {
        loop {
            let any = self.carry_up();
            if any && !self.way.is_zero() {
                self.stage.pass_for(self.way);
            }
            if !(self.carry_down() || any) {
                return;
            }
        }
    }

    /// A caller, and what it says; nothing of it is carried on yet.
    pub(crate) fn ask(&mut self, bytes: &[u8]) -> ConnId {
        let caller = self.stage.accept();
        self.stage.data(caller, bytes);
        caller
    }

    /// What a caller has got since it was last looked at; it has taken that.
    pub(crate) fn heard(&mut self, caller: ConnId) -> String {
        let bytes = self.stage.take(caller);
        self.stage.drained(caller, bytes.len());
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A caller hangs up.
    pub(crate) fn hang_up(&mut self, caller: ConnId) {
        self.stage.closed(caller, Close::Reset);
    }

    /// The job that was submitted last, which must be the only one.
    pub(crate) fn job(&mut self) -> (JobId, Job) {
        assert_eq!(self.stage.net.jobs.len(), 1, "{:?}", self.stage.net.jobs);
        self.stage.net.jobs.remove(0)
    }
}

/// A whole answer.
pub(crate) const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

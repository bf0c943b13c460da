//! The client proxy: kubectl's way into connected clusters, by a port on this machine.
//!
//! ```text
//! kubectl ── loopback TLS ── Exchange ── stream ── Tunnel ── WebSocket ── relay
//!             local           │ admission, route: whose request, for which cluster?
//!                             └ fetch: tokens, credentials, renewed before they end
//! ```
//!
//! Its decisions stand in files without effects: which cluster a request is for ([`route`]),
//! whether the caller may use the port ([`admission`]), where tokens come from ([`identity`]), what
//! a credential must say ([`credential`]), whom it trusts ([`known`]), and when it asks again
//! ([`Renewal`](crate::engine::renewal::Renewal)). [`local`], [`fetch`] and [`session`] act on them;
//! [`again`] has what an auth proxy on its way out did not take, and [`measure`] is there instead of
//! [`local`] where the tunnel is to be measured.

pub mod admission;
mod again;
pub mod credential;
mod fetch;
pub mod identity;
pub mod known;
mod local;
mod lost;
mod measure;
mod relief;
pub mod route;
mod session;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::time_provider::TimeProvider;

use self::admission::Bearer;
use self::fetch::Asked;
use self::identity::Source;
use self::known::Known;
use self::local::Local;
use self::lost::Lost;
use self::session::Session;
use super::egress::Egress;
use super::shared_key::SharedKey;
use super::{Close, ConnId, Event, Fault, JobId, Net, Notice, Role, Signal, random_u64};
use crate::auth::certify::Fingerprint;
use crate::buf::Lease;
use crate::engine::backoff::Backoff;
use crate::engine::probe::{Near, Plan};
use crate::engine::timers::Timers;
use crate::limits::{RELIEF_PAUSE, START_RETRY};
use crate::secret::Secret;
use crate::wire::resource::ResourceId;
use crate::wire::url::Url;

/// What differs from client proxy to client proxy.
#[derive(Debug)]
pub struct Config {
    /// The relay's API.
    pub relay: Url,
    /// Instead of what that API would give.
    pub shared: Option<Shared>,
    /// The roots for it, instead of the system's.
    pub roots: Option<Arc<Vec<CertificateDer<'static>>>>,
    /// TLS towards the relay.
    pub tls: Arc<ClientConfig>,
    /// Which connections go through an HTTP proxy.
    pub egress: Egress,
    /// The clusters to reach.
    pub clusters: Vec<ResourceId>,
    /// Where the caller's tokens come from.
    pub identity: Source,
    /// The audiences for `--identity exec:`: the relay's, the cluster's.
    pub audiences: [String; 2],
    /// The caller's own Kubernetes token, which goes to the API server as it is.
    pub kubernetes_token: Option<Secret<String>>,
    /// The bearer that the kubeconfig carries.
    pub bearer: Bearer,
    /// The CAs that are known, and the file they are in.
    pub known: Known,
    /// See [`Config::known`].
    pub known_path: PathBuf,
    /// The CA that the command line names.
    pub fingerprint: Option<Fingerprint>,
    /// A changed CA is accepted.
    pub accept_new_ca: bool,
    /// How long a cluster that is not connected is waited for at start.
    pub patience: Duration,
    /// Nobody is served: the tunnel is measured, and the process ends.
    pub measure: Option<Plan>,
    /// The clock by which certificates are judged.
    pub time: Arc<dyn TimeProvider>,
}

/// The way to one cluster by the key of its hybrid connection, for a relay without our API.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The right to send.
    pub key: SharedKey,
    /// The CA of the cluster's auth proxy.
    pub authority: CertificateDer<'static>,
}

/// The role of the client proxy.
#[derive(Debug)]
pub struct ClientProxy {
    config: Config,
    clusters: BTreeMap<String, Box<Cluster>>,
    sessions: BTreeMap<ConnId, Box<Session>>,
    locals: BTreeMap<ConnId, Box<Local>>,
    /// What is at the other end, as a sentence about it has it.
    far: Arc<str>,
    jobs: BTreeMap<JobId, Box<Asked>>,
    timers: Timers<Key>,
    /// Until when trouble at start is waited out.
    patient_until: Option<Instant>,
    is_ready: bool,
    /// What measures, and on which session.
    near: Option<(ConnId, Near)>,
}

/// One cluster, by its id.
#[derive(Debug)]
struct Cluster {
    resource: ResourceId,
    credential: fetch::Credentials,
    token: fetch::ClusterToken,
    /// Its CA has been held against what is known.
    is_judged: bool,
    /// How TLS is spoken with it under the CA of this fingerprint.
    inner: Option<(Fingerprint, Arc<ClientConfig>)>,
    /// The first session that takes new streams, up or on its way.
    session: Option<ConnId>,
    /// The one beside it, up or on its way.
    relief: Option<ConnId>,
    /// Before then no other is started, and how much later after the next attempt.
    relief_due: Option<Instant>,
    relief_pause: Backoff,
    /// When two were found to be better than one last.
    relief_wanted: Option<Instant>,
    /// Local connections that wait for a session.
    waiting: Vec<ConnId>,
    /// Local connections whose request waits for the caller's token.
    undecided: Vec<ConnId>,
}

/// What a deadline is for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Key {
    /// A credential or token is due.
    Renew,
    /// A cluster that could not be reached at start is tried again.
    Start,
    /// A session has to be up.
    Opening(ConnId),
    /// A sign of life of a session is due.
    Ping(ConnId),
    /// A session may have a stream that stays.
    Relief(ConnId),
    /// The machine of a local connection has one.
    Exchange(ConnId),
    /// What measures has one.
    Measure,
}

impl ClientProxy {
    /// A client proxy that has no credential yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let clusters = config.clusters.iter().map(|resource| {
            let cluster = Cluster {
                resource: resource.clone(),
                credential: fetch::Credentials::default(),
                token: fetch::ClusterToken::default(),
                is_judged: false,
                inner: None,
                session: None,
                relief: None,
                relief_due: None,
                relief_pause: Backoff::new(RELIEF_PAUSE.0, RELIEF_PAUSE.1),
                relief_wanted: None,
                waiting: Vec::new(),
                undecided: Vec::new(),
            };
            (resource.cluster_id(), Box::new(cluster))
        });
        Self {
            clusters: clusters.collect(),
            config,
            sessions: BTreeMap::new(),
            locals: BTreeMap::new(),
            far: Arc::from("the cluster"),
            jobs: BTreeMap::new(),
            timers: Timers::new(),
            patient_until: None,
            is_ready: false,
            near: None,
        }
    }

    /// Local connections, and streams towards clusters: a test that ends with other than nothing
    /// has found a leak.
    #[must_use]
    pub fn leftovers(&self) -> (usize, usize) {
        let streams = self.sessions.values().map(|session| session.tunnel.streams()).sum();
        (self.locals.len(), streams)
    }

    fn on_data(&mut self, conn: ConnId, data: Lease, net: &mut dyn Net) {
        if self.sessions.contains_key(&conn) {
            self.on_session_data(conn, data, net);
        } else {
            self.on_local_data(conn, data, net);
        }
    }

    fn on_closed(&mut self, conn: ConnId, why: &Close, net: &mut dyn Net) {
        if self.sessions.contains_key(&conn) {
            self.on_session_lost(conn, &Lost::Relay(why.to_string()), net);
        } else {
            self.on_local_gone(conn, net);
        }
    }

    fn on_deadline(&mut self, net: &mut dyn Net) {
        let now = net.now();
        while let Some(key) = self.timers.expire(now) {
            match key {
                Key::Renew => self.renew(net),
                Key::Opening(conn) => {
                    net.abort(conn);
                    let why = Lost::Cluster("it did not answer in time".to_owned());
                    self.on_session_lost(conn, &why, net);
                }
                Key::Ping(conn) => self.on_ping_due(conn, net),
                Key::Relief(conn) => self.look_who_stays(conn, net),
                Key::Start => self.try_again(net),
                Key::Exchange(conn) => self.on_exchange_deadline(conn, net),
                Key::Measure => self.on_measure_due(net),
            }
        }
    }

    fn on_started(&mut self, net: &mut dyn Net) {
        self.patient_until = Some(net.now() + self.config.patience);
        let ids: Vec<String> = self.clusters.keys().cloned().collect();
        for id in ids {
            self.want_token(&id, net);
            self.want_credential(&id, net);
        }
        self.become_ready(net);
    }

    /// Once every cluster has a session the process does what it is for. A cluster that fails
    /// before that ends the process with the reason; one that fails later does not.
    fn become_ready(&mut self, net: &mut dyn Net) {
        let up = |cluster: &Cluster| {
            let session = cluster.session.and_then(|conn| self.sessions.get(&conn));
            session.is_some_and(|session| session.tunnel.is_established())
                && cluster.token.is_good(net.now(), self.config.kubernetes_token.is_some())
        };
        // What is trusted from now on is written down before anything rests on it.
        let is_writing = self.jobs.values().any(|asked| matches!(**asked, Asked::KnownWritten));
        if !self.is_ready && !is_writing && self.clusters.values().all(|it| up(it)) {
            self.is_ready = true;
            match self.config.measure {
                None => net.tell(Notice::Ready),
                Some(plan) => self.start_measuring(plan, net),
            }
        }
    }

    /// A cluster cannot be reached: at start that is the end, later it is a line in the log and an
    /// answer to those who wait.
    fn on_trouble(&mut self, id: &str, code: &'static str, why: &str, net: &mut dyn Net) {
        let may_pass = [
            "CLUSTER_OFFLINE",
            "CLUSTER_NEVER_CONNECTED",
            "CLUSTER_UNREACHABLE",
            "RELAY_UNREACHABLE",
        ];
        let patient = self.patient_until.is_some_and(|until| net.now() < until) && !self.is_ready;
        if self.is_ready && self.config.measure.is_none() {
            log::warn!("cluster={} {why}", self.name(id));
        } else if patient && may_pass.contains(&code) {
            self.timers.set(Key::Start, net.now() + START_RETRY);
            net.tell(Notice::Say(format!("waiting: {why}")));
        } else {
            net.tell(Notice::Exit(1, Some(Fault { code, message: why.to_owned() })));
        }
        self.refuse_waiting(id, why, net);
    }

    /// Tries every cluster that has no session, while the process waits for all of them.
    fn try_again(&mut self, net: &mut dyn Net) {
        if self.is_ready {
            return;
        }
        let missing = self.clusters.iter().filter(|(_, cluster)| cluster.session.is_none());
        let missing: Vec<String> = missing.map(|(id, _)| id.clone()).collect();
        for id in missing {
            self.want_session(&id, net);
        }
    }

    fn name(&self, id: &str) -> String {
        self.clusters.get(id).map_or_else(String::new, |it| it.resource.name().to_owned())
    }
}

impl Role for ClientProxy {
    fn on_event(&mut self, event: Event, net: &mut dyn Net) {
        match event {
            Event::Started => self.on_started(net),
            Event::Accepted(conn, ..) => self.on_local_accepted(conn, net),
            Event::Connected(conn) => self.on_session_connected(conn, net),
            Event::Data(conn, data) => self.on_data(conn, data, net),
            Event::Finished(conn) if self.sessions.contains_key(&conn) => {
                net.close(conn);
                let why = Lost::Relay("it closed the connection".to_owned());
                self.on_session_lost(conn, &why, net);
            }
            Event::Finished(conn) => self.on_local_finished(conn, net),
            Event::Drained(conn, _) if self.sessions.contains_key(&conn) => {
                self.serve_session(conn, net);
            }
            Event::Drained(conn, len) => self.on_local_drained(conn, len, net),
            Event::Closed(conn, why) => self.on_closed(conn, &why, net),
            Event::Done(job, outcome) => self.on_done(job, outcome, net),
            Event::Signal(Signal::Stop) => net.tell(Notice::Exit(0, None)),
            Event::Signal(Signal::Reload) => self.renew_all(net),
            Event::Deadline => self.on_deadline(net),
            // There is one loop.
            Event::Letter(..) => (),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.timers.next()
    }
}

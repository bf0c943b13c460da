#![allow(dead_code, unreachable_pub, reason = "each test uses its own part of this")]
//! The whole chain in one world: kubectl, client proxy, relay, agent, auth proxy, API server.
//! Tokens, enrolment, role assignments and the end-to-end session are the real ones.

pub mod apiserver;
mod crowded;
mod ends;
mod journal;
pub mod kubectl;
mod measured;
mod plain;
pub mod tokens;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use cluster_connect::auth::certify::{AgentKey, Authority};
use cluster_connect::engine::probe::Plan;
use cluster_connect::engine::tlsconf::{self, Versions};
use cluster_connect::engine::tunnel::{ALPN_BENCH, ALPN_HTTP, ALPN_MUX};
use cluster_connect::role::agent::{self, Agent, Enrolment, Source};
use cluster_connect::role::auth_proxy::upstream::{TokenSource, Upstream};
use cluster_connect::role::auth_proxy::{self, AuthProxy};
use cluster_connect::role::client_proxy::{self, ClientProxy, identity};
use cluster_connect::role::client_proxy::{admission::Bearer, route::path_of};
use cluster_connect::role::edge::Edge;
use cluster_connect::role::relay::api::{Api, Issuer, Settings};
use cluster_connect::role::relay::desk::Desk;
use cluster_connect::role::relay::provider::Provider;
use cluster_connect::role::relay::registry::{Ledger, Request, encode};
use cluster_connect::role::relay::{self, Relay};
use cluster_connect::role::{
    Endpoint, Event, HttpCall, Job, ListenerTag, Net, Outcome, Role, Signal,
};
use cluster_connect::secret::Secret;
use cluster_connect::wire::resource::ResourceId;
use cluster_connect::wire::url::Url;
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use serde_json::{Value, json};

use crate::sim::{Clerk, EPOCH, Rng, World};
use apiserver::{ApiServer, OWN_TOKEN, Seen};
use kubectl::{Ask, Kubectl, Plans, Report};

const ADMIN: &str = "the-operators-own-token-with-some-length";

/// What differs from chain to chain.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The auth proxy is a process of its own.
    pub is_apart: bool,
    /// Seconds that the caller's token for the cluster lives.
    pub token_life: u64,
    pub session_max: Duration,
    /// The auth proxy has a certificate of another authority than the one that was enrolled.
    pub is_impostor: bool,
}

impl Default for Shape {
    fn default() -> Self {
        let session_max = Duration::from_secs(8 * 3600);
        Self { is_apart: false, token_life: 3600, session_max, is_impostor: false }
    }
}

/// What is on the disks of the world, and what its clerks have been told.
#[derive(Default)]
pub struct Disks {
    files: BTreeMap<PathBuf, Vec<u8>>,
    journal: Vec<Vec<u8>>,
    token_life: u64,
}

/// See the module's documentation.
pub struct Chain {
    pub world: World,
    shape: Shape,
    disks: Rc<RefCell<Disks>>,
    join_token: String,
    pub relay: usize,
    /// The agent, with or without the auth proxy.
    pub agent: usize,
    pub auth_proxy: usize,
    pub client: usize,
    pub kubectl: usize,
    pub apiserver: usize,
    pub roles: Roles,
    pub plans: Rc<RefCell<Plans>>,
    pub report: Rc<RefCell<Report>>,
    pub seen: Rc<RefCell<Seen>>,
}

/// The roles, to look into.
#[derive(Default)]
pub struct Roles {
    relay: Option<Rc<RefCell<Relay>>>,
    edge: Option<Rc<RefCell<Edge>>>,
    agent: Option<Rc<RefCell<Agent>>>,
    auth_proxy: Option<Rc<RefCell<AuthProxy>>>,
    client: Option<Rc<RefCell<ClientProxy>>>,
}

/// A role that can be looked into while it runs.
struct Open<R>(Rc<RefCell<R>>);

impl<R: Role> Role for Open<R> {
    fn on_event(&mut self, event: Event, net: &mut dyn Net) {
        self.0.borrow_mut().on_event(event, net);
    }

    fn deadline(&self) -> Option<Instant> {
        self.0.borrow().deadline()
    }
}

/// A machine on which nothing runs.
struct Nobody;

impl Role for Nobody {
    fn on_event(&mut self, event: Event, net: &mut dyn Net) {
        if let Event::Accepted(conn, ..) = event {
            net.abort(conn);
        }
    }
}

fn open<R: Role>(role: R, place: &mut Option<Rc<RefCell<R>>>) -> Open<R> {
    let role = Rc::new(RefCell::new(role));
    *place = Some(Rc::clone(&role));
    Open(role)
}

impl Chain {
    /// A chain that is up: the cluster added, the agent enrolled, alice granted, the client proxy
    /// ready.
    pub fn new(seed: u64, shape: Shape) -> Self {
        let mut chain = Self::without_client(seed, shape);
        chain.start_client();
        assert!(chain.settle(chain.client), "the client proxy does not become ready");
        chain
    }

    /// The same, with nobody who calls.
    pub fn without_client(seed: u64, shape: Shape) -> Self {
        let disks = Rc::new(RefCell::new(Disks::default()));
        disks.borrow_mut().token_life = shape.token_life;
        initialise(&mut disks.borrow_mut());
        let mut chain = Self {
            world: World::new(seed),
            shape,
            disks,
            join_token: String::new(),
            relay: 0,
            agent: 0,
            auth_proxy: 0,
            client: 0,
            kubectl: 0,
            apiserver: 0,
            roles: Roles::default(),
            plans: Rc::default(),
            report: Rc::default(),
            seen: Rc::default(),
        };
        chain.world.add_courier();
        let role = open(chain.new_relay(), &mut chain.roles.relay);
        chain.relay = chain.world.add("relay.test", role, chain.clerk());
        let path = cluster().id();
        assert_eq!(chain.api("PUT", &path, &json!({"location": "here"})).0, 201);
        let (status, answer) = chain.api("POST", &format!("{path}/createJoinToken"), &json!({}));
        assert_eq!(status, 200);
        chain.join_token = answer["joinToken"].as_str().expect("a join token").to_owned();
        assert_eq!(chain.grant("grant", "alice"), 200);
        let server = ApiServer::new(Rc::clone(&chain.seen), seed);
        chain.apiserver = chain.world.add("apiserver.test", server, crate::sim::no_jobs());
        chain.start_edge();
        assert!(chain.settle(chain.agent), "the agent does not connect");
        chain
    }

    fn start_edge(&mut self) {
        if self.shape.is_apart {
            let role = open(self.new_auth_proxy(), &mut self.roles.auth_proxy);
            self.auth_proxy = self.world.add("auth-proxy.test", role, self.clerk());
            let role = open(self.new_agent(), &mut self.roles.agent);
            self.agent = self.world.add("agent.test", role, self.clerk());
        } else {
            let edge = Edge::new(self.new_agent(), self.new_auth_proxy());
            let role = open(edge, &mut self.roles.edge);
            self.agent = self.world.add("agent.test", role, self.clerk());
            self.auth_proxy = self.agent;
        }
    }

    pub fn start_client(&mut self) {
        let role = open(self.new_client(None), &mut self.roles.client);
        self.client = self.world.add("proxy.test", role, self.clerk());
        let (plans, report) = (Rc::clone(&self.plans), Rc::clone(&self.report));
        let prefix = path_of(&cluster().cluster_id());
        let bearer = bearer().text().expose().clone();
        let seed = self.world.rng.next();
        let kubectl = Kubectl::new("proxy.test", prefix, bearer, plans, report, seed);
        self.kubectl = self.world.add("kubectl.test", kubectl, crate::sim::no_jobs());
    }

    /// Somebody who measures, on a machine of their own.
    pub fn measure(&mut self, plan: Plan) -> usize {
        let role = self.new_client(Some(plan));
        self.world.add("measuring.test", role, self.clerk())
    }

    fn settle(&mut self, node: usize) -> bool {
        self.world.run_until(Duration::from_secs(120), |world| world.is_ready(node))
    }

    /// A new process in the place of the relay, on the same disk.
    pub fn replace_relay(&mut self) {
        let role = open(self.new_relay(), &mut self.roles.relay);
        self.world.replace(self.relay, role);
    }

    /// The edge is switched off.
    pub fn remove_agent(&mut self) {
        (self.roles.edge, self.roles.agent) = (None, None);
        self.world.replace(self.agent, Nobody);
    }

    /// A new process in the place of the agent, or of the edge.
    pub fn replace_agent(&mut self) {
        if self.shape.is_apart {
            let role = open(self.new_agent(), &mut self.roles.agent);
            self.world.replace(self.agent, role);
        } else {
            let edge = Edge::new(self.new_agent(), self.new_auth_proxy());
            let role = open(edge, &mut self.roles.edge);
            self.world.replace(self.agent, role);
        }
    }

    /// A new process in the place of the auth proxy, or of the edge.
    pub fn replace_auth_proxy(&mut self) {
        if self.shape.is_apart {
            let role = open(self.new_auth_proxy(), &mut self.roles.auth_proxy);
            self.world.replace(self.auth_proxy, role);
        } else {
            self.replace_agent();
        }
    }

    /// Hands kubectl something to do: a list for each of its connections.
    pub fn ask(&mut self, lanes: Vec<Vec<Ask>>) {
        self.plans.borrow_mut().lanes = lanes;
        self.world.poke(self.kubectl, Event::Signal(Signal::Reload));
    }

    /// Those that stall read on.
    pub fn read_on(&mut self) {
        self.plans.borrow_mut().read_on = true;
        self.world.poke(self.kubectl, Event::Signal(Signal::Reload));
    }

    /// Runs until kubectl has nothing left to do.
    pub fn run_asks(&mut self, limit: Duration) -> bool {
        let report = Rc::clone(&self.report);
        self.world.run_until(limit, |_| {
            let report = report.borrow();
            report.left == 0 && report.open == 0
        })
    }

    pub fn grant(&mut self, action: &str, user: &str) -> u16 {
        let path = format!("{}/{action}", cluster().id());
        self.api("POST", &path, &json!({ "user": user })).0
    }

    /// A call of the operator's.
    pub fn api(&mut self, method: &'static str, path: &str, body: &Value) -> (u16, Value) {
        let bearer = format!("Bearer {ADMIN}");
        let answer = self.world.call(HttpCall {
            method,
            url: format!("http://relay.test{path}?api-version=2021-10-01"),
            headers: vec![("Authorization".to_owned(), Secret::new(bearer))],
            body: body.to_string().into_bytes(),
            roots: None,
            limit: 1 << 20,
            timeout: Duration::from_secs(30),
        });
        let answer = answer.expect("the relay answers");
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
    }

    fn clerk(&self) -> Clerk {
        let disks = Rc::clone(&self.disks);
        Box::new(move |job, unix_now| {
            let mut disks = disks.borrow_mut();
            Some(match job {
                Job::Http(_) => return None,
                Job::Journal(note) => journal::keep(&mut disks.journal, note),
                Job::Write(file) => {
                    disks.files.insert(file.path.clone(), file.bytes.expose().clone());
                    Outcome::Written(Ok(()))
                }
                Job::Read { path, .. } => {
                    let token =
                        |audience| tokens::token("alice", audience, unix_now, disks.token_life);
                    let bytes = match path.to_str() {
                        Some("/relay-token") => Ok(token("relay").into_bytes()),
                        Some("/cluster-token") => Ok(token("cluster").into_bytes()),
                        Some("/own-token") => Ok(OWN_TOKEN.into()),
                        _ => {
                            disks.files.get(path).cloned().ok_or_else(|| "no such file".to_owned())
                        }
                    };
                    Outcome::Read(bytes.map(Secret::new))
                }
                Job::Exec(_) => panic!("nobody runs commands here"),
            })
        })
    }

    fn new_relay(&self) -> Relay {
        let disks = self.disks.borrow();
        let ledger = Ledger::replay(disks.journal.iter().map(Vec::as_slice)).expect("readable");
        let settings = Settings {
            public_name: None,
            secure: true,
            audiences: vec!["relay".to_owned()],
            issuers: vec![Issuer {
                issuer: tokens::ISSUER.to_owned(),
                tenant: None,
                name_is_subject: true,
            }],
            send_token_life: Duration::from_secs(3600),
        };
        let api = Api::new(settings, Secret::new(ADMIN.to_owned()), &[7; 32]);
        let provider = Provider::new(Desk::new(api, ledger), tokens::keys("relay"), None);
        let config = relay::Config { secure: false, ..relay::Config::default() };
        Relay::new(config, Box::new(provider))
    }

    fn new_agent(&self) -> Agent {
        let random = ring::rand::SystemRandom::new();
        let key = AgentKey::from_pem(pki().agent_key.as_bytes(), &random).expect("a key");
        let enrolment = Enrolment {
            api: "http://relay.test".to_owned(),
            roots: None,
            resource: cluster().id(),
            cluster: cluster().cluster_id(),
            key: agent::AgentKey {
                public: key.public_point().to_vec(),
                sign: Box::new(move |bytes| key.sign_bytes(bytes, &random).ok()),
            },
            join_token: Some(Secret::new(self.join_token.clone())),
            certificate: pki().authority.certificate().to_vec(),
            audiences: vec!["cluster".to_owned()],
            state: "/enrolled.json".into(),
        };
        let to = if self.shape.is_apart {
            plain("auth-proxy.test")
        } else {
            Endpoint::Local(ListenerTag::AuthProxy)
        };
        Agent::new(agent::Config::new(Source::Enrolment(Box::new(enrolment)), None, to))
    }

    fn new_auth_proxy(&self) -> AuthProxy {
        let other = Authority::create(&[&cluster().server_name()]).expect("a CA");
        let authority = if self.shape.is_impostor { &other } else { &pki().authority };
        let leaf = authority.leaf(EPOCH, [1; 16]).expect("a certificate");
        let alpn: &[&[u8]] = &[ALPN_MUX, ALPN_HTTP, ALPN_BENCH];
        let tls = tlsconf::server(leaf, alpn, Versions::Newest, Arc::new(Stopped));
        let upstream = Upstream {
            endpoint: plain("apiserver.test"),
            anonymous: plain("apiserver.test"),
            host: "apiserver.test".to_owned(),
            token: TokenSource::File("/own-token".into()),
        };
        let mut config = auth_proxy::Config::new(tls.expect("a configuration").config, upstream);
        config.session_max = self.shape.session_max;
        AuthProxy::new(config, tokens::keys("cluster"))
    }

    fn new_client(&self, measure: Option<Plan>) -> ClientProxy {
        let time = Arc::new(Stopped);
        let roots = [pki().authority.certificate().clone()];
        let tls = tlsconf::client(&roots, None, &[], Versions::Both, time.clone());
        ClientProxy::new(client_proxy::Config {
            shared: None,
            relay: Url::parse("http://relay.test").expect("a URL"),
            roots: None,
            tls: tls.expect("a configuration"),
            egress: Default::default(),
            clusters: vec![cluster()],
            identity: identity::Source::Files {
                relay: Some("/relay-token".into()),
                cluster: Some("/cluster-token".into()),
            },
            audiences: ["relay".to_owned(), "cluster".to_owned()],
            kubernetes_token: None,
            bearer: bearer(),
            known: Default::default(),
            known_path: "/known".into(),
            fingerprint: None,
            accept_new_ca: false,
            patience: Duration::from_secs(60),
            measure,
            time,
        })
    }
}

impl Chain {
    /// What the roles still have open, by name. The control channel and the session are to stay.
    pub fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        let mut note = |name: &str, what: String, expected: &str| {
            if what != expected {
                left.push(format!("{name}: {what}, not {expected}"));
            }
        };
        let roles = &self.roles;
        let relay = roles.relay.as_ref().map(|role| role.borrow().leftovers());
        note("relay", format!("{relay:?}"), "Some((3, 0))");
        if let Some(client) = &roles.client {
            note("client proxy", format!("{:?}", client.borrow().leftovers()), "(0, 0)");
        }
        if let Some(agent) = &roles.agent {
            note("agent", format!("{}", agent.borrow().leftovers()), "3");
        }
        if let Some(auth_proxy) = &roles.auth_proxy {
            note("auth proxy", format!("{:?}", auth_proxy.borrow().leftovers()), "(1, 0, 0)");
        }
        if let Some(edge) = &roles.edge {
            note("edge", format!("{:?}", edge.borrow().leftovers()), "(3, (1, 0, 0), 4)");
        }
        let (names, nodes) = (
            ["relay", "agent", "auth proxy", "client proxy", "kubectl", "apiserver"],
            [self.relay, self.agent, self.auth_proxy, self.client, self.kubectl, self.apiserver],
        );
        let conns = match self.shape.is_apart {
            true => [3, 3, 1, 1, 0, 0],
            false => [3, 4, 4, 1, 0, 0],
        };
        for ((name, node), conns) in names.into_iter().zip(nodes).zip(conns) {
            note(name, format!("{:?}", self.world.leftovers(node)), &format!("(0, {conns})"));
        }
        left
    }
}

/// Certificates and keys for all worlds: they are slow to make.
struct Pki {
    authority: Authority,
    agent_key: String,
}

fn pki() -> &'static Pki {
    static PKI: OnceLock<Pki> = OnceLock::new();
    let agent_key = AgentKey::create(&ring::rand::SystemRandom::new()).expect("a key");
    PKI.get_or_init(|| Pki {
        authority: Authority::create(&[&cluster().server_name()]).expect("a CA"),
        agent_key: agent_key.to_pem().expose().clone(),
    })
}

/// The clock of certificates, which stands still.
#[derive(Debug)]
struct Stopped;

impl TimeProvider for Stopped {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(EPOCH)))
    }
}

pub fn cluster() -> ResourceId {
    ResourceId::parse("edge-7").expect("a name")
}

fn bearer() -> Bearer {
    Bearer::new([5; 32])
}

fn plain(host: &str) -> Endpoint {
    Endpoint::Tcp { host: host.to_owned(), port: 443, tls: None, via: None }
}

/// What a relay writes at its first start.
fn initialise(disks: &mut Disks) {
    let registry = Ledger::default();
    let mut rng = Rng(9);
    let mut random = |into: &mut [u8]| into.copy_from_slice(&rng.bytes(into.len()));
    let changes = registry.registry().plan(Request::Initialise, EPOCH, &mut random);
    disks.journal.push(encode(&changes.unwrap_or_default()));
}

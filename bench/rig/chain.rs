//! The chains that are measured, each in processes of its own.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cluster_connect::engine::tlsconf::{self, Versions};
use cluster_connect::wire::kubeconfig::{Kubeconfig, Material, Token};
use rustls::ClientConfig;
use rustls::time_provider::DefaultTimeProvider;

use super::issuer::{Algorithm, Issuer};
use super::origin;
use super::process::{self, Process};
use super::sender::SENDER;
use super::stream::{Secure, Stream, connect};
use super::tls::Pki;
use super::upstream;

const RELAY_AUDIENCE: &str = "bench-relay";
const CLUSTER_AUDIENCE: &str = "bench-cluster";
const ALICE: &str = "alice@contoso.com";
/// One caller holds as many streams, and moves as many bytes, as a bench asks for.
const MANY: [&str; 8] = [
    "--max-in-flight-per-user",
    "20000",
    "--max-in-flight-per-session",
    "20000",
    "--max-in-flight",
    "40000",
    "--bench-rate",
    "100000",
];
const LIFE: Duration = Duration::from_secs(12 * 3600);

/// The relay and what it needs, shared by all chains of a bench.
pub(crate) struct Site {
    pub(crate) dir: PathBuf,
    pub(crate) relay: Process,
    port: u16,
    issuer: Issuer,
    pub(crate) pki: Pki,
    origin: Origin,
    /// How many have measured.
    probes: AtomicUsize,
}

/// What stands behind every chain.
struct Origin {
    plain: SocketAddr,
    api: SocketAddr,
    /// Where it is not the bench's own.
    _process: Option<Process>,
}

/// A way from a caller to the origin.
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    pub(crate) processes: Vec<Process>,
    pub(crate) way: Way,
    /// It goes through our relay, which counts with it.
    pub(crate) is_ours: bool,
    /// The cluster that `cluster-connect bench` can measure.
    pub(crate) cluster: Option<&'static str>,
}

/// How a stream to the origin is opened.
#[derive(Clone)]
pub(crate) enum Way {
    Tcp(SocketAddr),
    /// Through the client proxy, by an upgrade.
    Proxy {
        port: u16,
        config: Arc<ClientConfig>,
        prefix: String,
        token: String,
    },
}

/// Where a relay listens, and the names in its certificate.
type Place<'a> = (&'a str, &'a str);

const LOOPBACK: Place<'static> = ("127.0.0.1:0", "localhost,127.0.0.1");

impl Way {
    /// A stream that speaks the protocol of [`origin`].
    pub(crate) fn open(&self) -> Box<dyn Stream> {
        self.try_open().expect("the chain takes connections")
    }

    /// The same where the chain may not be up.
    pub(crate) fn try_open(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(to) => Box::new(connect(*to)?),
            Self::Proxy { prefix, token, .. } => {
                let mut stream = self.connection();
                let request = format!(
                    "POST {prefix}/api/v1/namespaces/default/pods/bench/portforward HTTP/1.1\r\n\
                     Host: localhost\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\n\
                     Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: portforward.k8s.io\r\n\
                     Content-Length: 0\r\n\r\n"
                );
                stream.write_all(request.as_bytes()).expect("the proxy reads");
                let head = origin::head(&mut stream)?;
                if !head.starts_with("HTTP/1.1 101") {
                    return Err(io::Error::other(head));
                }
                Box::new(stream)
            }
        })
    }

    /// A connection as kubectl would make it.
    pub(crate) fn connection(&self) -> Secure {
        let Self::Proxy { port, config, .. } = self else { panic!("not a proxy") };
        Secure::connect(([127, 0, 0, 1], *port).into(), config, "localhost").expect("it is there")
    }

    /// One GET on a kept connection; returns the length of the body.
    pub(crate) fn get(&self, stream: &mut Secure, path: &str, scratch: &mut [u8]) -> usize {
        let Self::Proxy { prefix, token, .. } = self else { panic!("not a proxy") };
        let request = format!(
            "GET {prefix}{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("the proxy reads");
        let head = origin::head(stream).expect("the proxy answers").to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.and_then(|it| it.parse().ok()).expect("a length");
        let mut left = length;
        while 0 < left {
            let most = left.min(scratch.len());
            left -= stream.read(&mut scratch[..most]).expect("the body");
        }
        length
    }
}

impl Site {
    pub(crate) fn start() -> Self {
        Self::at(LOOPBACK)
    }

    /// With a relay that listens there, under these names.
    pub(crate) fn at(place: Place<'_>) -> Self {
        Self::start_before(place, |_, pki| Origin {
            plain: origin::plain(),
            api: origin::api(pki.server(&[b"http/1.1"])),
            _process: None,
        })
    }

    /// With an origin whose descriptors and threads are not the bench's.
    pub(crate) fn with_origin_apart() -> Self {
        Self::start_before(LOOPBACK, |dir, pki| {
            let (chain, key) = (dir.join("origin.pem"), dir.join("origin-key.pem"));
            write(&chain, &pki.cert_pem);
            write(&key, &pki.key_pem);
            let mut command = Command::new(std::env::current_exe().expect("we run"));
            command.args([origin::ORIGIN, &text(&chain), &text(&key)]);
            let (process, places) = Process::start("origin", command, "origin listens on ");
            let mut places = places.split(' ').map(|it| it.parse().expect("an address"));
            let mut next = || places.next().expect("two addresses");
            Origin { plain: next(), api: next(), _process: Some(process) }
        })
    }

    fn start_before(place: Place<'_>, origin: impl FnOnce(&Path, &Pki) -> Origin) -> Self {
        let (listen, names) = place;
        let name = format!("cluster-connect-bench-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir(&dir).expect("a directory");
        let issuer = Issuer::start().expect("an issuer");
        write(&dir.join("issuer-ca.pem"), issuer.ca_pem());
        let state = text(&dir.join("relay"));
        let mut words = vec!["relay", "--listen", listen, "--state-dir", &state];
        words.extend(["--tls-self-signed", names, "--log-level", "warn"]);
        words.extend(["--max-senders-per-caller", "20000"]);
        let own = issuer_words(&dir, &issuer, RELAY_AUDIENCE);
        words.extend(own.iter().map(String::as_str));
        let (relay, place) = Process::role("relay", &words, "relay listens on ");
        let port = place.split([':', ';']).nth(1).and_then(|it| it.parse().ok()).expect("a port");
        for (file, audience) in [("relay.jwt", RELAY_AUDIENCE), ("cluster.jwt", CLUSTER_AUDIENCE)] {
            write(&dir.join(file), &token(&issuer, audience, ALICE));
        }
        let pki = Pki::new();
        let origin = origin(&dir, &pki);
        Self { dir, relay, port, issuer, pki, origin, probes: AtomicUsize::new(0) }
    }

    /// Sender, relay, agent, and plain TCP behind it.
    pub(crate) fn pipe(&self) -> Chain {
        self.join("pipe");
        let target = self.origin.plain.to_string();
        let ca = self.dir.join("pipe-ca.pem");
        write(&ca, &self.pki.ca_pem);
        let ca = text(&ca);
        let mut words = vec!["agent", "--auth-proxy", &target, "--auth-proxy-ca", &ca];
        words.extend(["--auth-proxy-audience", CLUSTER_AUDIENCE]);
        let agent = self.joined("pipe", "agent", &words);
        let (entity, token) = self.send_token("pipe");
        let mut command = Command::new(std::env::current_exe().expect("we run"));
        let port = self.port.to_string();
        let token_file = self.dir.join("sender-token");
        write(&token_file, &token);
        let [relay_ca, token_file] =
            [self.dir.join("relay/ca.pem"), token_file].map(|it| text(&it));
        command.args([SENDER, &port, &relay_ca, &entity, &token_file]);
        let (sender, place) = Process::start("sender", command, "sender listens on ");
        let way = Way::Tcp(place.parse().expect("an address"));
        Chain {
            name: "byte pipe: sender, relay, agent",
            processes: vec![sender, agent],
            way,
            is_ours: true,
            cluster: None,
        }
    }

    /// Client proxy, relay, and agent and auth proxy in one process.
    pub(crate) fn edge(&self) -> Chain {
        self.edge_over(&self.url())
    }

    /// The same with a client that reaches the relay as `relay`.
    pub(crate) fn edge_over(&self, relay: &str) -> Chain {
        self.join("one");
        let kubeconfig = self.upstream("one");
        let mut words = vec!["edge", "--kubeconfig", &kubeconfig, "--no-bootstrap"];
        words.push("--no-require-least-privilege");
        words.extend(MANY);
        let own = issuer_words(&self.dir, &self.issuer, CLUSTER_AUDIENCE);
        words.extend(own.iter().map(String::as_str));
        let edge = self.joined("one", "edge", &words);
        let (proxy, way) = self.client("one", relay);
        Chain {
            name: "chain: client, relay, edge",
            processes: vec![proxy, edge],
            way,
            is_ours: true,
            cluster: Some("one"),
        }
    }

    /// Client proxy, relay, agent, auth proxy.
    pub(crate) fn apart(&self) -> Chain {
        self.join("two");
        let kubeconfig = self.upstream("two");
        let state = text(&self.dir.join("two-auth"));
        let mut words = vec!["auth-proxy", "--listen", "127.0.0.1:0", "-n", "two"];
        words.extend(["--state-dir", &state, "--kubeconfig", &kubeconfig]);
        words.extend(["--no-require-least-privilege", "--log-level", "warn"]);
        words.extend(MANY);
        let own = issuer_words(&self.dir, &self.issuer, CLUSTER_AUDIENCE);
        words.extend(own.iter().map(String::as_str));
        let ready = "auth proxy of two listens on ";
        let (auth_proxy, place) = Process::role("auth-proxy", &words, ready);
        let ca = format!("{state}/ca.pem");
        let mut words = vec!["agent", "--auth-proxy", place.trim(), "--auth-proxy-ca", &ca];
        words.extend(["--auth-proxy-audience", CLUSTER_AUDIENCE]);
        let agent = self.joined("two", "agent", &words);
        let (proxy, way) = self.client("two", &self.url());
        Chain {
            name: "chain: client, relay, agent, auth proxy",
            processes: vec![proxy, agent, auth_proxy],
            way,
            is_ours: true,
            cluster: Some("two"),
        }
    }

    /// The same origin without anything between.
    pub(crate) fn direct(&self) -> Way {
        Way::Tcp(self.origin.plain)
    }

    /// Processor time of a chain, with the relay where it is ours.
    pub(crate) fn cpu(&self, chain: &Chain) -> f64 {
        let relay = if chain.is_ours { self.relay.cpu() } else { 0.0 };
        relay + chain.processes.iter().map(Process::cpu).sum::<f64>()
    }

    /// Resident memory of a chain, with the relay where it is ours, in KiB.
    pub(crate) fn memory(&self, chain: &Chain) -> f64 {
        let relay = if chain.is_ours { self.relay.memory() } else { 0.0 };
        relay + chain.processes.iter().map(Process::memory).sum::<f64>()
    }

    fn join(&self, name: &str) {
        self.operator(&["add", name]);
        let token = self.operator(&["join-token", name, "-o", "json"]);
        let token: serde_json::Value = serde_json::from_str(&token).expect("JSON");
        let token = token["joinToken"].as_str().expect("a join token");
        write(&self.dir.join(format!("{name}-join")), token);
    }

    fn joined(&self, cluster: &str, name: &'static str, more: &[&str]) -> Process {
        let state = text(&self.dir.join(format!("{cluster}-state")));
        let token = text(&self.dir.join(format!("{cluster}-join")));
        let (relay, ca) = (self.url(), text(&self.dir.join("relay/ca.pem")));
        let mut words = more.to_vec();
        words.extend(["--relay", &relay, "--relay-ca", &ca, "-n", cluster]);
        words.extend(["--state-dir", &state, "--join-token-file", &token, "--log-level", "warn"]);
        Process::role(name, &words, "is connected to").0
    }

    /// One more client of a cluster there is.
    pub(crate) fn client(&self, cluster: &str, relay: &str) -> (Process, Way) {
        self.operator(&["grant", cluster, "--user", ALICE]);
        let kubeconfig = text(&self.dir.join(format!("{cluster}-kubeconfig")));
        let own = self.client_words(cluster, relay, "cluster.jwt");
        let mut words = vec!["proxy", "--port", "0", "-f", &kubeconfig];
        words.extend(own.iter().map(String::as_str));
        let ready = format!("ready: {cluster} at ");
        let (proxy, _) = Process::role("proxy", &words, &ready);
        (proxy, way(Path::new(&kubeconfig)))
    }

    /// Measures the tunnel to a cluster that has had a client, and returns what is said about it.
    pub(crate) fn probe(&self, cluster: &str, more: &[&str]) -> String {
        // Each is somebody else: nobody may measure often.
        let who = format!("{}@contoso.com", self.probes.fetch_add(1, Ordering::Relaxed));
        write(&self.dir.join("probe.jwt"), &token(&self.issuer, CLUSTER_AUDIENCE, &who));
        let own = self.client_words(cluster, &self.url(), "probe.jwt");
        let mut words = vec!["bench", "-o", "json"];
        words.extend(own.iter().map(String::as_str));
        words.extend(more);
        process::run(&words)
    }

    fn client_words(&self, cluster: &str, relay: &str, token: &str) -> Vec<String> {
        let file = |name: &str| text(&self.dir.join(name));
        let identity = format!("file:{},{}", file("relay.jwt"), file(token));
        let (ca, known) = (file("relay/ca.pem"), file(&format!("{cluster}-known/known-hosts")));
        let mut words = vec!["--relay", relay, "--relay-ca", &ca, "-n", cluster];
        words.extend(["--identity", &identity, "--known-hosts", &known, "--log-level", "warn"]);
        words.into_iter().map(str::to_owned).collect()
    }

    fn upstream(&self, cluster: &str) -> String {
        let place = self.origin.api.to_string();
        let config = upstream::kubeconfig(&place, &self.pki.ca_pem, "bench");
        let path = self.dir.join(format!("{cluster}-upstream"));
        write(&path, &config);
        text(&path)
    }

    fn operator(&self, words: &[&str]) -> String {
        let (ca, token) = (self.dir.join("relay/ca.pem"), self.dir.join("relay/admin-token"));
        let (ca, token, url) = (text(&ca), text(&token), self.url());
        let mut all = vec!["cluster"];
        all.extend(words);
        all.extend(["--relay", &url, "--relay-ca", &ca, "--admin-token-file", &token]);
        process::run(&all)
    }

    /// Entity and token of a sender.
    fn send_token(&self, cluster: &str) -> (String, String) {
        let admin = std::fs::read_to_string(self.dir.join("relay/admin-token")).expect("a token");
        let pem = std::fs::read(self.dir.join("relay/ca.pem")).expect("a CA");
        let mut stream =
            Secure::connect(([127, 0, 0, 1], self.port).into(), &client(&pem), "localhost")
                .expect("the relay is there");
        let body = r#"{"authenticationMethod":"AAD","clientProxy":true}"#;
        let request = format!(
            "POST /subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/default/\
             providers/Microsoft.Kubernetes/connectedClusters/{cluster}/listClusterUserCredential\
             ?api-version=2021-10-01 HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\n\
             Authorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.port,
            admin.trim(),
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("the relay reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
        let config = &body["hybridConnectionConfig"];
        let field = |name: &str| config[name].as_str().unwrap_or_else(|| panic!("{answer}"));
        (field("hybridConnectionName").to_owned(), field("token").to_owned())
    }

    /// Where the relay listens, for a line that leads there.
    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Left behind at worst.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn token(issuer: &Issuer, audience: &str, user: &str) -> String {
    let claims = issuer.user_claims(audience, user, &["developers"], LIFE);
    issuer.token_with(Algorithm::Rs256, &claims)
}

fn issuer_words(dir: &Path, issuer: &Issuer, audience: &str) -> Vec<String> {
    let ca = text(&dir.join("issuer-ca.pem"));
    ["--oidc-issuer", issuer.url(), "--oidc-audience", audience]
        .into_iter()
        .chain(["--oidc-username-prefix", "-", "--oidc-groups-claim", "groups"])
        .chain(["--oidc-groups-prefix", "-", "--oidc-ca-file", &ca])
        .map(str::to_owned)
        .collect()
}

fn way(kubeconfig: &Path) -> Way {
    let bytes = std::fs::read(kubeconfig).expect("the proxy has written it");
    let access = Kubeconfig::parse(&bytes).and_then(|it| it.select(None)).expect("it is good");
    let (Some(Material::Inline(pem)), Some(Token::Inline(token))) =
        (access.authority, access.token)
    else {
        panic!("the kubeconfig has a CA and a token")
    };
    let url = access.server;
    let (config, token) = (client(pem.expose()), token.expose().clone());
    Way::Proxy { port: url.port, config, prefix: url.path, token }
}

fn client(pem: &[u8]) -> Arc<ClientConfig> {
    let roots = tlsconf::certificates(pem).expect("PEM");
    tlsconf::client(&roots, None, &[b"http/1.1"], Versions::Both, Arc::new(DefaultTimeProvider))
        .expect("roots")
}

pub(crate) fn write(path: &Path, content: &str) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(content.as_bytes())).expect("a file can be written");
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

//! The real binary between a recording upstream and callers that send whatever bytes they like.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use cluster_connect::wire::h1::RequestHead;
use cluster_connect::wire::resource::ResourceId;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

use crate::support::mint::{Keys, now, with};
use crate::support::process::{PATIENCE, Process, Scratch};
use crate::support::recorder::{Conn, Recorder};
use crate::support::tls::Pki;
use crate::support::upstream::kubeconfig;

const CLUSTER: &str = "edge-7";
pub(crate) const ISSUER: &str = "https://issuer.example";
pub(crate) const AUDIENCE: &str = "cluster";
pub(crate) const TENANT: &str = "11111111-2222-3333-4444-555555555555";
pub(crate) const POP_TARGET: &str =
    "/subscriptions/s/resourceGroups/r/providers/Microsoft.Kubernetes/connectedClusters/c";

/// A running auth proxy and what is around it.
pub(crate) struct Door {
    process: Process,
    upstream: Recorder,
    /// How many connections the proxy made for itself, to ask what its own account may do.
    own: usize,
    pub(crate) keys: Keys,
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    name: ServerName<'static>,
    scratch: Scratch,
}

/// Whose tokens an auth proxy takes.
#[derive(Default)]
pub(crate) struct Site {
    /// The file of issuers.
    pub(crate) auth: Value,
    /// Files beside it, by name.
    pub(crate) files: Vec<(&'static str, String)>,
    /// Where the wall clock of the proxy and of its callers stands, if it stands.
    pub(crate) clock: Option<u64>,
}

impl Door {
    /// Starts both, with an OpenID Connect issuer and an Entra tenant whose keys are in files.
    pub(crate) fn open(
        answer: impl Fn(&RequestHead) -> Vec<u8> + Send + Sync + 'static,
        extra: &[&str],
    ) -> Self {
        let keys = Keys::new();
        let files = vec![("keys.json", key_set(&keys).to_string())];
        Self::of(Site { auth: auth_config(), files, clock: None }, keys, answer, extra)
    }

    /// Starts both, the proxy with the issuers of `site`.
    pub(crate) fn of(
        site: Site,
        keys: Keys,
        answer: impl Fn(&RequestHead) -> Vec<u8> + Send + Sync + 'static,
        extra: &[&str],
    ) -> Self {
        let (scratch, pki) = (Scratch::new(), Pki::new());
        let upstream = Recorder::start(pki.server(&[b"http/1.1"]), answer);
        let place = upstream.address().to_string();
        let config = kubeconfig(&place, &pki.ca_pem, "our-own-token");
        let kubeconfig = scratch.write("kubeconfig", &config);
        for (name, text) in &site.files {
            scratch.write(name, text);
        }
        let auth = scratch.write("auth.json", &site.auth.to_string());
        let (state, audit) = (scratch.word("state"), scratch.word("audit.log"));
        let mut words = vec![
            "--listen",
            "127.0.0.1:0",
            "-n",
            CLUSTER,
            "--state-dir",
            &state,
            "--kubeconfig",
            &kubeconfig,
            "--auth-config",
            &auth,
            "--pop",
            "accept",
            "--pop-u",
            POP_TARGET,
            "--audit-log",
            &audit,
            "--no-require-least-privilege",
        ];
        words.extend(extra);
        // Connections then come in the order of the requests, and end with them.
        if !extra.contains(&"--spare-connections") {
            words.extend(["--spare-connections", "0"]);
        }
        let program = Path::new(env!("CARGO_BIN_EXE_kube-aad-proxy"));
        let ready = "auth proxy of edge-7 listens on ";
        let stopped = site.clock.map(|clock| stopped_clock(&scratch, clock));
        let variables = stopped.as_deref().map(|library| ("LD_PRELOAD", library));
        let (process, place) =
            Process::start_in(variables.as_slice(), "kube-aad-proxy", program, &words, ready);
        let resource = ResourceId::parse(CLUSTER).expect("a name");
        Self {
            process,
            own: upstream.settle().len(),
            upstream,
            keys,
            address: place.parse().expect("an address"),
            tls: pinned(&scratch.read("state/ca.pem"), site.clock),
            name: ServerName::try_from(resource.server_name()).expect("a server name"),
            scratch,
        }
    }

    /// The process of the proxy.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// What the proxy has logged.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// The proxy's audit log.
    pub(crate) fn audit(&self) -> String {
        self.scratch.read("audit.log")
    }

    /// What went upstream for callers, once every connection has ended.
    pub(crate) fn went_up(&self) -> Vec<Conn> {
        let conns = self.upstream.settle().into_iter().skip(self.own);
        conns.filter(|conn| !conn.bytes.is_empty()).collect()
    }

    /// A token that is good, for `user`.
    pub(crate) fn token(&self, user: &str) -> String {
        self.keys.rs256(&claims(user))
    }

    /// Sends `bytes` in a session of its own and returns all that comes back until the proxy ends
    /// the connection. The caller says that it is done once `is_enough` has come.
    pub(crate) fn exchange(&self, bytes: &[u8], is_enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let session = ClientConnection::new(Arc::clone(&self.tls), self.name.clone());
        let tcp = TcpStream::connect(self.address).expect("the proxy listens");
        tcp.set_nodelay(true).expect("a socket option");
        tcp.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        tcp.set_write_timeout(Some(PATIENCE)).expect("a socket option");
        let mut stream = StreamOwned::new(session.expect("a TLS client"), tcp);
        // The proxy may have refused, and closed, before it has read all of it.
        let _ = stream.write_all(bytes).and_then(|()| stream.flush());
        let (mut down, mut is_done) = (Vec::new(), false);
        let mut buffer = [0; 16 * 1024];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return down,
                Ok(len) => down.extend_from_slice(&buffer[..len]),
                Err(why) if why.kind() == ErrorKind::WouldBlock => panic!("no end: {down:?}"),
                // A connection that was cut is one that has ended.
                Err(_) => return down,
            }
            if !is_done && is_enough(&down) {
                is_done = true;
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    }
}

/// Claims of the generic issuer's token for `user`, good for an hour.
pub(crate) fn claims(user: &str) -> Value {
    let now = now();
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": user, "jti": user,
        "iat": now - 60, "nbf": now - 60, "exp": now + 3600, "groups": ["developers"],
    })
}

fn key_set(keys: &Keys) -> Value {
    let (n, _) = keys.rsa_numbers(false);
    let corpus: Value =
        serde_json::from_str(include_str!("../corpora/jwt_jwks.json")).expect("JSON");
    let kept = |id: &str| {
        let all = corpus["keys"].as_array().expect("keys");
        all.iter().find(|key| key["kid"] == id).expect(id).clone()
    };
    let foreign = "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0";
    json!({ "keys": [
        with(keys.rsa_jwk(false), json!({"kid": "rsa", "use": "sig"})),
        with(keys.p256_jwk(), json!({"kid": "p256", "alg": "ES256"})),
        with(keys.rsa_jwk(false), json!({"kid": "rsa-foreign", "issuer": foreign})),
        with(keys.rsa_jwk(false), json!({"kid": "rsa-enc", "use": "enc"})),
        with(keys.rsa_jwk(false), json!({"kid": "rsa-ops", "key_ops": ["encrypt"]})),
        with(keys.rsa_jwk(false), json!({"kid": "rsa-512", "alg": "RS512"})),
        with(keys.rsa_jwk(false), json!({"kid": "twin"})),
        with(keys.rsa_jwk(true), json!({"kid": "twin"})),
        {"kty": "RSA", "kid": "e1", "n": n, "e": "AQ"},
        kept("k-weak"),
        kept("k-oct"),
    ]})
}

fn auth_config() -> Value {
    let algorithms = json!(["RS256", "ES256"]);
    json!({ "issuers": [
        {
            "type": "oidc",
            "issuer": {"url": ISSUER, "audiences": [AUDIENCE], "jwksFile": "keys.json"},
            "claimMappings": {
                "username": {"claim": "sub", "prefix": "oidc:"},
                "groups": {"claim": "groups", "prefix": "oidc:"},
            },
            "algorithms": algorithms,
        },
        {
            "type": "entra",
            "entra": {
                "tenant": TENANT, "audiences": ["api://edge"], "jwksFile": "keys.json",
                "usernamePrefix": "entra:", "groupsPrefix": "entra:",
            },
            "algorithms": algorithms,
        },
    ]})
}

/// A library that stops the wall clock of the process it is loaded into. The time that never jumps
/// goes on: only what looks at the date sees it stand.
fn stopped_clock(scratch: &Scratch, clock: u64) -> String {
    let source = scratch.write("clock.c", STOPPED_CLOCK);
    let library = scratch.word("clock.so");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", &format!("-DNOW={clock}"), "-o", &library, &source])
        .status()
        .expect("a C compiler, which the build needs, too");
    assert!(compiled.success(), "the clock compiles");
    library
}

const STOPPED_CLOCK: &str = "
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *now) {
    long failed = syscall(SYS_clock_gettime, id, now);
    if (!failed && id == CLOCK_REALTIME) { now->tv_sec = NOW; now->tv_nsec = 0; }
    return failed;
}
";

/// The same, for certificates that were made by it.
#[derive(Debug)]
struct StoppedClock(u64);

impl TimeProvider for StoppedClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
    }
}

fn pinned(ca_pem: &str, clock: Option<u64>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).expect("PEM")).expect("a CA");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let time: Arc<dyn TimeProvider> = match clock {
        Some(clock) => Arc::new(StoppedClock(clock)),
        None => Arc::new(DefaultTimeProvider),
    };
    let mut config = ClientConfig::builder_with_details(provider, time)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// A request with these fields for a credential.
pub(crate) fn request(authorization: &str) -> Vec<u8> {
    format!("GET /api/v1/pods HTTP/1.1\r\nHost: x\r\n{authorization}\r\n").into_bytes()
}

/// The answer is here whole.
pub(crate) fn is_whole(down: &[u8]) -> bool {
    let text = String::from_utf8_lossy(down);
    text.split_once("\r\n\r\n").is_some_and(|(_, body)| body.ends_with('}') || body == "ok")
}

//! What the auth proxy adds to a request: heads in memory, and requests through the process against
//! the same requests without it, in the same run.

#[path = "rig/cost.rs"]
mod cost;
#[path = "../tests/support/heads.rs"]
mod heads;
#[path = "../tests/support/mint.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with tests, which use more of it")]
mod mint;
#[path = "../tests/support/process.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with tests, which use more of it")]
mod places;
mod rig;

use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use cluster_connect::wire::h1::{RequestHead, Scan};
use cluster_connect::wire::resource::ResourceId;
use cost::Cost;
use heads::{Caller, GROUPS};
use mint::{Keys, now, with};
use places::Scratch;
use rig::process::Process;
use rig::report::{Figure, Options, Report};
use rig::stream::Secure;
use rig::tls::Pki;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;

const ISSUER: &str = "https://issuer.example";
const CLUSTER: &str = "edge-7";

type Row = (String, Vec<Figure<'static>>);

fn main() {
    rig::play(|options| {
        let mut report = Report::new(options);
        if options.wants("heads") {
            report.table("one request's head, in memory", &in_memory(options));
        }
        if options.wants("requests") {
            report.table("requests of 1 kB, with and without the auth proxy", &requests(options));
        }
    });
}

fn in_memory(options: &Options) -> Vec<Row> {
    let rounds = if options.quick { 20_000 } else { 200_000 };
    let (text, caller) = (heads::request(&heads::token()), Caller::new());
    let read = || RequestHead::read(text.as_bytes(), &mut Scan::default()).expect("a head");
    let (head, _) = read().expect("whole");
    let both = || read().map(|(head, _)| caller.send_on(&head));
    vec![
        Cost::of(rounds, || drop(black_box(read()))).row("read, checked"),
        Cost::of(rounds, || drop(black_box(caller.send_on(black_box(&head)))))
            .row("decided, stripped, impersonated, written"),
        Cost::of(rounds, || drop(black_box(both()))).row("both"),
    ]
}

/// Where requests go, and how.
struct Way {
    to: SocketAddr,
    tls: Arc<ClientConfig>,
    name: String,
    request: Arc<[u8]>,
}

impl Way {
    /// Asks over `conns` connections at once; returns the seconds it took.
    fn ask(&self, conns: usize, each: usize) -> f64 {
        let ready: Vec<Secure> = (0..conns)
            .map(|_| Secure::connect(self.to, &self.tls, &self.name).expect("a connection"))
            .collect();
        let start = Instant::now();
        thread::scope(|scope| {
            for mut conn in ready {
                scope.spawn(move || (0..each).for_each(|_| exchange(&mut conn, &self.request)));
            }
        });
        start.elapsed().as_secs_f64()
    }
}

/// One request, and its answer to the end.
fn exchange(conn: &mut Secure, request: &[u8]) {
    conn.write_all(request).expect("it listens");
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let len = conn.read(&mut buffer).expect("an answer");
        assert_ne!(len, 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(buffer.get(..len).unwrap_or_default());
        if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
            assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
            if answer.len() >= end + 4 + 1000 {
                return;
            }
        }
    }
}

fn requests(options: &Options) -> Vec<Row> {
    let (scratch, keys, pki) = (Scratch::new(), Keys::new(), Pki::new());
    let api = rig::origin::api(pki.server(&[b"http/1.1"]));
    let (process, place) = start(&scratch, &keys, &pki, api);
    let now = now();
    let token = keys.rs256(&json!({
        "iss": ISSUER, "aud": "cluster", "sub": "alice", "jti": "j", "iat": now, "exp": now + 3600,
        "groups": (0..GROUPS).map(|n| format!("5c7d-{n}")).collect::<Vec<_>>(),
    }));
    let request: Arc<[u8]> = heads::request(&token).into_bytes().into();
    let direct = Way {
        to: api,
        tls: pki.client(&[b"http/1.1"]),
        name: "localhost".to_owned(),
        request: Arc::clone(&request),
    };
    let name = ResourceId::parse(CLUSTER).expect("a name").server_name();
    let tls = pinned(&scratch.read("state/ca.pem"));
    let through = Way { to: place, tls, name, request };
    let (rounds, each) = if options.quick { (3, 500) } else { (7, 4_000) };
    let mut rows = Vec::new();
    for conns in [1, 8, 32] {
        let each = each / conns.min(8);
        let (mut rates, mut spent) = (Vec::new(), 0.0);
        let total = (conns * each) as f64;
        for _ in 0..rounds {
            let alone = total / direct.ask(conns, each);
            let before = process.cpu();
            let proxied = total / through.ask(conns, each);
            spent += process.cpu() - before;
            rates.push((proxied / alone, alone, proxied));
        }
        rates.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (ratio, alone, proxied) = rates.get(rounds / 2).copied().unwrap_or_default();
        let figures = vec![
            ("direct/s", alone, 0),
            ("through/s", proxied, 0),
            ("ratio", ratio, 2),
            ("CPU us each", spent * 1e6 / (total * rounds as f64), 0),
        ];
        rows.push((format!("{conns} connections"), figures));
    }
    rows
}

/// An auth proxy in front of `api`, with everything switched on that is by default, and an audit
/// log.
fn start(scratch: &Scratch, keys: &Keys, pki: &Pki, api: SocketAddr) -> (Process, SocketAddr) {
    let place = format!("localhost:{}", api.port());
    let text = rig::upstream::kubeconfig(&place, &pki.ca_pem, "our-own-token");
    let kubeconfig = scratch.write("kubeconfig", &text);
    let set = json!({ "keys": [with(keys.rsa_jwk(false), json!({"kid": "rsa", "use": "sig"}))] });
    let set = scratch.write("keys.json", &set.to_string());
    let (state, audit) = (scratch.word("state"), scratch.word("audit.log"));
    let words = [
        "auth-proxy",
        "--listen=127.0.0.1:0",
        "-n",
        CLUSTER,
        "--state-dir",
        &state,
        "--kubeconfig",
        &kubeconfig,
        "--oidc-issuer",
        ISSUER,
        "--oidc-audience=cluster",
        "--oidc-username-prefix=-",
        "--oidc-groups-claim=groups",
        "--oidc-jwks-file",
        &set,
        "--audit-log",
        &audit,
        "--no-require-least-privilege",
        "--max-verifications=1000000",
    ];
    let (process, place) =
        Process::role("auth-proxy", &words, &format!("auth proxy of {CLUSTER} listens on "));
    (process, place.parse().expect("an address"))
}

fn pinned(ca_pem: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).expect("PEM")).expect("a CA");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

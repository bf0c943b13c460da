//! The relay is blind. Everything that it decrypts, from agents, clients and operators, is
//! recorded, and searched for what was sent and for anything that would let somebody in.

use std::fs;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use cluster_connect::auth::certify::Authority;
use cluster_connect::engine::tlsconf::{self, Versions};
use cluster_connect::wire::kubeconfig::{Kubeconfig, Token};
use rustls::time_provider::DefaultTimeProvider;
use serde_json::{Value, json};
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

use super::chain::{ALICE, CLUSTER_AUDIENCE, Options, RELAY_AUDIENCE, Site, private};
use super::door;
use super::raw::Door;
use super::tap::{Flow, Tap};
use super::trial::{Trial, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(nothing_that_the_relay_decrypts_has_the_traffic_or_a_token_for_the_cluster),
        trial(the_search_finds_what_is_encoded),
    ]
}

const MARKER: &str = "m4rk3r-7d1f0c55-what-only-the-two-ends-may-read";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn nothing_that_the_relay_decrypts_has_the_traffic_or_a_token_for_the_cluster() {
    for edge in [false, true] {
        let mut site = Site::start();
        let tap = between(&mut site);
        let cluster =
            site.cluster("edge-7", Options { edge, passthrough: true, ..Options::default() });
        let robot = cluster.api.service_account_token("default", "robot").expect("a token");
        cluster.api.bind("robot-views", "view", "User", &["system:serviceaccount:default:robot"]);
        private(site.path("robot.token").as_ref(), &robot);

        let client = site.client(&["edge-7"]);
        let bearer = client.way("edge-7").token;
        let id = client.way("edge-7").path.replace("/proxies/", "");
        speak(&door(&client, "edge-7"));
        drop(client);
        let more = ["--token-file", &site.path("robot.token")];
        let passing = site.client_with(&["edge-7"], &more);
        let connection = &mut door(&passing, "edge-7").connect();
        connection.send(door(&passing, "edge-7").request(PODS, &format!("X-Marker: {MARKER}\r\n")));
        assert_eq!(connection.response().code, 200);

        let flows = tap.flows();
        assert_sees(&flows, &id, &site);
        let identity = site.path(&format!("{CLUSTER_AUDIENCE}-{ALICE}.jwt"));
        let caller = fs::read_to_string(identity).expect("the caller's token");
        let account = account_token(&site.path("edge-7.apiserver"));
        for (what, secret) in [
            ("the traffic", MARKER),
            ("the caller's token", &caller),
            ("the auth proxy's own token", &account),
            ("a service account's token", &robot),
            ("the bearer of the local port", &bearer),
        ] {
            assert!(secret.len() > 30, "{what}");
            for flow in &flows {
                assert!(!has(&flow.raw, secret) && !has(&flow.payload, secret), "{what} was seen");
            }
        }
        let tokens: Vec<Value> = flows.iter().flat_map(tokens).collect();
        let audience = |token: &Value, audience: &str| {
            token.get("aud").is_some_and(|aud| aud.to_string().contains(audience))
        };
        assert!(
            tokens.iter().any(|token| audience(token, RELAY_AUDIENCE)),
            "the search finds some"
        );
        assert!(!tokens.iter().any(|token| audience(token, CLUSTER_AUDIENCE)));
        let issuer = |token: &Value| token.get("iss") == Some(&json!(site.issuer.url()));
        assert!(tokens.iter().all(issuer), "no token of the cluster's either");
    }
}

/// Puts a tap where everybody else looks for the relay.
fn between(site: &mut Site) -> Tap {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    let key = fs::read(site.path("relay/authority.pem")).expect("the relay's own authority");
    let authority = Authority::from_pem(&["localhost"], &key, now).expect("its key");
    let leaf = authority.leaf(now, [7; 16]).expect("a certificate as the relay has it");
    let (alpn, time) = (&[&b"http/1.1"[..]], Arc::new(DefaultTimeProvider));
    let server = tlsconf::server(leaf, alpn, Versions::Both, time.clone()).expect("a server");
    let roots = tlsconf::certificates(authority.certificate_pem().as_bytes()).expect("a root");
    let client = tlsconf::client(&roots, None, alpn, Versions::Both, time).expect("a client");
    let relay = site.relay_address().parse().expect("the relay's address");
    let tap = Tap::start(relay, server.config, client).expect("a tap");
    site.url = format!("https://localhost:{}", tap.addr.port());
    tap
}

/// The marker as header, in a query, in both bodies, and as input and output of exec.
fn speak(door: &Door) {
    let mut client = door.connect();
    client.send(
        door.request(&format!("{PODS}?labelSelector={MARKER}"), &format!("X-It: {MARKER}\r\n")),
    );
    assert_eq!(client.response().code, 200);
    let made = json!({ "apiVersion": "v1", "kind": "ConfigMap",
                       "metadata": { "name": "it" }, "data": { "it": MARKER } });
    let path = format!("{}/api/v1/namespaces/default/configmaps", door.prefix);
    let fields = format!("Content-Type: application/json\r\n{}", door.bearer());
    let answer = client.call("POST", &path, &fields, &made.to_string());
    assert_eq!(answer.code, 201, "{}", answer.text());
    assert!(answer.text().contains(MARKER));
    let exec = format!("{PODS}/web/exec?command=head&command=-n1&stdin=1&stdout=1");
    let mut client = door.upgrade(&exec, "Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n");
    assert_eq!(client.head().0, 101);
    let (stream, unread) = client.into_parts();
    let mut socket = WebSocket::from_partially_read(stream, unread, Role::Client, None);
    let input = [&[0], MARKER.as_bytes(), b"\n"].concat();
    socket.send(Message::binary(input)).expect("the pod reads");
    let mut said = Vec::new();
    while !has(&said, MARKER) {
        match socket.read().expect("the pod answers") {
            Message::Binary(data) => said.extend(data.iter().skip(1)),
            other => assert!(other.is_ping() || other.is_pong(), "{other:?}"),
        }
    }
}

/// That the tap sees: both ends of the session, whose server name is in clear at its beginning,
/// the relay's own token, and the credential it gives out.
fn assert_sees(flows: &[Flow], id: &str, site: &Site) {
    let name = format!("{}.cluster-connect.internal", &id[..32]);
    let hello = |flow: &&Flow| flow.payload.starts_with(&[0x16, 3]) && has(&flow.payload, &name);
    assert!(flows.iter().filter(hello).any(|flow| flow.up), "from the client, unmasked");
    assert!(flows.iter().filter(hello).any(|flow| !flow.up), "towards the agent");
    let token = site.path(&format!("{RELAY_AUDIENCE}-{ALICE}.jwt"));
    let token = fs::read_to_string(token).expect("the caller's token for the relay");
    assert!(flows.iter().any(|flow| flow.up && has(&flow.raw, &token)));
    assert!(flows.iter().any(|flow| !flow.up && has(&flow.raw, "SharedAccessSignature")));
    assert!(flows.iter().any(|flow| !flow.up && has(&flow.payload, "\"accept\"")));
}

fn account_token(kubeconfig: &str) -> String {
    let text = fs::read(kubeconfig).expect("the auth proxy's kubeconfig");
    let access = Kubeconfig::parse(&text).and_then(|config| config.select(None));
    match access.expect("a kubeconfig").token {
        Some(Token::Inline(token)) => token.expose().clone(),
        _ => panic!("a kubeconfig with a token"),
    }
}

/// As it is, in hexadecimal, or in base64, wherever its groups of three begin.
fn has(bytes: &[u8], secret: &str) -> bool {
    let contains = |needle: &[u8]| memchr::memmem::find(bytes, needle).is_some();
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let encoded = |engine: &base64::engine::GeneralPurpose| {
        (0..3).any(|skip| {
            let whole = &secret.as_bytes()[skip..];
            let whole = &whole[..whole.len() / 3 * 3];
            contains(engine.encode(whole).as_bytes())
        })
    };
    contains(secret.as_bytes())
        || contains(hex.as_bytes())
        || encoded(&STANDARD_NO_PAD)
        || encoded(&URL_SAFE_NO_PAD)
}

/// The claims of everything that looks like a signed token.
fn tokens(flow: &Flow) -> Vec<Value> {
    let part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let words = [&flow.raw, &flow.payload].into_iter().flat_map(|it| it.split(|byte| !part(byte)));
    let claims = words.filter_map(|word| {
        let mut parts = word.split(|byte| *byte == b'.');
        let header = parts.next().filter(|header| header.starts_with(b"eyJ"))?;
        URL_SAFE_NO_PAD.decode(header).ok()?;
        let claims = URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
        serde_json::from_slice(&claims).ok()
    });
    claims.collect()
}

fn the_search_finds_what_is_encoded() {
    for before in ["", "x", "xy", "xyz"] {
        let whole = format!("{before}{MARKER} and more");
        assert!(has(whole.as_bytes(), MARKER));
        assert!(has(STANDARD_NO_PAD.encode(&whole).as_bytes(), MARKER));
        assert!(has(URL_SAFE_NO_PAD.encode(&whole).as_bytes(), MARKER));
    }
    assert!(!has(b"something else", MARKER));
    let claims = URL_SAFE_NO_PAD.encode(r#"{"aud":"them"}"#);
    let raw = format!("GET / HTTP/1.1\r\nAuthorization: Bearer eyJhIjoxfQ.{claims}.c2ln\r\n\r\n");
    let flow = Flow { raw: raw.into_bytes(), payload: Vec::new(), up: true };
    assert_eq!(tokens(&flow), [json!({ "aud": "them" })]);
}

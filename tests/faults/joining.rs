//! Agents that may not join or listen, and callers that may not connect.

use cluster_connect::auth::sas;
use cluster_connect::secret::Secret;
use cluster_connect::wire::resource::ResourceId;
use ring::rand::SystemRandom;
use serde_json::{Value, json};

use super::chain::{ALICE, CLUSTER_AUDIENCE, Cluster, Options, RELAY_AUDIENCE, Site, private};
use super::raw::{Client, Response};
use super::trial::{Trial, trial};
use super::{complaint, door, recovers, says, works};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(a_join_token_is_for_one_agent_one_cluster_and_some_time),
        trial(an_auth_proxy_with_the_relays_audience_cannot_join),
        trial(the_relay_takes_no_token_that_is_forged_or_for_something_else),
        trial(nobody_gets_a_token_to_listen_without_the_agents_key),
    ]
}

/// What another agent says, which has this cluster's auth proxy and a key of its own.
fn another_agent(site: &Site, cluster: &Cluster, name: &str, state: &str, token: &str) -> String {
    let file = site.path("other.join-token");
    private(file.as_ref(), token);
    let (ca, state) = (site.path("edge-7.auth-proxy/ca.pem"), site.path(state));
    let relay_ca = site.path("relay/ca.pem");
    let words = ["agent", "--relay", &site.url, "-n", name, "--state-dir", &state];
    let more = ["--relay-ca", &relay_ca, "--auth-proxy", cluster.auth_proxy_address()];
    let last = ["--auth-proxy-ca", &ca, "--auth-proxy-audience", CLUSTER_AUDIENCE];
    let token = ["--join-token-file", &file];
    complaint(site, &[&words[..], &more, &last, &token].concat())
}

fn join_token(printed: &str) -> String {
    let printed: Value = serde_json::from_str(printed).expect("JSON");
    printed["joinToken"].as_str().expect("a join token").to_owned()
}

fn a_join_token_is_for_one_agent_one_cluster_and_some_time() {
    let mut site = Site::start();
    let cluster = site.cluster("edge-7", Options::default());
    let fresh = |name: &str, life: &str| {
        join_token(&site.operator(&["join-token", name, "--expires", life, "-o", "json"]))
    };
    site.operator(&["add", "edge-8"]);
    let used = std::fs::read_to_string(site.path("edge-7.join-token")).expect("the token");
    let elsewhere = fresh("edge-8", "1h");
    let short = fresh("edge-7", "1s");
    let second = super::Instant::now();
    let expired = || {
        super::eventually("the token expires", || second.elapsed().as_secs() > 1);
        short.clone()
    };
    let wrong = [
        ("used", used),
        ("guessed", "ccj_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned()),
        ("elsewhere", elsewhere),
        ("nonsense", "nonsense".to_owned()),
        ("expired", expired()),
    ];
    for (number, (what, token)) in wrong.iter().enumerate() {
        let why = another_agent(&site, &cluster, "edge-7", &format!("other-{number}"), token);
        says(&why, "JOIN_TOKEN_REFUSED", &["join-token", "hint: "]);
        assert!(!why.contains(token.as_str()) || *what == "nonsense", "{what}: {why}");
    }
    // The one that is there has not noticed anything of it.
    works(&site, "edge-7", &[]);
}

fn an_auth_proxy_with_the_relays_audience_cannot_join() {
    let mut site = Site::start();
    let cluster = site.cluster("edge-7", Options::default());
    let file = site.path("fresh.join-token");
    let token = join_token(&site.operator(&["join-token", "edge-7", "-o", "json"]));
    private(file.as_ref(), &token);
    let (ca, state) = (site.path("edge-7.auth-proxy/ca.pem"), site.path("greedy"));
    let relay_ca = site.path("relay/ca.pem");
    let words = ["agent", "--relay", &site.url, "-n", "edge-7", "--state-dir", &state];
    let more = ["--relay-ca", &relay_ca, "--auth-proxy", cluster.auth_proxy_address()];
    let last = ["--auth-proxy-ca", &ca, "--auth-proxy-audience", RELAY_AUDIENCE];
    let token = ["--join-token-file", &file];
    let why = complaint(&site, &[&words[..], &more, &last, &token].concat());
    says(&why, "AUDIENCE_CONFLICT", &[RELAY_AUDIENCE, "hint: "]);
    works(&site, "edge-7", &[]);
}

/// The relay's API.
fn api(site: &Site, id: &ResourceId, action: &str, bearer: &str, body: &Value) -> Response {
    let path = format!("{}/{action}?api-version=2021-10-01", id.id());
    let bearer = match bearer {
        "" => String::new(),
        token => format!("Authorization: Bearer {token}\r\n"),
    };
    connect(site).call("POST", &path, &bearer, &body.to_string())
}

pub(crate) fn connect(site: &Site) -> Client {
    let ca = std::fs::read_to_string(site.path("relay/ca.pem")).expect("the relay's CA");
    Client::connect(site.relay_address().parse().expect("an address"), &ca)
}

/// The answer to an upgrade on a path of the relay.
pub(crate) fn upgrade(site: &Site, entity: &str, action: &str, token: &str) -> Response {
    let mut client = connect(site);
    let mut encoded = String::new();
    for byte in token.bytes() {
        encoded.push_str(&format!("%{byte:02X}"));
    }
    client.get(
        &format!("/$hc/{entity}?sb-hc-action={action}&sb-hc-token={encoded}"),
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    )
}

fn the_relay_takes_no_token_that_is_forged_or_for_something_else() {
    let mut site = Site::start();
    let _seven = site.cluster("edge-7", Options::default());
    let _eight = site.cluster("edge-8", Options::default());
    let [seven, eight] = ["edge-7", "edge-8"].map(|name| ResourceId::parse(name).expect("a name"));
    let ask = json!({ "authenticationMethod": "AAD", "clientProxy": true });
    let bearer = site.token(RELAY_AUDIENCE, ALICE);
    let answer = api(&site, &seven, "listClusterUserCredential", &bearer, &ask);
    let answer = answer.json();
    let send = answer.pointer("/hybridConnectionConfig/token").and_then(Value::as_str);
    let send = send.expect("a token to send").to_owned();
    let key = Secret::new("a key that is none of the relay's".to_owned());
    let forged = |path: &str, rule: &str| {
        sas::mint(&format!("http://localhost/{path}"), rule, &key, 4_000_000_000)
    };
    let (ours, theirs) = (seven.entity(), eight.entity());
    let signature = send.find("sig=").expect("a signature");
    let flip = |at: usize| {
        let mut bytes = send.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).expect("text")
    };
    // The signature of one, the resource of another; and one that ends inside a segment.
    let moved = send.replace(&percent_lower(&ours), &percent_lower(&theirs));
    assert_ne!(moved, send);
    let short = forged(&ours[..ours.len() - 1], "RootManageSharedAccessKey");
    let refused = [
        (ours.as_str(), "listen", forged(&ours, "RootManageSharedAccessKey")),
        (&ours, "connect", forged(&ours, "RootManageSharedAccessKey")),
        (&ours, "connect", forged("", "RootManageSharedAccessKey")),
        (&ours, "connect", forged(&ours, "no-such-rule")),
        (&ours, "connect", short),
        (&ours, "connect", flip(signature + 6)),
        (&ours, "connect", String::new()),
        (&ours, "connect", "SharedAccessSignature nonsense".to_owned()),
        // A real one: to send and not to listen, and for one cluster and no other.
        (&ours, "listen", send.clone()),
        (&theirs, "connect", send.clone()),
        (&theirs, "connect", moved),
        (&format!("{ours}0"), "connect", send.clone()),
        (&ours[..ours.len() - 1], "connect", send.clone()),
    ];
    for (entity, action, token) in refused {
        let answer = upgrade(&site, entity, action, &token);
        assert_eq!(answer.code, 401, "{action} {entity} {token}: {}", answer.head);
        assert!(answer.head.contains("TrackingId:"), "{}", answer.head);
    }
    let taken = upgrade(&site, &ours, "connect", &send);
    assert_eq!(taken.code, 101, "{} {}", taken.head, percent_lower(&ours));
    works(&site, "edge-7", &[]);
    works(&site, "edge-8", &[]);
}

fn percent_lower(entity: &str) -> String {
    entity.rsplit('/').next().expect("the id").to_owned()
}

fn nobody_gets_a_token_to_listen_without_the_agents_key() {
    let mut site = Site::start();
    let cluster = site.cluster("edge-7", Options::default());
    let id = ResourceId::parse("edge-7").expect("a name");
    let challenge = || {
        let answer = api(&site, &id, "listenChallenge", "", &json!({})).json();
        answer["challenge"].as_str().expect("a challenge").to_owned()
    };
    let own =
        cluster_connect::auth::certify::AgentKey::create(&SystemRandom::new()).expect("a key");
    let pem = std::fs::read(site.path("edge-7.agent/agent-key.pem")).expect("the agent's key");
    let real = cluster_connect::auth::certify::AgentKey::from_pem(&pem, &SystemRandom::new())
        .expect("the agent's key");
    let prove = |key: &cluster_connect::auth::certify::AgentKey, over: &str, challenge: &str| {
        use base64::Engine as _;
        let signature =
            key.sign(&id.cluster_id(), over, &SystemRandom::new()).expect("a signature");
        let signature = base64::engine::general_purpose::STANDARD.encode(signature);
        let proof = json!({ "challenge": challenge, "signature": signature });
        api(&site, &id, "listenToken", "", &proof)
    };
    let one = challenge();
    let wrong = prove(&own, &one, &one);
    assert!((401..=403).contains(&wrong.code), "{}", wrong.text());
    let two = challenge();
    let wrong = prove(&real, &one, &two);
    assert!((401..=403).contains(&wrong.code), "{}", wrong.text());
    let made_up = prove(&real, "bm9uc2Vuc2U", "bm9uc2Vuc2U");
    assert!((400..=403).contains(&made_up.code), "{}", made_up.text());
    let three = challenge();
    assert_eq!(prove(&real, &three, &three).code, 200);
    let again = prove(&real, &three, &three);
    assert!((400..=403).contains(&again.code), "a challenge is good once: {}", again.text());
    let client = site.client(&["edge-7"]);
    recovers(&door(&client, "edge-7"));
    drop(cluster);
}

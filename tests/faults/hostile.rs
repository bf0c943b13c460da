//! A relay that is somebody else's: another CA, another listener, bytes that are not those of the
//! other end. All of it is refused or noticed, and never wrong data.

use serde_json::{Value, json};

use super::answer::{Answer, attempt};
use super::chain::{ALICE, CLUSTER_AUDIENCE, Chain, Cluster, Options, Site, private};
use super::middle::{DEEDS, Deed, Middle, Way};
use super::processes::Process;
use super::trial::{Trial, trial};
use super::{PODS, door, eventually, get, recovers, refusal, says, works};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(another_ca_is_refused_with_both_fingerprints_until_it_is_accepted),
        trial(another_auth_proxy_behind_a_stolen_listener_gets_nothing),
        trial(bytes_changed_on_the_clients_leg_are_noticed),
        trial(bytes_changed_on_the_agents_leg_are_noticed),
        trial(a_session_that_is_tampered_with_at_its_start_does_not_begin),
    ]
}

/// The CA's fingerprint, as the operator sees it.
fn fingerprint(site: &Site) -> String {
    let known = std::fs::read_to_string(site.path("known/hosts")).expect("known clusters");
    known.split_whitespace().nth(1).expect("a fingerprint").to_owned()
}

/// The cluster is set up anew, under the same name.
fn renew(site: &Site, cluster: &mut Cluster) {
    cluster.kill_agent();
    cluster.kill_auth_proxy();
    for part in ["auth-proxy", "agent"] {
        std::fs::remove_dir_all(site.path(&format!("edge-7.{part}"))).expect("its state");
    }
    site.operator(&["remove", "edge-7"]);
    let printed = site.operator(&["add", "edge-7", "-o", "json"]);
    let printed: Value = serde_json::from_str(&printed).expect("JSON");
    let token = printed["joinToken"].as_str().expect("a join token");
    private(site.path("edge-7.join-token").as_ref(), token);
    cluster.start_auth_proxy(site);
    cluster.start_agent(site);
    site.operator(&["grant", "edge-7", "--user", ALICE]);
}

fn another_ca_is_refused_with_both_fingerprints_until_it_is_accepted() {
    let mut chain = Chain::start(Options::default());
    let site = &chain.site;
    let before = fingerprint(site);
    renew(site, &mut chain.cluster);
    let why = refusal(site, "edge-7", &[]);
    says(&why, "CLUSTER_CHANGED", &[&before, "--accept-new-ca"]);
    assert_eq!(fingerprint(site), before, "a refused CA is not remembered");
    let fresh = site.path("known/fresh");
    works(site, "edge-7", &["--known-hosts", &fresh]);
    let now = std::fs::read_to_string(&fresh).expect("known clusters");
    let now = now.split_whitespace().nth(1).expect("a fingerprint").to_owned();
    assert!(now != before && why.contains(&now), "{now} is not in: {why}");
    // What is said on the command line decides, whatever is known.
    let why = refusal(site, "edge-7", &["--ca-fingerprint", &before]);
    says(&why, "CLUSTER_CHANGED", &[&before, &now, "--ca-fingerprint"]);
    let why = refusal(site, "edge-7", &["--ca-fingerprint", &before, "--known-hosts", &fresh]);
    says(&why, "CLUSTER_CHANGED", &[&before, &now]);
    let other = site.path("known/other");
    std::fs::copy(site.path("known/hosts"), &other).expect("a copy");
    works(site, "edge-7", &["--ca-fingerprint", &now, "--known-hosts", &other]);
    works(site, "edge-7", &["--accept-new-ca"]);
    assert_eq!(fingerprint(site), now);
    works(site, "edge-7", &[]);
}

fn another_auth_proxy_behind_a_stolen_listener_gets_nothing() {
    let mut chain = Chain::start(Options::default());
    let site = &chain.site;
    let door = door(&chain.client, "edge-7");
    assert_eq!(get(&door, PODS).code, 200);
    chain.cluster.kill_agent();
    // Its own CA, the same name, the agent's stolen key, and an API server that says yes.
    let (ca, state, audit) =
        (site.path("issuer-ca.pem"), site.path("evil"), site.path("evil.audit"));
    let kubeconfig = site.path("edge-7.apiserver");
    let words = ["auth-proxy", "-n", "edge-7", "--listen", "127.0.0.1:0", "--state-dir", &state];
    let issuer = ["--oidc-issuer", site.issuer.url(), "--oidc-audience", CLUSTER_AUDIENCE];
    let more = ["--oidc-ca-file", &ca, "--oidc-username-prefix", "-"];
    let files = ["--kubeconfig", &kubeconfig, "--audit-log", &audit];
    let words = [&words[..], &issuer, &more, &files, &["--no-require-least-privilege"]].concat();
    let mut gate = Process::spawn(&mut site.command(&words), site.logs(), "evil").expect("starts");
    let place = gate.says("listens on ").expect("an address");
    let (ca, stolen) = (site.path("evil/ca.pem"), site.path("edge-7.agent"));
    let mut words =
        ["agent", "--relay", &site.url, "-n", "edge-7", "--state-dir", &stolen].to_vec();
    words.extend(["--auth-proxy", place.trim(), "--auth-proxy-ca", &ca]);
    words.extend(["--auth-proxy-audience", CLUSTER_AUDIENCE]);
    let relay_ca = site.relay_ca_words();
    words.extend(relay_ca.iter().map(String::as_str));
    let mut agent =
        Process::spawn(&mut site.command(&words), site.logs(), "evil-agent").expect("starts");
    agent.says("is connected to").expect("the thief listens");
    let before = chain.cluster.api.audit().len();
    says(&refusal(site, "edge-7", &[]), "CLUSTER_UNTRUSTED", &["pinned"]);
    let refused = get(&door, PODS);
    assert_eq!(refused.code, 502, "{}", refused.text());
    assert!(refused.text().contains("pinned"), "{}", refused.text());
    assert_eq!(chain.cluster.api.audit().len(), before);
    let audit = std::fs::read_to_string(&audit).unwrap_or_default();
    assert!(!audit.contains(ALICE), "no request has come through: {audit}");
    drop((agent, gate));
    chain.cluster.start_agent(&chain.site);
    recovers(&door);
}

/// A chain whose client, or agent, reaches the relay through somebody.
fn bugged(is_agents_leg: bool) -> (Chain, Middle) {
    let mut site = Site::start_plain();
    let middle = Middle::start(site.relay_address());
    let (direct, through) = (site.url.clone(), format!("http://localhost:{}", middle.addr.port()));
    let choose = |bugged| if bugged { through.clone() } else { direct.clone() };
    site.url = choose(is_agents_leg);
    let cluster = site.cluster("edge-7", Options::default());
    site.url = choose(!is_agents_leg);
    let client = site.client(&["edge-7"]);
    (Chain { client, cluster, site }, middle)
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Bytes that are nowhere else.
fn data(name: &str) -> String {
    (0..40_000).map(|number| format!("{name}{number:05}")).collect()
}

fn tampering(is_agents_leg: bool) {
    let (chain, middle) = bugged(is_agents_leg);
    let door = door(&chain.client, "edge-7");
    let map = |name: &str| {
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name },
                "data": { "it": data(name) } })
    };
    let mut there = map("there");
    there["metadata"]["namespace"] = json!("default");
    assert!(chain.cluster.api.add("", "v1", "configmaps", there));
    // Towards the cluster is up at the client's leg, and down at the agent's.
    let (requests, answers) =
        if is_agents_leg { (Way::Down, Way::Up) } else { (Way::Up, Way::Down) };
    for (number, deed) in DEEDS.into_iter().enumerate() {
        for way in [requests, answers] {
            recovers(&door);
            let ended = middle.ended();
            let name = format!("it-{number}");
            let request = if way == requests {
                let body = map(&name).to_string();
                format!(
                    "POST {}{MAPS} HTTP/1.1\r\nHost: kubernetes\r\n{}Content-Type: \
                     application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    door.prefix,
                    door.bearer(),
                    body.len()
                )
            } else {
                door.request(&format!("{MAPS}/there"), "")
            };
            middle.arm(way, deed);
            let answer = attempt(&door, request.as_bytes());
            assert!(middle.is_done(), "{deed:?} {way:?}: {answer:?}");
            if let Answer::Whole(code @ 200..300, body) = &answer {
                let body: Value = serde_json::from_slice(body).expect("JSON");
                let wanted = data(if way == requests { &name } else { "there" });
                assert_eq!(body.pointer("/data/it"), Some(&json!(wanted)), "{deed:?} {code}");
            }
            recovers(&door);
            // Whoever notices ends the session. The answer may have come over another one.
            eventually(&format!("{deed:?} {way:?} is noticed"), || ended < middle.ended());
            let after = get(&door, &format!("{MAPS}/{name}"));
            if way == requests && after.code != 404 {
                let body = after.json();
                assert_eq!(body.pointer("/data/it"), Some(&json!(data(&name))), "{deed:?}");
            }
        }
    }
}

fn bytes_changed_on_the_clients_leg_are_noticed() {
    tampering(false);
}

fn bytes_changed_on_the_agents_leg_are_noticed() {
    tampering(true);
}

fn a_session_that_is_tampered_with_at_its_start_does_not_begin() {
    let (chain, middle) = bugged(false);
    for deed in [Deed::Flip, Deed::Shorten, Deed::Splice, Deed::CutOff] {
        for way in [Way::Up, Way::Down] {
            middle.arm(way, deed);
            let why = refusal(&chain.site, "edge-7", &[]);
            assert!(middle.is_done(), "{deed:?} {way:?}: {why}");
            assert!(why.contains("error[CLUSTER_UN"), "{deed:?} {way:?}: {why}");
            works(&chain.site, "edge-7", &[]);
        }
    }
    recovers(&door(&chain.client, "edge-7"));
}

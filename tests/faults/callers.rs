//! Callers that the relay or the cluster refuses.

use std::time::Duration;

use serde_json::json;

use super::chain::{ALICE, CLUSTER_AUDIENCE, Chain, Options, RELAY_AUDIENCE, Site, private};
use super::issuer::{Algorithm, Issuer};
use super::kubectl::newest;
use super::trial::{Absent, Trial, trial};
use super::{PODS, complaint, door, get, recovers, refusal, says, works};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(the_relay_refuses_every_wrong_token_with_one_code),
        trial(the_auth_proxy_refuses_every_wrong_token_with_401),
        trial(kubectl_says_that_a_token_was_refused),
        trial(an_unknown_cluster_and_one_that_never_came_have_codes_of_their_own),
        trial(a_cluster_that_went_away_is_offline_since),
        trial(an_operators_token_that_is_none_is_refused),
        trial(a_relay_that_is_not_trusted_is_named_by_client_operator_and_agent),
    ]
}

/// `file:` with these two tokens.
fn identity(site: &Site, name: &str, relay: &str, cluster: &str) -> String {
    let (one, two) = (site.path(&format!("{name}.relay")), site.path(&format!("{name}.cluster")));
    private(one.as_ref(), relay);
    private(two.as_ref(), cluster);
    format!("file:{one},{two}")
}

/// Tokens for `audience` that are wrong in one way each.
fn bad_tokens(site: &Site, other: &Issuer, audience: &str, wrong_audience: &str) -> Vec<String> {
    let life = Duration::from_secs(3600);
    let good = site.issuer.user_claims(audience, ALICE, &[], life);
    let mut expired = good.clone();
    expired["iat"] = json!(1_000_000_000);
    expired["nbf"] = json!(1_000_000_000);
    expired["exp"] = json!(1_000_003_600);
    let mut tampered = site.token(audience, ALICE);
    let last = tampered.pop().expect("a signature");
    tampered.insert(tampered.len() - 20, last);
    vec![
        site.token(wrong_audience, ALICE),
        other.token_with(Algorithm::Rs256, &other.user_claims(audience, ALICE, &[], life)),
        // Another issuer's key under the name of ours.
        other.token(&good),
        site.issuer.token_with(Algorithm::Rs256, &expired),
        tampered,
        "not-a-token".to_owned(),
    ]
}

fn the_relay_refuses_every_wrong_token_with_one_code() {
    let mut site = Site::start();
    let cluster = site.cluster("edge-7", Options::default());
    let other = Issuer::start().expect("another issuer starts");
    let good = site.token(CLUSTER_AUDIENCE, ALICE);
    let before = cluster.api.audit().len();
    for token in bad_tokens(&site, &other, RELAY_AUDIENCE, CLUSTER_AUDIENCE) {
        let identity = identity(&site, "bad", &token, &good);
        let why = refusal(&site, "edge-7", &["--identity", &identity]);
        says(&why, "TOKEN_REFUSED", &["hint: "]);
        assert!(!why.contains(&token) || token.len() < 20, "a token is a secret: {why}");
    }
    assert_eq!(cluster.api.audit().len(), before, "nothing reached the cluster");
    works(&site, "edge-7", &[]);
}

fn the_auth_proxy_refuses_every_wrong_token_with_401() {
    let mut site = Site::start();
    let cluster = site.cluster("edge-7", Options::default());
    let other = Issuer::start().expect("another issuer starts");
    let before = cluster.api.audit().len();
    let mut bad = bad_tokens(&site, &other, CLUSTER_AUDIENCE, RELAY_AUDIENCE);
    // Not a token at all ends the client before anything starts, and one that has expired too.
    bad.truncate(3);
    for (number, token) in bad.iter().enumerate() {
        let relay = site.token(RELAY_AUDIENCE, ALICE);
        let identity = identity(&site, "other", &relay, token);
        let client = site.client_with(&["edge-7"], &["--identity", &identity]);
        let answer = get(&door(&client, "edge-7"), PODS);
        assert_eq!(answer.code, 401, "{number}: {}", answer.text());
        assert_eq!(answer.json().get("kind"), Some(&json!("Status")));
    }
    assert_eq!(cluster.api.audit().len(), before, "nothing reached the API server");
    let client = site.client(&["edge-7"]);
    assert_eq!(get(&door(&client, "edge-7"), PODS).code, 200);
}

fn kubectl_says_that_a_token_was_refused() -> Result<(), Absent> {
    let kubectl = newest()?;
    let mut site = Site::start();
    let _cluster = site.cluster("edge-7", Options::default());
    let token = site.token(RELAY_AUDIENCE, ALICE);
    let identity = identity(&site, "other", &token, &token);
    let client = site.client_with(&["edge-7"], &["--identity", &identity]);
    let ended = kubectl.with(&client.kubeconfig).run(&["get", "pods"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("You must be logged in"), "{ended:?}");
    Ok(())
}

fn an_unknown_cluster_and_one_that_never_came_have_codes_of_their_own() {
    let mut site = Site::start();
    let _cluster = site.cluster("edge-7", Options::default());
    // Somebody who may ask about one cluster learns nothing of the others.
    let why = refusal(&site, "no-such", &[]);
    says(&why, "CLUSTER_UNKNOWN", &["no-such", "hint: "]);
    site.operator(&["add", "edge-8"]);
    says(&refusal(&site, "edge-8", &[]), "FORBIDDEN", &["hint: ", "cluster grant"]);
    site.operator(&["grant", "edge-8", "--user", ALICE]);
    says(&refusal(&site, "edge-8", &[]), "CLUSTER_NEVER_CONNECTED", &["edge-8", "never", "hint: "]);
    let why = site.try_operator(&["show", "no-such"]).expect_err("there is none");
    says(&why, "CLUSTER_UNKNOWN", &["cluster list"]);
    works(&site, "edge-7", &[]);
}

fn a_cluster_that_went_away_is_offline_since() {
    let mut chain = Chain::start(Options::default());
    let door = door(&chain.client, "edge-7");
    chain.cluster.kill_agent();
    super::eventually("the relay has noticed", || {
        chain.site.operator(&["show", "edge-7", "-o", "json"]).contains("Offline")
    });
    says(&refusal(&chain.site, "edge-7", &[]), "CLUSTER_OFFLINE", &["offline since 2", "hint: "]);
    let refused = get(&door, PODS);
    assert_eq!(refused.code, 502, "{}", refused.text());
    assert!(refused.text().contains("offline since 2"), "{}", refused.text());
    chain.cluster.start_agent(&chain.site);
    recovers(&door);
}

fn an_operators_token_that_is_none_is_refused() {
    let site = Site::start();
    let (ca, file) = (site.path("relay/ca.pem"), site.path("wrong-token"));
    let words = ["cluster", "add", "edge-9", "--relay", &site.url, "--relay-ca", &ca];
    let with_file = [&words[..], &["--admin-token-file", &file]].concat();
    private(file.as_ref(), "not-the-admin-token");
    says(&complaint(&site, &with_file), "TOKEN_REFUSED", &["hint: "]);
    private(file.as_ref(), &site.token(RELAY_AUDIENCE, ALICE));
    // A relay that has just started may not have the issuer's keys yet, and says so.
    let mut why = String::new();
    super::eventually("the relay has the issuer's keys", || {
        why = complaint(&site, &with_file);
        !why.contains("ServiceUnavailable")
    });
    says(&why, "FORBIDDEN", &["hint: "]);
    assert!(!site.operator(&["list"]).contains("edge-9"));
}

fn a_relay_that_is_not_trusted_is_named_by_client_operator_and_agent() {
    let mut site = Site::start();
    let cluster = site.cluster("edge-7", Options::default());
    // A certificate of somebody else's.
    let wrong = site.path("issuer-ca.pem");
    says(&refusal(&site, "edge-7", &["--relay-ca", &wrong]), "RELAY_UNTRUSTED", &["--relay-ca"]);
    let token = site.path("relay/admin-token");
    let operator = ["cluster", "list", "--relay", &site.url, "--admin-token-file", &token];
    for more in [&["--relay-ca", wrong.as_str()][..], &[]] {
        let why = complaint(&site, &[&operator[..], more].concat());
        says(&why, "RELAY_UNTRUSTED", &["--relay-ca"]);
    }
    // An agent does not end: the relay may get its certificate yet. It says what is wrong.
    let (ca, state) = (site.path("edge-7.auth-proxy/ca.pem"), site.path("edge-7.agent"));
    let words = ["agent", "--relay", &site.url, "-n", "edge-7", "--state-dir", &state];
    let more = ["--relay-ca", &wrong, "--auth-proxy", cluster.auth_proxy_address()];
    let last = ["--auth-proxy-ca", &ca, "--auth-proxy-audience", CLUSTER_AUDIENCE];
    let words = [&words[..], &more, &last].concat();
    let mut agent =
        super::processes::Process::spawn(&mut site.command(&words), site.logs(), "untrusting")
            .expect("the agent starts");
    let rest = agent.says("RELAY_UNTRUSTED").expect("the code of it");
    assert!(rest.contains("--relay-ca"), "{rest}");
    drop(agent);
    works(&site, "edge-7", &[]);
}

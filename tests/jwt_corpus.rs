//! Every token of the corpus gets the verdict that the corpus gives, for the reason that fits it.

#[path = "support/rng.rs"]
mod rng;

use std::collections::BTreeMap;
use std::fs;

use cluster_connect::auth::pop::Possession;
use cluster_connect::auth::profile::{EntraKeys, EntraTenant};
use cluster_connect::auth::{Denied, IssuerSettings, Principal, Verifier, VerifierSettings};
use cluster_connect::wire::jws::Algorithm;
use rng::Rng;
use serde_json::Value;

struct Corpus {
    verifier: Verifier,
    now: u64,
    cases: Vec<Value>,
}

impl Corpus {
    fn load() -> Self {
        let read = |name: &str| {
            let path = format!("{}/tests/corpora/{name}", env!("CARGO_MANIFEST_DIR"));
            fs::read_to_string(path).expect(name)
        };
        let config: Value = serde_json::from_str(&read("jwt_config.json")).expect("JSON");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let texts = |name: &str| -> Vec<String> {
            config[name].as_array().expect(name).iter().map(text).collect()
        };
        let number = |name: &str| config[name].as_u64().expect(name);
        let mut tenant = EntraTenant::new(&text(&config["tenant"]), texts("audiences"));
        tenant.keys = EntraKeys::Installed;
        tenant.algorithms =
            texts("algs").iter().map(|name| Algorithm::parse(name).expect("known")).collect();
        tenant.leeway = number("leeway");
        tenant.lifetime = number("max_lifetime");
        let mut verifier = Verifier::new(VerifierSettings {
            issuers: vec![IssuerSettings::Entra(tenant)],
            possession: Possession::Accept(text(&config["pop_u"])),
            service_account_issuer: None,
        })
        .expect("a configuration that works");
        let names: Vec<_> = verifier.issuers().iter().map(|one| one.name().to_owned()).collect();
        assert_eq!(names, texts("issuers"));
        let now = number("now");
        for issuer in 0..names.len() {
            let keys = read("jwt_jwks.json");
            let set = verifier.install_keys(issuer, keys.as_bytes(), now).expect("keys");
            assert_eq!((set.len(), set.left_out().count()), (3, 4));
        }
        let cases = read("jwt_cases.jsonl");
        let cases = cases.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        Self { verifier, now, cases }
    }

    fn verdict(&self, case: &Value) -> Result<Principal, Denied> {
        self.verifier.verify(case["token"].as_str().expect("token"), self.now)
    }
}

/// The reason for which a case must be refused, by the words in which the corpus puts it.
fn reason(id: &str, why: &str) -> &'static str {
    let by_id = BTreeMap::from([
        ("kid-traversal", "key_unknown"),
        ("kid-cmd", "key_unknown"),
        ("HS256-oct", "algorithm"),
        ("hdr-utf16", "malformed"),
        ("pl-bad-utf8", "malformed"),
        ("cl-exp-past", "expired"),
        ("edge-exp", "expired"),
        ("cl-exp-far", "lifetime"),
        ("cl-nbf-future", "not_yet_valid"),
        ("cl-aud-empty", "audience"),
        ("cl-aud-trail", "audience"),
        ("cl-iss-ver-mix", "tenant"),
        ("cl-user-system", "reserved_name"),
        ("cl-user-anon", "reserved_name"),
        ("cl-user-fullwidth", "reserved_name"),
        ("cl-grp-masters", "reserved_name"),
        ("cl-grp-nodes", "reserved_name"),
        ("cl-grp-crlf", "name"),
        ("cl-idtyp-device", "purpose"),
        ("cl-actor", "purpose"),
        ("hasgroups", "overage"),
        ("pop-at-bare", "proof_required"),
        ("pop-at-pop", "token_type"),
        ("alg-none", "malformed"),
        ("alg-nOnE", "malformed"),
        ("alg-swap", "key_mismatch"),
        ("alg-swap2", "key_mismatch"),
        ("es-der", "signature"),
        ("wrong-key", "signature"),
    ]);
    if let Some(reason) = by_id.get(id) {
        return reason;
    }
    match why {
        "1024-bit key" | "exponent 1" => "key_unknown",
        "key supplied by token" => "signature",
        "kid is only ever an exact map lookup" | "kid not a string" => "malformed",
        "extension not understood" | "not a compact JWS" | "non-canonical base64url" => "malformed",
        "payload JSON" => "malformed",
        "other token type" => "token_type",
        "oid absent" => "claim",
        _ if id.starts_with("alg-") || id.starts_with("HS") => "algorithm",
        _ if why.contains("alg not in") => "algorithm",
        _ if id.starts_with("cl-iss") => "issuer",
        _ if id.starts_with("cl-user") => "name",
        _ if id.starts_with("cl-") => "claim",
        _ if id.starts_with("pop-") => "proof",
        _ => panic!("no reason known for {id}: {why}"),
    }
}

#[test]
fn every_case_has_its_verdict() {
    let corpus = Corpus::load();
    assert_eq!(corpus.cases.len(), 109);
    let mut wrong = Vec::new();
    for case in &corpus.cases {
        let (id, why) = (case["id"].as_str().expect("id"), case["why"].as_str().expect("why"));
        match (corpus.verdict(case), case["accept"].as_bool().expect("accept")) {
            (Ok(principal), true) => {
                assert_eq!(case["user"].as_str(), Some(principal.user.as_str()), "{id}");
                let groups: Vec<_> = case["groups"]
                    .as_array()
                    .expect("groups")
                    .iter()
                    .filter_map(Value::as_str)
                    .collect();
                assert_eq!(groups, principal.groups, "{id}");
            }
            (Err(denied), false) if denied.reason() == reason(id, why) => {
                assert!(matches!(denied.status(), 401 | 403), "{id}");
            }
            (verdict, _) => wrong.push(format!("{id} ({why}): {verdict:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// One small change of a token: a byte replaced, put in, taken out, swapped, or a cut.
fn mutate(token: &str, rng: &mut Rng) -> String {
    let mut text: Vec<char> = token.chars().collect();
    let alphabet: Vec<char> =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n\0\u{e9}"
            .chars()
            .collect();
    let at = rng.below(text.len());
    let letter = alphabet[rng.below(alphabet.len())];
    match rng.below(5) {
        0 => text[at] = letter,
        1 => text.insert(at, letter),
        2 => drop(text.remove(at)),
        3 => text.swap(at, (at + 1) % token.len()),
        _ => text.truncate(at),
    }
    text.into_iter().collect()
}

#[test]
fn a_changed_token_is_never_accepted() {
    let corpus = Corpus::load();
    let accepted = corpus.cases.iter().filter(|case| case["accept"] == true);
    for (seed, case) in (1..).zip(accepted) {
        let token = case["token"].as_str().expect("token");
        let mut rng = Rng(seed);
        for _ in 0..400 {
            let changed = mutate(token, &mut rng);
            let verdict = corpus.verifier.verify(&changed, corpus.now);
            assert!(changed == token || verdict.is_err(), "seed {seed}: {changed:?}");
        }
    }
}

#[test]
fn every_single_byte_of_a_token_matters() {
    let corpus = Corpus::load();
    let case = corpus.cases.iter().find(|case| case["id"] == "ok-v2").expect("ok-v2");
    let token = case["token"].as_str().expect("token");
    for at in 0..token.len() {
        let mut bytes = token.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).expect("ASCII");
        assert!(corpus.verifier.verify(&changed, corpus.now).is_err(), "byte {at}");
    }
}

#[test]
fn bytes_without_any_form_are_refused_without_a_panic() {
    let corpus = Corpus::load();
    let mut rng = Rng(7);
    let parts = ["e30", "eyJhbGciOiJSUzI1NiJ9", ".", "..", "{", "null", "=", "\u{202e}", "AAAA"];
    for _ in 0..2_000 {
        let count = rng.below(8);
        let text: String = (0..count).map(|_| parts[rng.below(parts.len())]).collect();
        assert!(corpus.verifier.verify(&text, corpus.now).is_err(), "{text:?}");
    }
}

//! Every token of the corpus against the real binary, whose wall clock stands where the corpus was
//! made: what must be refused sends nothing upstream, what must pass sends exactly its identity.

use std::fs;

use cluster_connect::wire::h1::{RequestHead, Scan};
use serde_json::{Value, json};

use crate::callers::at_once;
use crate::door::{Door, Site, is_whole, request};
use crate::requests::answer;
use crate::support::mint::Keys;

/// Callers at a time.
const CALLERS: usize = 8;

fn read(name: &str) -> String {
    let path = format!("{}/tests/corpora/{name}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(path).expect(name)
}

/// The issuers as the corpus describes them, and its clock.
fn site() -> Site {
    let config: Value = serde_json::from_str(&read("jwt_config.json")).expect("JSON");
    let auth = json!({ "issuers": [{
        "type": "entra",
        "entra": {
            "tenant": config["tenant"], "audiences": config["audiences"], "jwksFile": "keys.json",
        },
        "algorithms": config["algs"],
        "leewaySeconds": config["leeway"],
        "maxLifetimeSeconds": config["max_lifetime"],
    }]});
    let files = vec![("keys.json", read("jwt_jwks.json"))];
    Site { auth, files, clock: config["now"].as_u64() }
}

/// Like [`request`], but the token says nothing that HTTP could not carry unless it does.
fn fields(case: &Value) -> String {
    format!("Authorization: Bearer {}\r\n", case["token"].as_str().expect("a token"))
}

#[test]
fn every_token_of_the_corpus_has_its_verdict_at_the_door() {
    let cases = read("jwt_cases.jsonl");
    let cases: Vec<Value> =
        cases.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(cases.len(), 109);
    let door = Door::of(site(), Keys::new(), answer, &[]);
    let (refused, passed): (Vec<_>, Vec<_>) =
        cases.iter().partition(|case| case["accept"] == false);
    let downs = at_once(CALLERS, &refused, |case| door.exchange(&request(&fields(case)), is_whole));
    let mut wrong = Vec::new();
    for (case, down) in refused.iter().zip(downs) {
        let is_refusal = [&b"401"[..], b"403", b"400", b"431"]
            .iter()
            .any(|status| down.get(9..12) == Some(status));
        if !is_refusal {
            let head: String = down.escape_ascii().take(90).map(char::from).collect();
            wrong.push(format!("{}: {head}", case["id"]));
        }
    }
    let sent = door.went_up();
    assert!(sent.is_empty(), "{} requests went upstream: {sent:?}", sent.len());
    for case in &passed {
        let down = door.exchange(&request(&fields(case)), is_whole);
        if !down.starts_with(b"HTTP/1.1 200 ") {
            wrong.push(format!("{}: {}", case["id"], down.escape_ascii()));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let sent = door.went_up();
    assert_eq!(sent.len(), passed.len(), "each has one connection of its own");
    for (case, conn) in passed.iter().zip(sent) {
        assert_identity(case, &conn.bytes);
    }
}

/// One request, with the identity that the corpus gives and nothing else of that kind.
fn assert_identity(case: &Value, bytes: &[u8]) {
    let (head, len) =
        RequestHead::read(bytes, &mut Scan::default()).expect("well formed").expect("a whole head");
    assert_eq!(len, bytes.len(), "{case}: one request, without a body");
    let of = |name: &str| -> Vec<String> {
        let fields = head.fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        fields.map(|field| String::from_utf8_lossy(field.value).into_owned()).collect()
    };
    let groups = case["groups"].as_array().expect("groups").iter();
    let groups = groups.map(|group| group.as_str().expect("text").to_owned());
    let groups: Vec<_> = std::iter::once("system:authenticated".to_owned()).chain(groups).collect();
    assert_eq!(of("impersonate-user"), [case["user"].as_str().expect("text")], "{case}");
    assert_eq!(of("impersonate-group"), groups, "{case}");
    assert_eq!(of("authorization"), ["Bearer our-own-token"], "{case}");
    assert_eq!(of("impersonate-uid"), [""; 0], "{case}");
    let token = case["token"].as_str().expect("a token");
    assert!(!String::from_utf8_lossy(bytes).contains(token), "the caller's token went on: {case}");
}

//! Keys over https: found by discovery, kept fresh, replaced as a whole, and no lever for whoever
//! makes up key names.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use cluster_connect::wire::h1::RequestHead;
use serde_json::{Value, json};

use crate::door::{AUDIENCE, Door, Site, TENANT, claims, is_whole, request};
use crate::issuer::Issuer;
use crate::support::mint::{Keys, Signer, now, with};
use crate::support::process::PATIENCE;

const KEYS: &str = "/keys";
const DOCUMENT: &str = "/.well-known/openid-configuration";

pub(crate) fn answer(_: &RequestHead) -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()
}

/// The status of a request with this token.
pub(crate) fn status(door: &Door, token: &str) -> String {
    let down = door.exchange(&request(&format!("Authorization: Bearer {token}\r\n")), is_whole);
    String::from_utf8_lossy(down.get(9..12).unwrap_or_default()).into_owned()
}

/// Waits until `done`. What is waited for happens in another process.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn warnings(door: &Door) -> usize {
    door.log().matches("level=warn").count()
}

fn hang_up(door: &Door) {
    let told = Command::new("kill").args(["-HUP", &door.id().to_string()]).status();
    assert!(told.expect("kill").success());
}

fn set(keys: &Keys, other: bool) -> Value {
    let id = if other { "second" } else { "first" };
    json!({"keys": [with(keys.rsa_jwk(other), json!({"kid": id}))]})
}

fn token(door: &Door, issuer: &Issuer, signer: Signer, kid: &str) -> String {
    let header = json!({"alg": "RS256", "kid": kid}).to_string();
    let claims = with(claims("ana"), json!({"iss": issuer.url()})).to_string();
    door.keys.token(signer, header.as_bytes(), claims.as_bytes())
}

/// An auth proxy that takes the tokens of `issuer`, whose keys are at `more`.
fn door(issuer: &Issuer, more: Value) -> Door {
    trusting(issuer, issuer, more)
}

/// The same, with the authority of another server.
fn trusting(authority: &Issuer, issuer: &Issuer, more: Value) -> Door {
    let of = with(
        json!({
            "url": issuer.url(), "audiences": [AUDIENCE], "certificateAuthorityFile": "ca.pem",
        }),
        more,
    );
    let auth = json!({"issuers": [{
        "type": "oidc", "issuer": of,
        "claimMappings": {"username": {"claim": "sub", "prefix": "-"}},
    }]});
    let files = vec![("ca.pem", authority.ca_pem())];
    Door::of(Site { auth, files, clock: None }, Keys::new(), answer, &[])
}

fn published() -> (Issuer, Keys) {
    let (issuer, keys) = (Issuer::start(), Keys::new());
    let keys_url = format!("{}{KEYS}", issuer.url());
    issuer.serve(DOCUMENT, &json!({"issuer": issuer.url(), "jwks_uri": keys_url}));
    (issuer, keys)
}

#[test]
fn keys_are_found_kept_fresh_and_replaced_as_a_whole() {
    let (issuer, keys) = published();
    issuer.serve_raw(KEYS, 200, "ETag: \"one\"\r\n", &set(&keys, false).to_string());
    let door = door(&issuer, json!({}));
    let (first, second) = (
        token(&door, &issuer, Signer::Rs256, "first"),
        token(&door, &issuer, Signer::OtherRs256, "second"),
    );
    until("the first keys", || status(&door, &first) == "200");
    assert_eq!(issuer.asked(KEYS).len(), 1, "one fetch serves all");
    // Asked again, the issuer says that nothing has changed.
    hang_up(&door);
    until("a second round", || issuer.asked(KEYS).len() == 2);
    assert_eq!(issuer.asked(KEYS)[1].if_none_match, "\"one\"");
    until("it is taken", || door.log().matches("keys are fresh").count() == 2);
    assert_eq!(status(&door, &first), "200");
    // The issuer changes its keys: a name that is not known is worth one fetch.
    issuer.serve_raw(KEYS, 200, "ETag: \"two\"\r\n", &set(&keys, true).to_string());
    // Who brings it waits for that, for a moment.
    until("the new keys", || status(&door, &second) == "200");
    assert_eq!(status(&door, &first), "401", "the old key is gone with its set");
    assert_eq!(issuer.asked(KEYS).len(), 3);
    // From now on made-up names cost the issuer nothing.
    for at in 0..50 {
        assert_eq!(status(&door, &token(&door, &issuer, Signer::Rs256, &format!("k{at}"))), "401");
    }
    assert_eq!(issuer.asked(KEYS).len(), 3);
    assert!(issuer.asked("/").iter().all(|asked| asked.authorization.is_empty()));
}

#[test]
fn keys_stay_while_their_issuer_fails_or_lies() {
    let (issuer, keys) = published();
    issuer.serve(KEYS, &set(&keys, false));
    let door = door(&issuer, json!({}));
    let good = token(&door, &issuer, Signer::Rs256, "first");
    let forged = token(&door, &issuer, Signer::OtherRs256, "second");
    until("the first keys", || status(&door, &good) == "200");
    let trap = Issuer::start();
    trap.serve("/evil", &set(&keys, true));
    let evil = format!("{}/evil", trap.url());
    let document = |keys: &str| json!({"issuer": issuer.url(), "jwks_uri": keys}).to_string();
    let here = document(&format!("{}{KEYS}", issuer.url()));
    let other = set(&keys, true);
    let text = other.to_string();
    let twice = text.replacen('{', "{\"keys\":[],", 1);
    let padded = format!("{text}{}", " ".repeat(1024 * 1024));
    let weak = json!({"keys": [{"kty": "oct", "kid": "second", "k": "AAAA"}]}).to_string();
    let redirect = format!("Location: {evil}\r\n");
    for (what, document, status_of, fields, body) in [
        ("an error", here.as_str(), 500, "", "{}"),
        ("a redirect", &here, 302, &redirect, ""),
        ("an empty object", &here, 200, "", "{}"),
        ("no keys", &here, 200, "", r#"{"keys":[]}"#),
        ("only a secret key", &here, 200, "", &weak),
        ("keys twice", &here, 200, "", &twice),
        ("too long", &here, 200, "", &padded),
        ("cut short", &here, 200, "", text.get(..40).expect("ASCII")),
        ("another host", &document(&evil), 200, "", &text),
        ("no TLS", &document("http://127.0.0.1/keys"), 200, "", &text),
        ("another issuer", &document(&evil).replace(&issuer.url(), "https://x"), 200, "", &text),
    ] {
        issuer.serve_raw(DOCUMENT, 200, "", document);
        issuer.serve_raw(KEYS, status_of, fields, body);
        let rounds = issuer.asked(DOCUMENT).len();
        let complaints = warnings(&door);
        hang_up(&door);
        until(what, || rounds < issuer.asked(DOCUMENT).len() && complaints < warnings(&door));
        assert_eq!(
            (status(&door, &good), status(&door, &forged)),
            ("200".into(), "401".into()),
            "{what}"
        );
    }
    assert!(trap.asked("/").is_empty(), "only the configured host is asked");
}

#[test]
fn nobody_is_let_in_before_there_are_keys_and_an_untrusted_issuer_has_none() {
    let (issuer, keys) = published();
    issuer.serve(KEYS, &set(&keys, false));
    let door = trusting(&Issuer::start(), &issuer, json!({}));
    let good = token(&door, &issuer, Signer::Rs256, "first");
    until("a refused certificate", || door.log().contains("keys were not fetched"));
    let down = door.exchange(&request(&format!("Authorization: Bearer {good}\r\n")), is_whole);
    let text = String::from_utf8_lossy(&down);
    assert!(text.starts_with("HTTP/1.1 503 ") && text.contains("\r\nRetry-After: "), "{text}");
    assert!(issuer.asked("/").is_empty() && door.went_up().is_empty());
}

#[test]
fn keys_that_are_not_used_are_named_once() {
    let (issuer, keys) = published();
    let mut all = set(&keys, false);
    let odd = json!({"kty": "oct", "kid": "sym\nmetric", "k": "AAAA"});
    all["keys"].as_array_mut().expect("keys").push(odd);
    issuer.serve(KEYS, &all);
    let door = door(&issuer, json!({"jwksURL": format!("{}{KEYS}", issuer.url())}));
    until("the keys", || door.log().contains("keys are fresh"));
    hang_up(&door);
    until("the keys again", || door.log().matches("keys are fresh").count() == 2);
    assert!(issuer.asked(DOCUMENT).is_empty(), "the keys' own address is enough");
    let log = door.log();
    let named: Vec<_> =
        log.lines().filter(|line| line.contains("keys that are not used")).collect();
    assert_eq!(named.len(), 1, "{log}");
    assert!(named[0].contains("sym\\\\nmetric") || named[0].contains("sym\\nmetric"), "{named:?}");
}

#[test]
fn a_tenant_has_a_document_for_each_form_of_its_tokens() {
    let (issuer, keys) = (Issuer::start(), Keys::new());
    issuer.publish_tenant(&set(&keys, false));
    let auth = json!({"issuers": [{"type": "entra", "entra": {
        "tenant": TENANT, "audiences": ["api://edge"], "authority": issuer.url(),
        "certificateAuthorityFile": "ca.pem", "signingApp": TENANT,
    }}]});
    let files = vec![("ca.pem", issuer.ca_pem())];
    let door = Door::of(Site { auth, files, clock: None }, keys, answer, &[]);
    let token = |form: Value| {
        let now = now();
        let claims = json!({
            "aud": "api://edge", "iat": now, "nbf": now, "exp": now + 3600, "tid": TENANT,
            "oid": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "upn": "ana@contoso.example",
            "appid": "04b07795-8ddb-461a-bbee-02f9e1bf7b46",
        });
        let header = json!({"alg": "RS256", "kid": "first"}).to_string();
        let claims = with(claims, form).to_string();
        door.keys.token(Signer::Rs256, header.as_bytes(), claims.as_bytes())
    };
    let v1 = json!({"ver": "1.0", "iss": format!("https://sts.windows.net/{TENANT}/")});
    let host = "https://login.microsoftonline.com";
    let v2 = json!({"ver": "2.0", "iss": format!("{host}/{TENANT}/v2.0")});
    for form in [v1, v2] {
        let token = token(form.clone());
        until(&form.to_string(), || status(&door, &token) == "200");
    }
    let query = format!("{DOCUMENT}?appid={TENANT}");
    for version in ["", "/v2.0"] {
        assert_eq!(issuer.asked(&format!("/{TENANT}{version}{query}")).len(), 1, "{version}");
    }
}

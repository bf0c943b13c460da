use ring::digest::{SHA256, digest};
use serde_json::{Value as Json, json};

use super::super::Principal;
use super::super::profile::{EntraKeys, EntraTenant};
use super::super::settings::{IssuerSettings, VerifierSettings};
use super::super::testing::{
    AUDIENCE, NOW, Pair, TENANT, entra_claims, key_set, refused, rsa_jwk, sign, token, with,
};
use super::super::verifier::Verifier;
use super::*;

const CLUSTER: &str = "/subscriptions/s/resourceGroups/r/providers/x/connectedClusters/c";

fn verifier(possession: Possession) -> Verifier {
    let mut tenant = EntraTenant::new(TENANT, vec![AUDIENCE.to_owned()]);
    tenant.keys = EntraKeys::Installed;
    let issuers = vec![IssuerSettings::Entra(tenant)];
    let settings = VerifierSettings { issuers, possession, service_account_issuer: None };
    let mut verifier = Verifier::new(settings).expect("settings");
    for index in 0..2 {
        verifier.install_keys(index, key_set().to_string().as_bytes(), NOW).expect("keys");
    }
    verifier
}

/// The caller's key is the other RSA pair; the issuer's is the first.
fn thumbprint() -> String {
    let jwk = rsa_jwk(Pair::OtherRsa);
    let text = format!(r#"{{"e":{},"kty":"RSA","n":{}}}"#, jwk["e"], jwk["n"]);
    encode_base64url(digest(&SHA256, text.as_bytes()).as_ref())
}

fn bound_token() -> String {
    token(&with(entra_claims(), &json!({"cnf": {"kid": thumbprint(), "xms_ksl": "sw"}})))
}

fn header() -> Json {
    json!({"typ": "pop", "alg": "RS256", "kid": thumbprint()})
}

/// What kubelogin sends.
fn body() -> Json {
    let jwk = with(rsa_jwk(Pair::OtherRsa), &json!({"alg": "RS256", "kid": thumbprint()}));
    json!({"at": bound_token(), "ts": NOW, "u": CLUSTER, "cnf": {"jwk": jwk}, "nonce": "0"})
}

fn verdict_of(header: &Json, body: &Json, asked: Option<&Asked<'_>>) -> Result<Principal, Denied> {
    let proof = sign(header, &body.to_string(), Algorithm::Rs256, Pair::OtherRsa);
    let credential = Unverified::parse(&proof)?;
    verifier(Possession::Accept(CLUSTER.to_owned())).verify_read(&credential, asked, NOW)
}

fn verdict(more: &Json) -> Result<Principal, Denied> {
    verdict_of(&header(), &with(body(), more), None)
}

#[test]
fn what_kubelogin_sends_is_accepted() {
    let principal = verdict(&json!({})).expect("accepted");
    assert_eq!(principal.user, "ana@contoso.example");
    assert_eq!(principal.expires, NOW + 3600);
}

#[test]
fn the_policy_says_which_credentials_come_in() {
    let proof = sign(&header(), &body().to_string(), Algorithm::Rs256, Pair::OtherRsa);
    let plain = token(&entra_claims());
    let target = || CLUSTER.to_owned();
    let (off, accept) = (verifier(Possession::Off), verifier(Possession::Accept(target())));
    let require = verifier(Possession::Require(target()));
    refused(off.verify(&proof, NOW), Reason::Proof);
    assert!(off.verify(&plain, NOW).is_ok());
    assert!(accept.verify(&proof, NOW).is_ok());
    assert!(accept.verify(&plain, NOW).is_ok());
    assert!(require.verify(&proof, NOW).is_ok());
    refused(require.verify(&plain, NOW), Reason::ProofRequired);
    for verifier in [off, accept, require] {
        refused(verifier.verify(&bound_token(), NOW), Reason::ProofRequired);
    }
}

#[test]
fn a_proof_ages_and_does_not_come_from_the_future() {
    for ts in [json!(NOW - 900), json!(NOW + 60), json!(NOW.to_string())] {
        assert!(verdict(&json!({ "ts": ts })).is_ok(), "{ts}");
    }
    for ts in [
        json!(NOW - 901),
        json!(NOW + 61),
        json!(u64::MAX),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(null),
        json!(""),
        json!("+1800000000"),
        json!(" 1800000000"),
        json!([NOW]),
    ] {
        refused(verdict(&json!({ "ts": ts })), Reason::Proof);
    }
}

#[test]
fn a_proof_is_for_this_cluster() {
    assert!(verdict(&json!({"u": CLUSTER.to_uppercase()})).is_ok());
    for u in [json!(""), json!(1), json!(null), json!(format!("{CLUSTER}/")), json!("/other")] {
        refused(verdict(&json!({ "u": u })), Reason::Proof);
    }
}

#[test]
fn a_proof_bound_to_a_request_is_held_against_it() {
    let asked = Asked { method: "GET", path: "/api/v1/pods" };
    let with_request = |more: &Json| verdict_of(&header(), &with(body(), more), Some(&asked));
    assert!(with_request(&json!({"m": "GET", "p": "api/v1/pods/"})).is_ok());
    for more in [json!({"m": "POST"}), json!({"m": "get"}), json!({"m": 1}), json!({"p": "/api"})] {
        refused(with_request(&more), Reason::Proof);
        refused(verdict(&more), Reason::Proof);
    }
    refused(verdict(&json!({"m": "GET"})), Reason::Proof);
    for name in ["q", "h", "b"] {
        refused(with_request(&json!({ name: [] })), Reason::Proof);
    }
}

#[test]
fn the_key_is_the_one_that_the_access_token_names() {
    let jwk = rsa_jwk(Pair::Rsa);
    let text = format!(r#"{{"e":{},"kty":"RSA","n":{}}}"#, jwk["e"], jwk["n"]);
    let other = encode_base64url(digest(&SHA256, text.as_bytes()).as_ref());
    // A complete proof by another key around the stolen token.
    let header = json!({"typ": "pop", "alg": "RS256", "kid": other});
    let body = with(body(), &json!({"cnf": {"jwk": jwk}}));
    let proof = sign(&header, &body.to_string(), Algorithm::Rs256, Pair::Rsa);
    let accept = verifier(Possession::Accept(CLUSTER.to_owned()));
    refused(accept.verify(&proof, NOW), Reason::Proof);
}

#[test]
fn a_proof_by_another_key_than_it_shows_is_refused() {
    let proof = sign(&header(), &body().to_string(), Algorithm::Rs256, Pair::Rsa);
    let accept = verifier(Possession::Accept(CLUSTER.to_owned()));
    refused(accept.verify(&proof, NOW), Reason::Proof);
}

#[test]
fn an_access_token_without_binding_proves_nothing() {
    refused(verdict(&json!({"at": token(&entra_claims())})), Reason::Proof);
    for cnf in [json!(null), json!({}), json!({"kid": 1}), json!({"jwk": {}}), json!("x")] {
        let at = token(&with(entra_claims(), &json!({ "cnf": cnf })));
        refused(verdict(&json!({ "at": at })), Reason::Proof);
    }
}

#[test]
fn the_access_token_inside_is_verified_like_any_other() {
    let expired = json!({"exp": NOW - 100, "cnf": {"kid": thumbprint()}});
    refused(verdict(&json!({"at": token(&with(entra_claims(), &expired))})), Reason::Expired);
    let bound = bound_token();
    let forged = format!("{}A", &bound[..bound.len() - 1]);
    assert!(verdict(&json!({ "at": forged })).is_err());
    for at in [json!(1), json!(null)] {
        refused(verdict(&json!({ "at": at })), Reason::Proof);
    }
    refused(verdict(&json!({"at": ""})), Reason::Malformed);
    let proof = sign(&header(), &body().to_string(), Algorithm::Rs256, Pair::OtherRsa);
    refused(verdict(&json!({ "at": proof })), Reason::TokenType);
}

#[test]
fn the_header_names_the_key_and_brings_none() {
    let with_header = |more: &Json| verdict_of(&with(header(), more), &body(), None);
    assert!(with_header(&json!({"typ": "PoP"})).is_ok());
    for more in [
        json!({"kid": "x"}),
        json!({"jwk": {}}),
        json!({"jku": "https://x"}),
        json!({"alg": "RS384"}),
        json!({"alg": "HS256"}),
    ] {
        refused(with_header(&more), Reason::Proof);
    }
    let nameless = json!({"typ": "pop", "alg": "RS256"});
    refused(verdict_of(&nameless, &body(), None), Reason::Proof);
}

#[test]
fn the_key_of_a_proof_is_an_ordinary_rsa_key_and_nothing_else() {
    let with_key = |more: &Json| {
        let jwk = with(rsa_jwk(Pair::OtherRsa), more);
        verdict(&json!({"cnf": {"jwk": jwk}}))
    };
    assert!(with_key(&json!({})).is_ok());
    for more in [
        json!({"kty": "EC"}),
        json!({"kty": "oct", "k": "AAAA"}),
        json!({"e": "Aw"}),
        json!({"e": "AQ"}),
        json!({"e": "AAEAAQ"}),
        json!({"e": "AQAB".repeat(1000)}),
        json!({"e": "AQAB\",\"kty\":\"RSA"}),
        json!({"n": "AQAB"}),
        json!({"n": encode_base64url(&[0xFF; 513])}),
        json!({"n": 1}),
        json!({"d": "AQAB"}),
        json!({"k": "AQAB"}),
        json!({"jku": "https://x"}),
        json!({"x5u": "https://x"}),
        json!({"x5c": ["x"]}),
        json!({"x5t#S256": "x"}),
        json!({"alg": "RS512"}),
        json!({"kid": "other"}),
    ] {
        refused(with_key(&more), Reason::Proof);
    }
    for cnf in [json!(null), json!({}), json!({"jwk": 1}), json!({"kid": "x"}), json!([])] {
        refused(verdict(&json!({ "cnf": cnf })), Reason::Proof);
    }
    let two = json!({"cnf": {"jwk": rsa_jwk(Pair::OtherRsa), "jku": "https://x"}});
    refused(verdict(&two), Reason::Proof);
}

//! Proofs of possession: the token inside, the key that it is bound to, the request that it is for.

use cluster_connect::wire::jws::encode_base64url;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::door::{POP_TARGET, claims};
use crate::support::mint::{Keys, Signer, now, with, without};
use crate::tokens::Bad;

/// Proofs of possession, each with one thing wrong.
pub(crate) fn proofs(keys: &Keys) -> Vec<Bad> {
    let good = Proof::new(keys);
    let mut bad = Vec::new();
    let mut add = |what: &str, token: String| bad.push((format!("J41 {what}"), 401, token));
    for more in [
        json!({"ts": now() - 1000}),
        json!({"ts": now() + 1000}),
        json!({"u": 7}),
        json!({"u": "another"}),
        json!({"at": 7}),
        json!({"cnf": null}),
        json!({"cnf": {}}),
        json!({"m": "POST"}),
        json!({"p": "/other"}),
        json!({"q": "x"}),
        json!({"b": "x"}),
    ] {
        add(&more.to_string(), good.token(Signer::OtherRs256, with(good.claims.clone(), more)));
    }
    for name in ["ts", "u", "at", "cnf"] {
        add(name, good.token(Signer::OtherRs256, without(good.claims.clone(), name)));
    }
    add("signed by the issuer", good.token(Signer::Rs256, good.claims.clone()));
    let unbound = keys.rs256(&claims("ana"));
    let claims = with(good.claims.clone(), json!({ "at": unbound }));
    add("inside is not bound", good.token(Signer::OtherRs256, claims));
    let inside = good.token(Signer::OtherRs256, good.claims.clone());
    let claims = with(good.claims.clone(), json!({ "at": inside }));
    add("a proof in a proof", good.token(Signer::OtherRs256, claims));
    add("inside alone", good.claims["at"].as_str().expect("a token").to_owned());
    bad
}

/// A proof that is good.
pub(crate) struct Proof<'a> {
    keys: &'a Keys,
    thumbprint: String,
    pub(crate) claims: Value,
}

impl<'a> Proof<'a> {
    pub(crate) fn new(keys: &'a Keys) -> Self {
        let (n, e) = keys.rsa_numbers(true);
        let canonical = format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#);
        let thumbprint = encode_base64url(digest(&SHA256, canonical.as_bytes()).as_ref());
        let bound = json!({"cnf": {"kid": thumbprint, "xms_ksl": "sw"}});
        let at = keys.rs256(&with(claims("bound"), bound));
        let jwk = with(keys.rsa_jwk(true), json!({"alg": "RS256", "kid": thumbprint}));
        let claims =
            json!({"at": at, "ts": now(), "u": POP_TARGET, "cnf": {"jwk": jwk}, "nonce": "00"});
        Self { keys, thumbprint, claims }
    }

    pub(crate) fn token(&self, signer: Signer, claims: Value) -> String {
        let header = json!({"typ": "pop", "alg": "RS256", "kid": self.thumbprint});
        self.keys.token(signer, header.to_string().as_bytes(), claims.to_string().as_bytes())
    }
}

#![allow(unreachable_pub, dead_code, reason = "each test uses its own part of this")]
//! Tokens of a local issuer, signed with ES256.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cluster_connect::auth::profile::{OidcIssuer, Prefix};
use cluster_connect::auth::{IssuerSettings, KeySource, Verifier, VerifierSettings};
use cluster_connect::role::keys::{Keys, Source};
use cluster_connect::wire::jws::Algorithm;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::json;

use crate::sim::EPOCH;

pub const ISSUER: &str = "https://issuer.test";

const KEY: &[u8] = include_bytes!("../corpora/jwt_keys/p256.pk8");

fn pair() -> EcdsaKeyPair {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, KEY, &SystemRandom::new())
        .expect("a key")
}

/// A token for `subject` at `audience`, from now on for `life` seconds.
pub fn token(subject: &str, audience: &str, unix_now: u64, life: u64) -> String {
    token_by("k", subject, audience, unix_now, life)
}

/// The same by a key of that name.
pub fn token_by(kid: &str, subject: &str, audience: &str, unix_now: u64, life: u64) -> String {
    let encode = |text: String| URL_SAFE_NO_PAD.encode(text);
    let header = encode(json!({"alg": "ES256", "typ": "JWT", "kid": kid}).to_string());
    let claims = json!({
        "iss": ISSUER, "sub": subject, "aud": audience, "iat": unix_now, "exp": unix_now + life,
    });
    let signed = format!("{header}.{}", encode(claims.to_string()));
    let signature = pair().sign(&SystemRandom::new(), signed.as_bytes()).expect("signed");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// What verifies tokens for `audience`, its keys installed.
pub fn keys(audience: &str) -> Keys {
    keys_beside(audience, None)
}

/// The same beside an issuer of service accounts.
pub fn keys_beside(audience: &str, service_account_issuer: Option<String>) -> Keys {
    keys_of(audience, service_account_issuer, |_| ())
}

/// The same for an issuer that is `changed`. If its keys are to be fetched, they are not there yet.
pub fn keys_of(
    audience: &str,
    service_account_issuer: Option<String>,
    changed: impl FnOnce(&mut OidcIssuer),
) -> Keys {
    let mut verifier = verifier(audience, service_account_issuer, changed);
    if *verifier.issuers()[0].source() == KeySource::Installed {
        verifier.install_keys(0, key_set("k").as_bytes(), EPOCH).expect("keys");
    }
    Keys::new(verifier, Default::default())
}

/// What verifies tokens for `audience` once it has read the keys from a file.
pub fn keys_in_file(audience: &str) -> Keys {
    let source = Source { file: Some("keys.json".into()), ..Source::default() };
    Keys::new(verifier(audience, None, |_| ()), [(0, source)].into())
}

fn verifier(
    audience: &str,
    service_account_issuer: Option<String>,
    changed: impl FnOnce(&mut OidcIssuer),
) -> Verifier {
    let mut issuer = OidcIssuer::new(ISSUER, vec![audience.to_owned()], Prefix::None);
    issuer.keys = KeySource::Installed;
    issuer.algorithms = vec![Algorithm::Es256];
    changed(&mut issuer);
    let issuers = vec![IssuerSettings::Oidc(issuer)];
    let settings =
        VerifierSettings { issuers, service_account_issuer, ..VerifierSettings::default() };
    Verifier::new(settings).expect("settings")
}

/// The issuer's keys, which is one of that name.
pub fn key_set(kid: &str) -> String {
    let pair = pair();
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let key = json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": encode(x), "y": encode(y)});
    json!({ "keys": [key] }).to_string()
}

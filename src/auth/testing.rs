//! Tokens for tests, signed with fixed keys.

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::{Value, json};

use super::profile::{EntraKeys, EntraTenant, OidcIssuer, Prefix};
use super::{Denied, IssuerSettings, KeySource, Principal, Reason, Verifier, VerifierSettings};
use crate::wire::jws::{Algorithm, encode_base64url};

pub(in crate::auth) const NOW: u64 = 1_800_000_000;
pub(in crate::auth) const TENANT: &str = "11111111-2222-3333-4444-555555555555";
pub(in crate::auth) const AUDIENCE: &str = "6256c85f-0aad-4d50-b960-e6e9b21efe35";
pub(in crate::auth) const OID: &str = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";
pub(in crate::auth) const GROUP: &str = "99999999-0000-0000-0000-000000000001";

const RSA: &[u8] = include_bytes!("../../tests/corpora/jwt_keys/rsa.pk8");
const OTHER_RSA: &[u8] = include_bytes!("../../tests/corpora/jwt_keys/other-rsa.pk8");
const P256: &[u8] = include_bytes!("../../tests/corpora/jwt_keys/p256.pk8");
const P384: &[u8] = include_bytes!("../../tests/corpora/jwt_keys/p384.pk8");

/// A key pair of the issuer, or of somebody else.
#[derive(Clone, Copy, Debug)]
pub(in crate::auth) enum Pair {
    Rsa,
    OtherRsa,
}

fn rsa_pair(pair: Pair) -> RsaKeyPair {
    RsaKeyPair::from_pkcs8(match pair {
        Pair::Rsa => RSA,
        Pair::OtherRsa => OTHER_RSA,
    })
    .expect("an RSA key")
}

/// `signed` with its signature. Elliptic-curve algorithms have a key each, whatever `pair` is.
pub(in crate::auth) fn sign(
    header: &Value,
    payload: &str,
    algorithm: Algorithm,
    pair: Pair,
) -> String {
    let header = encode_base64url(header.to_string().as_bytes());
    let signed = format!("{header}.{}", encode_base64url(payload.as_bytes()));
    let random = SystemRandom::new();
    let rsa = |padding| {
        let pair = rsa_pair(pair);
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(padding, &random, signed.as_bytes(), &mut signature).expect("signed");
        signature
    };
    let ecdsa = |curve, key| {
        let pair = EcdsaKeyPair::from_pkcs8(curve, key, &random).expect("a key");
        pair.sign(&random, signed.as_bytes()).expect("signed").as_ref().to_vec()
    };
    let signature = match algorithm {
        Algorithm::Rs256 => rsa(&RSA_PKCS1_SHA256),
        Algorithm::Rs384 => rsa(&RSA_PKCS1_SHA384),
        Algorithm::Rs512 => rsa(&RSA_PKCS1_SHA512),
        Algorithm::Ps256 => rsa(&RSA_PSS_SHA256),
        Algorithm::Ps384 => rsa(&RSA_PSS_SHA384),
        Algorithm::Ps512 => rsa(&RSA_PSS_SHA512),
        Algorithm::Es256 => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, P256),
        Algorithm::Es384 => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, P384),
    };
    format!("{signed}.{}", encode_base64url(&signature))
}

/// A token of `claims`, signed with the issuer's first key.
pub(in crate::auth) fn token(claims: &Value) -> String {
    let header = json!({"typ": "JWT", "alg": "RS256", "kid": "rsa"});
    sign(&header, &claims.to_string(), Algorithm::Rs256, Pair::Rsa)
}

/// The public half as a JWK without a name.
pub(in crate::auth) fn rsa_jwk(pair: Pair) -> Value {
    let public = RsaPublicKeyComponents::<Vec<u8>>::from(rsa_pair(pair).public());
    json!({"kty": "RSA", "n": encode_base64url(&public.n), "e": encode_base64url(&public.e)})
}

fn ec_jwk(curve: &str, key: &[u8]) -> Value {
    let algorithm = match curve {
        "P-256" => &ECDSA_P256_SHA256_FIXED_SIGNING,
        _ => &ECDSA_P384_SHA384_FIXED_SIGNING,
    };
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, key, &SystemRandom::new()).expect("a key");
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    json!({"kty": "EC", "crv": curve, "x": encode_base64url(x), "y": encode_base64url(y)})
}

/// `jwk` with more members.
pub(in crate::auth) fn with(mut jwk: Value, more: &Value) -> Value {
    let (Some(jwk_members), Some(more)) = (jwk.as_object_mut(), more.as_object()) else {
        panic!("objects")
    };
    jwk_members.extend(more.clone());
    jwk
}

/// The keys `rsa`, `p256` and `p384` as a key set.
pub(in crate::auth) fn key_set() -> Value {
    json!({"keys": [
        with(rsa_jwk(Pair::Rsa), &json!({"kid": "rsa", "use": "sig"})),
        with(ec_jwk("P-256", P256), &json!({"kid": "p256", "alg": "ES256"})),
        with(ec_jwk("P-384", P384), &json!({"kid": "p384", "key_ops": ["verify"]})),
    ]})
}

/// Claims of a v1 token of a user.
pub(in crate::auth) fn entra_claims() -> Value {
    json!({
        "aud": AUDIENCE, "iss": format!("https://sts.windows.net/{TENANT}/"), "ver": "1.0",
        "iat": NOW - 60, "nbf": NOW - 60, "exp": NOW + 3600, "tid": TENANT, "oid": OID,
        "upn": "ana@contoso.example", "appid": "04b07795-8ddb-461a-bbee-02f9e1bf7b46",
        "scp": "user_impersonation", "uti": "u1", "groups": [GROUP],
    })
}

/// Claims of a generic issuer's token.
pub(in crate::auth) fn oidc_claims() -> Value {
    json!({
        "aud": "cluster", "iss": "https://issuer.example", "sub": "ana", "jti": "j1",
        "iat": NOW - 60, "exp": NOW + 3600, "groups": ["dev", "ops"],
        "email": "ana@contoso.example", "email_verified": true,
    })
}

/// `claims` without one of them.
pub(in crate::auth) fn without(mut claims: Value, name: &str) -> Value {
    claims.as_object_mut().expect("an object").remove(name);
    claims
}

/// A verifier that has the keys of [`key_set`] for all its issuers.
pub(in crate::auth) fn ready(settings: VerifierSettings) -> Verifier {
    ready_with(settings, &key_set())
}

/// A verifier that has `keys` for all its issuers.
pub(in crate::auth) fn ready_with(settings: VerifierSettings, keys: &Value) -> Verifier {
    let mut verifier = Verifier::new(settings).expect("settings");
    for index in 0..verifier.issuers().len() {
        verifier.install_keys(index, keys.to_string().as_bytes(), NOW).expect("keys");
    }
    verifier
}

/// The tenant of the tests.
pub(in crate::auth) fn entra_settings(change: impl FnOnce(&mut EntraTenant)) -> VerifierSettings {
    let mut tenant = EntraTenant::new(TENANT, vec![AUDIENCE.to_owned()]);
    tenant.keys = EntraKeys::Installed;
    change(&mut tenant);
    VerifierSettings { issuers: vec![IssuerSettings::Entra(tenant)], ..Default::default() }
}

/// The generic issuer of the tests.
pub(in crate::auth) fn oidc_settings(change: impl FnOnce(&mut OidcIssuer)) -> VerifierSettings {
    let mut issuer =
        OidcIssuer::new("https://issuer.example", vec!["cluster".to_owned()], Prefix::None);
    issuer.keys = KeySource::Installed;
    issuer.groups_claim = Some("groups".to_owned());
    change(&mut issuer);
    VerifierSettings { issuers: vec![IssuerSettings::Oidc(issuer)], ..Default::default() }
}

/// What becomes of the tenant's good token with `more` claims.
pub(in crate::auth) fn entra(more: &Value) -> Result<Principal, Denied> {
    ready(entra_settings(|_| {})).verify(&token(&with(entra_claims(), more)), NOW)
}

/// What becomes of the generic issuer's good token with `more` claims.
pub(in crate::auth) fn oidc(more: &Value) -> Result<Principal, Denied> {
    ready(oidc_settings(|_| {})).verify(&token(&with(oidc_claims(), more)), NOW)
}

/// Asserts that the verdict is no, for that reason.
#[track_caller]
pub(in crate::auth) fn refused<T: std::fmt::Debug>(verdict: Result<T, Denied>, reason: Reason) {
    match verdict {
        Err(denied) => assert_eq!(denied.kind(), reason, "{denied}"),
        Ok(accepted) => panic!("accepted as {accepted:?}"),
    }
}

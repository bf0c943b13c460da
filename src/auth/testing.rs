//! Tokens for tests, signed with fixed keys.

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::{Value, json};

use crate::wire::jws::{Algorithm, encode_base64url};

pub(super) const NOW: u64 = 1_800_000_000;
pub(super) const TENANT: &str = "11111111-2222-3333-4444-555555555555";
pub(super) const AUDIENCE: &str = "6256c85f-0aad-4d50-b960-e6e9b21efe35";
pub(super) const OID: &str = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";
pub(super) const GROUP: &str = "99999999-0000-0000-0000-000000000001";

const RSA: &[u8] = include_bytes!("../../tests/corpora/jwt_keys/rsa.pk8");
const OTHER_RSA: &[u8] = include_bytes!("../../tests/corpora/jwt_keys/other-rsa.pk8");
const P256: &[u8] = include_bytes!("../../tests/corpora/jwt_keys/p256.pk8");
const P384: &[u8] = include_bytes!("../../tests/corpora/jwt_keys/p384.pk8");

/// A key pair of the issuer, or of somebody else.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pair {
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
pub(super) fn sign(header: &Value, payload: &str, algorithm: Algorithm, pair: Pair) -> String {
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
pub(super) fn token(claims: &Value) -> String {
    let header = json!({"typ": "JWT", "alg": "RS256", "kid": "rsa"});
    sign(&header, &claims.to_string(), Algorithm::Rs256, Pair::Rsa)
}

/// The public half as a JWK without a name.
pub(super) fn rsa_jwk(pair: Pair) -> Value {
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
pub(super) fn with(mut jwk: Value, more: &Value) -> Value {
    let (Some(jwk_members), Some(more)) = (jwk.as_object_mut(), more.as_object()) else {
        panic!("objects")
    };
    jwk_members.extend(more.clone());
    jwk
}

/// The keys `rsa`, `p256` and `p384` as a key set.
pub(super) fn key_set() -> Value {
    json!({"keys": [
        with(rsa_jwk(Pair::Rsa), &json!({"kid": "rsa", "use": "sig"})),
        with(ec_jwk("P-256", P256), &json!({"kid": "p256", "alg": "ES256"})),
        with(ec_jwk("P-384", P384), &json!({"kid": "p384", "key_ops": ["verify"]})),
    ]})
}

/// Claims of a v1 token of a user.
pub(super) fn entra_claims() -> Value {
    json!({
        "aud": AUDIENCE, "iss": format!("https://sts.windows.net/{TENANT}/"), "ver": "1.0",
        "iat": NOW - 60, "nbf": NOW - 60, "exp": NOW + 3600, "tid": TENANT, "oid": OID,
        "upn": "ana@contoso.example", "appid": "04b07795-8ddb-461a-bbee-02f9e1bf7b46",
        "scp": "user_impersonation", "uti": "u1", "groups": [GROUP],
    })
}

/// Claims of a generic issuer's token.
pub(super) fn oidc_claims() -> Value {
    json!({
        "aud": "cluster", "iss": "https://issuer.example", "sub": "ana", "jti": "j1",
        "iat": NOW - 60, "exp": NOW + 3600, "groups": ["dev", "ops"],
        "email": "ana@contoso.example", "email_verified": true,
    })
}

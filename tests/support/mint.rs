//! Tokens, signed with the keys of the corpus and with keys made anew.

use std::time::{SystemTime, UNIX_EPOCH};

use cluster_connect::wire::jws::encode_base64url;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
    RsaPublicKeyComponents,
};
use serde_json::{Value, json};

const RSA: &[u8] = include_bytes!("../corpora/jwt_keys/rsa.pk8");
const OTHER_RSA: &[u8] = include_bytes!("../corpora/jwt_keys/other-rsa.pk8");
const P384: &[u8] = include_bytes!("../corpora/jwt_keys/p384.pk8");

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// The keys of a test: RSA from the corpus, since ring makes none, P-256 made for the run.
pub struct Keys {
    rsa: RsaKeyPair,
    other: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    random: SystemRandom,
}

/// What to sign with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signer {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    /// With a key that is not in the set.
    OtherRs256,
    Es256,
    Es384,
}

impl Keys {
    pub fn new() -> Self {
        let random = SystemRandom::new();
        let curve = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let p256 = EcdsaKeyPair::generate_pkcs8(curve, &random).expect("a key");
        Self {
            rsa: RsaKeyPair::from_pkcs8(RSA).expect("a key"),
            other: RsaKeyPair::from_pkcs8(OTHER_RSA).expect("a key"),
            p256: EcdsaKeyPair::from_pkcs8(curve, p256.as_ref(), &random).expect("a key"),
            p384: EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, P384, &random)
                .expect("a key"),
            random,
        }
    }

    pub fn sign_bytes(&self, signer: Signer, message: &[u8]) -> Vec<u8> {
        let rsa = |key: &RsaKeyPair, padding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; key.public().modulus_len()];
            key.sign(padding, &self.random, message, &mut signature).expect("signed");
            signature
        };
        let ec = |key: &EcdsaKeyPair| key.sign(&self.random, message).expect("signed");
        match signer {
            Signer::Rs256 => rsa(&self.rsa, &RSA_PKCS1_SHA256),
            Signer::Rs384 => rsa(&self.rsa, &RSA_PKCS1_SHA384),
            Signer::Rs512 => rsa(&self.rsa, &RSA_PKCS1_SHA512),
            Signer::Ps256 => rsa(&self.rsa, &RSA_PSS_SHA256),
            Signer::OtherRs256 => rsa(&self.other, &RSA_PKCS1_SHA256),
            Signer::Es256 => ec(&self.p256).as_ref().to_vec(),
            Signer::Es384 => ec(&self.p384).as_ref().to_vec(),
        }
    }

    /// A token of this header and payload, whatever they are.
    pub fn token(&self, signer: Signer, header: &[u8], payload: &[u8]) -> String {
        let signed = format!("{}.{}", encode_base64url(header), encode_base64url(payload));
        let signature = self.sign_bytes(signer, signed.as_bytes());
        format!("{signed}.{}", encode_base64url(&signature))
    }

    /// A token of these claims under the set's RSA key.
    pub fn rs256(&self, claims: &Value) -> String {
        let header = json!({"typ": "JWT", "alg": "RS256", "kid": "rsa"});
        self.token(Signer::Rs256, header.to_string().as_bytes(), claims.to_string().as_bytes())
    }

    pub fn rsa_numbers(&self, other: bool) -> (String, String) {
        let key = if other { &self.other } else { &self.rsa };
        let public = RsaPublicKeyComponents::<Vec<u8>>::from(key.public());
        (encode_base64url(&public.n), encode_base64url(&public.e))
    }

    pub fn rsa_jwk(&self, other: bool) -> Value {
        let (n, e) = self.rsa_numbers(other);
        json!({"kty": "RSA", "n": n, "e": e})
    }

    pub fn p256_jwk(&self) -> Value {
        let point = &self.p256.public_key().as_ref()[1..];
        let (x, y) = point.split_at(32);
        json!({"kty": "EC", "crv": "P-256",
               "x": encode_base64url(x), "y": encode_base64url(y)})
    }

    pub fn p384_jwk(&self) -> Value {
        let point = &self.p384.public_key().as_ref()[1..];
        let (x, y) = point.split_at(48);
        json!({"kty": "EC", "crv": "P-384",
               "x": encode_base64url(x), "y": encode_base64url(y)})
    }
}

/// `object` with the members of `more`.
pub fn with(mut object: Value, more: Value) -> Value {
    let (Some(members), Value::Object(more)) = (object.as_object_mut(), more) else {
        panic!("objects")
    };
    members.extend(more);
    object
}

/// `object` without a member.
pub fn without(mut object: Value, name: &str) -> Value {
    object.as_object_mut().expect("an object").remove(name);
    object
}

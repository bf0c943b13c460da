//! Bearer tokens: a few fixed ones, and service-account tokens that have a real one's shape
//! (a JWT signed with ES256) but are looked up, not verified, so that one can be revoked.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::identity::User;
use super::tls::lock;

/// The issuer and the default audience of service-account tokens.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Every token the server knows.
pub(crate) struct Tokens {
    key: EcdsaKeyPair,
    known: Mutex<BTreeMap<String, Known>>,
}

#[derive(Clone)]
struct Known {
    user: User,
    audiences: Vec<String>,
    expires: u64,
}

/// What a new service-account token is to say.
pub(crate) struct Mint<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) uid: &'a str,
    pub(crate) audiences: Vec<String>,
    pub(crate) now: u64,
    pub(crate) seconds: u64,
}

impl Tokens {
    pub(crate) fn new() -> io::Result<Self> {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random)
            .ok()
            .and_then(|document| {
                EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).ok()
            })
            .ok_or_else(|| io::Error::other("no key for service-account tokens"))?;
        Ok(Self { key, known: Mutex::new(BTreeMap::new()) })
    }

    pub(crate) fn add_static(&self, token: &str, user: User) {
        let known = Known { user, audiences: vec![ISSUER.into()], expires: u64::MAX };
        lock(&self.known).insert(token.into(), known);
    }

    pub(crate) fn mint(&self, mint: Mint<'_>) -> io::Result<String> {
        let jti = random_uuid();
        let audiences = match mint.audiences.as_slice() {
            [] => vec![ISSUER.to_owned()],
            _ => mint.audiences,
        };
        let expires = mint.now.saturating_add(mint.seconds);
        let header = json!({ "alg": "ES256", "kid": "demo" });
        let claims = json!({
            "aud": audiences,
            "exp": expires,
            "iat": mint.now,
            "nbf": mint.now,
            "iss": ISSUER,
            "jti": jti,
            "kubernetes.io": {
                "namespace": mint.namespace,
                "serviceaccount": { "name": mint.name, "uid": mint.uid },
            },
            "sub": format!("system:serviceaccount:{}:{}", mint.namespace, mint.name),
        });
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .map_err(|_| io::Error::other("no randomness for a signature"))?;
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()));

        let mut user = User::service_account(mint.namespace, mint.name);
        user.uid = mint.uid.into();
        user.extra =
            vec![("authentication.kubernetes.io/credential-id".into(), vec![format!("JTI={jti}")])];
        lock(&self.known).insert(token.clone(), Known { user, audiences, expires });
        Ok(token)
    }

    /// The user of a token meant for this server.
    pub(crate) fn user_of(&self, token: &str, now: u64) -> Option<User> {
        self.review(token, &[ISSUER.to_owned()], now).map(|(user, _)| user)
    }

    /// TokenReview: the user, and which of the wanted audiences the token has.
    pub(crate) fn review(
        &self,
        token: &str,
        wanted: &[String],
        now: u64,
    ) -> Option<(User, Vec<String>)> {
        let known = lock(&self.known).get(token).cloned()?;
        let audiences: Vec<String> =
            known.audiences.into_iter().filter(|audience| wanted.contains(audience)).collect();
        (now < known.expires && !audiences.is_empty()).then_some((known.user, audiences))
    }

    pub(crate) fn revoke(&self, token: &str) {
        lock(&self.known).remove(token);
    }

    /// Ends every service-account token; fixed ones stay.
    pub(crate) fn revoke_service_accounts(&self) {
        lock(&self.known).retain(|_, known| known.expires == u64::MAX);
    }

    /// The key set that verifies service-account tokens.
    pub(crate) fn jwks(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let half = |at: usize| URL_SAFE_NO_PAD.encode(point.get(at..at + 32).unwrap_or_default());
        json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "demo",
            "x": half(1), "y": half(33),
        }] })
    }
}

/// A version 4 UUID.
pub(crate) fn random_uuid() -> String {
    let mut bytes = [0_u8; 16];
    SystemRandom::new().fill(&mut bytes).expect("the system has randomness");
    let number = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | (4 << 76) | (2 << 62);
    let hex = format!("{number:032x}");
    let (a, rest) = hex.split_at(8);
    let (b, rest) = rest.split_at(4);
    let (c, rest) = rest.split_at(4);
    let (d, e) = rest.split_at(4);
    format!("{a}-{b}-{c}-{d}-{e}")
}

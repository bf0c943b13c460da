//! Proof of possession: an access token inside a signed HTTP request
//! (draft-ietf-oauth-signed-http-request-03, as kubelogin makes it).
//!
//! The access token is verified first, and only then does its `cnf` say which key the outer token
//! must be signed with. A token with `cnf` is never good alone, whatever the configuration: that
//! is what binding it means.

use ring::digest;

use super::denied::{Denied, Reason};
use super::jwks::{Key, Material};
use super::same_secret;
use super::token::{Token, Unverified, proof_claim};
use crate::limits::{PROOF_AGE, PROOF_AHEAD, PROOF_RSA_BITS};
use crate::wire::json::{Object, Value};
use crate::wire::jws::{Algorithm, encode_base64url};

/// What is done with proofs of possession.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Possession {
    /// They are refused.
    #[default]
    Off,
    /// They are taken if they are for this name, the cluster's resource id; plain tokens are, too.
    Accept(String),
    /// Nothing else is taken.
    Require(String),
}

impl Possession {
    /// The name that proofs must be for.
    #[must_use]
    pub const fn target(&self) -> Option<&str> {
        match self {
            Self::Off => None,
            Self::Accept(target) | Self::Require(target) => Some(target.as_str()),
        }
    }
}

/// The request that came with a proof.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its path, without the query.
    pub path: &'a str,
}

/// A proof that has the right shape and is not verified.
pub(super) struct Proof<'a> {
    outer: &'a Token,
    target: &'a str,
    key: Key,
    thumbprint: String,
}

/// Whether the policy lets this credential in at all. Costs no cryptography but a hash.
pub(super) fn admit<'a>(
    policy: &'a Possession,
    credential: &'a Unverified,
) -> Result<Option<Proof<'a>>, Denied> {
    let bound = credential.token.claims.has("cnf");
    match (&credential.proof, policy) {
        (None, Possession::Require(_)) => {
            Err(Denied::new(Reason::ProofRequired, "a plain bearer token"))
        }
        (None, Possession::Off | Possession::Accept(_)) if bound => {
            Err(Denied::new(Reason::ProofRequired, "a bound token as a bearer token"))
        }
        (None, Possession::Off | Possession::Accept(_)) => Ok(None),
        (Some(_), Possession::Off) => {
            Err(Denied::new(Reason::Proof, "proofs of possession are off"))
        }
        (Some(outer), Possession::Accept(target) | Possession::Require(target)) => {
            read(outer, target).map(Some)
        }
    }
}

fn read<'a>(outer: &'a Token, target: &'a str) -> Result<Proof<'a>, Denied> {
    let confirmation = outer.claims.optional_object("cnf").map_err(proof_claim)?;
    let confirmation = confirmation.ok_or_else(|| refused("\"cnf\" is missing"))?;
    if confirmation.iter().count() != 1 {
        return Err(refused("\"cnf\" must have \"jwk\" and nothing else"));
    }
    let jwk = confirmation.optional_object("jwk").map_err(proof_claim)?;
    let jwk = jwk.ok_or_else(|| refused("\"cnf\" has no \"jwk\""))?;
    let (material, thumbprint) = read_key(jwk)?;
    let header = &outer.jws.header;
    if header.algorithm != Algorithm::Rs256.as_str() || header.brings_key {
        return Err(refused("the header must name RS256 and bring no key"));
    }
    let id = header.key_id.as_deref().unwrap_or("");
    if !same_secret(id.as_bytes(), thumbprint.as_bytes()) {
        return Err(refused("\"kid\" is not the key's thumbprint"));
    }
    Ok(Proof { outer, target, key: Key::new(material), thumbprint })
}

/// The key, and its thumbprint (RFC 7638). Both numbers are canonical base64url by then, so the
/// text that is hashed has one reading.
fn read_key(jwk: &Object) -> Result<(Material, String), Denied> {
    let foreign =
        ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "jku", "x5u", "x5c", "x5t", "x5t#S256"];
    if let Some(name) = foreign.iter().find(|name| jwk.has(name)) {
        return Err(Denied::new(Reason::Proof, format!("the key has {name:?}")));
    }
    let text = |name: &str| jwk.text(name).map_err(proof_claim);
    let (n, e) = (text("n")?, text("e")?);
    if text("kty")? != "RSA" || e != "AQAB" {
        return Err(refused("the key is not RSA with exponent 65537"));
    }
    if !matches!(jwk.optional_text("alg").map_err(proof_claim)?, None | Some("RS256")) {
        return Err(refused("the key is not for RS256"));
    }
    let material = Material::rsa(n, e, &PROOF_RSA_BITS)
        .map_err(|why| Denied::new(Reason::Proof, format!("the key cannot be used: {why}")))?;
    let canonical = format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#);
    let hash = digest::digest(&digest::SHA256, canonical.as_bytes());
    let thumbprint = encode_base64url(hash.as_ref());
    match jwk.optional_text("kid").map_err(proof_claim)? {
        Some(id) if id != thumbprint => Err(refused("the key's name is not its thumbprint")),
        Some(_) | None => Ok((material, thumbprint)),
    }
}

impl Proof<'_> {
    /// Checks the proof against `claims`, those of the access token inside, which must have been
    /// verified by now.
    pub(super) fn check(
        &self,
        claims: &Object,
        asked: Option<&Asked<'_>>,
        now: u64,
    ) -> Result<(), Denied> {
        let bound = claims.optional_object("cnf").map_err(proof_claim)?;
        let bound = bound.ok_or_else(|| refused("the access token is not bound to a key"))?;
        let wanted = bound.text("kid").map_err(proof_claim)?;
        if !same_secret(wanted.as_bytes(), self.thumbprint.as_bytes()) {
            return Err(refused("the access token is bound to another key"));
        }
        let jws = &self.outer.jws;
        if !self.key.verifies(Algorithm::Rs256, jws.signed.as_bytes(), &jws.signature) {
            return Err(refused("the proof's signature does not verify"));
        }
        self.check_time(now)?;
        self.check_target(asked)
    }

    fn check_time(&self, now: u64) -> Result<(), Denied> {
        let time = match self.outer.claims.get("ts") {
            Some(Value::Unsigned(time)) => Some(*time),
            // Some clients write the number as text.
            Some(Value::Text(digits)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok()
            }
            Some(_) | None => None,
        };
        let time = time.ok_or_else(|| refused("\"ts\" is no time"))?;
        if time < now.saturating_sub(PROOF_AGE) || now.saturating_add(PROOF_AHEAD) < time {
            return Err(Denied::new(Reason::Proof, format!("\"ts\" is {time}, now {now}")));
        }
        Ok(())
    }

    fn check_target(&self, asked: Option<&Asked<'_>>) -> Result<(), Denied> {
        let claims = &self.outer.claims;
        let target = claims.text("u").map_err(proof_claim)?;
        if !target.eq_ignore_ascii_case(self.target) {
            return Err(Denied::new(Reason::Proof, format!("\"u\" is {target:?}")));
        }
        if let Some(name) = ["q", "h", "b"].iter().find(|name| claims.has(name)) {
            let detail = format!("{name:?} binds the proof to what is not checked");
            return Err(Denied::new(Reason::Proof, detail));
        }
        let method = claims.optional_text("m").map_err(proof_claim)?;
        if method.is_some_and(|method| asked.is_none_or(|asked| asked.method != method)) {
            return Err(refused("\"m\" is another method"));
        }
        let path = claims.optional_text("p").map_err(proof_claim)?;
        let same =
            |path: &str, asked: &Asked<'_>| asked.path.trim_matches('/') == path.trim_matches('/');
        if path.is_some_and(|path| !asked.is_some_and(|asked| same(path, asked))) {
            return Err(refused("\"p\" is another path"));
        }
        Ok(())
    }
}

fn refused(detail: &'static str) -> Denied {
    Denied::new(Reason::Proof, detail)
}

#[cfg(test)]
#[path = "pop_tests.rs"]
mod tests;

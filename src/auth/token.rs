//! A bearer token: taken apart, and checked against what every issuer must keep to. What is
//! particular to an issuer is in [`super::profile`].

use super::denied::{Denied, Reason};
use crate::limits::TOKEN_DEPTH;
use crate::wire::json::{self, Mismatch, Object, Value};
use crate::wire::jws::{self, Algorithm, Compact, Kind};

/// A token whose parts are readable. Nothing in it has been verified.
#[derive(Clone, Debug)]
pub struct Token {
    pub(super) jws: Compact,
    pub(super) claims: Object,
}

impl Token {
    /// Takes a compact JWS with an object as its payload apart.
    ///
    /// # Errors
    /// [`Reason::Malformed`] if it cannot be read, in one way only, as such a token.
    pub(super) fn parse(text: &str) -> Result<Self, Denied> {
        let jws = Compact::parse(text).map_err(malformed)?;
        let claims = json::parse_object(&jws.payload, TOKEN_DEPTH)
            .map_err(|why| Denied::new(Reason::Malformed, format!("payload is {why}")))?;
        if let Some((one, other)) = claims.case_twins() {
            let detail = format!("claims {one:?} and {other:?} differ in case only");
            return Err(Denied::new(Reason::Malformed, detail));
        }
        Ok(Self { jws, claims })
    }
}

/// A bearer credential that has been read and not verified: an access token, or a proof of
/// possession with the access token inside.
#[derive(Clone, Debug)]
pub struct Unverified {
    pub(super) token: Token,
    pub(super) proof: Option<Token>,
    issuer: String,
}

impl Unverified {
    /// Reads the credential. Costs no cryptography.
    ///
    /// # Errors
    /// [`Reason::Malformed`], or [`Reason::TokenType`] for tokens that are no access tokens.
    pub fn parse(bearer: &str) -> Result<Self, Denied> {
        let outer = Token::parse(bearer)?;
        let (token, proof) = match outer.jws.header.kind {
            Kind::Access => (outer, None),
            Kind::Proof => {
                let inner = Token::parse(outer.claims.text("at").map_err(proof_claim)?)?;
                if inner.jws.header.kind != Kind::Access {
                    return Err(Denied::new(Reason::TokenType, "\"at\" is no access token"));
                }
                (inner, Some(outer))
            }
            Kind::Other => {
                return Err(Denied::new(Reason::TokenType, "\"typ\" names another kind of token"));
            }
        };
        let issuer = token.claims.text("iss").map_err(claim)?.to_owned();
        Ok(Self { token, proof, issuer })
    }

    /// The issuer that the token names. It picks the authenticator and proves nothing.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// When the token ends, in unix seconds, by its own word; legacy tokens of service accounts
    /// never do.
    #[must_use]
    pub fn expires(&self) -> Option<u64> {
        self.token.claims.unsigned("exp").ok()
    }
}

/// What tokens of one issuer must keep to.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) audiences: Vec<String>,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) leeway: u64,
    pub(super) lifetime: u64,
}

impl Terms {
    /// The algorithm of `jws`, if it is one of those configured.
    pub(super) fn algorithm(&self, jws: &Compact) -> Result<Algorithm, Denied> {
        let name = &jws.header.algorithm;
        let known = Algorithm::parse(name).filter(|known| self.algorithms.contains(known));
        known.ok_or_else(|| Denied::new(Reason::Algorithm, format!("{name:?} is not allowed")))
    }

    /// Checks `exp`, `nbf` and `iat`, and gives `exp`.
    pub(super) fn check_times(&self, claims: &Object, now: u64) -> Result<u64, Denied> {
        let expires = claims.unsigned("exp").map_err(claim)?;
        let not_before = claims.optional_unsigned("nbf").map_err(claim)?;
        let issued = claims.optional_unsigned("iat").map_err(claim)?;
        if expires.saturating_add(self.leeway) <= now {
            return Err(Denied::new(Reason::Expired, format!("at {expires}, now {now}")));
        }
        for (name, time) in [("nbf", not_before), ("iat", issued)] {
            if let Some(time) = time.filter(|&time| now.saturating_add(self.leeway) < time) {
                let detail = format!("{name:?} is {time}, now {now}");
                return Err(Denied::new(Reason::NotYetValid, detail));
            }
        }
        let begins = issued.or(not_before).unwrap_or(now);
        if self.lifetime.saturating_add(self.leeway) < expires.saturating_sub(begins) {
            let detail = format!("from {begins} to {expires}");
            return Err(Denied::new(Reason::Lifetime, detail));
        }
        Ok(expires)
    }

    /// Checks that one audience is ours: text, or an array of texts and of nothing else.
    pub(super) fn check_audience(&self, claims: &Object) -> Result<(), Denied> {
        let ours = |audience: &str| self.audiences.iter().any(|own| own == audience);
        let found = match claims.get("aud") {
            Some(Value::Text(audience)) => ours(audience),
            Some(Value::Array(audiences)) => {
                let texts = texts("aud", audiences)?;
                texts.into_iter().any(ours)
            }
            Some(other) => return Err(claim_kind("aud", other)),
            None => return Err(Denied::new(Reason::Claim, "\"aud\" is missing")),
        };
        if found { Ok(()) } else { Err(Denied::new(Reason::Audience, "no audience is ours")) }
    }
}

/// The members of a claim that is an array of texts.
pub(super) fn texts<'a>(name: &str, items: &'a [Value]) -> Result<Vec<&'a str>, Denied> {
    items.iter().map(|item| item.as_text().ok_or_else(|| claim_kind(name, item))).collect()
}

/// The refusal of a claim of the wrong type.
pub(super) fn claim(why: Mismatch) -> Denied {
    Denied::new(Reason::Claim, format!("claim {why}"))
}

/// The refusal of a claim that holds what it may not.
pub(super) fn claim_kind(name: &str, found: &Value) -> Denied {
    Denied::new(Reason::Claim, format!("claim {name:?} holds {}", found.kind()))
}

/// The refusal of a proof's claim of the wrong type.
pub(super) fn proof_claim(why: Mismatch) -> Denied {
    Denied::new(Reason::Proof, format!("claim {why}"))
}

fn malformed(why: jws::Malformed) -> Denied {
    Denied::new(Reason::Malformed, why.to_string())
}

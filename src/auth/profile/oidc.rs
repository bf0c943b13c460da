//! Any OpenID Connect issuer: which claims are demanded, and which become user and groups. Field
//! names mirror those of Kubernetes' own structured authentication configuration.

use super::super::jwks::Key;
use super::super::token::{Terms, claim, claim_kind, texts};
use super::super::{KeySource, names};
use super::{
    Alphabet, Denied, GroupState, NameFault, Prefix, Principal, Reason, Token, credential_id,
    display, group_names, user_name,
};
use crate::limits::{CLOCK_LEEWAY, TOKEN_LIFETIME};
use crate::wire::json::Value;
use crate::wire::jws::Algorithm;

/// An issuer whose tokens are taken, and what becomes of their claims.
#[derive(Clone, Debug)]
pub struct OidcIssuer {
    /// `iss`, byte for byte.
    pub issuer: String,
    /// Where its keys come from.
    pub keys: KeySource,
    /// Audiences, any of which will do.
    pub audiences: Vec<String>,
    /// Claims that a token must have.
    pub required: Vec<(String, Requirement)>,
    /// The claim that becomes the user name. With `email`, `email_verified` must be true.
    pub user_claim: String,
    /// What user names begin with.
    pub user_prefix: Prefix,
    /// The claim that becomes the groups, a text or an array of texts.
    pub groups_claim: Option<String>,
    /// What group names begin with.
    pub group_prefix: Prefix,
    /// Which characters names may have.
    pub alphabet: Alphabet,
    /// Algorithms that its tokens may be signed with.
    pub algorithms: Vec<Algorithm>,
    /// Seconds by which clocks may differ.
    pub leeway: u64,
    /// Seconds that a token may live.
    pub lifetime: u64,
}

/// What a required claim must be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Requirement {
    /// Exactly this text.
    Equals(String),
    /// One of these texts.
    In(Vec<String>),
    /// There, whatever it is, but not `null`.
    Exists,
}

impl OidcIssuer {
    /// An issuer whose subjects become the users, with its keys at the usual place.
    #[must_use]
    pub fn new(issuer: &str, audiences: Vec<String>, user_prefix: Prefix) -> Self {
        Self {
            issuer: issuer.to_owned(),
            keys: KeySource::discover(issuer),
            audiences,
            required: Vec::new(),
            user_claim: "sub".to_owned(),
            user_prefix,
            groups_claim: None,
            group_prefix: Prefix::None,
            alphabet: Alphabet::Ascii,
            algorithms: vec![Algorithm::Rs256],
            leeway: CLOCK_LEEWAY,
            lifetime: TOKEN_LIFETIME,
        }
    }

    pub(in super::super) fn terms(&self) -> Terms {
        Terms {
            audiences: self.audiences.clone(),
            algorithms: self.algorithms.clone(),
            leeway: self.leeway,
            lifetime: self.lifetime,
        }
    }

    /// Whether the user name is the subject: such a name can be granted rights before its owner
    /// has ever been seen.
    pub(in super::super) fn user_is_subject(&self) -> bool {
        self.user_claim == "sub"
    }

    /// The subject that stands for `name`, where a name tells it without a look-up.
    pub(in super::super) fn subject_of(&self, name: &str) -> Option<String> {
        let subject = name.strip_prefix(self.user_prefix.as_str())?;
        (self.user_is_subject() && !subject.is_empty()).then(|| subject.to_owned())
    }

    /// Checks the claims of a token that `key` has signed, and says who the caller is.
    pub(in super::super) fn principal(
        &self,
        token: &Token,
        key: &Key,
        expires: u64,
    ) -> Result<Principal, Denied> {
        if key.issuer.as_ref().is_some_and(|issuer| *issuer != self.issuer) {
            return Err(Denied::new(Reason::KeyMismatch, "the key is for another issuer"));
        }
        for (name, requirement) in &self.required {
            requirement.check(name, token.claims.get(name))?;
        }
        let claims = &token.claims;
        let subject = claims.text("sub").map_err(claim)?;
        if !matches!(names::check(subject, Alphabet::Ascii), Ok(()) | Err(NameFault::Reserved)) {
            return Err(Denied::new(Reason::Claim, "claim \"sub\" is no printable name"));
        }
        let raw = claims.text(&self.user_claim).map_err(claim)?;
        if self.user_claim == "email" {
            self.check_email(token, raw)?;
        }
        let user = user_name(raw, &self.user_prefix, self.alphabet)?;
        Ok(Principal {
            display: display(claims.get("email").and_then(Value::as_text), &user),
            user,
            groups: self.groups(token)?,
            group_state: GroupState::Complete,
            extra: Vec::new(),
            issuer: self.issuer.clone(),
            subject: subject.to_owned(),
            credential_id: credential_id(token, ["jti", "uti"])?,
            expires,
            is_app: false,
        })
    }

    /// An address that nobody has verified is whatever its owner typed.
    fn check_email(&self, token: &Token, email: &str) -> Result<(), Denied> {
        if token.claims.optional_bool("email_verified").map_err(claim)? != Some(true) {
            return Err(Denied::new(Reason::Claim, "\"email_verified\" is not true"));
        }
        match email.bytes().filter(|&byte| byte == b'@').count() {
            1 => Ok(()),
            _ => Err(Denied::new(Reason::Name, "the address does not have exactly one @")),
        }
    }

    fn groups(&self, token: &Token) -> Result<Vec<String>, Denied> {
        let Some(name) = &self.groups_claim else { return Ok(Vec::new()) };
        // The groups are elsewhere (OpenID Connect Core, 5.6.2), where nobody is asked for them.
        let elsewhere = token.claims.optional_object("_claim_names").map_err(claim)?;
        if elsewhere.is_some_and(|names| names.has(name)) {
            return Err(Denied::new(Reason::Overage, "the token leaves its groups out"));
        }
        let raw = match token.claims.get(name) {
            None => return Ok(Vec::new()),
            Some(Value::Text(group)) => vec![group.as_str()],
            Some(Value::Array(items)) => texts(name, items)?,
            Some(other) => return Err(claim_kind(name, other)),
        };
        group_names(raw, &self.group_prefix, self.alphabet)
    }
}

impl Requirement {
    fn check(&self, name: &str, found: Option<&Value>) -> Result<(), Denied> {
        let text = found.and_then(Value::as_text);
        let met = match self {
            Self::Equals(wanted) => text == Some(wanted),
            Self::In(wanted) => text.is_some_and(|text| wanted.iter().any(|one| one == text)),
            Self::Exists => found.is_some_and(|value| *value != Value::Null),
        };
        if met {
            return Ok(());
        }
        Err(Denied::new(Reason::Claim, format!("claim {name:?} is not what is required")))
    }
}

#[cfg(test)]
#[path = "oidc_tests.rs"]
mod tests;

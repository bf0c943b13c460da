//! Who may listen and send by shared key: rules, the tokens they sign, and their verification.
//!
//! The order of checks and the texts of refusals are those of Azure Relay, which SDKs print. The
//! existence of an entity is not looked at here: a caller that cannot sign learns nothing of it.

use std::fmt;

use ring::hmac;

use crate::secret::Secret;
use crate::wire::percent;
use crate::wire::sas::{self, Malformed, SasToken};

/// What a key allows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Right {
    /// Holding a control channel, and renewing its token.
    Listen,
    /// Connecting, and sending HTTP requests.
    Send,
    /// Reading run-time information.
    Manage,
}

impl Right {
    /// The right as Azure writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Listen => "Listen",
            Self::Send => "Send",
            Self::Manage => "Manage",
        }
    }
}

/// A set of rights. None implies another.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rights {
    /// [`Right::Listen`]
    pub listen: bool,
    /// [`Right::Send`]
    pub send: bool,
    /// [`Right::Manage`]
    pub manage: bool,
}

impl Rights {
    /// Everything, as the root rule of a namespace has it.
    pub const ALL: Self = Self { listen: true, send: true, manage: true };

    /// Listen alone.
    pub const LISTEN: Self = Self { listen: true, send: false, manage: false };

    /// Send alone.
    pub const SEND: Self = Self { listen: false, send: true, manage: false };

    /// Whether `right` is among them.
    #[must_use]
    pub const fn allow(self, right: Right) -> bool {
        match right {
            Right::Listen => self.listen,
            Right::Send => self.send,
            Right::Manage => self.manage,
        }
    }
}

/// An authorization rule: a name, two keys of equal standing, and what they allow.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// The name, compared without case.
    pub name: String,
    /// The text of the first key. Its UTF-8 bytes are the HMAC key, not what base64 makes of them.
    pub primary: Secret<String>,
    /// The text of the second key, which stays good while the first is replaced.
    pub secondary: Secret<String>,
    /// What the rule allows.
    pub rights: Rights,
}

/// What a caller wants to reach, and the rules that decide about it.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Host of the namespace; a port is passed over.
    pub host: &'a str,
    /// The path asked for, decoded: the entity's name and whatever suffix follows it.
    pub path: &'a str,
    /// Rules of the entity, or none if there is no such entity.
    pub entity_rules: &'a [Rule],
    /// Rules of the namespace.
    pub namespace_rules: &'a [Rule],
}

/// Where a rule is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Level {
    /// At one entity.
    Entity,
    /// At the namespace, and so at all entities.
    Namespace,
}

/// A token that was good.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Grant {
    /// The rule whose key has signed.
    pub rule: String,
    /// Whose rule it is. Two of one name, one of each, are two.
    pub level: Level,
    /// When it ends, in unix seconds.
    pub expires: u64,
}

/// Checks the token `text` for `right` at `target`, in the order: there, readable, signed, not
/// expired, for this audience, with this right.
///
/// # Errors
/// [`Refusal`], the first of these that fails.
pub fn verify(
    text: Option<&str>,
    target: &Target<'_>,
    right: Right,
    unix_now: u64,
) -> Result<Grant, Refusal> {
    let text = text.filter(|text| !text.is_empty()).ok_or(Refusal::Missing)?;
    let token = SasToken::parse(text).map_err(Refusal::Malformed)?;
    let (level, rule) = find_signer(&token, target).ok_or(Refusal::Signature)?;
    if token.expires() <= unix_now {
        return Err(Refusal::Expired(token.expires()));
    }
    if !covers(token.resource(), target.host, target.path) {
        return Err(Refusal::Audience);
    }
    if !rule.rights.allow(right) {
        return Err(Refusal::Right(right));
    }
    Ok(Grant { rule: rule.name.clone(), level, expires: token.expires() })
}

/// Makes a token for `resource`, a URI such as `http://relay.example/entity`, signed by `key`.
#[must_use]
pub fn mint(resource: &str, rule: &str, key: &Secret<String>, expires: u64) -> String {
    let resource_text = percent::encode(resource, percent::is_unreserved);
    let text = sas::string_to_sign(&resource_text, &expires.to_string());
    let signature = hmac::sign(&hmac_key(key.expose()), text.as_bytes());
    sas::format(&resource_text, signature.as_ref(), expires, rule)
}

/// Always four HMACs, whether the rule is known at neither, one or both levels, so that the time
/// taken does not tell which names exist.
fn find_signer<'a>(token: &SasToken<'_>, target: &Target<'a>) -> Option<(Level, &'a Rule)> {
    let text = token.string_to_sign();
    let mut signer = None;
    let levels = [(Level::Entity, target.entity_rules), (Level::Namespace, target.namespace_rules)];
    for (level, rules) in levels {
        let rule = rules.iter().find(|rule| rule.name.eq_ignore_ascii_case(token.rule()));
        let (primary, secondary) = rule.map_or(("", ""), |rule| {
            (rule.primary.expose().as_str(), rule.secondary.expose().as_str())
        });
        let first = signs(primary, &text, token.signature());
        let second = signs(secondary, &text, token.signature());
        if signer.is_none() && (first || second) {
            signer = rule.map(|rule| (level, rule));
        }
    }
    signer
}

/// An empty key signs nothing: it stands for a rule that does not exist.
fn signs(key: &str, text: &str, signature: &[u8]) -> bool {
    let valid = hmac::verify(&hmac_key(key), text.as_bytes(), signature).is_ok();
    valid && !key.is_empty()
}

fn hmac_key(key: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes())
}

/// Whether the URI `resource` covers `path` on `host`: same host, and the URI's path is the whole
/// path or a part of it that ends where a segment ends. Scheme, port, query and trailing slashes
/// do not matter, nor does case.
fn covers(resource: &str, host: &str, path: &str) -> bool {
    let Some((scheme, rest)) = resource.split_once("://") else { return false };
    let schemes = ["http", "https", "sb", "ws", "wss"];
    if !schemes.iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return false;
    }
    let rest = rest.split(['?', '#']).next().unwrap_or("");
    let (authority, covered) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.contains('@') || !without_port(authority).eq_ignore_ascii_case(without_port(host))
    {
        return false;
    }
    let covered = covered.trim_end_matches('/');
    if covered.is_empty() {
        return true;
    }
    let mut asked = path.trim_matches('/').split('/');
    covered.split('/').all(|part| asked.next().is_some_and(|own| own.eq_ignore_ascii_case(part)))
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        // A colon inside brackets belongs to an IPv6 address.
        Some((host, port)) if !port.contains(']') => host,
        _ => authority,
    }
}

/// Why a token does not do. Every one is answered with 401: SDKs map nothing else to "not
/// authorized". `Display` gives the text that goes to the peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// There is none.
    Missing,
    /// It cannot be read.
    Malformed(Malformed),
    /// No rule of that name, or none of its keys has signed.
    Signature,
    /// It ended at this unix time.
    Expired(u64),
    /// It is for something else.
    Audience,
    /// It is good and does not include this right.
    Right(Right),
}

impl Refusal {
    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        401
    }

    /// A word for metrics and audit.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed(_) => "malformed",
            Self::Signature => "signature",
            Self::Expired(_) => "expired",
            Self::Audience => "audience",
            Self::Right(_) => "right",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("MissingToken: Relay security token is required."),
            Self::Malformed(why) => write!(f, "MalformedToken: {why}."),
            Self::Signature => f.write_str("InvalidSignature: The token has an invalid signature."),
            Self::Expired(at) => {
                let at = rfc3339(*at);
                write!(f, "ExpiredToken: The token is expired. Expiration time: '{at}'")
            }
            Self::Audience => f.write_str(
                "InvalidAudience: The authorization header contains a token with a wrong audience.",
            ),
            Self::Right(right) => {
                let right = right.as_str();
                write!(
                    f,
                    "Unauthorized access. '{right}' claim(s) are required to perform this operation."
                )
            }
        }
    }
}

impl std::error::Error for Refusal {}

fn rfc3339(unix: u64) -> String {
    let format = &time::format_description::well_known::Rfc3339;
    let time =
        i64::try_from(unix).ok().and_then(|at| time::OffsetDateTime::from_unix_timestamp(at).ok());
    time.and_then(|time| time.format(format).ok()).unwrap_or_else(|| unix.to_string())
}

#[cfg(test)]
#[path = "sas_tests.rs"]
mod tests;

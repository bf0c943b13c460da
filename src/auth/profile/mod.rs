//! What is particular to a kind of issuer: which claims a token must have, and what they make of
//! the caller. By the time a profile looks at a token, its signature has been verified.

mod entra;
mod oidc;

use std::fmt;

use ring::digest;

pub use entra::{Cloud, EntraGroups, EntraKeys, EntraTenant, EntraUser, Overage};
pub use oidc::{OidcIssuer, Requirement};

pub(super) use entra::{EntraForm, check_group_name, is_guid};

use super::denied::{Denied, Reason};
use super::names::{self, Alphabet, NameFault};
use super::token::{Token, claim};
use super::{GroupState, Principal};
use crate::limits::{GROUPS, GROUPS_BYTES};

/// What an issuer's names begin with in Kubernetes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Prefix {
    /// Nothing: the names are used as they are.
    #[default]
    None,
    /// This text, not empty.
    Text(String),
}

impl Prefix {
    /// Reads a prefix as it is configured: `-` for none, and never empty, so that leaving it out
    /// is a decision and not an accident.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" => None,
            "-" => Some(Self::None),
            text => Some(Self::Text(text.to_owned())),
        }
    }

    /// The text, empty for none.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::None => "",
            Self::Text(text) => text,
        }
    }

    fn apply(&self, name: &str) -> String {
        format!("{}{name}", self.as_str())
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Makes a user name of a claim's text.
fn user_name(raw: &str, prefix: &Prefix, alphabet: Alphabet) -> Result<String, Denied> {
    checked_name("user", raw, prefix, alphabet)
}

/// Makes group names of claims' texts, each exactly once, in their order.
fn group_names<'a>(
    raw: impl IntoIterator<Item = &'a str>,
    prefix: &Prefix,
    alphabet: Alphabet,
) -> Result<Vec<String>, Denied> {
    let mut groups = GroupList::default();
    for raw in raw {
        groups.push(checked_name("group", raw, prefix, alphabet)?)?;
    }
    Ok(groups.names)
}

/// Groups of a caller, each once, and never more than fit one request head.
#[derive(Default)]
struct GroupList {
    names: Vec<String>,
    bytes: usize,
}

impl GroupList {
    fn push(&mut self, name: String) -> Result<(), Denied> {
        if self.names.contains(&name) {
            return Ok(());
        }
        self.bytes = self.bytes.saturating_add(name.len());
        self.names.push(name);
        check_size(self.names.len(), self.bytes)
    }
}

/// Checks that the groups of a caller fit one request head.
///
/// # Errors
/// [`Reason::TooManyGroups`].
pub(super) fn check_group_count(groups: &[String]) -> Result<(), Denied> {
    check_size(groups.len(), groups.iter().map(String::len).sum())
}

fn check_size(count: usize, bytes: usize) -> Result<(), Denied> {
    if GROUPS < count || GROUPS_BYTES < bytes {
        let detail = format!("more than {GROUPS} groups or {GROUPS_BYTES} bytes of them");
        return Err(Denied::new(Reason::TooManyGroups, detail));
    }
    Ok(())
}

/// Both the claim and what it becomes are checked: a prefix must not make a reserved name pass
/// unseen, nor make one.
fn checked_name(
    what: &str,
    raw: &str,
    prefix: &Prefix,
    alphabet: Alphabet,
) -> Result<String, Denied> {
    let name = prefix.apply(raw);
    let checked = names::check(raw, alphabet).and_then(|()| names::check(&name, alphabet));
    match checked {
        Ok(()) => Ok(name),
        Err(fault) => Err(name_fault(what, raw, fault)),
    }
}

fn name_fault(what: &str, raw: &str, fault: NameFault) -> Denied {
    let reason = match fault {
        NameFault::Reserved => Reason::ReservedName,
        NameFault::Empty | NameFault::TooLong(_) | NameFault::Blank | NameFault::Character(_) => {
            Reason::Name
        }
    };
    let shown: String = raw.chars().take(64).collect();
    Denied::new(reason, format!("{what} {shown:?} {fault}"))
}

/// A name for this one credential that appears in audit logs: a hash of the token's own id, or of
/// what was signed if it has none.
fn credential_id(token: &Token, id_claims: [&str; 2]) -> Result<String, Denied> {
    let mut id = None;
    for name in id_claims {
        id = id.or(token.claims.optional_text(name).map_err(claim)?);
    }
    let id = id.unwrap_or(&token.jws.signed);
    let hash = digest::digest(&digest::SHA256, id.as_bytes());
    Ok(hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A text that is shown to people and never compared: the claim if it is printable, else the name.
fn display(claim: Option<&str>, name: &str) -> String {
    let printable = |text: &&str| names::check(text, Alphabet::Letters).is_ok();
    claim.filter(printable).unwrap_or(name).to_owned()
}

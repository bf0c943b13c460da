//! From a principal to the header fields that make kube-apiserver act for it.
//!
//! Impersonation fails open: an empty or missing `Impersonate-User` means that the request runs as
//! the proxy itself. So `system:authenticated` is always sent as a group, too, which turns a lost
//! user into an error, and [`check_finished_head`] looks at the head once more before it goes out.

use std::borrow::Cow;
use std::fmt;

use super::denied::{Denied, Reason};
use super::names::{self, Alphabet};
use super::profile::check_group_count;
use super::{GroupState, Principal};
use crate::wire::h1::FieldClass;
use crate::wire::percent;

/// A header field, name and value.
pub type Field<'a> = (Cow<'static, str>, Cow<'a, str>);

/// The domain of extra attributes that are our own.
pub const EXTRA_DOMAIN: &str = "cluster-connect.internal";

/// The group of everybody who has been authenticated.
pub const AUTHENTICATED: &str = "system:authenticated";

/// By which verbs the auth proxy's account may impersonate.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Verbs {
    /// `impersonate`, which every Kubernetes knows.
    #[default]
    Legacy,
    /// `impersonate:user-info` and `impersonate-on:user-info:...` (KEP-5284). kube-apiserver then
    /// takes no extra attribute whose key has no domain before a slash.
    Constrained,
}

impl Verbs {
    /// The key under which an extra attribute of a token can be sent.
    #[must_use]
    pub fn key(self, key: &str) -> Cow<'_, str> {
        match self {
            Self::Constrained if !key.contains('/') => format!("{EXTRA_DOMAIN}/{key}").into(),
            Self::Constrained | Self::Legacy => key.into(),
        }
    }

    /// The key of the attribute that says who has impersonated.
    #[must_use]
    pub fn original_user_info(self) -> String {
        match self {
            Self::Legacy => format!("original-user-info.{EXTRA_DOMAIN}"),
            Self::Constrained => format!("{EXTRA_DOMAIN}/original-user-info"),
        }
    }
}

/// The fields for requests of `principal`, in the order in which they are to be sent.
/// `remote_ip` is the caller's address, if it is known first hand.
///
/// # Errors
/// [`Denied`] if a name cannot be sent, or belongs to Kubernetes, or the principal's groups are
/// not known yet. Nothing may be sent for this request then.
pub fn fields<'a>(
    principal: &'a Principal,
    remote_ip: Option<&'a str>,
) -> Result<Vec<Field<'a>>, Denied> {
    if principal.group_state == GroupState::Unresolved {
        return Err(Denied::new(Reason::Overage, "the groups have not been asked for"));
    }
    check("user", &principal.user)?;
    for group in &principal.groups {
        check("group", group)?;
    }
    check_group_count(&principal.groups)?;
    let mut fields = identity_fields(&principal.user, &principal.groups);
    for (key, value) in &principal.extra {
        fields.push(extra_field(key, value)?);
    }
    push_own(&mut fields, &principal.credential_id, remote_ip)?;
    Ok(fields)
}

/// User and groups. The names have been checked.
pub(super) fn identity_fields<'a>(user: &'a str, groups: &'a [String]) -> Vec<Field<'a>> {
    let mut fields = Vec::with_capacity(groups.len() + ROOM);
    fields.push(("Impersonate-User".into(), user.into()));
    fields.push(group(AUTHENTICATED));
    fields.extend(groups.iter().filter(|name| *name != AUTHENTICATED).map(|name| group(name)));
    fields
}

/// One group. Its name has been checked.
pub(super) fn group<'a>(name: impl Into<Cow<'a, str>>) -> Field<'a> {
    ("Impersonate-Group".into(), name.into())
}

/// Fields beside the groups, without most callers' extra attributes being one too many.
const ROOM: usize = 8;

/// Adds what we say about every caller beside the name.
pub(super) fn push_own<'a>(
    fields: &mut Vec<Field<'a>>,
    credential_id: &'a str,
    remote_ip: Option<&'a str>,
) -> Result<(), Denied> {
    fields.push(extra_field("cluster-connect.internal/credential-id", credential_id)?);
    if let Some(address) = remote_ip {
        fields.push(extra_field("cluster-connect.internal/remote-ip", address)?);
    }
    Ok(())
}

/// One extra attribute. The key is escaped as client-go does it, which kube-apiserver undoes; the
/// value is sent as it is.
pub(super) fn extra_field<'a>(key: &str, value: &'a str) -> Result<Field<'a>, Denied> {
    let lower = !key.bytes().any(|byte| byte.is_ascii_uppercase());
    let sendable = |text: &str| names::check(text, Alphabet::Letters).is_ok();
    if !lower || !sendable(key) || !sendable(value) {
        return Err(Denied::new(Reason::Name, format!("extra {key:?} cannot be sent")));
    }
    let name =
        percent::encode_behind("Impersonate-Extra-", key, |byte| is_token(byte) && byte != b'%');
    Ok((name.into(), value.into()))
}

fn check(what: &str, name: &str) -> Result<(), Denied> {
    names::check(name, Alphabet::Letters).map_err(|fault| {
        let reason = match fault {
            names::NameFault::Reserved => Reason::ReservedName,
            names::NameFault::Empty
            | names::NameFault::TooLong(_)
            | names::NameFault::Blank
            | names::NameFault::Character(_) => Reason::Name,
        };
        Denied::new(reason, format!("{what} {name:?} {fault}"))
    })
}

/// Bytes of a field name (RFC 9110, 5.6.2).
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// By what the API server knows who is asking.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Road {
    /// Our own bearer token, with impersonation.
    Bearer,
    /// Our own client certificate, with impersonation and without any bearer token.
    Certificate,
    /// The caller's own token, without impersonation of ours.
    Passthrough,
}

/// Looks at a finished head before it is sent: whatever wrote it, this is what must be in it.
///
/// # Errors
/// [`BadHead`]. The head must not be sent, and the fault is ours.
pub fn check_finished_head<'a>(
    fields: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    road: Road,
) -> Result<(), BadHead> {
    let (mut credentials, mut users, mut authenticated) = (0_usize, 0_usize, false);
    for (name, value) in fields {
        if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err(BadHead::Control);
        }
        match FieldClass::of(name) {
            FieldClass::Credential => credentials = credentials.saturating_add(1),
            FieldClass::Impersonation if name.eq_ignore_ascii_case("Impersonate-User") => {
                users = users.saturating_add(1);
                // With the caller's own token it is the caller's affair.
                let is_blank = value.trim_ascii() != value || value.is_empty();
                if is_blank && road != Road::Passthrough {
                    return Err(BadHead::User);
                }
            }
            FieldClass::Impersonation => {
                let group = name.eq_ignore_ascii_case("Impersonate-Group");
                authenticated |= group && value == AUTHENTICATED.as_bytes();
            }
            FieldClass::Identity => return Err(BadHead::Identity),
            FieldClass::Ordinary
            | FieldClass::Origin
            | FieldClass::AuditId
            | FieldClass::Framing
            | FieldClass::HopByHop => {}
        }
    }
    let expected = usize::from(road != Road::Certificate);
    if credentials != expected {
        return Err(BadHead::Credentials(credentials));
    }
    match road {
        Road::Passthrough => Ok(()),
        Road::Bearer | Road::Certificate if users != 1 => Err(BadHead::Users(users)),
        Road::Bearer | Road::Certificate if !authenticated => Err(BadHead::NotAuthenticated),
        Road::Bearer | Road::Certificate => Ok(()),
    }
}

/// What is wrong with a finished head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BadHead {
    /// It has this many `Authorization` fields.
    Credentials(usize),
    /// It has this many `Impersonate-User` fields.
    Users(usize),
    /// `Impersonate-User` is empty or has blanks around it.
    User,
    /// `system:authenticated` is not among the groups.
    NotAuthenticated,
    /// A field claims an identity by other means.
    Identity,
    /// A value has a control character.
    Control,
}

impl fmt::Display for BadHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credentials(count) => write!(f, "head with {count} Authorization fields"),
            Self::Users(count) => write!(f, "head with {count} Impersonate-User fields"),
            Self::User => f.write_str("head with a blank Impersonate-User"),
            Self::NotAuthenticated => write!(f, "head without the group {AUTHENTICATED}"),
            Self::Identity => f.write_str("head with a front proxy's identity"),
            Self::Control => f.write_str("head with a control character in a value"),
        }
    }
}

impl std::error::Error for BadHead {}

#[cfg(test)]
#[path = "impersonate_tests.rs"]
mod tests;

//! Why a caller is refused: a closed set of reasons, a text for the log, and the little that the
//! caller may read.

use std::borrow::Cow;
use std::fmt;

/// The reason, as a code for metrics and audit. The set is closed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Reason {
    /// The token is not a compact JWS with strict JSON in it.
    Malformed,
    /// A header field that this kind of issuer never sends.
    Header,
    /// The algorithm is not one that is configured for the issuer.
    Algorithm,
    /// `typ` says that this is no access token.
    TokenType,
    /// No authenticator is configured for `iss`.
    Issuer,
    /// The issuer's keys have not been fetched yet, or are too old.
    KeysUnavailable,
    /// The issuer has no key of that name.
    KeyUnknown,
    /// The key is of another type, for another algorithm, or for another issuer.
    KeyMismatch,
    /// The signature does not verify.
    Signature,
    /// The token has expired.
    Expired,
    /// The token is not valid yet.
    NotYetValid,
    /// The token lives longer than any token should.
    Lifetime,
    /// A claim is missing, has the wrong type, or has a value that is not allowed.
    Claim,
    /// The token is for somebody else.
    Audience,
    /// Tenant, version and issuer do not agree.
    Tenant,
    /// The client application is missing or not on the list.
    Client,
    /// An ID token, a device's token, an actor token.
    Purpose,
    /// The token is bound to a key, or must be, and no proof came with it.
    ProofRequired,
    /// A proof of possession that does not hold.
    Proof,
    /// The user or group name cannot be carried to Kubernetes.
    Name,
    /// The user or group name belongs to Kubernetes.
    ReservedName,
    /// There are more groups than are allowed.
    TooManyGroups,
    /// The token leaves the groups out because there are too many.
    Overage,
    /// The request brings impersonation fields of its own.
    ImpersonationOff,
    /// The caller may not impersonate whom the request names.
    ImpersonationDenied,
    /// A question to the API server was not answered, or answered with no.
    Review,
}

impl Reason {
    /// The code.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Header => "header",
            Self::Algorithm => "algorithm",
            Self::TokenType => "token_type",
            Self::Issuer => "issuer",
            Self::KeysUnavailable => "keys_unavailable",
            Self::KeyUnknown => "key_unknown",
            Self::KeyMismatch => "key_mismatch",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Lifetime => "lifetime",
            Self::Claim => "claim",
            Self::Audience => "audience",
            Self::Tenant => "tenant",
            Self::Client => "client",
            Self::Purpose => "purpose",
            Self::ProofRequired => "proof_required",
            Self::Proof => "proof",
            Self::Name => "name",
            Self::ReservedName => "reserved_name",
            Self::TooManyGroups => "too_many_groups",
            Self::Overage => "overage",
            Self::ImpersonationOff => "impersonation_off",
            Self::ImpersonationDenied => "impersonation_denied",
            Self::Review => "review",
        }
    }

    const fn status(self) -> u16 {
        match self {
            Self::KeysUnavailable => 503,
            Self::ReservedName
            | Self::TooManyGroups
            | Self::Overage
            | Self::ImpersonationOff
            | Self::ImpersonationDenied => 403,
            Self::Malformed
            | Self::Header
            | Self::Algorithm
            | Self::TokenType
            | Self::Issuer
            | Self::KeyUnknown
            | Self::KeyMismatch
            | Self::Signature
            | Self::Expired
            | Self::NotYetValid
            | Self::Lifetime
            | Self::Claim
            | Self::Audience
            | Self::Tenant
            | Self::Client
            | Self::Purpose
            | Self::ProofRequired
            | Self::Proof
            | Self::Name
            | Self::Review => 401,
        }
    }
}

/// A refusal. `Display` is for the log and tells all; [`Denied::public`] is for the caller.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Denied {
    reason: Reason,
    detail: Cow<'static, str>,
    refresh: Option<usize>,
}

impl Denied {
    /// A refusal for `reason`, with what exactly was wrong. What comes from a token may be long,
    /// and is cut.
    #[must_use]
    pub fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        let mut detail = detail.into();
        if DETAIL_CHARS < detail.chars().count() {
            detail = detail.chars().take(DETAIL_CHARS).chain("...".chars()).collect();
        }
        Self { reason, detail, refresh: None }
    }

    /// No key of that name: the keys of `issuer` may be out of date.
    #[must_use]
    pub(super) fn unknown_key(issuer: usize, detail: String) -> Self {
        Self { refresh: Some(issuer), ..Self::new(Reason::KeyUnknown, detail) }
    }

    /// The keys of `issuer` have not come yet, or are too old, by a clock that may have been set
    /// meanwhile.
    #[must_use]
    pub(super) fn no_keys(issuer: usize, detail: String) -> Self {
        Self { refresh: Some(issuer), ..Self::new(Reason::KeysUnavailable, detail) }
    }

    /// The reason.
    #[must_use]
    pub const fn kind(&self) -> Reason {
        self.reason
    }

    /// The reason's code, for metrics and audit.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        self.reason.as_str()
    }

    /// The HTTP status: 401, 403 or 503.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.reason.status()
    }

    /// The issuer whose keys are not there, or worth fetching again within the limits of its refresh
    /// policy.
    #[must_use]
    pub const fn refresh(&self) -> Option<usize> {
        self.refresh
    }

    /// What the caller may read. It says more than "no" only where the caller can act on it and
    /// nobody learns anything from it.
    #[must_use]
    pub const fn public(&self) -> &'static str {
        match self.reason {
            Reason::Expired => "the token has expired",
            Reason::ProofRequired => "proof of possession required",
            Reason::Overage => {
                "group overage: the token holds no groups (over 200); use app roles or group assignment filtering"
            }
            Reason::TooManyGroups => "the token holds too many groups",
            Reason::ReservedName => "the token names a user or group that is reserved",
            Reason::ImpersonationOff => "impersonation through this proxy is off",
            Reason::ImpersonationDenied => "you may not impersonate this user or group",
            Reason::KeysUnavailable => "the issuer's keys are not available yet, try again",
            Reason::Malformed
            | Reason::Header
            | Reason::Algorithm
            | Reason::TokenType
            | Reason::Issuer
            | Reason::KeyUnknown
            | Reason::KeyMismatch
            | Reason::Signature
            | Reason::NotYetValid
            | Reason::Lifetime
            | Reason::Claim
            | Reason::Audience
            | Reason::Tenant
            | Reason::Client
            | Reason::Purpose
            | Reason::Proof
            | Reason::Name
            | Reason::Review => "Unauthorized",
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.as_str(), self.detail)
    }
}

impl std::error::Error for Denied {}

/// Characters of a detail: a log line's worth.
const DETAIL_CHARS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_is_no_way_to_flood_the_log() {
        let denied = Denied::new(Reason::Issuer, "\u{e9}".repeat(30_000));
        assert_eq!(denied.to_string().chars().count(), "issuer: ...".len() + DETAIL_CHARS);
    }

    #[test]
    fn the_caller_reads_less_than_the_log() {
        let denied = Denied::new(Reason::Audience, "audience \"x\" is not ours");
        assert_eq!(denied.to_string(), "audience: audience \"x\" is not ours");
        assert_eq!((denied.status(), denied.public()), (401, "Unauthorized"));
        assert_eq!(denied.refresh(), None);
    }

    #[test]
    fn an_unknown_key_asks_for_a_refresh() {
        let denied = Denied::unknown_key(3, "no key \"k9\"".to_owned());
        assert_eq!((denied.refresh(), denied.reason()), (Some(3), "key_unknown"));
    }
}

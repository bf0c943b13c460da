//! What a header field is to a proxy, by its name: the one table for all that drops, refuses or
//! makes fields anew.
//!
//! Names are compared in lower case and with `_` read as `-`, because servers behind us may read
//! them so (CVE-2025-64484).

/// What a field is to us, by its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FieldClass {
    /// Passed on.
    Ordinary,
    /// Asks to act as somebody else.
    Impersonation,
    /// The caller's own credential: read, and replaced by ours.
    Credential,
    /// Claims an identity that a front proxy has established. Dropped: we are that proxy.
    Identity,
    /// Claims where the request comes from. Dropped.
    Origin,
    /// Names the request in audit logs. Replaced by ours.
    AuditId,
    /// Says how the message is delimited and for whom it is. Made anew.
    Framing,
    /// Means this connection only. Dropped, or made anew.
    HopByHop,
}

impl FieldClass {
    /// The class of the field `name`.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let whole = WHOLE.iter().find(|(plain, _)| reads_as(name, plain));
        let found = whole.or_else(|| PREFIXES.iter().find(|(plain, _)| begins_as(name, plain)));
        found.map_or(Self::Ordinary, |(_, class)| *class)
    }

    /// Whether the field itself goes on to the API server. Whether its request does is another
    /// question: fields that ask for impersonation refuse it.
    #[must_use]
    pub const fn is_forwarded(self) -> bool {
        match self {
            Self::Ordinary => true,
            Self::Impersonation
            | Self::Credential
            | Self::Identity
            | Self::Origin
            | Self::AuditId
            | Self::Framing
            | Self::HopByHop => false,
        }
    }

    /// Whether a `Connection` field may name it. A caller that could have our own fields removed
    /// would act as us (CVE-2021-31999, CVE-2022-23652); such a request is refused with 400.
    #[must_use]
    pub const fn may_be_per_hop(self) -> bool {
        match self {
            Self::Ordinary | Self::HopByHop => true,
            Self::Impersonation
            | Self::Credential
            | Self::Identity
            | Self::Origin
            | Self::AuditId
            | Self::Framing => false,
        }
    }
}

/// Fields by their whole names.
const WHOLE: [(&str, FieldClass); 12] = [
    ("audit-id", FieldClass::AuditId),
    ("host", FieldClass::Framing),
    ("content-length", FieldClass::Framing),
    ("transfer-encoding", FieldClass::Framing),
    ("forwarded", FieldClass::Origin),
    ("connection", FieldClass::HopByHop),
    ("keep-alive", FieldClass::HopByHop),
    ("te", FieldClass::HopByHop),
    ("trailer", FieldClass::HopByHop),
    ("upgrade", FieldClass::HopByHop),
    ("http2-settings", FieldClass::HopByHop),
    ("expect", FieldClass::HopByHop),
];

/// Fields by the beginning of their names.
const PREFIXES: [(&str, FieldClass); 6] = [
    ("impersonate", FieldClass::Impersonation),
    ("authorization", FieldClass::Credential),
    ("x-remote-", FieldClass::Identity),
    ("x-forwarded-", FieldClass::Origin),
    ("x-real-ip", FieldClass::Origin),
    ("proxy-", FieldClass::HopByHop),
];

/// Whether a server that folds case and underscores takes `name` for `plain`.
#[must_use]
pub fn reads_as(name: &str, plain: &str) -> bool {
    name.len() == plain.len() && begins_as(name, plain)
}

/// Whether a server that folds case and underscores finds `plain` at the beginning of `name`.
#[must_use]
pub fn begins_as(name: &str, plain: &str) -> bool {
    let fold = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    let start = name.as_bytes().get(..plain.len());
    start.is_some_and(|start| start.iter().map(|byte| fold(*byte)).eq(plain.bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTECTED: [(&str, FieldClass); 21] = [
        ("Impersonate-User", FieldClass::Impersonation),
        ("iMPERSONATE-gROUP", FieldClass::Impersonation),
        ("Impersonate-Uid", FieldClass::Impersonation),
        ("Impersonate-Extra-Scopes", FieldClass::Impersonation),
        ("Impersonate-Anything", FieldClass::Impersonation),
        ("Impersonate", FieldClass::Impersonation),
        ("Impersonate_User", FieldClass::Impersonation),
        ("Impersonate-_User", FieldClass::Impersonation),
        ("IMPERSONATE__USER", FieldClass::Impersonation),
        ("Authorization", FieldClass::Credential),
        ("X-Remote-User", FieldClass::Identity),
        ("X_Remote_Group", FieldClass::Identity),
        ("X-Remote-Extra-Scopes", FieldClass::Identity),
        ("Forwarded", FieldClass::Origin),
        ("X-Forwarded-For", FieldClass::Origin),
        ("X_Forwarded_Client_Cert", FieldClass::Origin),
        ("X-Real-Ip", FieldClass::Origin),
        ("Audit-ID", FieldClass::AuditId),
        ("Host", FieldClass::Framing),
        ("Content_Length", FieldClass::Framing),
        ("Transfer-Encoding", FieldClass::Framing),
    ];

    #[test]
    fn protected_fields_are_known_in_every_spelling() {
        for (name, class) in PROTECTED {
            assert_eq!(FieldClass::of(name), class, "{name}");
            assert!(!class.is_forwarded() && !class.may_be_per_hop(), "{name}");
        }
    }

    #[test]
    fn fields_of_this_connection_are_not_passed_on() {
        for name in [
            "Connection",
            "Keep-Alive",
            "Proxy-Connection",
            "Proxy-Authorization",
            "TE",
            "Trailer",
            "Upgrade",
            "HTTP2-Settings",
            "Expect",
            "Proxy_Authenticate",
        ] {
            let class = FieldClass::of(name);
            assert_eq!(class, FieldClass::HopByHop, "{name}");
            assert!(!class.is_forwarded() && class.may_be_per_hop());
        }
    }

    #[test]
    fn other_fields_are_ordinary() {
        for name in ["Accept", "Cookie", "X-Impersonate-User", "X-Remot", "Content-Type", "", "_"] {
            assert_eq!(FieldClass::of(name), FieldClass::Ordinary, "{name}");
        }
        // What begins so is taken for it rather than passed on.
        assert_eq!(FieldClass::of("Impersonated"), FieldClass::Impersonation);
        assert_eq!(FieldClass::of("Authorization_X"), FieldClass::Credential);
    }
}

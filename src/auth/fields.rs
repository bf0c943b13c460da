//! What becomes of a caller's header fields: one table for all of them.
//!
//! Names are compared in lower case and with `_` read as `-`, because servers behind us may read
//! them so (CVE-2025-64484). The order of work is: refuse, drop what is per hop, drop what claims
//! an identity, and only then add ours. Nothing is deleted after something was added.

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
        let name = normalise(name);
        let begins = |prefix: &str| name.starts_with(prefix);
        match name.as_str() {
            "impersonate" => Self::Impersonation,
            "authorization" => Self::Credential,
            "audit-id" => Self::AuditId,
            "host" | "content-length" | "transfer-encoding" => Self::Framing,
            "forwarded" | "x-real-ip" => Self::Origin,
            "connection" | "keep-alive" | "te" | "trailer" | "upgrade" | "http2-settings"
            | "expect" => Self::HopByHop,
            _ if begins("impersonate-") => Self::Impersonation,
            _ if begins("x-remote-") => Self::Identity,
            _ if begins("x-forwarded-") => Self::Origin,
            _ if begins("proxy-") => Self::HopByHop,
            _ => Self::Ordinary,
        }
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

/// Whether the field `name` asks for impersonation, in any spelling.
#[must_use]
pub fn is_impersonation_field(name: &str) -> bool {
    FieldClass::of(name) == FieldClass::Impersonation
}

/// Which ordinary fields go on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum HeaderPolicy {
    /// All of them: services behind `services/proxy` may need any.
    #[default]
    DenyList,
    /// Only those that kubectl and client libraries use.
    AllowList,
}

impl HeaderPolicy {
    /// Whether the field `name` goes on.
    #[must_use]
    pub fn forwards(self, name: &str) -> bool {
        let allowed = match self {
            Self::DenyList => true,
            Self::AllowList => is_listed(&normalise(name)),
        };
        allowed && FieldClass::of(name).is_forwarded()
    }
}

fn is_listed(name: &str) -> bool {
    const NAMES: [&str; 10] = [
        "accept",
        "accept-encoding",
        "cache-control",
        "content-type",
        "origin",
        "range",
        "traceparent",
        "tracestate",
        "user-agent",
        "x-stream-protocol-version",
    ];
    const PREFIXES: [&str; 3] = ["if-", "kubectl-", "sec-websocket-"];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn normalise(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
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
            assert!(!HeaderPolicy::DenyList.forwards(name), "{name}");
            assert_eq!(is_impersonation_field(name), class == FieldClass::Impersonation, "{name}");
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
    fn ordinary_fields_pass_and_a_list_can_narrow_them() {
        for name in [
            "Accept",
            "User-Agent",
            "If-None-Match",
            "Kubectl-Command",
            "Sec-WebSocket-Key",
            "X-Stream-Protocol-Version",
            "Traceparent",
            "Content-Type",
        ] {
            assert!(HeaderPolicy::DenyList.forwards(name), "{name}");
            assert!(HeaderPolicy::AllowList.forwards(name), "{name}");
        }
        for name in ["Cookie", "X-Custom", "Impersonated", "X-Impersonate-User", "Authorization-X"]
        {
            assert!(HeaderPolicy::DenyList.forwards(name), "{name}");
            assert!(!HeaderPolicy::AllowList.forwards(name), "{name}");
        }
    }
}

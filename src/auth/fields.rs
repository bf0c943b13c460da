//! Which of a caller's fields go on. The order of work is: refuse, drop what is per hop, drop what
//! claims an identity ([`FieldClass`] knows which is which), and only then add ours. Nothing is
//! deleted after something was added.

use crate::wire::h1::{FieldClass, begins_as, reads_as};

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
            Self::AllowList => is_listed(name),
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
    NAMES.iter().any(|plain| reads_as(name, plain))
        || PREFIXES.iter().any(|plain| begins_as(name, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for name in ["Cookie", "X-Custom", "X-Impersonate-User"] {
            assert!(HeaderPolicy::DenyList.forwards(name), "{name}");
            assert!(!HeaderPolicy::AllowList.forwards(name), "{name}");
        }
    }

    #[test]
    fn what_is_protected_goes_on_under_neither_policy() {
        for name in ["Impersonate_User", "Authorization", "x-remote-user", "X_Forwarded_For", "TE"]
        {
            assert!(!HeaderPolicy::DenyList.forwards(name), "{name}");
            assert!(!HeaderPolicy::AllowList.forwards(name), "{name}");
        }
    }
}

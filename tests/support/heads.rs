#![allow(unreachable_pub, reason = "shared by tests and benches")]
//! The head of a request as kubectl sends it, and what an auth proxy makes of it.

use cluster_connect::auth::fields::HeaderPolicy;
use cluster_connect::auth::impersonate::{self, Road};
use cluster_connect::auth::{GroupState, Principal};
use cluster_connect::role::auth_proxy::head::Identity;
use cluster_connect::secret::Secret;
use cluster_connect::wire::h1::{RequestHead, policy};

/// Groups of the caller.
pub const GROUPS: usize = 8;

/// What kubectl sends, with this token.
pub fn request(token: &str) -> String {
    format!(
        "GET /api/v1/namespaces/default/pods?limit=500 HTTP/1.1\r\nHost: 127.0.0.1:47011\r\n\
         User-Agent: kubectl/v1.33.1 (linux/amd64) kubernetes/8adc0f0\r\n\
         Accept: application/json;as=Table;v=v1;g=meta.k8s.io,application/json\r\n\
         Accept-Encoding: gzip\r\nAuthorization: Bearer {token}\r\n\
         Kubectl-Command: kubectl get\r\nKubectl-Session: 6b4a1a0e-0e0d-4e38-9a83-000000000000\r\n\r\n"
    )
}

/// Something as long as a token usually is.
pub fn token() -> String {
    "eyJhbGciOi.".repeat(120)
}

/// Whom it is sent on for, and with which token.
pub struct Caller {
    principal: Principal,
    own: Secret<String>,
}

impl Caller {
    pub fn new() -> Self {
        let group = |n| format!("5c7d0000-0000-0000-0000-00000000000{n}");
        let principal = Principal {
            user: "alice@contoso.example".to_owned(),
            groups: (0..GROUPS).map(group).collect(),
            group_state: GroupState::Complete,
            extra: vec![("oid".to_owned(), group(1))],
            issuer: "https://issuer.example".to_owned(),
            subject: "s".to_owned(),
            display: String::new(),
            credential_id: "c".repeat(64),
            expires: 0,
            is_app: false,
        };
        Self { principal, own: Secret::new("t".repeat(900)) }
    }

    /// Judged, stripped, impersonated, and written.
    pub fn send_on(&self, head: &RequestHead) -> Vec<u8> {
        policy::admit(head).expect("fine");
        policy::credential(&head.fields, true).expect("one");
        assert!(!policy::impersonates(&head.fields));
        let fields = impersonate::fields(&self.principal, None).expect("sendable");
        let identity = Identity {
            road: Road::Bearer,
            fields: &fields,
            bearer: Some(&self.own),
            host: "10.0.0.1:443",
            audit_id: "6b4a1a0e-0e0d-4e38-9a83-000000000000",
            policy: HeaderPolicy::DenyList,
        };
        let mut bytes = Vec::new();
        identity.put_on(head).expect("fit").write(&mut bytes).expect("writable");
        bytes
    }
}

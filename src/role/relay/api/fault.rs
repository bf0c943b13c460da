//! Why a request is not done, in the shape of Azure Resource Manager:
//! `{"error":{"code":"...","message":"..."}}`.

use std::time::Duration;

use serde_json::json;

use super::{Reply, User};
use crate::role::relay::registry::Refusal;
use crate::wire::json::{Malformed, Mismatch};
use crate::wire::resource::ResourceId;

/// An error response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// The status code.
    pub status: u16,
    /// Stable, for programs.
    pub code: &'static str,
    /// For people.
    pub message: String,
    /// Besides those of every response.
    pub headers: Vec<(&'static str, String)>,
}

impl Fault {
    /// With these parts.
    pub fn new(status: u16, code: &'static str, message: &str) -> Self {
        Self { status, code, message: message.to_owned(), headers: Vec::new() }
    }

    /// The response.
    pub fn into_reply(self) -> Reply {
        let body = json!({"error": {"code": self.code, "message": self.message}});
        let mut reply = Reply::json(self.status, &body);
        reply.headers.extend(self.headers);
        reply
    }

    pub(super) fn bad_request(code: &'static str, message: &str) -> Self {
        Self::new(400, code, message)
    }

    pub(super) fn unauthenticated(message: &str) -> Self {
        let headers = vec![("WWW-Authenticate", "Bearer".to_owned())];
        Self { headers, ..Self::new(401, "AuthenticationFailed", message) }
    }

    pub(super) fn forbidden(user: &User, why: &str) -> Self {
        let User { user, subject, issuer, .. } = user;
        let message = format!("{user} (subject {subject} of {issuer}) is not authorized: {why}");
        Self::new(403, "AuthorizationFailed", &message)
    }

    pub(super) fn method_not_allowed(methods: &[&str]) -> Self {
        let headers = vec![("Allow", methods.join(", "))];
        let message = format!("only {} is possible here", methods.join(", "));
        Self { headers, ..Self::new(405, "MethodNotAllowed", &message) }
    }

    pub(super) fn too_many(wait: Duration) -> Self {
        let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
        let headers = vec![("Retry-After", seconds.to_string())];
        let message = format!("too many wrong attempts from this address; wait {seconds} s");
        Self { headers, ..Self::new(429, "TooManyRequests", &message) }
    }

    pub(super) fn no_cluster(resource: &ResourceId) -> Self {
        let message = format!(
            "the connected cluster '{}' under resource group '{}' was not found",
            resource.name(),
            resource.group()
        );
        Self::new(404, "ResourceNotFound", &message)
    }
}

impl From<Malformed> for Fault {
    fn from(why: Malformed) -> Self {
        Self::bad_request("InvalidRequestContent", &format!("the body is {why}"))
    }
}

impl From<Mismatch> for Fault {
    fn from(why: Mismatch) -> Self {
        Self::bad_request("InvalidRequestContent", &why.to_string())
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let (status, code) = match &refusal {
            Refusal::UnknownCluster | Refusal::UnknownEntity | Refusal::UnknownRule => {
                (404, "ResourceNotFound")
            }
            Refusal::OfCluster => (403, "AuthorizationFailed"),
            Refusal::TooMany(..) => (409, "QuotaExceeded"),
            Refusal::JoinTokenUnknown => (403, "JoinTokenInvalid"),
            Refusal::JoinTokenExpired => (403, "JoinTokenExpired"),
            Refusal::JoinTokenUsed => (403, "JoinTokenUsed"),
            Refusal::NotAssigned => (404, "RoleAssignmentNotFound"),
            Refusal::RoleExists => (409, "RoleAssignmentExists"),
            Refusal::RoleIsAnother => (409, "RoleAssignmentUpdateNotPermitted"),
            Refusal::BadName => (400, "InvalidResourceName"),
            Refusal::BadRights => (400, "InvalidRights"),
        };
        Self::new(status, code, &refusal.to_string())
    }
}

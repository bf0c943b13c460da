//! What the API answers when it refuses: `metav1.Status`.

use std::{fmt, io};

use serde_json::{Value, json};

/// A refusal with its HTTP code, machine-readable reason, and sentence.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    pub(crate) code: u16,
    reason: &'static str,
    message: String,
    details: Value,
}

/// Why a request ended early: with an answer for the caller, or because the caller has gone.
#[derive(Debug)]
pub(crate) enum Failure {
    Status(Status),
    Lost(io::Error),
}

impl Status {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: json!({}) }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    pub(crate) fn forbidden(resource: &str, name: &str, message: impl Into<String>) -> Self {
        let mut status = Self::new(403, "Forbidden", message);
        if !resource.is_empty() {
            status.details = json!({ "name": name, "kind": resource });
        }
        status
    }

    /// The path names nothing that is served.
    pub(crate) fn unknown_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    pub(crate) fn not_found(resource: &str, name: &str) -> Self {
        let mut status = Self::new(404, "NotFound", format!("{resource} {name:?} not found"));
        status.details = json!({ "name": name, "kind": resource });
        status
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", message)
    }

    pub(crate) fn not_acceptable() -> Self {
        let message = "only the following media types are accepted: application/json";
        Self::new(406, "NotAcceptable", message)
    }

    pub(crate) fn already_exists(resource: &str, name: &str) -> Self {
        let message = format!("{resource} {name:?} already exists");
        let mut status = Self::new(409, "AlreadyExists", message);
        status.details = json!({ "name": name, "kind": resource });
        status
    }

    pub(crate) fn conflict(resource: &str, name: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {resource} {name:?}: the object has been modified; \
             please apply your changes to the latest version and try again"
        );
        let mut status = Self::new(409, "Conflict", message);
        status.details = json!({ "name": name, "kind": resource });
        status
    }

    /// The watch or continue token asks for history that is no longer kept.
    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    pub(crate) fn too_large() -> Self {
        let message = "limit is 3145728";
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: {message}"))
    }

    pub(crate) fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub(crate) fn invalid(kind: &str, name: &str, field: &str, message: &str) -> Self {
        let text = format!("{kind} {name:?} is invalid: {field}: {message}");
        let mut status = Self::new(422, "Invalid", text);
        status.details = json!({
            "name": name,
            "kind": kind,
            "causes": [{ "reason": "FieldValueInvalid", "message": message, "field": field }],
        });
        status
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {}", message.into()))
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.code, self.reason, self.message)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

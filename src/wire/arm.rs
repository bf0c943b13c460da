//! What the connected-clusters API answers when it says no: an HTTP status and
//! `{"error":{"code","message"}}`.

use std::fmt;

use super::json::{self, Object};

/// A refusal, by what it means to whoever asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// What it means.
    pub kind: Kind,
    /// The HTTP status.
    pub status: u16,
    /// The code as it was sent; empty where there was none.
    pub code: String,
    /// The message as it was sent, fit for a terminal; empty where there was none.
    pub message: String,
}

/// The refusals that lead to different advice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The token is not accepted.
    TokenRefused,
    /// The token is accepted, and not enough.
    Forbidden,
    /// There is no such cluster.
    ClusterUnknown,
    /// Its agent has never connected.
    NeverConnected,
    /// Its agent is not connected.
    Offline,
    /// Relay and auth proxy would accept the same tokens.
    AudienceConflict,
    /// A name that nobody has been seen under, or more than one.
    PrincipalUnknown,
    /// The join token is used, expired, or of another cluster.
    JoinTokenRefused,
    /// The request is wrong in some other way: asking again helps nothing.
    Wrong,
    /// Too many requests, or a fault at the other end: asking again may help.
    Passing,
    /// Not an answer of the API at all.
    Foreign,
}

impl Refusal {
    /// Reads an answer whose status is not a success.
    #[must_use]
    pub fn read(status: u16, body: &[u8]) -> Self {
        let top = json::parse_object(body, DEPTH).ok();
        let error = top.as_ref().and_then(|top| top.optional_object("error").ok().flatten());
        let field = |key: &str| error.and_then(|error| text(error, key)).unwrap_or_default();
        let (code, message) = (field("code"), field("message"));
        let kind = match (status, code.as_str()) {
            (429 | 500..=599, _) => Kind::Passing,
            (_, "") => match status {
                401 => Kind::TokenRefused,
                403 => Kind::Forbidden,
                _ => Kind::Foreign,
            },
            (401, _) => Kind::TokenRefused,
            (_, "AudienceConflict") => Kind::AudienceConflict,
            (_, "PrincipalNotFound" | "PrincipalAmbiguous") => Kind::PrincipalUnknown,
            (_, "JoinTokenInvalid" | "JoinTokenExpired") => Kind::JoinTokenRefused,
            (_, "ClusterNeverConnected") => Kind::NeverConnected,
            (_, "ClusterOffline") => Kind::Offline,
            (403, _) => Kind::Forbidden,
            (404, "ResourceNotFound") => Kind::ClusterUnknown,
            _ => Kind::Wrong,
        };
        Self { kind, status, code, message }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, code, message, .. } = self;
        match (code.is_empty(), message.is_empty()) {
            (false, false) => write!(f, "{message} ({code})"),
            (false, true) => write!(f, "the relay answered {status} ({code})"),
            (true, _) => write!(f, "the relay answered {status} and did not say why"),
        }
    }
}

impl std::error::Error for Refusal {}

/// Text that came over the network, made fit for a terminal: one line, no control characters, not
/// without end.
fn text(object: &Object, key: &str) -> Option<String> {
    let text = object.get(key)?.as_text()?;
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    Some(text.chars().take(MESSAGE_MAX).map(printable).collect())
}

/// Characters of a message that are shown.
const MESSAGE_MAX: usize = 500;

/// Azure nests details and inner errors.
const DEPTH: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, code: &str) -> Kind {
        let body = format!(r#"{{"error":{{"code":"{code}","message":"m"}}}}"#);
        Refusal::read(status, body.as_bytes()).kind
    }

    #[test]
    fn every_refusal_is_told_from_the_others() {
        assert_eq!(read(401, "AuthenticationFailed"), Kind::TokenRefused);
        assert_eq!(read(403, "AuthorizationFailed"), Kind::Forbidden);
        assert_eq!(read(404, "ResourceNotFound"), Kind::ClusterUnknown);
        assert_eq!(read(409, "ClusterNeverConnected"), Kind::NeverConnected);
        assert_eq!(read(409, "ClusterOffline"), Kind::Offline);
        assert_eq!(read(400, "AudienceConflict"), Kind::AudienceConflict);
        assert_eq!(read(404, "PrincipalNotFound"), Kind::PrincipalUnknown);
        assert_eq!(read(403, "JoinTokenExpired"), Kind::JoinTokenRefused);
        assert_eq!(read(400, "InvalidRequestContent"), Kind::Wrong);
        assert_eq!(read(404, "RoleAssignmentNotFound"), Kind::Wrong);
        for status in [429, 500, 502, 503] {
            assert_eq!(read(status, "ServerBusy"), Kind::Passing);
        }
    }

    #[test]
    fn an_answer_of_somebody_else_is_known_as_one() {
        for body in [&b""[..], b"<html>", b"[]", b"{\"error\":\"x\"}", b"{\"error\":{\"code\":1}}"]
        {
            assert_eq!(Refusal::read(404, body).kind, Kind::Foreign);
            assert_eq!(Refusal::read(302, body).kind, Kind::Foreign);
        }
        assert_eq!(Refusal::read(401, b"").kind, Kind::TokenRefused);
    }

    #[test]
    fn a_message_cannot_write_on_the_terminal() {
        let long = "x".repeat(10_000);
        let body =
            format!(r#"{{"error":{{"code":"C","message":"\u001b[2J\r\nerror[OK]: {long}"}}}}"#);
        let shown = Refusal::read(400, body.as_bytes()).to_string();
        assert!(!shown.contains(['\u{1b}', '\r', '\n']) && shown.len() < 600);
    }
}

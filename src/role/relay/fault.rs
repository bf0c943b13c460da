//! Refusals: status, text, and the tracking id by which a support engineer finds the log line.

use std::fmt;

use time::OffsetDateTime;

use super::authority::Refusal;
use crate::engine::upgrade;

/// Why a request is refused. The texts are those of Azure Relay, which tools and people know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Fault {
    /// The HTTP status.
    pub(super) status: u16,
    /// The sentence, without a full stop at the end.
    pub(super) text: String,
}

/// Names one request in answers and logs.
#[derive(Clone, Debug, Default)]
pub(super) struct Tracking {
    /// The client's own id, or one made for it, and the number of the node.
    pub(super) id: String,
    /// The host asked for.
    pub(super) host: String,
    /// The path asked for.
    pub(super) path: String,
    /// When, in seconds since 1970.
    pub(super) unix_time: u64,
}

impl Fault {
    /// A refusal with a fixed text.
    #[must_use]
    pub(super) fn new(status: u16, text: &str) -> Self {
        Self { status, text: text.to_owned() }
    }

    /// The line that says it all, in printable ASCII and shorter than 512 bytes: the phrase after
    /// the status is what WebSocket clients show.
    #[must_use]
    pub(super) fn phrase(&self, tracking: &Tracking) -> String {
        let text = self.text.trim_end_matches('.');
        let whole = format!("{text}. {tracking}");
        whole.chars().filter(|c| matches!(c, ' '..='~')).take(500).collect()
    }

    /// The answer to a request for a WebSocket.
    #[must_use]
    pub(super) fn for_upgrade(&self, tracking: &Tracking) -> Vec<u8> {
        let retry = if self.is_temporary() { "Retry-After: 1\r\n" } else { "" };
        let fields = format!("{retry}Connection: close\r\n");
        upgrade::refusal(self.status, &self.phrase(tracking), &fields, "")
    }

    /// The answer to an HTTP request. It has no `Via`: that is how a sender tells the relay's own
    /// errors from the listener's.
    #[must_use]
    pub(super) fn for_http(&self, tracking: &Tracking) -> Vec<u8> {
        let phrase = self.phrase(tracking);
        let error = serde_json::json!({ "error": { "code": self.code(), "message": phrase } });
        let retry = if self.is_temporary() { "Retry-After: 1\r\n" } else { "" };
        let fields = format!("{retry}Content-Type: application/json\r\nConnection: close\r\n");
        upgrade::refusal(self.status, &phrase, &fields, &error.to_string())
    }

    const fn is_temporary(&self) -> bool {
        matches!(self.status, 429 | 503)
    }

    const fn code(&self) -> &'static str {
        match self.status {
            400 | 411 | 413 | 431 => "BadRequest",
            401 => "TokenMissingOrInvalid",
            403 => "Forbidden",
            404 => "EndpointNotFound",
            429 => "TooManyRequests",
            501 => "NotImplemented",
            502 | 503 => "ListenerUnavailable",
            504 => "GatewayTimeout",
            _ => "InternalServerError",
        }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self { status: refusal.status, text: refusal.text }
    }
}

impl fmt::Display for Tracking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = i64::try_from(self.unix_time).unwrap_or_default();
        let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        write!(
            f,
            "TrackingId:{}, SystemTracker:sb://{}/{}, Timestamp:{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            self.id,
            self.host,
            self.path.chars().take(260).collect::<String>(),
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phrase_has_the_form_of_azure() {
        let tracking = Tracking {
            id: "1b2c_G3".to_owned(),
            host: "relay.example".to_owned(),
            path: "ent\r\n".to_owned(),
            unix_time: 1_795_463_640,
        };
        assert_eq!(
            Fault::new(404, "Endpoint does not exist.").phrase(&tracking),
            "Endpoint does not exist. TrackingId:1b2c_G3, SystemTracker:sb://relay.example/ent, \
             Timestamp:2026-11-23T19:54:00"
        );
        let long = Tracking { path: "é\u{7f}x".repeat(5000), ..tracking };
        let phrase = Fault::new(400, &"a".repeat(600)).phrase(&long);
        assert!(phrase.len() == 500 && phrase.is_ascii());
    }
}

//! What goes into and comes out of an exchange.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::wire::h1::{Malformed, RequestHead, ResponseHead};
use crate::wire::kube::{status_body, status_reason};

/// What the role has to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A request has arrived, its body still unread: answer with `forward` or `respond`.
    Request(RequestHead),
    /// An upstream connection is wanted: `up_connected`, `up_failed` or `respond` must follow.
    Connect,
    /// The final response head, free of what belongs to one hop: answer with `answer` or `retry`.
    Response(ResponseHead),
    /// The connection was upgraded.
    Upgraded,
    /// The exchange is over: the response has gone down, or both sides of an upgraded connection
    /// have ended.
    Complete,
    /// The exchange has failed. If nothing of a response had gone down, the caller was told.
    Failed(Failure),
}

/// Why an exchange failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failure {
    /// The caller's head or body breaks a rule.
    Malformed(Malformed),
    /// The caller was too slow with a head or a body.
    SlowCaller,
    /// The caller has stopped reading.
    StalledCaller,
    /// The caller's connection ended first.
    CallerGone,
    /// No upstream connection: the reason as a sentence.
    Unreachable(String),
    /// The upstream's head or body breaks a rule.
    BadResponse(Malformed),
    /// The upstream answered an upgrade with something that is neither it nor an error, switched
    /// without being asked, or sent too many interim responses.
    UnexpectedResponse,
    /// The upstream, which is so called, ended the connection before the response was complete.
    UpstreamGone(Arc<str>),
    /// The upstream, which is so called, gave no response in time, or stopped reading.
    SlowUpstream(Arc<str>),
    /// The head that the role gave could not be written.
    Unwritable,
    /// The role cut it, because the credential has expired.
    Cut,
}

/// What to pass on after a call: bytes first, then the ends.
#[derive(Debug, Default)]
pub struct Output {
    /// Bytes for the caller.
    pub down: Vec<u8>,
    /// Bytes for the upstream.
    pub up: Vec<u8>,
    /// How to end the caller's connection.
    pub down_end: Option<End>,
    /// How to end the upstream connection.
    pub up_end: Option<End>,
}

/// How to end a connection, the mildest first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum End {
    /// Nothing more from us; the peer may go on.
    Finish,
    /// Send what is queued, then close.
    Close,
    /// Drop it at once, so that what was sent cannot look complete.
    Abort,
}

/// How long a response may take to begin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Patience {
    /// A little longer than kube-apiserver gives itself.
    Ordinary,
    /// For hours: watches, logs, sessions.
    LongRunning,
}

impl Output {
    pub(super) fn end_down(&mut self, end: End) {
        self.down_end = self.down_end.max(Some(end));
        if end == End::Abort {
            self.down.clear();
        }
    }

    pub(super) fn end_up(&mut self, end: End) {
        self.up_end = self.up_end.max(Some(end));
        if end == End::Abort {
            self.up.clear();
        }
    }

    /// Nothing is to be passed on.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.down.is_empty()
            && self.up.is_empty()
            && self.down_end.is_none()
            && self.up_end.is_none()
    }
}

impl Failure {
    /// The status that tells the caller.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed(rule) => rule.status(),
            Self::SlowCaller | Self::StalledCaller | Self::CallerGone => 408,
            // kubectl shows the sentence of a 502 and a text of its own for a 503.
            Self::Unreachable(_)
            | Self::BadResponse(_)
            | Self::UnexpectedResponse
            | Self::UpstreamGone(_) => 502,
            Self::SlowUpstream(_) => 504,
            Self::Unwritable => 500,
            Self::Cut => 401,
        }
    }

    /// A word for metrics and the audit log.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed_request",
            Self::SlowCaller => "slow_caller",
            Self::StalledCaller => "stalled_caller",
            Self::CallerGone => "caller_gone",
            Self::Unreachable(_) => "unreachable",
            Self::BadResponse(_) => "bad_response",
            Self::UnexpectedResponse => "unexpected_response",
            Self::UpstreamGone(_) => "upstream_gone",
            Self::SlowUpstream(_) => "slow_upstream",
            Self::Unwritable => "unwritable",
            Self::Cut => "cut",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(rule) => write!(f, "malformed request: {rule}"),
            Self::SlowCaller => f.write_str("the request took too long to arrive"),
            Self::StalledCaller => f.write_str("the caller has stopped reading"),
            Self::CallerGone => f.write_str("the caller has gone"),
            Self::Unreachable(why) => f.write_str(why),
            Self::BadResponse(rule) => write!(f, "malformed response from the upstream: {rule}"),
            Self::UnexpectedResponse => f.write_str("unexpected response from the upstream"),
            Self::UpstreamGone(who) => write!(
                f,
                "{who} closed the connection before it had answered in full; it may be restarting: \
                 try again"
            ),
            Self::SlowUpstream(who) => write!(f, "{who} did not answer in time"),
            Self::Unwritable => f.write_str("the request cannot be passed on"),
            Self::Cut => f.write_str("the token has expired"),
        }
    }
}

impl Error for Failure {}

/// A response that carries a `Status` object and is not to be stored or guessed at. The role may
/// add fields before it sends it.
#[must_use]
pub fn status_response(code: u16, message: &str) -> (ResponseHead, Vec<u8>) {
    response(code, "application/json", status_body(code, status_reason(code), message))
}

/// A response that carries the sentence alone. In discovery, which comes before everything else,
/// kubectl takes no notice of a `Status`, and prints nothing of an error but a text.
pub(super) fn text_response(code: u16, message: &str) -> (ResponseHead, Vec<u8>) {
    response(code, "text/plain; charset=utf-8", message.as_bytes().to_vec())
}

fn response(code: u16, media_type: &str, body: Vec<u8>) -> (ResponseHead, Vec<u8>) {
    let mut head = ResponseHead::new(code, body.len() as u64);
    let challenge = (code == 401).then_some(("WWW-Authenticate", "Bearer"));
    let fields = [
        ("Content-Type", media_type),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ];
    for (name, value) in fields.into_iter().chain(challenge) {
        // Names and values are constants that obey the grammar.
        let _ = head.fields.push(name, value);
    }
    (head, body)
}

//! Audit lines in the shape of audit.k8s.io/v1 at level Metadata, one JSON object each. The same
//! `auditID` stands in kube-apiserver's own log. Never a token, never a body.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::admit::{Admitted, Impersonated};
use super::fault::Refusal;
use crate::auth::{GroupState, Principal};
use crate::engine::exchange::Failure;
use crate::limits::AUDIT_TEXT_MAX;
use crate::role::Peer;
use crate::wire::h1::RequestHead;
use crate::wire::kube::RequestInfo;
use crate::wire::percent;

/// Microseconds since 1970.
type Micros = u64;

/// How far a request has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    ResponseStarted,
    ResponseComplete,
}

/// A request is about to go upstream.
pub(super) fn received(admitted: &Admitted) -> String {
    event(admitted, "RequestReceived", admitted.received).to_string()
}

/// A request has had an answer, or has ended without one.
pub(super) fn served(
    admitted: &Admitted,
    stage: Stage,
    status: u16,
    why: Option<&str>,
    now: Micros,
) -> String {
    let stage = match stage {
        Stage::ResponseStarted => "ResponseStarted",
        Stage::ResponseComplete => "ResponseComplete",
    };
    let mut event = event(admitted, stage, now);
    set(&mut event, "responseStatus", response_status(status));
    if let Some(why) = why {
        annotate(&mut event, "reason", why);
    }
    event.to_string()
}

/// Somebody has measured the tunnel, and so many bytes came and went meanwhile.
pub(super) fn measured(admitted: &Admitted, carried: (u64, u64), now: Micros) -> String {
    let mut event = event(admitted, "ResponseComplete", now);
    set(&mut event, "responseStatus", response_status(200));
    annotate(&mut event, "bytes-received", &carried.0.to_string());
    annotate(&mut event, "bytes-sent", &carried.1.to_string());
    event.to_string()
}

/// A request was answered here, and nothing went upstream.
pub(super) fn refusal(
    refusal: &Refusal,
    head: &RequestHead,
    peer: Peer,
    left_out: u64,
    now: Micros,
) -> String {
    let info = RequestInfo::of(head.method(), head.target());
    let mut event = base(&refusal.audit_id, "ResponseComplete", now, now);
    set(&mut event, "requestURI", json!(short(&clean_uri(head.target()))));
    set(&mut event, "verb", json!(short(&info.verb)));
    let agent = head.fields.text("user-agent").unwrap_or_default();
    set(&mut event, "userAgent", json!(short(agent)));
    if let Some(principal) = &refusal.principal {
        set(&mut event, "user", user(principal));
    }
    refused(event, refusal.status, refusal.code, &refusal.detail, peer, left_out)
}

/// What came was no request, or never became a whole one.
pub(super) fn no_request(
    failure: &Failure,
    audit_id: &str,
    peer: Peer,
    left_out: u64,
    now: Micros,
) -> String {
    let event = base(audit_id, "ResponseComplete", now, now);
    refused(event, failure.status(), failure.code(), &failure.to_string(), peer, left_out)
}

fn refused(
    mut event: Value,
    status: u16,
    code: &str,
    detail: &str,
    peer: Peer,
    left_out: u64,
) -> String {
    set(&mut event, "responseStatus", response_status(status));
    annotate(&mut event, "reason", code);
    annotate(&mut event, "detail", short(detail));
    annotate(&mut event, "tunnel-peer", &peer_text(peer));
    if 0 < left_out {
        annotate(&mut event, "refusals-left-out", &left_out.to_string());
    }
    event.to_string()
}

/// An operator has cut a session, or what was in flight on it.
pub(super) fn operator_cut(id: &str, user: &str, audit_id: &str, now: Micros) -> String {
    let mut event = base(audit_id, "ResponseComplete", now, now);
    set(&mut event, "requestURI", json!(format!("/sessions/{id}")));
    set(&mut event, "verb", json!("delete"));
    set(&mut event, "user", json!({ "username": "operator" }));
    set(&mut event, "responseStatus", response_status(200));
    annotate(&mut event, "cut-user", user);
    event.to_string()
}

/// What every event has.
fn base(audit_id: &str, stage: &str, received: Micros, at: Micros) -> Value {
    json!({
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": audit_id,
        "stage": stage,
        "requestURI": "",
        "verb": "",
        "user": {},
        "sourceIPs": [],
        "requestReceivedTimestamp": timestamp(received),
        "stageTimestamp": timestamp(at),
        "annotations": {},
    })
}

fn event(admitted: &Admitted, stage: &str, at: Micros) -> Value {
    let mut event = base(&admitted.audit_id, stage, admitted.received, at);
    set(&mut event, "requestURI", json!(short(&clean_uri(&admitted.target))));
    set(&mut event, "verb", json!(short(&admitted.info.verb)));
    set(&mut event, "user", user(&admitted.principal));
    set(&mut event, "userAgent", json!(short(&admitted.user_agent)));
    if admitted.info.is_resource {
        set(&mut event, "objectRef", object_ref(&admitted.info));
    }
    annotate(&mut event, "tunnel-peer", &peer_text(admitted.peer));
    if !admitted.principal.credential_id.is_empty() {
        annotate(&mut event, "credential-id", &admitted.principal.credential_id);
    }
    if admitted.principal.group_state == GroupState::Ignored {
        annotate(&mut event, "groups", "left out: too many for a token");
    }
    if admitted.anonymous {
        annotate(&mut event, "credential", "service account, passed through");
    }
    if let Some(other) = &admitted.acts_as {
        let Impersonated { user, groups } = other;
        set(&mut event, "impersonatedUser", json!({ "username": user, "groups": groups }));
    }
    event
}

fn set(event: &mut Value, name: &str, value: Value) {
    if let Some(fields) = event.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
}

/// A `metav1.Status`. No code means that there was no answer.
fn response_status(code: u16) -> Value {
    match code {
        0 => json!({}),
        400.. => json!({ "code": code, "status": "Failure" }),
        _ => json!({ "code": code }),
    }
}

fn user(principal: &Principal) -> Value {
    let extra: serde_json::Map<String, Value> =
        principal.extra.iter().map(|(key, value)| (key.clone(), json!([value]))).collect();
    json!({
        "username": principal.user,
        "uid": principal.subject,
        "groups": principal.groups,
        "extra": extra,
    })
}

fn object_ref(info: &RequestInfo) -> Value {
    let parts = [
        ("resource", &info.resource),
        ("namespace", &info.namespace),
        ("name", &info.name),
        ("apiGroup", &info.group),
        ("apiVersion", &info.version),
        ("subresource", &info.subresource),
    ];
    let parts = parts.into_iter().filter(|(_, value)| !value.is_empty());
    parts
        .map(|(key, value)| (key.to_owned(), json!(short(value))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn annotate(event: &mut Value, name: &str, text: &str) {
    let key = format!("{}/{name}", crate::auth::impersonate::EXTRA_DOMAIN);
    if let Some(annotations) = event.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.insert(key, json!(text));
    }
}

pub(super) fn peer_text(peer: Peer) -> String {
    match peer {
        Peer::Tcp(address) => address.to_string(),
        Peer::Local => "local".into(),
    }
}

/// The beginning of what a caller has sent: enough to see what it was, and too little to push
/// everybody else's lines out of a log that rotates.
fn short(text: &str) -> &str {
    text.get(..text.floor_char_boundary(AUDIT_TEXT_MAX)).unwrap_or(text)
}

/// The target without what some clients put a token into.
pub(super) fn clean_uri(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else { return target.into() };
    let secret = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        let name = percent::decode(name).unwrap_or_else(|| name.to_owned());
        ["access_token", "token", "id_token"].iter().any(|it| it.eq_ignore_ascii_case(&name))
    };
    let kept: Vec<&str> = query.split('&').filter(|pair| !secret(pair)).collect();
    if kept.is_empty() { path.into() } else { format!("{path}?{}", kept.join("&")) }
}

/// A `metav1.MicroTime`, which has six digits behind the point, always.
fn timestamp(now: Micros) -> String {
    let (seconds, micros) = (now / 1_000_000, now % 1_000_000);
    let seconds = i64::try_from(seconds).ok();
    let time = seconds.and_then(|it| OffsetDateTime::from_unix_timestamp(it).ok());
    let text = time.and_then(|it| it.format(&Rfc3339).ok()).unwrap_or_default();
    format!("{}.{micros:06}Z", text.trim_end_matches('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_the_query_is_not_written_down() {
        assert_eq!(clean_uri("/api?watch=1&access_token=s3cret&x=y"), "/api?watch=1&x=y");
        assert_eq!(clean_uri("/api?Token=s3cret"), "/api");
        assert_eq!(clean_uri("/api?access%5ftoken=s3cret&%74oken=s3cret&a=b"), "/api?a=b");
        assert_eq!(clean_uri("/api"), "/api");
    }

    #[test]
    fn times_have_the_six_digits_that_kubernetes_asks_for() {
        assert_eq!(timestamp(1_795_478_400_000_000), "2026-11-24T00:00:00.000000Z");
        assert_eq!(timestamp(1_795_478_400_000_042), "2026-11-24T00:00:00.000042Z");
    }
}

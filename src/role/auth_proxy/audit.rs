//! Audit lines in the shape of audit.k8s.io/v1 at level Metadata, one JSON object each. The same
//! `auditID` stands in kube-apiserver's own log. Never a token, never a body.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::admit::{Admitted, Refusal};
use crate::auth::{GroupState, Principal};
use crate::limits::AUDIT_TEXT_MAX;
use crate::role::Peer;
use crate::wire::h1::RequestHead;
use crate::wire::kube::RequestInfo;

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
    unix_now: u64,
) -> String {
    let stage = match stage {
        Stage::ResponseStarted => "ResponseStarted",
        Stage::ResponseComplete => "ResponseComplete",
    };
    let mut event = event(admitted, stage, unix_now);
    if let Some(fields) = event.as_object_mut() {
        fields.insert("responseStatus".into(), json!({ "code": status }));
    }
    if let Some(why) = why {
        annotate(&mut event, "reason", why);
    }
    event.to_string()
}

/// A request was answered here, and nothing went upstream.
pub(super) fn refusal(
    refusal: &Refusal,
    head: &RequestHead,
    peer: Peer,
    left_out: u64,
    unix_now: u64,
) -> String {
    let info = RequestInfo::of(head.method(), head.target());
    let mut event = json!({
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": refusal.audit_id,
        "stage": "ResponseComplete",
        "requestURI": short(&clean_uri(head.target())),
        "verb": short(&info.verb),
        "user": {},
        "sourceIPs": [],
        "userAgent": short(head.fields.text("user-agent").unwrap_or_default()),
        "responseStatus": { "code": refusal.status },
        "requestReceivedTimestamp": timestamp(unix_now),
        "stageTimestamp": timestamp(unix_now),
        "annotations": {},
    });
    annotate(&mut event, "reason", refusal.code);
    annotate(&mut event, "detail", short(&refusal.detail));
    annotate(&mut event, "tunnel-peer", &peer_text(peer));
    if 0 < left_out {
        annotate(&mut event, "refusals-left-out", &left_out.to_string());
    }
    event.to_string()
}

/// An operator has cut a session, or what was in flight on it.
pub(super) fn operator_cut(id: &str, user: &str, unix_now: u64) -> String {
    let mut event = json!({
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "stage": "ResponseComplete",
        "requestURI": format!("/sessions/{id}"),
        "verb": "delete",
        "user": { "username": "operator" },
        "responseStatus": { "code": 200 },
        "requestReceivedTimestamp": timestamp(unix_now),
        "stageTimestamp": timestamp(unix_now),
        "annotations": {},
    });
    annotate(&mut event, "cut-user", user);
    event.to_string()
}

fn event(admitted: &Admitted, stage: &str, at: u64) -> Value {
    let mut event = json!({
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": admitted.audit_id,
        "stage": stage,
        "requestURI": clean_uri(&admitted.target),
        "verb": admitted.info.verb,
        "user": user(&admitted.principal),
        "sourceIPs": [],
        "userAgent": admitted.user_agent,
        "requestReceivedTimestamp": timestamp(admitted.received),
        "stageTimestamp": timestamp(at),
        "annotations": {},
    });
    if admitted.info.is_resource
        && let Some(fields) = event.as_object_mut()
    {
        fields.insert("objectRef".into(), object_ref(&admitted.info));
    }
    annotate(&mut event, "tunnel-peer", &peer_text(admitted.peer));
    if admitted.principal.group_state == GroupState::Ignored {
        annotate(&mut event, "groups", "left out: too many for a token");
    }
    if admitted.anonymous {
        annotate(&mut event, "credential", "service account, passed through");
    }
    if let (Some(other), Some(fields)) = (&admitted.acts_as, event.as_object_mut()) {
        fields.insert("impersonatedUser".into(), json!({ "username": other }));
    }
    event
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
        .map(|(key, value)| (key.to_owned(), json!(value)))
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

/// The beginning of what a stranger has sent: enough to see what it was.
fn short(text: &str) -> &str {
    text.get(..text.floor_char_boundary(AUDIT_TEXT_MAX)).unwrap_or(text)
}

/// The target without what some clients put a token into.
pub(super) fn clean_uri(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else { return target.into() };
    let secret = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        ["access_token", "token", "id_token"].iter().any(|it| it.eq_ignore_ascii_case(name))
    };
    let kept: Vec<&str> = query.split('&').filter(|pair| !secret(pair)).collect();
    if kept.is_empty() { path.into() } else { format!("{path}?{}", kept.join("&")) }
}

fn timestamp(unix: u64) -> String {
    let time = i64::try_from(unix).ok().and_then(|it| OffsetDateTime::from_unix_timestamp(it).ok());
    time.and_then(|it| it.format(&Rfc3339).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_the_query_is_not_written_down() {
        assert_eq!(clean_uri("/api?watch=1&access_token=s3cret&x=y"), "/api?watch=1&x=y");
        assert_eq!(clean_uri("/api?Token=s3cret"), "/api");
        assert_eq!(clean_uri("/api"), "/api");
        assert_eq!(timestamp(1_795_478_400), "2026-11-24T00:00:00Z");
    }
}

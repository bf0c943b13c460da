//! What stands in the audit log afterwards.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::time::Duration;

use cluster_connect::limits::{HEAD_TIMEOUT, REFUSAL_NOTES};
use cluster_connect::role::Peer;
use serde_json::Value;

use crate::gate::Gate;
use crate::{UPGRADE, alice, allowed, get, request, status};

const DOMAIN: &str = "cluster-connect.internal";

fn lines(gate: &Gate) -> Vec<Value> {
    gate.net.audit.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn reason(line: &Value) -> &str {
    line["annotations"][format!("{DOMAIN}/reason")].as_str().unwrap_or_default()
}

/// What an `audit.k8s.io/v1` event must have for Kubernetes' own tools to read it.
fn check(line: &Value) {
    assert_eq!((&line["kind"], &line["apiVersion"]), (&"Event".into(), &"audit.k8s.io/v1".into()));
    assert_eq!(line["level"], "Metadata");
    let stage = line["stage"].as_str().unwrap();
    assert!(["RequestReceived", "ResponseStarted", "ResponseComplete"].contains(&stage), "{line}");
    assert_eq!(line["auditID"].as_str().unwrap().len(), 36, "{line}");
    for time in ["requestReceivedTimestamp", "stageTimestamp"] {
        let time = line[time].as_str().unwrap();
        let shape: String =
            time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000000Z");
    }
    assert!(line["user"].is_object() && line["annotations"].is_object(), "{line}");
    assert!(line["verb"].is_string() && line["requestURI"].is_string(), "{line}");
    for (_, value) in line["annotations"].as_object().unwrap() {
        assert!(value.is_string(), "{line}");
    }
}

#[test]
fn no_caller_fills_the_log_with_a_few_requests() {
    let mut gate = Gate::new(|_| ());
    let (agent, name) = ("k".repeat(20_000), "p".repeat(3_000));
    let target = format!("/api/v1/namespaces/a/pods/{name}?pretty={name}");
    gate.ask(&get(&target, &alice(), &format!("User-Agent: {agent}\r\n")));
    let (conn, ..) = gate.upstream();
    gate.reply(conn, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(gate.net.audit.len(), 2);
    for line in &gate.net.audit {
        assert!(line.len() < 6_000, "{} bytes", line.len());
    }
}

#[test]
fn a_request_is_written_down_before_it_goes_on_and_when_it_ends() {
    let mut gate = Gate::new(|_| ());
    gate.ask(&get("/api/v1/namespaces/a/pods/b?pretty=1", &alice(), "User-Agent: k\r\n"));
    assert_eq!(gate.net.audit.len(), 1);
    let (conn, _, head) = gate.upstream();
    gate.reply(conn, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    let all = lines(&gate);
    all.iter().for_each(check);
    let stages: Vec<_> = all.iter().map(|line| line["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["RequestReceived", "ResponseComplete"]);
    let (first, last) = (&all[0], &all[1]);
    assert_eq!(first["auditID"], last["auditID"]);
    assert!(head.contains(&format!("Audit-ID: {}\r\n", first["auditID"].as_str().unwrap())));
    assert_eq!((&last["user"]["username"], &last["verb"]), (&"alice".into(), &"get".into()));
    assert_eq!(last["responseStatus"], serde_json::json!({"code": 404, "status": "Failure"}));
    assert_eq!(last["objectRef"]["name"], "b");
    assert_eq!(last["userAgent"], "k");
}

#[test]
fn a_stream_is_written_down_when_it_begins_too() {
    for (target, fields) in
        [("/api/v1/pods?watch=1", ""), ("/api/v1/namespaces/a/pods/b/exec", UPGRADE)]
    {
        let mut gate = Gate::new(|_| ());
        gate.ask(&get(target, &alice(), fields));
        let (conn, _, _) = gate.upstream();
        let answer = if fields.is_empty() {
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        } else {
            crate::SWITCHED
        };
        gate.reply(conn, answer);
        let all = lines(&gate);
        all.iter().for_each(check);
        assert_eq!(all.last().unwrap()["stage"], "ResponseStarted", "{target}");
    }
}

#[test]
fn a_refused_request_is_written_down_with_its_reason() {
    for (text, code, why) in [
        (request("garbage", ""), 401, "malformed"),
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 401, "no_credential"),
        (request(&alice(), "Impersonate-User: root\r\n"), 403, "impersonation"),
        (request(&alice(), "Connection: Impersonate-User\r\n"), 400, "protected_option"),
        (request(&alice(), "X: a\0b\r\n"), 400, "malformed_request"),
        (request(&alice(), "X : b\r\n"), 400, "malformed_request"),
        ("GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 400, "malformed_request"),
        ("\n".to_owned(), 400, "malformed_request"),
    ] {
        let mut gate = Gate::new(|_| ());
        let stream = gate.ask(&text);
        assert_eq!(status(&gate.heard(stream)), code.to_string(), "{text:?}");
        let all = lines(&gate);
        all.iter().for_each(check);
        let [line] = all.as_slice() else { panic!("{text:?}: {all:?}") };
        assert_eq!(
            (&line["responseStatus"]["code"], reason(line)),
            (&code.into(), why),
            "{text:?}"
        );
        let page = gate.visit(Peer::Local, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(page.contains(&format!("authproxy_rejected_total{{reason=\"{why}\"}} 1\n")));
    }
}

#[test]
fn a_head_that_never_ends_is_written_down() {
    let mut gate = Gate::new(|_| ());
    let stream = gate.ask("GET / HT");
    gate.pass(HEAD_TIMEOUT);
    assert_eq!(status(&gate.heard(stream)), "408");
    assert_eq!(reason(&lines(&gate)[0]), "slow_caller");
}

#[test]
fn a_refusal_of_somebody_who_is_known_names_them() {
    let mut gate = Gate::new(|config| config.in_flight.caller = 1);
    gate.ask(&request(&alice(), ""));
    gate.ask(&request(&alice(), ""));
    let crowded = lines(&gate).pop().unwrap();
    assert_eq!((reason(&crowded), &crowded["user"]["username"]), ("crowded", &"alice".into()));

    let mut gate = Gate::new(|config| config.impersonation = true);
    gate.ask(&request(&alice(), "Impersonate-User: bob\r\n"));
    gate.answer(allowed(false));
    let denied = lines(&gate).pop().unwrap();
    assert_eq!(reason(&denied), "impersonation_denied");
    assert_eq!(denied["user"]["username"], "alice");
}

#[test]
fn whom_a_caller_acted_as_is_written_down_with_the_groups() {
    let mut gate = Gate::new(|config| config.impersonation = true);
    gate.ask(&request(&alice(), "Impersonate-User: bob\r\nImpersonate-Group: dev\r\n"));
    gate.answer(allowed(true));
    gate.answer(allowed(true));
    let line = lines(&gate).pop().unwrap();
    check(&line);
    let other = serde_json::json!({"username": "bob", "groups": ["dev"]});
    assert_eq!(line["impersonatedUser"], other);
}

#[test]
fn a_flood_of_malformed_requests_does_not_fill_the_log() {
    let mut gate = Gate::new(|_| ());
    for _ in 0..REFUSAL_NOTES + 20 {
        gate.ask("\n");
    }
    assert_eq!(gate.net.audit.len(), usize::try_from(REFUSAL_NOTES).unwrap());
    gate.pass(Duration::from_secs(30));
    gate.ask("\n");
    let line = lines(&gate).pop().unwrap();
    assert_eq!(line["annotations"][format!("{DOMAIN}/refusals-left-out")], "20");
}

#[test]
fn an_operators_cut_is_an_event_as_any_other() {
    let mut gate = Gate::new(|_| ());
    gate.ask(&get("/api/v1/pods?watch=1", &alice(), ""));
    let order = "DELETE /sessions?user=alice HTTP/1.1\r\nHost: x\r\n\r\n";
    gate.visit(Peer::Local, order);
    let all = lines(&gate);
    all.iter().for_each(check);
    assert!(all.iter().any(|line| line["user"]["username"] == "operator"));
}

//! HTTP as leniently as kube-apiserver reads it: what a front end must never let through works
//! here, so that letting it through shows.

use super::trial::{Trial, trial};
use super::{admin, client, demo, server};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(transfer_encoding_wins_over_content_length_and_what_follows_runs),
        trial(pipelined_requests_are_answered_in_order),
        trial(bare_line_feeds_and_folded_fields_are_read),
        trial(an_escaped_slash_is_decoded_before_routing),
        trial(a_refused_upgrade_leaves_the_connection_open),
        trial(a_body_is_asked_for_only_once_the_caller_is_allowed),
        trial(malformed_heads_are_refused_and_the_connection_closed),
        trial(old_and_closing_requests_end_the_connection),
        trial(a_body_that_is_too_large_is_refused),
        trial(stopping_kills_every_connection_and_the_address_can_be_taken_again),
    ]
}

fn transfer_encoding_wins_over_content_length_and_what_follows_runs() {
    let server = server();
    let mut client = client(&server);
    let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"smuggler"}}"#;
    client.send(format!(
        "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: kubernetes\r\n{}\
         Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n\
         GET /api/v1/namespaces/default/configmaps/smuggler HTTP/1.1\r\nHost: kubernetes\r\n{}\r\n",
        admin(&server),
        body.len(),
        admin(&server),
    ));
    assert_eq!(client.response().code, 201);
    let second = client.response();
    assert_eq!(second.code, 200, "{}", second.text());
    assert_eq!(client.get("/version", "").code, 200);
}

fn pipelined_requests_are_answered_in_order() {
    let server = server();
    let mut client = client(&server);
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: k\r\n\r\n");
    client.send(format!("{}{}{}", get("/version"), get("/nothing"), get("/healthz")));
    assert_eq!(client.response().code, 200);
    assert_eq!(client.response().code, 403);
    assert_eq!(client.response().text(), "ok");
}

fn bare_line_feeds_and_folded_fields_are_read() {
    let server = server();
    let mut client = client(&server);
    client.send("GET /version HTTP/1.1\nHost: kubernetes\n\n");
    assert_eq!(client.response().code, 200);
    let folded = admin(&server).replace("Bearer ", "Bearer\r\n  ");
    assert_eq!(client.get("/api/v1/namespaces", &folded).code, 200);
}

fn an_escaped_slash_is_decoded_before_routing() {
    let server = server();
    let answer = client(&server).get("/api%2fv1%2Fnamespaces/default%2fpods", &admin(&server));
    assert_eq!(answer.json()["kind"], "PodList");
}

fn a_refused_upgrade_leaves_the_connection_open() {
    let server = server();
    let mut client = client(&server);
    let exec = "/api/v1/namespaces/default/pods/web/exec?command=true&stdout=1";
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    assert_eq!(client.get(exec, upgrade).code, 403);
    let no_protocol = format!("{}{upgrade}Sec-WebSocket-Protocol: other\r\n", admin(&server));
    assert_eq!(client.get(exec, &no_protocol).code, 400);
    assert_eq!(client.get("/version", "").code, 200);
}

fn a_body_is_asked_for_only_once_the_caller_is_allowed() {
    let server = server();
    let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"awaited"}}"#;
    let head = |fields: &str| {
        format!(
            "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: kubernetes\r\n{fields}\
             Expect: 100-continue\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
    };
    let mut allowed = client(&server);
    allowed.send(head(&admin(&server)));
    assert_eq!(allowed.response().code, 100);
    allowed.send(body);
    assert_eq!(allowed.response().code, 201);

    let mut refused = client(&server);
    refused.send(head(""));
    assert_eq!(refused.response().code, 403);
    assert!(refused.is_closed());
}

fn malformed_heads_are_refused_and_the_connection_closed() {
    let server = server();
    for (request, code) in [
        ("GET /version HTTP/1.1\r\n\r\n", 400),
        ("GET /version HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET /version HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("GET /version HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400),
        ("GET /version HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n", 400),
        ("GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /version\r\nHost: a\r\n\r\n", 400),
        ("GET /version HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("GET /version HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n", 400),
        ("GET /version HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", 400),
        ("GET /version HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    ] {
        let mut client = client(&server);
        client.send(request);
        assert_eq!(client.response().code, code, "{request:?}");
        assert!(client.is_closed(), "{request:?}");
    }
}

fn old_and_closing_requests_end_the_connection() {
    let server = server();
    let mut old = client(&server);
    old.send("GET /version HTTP/1.0\r\n\r\n");
    assert_eq!(old.response().code, 200);
    assert!(old.is_closed());
    let mut closing = client(&server);
    assert_eq!(closing.get("/version", "Connection: close\r\n").code, 200);
    assert!(closing.is_closed());
}

fn a_body_that_is_too_large_is_refused() {
    let server = server();
    let mut client = client(&server);
    client.send(format!(
        "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: kubernetes\r\n{}\
         Content-Length: 4000000\r\n\r\n",
        admin(&server)
    ));
    assert_eq!(client.response().code, 413);
}

fn stopping_kills_every_connection_and_the_address_can_be_taken_again() {
    // An address at which nobody else is given a port meanwhile.
    let listen = ([127, 13, 77, 1], 0).into();
    let server = demo::Server::start(demo::Options { listen, ..demo::Options::default() });
    let server = server.expect("the server starts");
    let mut before = client(&server);
    assert_eq!(before.get("/version", "").code, 200);
    server.stop();
    assert!(before.is_closed());
    server.restart().expect("the address is free");
    let mut after = client(&server);
    assert_eq!(after.get("/api/v1/namespaces/demo", &admin(&server)).code, 200);
    server.kill_connections();
    assert!(after.is_closed());
    assert_eq!(client(&server).get("/version", "").code, 200);
}

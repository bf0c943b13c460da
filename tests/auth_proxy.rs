//! The auth proxy as a caller, an API server and an operator see it.

#[path = "gate/answers.rs"]
mod answers;
#[path = "gate/fetched.rs"]
mod fetched;
mod gate;
#[path = "gate/ready.rs"]
mod ready;
mod sim;
#[path = "gate/strangers.rs"]
mod strangers;
mod support;
#[path = "chain/tokens.rs"]
mod tokens;
#[path = "gate/written.rs"]
mod written;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cluster_connect::auth::fields::HeaderPolicy;
use cluster_connect::limits::{PARKED_TIMEOUT, REFUSALS, REVIEW_NO, REVIEW_YES};
use cluster_connect::role::{ConnId, Event, ListenerTag, Peer};
use serde_json::{Value, json};

use gate::{ACCOUNTS, Gate, OWN_TOKEN};
use sim::EPOCH;

const ACCOUNT: &str = "system:serviceaccount:build:runner";

fn request(token: &str, fields: &str) -> String {
    get("/api/v1/pods", token, fields)
}

fn get(target: &str, token: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{fields}\r\n")
}

fn alice() -> String {
    tokens::token("alice", "cluster", EPOCH, 3600)
}

/// What a service account might send: nobody but the API server can tell whether it is good.
fn account(serial: u64) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(json!({"alg": "RS256", "kid": "k"}));
    let claims = part(json!({"iss": ACCOUNTS, "exp": EPOCH + 3600, "jti": serial}));
    format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode("signature"))
}

fn known() -> Result<(u16, String), String> {
    let status = json!({"authenticated": true, "user": {"username": ACCOUNT, "uid": "u-1"}});
    Ok((201, json!({"kind": "TokenReview", "status": status}).to_string()))
}

fn unknown() -> Result<(u16, String), String> {
    let status = json!({"authenticated": false});
    Ok((201, json!({"kind": "TokenReview", "status": status}).to_string()))
}

fn allowed(yes: bool) -> Result<(u16, String), String> {
    let status = json!({"allowed": yes});
    Ok((201, json!({"kind": "SubjectAccessReview", "status": status}).to_string()))
}

fn passing() -> Gate {
    Gate::new(|config| config.sa_passthrough = true)
}

fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or(answer)
}

#[test]
fn a_service_accounts_token_goes_on_alone_once_it_was_reviewed() {
    let mut gate = passing();
    let token = account(1);
    let stream = gate.ask(&request(&token, "Impersonate-User: bob\r\n"));
    assert!(gate.net.dialled.is_empty(), "nothing goes upstream before the answer");
    let call = gate.answer(known());
    assert_eq!(call.url, "https://apiserver.test/apis/authentication.k8s.io/v1/tokenreviews");
    assert_eq!(call.headers[0].1.expose(), &format!("Bearer {OWN_TOKEN}"));
    let body: Value = serde_json::from_slice(&call.body).unwrap();
    assert_eq!(body["spec"], json!({"token": token}));
    let (conn, place, head) = gate.upstream();
    assert_eq!(place, "theirs", "never on a connection with a credential of ours");
    assert!(head.contains(&format!("Authorization: Bearer {token}\r\n")), "{head}");
    assert!(head.contains("Impersonate-User: bob\r\n"), "left to the API server: {head}");
    assert!(!head.contains(OWN_TOKEN) && !head.contains("Impersonate-Group"), "{head}");
    gate.reply(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    assert!(gate.heard(stream).ends_with("ok"));
    let line: Value = serde_json::from_str(&gate.net.audit[0]).unwrap();
    assert_eq!(line["user"]["username"], ACCOUNT);
    assert!(!gate.net.audit.concat().contains(&token));
}

#[test]
fn a_review_counts_for_ten_seconds_and_for_its_token_only() {
    let mut gate = passing();
    gate.ask(&request(&account(1), ""));
    gate.answer(known());
    gate.upstream();
    gate.pass(REVIEW_YES - Duration::from_secs(1));
    gate.ask(&request(&account(1), ""));
    assert!(gate.net.jobs.is_empty());
    gate.upstream();
    gate.ask(&request(&account(2), ""));
    assert_eq!(gate.net.jobs.len(), 1);
    assert!(gate.net.dialled.is_empty());
    gate.pass(Duration::from_secs(1));
    gate.ask(&request(&account(1), ""));
    assert_eq!(gate.net.jobs.len(), 2);
}

#[test]
fn the_requests_of_one_session_do_not_take_every_place_to_wait() {
    let mut gate = passing();
    let streams: Vec<_> = (0..70).map(|_| gate.ask(&request(&account(1), ""))).collect();
    let refused = streams.iter().filter(|id| status(&gate.heard(**id)) == "503").count();
    assert_eq!((refused, gate.net.jobs.len()), (6, 1), "64 wait");
    gate.answer(known());
    assert_eq!(gate.net.dialled.len(), 64);
}

#[test]
fn requests_with_one_token_share_one_question() {
    let mut gate = passing();
    for _ in 0..5 {
        gate.ask(&request(&account(1), ""));
    }
    assert_eq!(gate.net.jobs.len(), 1);
    gate.answer(known());
    assert_eq!(gate.net.dialled.len(), 5);
}

#[test]
fn a_token_that_is_not_good_is_refused_and_not_asked_about_for_five_seconds() {
    let mut gate = passing();
    let stream = gate.ask(&request(&account(1), ""));
    gate.answer(unknown());
    assert_eq!(status(&gate.heard(stream)), "401");
    let stream = gate.ask(&request(&account(1), ""));
    assert_eq!(status(&gate.heard(stream)), "401");
    assert!(gate.net.jobs.is_empty() && gate.net.dialled.is_empty());
    gate.pass(REVIEW_NO);
    gate.ask(&request(&account(1), ""));
    assert_eq!(gate.net.jobs.len(), 1);
}

#[test]
fn an_api_server_that_cannot_be_asked_lets_nobody_in() {
    for failure in
        [Err("connection refused".to_owned()), Ok((403, "{}".to_owned())), Ok((500, String::new()))]
    {
        let mut gate = passing();
        let stream = gate.ask(&request(&account(1), ""));
        gate.answer(failure);
        let answer = gate.heard(stream);
        assert_eq!(status(&answer), "503");
        assert!(answer.contains("Retry-After: 1\r\n"), "{answer}");
        assert!(gate.net.dialled.is_empty());
    }
    for garbage in ["", "<html>", "{}", r#"{"kind":"TokenReview","status":{"authenticated":1}}"#] {
        let mut gate = passing();
        let stream = gate.ask(&request(&account(1), ""));
        gate.answer(Ok((201, garbage.to_owned())));
        assert_eq!(status(&gate.heard(stream)), "401", "{garbage}");
        assert!(gate.net.dialled.is_empty());
    }
}

#[test]
fn a_request_does_not_wait_for_ever_and_a_late_answer_harms_nobody() {
    let mut gate = passing();
    let stream = gate.ask(&request(&account(1), ""));
    gate.pass(PARKED_TIMEOUT);
    assert_eq!(status(&gate.heard(stream)), "503");
    gate.answer(known());
    assert!(gate.net.dialled.is_empty());
    assert_eq!(gate.heard(stream), "");
    assert_eq!(gate.proxy.leftovers(), (1, 0, 0));
}

#[test]
fn a_caller_that_goes_away_while_it_waits_leaves_nothing_behind() {
    let mut gate = passing();
    gate.ask(&request(&account(1), ""));
    let session = gate.session;
    gate.emit(Event::Closed(session, cluster_connect::role::Close::Reset));
    gate.answer(known());
    assert!(gate.net.dialled.is_empty());
    assert_eq!(gate.proxy.leftovers(), (0, 0, 0));
}

#[test]
fn a_service_accounts_token_without_passthrough_is_nobodys() {
    let mut gate = Gate::new(|_| ());
    let stream = gate.ask(&request(&account(1), ""));
    assert_eq!(status(&gate.heard(stream)), "401");
    assert!(gate.net.jobs.is_empty() && gate.net.dialled.is_empty());
}

#[test]
fn kubectl_as_is_refused_unless_every_part_is_allowed() {
    let fields = "Impersonate-User: bob\r\nImpersonate-Group: dev\r\n";
    let mut gate = Gate::new(|_| ());
    let stream = gate.ask(&request(&alice(), fields));
    assert_eq!(status(&gate.heard(stream)), "403");
    assert!(gate.net.jobs.is_empty() && gate.net.dialled.is_empty());

    let mut gate = Gate::new(|config| config.impersonation = true);
    let stream = gate.ask(&request(&alice(), fields));
    let questions = [gate.answer(allowed(true)), gate.answer(allowed(false))];
    for call in questions {
        let body: Value = serde_json::from_slice(&call.body).unwrap();
        assert_eq!(body["spec"]["user"], "alice");
    }
    assert_eq!(status(&gate.heard(stream)), "403");
    assert!(gate.net.dialled.is_empty());
}

#[test]
fn kubectl_as_goes_on_as_the_other_with_the_original_beside_it() {
    let mut gate = Gate::new(|config| config.impersonation = true);
    let fields = "Impersonate-User: bob\r\nImpersonate-Group: dev\r\n";
    gate.ask(&request(&alice(), fields));
    gate.answer(allowed(true));
    assert!(gate.net.dialled.is_empty(), "the second answer is still open");
    gate.answer(allowed(true));
    let (_, place, head) = gate.upstream();
    assert_eq!(place, "ours");
    for line in [
        "Impersonate-User: bob\r\n",
        "Impersonate-Group: system:authenticated\r\n",
        "Impersonate-Group: dev\r\n",
        "Impersonate-Extra-original-user-info.cluster-connect.internal: {",
    ] {
        assert_eq!(head.matches(line).count(), 1, "{head}");
    }
    assert_eq!(head.matches("Impersonate-User").count(), 1);
    assert!(head.contains(OWN_TOKEN) && !head.contains(&alice()));
    let line: Value = serde_json::from_str(&gate.net.audit[0]).unwrap();
    assert_eq!(
        (&line["user"]["username"], &line["impersonatedUser"]["username"]),
        (&json!("alice"), &json!("bob"))
    );
    gate.ask(&request(&alice(), fields));
    assert!(gate.net.jobs.is_empty(), "a yes counts for ten seconds");
    // Another caller is another question.
    let mallory = tokens::token("mallory", "cluster", EPOCH, 3600);
    gate.net.dialled.clear();
    gate.ask(&request(&mallory, fields));
    assert_eq!((gate.net.jobs.len(), gate.net.dialled.len()), (2, 0));
}

#[test]
fn nobody_is_asked_about_what_nobody_may_impersonate() {
    let many: String = (0..32).map(|n| format!("Impersonate-Group: g{n}\r\n")).collect();
    for fields in [
        "Impersonate-User: system:admin\r\n",
        "Impersonate-User: bob\r\nImpersonate-Group: system:masters\r\n",
        "Impersonate-User: bob\r\nImpersonate_Group: dev\r\n",
        "Impersonate-User: bob\r\nImpersonate-User: carol\r\n",
        "Impersonate-User:\r\n",
        "Impersonate-Group: dev\r\n",
        "Impersonate-User: bob\r\nImpersonate-Extra-cluster-connect.internal%2fcredential-id: x\r\n",
        &format!("Impersonate-User: bob\r\n{many}"),
    ] {
        let mut gate = Gate::new(|config| config.impersonation = true);
        let stream = gate.ask(&request(&alice(), fields));
        assert_eq!(status(&gate.heard(stream)), "403", "{fields}");
        assert!(gate.net.jobs.is_empty() && gate.net.dialled.is_empty(), "{fields}");
    }
}

#[test]
fn requests_in_flight_are_limited_as_configured() {
    let limits: [fn(&mut cluster_connect::role::auth_proxy::Config); 3] = [
        |config| config.in_flight.caller = 1,
        |config| config.in_flight.session = 1,
        |config| config.in_flight.all = 1,
    ];
    for limit in limits {
        let mut gate = Gate::new(limit);
        gate.ask(&request(&alice(), ""));
        let (conn, _, _) = gate.upstream();
        let second = gate.ask(&request(&alice(), ""));
        let answer = gate.heard(second);
        assert!(status(&answer) == "429" && answer.contains("Retry-After: 1\r\n"), "{answer}");
        gate.reply(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        gate.say(second, &request(&alice(), ""));
        assert_eq!(gate.net.dialled.len(), 1);
    }
}

#[test]
fn a_flood_of_bad_credentials_is_throttled_until_time_has_passed() {
    let mut gate = Gate::new(|_| ());
    for _ in 0..REFUSALS {
        let stream = gate.ask(&request("garbage", ""));
        assert_eq!(status(&gate.heard(stream)), "401");
    }
    let stream = gate.ask(&request("garbage", ""));
    assert_eq!(status(&gate.heard(stream)), "429");
    gate.pass(Duration::from_secs(10));
    gate.ask(&request(&alice(), ""));
    assert_eq!(gate.net.dialled.len(), 1);
}

#[test]
fn what_cannot_be_written_down_does_not_go_on_unless_configured() {
    let mut gate = Gate::new(|_| ());
    gate.net.is_audit_broken = true;
    let stream = gate.ask(&request(&alice(), ""));
    assert_eq!(status(&gate.heard(stream)), "503");
    assert!(gate.net.dialled.is_empty());
    let mut gate = Gate::new(|config| config.audit_fail_open = true);
    gate.net.is_audit_broken = true;
    gate.ask(&request(&alice(), ""));
    assert_eq!(gate.net.dialled.len(), 1);
}

#[test]
fn header_policy_and_origins_are_as_configured() {
    let fields = "Cookie: a=b\r\nX-Custom: 1\r\nAccept: */*\r\nOrigin: https://evil.test\r\n";
    let mut gate = Gate::new(|_| ());
    gate.ask(&request(&alice(), fields));
    let (_, _, head) = gate.upstream();
    assert!(head.contains("Cookie: a=b") && head.contains("X-Custom: 1"), "{head}");
    let mut gate = Gate::new(|config| config.header_policy = HeaderPolicy::AllowList);
    gate.ask(&request(&alice(), fields));
    let (_, _, head) = gate.upstream();
    assert!(!head.contains("Cookie") && !head.contains("X-Custom"), "{head}");
    assert!(head.contains("Accept: */*\r\n") && head.contains("Impersonate-User: alice\r\n"));
    let mut gate = Gate::new(|config| config.deny_browser_origins = true);
    let stream = gate.ask(&request(&alice(), fields));
    assert_eq!(status(&gate.heard(stream)), "403");
    assert!(gate.net.dialled.is_empty());
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
const SWITCHED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[test]
fn an_upgraded_session_ends_at_its_cap_or_with_its_token() {
    let hour = Duration::from_secs(3600);
    for (with_token, cap, lives) in [(false, 2 * hour, 2 * hour), (true, 2 * hour, hour)] {
        let mut gate = Gate::new(|config| {
            config.session_max = cap;
            config.session_ends_with_token = with_token;
        });
        let target = "/api/v1/namespaces/a/pods/b/exec?command=sh";
        let stream = gate.ask(&get(target, &alice(), UPGRADE));
        let (conn, _, _) = gate.upstream();
        gate.reply(conn, SWITCHED);
        assert_eq!(status(&gate.heard(stream)), "101");
        gate.pass(lives - Duration::from_secs(1));
        assert!(!gate.net.ended.contains(&conn), "{with_token}");
        gate.pass(Duration::from_secs(62));
        assert!(gate.net.ended.contains(&conn), "{with_token}");
        let last = gate.net.audit.last().unwrap();
        assert!(last.contains("the token has expired, or the session has lasted its time"));
    }
}

#[test]
fn operators_see_health_and_metrics_without_names() {
    let mut gate = Gate::new(|_| ());
    gate.ask(&request(&alice(), ""));
    let (conn, _, _) = gate.upstream();
    gate.reply(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let bad = gate.ask(&request("garbage", ""));
    gate.heard(bad);
    let far = Peer::Tcp("192.0.2.7:999".parse().unwrap());
    for peer in [Peer::Local, far] {
        for path in ["/healthz", "/livez", "/readyz"] {
            let answer = gate.visit(peer, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert_eq!(status(&answer), "200", "{path}");
        }
        let page = gate.visit(peer, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        for line in [
            "authproxy_requests_total{code_class=\"2xx\",verb_class=\"read\"} 1\n",
            "authproxy_auth_total{issuer=\"https://issuer.test\",result=\"ok\"} 1\n",
            "authproxy_rejected_total{reason=\"malformed\"} 1\n",
            "authproxy_inflight 0\n",
            "authproxy_upstream_seconds_count 1\n",
            "authproxy_jwks_keys{issuer=\"https://issuer.test\"} 1\n",
            "authproxy_jwks_age_seconds{issuer=\"https://issuer.test\"} 0\n",
            "authproxy_jwks_fetch_total{result=\"ok\"} 0\n",
            "authproxy_groups_total{result=\"found\"} 0\n",
            "authproxy_tokenreview_total{result=\"yes\"} 0\n",
            "authproxy_sa_token_age_seconds 0\n",
            "authproxy_upgraded 0\n",
            "authproxy_build_info{version=\"",
        ] {
            assert!(page.contains(line), "{line}{page}");
        }
        assert!(!page.contains("alice"), "{page}");
    }
}

#[test]
fn an_auth_proxy_that_stops_is_not_ready() {
    let mut gate = Gate::new(|_| ());
    gate.ask(&request(&alice(), ""));
    gate.emit(Event::Signal(cluster_connect::role::Signal::Stop));
    let answer = gate.visit(Peer::Local, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(status(&answer), "503");
}

#[test]
fn sessions_are_shown_and_cut_at_once() {
    let watch = "/api/v1/pods?watch=1&token=s3cret";
    for cut in ["session", "request", "user"] {
        let mut gate = Gate::new(|_| ());
        let stream = gate.ask(&get(watch, &alice(), ""));
        let (conn, _, _) = gate.upstream();
        gate.reply(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n");
        assert!(gate.heard(stream).contains("hi"));
        let list = gate.visit(Peer::Local, "GET /sessions HTTP/1.1\r\nHost: x\r\n\r\n");
        let list: Value = serde_json::from_str(list.split_once("\r\n\r\n").unwrap().1).unwrap();
        let one = &list["sessions"][0];
        assert_eq!(one["requests"][0]["user"], "alice");
        assert_eq!(one["requests"][0]["target"], "/api/v1/pods?watch=1");
        let path = match cut {
            "session" => format!("/sessions/{}", one["id"].as_str().unwrap()),
            "request" => format!("/sessions/{}", one["requests"][0]["id"].as_str().unwrap()),
            _ => "/sessions?user=%61lice".to_owned(),
        };
        let far = Peer::Tcp("192.0.2.7:999".parse().unwrap());
        let order = format!("DELETE {path} HTTP/1.1\r\nHost: x\r\n");
        assert_eq!(status(&gate.visit(far, &format!("{order}\r\n"))), "403");
        let browser = format!("{order}Origin: https://evil.test\r\n\r\n");
        assert_eq!(status(&gate.visit(Peer::Local, &browser)), "403");
        // A name that was made to mean this machine.
        let near = Peer::Tcp("127.0.0.1:999".parse().unwrap());
        let rebound = order.replace("Host: x", "Host: evil.test:9090");
        assert_eq!(status(&gate.visit(near, &format!("{rebound}\r\n"))), "403");
        let page = "GET /sessions HTTP/1.1\r\nHost: evil.test\r\n\r\n";
        assert_eq!(status(&gate.visit(near, page)), "403");
        for host in ["localhost:9090", "127.0.0.1:9090", "[::1]:9090"] {
            let list = format!("GET /sessions HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert_eq!(status(&gate.visit(near, &list)), "200", "{host}");
        }
        assert!(!gate.net.ended.contains(&conn));
        let answer = gate.visit(Peer::Local, &format!("{order}\r\n"));
        assert!(answer.ends_with("{\"cut\":1}\n"), "{answer}");
        assert!(gate.net.ended.contains(&conn), "{cut}: at once");
        let audit = gate.net.audit.concat();
        assert!(audit.contains("cut by an operator") && audit.contains("\"operator\""), "{audit}");
        assert_eq!(gate.proxy.leftovers().1, 0);
        let again = gate.visit(Peer::Local, &format!("{order}\r\n"));
        assert!(status(&again) == "404" || again.ends_with("{\"cut\":0}\n"), "{again}");
    }
}

#[test]
fn hostile_visitors_get_an_error_and_nothing_else() {
    let mut gate = Gate::new(|_| ());
    for (text, expected) in [
        ("GET /sessions HTTP/1.1\nHost: x\n\n", "400"),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "400"),
        ("GET http://x/sessions HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        ("POST /sessions HTTP/1.1\r\nHost: x\r\n\r\n", "405"),
        ("GET /sessions/1 HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        ("DELETE /sessions HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        ("DELETE /sessions?user= HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        ("DELETE /sessions/../metrics HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("DELETE /sessions/99999999999999999999 HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("GET /etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
    ] {
        assert_eq!(status(&gate.visit(Peer::Local, text)), expected, "{text}");
    }
    assert_eq!(gate.proxy.leftovers(), (1, 0, 0));
}

#[test]
fn a_visitor_that_says_nothing_is_dropped() {
    let mut gate = Gate::new(|_| ());
    let conn = ConnId(9_999);
    let tag = ListenerTag::Admin;
    gate.emit(Event::Accepted(conn, tag, Peer::Local));
    gate.pass(Duration::from_secs(11));
    assert!(gate.net.ended.contains(&conn));
}

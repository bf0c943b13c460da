//! The commands against a relay that answers from a script, over real sockets.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

use rustls::pki_types::CertificateDer;
use rustls::time_provider::DefaultTimeProvider;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::sync::Arc;

use super::*;
use crate::auth::certify::{Authority, Fingerprint};
use crate::engine::tlsconf::{self, Versions};
use crate::limits::OPERATOR_ANSWER_MAX;
use crate::role::egress::Egress;
use crate::secret::Secret;
use crate::wire::arm::Kind;
use crate::wire::resource::DEFAULT_SUBSCRIPTION;
use crate::wire::url::Url;

/// Answers one connection per script line and gives back the requests it read.
pub(super) fn serve(
    tls: Option<Arc<ServerConfig>>,
    script: Vec<String>,
) -> (Url, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = Url::parse(&format!("{scheme}://{}", listener.local_addr().unwrap())).unwrap();
    let thread = std::thread::spawn(move || {
        let mut requests = Vec::new();
        for answer in script {
            let (socket, _) = listener.accept().unwrap();
            match &tls {
                None => requests.push(exchange(socket, &answer)),
                Some(config) => {
                    let connection = ServerConnection::new(config.clone()).unwrap();
                    requests.push(exchange(StreamOwned::new(connection, socket), &answer));
                }
            }
        }
        requests
    });
    (url, thread)
}

fn exchange(mut stream: impl Read + Write, answer: &str) -> String {
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_lowercase();
            let length = length.lines().find_map(|line| line.strip_prefix("content-length: "));
            if length.map_or(0, |length| length.parse().unwrap()) <= body.len() {
                let _ = stream.write_all(answer.as_bytes());
                let _ = stream.flush();
                return text;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return text,
            Ok(len) => read.extend_from_slice(&buffer[..len]),
        }
    }
}

pub(super) fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub(super) fn relay(url: Url, roots: &[CertificateDer<'static>]) -> Relay {
    Relay::new(url, roots, Secret::new("admin".to_owned()), &Egress::default())
}

fn edge() -> ResourceId {
    ResourceId::parse("edge-7").unwrap()
}

/// Runs one command against a script and gives the result and the requests.
fn play(action: &Action, script: &[(&str, &str)]) -> (Result<Report, Failure>, Vec<String>) {
    let script = script.iter().map(|(status, body)| answer(status, body)).collect();
    let (url, thread) = serve(None, script);
    let result = run(&relay(url, &[]), action);
    (result, thread.join().unwrap())
}

#[test]
fn adding_puts_the_cluster_and_prints_a_join_token() {
    let join = Some(Duration::from_secs(600));
    let add = Action::Add { cluster: edge(), tags: BTreeMap::new(), join };
    let token = r#"{"joinToken":"ccj_abc","expirationTime":1795471380}"#;
    let (report, requests) = play(&add, &[("201 Created", "{}"), ("200 OK", token)]);
    let (out, said) = report.unwrap().table();
    assert_eq!(out, "ccj_abc\n");
    assert!(said.unwrap().ends_with("until 2026-11-23T22:03:00Z"));
    let line = format!("PUT {}?api-version=2021-10-01 HTTP/1.1\r\n", edge().id());
    assert!(requests[0].starts_with(&line), "{}", requests[0]);
    assert!(requests[0].to_lowercase().contains("authorization: bearer admin\r\n"));
    assert!(
        requests[1].contains("/createJoinToken?")
            && requests[1].ends_with(r#"{"expiresInSeconds":600}"#)
    );
}

#[test]
fn a_list_is_read_to_its_end_and_the_token_goes_nowhere_else() {
    let all = Action::List { subscription: DEFAULT_SUBSCRIPTION.to_owned(), group: None };
    let page = |name: &str, next: &str| {
        let next = match next {
            "" => String::new(),
            next => format!(r#","nextLink":"https://evil.example/x?%24skipToken={next}""#),
        };
        format!(r#"{{"value":[{{"name":"{name}","id":"{}"}}]{next}}}"#, edge().id())
    };
    let (one, two) = (page("edge-7", "b2Zm"), page("edge-8", ""));
    let (report, requests) = play(&all, &[("200 OK", &one), ("200 OK", &two)]);
    let Report::Clusters(found) = report.unwrap() else { panic!() };
    assert_eq!(found.len(), 2);
    assert!(requests[1].contains("?%24skipToken=b2Zm&api-version="), "{}", requests[1]);
    for bad in ["a b", "x&api-version=1", "a/../b"] {
        let (report, _) = play(&all, &[("200 OK", &page("edge-7", bad))]);
        assert!(matches!(report, Err(Failure::Answer(_))), "{bad}");
    }
}

#[test]
fn granting_says_what_is_left_to_do() {
    let whom = Whom { name: Name::User("alice@contoso.com".to_owned()), issuer: None };
    let grant = Action::Grant(edge(), whom);
    let body = r#"{"issuer":"i","subject":"s","kind":"user","displayName":"alice@contoso.com"}"#;
    let (report, requests) = play(&grant, &[("200 OK", body)]);
    let said = report.unwrap().table().1.unwrap();
    assert!(said.contains("clusterrolebinding NAME --clusterrole view --user alice@contoso.com"));
    assert!(requests[0].ends_with(r#"{"user":"alice@contoso.com"}"#));
    let whom = Whom { name: Name::Subject("s".to_owned()), issuer: Some("i".to_owned()) };
    let (report, requests) = play(&Action::Revoke(edge(), whom), &[("204 No Content", "")]);
    assert_eq!(report.unwrap(), Report::Done("s may no longer reach edge-7".to_owned()));
    assert!(
        requests[0].contains("/revoke?")
            && requests[0].ends_with(r#"{"issuer":"i","subject":"s"}"#)
    );
}

#[test]
fn showing_has_the_fingerprint_and_who_may_reach_it() {
    let cluster = format!(
        r#"{{"id":"{}","name":"edge-7","properties":{{"connectivityStatus":"Offline",
        "lastConnectivityTime":"2026-11-23T12:03:00Z","agentPublicKeyCertificate":"eA=="}}}}"#,
        edge().id()
    );
    let grants = r#"{"value":[{"kind":"user","displayName":"alice","subject":"s","issuer":"i"}]}"#;
    let (report, _) = play(&Action::Show(edge()), &[("200 OK", &cluster), ("200 OK", grants)]);
    let report = report.unwrap();
    let table = report.table().0;
    assert!(table.contains(&Fingerprint::of(b"x").to_string()), "{table}");
    assert!(table.contains("Offline") && table.contains("user alice (s of i)"), "{table}");
    let json: Json = serde_json::from_str(&report.json()).unwrap();
    assert_eq!(json["roleAssignments"][0]["displayName"], "alice");
    let refused = r#"{"error":{"code":"AuthorizationFailed","message":"no"}}"#;
    let (report, _) =
        play(&Action::Show(edge()), &[("200 OK", &cluster), ("403 Forbidden", refused)]);
    assert!(!report.unwrap().table().0.contains("may reach it"));
}

#[test]
fn listing_is_a_table() {
    let body = format!(
        r#"{{"value":[{{"id":"{}","name":"edge-7","properties":{{"connectivityStatus":"Connected"}}}}]}}"#,
        edge().id()
    );
    let list = |group: Option<&str>| Action::List {
        subscription: edge().subscription().to_owned(),
        group: group.map(str::to_owned),
    };
    let (report, requests) = play(&list(Some("default")), &[("200 OK", &body)]);
    let table = report.unwrap().table().0;
    assert_eq!(
        table,
        "NAME    GROUP    STATUS     LAST SEEN  VERSION\nedge-7  default  Connected  -          -\n"
    );
    assert!(requests[0].contains("/resourceGroups/default/providers/"));
    let (report, requests) = play(&list(None), &[("200 OK", r#"{"value":[]}"#)]);
    assert_eq!(report.unwrap().table().1.as_deref(), Some("no clusters"));
    assert!(!requests[0].contains("resourceGroups"));
}

#[test]
fn a_relay_cannot_write_on_the_operators_terminal() {
    let body = r#"{"value":[{"id":"x","name":"\u001b[2Jedge\r\n","properties":{}}]}"#;
    let list = Action::List { subscription: String::new(), group: None };
    let (report, _) = play(&list, &[("200 OK", body)]);
    let table = report.unwrap().table().0;
    assert!(!table.contains(['\u{1b}', '\r']) && table.contains("[2Jedge"), "{table:?}");
    let token = "{\"joinToken\":\"a\\u001b[2J\",\"expirationTime\":1}";
    let (report, _) =
        play(&Action::JoinToken(edge(), Duration::from_secs(1)), &[("200 OK", token)]);
    assert!(matches!(report, Err(Failure::Answer(_))));
}

#[test]
fn refusals_are_told_apart() {
    for (status, code, kind) in [
        ("401 Unauthorized", "AuthenticationFailed", Kind::TokenRefused),
        ("403 Forbidden", "AuthorizationFailed", Kind::Forbidden),
        ("404 Not Found", "ResourceNotFound", Kind::ClusterUnknown),
        ("503 Service Unavailable", "ServiceUnavailable", Kind::Passing),
    ] {
        let body = format!(r#"{{"error":{{"code":"{code}","message":"because"}}}}"#);
        let (report, _) = play(&Action::Remove(edge()), &[(status, &body)]);
        let Err(Failure::Refused(refusal)) = report else { panic!("{status}") };
        assert_eq!((refusal.kind, refusal.to_string()), (kind, format!("because ({code})")));
    }
}

#[test]
fn answers_that_are_none_are_refused() {
    for (status, body) in [
        ("200 OK", "<html>"),
        ("200 OK", "[]"),
        ("200 OK", r#"{"value":[1]}"#),
        ("200 OK", r#"{"value":1}"#),
        ("200 OK", r#"{"value":[],"value":[]}"#),
    ] {
        let list = Action::List { subscription: String::new(), group: None };
        let (report, _) = play(&list, &[(status, body)]);
        assert!(matches!(report, Err(Failure::Answer(_))), "{body}: {report:?}");
    }
    let huge = "x".repeat(usize::try_from(OPERATOR_ANSWER_MAX).unwrap() + 1);
    let (report, _) = play(&Action::Remove(edge()), &[("200 OK", &huge)]);
    assert!(matches!(report, Err(Failure::Answer(_))), "{report:?}");
}

#[test]
fn a_redirect_is_not_followed_with_the_token() {
    let (elsewhere, _never) = serve(None, vec![]);
    let moved = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: {elsewhere}/\r\nContent-Length: 0\r\n\
         Connection: close\r\n\r\n"
    );
    let (url, thread) = serve(None, vec![moved]);
    let report = run(&relay(url, &[]), &Action::Remove(edge()));
    let Err(Failure::Refused(refusal)) = report else { panic!("{report:?}") };
    assert_eq!((refusal.status, refusal.kind), (307, Kind::Foreign));
    assert_eq!(thread.join().unwrap().len(), 1);
}

#[test]
fn nobody_at_the_port_is_unreachable_and_a_foreign_certificate_untrusted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let report = run(&relay(url, &[]), &Action::Remove(edge()));
    assert!(matches!(report, Err(Failure::Unreachable(_))), "{report:?}");

    let (ours, theirs) =
        (Authority::create(&["127.0.0.1"]).unwrap(), Authority::create(&["127.0.0.1"]).unwrap());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let leaf = || ours.leaf(now.as_secs(), [1; 16]).unwrap();
    let server = || {
        let time = Arc::new(DefaultTimeProvider);
        Some(tlsconf::server(leaf(), &[], Versions::Both, time).unwrap().config)
    };
    for (root, trusted) in [(&ours, true), (&theirs, false)] {
        let (url, thread) = serve(server(), vec![answer("200 OK", "{}")]);
        let report = run(&relay(url, &[root.certificate().clone()]), &Action::Remove(edge()));
        let requests = thread.join().unwrap();
        match trusted {
            true => assert!(report.is_ok(), "{report:?}"),
            false => {
                assert!(matches!(report, Err(Failure::Untrusted(_))), "{report:?}");
                assert_eq!(requests, [""], "no token reached a stranger");
            }
        }
    }
}

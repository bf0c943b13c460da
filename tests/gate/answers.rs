//! What the API server answers, and how long a request may last.

use std::time::Duration;

use cluster_connect::role::auth_proxy::Config;
use cluster_connect::role::auth_proxy::upstream::TokenSource;
use cluster_connect::role::{Close, Event};

use crate::gate::Gate;
use crate::sim::EPOCH;
use crate::{alice, get, request, status, tokens};

const UNKNOWN: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno";
const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The own token comes from a file, which has `text` in it.
fn with_file(text: &str) -> Gate {
    let file = |config: &mut Config| config.upstream.token = TokenSource::File("token".into());
    let mut gate = Gate::new(file);
    gate.read(text);
    gate
}

#[test]
fn a_request_that_is_refused_for_our_token_goes_again_with_the_one_that_is_in_the_file_by_now() {
    let mut gate = with_file("old");
    let stream = gate.ask(&request(&alice(), ""));
    let (first, _, head) = gate.upstream();
    assert!(head.contains("Authorization: Bearer old\r\n"), "{head}");
    gate.reply(first, UNKNOWN);
    assert_eq!(gate.heard(stream), "", "the answer waits for the file");
    gate.read("new\n");
    assert!(gate.net.ended.contains(&first));
    let (second, _, head) = gate.upstream();
    assert_eq!(head.matches("Authorization: Bearer new\r\n").count(), 1, "{head}");
    assert!(!head.contains("old") && head.contains("Impersonate-User: alice\r\n"), "{head}");
    gate.reply(second, FINE);
    assert!(gate.heard(stream).ends_with("ok"));
}

#[test]
fn a_401_that_is_not_about_our_token_is_passed_on_once_that_is_known() {
    let mut gate = with_file("same");
    let stream = gate.ask(&request(&alice(), ""));
    let (conn, _, _) = gate.upstream();
    gate.reply(conn, UNKNOWN);
    gate.read("same");
    assert!(gate.heard(stream).ends_with("no"));
    assert!(gate.net.dialled.is_empty(), "nothing goes again");
    // And a second refusal of a new token is an answer.
    gate.ask(&request(&alice(), ""));
    let (conn, _, _) = gate.upstream();
    gate.reply(conn, UNKNOWN);
    gate.read("newer");
    let (again, _, _) = gate.upstream();
    gate.reply(again, UNKNOWN);
    assert!(gate.net.dialled.is_empty() && gate.net.reads.is_empty());
}

#[test]
fn a_body_that_has_gone_up_does_not_go_again() {
    let mut gate = with_file("old");
    let fields = "Content-Length: 1\r\n";
    let stream = gate.ask(&(request(&alice(), fields).replacen("GET", "POST", 1) + "x"));
    let (conn, _, _) = gate.upstream();
    gate.reply(conn, UNKNOWN);
    assert_eq!(status(&gate.heard(stream)), "401");
    assert!(gate.net.reads.is_empty() && gate.net.dialled.is_empty());
}

#[test]
fn a_caller_that_leaves_while_the_token_is_read_leaves_nothing_behind() {
    let mut gate = with_file("old");
    gate.ask(&request(&alice(), ""));
    let (conn, _, _) = gate.upstream();
    gate.reply(conn, UNKNOWN);
    let session = gate.session;
    gate.emit(Event::Closed(session, Close::Reset));
    gate.read("new");
    assert!(gate.net.dialled.is_empty());
    assert_eq!(gate.proxy.leftovers(), (0, 0, 0));
}

#[test]
fn a_watch_ends_with_its_token_and_without_a_last_chunk() {
    let mut gate = Gate::new(|_| ());
    let stream = gate.ask(&get("/api/v1/pods?watch=1", &alice(), ""));
    let (conn, _, _) = gate.upstream();
    gate.reply(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n");
    gate.pass(Duration::from_secs(3659));
    assert!(gate.closed.is_empty());
    gate.reply(conn, "2\r\nho\r\n");
    gate.pass(Duration::from_secs(1));
    let heard = gate.heard(stream);
    assert!(heard.ends_with("2\r\nho\r\n"), "{heard}");
    assert!(gate.closed.contains(&stream) && gate.net.ended.contains(&conn));
    assert!(gate.net.audit.last().unwrap().contains("the token has expired"));
}

#[test]
fn a_token_that_counts_by_its_issuers_leeway_is_not_cut_at_once() {
    let mut gate = Gate::of(|_| (), |issuer| issuer.leeway = 300);
    let token = tokens::token("alice", "cluster", EPOCH - 3600, 3600 - 100);
    let stream = gate.ask(&request(&token, ""));
    let (conn, _, _) = gate.upstream();
    gate.pass(Duration::from_secs(5));
    gate.reply(conn, FINE);
    assert!(gate.heard(stream).ends_with("ok"));
}

#[test]
fn an_api_server_that_hangs_up_is_named_to_whoever_reads_about_it() {
    let hangs_up = |how: &str| {
        let mut gate = Gate::new(|_| ());
        let stream = gate.ask(&request(&alice(), ""));
        let conn = match how {
            "refuses" => gate.net.dialled.remove(0).0,
            _ => gate.upstream().0,
        };
        match how {
            "refuses" => gate.emit(Event::Closed(conn, Close::Refused("no".into()))),
            "finishes" => gate.emit(Event::Finished(conn)),
            "truncates" => gate.emit(Event::Closed(conn, Close::Truncated)),
            _ => gate.emit(Event::Closed(conn, Close::Reset)),
        }
        gate.heard(stream)
    };
    for how in ["finishes", "truncates", "resets"] {
        let answer = hangs_up(how);
        assert_eq!(status(&answer), "502", "{how}");
        let text = "the API server at apiserver.test closed the connection before it had answered \
                    in full; it may be restarting: try again";
        assert!(answer.contains(text), "{how}: {answer}");
    }
    let refused = hangs_up("refuses");
    assert!(
        refused.contains("the API server at apiserver.test cannot be reached: no"),
        "{refused}"
    );
    let mut gate = Gate::new(|_| ());
    let stream = gate.ask(&request(&alice(), ""));
    gate.upstream();
    gate.pass(Duration::from_secs(66));
    let answer = gate.heard(stream);
    assert!(answer.contains("the API server at apiserver.test did not answer in time"), "{answer}");
}

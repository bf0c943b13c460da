//! Connections that are there before a request is, and limits.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::time::Duration;

use cluster_connect::limits::SPARE_LIFE;
use cluster_connect::role::auth_proxy::{Config, Guesses};
use cluster_connect::role::{Close, ConnId, Event, ListenerTag, Peer, Signal};

use crate::gate::Gate;
use crate::{account, alice, known, request, status, tokens};

const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The session is of somebody who was let through before.
fn with_spares(count: usize) -> Gate {
    let mut gate = Gate::new(|config: &mut Config| config.spares = count);
    known_caller(&mut gate);
    gate
}

/// Has one request let through, and ends its connection.
fn known_caller(gate: &mut Gate) {
    assert!(gate.net.dialled.is_empty(), "nothing is made for a stranger");
    let stream = gate.ask(&request(&alice(), ""));
    let (conn, ..) = gate.upstream();
    gate.reply(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    assert!(gate.heard(stream).ends_with("ok"));
}

/// Every connection that was asked for and not looked at yet.
fn dialled(gate: &mut Gate) -> Vec<ConnId> {
    gate.net.dialled.drain(..).map(|(conn, _)| conn).collect()
}

fn sent(gate: &mut Gate, conn: ConnId) -> String {
    String::from_utf8(gate.net.sent.remove(&conn).unwrap_or_default()).unwrap()
}

#[test]
fn a_request_goes_at_once_on_a_connection_that_is_up() {
    let mut gate = with_spares(1);
    let [spare] = dialled(&mut gate)[..] else { panic!("one, once somebody is known") };
    gate.emit(Event::Connected(spare));
    assert_eq!(sent(&mut gate, spare), "");
    let stream = gate.ask(&request(&alice(), ""));
    assert!(sent(&mut gate, spare).contains("Impersonate-User: alice\r\n"));
    assert_eq!(dialled(&mut gate).len(), 1, "another takes its place");
    gate.reply(spare, FINE);
    assert!(gate.heard(stream).ends_with("ok"));
}

#[test]
fn no_two_streams_ever_have_one_connection() {
    let mut gate = with_spares(2);
    let mut all = dialled(&mut gate);
    let mut used = Vec::new();
    for number in 0..6 {
        for conn in std::mem::take(&mut all) {
            gate.emit(Event::Connected(conn));
        }
        let caller = tokens::token(&format!("u{number}"), "cluster", crate::sim::EPOCH, 3600);
        let stream = gate.ask(&request(&caller, ""));
        let with_bytes: Vec<ConnId> =
            gate.net.sent.iter().filter(|(_, bytes)| !bytes.is_empty()).map(|(c, _)| *c).collect();
        let [conn] = with_bytes[..] else { panic!("{with_bytes:?}") };
        let head = sent(&mut gate, conn);
        assert!(head.contains(&format!("Impersonate-User: u{number}\r\n")), "{head}");
        assert!(!used.contains(&conn), "a connection of {used:?} again");
        used.push(conn);
        gate.reply(conn, FINE);
        assert!(gate.heard(stream).ends_with("ok"));
        // The caller's next request is on its own connection, which is not given away meanwhile.
        gate.say(stream, &request(&caller, ""));
        assert!(sent(&mut gate, conn).contains(&format!("Impersonate-User: u{number}\r\n")));
        gate.reply(conn, FINE);
        all = dialled(&mut gate);
    }
}

#[test]
fn a_connection_of_ours_is_never_for_a_callers_own_token() {
    let mut gate = Gate::new(|config| {
        config.spares = 2;
        config.sa_passthrough = true;
    });
    known_caller(&mut gate);
    for conn in dialled(&mut gate) {
        gate.emit(Event::Connected(conn));
    }
    gate.ask(&request(&account(1), ""));
    gate.answer(known());
    assert!(gate.net.sent.values().all(Vec::is_empty));
    let (_, place, head) = gate.upstream();
    assert_eq!(place, "theirs");
    assert!(head.contains(&account(1)), "{head}");
}

#[test]
fn a_spare_that_speaks_ends_or_waits_too_long_is_dropped() {
    for what in ["speaks", "ends", "fails", "waits", "stops"] {
        let mut gate = with_spares(1);
        let [spare] = dialled(&mut gate)[..] else { panic!("one") };
        gate.emit(Event::Connected(spare));
        match what {
            "speaks" => gate.reply(spare, FINE),
            "ends" => gate.emit(Event::Finished(spare)),
            "fails" => gate.emit(Event::Closed(spare, Close::Refused("no".into()))),
            "waits" => gate.pass(SPARE_LIFE),
            _ => gate.emit(Event::Signal(Signal::Stop)),
        }
        assert!(gate.net.ended.contains(&spare), "{what}");
        assert!(dialled(&mut gate).is_empty(), "{what}: not before somebody is about to ask");
        if what == "stops" {
            continue;
        }
        let stream = gate.ask(&request(&alice(), ""));
        let [next, _] = dialled(&mut gate)[..] else { panic!("{what}") };
        assert_eq!(sent(&mut gate, next), "", "{what}: it is not up yet");
        gate.emit(Event::Connected(next));
        assert!(sent(&mut gate, next).contains("alice"), "{what}");
        gate.reply(next, FINE);
        assert!(gate.heard(stream).ends_with("ok"), "{what}");
        assert_eq!(sent(&mut gate, spare), "", "{what}");
    }
}

#[test]
fn strangers_make_no_connections_upstream() {
    let mut gate = Gate::new(|config: &mut Config| config.spares = 2);
    for _ in 0..20 {
        gate.ask(&request("garbage", ""));
        gate.join();
    }
    assert_eq!(gate.net.dialled.len(), 0);
}

#[test]
fn an_api_server_that_is_down_is_left_alone_for_longer_and_longer() {
    let mut gate = with_spares(1);
    let mut attempts = 0;
    for _ in 0..600 {
        for conn in dialled(&mut gate) {
            gate.emit(Event::Closed(conn, Close::Refused("connection refused".into())));
            attempts += 1;
        }
        // Somebody who is known comes again and again, and has not asked for anything yet.
        gate.ask("");
        gate.pass(Duration::from_secs(1));
    }
    assert!((10..80).contains(&attempts), "{attempts} in ten minutes");
    // It is back: the next request finds out, and everything is as it was.
    gate.pass(Duration::from_secs(30));
    dialled(&mut gate);
    let mut gate = with_spares(1);
    let [spare] = dialled(&mut gate)[..] else { panic!("one") };
    gate.emit(Event::Closed(spare, Close::Refused("no".into())));
    let stream = gate.ask(&request(&alice(), ""));
    let [conn] = dialled(&mut gate)[..] else { panic!("no spare, but the request is tried") };
    gate.emit(Event::Connected(conn));
    gate.reply(conn, FINE);
    assert!(gate.heard(stream).ends_with("ok"));
    gate.ask("");
    assert_eq!(dialled(&mut gate).len(), 1, "it answers, so there are spares again");
}

#[test]
fn sessions_are_limited_as_configured() {
    let mut gate = Gate::new(|config| config.sessions = 1);
    let second = ConnId(9_999);
    gate.emit(Event::Accepted(second, ListenerTag::Main, Peer::Local));
    assert!(gate.net.ended.contains(&second));
    assert_eq!(gate.proxy.leftovers(), (1, 0, 0));
}

#[test]
fn guesses_are_limited_as_configured() {
    let few = Guesses { refusals: 2, verifications: 4 };
    let mut gate = Gate::new(|config| config.guesses = few);
    let codes: Vec<String> = (0..3)
        .map(|_| {
            let stream = gate.ask(&request("garbage", ""));
            status(&gate.heard(stream)).to_owned()
        })
        .collect();
    assert_eq!(codes, ["401", "401", "429"]);
    let mut gate = Gate::new(|config| config.guesses = few);
    for _ in 0..4 {
        gate.ask(&request(&alice(), ""));
    }
    let fifth = gate.ask(&request(&alice(), ""));
    let answer = gate.heard(fifth);
    assert!(status(&answer) == "429" && answer.contains("Retry-After: 1\r\n"), "{answer}");
    gate.pass(Duration::from_millis(250));
    gate.ask(&request(&alice(), ""));
    assert_eq!(gate.net.dialled.len(), 5);
}

#[test]
fn times_are_as_configured() {
    let second = Duration::from_secs(1);
    let mut gate = Gate::new(|config| {
        let times = std::sync::Arc::make_mut(&mut config.times);
        (times.head, times.response_head) = (2 * second, 3 * second);
    });
    let slow = gate.ask("GET / HT");
    gate.pass(2 * second);
    assert_eq!(status(&gate.heard(slow)), "408");
    let stream = gate.ask(&request(&alice(), ""));
    gate.upstream();
    gate.pass(3 * second);
    assert_eq!(status(&gate.heard(stream)), "504");
}

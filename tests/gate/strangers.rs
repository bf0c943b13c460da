//! Sessions of callers of whom nothing was let through, and callers of an auth proxy that stops.

use std::time::Duration;

use cluster_connect::limits::{CROSSED, DRAIN_TIMEOUT};
use cluster_connect::role::{ConnId, Event, ListenerTag, Peer, Signal};

use crate::gate::Gate;
use crate::{alice, request};

#[test]
fn a_session_on_which_nothing_is_let_through_takes_a_place_for_a_minute() {
    for token in [None, Some("garbage".to_owned())] {
        let mut gate = Gate::new(|config| config.sessions = 1);
        if let Some(token) = token {
            let _ = gate.ask(&request(&token, ""));
        }
        gate.pass(Duration::from_secs(59));
        assert!(!gate.is_asked_to_go && !gate.net.ended.contains(&gate.session));
        gate.pass(Duration::from_secs(2));
        assert!(gate.is_asked_to_go, "told before it is cut");
        assert!(!gate.net.ended.contains(&gate.session), "and has time to leave by itself");
        gate.pass(Duration::from_secs(5));
        assert!(gate.net.ended.contains(&gate.session));
        assert_eq!(gate.proxy.leftovers(), (0, 0, 0));
    }
    // Whoever was about to ask when it was told is told so, and asks on another session.
    let mut gate = Gate::new(|_| ());
    let _ = gate.ask(&request("garbage", ""));
    let stream = gate.ask_across(Duration::from_secs(61), &request(&alice(), ""));
    assert!(gate.is_asked_to_go);
    assert_eq!(gate.refused, [stream]);
    assert!(gate.net.dialled.is_empty(), "nothing of it was looked at");
    gate.join();
    gate.ask(&request(&alice(), ""));
    assert_eq!(gate.net.dialled.len(), 1);
    gate.upstream();
    // One that cannot even be told has the TLS handshake's time.
    let mut gate = Gate::new(|_| ());
    let silent = ConnId(9_999);
    gate.emit(Event::Accepted(silent, ListenerTag::Main, Peer::Local));
    gate.pass(Duration::from_secs(10));
    assert!(gate.net.ended.contains(&silent));
    let mut gate = Gate::new(|_| ());
    gate.ask(&request(&alice(), ""));
    let (conn, ..) = gate.upstream();
    gate.reply(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    gate.pass(Duration::from_secs(600));
    assert!(!gate.net.ended.contains(&gate.session), "it is known");
}

#[test]
fn who_has_asked_nothing_may_stay_while_half_of_the_places_are_free() {
    let mut gate = Gate::new(|config| config.sessions = 4);
    let minute = Duration::from_secs(61);
    let silent = gate.session;
    gate.pass(minute * 10);
    assert!(!gate.is_asked_to_go && !gate.net.ended.contains(&silent));
    // It may be the second session of somebody, who comes to need it.
    let vain = gate.ask(&request("garbage", ""));
    gate.finish(vain);
    gate.pass(minute);
    assert!(gate.is_asked_to_go, "who has asked in vain has a minute, though it is silent again");
    gate.pass(minute);
    assert!(gate.net.ended.contains(&silent));

    let mut gate = Gate::new(|config| config.sessions = 3);
    let silent = gate.session;
    gate.pass(minute * 10);
    gate.join();
    assert!(!gate.net.ended.contains(&silent));
    gate.pass(minute + minute / 10);
    assert!(gate.net.ended.contains(&silent), "others need its place");
}

const DONE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn an_auth_proxy_that_stops_refuses_what_crosses_its_farewell_before_it_ends() {
    let mut gate = Gate::new(|_| ());
    let stream = gate.ask_across_stop(&request(&alice(), ""));
    assert!(gate.is_asked_to_go);
    assert_eq!(gate.refused, [stream]);
    assert!(gate.net.dialled.is_empty() && !gate.net.has_exited);
    gate.leave();
    assert!(gate.net.has_exited, "nobody is left who could ask");

    let mut gate = Gate::new(|_| ());
    gate.emit(Event::Signal(Signal::Stop));
    gate.pass(CROSSED - Duration::from_millis(1));
    assert!(!gate.net.has_exited);
    gate.emit(Event::Signal(Signal::Stop));
    gate.pass(Duration::from_millis(1));
    assert!(
        gate.net.has_exited,
        "a caller that does not leave is not waited for, however often it is told to stop"
    );
    let late = gate.accept();
    assert!(gate.net.ended.contains(&late), "nobody is let in, though the process may live on");

    let mut gate = Gate::new(|_| ());
    gate.join_across_stop();
    assert!(gate.is_asked_to_go, "who was in the handshake hears it after that");

    let mut gate = Gate::new(|_| ());
    let stream = gate.ask(&request(&alice(), ""));
    let (conn, ..) = gate.upstream();
    gate.emit(Event::Signal(Signal::Stop));
    gate.pass(CROSSED * 2);
    assert!(!gate.net.has_exited, "what was taken is finished");
    gate.reply(conn, DONE);
    assert!(gate.heard(stream).ends_with("ok"));
    gate.pass(DRAIN_TIMEOUT);
    assert!(gate.net.has_exited);
}

//! Sessions of callers of whom nothing was let through.

use std::time::Duration;

use cluster_connect::role::{ConnId, Event, ListenerTag, Peer};

use crate::gate::Gate;
use crate::{alice, request};

#[test]
fn a_session_on_which_nothing_is_let_through_takes_a_place_for_a_minute() {
    for token in [None, Some("garbage".to_owned())] {
        let mut gate = Gate::new(|_| ());
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

//! Listening, connecting and meeting: who is let in, who waits, who is told what.

mod hc;

use cluster_connect::engine::ws::Side;
use cluster_connect::role::relay::authority::Order;
use cluster_connect::role::{Close, Event, Notice, Signal};
use cluster_connect::wire::ws::{Opcode, close_reason};

use hc::net::Fate;
use hc::table::token;
use hc::{auth, frames, masked, relay, upgrade};

#[test]
fn the_sender_is_answered_only_when_the_listener_is_there() {
    let (mut stage, table) = relay();
    let control = stage.listener("ent", "");
    assert_eq!(table.0.borrow().counts["ent"], 1);
    let sender = stage.sender("ent");
    assert_eq!(stage.take(sender), b"");
    let accept = stage.accept_command(control);
    let listener = stage.rendezvous(&accept, "", "");
    assert_eq!(stage.status(listener).0, 101);
    assert_eq!(stage.status(sender).0, 101);
    assert_eq!(stage.role.leftovers(), (3, 0));
}

#[test]
fn an_accept_says_who_the_sender_is_and_never_its_token() {
    let (mut stage, _) = relay();
    let control = stage.listener("ent", "");
    let target = "/$hc/ENT/sub%c3?a=1&&sb-hc-action=connect&b&sb-hc-id=me&sb-hc-foo=1&a=1";
    let fields = "Authorization: Bearer kube\r\nX-Twice: 1\r\nX-Twice: 2\r\n\
                  Sec-WebSocket-Protocol: v5, v4\r\n";
    let sender = stage.accept_from("[2001:db8::7]:443");
    stage.data(sender, &upgrade(target, &format!("{fields}{}", auth("ent", "Send"))));
    let accept = stage.accept_command(control);

    let (address, id) = accept.address.split_once("&sb-hc-action=accept&sb-hc-id=").unwrap();
    assert_eq!(address, "wss://relay.example/$hc/ENT/sub%c3?a=1&&b&a=1");
    assert_eq!(id, accept.id);
    assert!(accept.id.starts_with("me_G0_") && accept.id.len() == 6 + 32, "{}", accept.id);
    assert_eq!((accept.remote.address.as_str(), accept.remote.port), ("2001:db8::7", 443));
    let header = |name: &str| {
        let found = accept.connect_headers.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| value.as_str())
    };
    assert_eq!(header("Sec-WebSocket-Key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    assert_eq!(header("Authorization"), Some("Bearer kube"));
    assert_eq!(header("X-Twice"), Some("1, 2"));
    assert_eq!(header("Sec-WebSocket-Protocol"), Some("v5, v4"));
    assert_eq!(header("ServiceBusAuthorization"), None);
}

#[test]
fn a_token_may_stand_in_the_query_and_the_action_may_be_missing() {
    let (mut stage, _) = relay();
    let control = stage.listener("ent", "");
    let token = token("http://relay.example/ent", "Send", u64::from(u32::MAX));
    let token = token.replace('%', "%25").replace(' ', "+").replace('=', "%3D").replace('&', "%26");
    stage.request(&upgrade(&format!("/%24HC/ent?null&sb-hc-token={token}"), ""));
    let accept = stage.accept_command(control);
    assert!(accept.address.contains("/ent?null&sb-hc-action=accept"), "{}", accept.address);
}

#[test]
fn the_listeners_choice_of_subprotocol_reaches_both() {
    for (offer, asked, to_sender, to_listener) in [
        ("v5, v4", "v4", Some("v4"), Some("v4")),
        ("v5, v4", "x, v5", Some("v5"), Some("v5")),
        ("v5", "x", None, Some("x")),
        ("v5", "", None, None),
        ("", "", None, None),
    ] {
        let (mut stage, _) = relay();
        let control = stage.listener("ent", "");
        let field = |value: &str| match value {
            "" => String::new(),
            value => format!("Sec-WebSocket-Protocol: {value}\r\n"),
        };
        let head = upgrade("/$hc/ent", &format!("{}{}", field(offer), auth("ent", "Send")));
        let sender = stage.request(&head);
        let accept = stage.accept_command(control);
        let listener = stage.rendezvous(&accept, "", &field(asked));
        let mut protocol = |conn| {
            let answer = stage.take_text(conn);
            let line = answer.lines().find_map(|l| l.strip_prefix("Sec-WebSocket-Protocol: "));
            line.map(str::to_owned)
        };
        assert_eq!(protocol(sender).as_deref(), to_sender, "{offer} / {asked}");
        assert_eq!(protocol(listener).as_deref(), to_listener, "{offer} / {asked}");
    }
}

#[test]
fn checks_come_in_the_order_shape_token_entity_listeners() {
    let (mut stage, _) = relay();
    for (target, fields, status, text) in [
        ("/$hc/ent?sb-hc-action=dance", auth("ent", "Send"), 400, "sb-hc-action"),
        ("/$hc/ent?sb-hc-action=connect", String::new(), 401, "MissingToken: "),
        ("/$hc/nowhere", String::new(), 401, "MissingToken: "),
        ("/$hc/nowhere", auth("ent", "Send"), 401, "InvalidAudience: "),
        ("/$hc/ent2", auth("ent", "Send"), 401, "InvalidAudience: "),
        ("/$hc/ent", auth("ent", "Listen"), 401, "'Send' claim(s)"),
        ("/$hc/ent?sb-hc-action=listen", auth("ent", "Send"), 401, "'Listen' claim(s)"),
        ("/$hc/nowhere", auth("", "Send"), 404, "Endpoint does not exist. "),
        (
            "/$hc/ent",
            auth("ent", "Send"),
            404,
            "There are no listeners connected for the endpoint. ",
        ),
        ("/$hc/ent/a/b", auth("", "root"), 404, "There are no listeners connected"),
    ] {
        let conn = stage.request(&upgrade(target, &fields));
        let (got, answer) = stage.status(conn);
        let line = answer.lines().next().unwrap();
        assert_eq!(got, status, "{target}: {line}");
        assert!(line.contains(text), "{target}: {line}");
        assert!(
            line.contains(" TrackingId:") && line.contains("_G0, SystemTracker:sb://"),
            "{line}"
        );
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        assert_eq!(stage.fate(conn), Some(Fate::Closed));
    }
    assert_eq!(stage.role.leftovers(), (0, 0));
}

#[test]
fn what_is_not_an_upgrade_is_told_so() {
    let (mut stage, _) = relay();
    for (head, status, text) in [
        ("GET /$hc/ent HTTP/1.1\r\nHost: n\r\n\r\n", 400, "only for web-socket requests. Tr"),
        ("GET http://n/$hc/ent HTTP/1.1\r\nHost: n\r\n\r\n", 400, "malformed"),
        ("GET /$hc/ent HTTP/1.1\r\nHost: n/evil\r\n\r\n", 400, "malformed"),
        ("\x16\x03\x01\x02\r\n\r\n", 400, "cannot be read"),
        (
            "GET /$hc/ent HTTP/1.1\r\nHost: n\r\nUpgrade: websocket\r\n\r\n",
            400,
            "not to WebSocket version 13",
        ),
    ] {
        let conn = stage.request(head.as_bytes());
        let (got, answer) = stage.status(conn);
        assert_eq!(got, status, "{head}");
        assert!(answer.contains(text), "{answer}");
    }
    let conn = stage.accept();
    stage.data(conn, format!("GET /{} HTTP/1.1", "a".repeat(40_000)).as_bytes());
    assert_eq!(stage.status(conn).0, 431);
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let (mut stage, _) = relay();
    let conn = stage.accept();
    stage.data(conn, b"GET /$hc/ent HT");
    stage.pass(31);
    assert_eq!(stage.fate(conn), Some(Fate::Closed));
    assert_eq!(stage.role.leftovers(), (0, 0));
}

#[test]
fn nothing_is_404_while_the_entities_are_unknown() {
    let (mut stage, table) = relay();
    table.0.borrow_mut().loading = true;
    for target in ["/$hc/ent?sb-hc-action=listen", "/$hc/ent", "/ent"] {
        let conn = stage.request(&upgrade(target, &auth("ent", "root")));
        let (status, answer) = stage.status(conn);
        assert_eq!(status, 503, "{answer}");
        assert!(answer.contains("Retry-After: "), "{answer}");
    }
}

#[test]
fn a_silent_listener_costs_the_sender_thirty_seconds() {
    let (mut stage, _) = relay();
    let control = stage.listener("ent", "");
    let sender = stage.sender("ent");
    let accept = stage.accept_command(control);
    stage.pass(29);
    assert_eq!(stage.take(sender), b"");
    stage.pass(1);
    let (status, answer) = stage.status(sender);
    assert_eq!(status, 504);
    assert!(answer.contains("accepted the connections within the allowed timeout"), "{answer}");
    let late = stage.rendezvous(&accept, "", "");
    assert_eq!(stage.status(late).0, 410);
    stage.pass(61);
    let later = stage.rendezvous(&accept, "", "");
    assert_eq!(stage.status(later).0, 403);
    assert_eq!(stage.role.leftovers().1, 0);
}

#[test]
fn a_rendezvous_is_good_for_one_use() {
    let (mut stage, _) = relay();
    let control = stage.listener("ent", "");
    stage.sender("ent");
    let accept = stage.accept_command(control);
    let mut wrong = accept.clone();
    wrong.address.push('0');
    let mut near = accept.clone();
    near.address = near.address.replace("_G0_", "_G1_");
    for accept in [wrong, near] {
        let conn = stage.rendezvous(&accept, "", "");
        assert_eq!(stage.status(conn).0, 403);
    }
    let conn = stage.rendezvous(&accept, "", "");
    assert_eq!(stage.status(conn).0, 101);
    let conn = stage.rendezvous(&accept, "", "");
    let (status, answer) = stage.status(conn);
    assert_eq!(status, 403);
    assert!(answer.contains("Unknown Connection ID"), "{answer}");
}

#[test]
fn a_listener_that_comes_after_the_sender_left_is_told_so() {
    let (mut stage, _) = relay();
    let control = stage.listener("ent", "");
    let sender = stage.sender("ent");
    let accept = stage.accept_command(control);
    stage.closed(sender, Close::Reset);
    let conn = stage.rendezvous(&accept, "", "");
    assert_eq!(stage.status(conn).0, 410);
    assert_eq!(stage.role.leftovers(), (1, 0));
}

#[test]
fn a_listener_may_reject_through_the_address() {
    for (more, status, line) in [
        (
            "&sb-hc-statusCode=403&sb-hc-statusDescription=not+%22you%22%0d%0a",
            403,
            "403 not \"you\"\r",
        ),
        ("&sb-hc-statusCode=502", 502, "502 Rejected\r"),
        ("&sb-hc-statusCode=200&sb-hc-statusDescription=fine", 502, "502 fine\r"),
        ("&sb-hc-statusCode=101", 502, "502 Rejected\r"),
    ] {
        let (mut stage, _) = relay();
        let control = stage.listener("ent", "");
        let sender = stage.sender("ent");
        let accept = stage.accept_command(control);
        let conn = stage.rendezvous(&accept, more, "");
        assert!(stage.take_text(conn).starts_with("HTTP/1.1 410 Gone\r\n"));
        let (got, answer) = stage.status(sender);
        assert_eq!(got, status);
        assert!(answer.starts_with(&format!("HTTP/1.1 {line}")), "{answer}");
        assert_eq!(stage.role.leftovers(), (1, 0));
    }
}

#[test]
fn a_malformed_rejection_leaves_the_sender_waiting() {
    let (mut stage, _) = relay();
    let control = stage.listener("ent", "");
    let sender = stage.sender("ent");
    let accept = stage.accept_command(control);
    for code in ["99", "1000", "abc", ""] {
        let conn = stage.rendezvous(&accept, &format!("&sb-hc-statusCode={code}"), "");
        assert_eq!(stage.status(conn).0, 400, "{code}");
    }
    assert_eq!(stage.take(sender), b"");
    let conn = stage.rendezvous(&accept, "", "");
    assert_eq!(stage.status(conn).0, 101);
}

#[test]
fn a_second_listener_is_asked_when_the_first_is_slow() {
    let (mut stage, _) = relay();
    let controls = [stage.listener("ent", ""), stage.listener("ent", "")];
    let sender = stage.sender("ent");
    stage.pass(6);
    let [first, second] = controls.map(|control| stage.accept_command(control));
    assert_ne!(first.id, second.id);
    let conn = stage.rendezvous(&second, "", "");
    assert_eq!((stage.status(conn).0, stage.status(sender).0), (101, 101));
    let conn = stage.rendezvous(&first, "", "");
    assert_eq!(stage.status(conn).0, 410);
}

#[test]
fn a_listener_that_dies_hands_its_senders_on() {
    let (mut stage, _) = relay();
    let controls = [stage.listener("ent", ""), stage.listener("ent", "")];
    let sender = stage.sender("ent");
    let asked = controls.iter().position(|c| !stage.net.out[c].is_empty()).unwrap();
    stage.closed(controls[asked], Close::Reset);
    let other = controls[1 - asked];
    stage.accept_command(other);
    stage.closed(other, Close::Reset);
    let (status, answer) = stage.status(sender);
    assert_eq!(status, 502, "{answer}");
    stage.pass(61);
    assert_eq!(stage.role.leftovers(), (0, 0));
}

#[test]
fn senders_may_name_the_listeners_they_want() {
    let (mut stage, _) = relay();
    let one = stage.listener("ent", "&sb-hc-id=One");
    let two = stage.listener("ent", "&sb-hc-id=two");
    for _ in 0..10 {
        let allowed = "Microsoft-Relay-AllowedListeners: zero, ONE\r\n";
        stage.request(&upgrade("/$hc/ent", &format!("{allowed}{}", auth("ent", "Send"))));
        stage.accept_command(one);
        let disallowed = "Microsoft-Relay-DisallowedListeners: one\r\n";
        stage.request(&upgrade("/$hc/ent", &format!("{disallowed}{}", auth("ent", "Send"))));
        stage.accept_command(two);
    }
    let nobody = "Microsoft-Relay-AllowedListeners: zero\r\n";
    let conn = stage.request(&upgrade("/$hc/ent", &format!("{nobody}{}", auth("ent", "Send"))));
    let (status, answer) = stage.status(conn);
    assert_eq!(status, 404);
    assert!(answer.contains("AllowedListeners/DisallowedListeners criteria"), "{answer}");
}

#[test]
fn headers_that_no_listener_could_read_are_refused() {
    let (mut stage, _) = relay();
    stage.listener("ent", "");
    let escaped = "X: ".to_owned() + &"\u{1f}\"".repeat(0) + &"\"".repeat(33_000) + "\r\n";
    let conn = stage.request(&upgrade("/$hc/ent", &format!("{escaped}{}", auth("ent", "Send"))));
    assert_eq!(stage.status(conn).0, 431);
}

#[test]
fn a_renewed_token_keeps_the_channel_open() {
    let (mut stage, _) = relay();
    let control = stage.listener("ent", "");
    stage.pass(1);
    let expires = stage.net.unix + 7200;
    let token = token("http://relay.example/ent", "Listen", expires);
    let renew = format!(r#"{{"renewToken":{{"token":"{token}"}}}}"#);
    stage.data(control, &masked(Opcode::Text, renew.as_bytes()));
    assert_eq!(stage.take(control), b"", "no reply");
    for _ in 0..249 {
        stage.pass(30);
        stage.data(control, &masked(Opcode::Pong, b""));
    }
    assert!(!frames(Side::Client, &stage.take(control)).iter().any(|f| f.0 == Opcode::Close));
    stage.pass(31);
    let closing = frames(Side::Client, &stage.take(control));
    let close = closing.iter().find(|f| f.0 == Opcode::Close).unwrap();
    let (code, reason) = close_reason(&close.2).unwrap();
    assert_eq!(code, 1008);
    assert!(reason.starts_with("ExpiredToken: The token is expired. TrackingId:"), "{reason}");
    assert!(reason.len() <= 123);
    stage.data(control, &masked(Opcode::Close, &close.2));
    assert_eq!(stage.fate(control), Some(Fate::Closed));
    assert_eq!(stage.role.leftovers(), (0, 0));
}

#[test]
fn a_bad_renewal_closes_the_channel() {
    for body in [
        r#"{"renewToken":{"token":"TokenProvider$x@1b2c3d"}}"#,
        r#"{"renewToken":{"token":7}}"#,
        r#"{"renewToken":{}}"#,
    ] {
        let (mut stage, table) = relay();
        let control = stage.listener("ent", "");
        stage.data(control, &masked(Opcode::Text, body.as_bytes()));
        let closing = frames(Side::Client, &stage.take(control));
        let (code, reason) = close_reason(&closing[0].2).unwrap();
        assert_eq!((closing.len(), code), (1, 1008));
        assert!(reason.starts_with("MalformedToken: "), "{reason}");
        assert_eq!(stage.fate(control), None, "it may answer first");
        assert_eq!(table.0.borrow().counts["ent"], 0);
        stage.pass(6);
        assert_eq!(stage.fate(control), Some(Fate::Closed));
    }
}

#[test]
fn a_control_channel_answers_pings_and_bears_what_listeners_do() {
    let (mut stage, _) = relay();
    let control = stage.listener("ent", "");
    for (opcode, payload) in [
        (Opcode::Text, br#"{"injectFault":{"delay":"1"}}"#.as_slice()),
        (Opcode::Text, br#"{"response":{"requestId":"late","statusCode":"200","body":true}}"#),
        (Opcode::Binary, b"its body"),
        (Opcode::Text, br#"{"response":{"requestId":"late","statusCode":204}}"#),
        (Opcode::Binary, b""),
        (Opcode::Ping, b"hi"),
    ] {
        stage.data(control, &masked(opcode, payload));
    }
    assert_eq!(frames(Side::Client, &stage.take(control)), [(Opcode::Pong, true, b"hi".to_vec())]);
    stage.data(control, &masked(Opcode::Close, &[3, 232]));
    assert_eq!(frames(Side::Client, &stage.take(control)), [(Opcode::Close, true, vec![3, 232])]);
    assert_eq!(stage.fate(control), Some(Fate::Closed));
}

#[test]
fn a_control_channel_that_breaks_the_rules_is_closed() {
    let long = vec![b' '; 64 * 1024 + 1];
    for (frame, code) in [
        (masked(Opcode::Text, b"hello"), 1002),
        (masked(Opcode::Binary, b"unannounced"), 1002),
        (masked(Opcode::Text, &[0xff]), 1007),
        (masked(Opcode::Text, &long), 1009),
        (hc::plain(Opcode::Text, b"{}"), 1002),
        (masked(Opcode::Continuation, b"{}"), 1002),
    ] {
        let (mut stage, _) = relay();
        let control = stage.listener("ent", "");
        stage.data(control, &frame);
        let closing = frames(Side::Client, &stage.take(control));
        assert_eq!(close_reason(&closing[0].2).unwrap().0, code);
        assert_eq!(stage.fate(control), Some(Fate::Closed));
        assert_eq!(stage.role.leftovers(), (0, 0));
    }
}

#[test]
fn a_dead_listener_is_found_out_by_pings() {
    let (mut stage, table) = relay();
    let dead = stage.listener("ent", "");
    let live = stage.listener("ent", "");
    for _ in 0..10 {
        stage.pass(15);
        if frames(Side::Client, &stage.take(live)).iter().any(|f| f.0 == Opcode::Ping) {
            stage.data(live, &masked(Opcode::Pong, b""));
        }
    }
    assert_eq!((stage.fate(dead), stage.fate(live)), (Some(Fate::Aborted), None));
    assert_eq!(table.0.borrow().counts["ent"], 1);
}

#[test]
fn the_dead_make_room_for_the_listener_too_many() {
    let (mut stage, _) = relay();
    let controls: Vec<_> = (0..25).map(|_| stage.listener("ent", "")).collect();
    let head = upgrade("/$hc/ent?sb-hc-action=listen", &auth("ent", "Listen"));
    stage.pass(1);
    let more = stage.request(&head);
    for control in &controls[1..] {
        stage.data(*control, &masked(Opcode::Pong, b""));
    }
    stage.pass(6);
    assert_eq!(stage.status(more).0, 101);
    assert_eq!(stage.fate(controls[0]), Some(Fate::Aborted));

    let refused = stage.request(&head);
    for control in controls[1..].iter().chain([&more]) {
        stage.data(*control, &masked(Opcode::Pong, b""));
    }
    stage.pass(6);
    let (status, answer) = stage.status(refused);
    assert_eq!(status, 403, "{answer}");
}

#[test]
fn refused_listens_are_answered_three_times_and_then_held() {
    let (mut stage, _) = relay();
    let head = upgrade("/$hc/ent?sb-hc-action=listen", &auth("ent", "Send"));
    let conns: Vec<_> = (0..6).map(|_| stage.request(&head)).collect();
    let answered = conns.iter().filter(|c| !stage.net.out[c].is_empty()).count();
    assert_eq!(answered, 3);
    stage.listener("ent", "");
    stage.pass(31);
    assert_eq!(stage.status(conns[3]).0, 401);
    assert_eq!(stage.fate(conns[4]), None);
    stage.closed(conns[4], Close::Reset);
    stage.closed(conns[5], Close::Reset);
    assert_eq!(stage.role.leftovers(), (1, 0));
}

#[test]
fn revoking_ends_what_is_open() {
    let (mut stage, table) = relay();
    let (sender, listener) = stage.joined();
    let waiting = stage.sender("ent");
    let other = stage.listener("ent2", "");
    let revoke = |bearer: Option<&str>| Order::Revoke {
        entity: "ent".to_owned(),
        bearer: bearer.map(str::to_owned),
    };
    table.order(revoke(Some("Nobody")));
    stage.pass(1);
    stage.event(Event::Deadline);
    assert_eq!(stage.fate(sender), None);

    table.order(revoke(Some("Send")));
    stage.event(Event::Deadline);
    for leg in [sender, listener] {
        let closing = frames(Side::Client, &stage.take(leg));
        assert_eq!(close_reason(&closing[0].2).unwrap().0, 1001);
        assert_eq!(stage.fate(leg), Some(Fate::Closed));
    }
    assert_eq!(stage.status(waiting).0, 404);
    assert_eq!(table.0.borrow().counts["ent"], 1, "the listener is another bearer's");

    table.order(revoke(None));
    stage.event(Event::Deadline);
    assert_eq!(table.0.borrow().counts["ent"], 0);
    assert_eq!(stage.fate(other), None);
}

#[test]
fn a_stopping_relay_lets_relayed_sockets_end() {
    let (mut stage, _) = relay();
    let (sender, listener) = stage.joined();
    stage.event(Event::Signal(Signal::Stop));
    let exits = |notices: &[Notice]| {
        notices.iter().filter(|notice| matches!(notice, Notice::Exit(0, None))).count()
    };
    assert_eq!(exits(&stage.net.notices), 0);
    let refused = stage.sender("ent");
    assert_eq!(stage.status(refused).0, 503);
    stage.closed(sender, Close::Reset);
    assert_eq!(stage.fate(listener), Some(Fate::Aborted));
    assert_eq!(exits(&stage.net.notices), 1);
    stage.pass(21);
    assert_eq!(exits(&stage.net.notices), 1);
}

#[test]
fn the_relays_own_api_gets_requests_whole_and_keeps_the_connection() {
    let (mut stage, table) = relay();
    let conn = stage.accept();
    stage.data(conn, b"POST /status HTTP/1.1\r\nHost: n\r\nContent-Length: 5\r\n\r\nhel");
    assert!(table.0.borrow().calls.is_empty());
    stage.data(conn, b"loGET /subscriptions/x?y HTTP/1.1\r\nHost: n\r\n\r\n");
    assert!(stage.take_text(conn).ends_with("Content-Length: 5\r\n\r\nhello"));
    assert_eq!(table.0.borrow().calls[1].1.target, "/subscriptions/x?y");
    assert_eq!(stage.fate(conn), None);

    let conn = stage.request(b"GET /status HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n");
    assert_eq!(stage.status(conn).0, 200);
    assert_eq!(stage.fate(conn), Some(Fate::Closed));
}

#[test]
fn calls_with_bodies_that_cannot_be_are_refused() {
    for (fields, status) in [
        ("Content-Length: 1048577", 413),
        ("Content-Length: 99999999999999999999", 413),
        ("Content-Length: +5", 400),
        ("Content-Length: 5, 6", 400),
        ("Content-Length: 5\r\nContent-Length: 6", 400),
        ("Transfer-Encoding: chunked", 411),
    ] {
        let (mut stage, _) = relay();
        let head = format!("POST /status HTTP/1.1\r\nHost: n\r\n{fields}\r\n\r\n");
        let conn = stage.request(head.as_bytes());
        assert_eq!(stage.status(conn).0, status, "{fields}");
    }
}

#[test]
fn a_long_answer_waits_for_its_reader() {
    let (mut stage, _) = relay();
    let body = vec![b'x'; 300_000];
    let head =
        format!("POST /status HTTP/1.1\r\nHost: n\r\nContent-Length: {}\r\n\r\n", body.len());
    let conn = stage.request(head.as_bytes());
    stage.net.full.insert(conn);
    stage.data(conn, &body);
    assert_eq!(stage.take(conn), b"");
    stage.net.full.clear();
    stage.drained(conn, 1);
    assert!(stage.take(conn).ends_with(&body));
}

#[test]
fn errors_for_http_senders_are_json_and_have_no_via() {
    let (mut stage, _) = relay();
    for (target, fields, status, code) in [
        ("/ent", String::new(), 401, "TokenMissingOrInvalid"),
        ("/none", auth("", "Send"), 404, "EndpointNotFound"),
        ("/ent/x?a", auth("ent", "Send"), 501, "NotImplemented"),
    ] {
        let head = format!("GET {target} HTTP/1.1\r\nHost: relay.example\r\n{fields}\r\n");
        let conn = stage.request(head.as_bytes());
        let (got, answer) = stage.status(conn);
        assert_eq!(got, status, "{answer}");
        assert!(answer.contains("Content-Type: application/json\r\n"), "{answer}");
        assert!(
            answer.contains(&format!(r#"{{"error":{{"code":"{code}","message":""#)),
            "{answer}"
        );
        assert!(!answer.contains("Via"), "{answer}");
    }
}

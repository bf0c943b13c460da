//! Listening, connecting and meeting: who is let in, who waits, who is told what.

use cluster_connect::role::Close;

use crate::net::Fate;
use crate::table::token;
use crate::{auth, relay, upgrade};

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
        ("GET http://n/$hc/ent HTTP/1.1\r\nHost: n\r\n\r\n", 400, "cannot be read"),
        ("GET /$hc/ent HTTP/1.1\r\nHost: n/evil\r\n\r\n", 400, "cannot be read"),
        ("GET /$hc/ent HTTP/1.1\r\nHost: n\nX: y\r\n\r\n", 400, "cannot be read"),
        ("\x16\x03\x01\x02\r\n\r\n", 400, "cannot be read"),
        (
            "GET /$hc/ent HTTP/1.1\r\nHost: n\r\nUpgrade: websocket\r\n\r\n",
            400,
            "not to websocket version 13",
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
fn a_listener_that_takes_nothing_in_is_passed_over() {
    let (mut stage, _) = relay();
    let control = stage.listener("ent", "");
    let large = format!("X: {}\r\n{}", "x".repeat(30_000), auth("ent", "Send"));
    let head = upgrade("/$hc/ent", &large);
    let senders: Vec<_> = (0..40).map(|_| stage.request(&head)).collect();
    let refused = senders.iter().filter(|s| !stage.net.out[s].is_empty()).count();
    assert!((1..10).contains(&refused), "{refused}");
    assert!(stage.take_text(*senders.last().unwrap()).contains("503 The listeners do not keep up"));
    stage.drained(control, 100_000);
    let sender = stage.request(&head);
    assert_eq!(stage.take(sender), b"");
}

#[test]
fn headers_that_no_listener_could_read_are_refused() {
    let (mut stage, _) = relay();
    stage.listener("ent", "");
    let escaped = "X: ".to_owned() + &"\u{1f}\"".repeat(0) + &"\"".repeat(33_000) + "\r\n";
    let conn = stage.request(&upgrade("/$hc/ent", &format!("{escaped}{}", auth("ent", "Send"))));
    assert_eq!(stage.status(conn).0, 431);
}

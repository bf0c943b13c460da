//! Bad input on the wire: guesses, tricks with paths, listeners that reach for what is another's,
//! and ends that vanish. Nothing of one entity reaches another.

use cluster_connect::role::relay::Relay;
use cluster_connect::role::{Close, ConnId};
use cluster_connect::wire::ws::{Opcode, close_reason};

use crate::http::{get, head, post, request, response, serving};
use crate::net::{Fate, Stage};
use crate::{auth, fragment, masked, relay, upgrade};

#[test]
fn a_listener_cannot_answer_what_another_was_asked() {
    let (mut stage, _, control) = serving();
    let neighbour = stage.listener("ent", "");
    let stranger = stage.listener("ent2", "");
    let sender = stage.request(&get());
    let (asked, others) = match stage.net.out[&control].is_empty() {
        true => (neighbour, [control, stranger]),
        false => (control, [neighbour, stranger]),
    };
    let (request, _) = stage.inline(asked);
    for other in others {
        let stolen = [
            response(&request.id, 200, &[], false),
            response(&request.id, 200, &[], true),
            masked(Opcode::Binary, b"stolen"),
        ];
        stage.data(other, &stolen.concat());
        assert_eq!((stage.take(sender), stage.fate(other)), (vec![], None));
    }
    stage.data(asked, &response(&request.id, 204, &[], false));
    assert_eq!(stage.status(sender).0, 204);
}

#[test]
fn an_id_is_no_way_into_another_entity() {
    let (mut stage, _) = relay();
    let control = stage.listener("ent", "");
    let sender = stage.sender("ent");
    let accept = stage.accept_command(control);
    for path in ["/ent2?", "/ent2/ent?", "/ent3?", "/clusters/one?", "?", "/en?", "/?"] {
        let address = accept.address.replace("/ent?", path);
        assert_ne!(address, accept.address);
        let conn = stage.open(&address);
        assert_eq!(stage.status(conn).0, 403, "{address}");
    }
    assert_eq!(stage.take(sender), b"");
    let conn = stage.open(&accept.address.replace("/ent?", "/ENT/below?"));
    assert_eq!((stage.status(conn).0, stage.status(sender).0), (101, 101));
}

#[test]
fn guesses_at_an_id_find_nothing_and_use_up_nothing() {
    let (mut stage, _) = relay();
    let control = stage.listener("ent", "");
    let sender = stage.sender("ent");
    let accept = stage.accept_command(control);
    let (front, random) = accept.id.rsplit_once('_').unwrap();
    let flipped = |at: usize| {
        let mut digits = random.as_bytes().to_vec();
        digits[at] = if digits[at] == b'0' { b'1' } else { b'0' };
        format!("{front}_{}", String::from_utf8(digits).unwrap())
    };
    let mut guesses: Vec<String> = (0..random.len()).map(flipped).collect();
    guesses.extend([
        String::new(),
        "_".to_owned(),
        front.to_owned(),
        format!("_{random}"),
        random.to_owned(),
        format!("{front}_{}", random.to_uppercase()).replace("_G0", "_g0"),
        format!("{front}_+{}", &random[1..]),
        format!("{front}_{random}0"),
        format!("{front}_{}", &random[1..]),
        "9".repeat(20_000),
    ]);
    for guess in guesses {
        let address = accept.address.replace(&accept.id, &guess);
        let conn = stage.open(&address);
        let (status, answer) = stage.status(conn);
        assert_eq!(status, 403, "{guess}");
        assert!(guess.contains(random) || !answer.contains(random), "{answer}");
        assert_eq!(stage.fate(conn), Some(Fate::Closed));
    }
    assert_eq!((stage.take(sender), stage.role.leftovers()), (vec![], (2, 1)));
    let conn = stage.open(&format!("{}&sb-hc-statusCode=7", accept.address));
    let (status, answer) = stage.status(conn);
    assert!(status == 400 && !answer.contains(random) && answer.contains(front), "{answer}");
    let conn = stage.open(&accept.address);
    assert_eq!(stage.status(conn).0, 101);
}

#[test]
fn paths_that_another_reader_would_read_otherwise_are_refused_or_taken_as_they_stand() {
    let (mut stage, table) = relay();
    for entity in &mut table.0.borrow_mut().entities {
        entity.http = true;
    }
    let long = format!("/$hc/{}", "a/".repeat(8000));
    let wide = format!("/$hc/ent{}", "x".repeat(20_000));
    for (path, status) in [
        ("/$hc/ent2/../ent", 400),
        ("/$hc/ent/..", 400),
        ("/$hc/./ent", 400),
        ("/$hc/%2e%2E/ent", 400),
        ("/$hc/ent2/.%2e/ent", 400),
        ("/$hc/../$hc/ent", 400),
        // An escaped slash is a letter of a name, and no name has one.
        ("/$hc/ent2%2f..%2fent", 404),
        ("/$hc/ent%2Fsub", 404),
        ("/$hc/ent%00", 404),
        ("/$hc/%E2%84%AAent", 404),
        ("/$hc/ent.", 404),
        ("/$hc/ent%20", 404),
        ("/$hc/ent\\..\\ent2", 404),
        ("/$hc/clusters", 404),
        ("/$hc/clusters/on", 404),
        ("/$hc", 404),
        ("/$hc/", 404),
        (long.as_str(), 404),
        (wide.as_str(), 404),
        // These name it, in one way or another.
        ("/$hc/ENT", 101),
        ("/$HC/e%6Et/", 101),
        ("/%24hc//ent//", 101),
        ("/$hc/Clusters/ONE", 101),
        ("/$hc/clusters%2Fone", 404),
    ] {
        let target = format!("{path}?sb-hc-action=listen");
        let conn = stage.request(&upgrade(&target, &auth("", "Listen")));
        assert_eq!(stage.status(conn).0, status, "{path}");
        if status != 101 {
            assert_eq!(stage.fate(conn), Some(Fate::Closed), "{path}");
        }
        // Refusals of one path do not hold those of the next one back.
        stage.pass(11);
    }
    let conn = stage.request(head("GET", "/ent/%2e%2e/ent2", &auth("", "Send")).as_bytes());
    assert_eq!(stage.status(conn).0, 400);
}

#[test]
fn nobody_listens_under_anothers_name() {
    let (mut stage, table) = relay();
    for (target, fields) in [
        ("/$hc/ent?sb-hc-action=listen", auth("ent2", "Listen")),
        ("/$hc/ent/../ent2?sb-hc-action=listen", auth("ent2", "Listen")),
        ("/$hc/ent?sb-hc-action=listen", auth("en", "Listen")),
        ("/$hc/ent?sb-hc-action=listen", auth("ent/sub", "Listen")),
        ("/$hc/ent?sb-hc-action=listen", auth("ent", "Send")),
        ("/$hc/ent?sb-hc-action=listen", auth("ent", "Listen").replace("sig=", "sig=A")),
        ("/$hc/ent?sb-hc-action=listen&sb-hc-token=", auth("ent2", "Listen")),
        ("/$hc/clusters/one?sb-hc-action=listen", auth("clusters", "Send")),
        ("/$hc/ent?sb-hc-action=listen", String::new()),
    ] {
        let conn = stage.request(&upgrade(target, &fields));
        let status = stage.status(conn).0;
        assert!(matches!(status, 400 | 401), "{target} {fields}: {status}");
        stage.pass(11);
    }
    // The Host is part of the audience: a token for one namespace is none for another.
    let head = String::from_utf8(upgrade("/$hc/ent?sb-hc-action=listen", &auth("ent", "Listen")));
    let conn = stage.request(head.unwrap().replace("relay.example\r", "relay.other\r").as_bytes());
    assert_eq!(stage.status(conn).0, 401);
    assert!(table.0.borrow().counts.is_empty());
}

#[test]
fn a_name_that_a_listener_gives_itself_opens_nothing_of_its_neighbours() {
    let (mut stage, _) = relay();
    let good = stage.listener("ent", "&sb-hc-id=one");
    // Too long, and with letters that no id has: such a listener has no name.
    let long = "x".repeat(65);
    for id in [long.as_str(), "a,one", "%2a", "a%0d%0aHost:x", ""] {
        stage.listener("ent", &format!("&sb-hc-id={id}"));
    }
    stage.listener("ent2", "&sb-hc-id=one");
    for _ in 0..20 {
        let named = "Microsoft-Relay-AllowedListeners: one\r\n";
        stage.request(&upgrade("/$hc/ent", &format!("{named}{}", auth("ent", "Send"))));
        stage.accept_command(good);
    }
}

/// A sender that leaves after each step of an exchange, and what is left of it.
#[test]
fn a_sender_that_vanishes_in_any_phase_leaves_nothing() {
    type Phase = fn(&mut Stage<Relay>, ConnId) -> ConnId;
    let phases: [(&str, Phase); 9] = [
        ("connected", |stage, _| stage.accept()),
        ("half a head", |stage, _| stage.request(b"GET /$hc/ent HT")),
        ("waits for a listener", |stage, _| stage.sender("ent")),
        ("waits, with early data", |stage, _| {
            let sender = stage.sender("ent");
            stage.data(sender, &masked(Opcode::Binary, &[1; 70_000]));
            sender
        }),
        ("half a body", |stage, _| {
            stage.request(&[post("Content-Length: 9\r\n"), b"half".to_vec()].concat())
        }),
        ("waits for a response", |stage, _| stage.request(&get())),
        ("is to be fetched", |stage, _| stage.request(&post("Content-Length: 70000\r\n"))),
        ("is being fetched", |stage, control| {
            let sender = stage.request(&post("Content-Length: 70000\r\n"));
            let address = stage.pointer(control);
            stage.opened(&address);
            stage.data(sender, b"part");
            sender
        }),
        ("is being answered", |stage, control| {
            let sender = stage.request(&get());
            let (request, _) = stage.inline(control);
            let rendezvous = stage.opened(&request.address);
            stage.data(rendezvous, &response(&request.id, 200, &[], true));
            stage.data(rendezvous, &fragment(Opcode::Binary, false, b"part"));
            sender
        }),
    ];
    for (name, phase) in phases {
        for gone in [Some(Close::Reset), Some(Close::Truncated), None] {
            let (mut stage, _, control) = serving();
            let sender = phase(&mut stage, control);
            match gone {
                Some(why) => stage.closed(sender, why),
                None => stage.finished(sender),
            }
            // Whatever was left to be said to the listener's side has its time.
            for _ in 0..4 {
                stage.pass(25);
                stage.data(control, &masked(Opcode::Pong, b""));
            }
            assert_eq!(stage.role.leftovers(), (1, 0), "{name}");
            assert_eq!(stage.net.leased(), 0, "{name}");
            let again = stage.request(&get());
            assert_eq!(stage.take(again), b"", "{name}: the listener still serves");
        }
    }
}

#[test]
fn a_listener_that_vanishes_before_it_is_joined_costs_one_answer() {
    let (mut stage, _, control) = serving();
    let sender = stage.request(&post("Content-Length: 70000\r\n"));
    let address = stage.pointer(control);
    let rendezvous = stage.opened(&address);
    let got = stage.got(rendezvous);
    assert_eq!(request(&got[0].2).method, "POST");
    stage.closed(rendezvous, Close::Reset);
    assert_eq!(stage.status(sender).0, 502);
    stage.closed(control, Close::Reset);
    assert_eq!(stage.role.leftovers(), (0, 0));
}

#[test]
fn a_control_channel_that_does_not_read_is_bounded_and_found_out() {
    let (mut stage, _) = relay();
    let control = stage.listener("ent", "");
    stage.net.full.insert(control);
    // Pings that it sends without reading the answers cost nothing.
    for _ in 0..1000 {
        stage.data(control, &masked(Opcode::Ping, &[7; 125]));
    }
    assert_eq!(stage.take(control), b"");
    let large = format!("X: {}\r\n{}", "x".repeat(30_000), auth("ent", "Send"));
    let senders: Vec<ConnId> =
        (0..200).map(|_| stage.request(&upgrade("/$hc/ent", &large))).collect();
    let queued = stage.net.out[&control].len();
    assert!(queued < 1024 * 1024 + 64 * 1024, "{queued} bytes queued");
    let refused = |stage: &Stage<Relay>, conn: &ConnId| !stage.net.out[conn].is_empty();
    let count = senders.iter().filter(|conn| refused(&stage, conn)).count();
    assert!((150..190).contains(&count), "{count} of 200 were told at once");
    stage.pass(91);
    assert_eq!(stage.fate(control), Some(Fate::Aborted));
    stage.pass(61);
    assert_eq!(stage.role.leftovers(), (0, 0));
}

#[test]
fn messages_without_end_are_cut_off_at_their_limits() {
    for (opcode, limit) in [(Opcode::Text, 64 * 1024), (Opcode::Binary, 128 * 1024)] {
        let (mut stage, _) = relay();
        let control = stage.listener("ent", "");
        let mut sent = 0;
        let mut frame = opcode;
        while stage.fate(control).is_none() {
            assert!(sent <= limit, "{sent} bytes of {opcode:?} were taken");
            stage.data(control, &fragment(frame, false, &[b' '; 4096]));
            frame = Opcode::Continuation;
            sent += 4096;
        }
        let closing = stage.got(control);
        assert_eq!(close_reason(&closing[0].2).unwrap().0, 1009);
        assert_eq!((stage.role.leftovers(), stage.net.leased()), ((0, 0), 0));
    }
    // A frame that only promises more than there may be is refused before its first byte.
    let (mut stage, _) = relay();
    let control = stage.listener("ent", "");
    stage.data(control, &[0x81, 0xff, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 1, 2, 3, 4]);
    assert_eq!(close_reason(&stage.got(control)[0].2).unwrap().0, 1009);
}

#[test]
fn json_that_is_none_or_too_deep_closes_the_channel_and_nothing_else() {
    let deep = format!("{{\"response\":{}1{}}}", "[".repeat(20_000), "]".repeat(20_000));
    for text in ["", "{", "[]", "null", "\"accept\"", "{}{}", "{\"a\":1,}", "\u{feff}{}", &deep] {
        let (mut stage, _) = relay();
        let control = stage.listener("ent", "");
        let other = stage.listener("ent2", "");
        stage.data(control, &masked(Opcode::Text, text.as_bytes()));
        let closing = stage.got(control);
        assert_eq!(close_reason(&closing[0].2).unwrap().0, 1002, "{text:.40}");
        assert_eq!((stage.fate(control), stage.fate(other)), (Some(Fate::Closed), None));
    }
    for text in [
        "{}",
        r#"{"response":[]}"#,
        r#"{"accept":{"address":"wss://x/","id":"y"}}"#,
        r#"{"request":{"address":"wss://x/"}}"#,
        r#"{"response":{"requestId":"x","statusCode":{}}}"#,
        r#"{"response":{"requestId":"x","statusCode":1e400}}"#,
    ] {
        let (mut stage, _) = relay();
        let control = stage.listener("ent", "");
        stage.data(control, &masked(Opcode::Text, text.as_bytes()));
        let got = stage.got(control);
        let closed = stage.fate(control).is_some();
        assert!(got.is_empty() && !closed || got[0].0 == Opcode::Close, "{text}");
    }
}

#[test]
fn heads_that_are_malformed_or_too_large_never_reach_a_listener() {
    let (mut stage, _, control) = serving();
    let token = auth("ent", "Send");
    for (head, status) in [
        (format!("GET /ent HTTP/1.1\r\nHost: n\r\n{token}X: {}\r\n\r\n", "x".repeat(40_000)), 431),
        (format!("GET /ent HTTP/1.1\r\nHost: n\r\n{}{token}\r\n", "X: y\r\n".repeat(200)), 431),
        (format!("GET /ent HTTP/1.1\r\nHost: n\r\nHost: m\r\n{token}\r\n"), 400),
        (format!("GET /ent HTTP/1.1\r\n{token}\r\n"), 400),
        (format!("GET /ent HTTP/2.0\r\nHost: n\r\n{token}\r\n"), 400),
        (format!("GET /ent HTTP/1.1\r\nHost: n\r\nX y\r\n{token}\r\n"), 400),
        (format!("GET /ent HTTP/1.1\r\nHost: n\r\n X: folded\r\n{token}\r\n"), 400),
        (
            format!(
                "POST /ent HTTP/1.1\r\nHost: n\r\nContent-Length: 1\r\nTransfer-Encoding: \
                 chunked\r\n{token}\r\n"
            ),
            400,
        ),
        (format!("POST /ent HTTP/1.1\r\nHost: n\r\nContent-Length: -1\r\n{token}\r\n"), 400),
        ("CONNECT ent:443 HTTP/1.1\r\nHost: ent:443\r\n\r\n".to_owned(), 400),
        ("OPTIONS * HTTP/1.1\r\nHost: n\r\n\r\n".to_owned(), 400),
    ] {
        let conn = stage.request(head.as_bytes());
        let (got, answer) = stage.status(conn);
        assert!(got == status || (status == 400 && got == 505), "{head:.60}: {answer}");
        assert_eq!(stage.fate(conn), Some(Fate::Closed), "{head:.60}");
    }
    assert_eq!(stage.take(control), b"");
    assert_eq!(stage.role.leftovers(), (1, 0));
}

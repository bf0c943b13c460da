//! What breaks, and how either side learns of it.

use super::*;
use crate::limits::{DRAIN_MAX, INTERIM_RESPONSES_MAX, REQUEST_HEAD_MAX};
use crate::wire::h1::Malformed;

#[test]
fn a_malformed_head_is_answered_and_nothing_goes_up() {
    for (text, rule) in [
        ("GET /a HTTP/1.1\n", Malformed::BareLf),
        ("GET /a HTTP/1.1\r\nHost: h\r\nA : b\r\n\r\n", Malformed::FieldName),
        ("GET /a HTTP/3.0\r\nHost: h\r\n\r\n", Malformed::Version),
        ("GET /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: x\r\n\r\n", Malformed::UnknownCoding),
        ("GET /a HTTP/1.1\r\nHost: h\r\nExpect: x\r\n\r\n", Malformed::Expectation),
        ("\r\n\r\n\r\nGET", Malformed::EmptyLines),
        (&"a".repeat(REQUEST_HEAD_MAX + 1), Malformed::HeadTooLong),
    ] {
        let mut rig = Rig::new();
        rig.down(text).down(GET);
        assert_eq!(rig.status(), rule.status().to_string());
        assert!(rig.sent_down().contains("Connection: close"));
        assert_eq!(rig.log, [format!("failed: malformed request: {rule}")]);
        assert_eq!((rig.up.len(), rig.down_end), (0, Some(End::Finish)));
        rig.step(Exchange::down_finished);
        assert_eq!(rig.down_end, Some(End::Close));
    }
}

#[test]
fn a_malformed_body_that_is_already_here_takes_its_head_with_it() {
    for body in ["-3\r\nabc", "3\r\nabcd\r\n", "3 \r\n", "0\n\r\n", "0\r\na\r\n"] {
        let mut rig = Rig::new();
        rig.down(format!("{CHUNKED}{body}"));
        assert_eq!((rig.status(), rig.sent_up(0).as_str()), ("400", ""), "{body:?}");
        assert_eq!(rig.up_ends[0], Some(End::Abort), "{body:?}");
    }
}

#[test]
fn a_body_that_turns_out_malformed_ends_both_connections() {
    let mut rig = Rig::new();
    rig.down(CHUNKED).down("3\r\nabc\r\n").down("x");
    assert_eq!((rig.status(), rig.up_ends[0]), ("400", Some(End::Abort)));
    assert!(!rig.sent_up(0).contains("0\n\n"));
    // Once a response flows, it breaks off.
    let mut rig = Rig::new();
    rig.down(CHUNKED).up("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").down("x");
    assert_eq!((rig.up_ends[0], rig.down_end), (Some(End::Abort), Some(End::Abort)));
}

#[test]
fn a_malformed_response_is_a_502_and_ends_both() {
    for response in [
        "HTTP/1.1 200 OK\r\nA: b\nX: y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ] {
        let mut rig = Rig::new();
        rig.down(GET).up(response);
        assert_eq!(rig.status(), "502", "{response:?}");
        assert_eq!((rig.up_ends[0], rig.down_end), (Some(End::Abort), Some(End::Finish)));
    }
    let mut rig = Rig::new();
    rig.down(GET).up("HTTP/1.1 102 Processing\r\n\r\n".repeat(INTERIM_RESPONSES_MAX + 1));
    assert!(rig.sent_down().contains("502 Bad Gateway"));
}

#[test]
fn bytes_after_a_response_cost_the_upstream_connection() {
    for (request, response) in [
        (GET, OK),
        (GET, "HTTP/1.1 204 No Content\r\n\r\n"),
        (GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n"),
        ("HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"),
    ] {
        let mut rig = Rig::new();
        rig.down(request.repeat(2)).up(format!("{response}abc"));
        assert_eq!(rig.up_ends[0], Some(End::Abort), "{response:?}");
        assert!(!rig.sent_down().contains("abc"));
        // The next request travels on a connection of its own.
        rig.up(response);
        assert_eq!(rig.up.len(), 2);
        assert_eq!((rig.last(), rig.down_end), ("complete", None));
    }
}

#[test]
fn an_upstream_that_cannot_be_reached_is_a_502_with_a_sentence() {
    let mut rig = Rig::new();
    rig.connects = false;
    rig.down(GET);
    rig.step(|exchange, now, out| exchange.up_failed("edge-7 is asleep", now, out));
    assert_eq!(rig.status(), "502");
    assert!(rig.sent_down().contains("edge-7 is asleep"));
    assert!(String::from_utf8_lossy(&rig.down).contains("\"kind\":\"Status\""));
}

#[test]
fn discovery_reads_the_sentence_as_text() {
    let mut rig = Rig::new();
    rig.connects = false;
    rig.down(
        b"GET /api HTTP/1.1\r\nHost: a\r\nAccept: application/json;g=apidiscovery.k8s.io;v=v2;\
          as=APIGroupDiscoveryList,application/json\r\n\r\n",
    );
    rig.step(|exchange, now, out| exchange.up_failed("edge-7 is asleep", now, out));
    assert_eq!(rig.status(), "502");
    let sent = rig.sent_down();
    assert!(sent.contains("text/plain") && sent.ends_with("\n\nedge-7 is asleep"), "{sent}");
}

#[test]
fn a_session_that_breaks_says_so_unless_an_answer_flows() {
    let mut rig = Rig::new();
    rig.down(GET);
    rig.step(|exchange, now, out| exchange.up_broken("edge-7 was lost", now, out));
    assert_eq!(rig.status(), "502");
    assert!(rig.sent_down().contains("edge-7 was lost"));
    let mut rig = Rig::new();
    rig.down(GET);
    rig.up(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
    rig.step(|exchange, now, out| exchange.up_broken("edge-7 was lost", now, out));
    assert!(!rig.sent_down().contains("edge-7 was lost"));
    assert_eq!(rig.down_end, Some(End::Abort));
}

#[test]
fn a_role_may_answer_while_the_upstream_is_being_reached() {
    let mut rig = Rig::new();
    rig.connects = false;
    rig.down(GET);
    let (head, body) = status_response(503, "no");
    rig.step(|exchange, now, out| exchange.respond(&head, &body, now, out));
    assert_eq!((rig.status(), rig.up_ends[0], rig.down_end), ("503", Some(End::Abort), None));
    rig.connects = true;
    rig.down(GET).up(OK);
    assert_eq!((rig.last(), rig.up.len()), ("complete", 2));
}

#[test]
fn an_upstream_that_dies_early_is_a_502_and_late_an_abort() {
    for finish in [Exchange::up_finished, Exchange::up_lost] {
        let mut rig = Rig::new();
        rig.down(GET).up("HTTP/1.1 200");
        rig.step(finish);
        assert_eq!((rig.status(), rig.down_end), ("502", Some(End::Finish)));
        for framing in ["Content-Length: 9", "Transfer-Encoding: chunked"] {
            let mut rig = Rig::new();
            rig.down(GET).up(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n3\r\nabc\r\n"));
            rig.step(finish);
            assert_eq!(
                (rig.last(), rig.down_end),
                (
                    "failed: the upstream closed the connection before it had answered in full; it may be restarting: try again",
                    Some(End::Abort)
                )
            );
            assert!(!rig.sent_down().ends_with("0\n\n"));
        }
    }
    let mut rig = Rig::new();
    rig.down(GET).up("HTTP/1.1 200 OK\r\n\r\nabc");
    rig.step(Exchange::up_lost);
    assert_eq!(rig.down_end, Some(End::Abort));
}

#[test]
fn a_caller_that_goes_takes_its_request_with_it() {
    let mut rig = Rig::new();
    rig.down(POST).down("he");
    rig.step(Exchange::down_finished);
    assert_eq!((rig.up_ends[0], rig.last()), (Some(End::Abort), "failed: the caller has gone"));
    let mut rig = Rig::new();
    rig.connects = false;
    rig.down(GET);
    rig.step(|exchange, _, out| exchange.down_lost(out));
    assert!(rig.exchange.is_gone());
    rig.step(Exchange::up_connected);
    assert_eq!(rig.sent_up(0), "");
}

#[test]
fn a_cut_leaves_no_body_that_looks_whole() {
    let mut rig = Rig::new();
    rig.down("GET /a?watch HTTP/1.1\r\nHost: h\r\n\r\n");
    rig.up("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    rig.step(Exchange::cut);
    assert!(rig.sent_down().ends_with("3\nabc\n"));
    assert_eq!((rig.down_end, rig.up_ends[0]), (Some(End::Close), Some(End::Abort)));
    assert_eq!(rig.last(), "failed: the token has expired");
    // A body that ends with the connection would look whole, so it is broken off.
    let mut rig = Rig::new();
    rig.down("GET /a?watch HTTP/1.0\r\n\r\n").up("HTTP/1.1 200 OK\r\n\r\nabc");
    rig.step(Exchange::cut);
    assert_eq!(rig.down_end, Some(End::Abort));
    let mut rig = Rig::new();
    rig.down(GET);
    rig.step(Exchange::cut);
    assert_eq!(rig.status(), "401");
    assert!(rig.sent_down().contains("WWW-Authenticate: Bearer\n"));
}

#[test]
fn what_a_caller_sends_after_the_last_response_is_discarded_within_bounds() {
    let mut rig = Rig::new();
    rig.down("GET /a HTTP/1.1\n").down(vec![b'x'; DRAIN_MAX]);
    assert_eq!(rig.down_end, Some(End::Finish));
    rig.down("x");
    assert_eq!(rig.down_end, Some(End::Close));
    assert!(rig.exchange.is_gone() && !rig.exchange.wants_down());
}

#[test]
fn a_head_that_cannot_be_written_does_not_go_up() {
    let mut exchange = Exchange::new(Instant::now());
    let (now, mut out) = (Instant::now(), Output::default());
    exchange.handle_down(b"GET /a HTTP/1.1\r\nHost: h\r\nTE: x\r\n\r\n", now, &mut out);
    let Some(Event::Request(head)) = exchange.poll_event() else { panic!("no request") };
    assert!(exchange.forward(&head, Patience::Ordinary, now, &mut out).is_err());
    let (head, body) = status_response(500, "no");
    exchange.respond(&head, &body, now, &mut out);
    assert!(out.down.starts_with(b"HTTP/1.1 500 ") && out.up.is_empty());
    assert_eq!(exchange.poll_event(), None);
}

/// Pieces of requests, honest and not, to be put together at random.
const FRAGMENTS: [&str; 24] = [
    GET,
    POST,
    CHUNKED,
    "hello",
    "5\r\nhello\r\n",
    "0\r\n\r\n",
    "0\r\nT: v\r\n\r\n",
    "\r\n",
    "\n",
    "\r",
    "\0",
    "GET /deny HTTP/1.1\r\nHost: h\r\n",
    "Content-Length: 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "Expect: 100-continue\r\n",
    "\r\n\r\n",
    "x",
    "3;e\r\nabc\r\n",
    "GET /a HTTP/1.0\r\n",
    "Host: h\r\n",
    "Upgrade: websocket\r\nConnection: upgrade\r\n",
    "ffffffffffffffff\r\n",
    ": ",
];

#[test]
fn whatever_comes_the_cuts_make_no_difference_to_the_caller() {
    let mut seed = 1u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    for round in 0..20_000 {
        let text: String = (0..=random(7)).map(|_| FRAGMENTS[random(FRAGMENTS.len())]).collect();
        let (mut whole, mut cut) = (Rig::new(), Rig::new());
        // An invitation depends on whether the body is already here, so there is none.
        whole.connects = false;
        cut.connects = false;
        whole.down(&text);
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(1 + random(rest.len()));
            cut.down(piece);
            rest = tail;
        }
        for rig in [&mut whole, &mut cut] {
            if rig.exchange.phase == Phase::Waiting {
                rig.step(Exchange::up_connected);
            }
            if rig.exchange.phase == Phase::Relaying {
                rig.up(OK);
            }
        }
        assert_eq!(whole.sent_down(), cut.sent_down(), "round {round}: {text:?}");
        assert_eq!((&whole.log, &whole.up), (&cut.log, &cut.up), "round {round}: {text:?}");
    }
}

//! An auth proxy that goes: a stream that was on its way to it then is not taken, and what it was
//! for is done on another session, once. What was taken is not done again.

use std::time::Instant;

use cluster_connect::buf::{Pool, Pressure};
use cluster_connect::engine::mux::Session;
use cluster_connect::engine::ws;
use cluster_connect::limits::STREAM_TRIES;
use cluster_connect::role::ConnId;
use cluster_connect::wire::mux::{Flags, Header, Kind, StreamId};

use crate::near::{Near, OK, request};

/// A caller asks, and before that reaches its auth proxy this one goes.
fn crossed(bytes: &[u8]) -> (Near, ConnId, ConnId) {
    let (mut near, session) = Near::ready();
    near.far(session).tunnel.go_away();
    let caller = near.ask(bytes);
    (near, session, caller)
}

fn is_answered(near: &mut Near, session: ConnId, caller: ConnId) {
    let far = near.far(session);
    let stream = far.only();
    far.say(stream, OK);
    near.carry();
    let heard = near.heard(caller);
    assert!(heard.starts_with("HTTP/1.1 200 ") && heard.ends_with("ok"), "{heard}");
}

#[test]
fn a_request_that_crosses_the_farewell_is_served_on_another_session() {
    let (mut near, session, caller) = crossed(&request("GET", "", b""));
    near.carry();
    assert!(near.far(session).got.is_empty(), "nothing of it was taken");
    assert!(near.far(session).is_left);
    assert_eq!(near.heard(caller), "", "and nobody hears of that");
    let second = near.dialled(2);
    near.meet(second);
    let stream = near.far(second).only();
    let text = near.far(second).text(stream);
    assert!(text.starts_with("GET /api/v1/pods HTTP/1.1\r\n") && text.ends_with("\r\n\r\n"));
    assert_eq!(text.matches("GET ").count(), 1);
    is_answered(&mut near, second, caller);
    // The connection goes on as any other.
    near.stage.data(caller, &request("GET", "", b""));
    near.carry();
    assert_eq!(near.far(second).text(stream).matches("GET ").count(), 2);
    assert_eq!(near.stage.net.connects.len(), 2);
}

#[test]
fn the_farewell_the_refusal_and_the_end_may_come_in_one_piece() {
    for behind in [Vec::new(), ws::close(1000, "", None)] {
        let (mut near, session, caller) = crossed(&request("GET", "", b""));
        near.carry_up();
        near.carry_down_at_once(session, &behind);
        assert_eq!(near.heard(caller), "");
        let second = near.dialled(2);
        near.meet(second);
        is_answered(&mut near, second, caller);
    }
}

#[test]
fn an_answer_that_is_whole_counts_though_the_session_ends_behind_it() {
    for goes in [false, true] {
        let (mut near, session) = Near::ready();
        let caller = near.ask(&request("GET", "", b""));
        near.carry_up();
        let far = near.far(session);
        let stream = far.only();
        far.say(stream, OK);
        if goes {
            far.tunnel.go_away();
        }
        near.carry_down_at_once(session, &ws::close(1000, "", None));
        let heard = near.heard(caller);
        assert!(heard.starts_with("HTTP/1.1 200 ") && heard.ends_with("ok"), "{heard}");
    }
}

#[test]
fn a_body_comes_whole_wherever_the_farewell_crosses_it() {
    let body: Vec<u8> = (0..600_000u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
    for first in [0, 1, 40_000, 200_000, 400_000] {
        let fields = format!("Content-Length: {}\r\n", body.len());
        let (mut near, session, caller) = crossed(&request("POST", &fields, &body[..first]));
        near.carry();
        assert!(near.far(session).got.is_empty());
        assert!(near.stage.net.paused.contains(&caller), "what is kept is bounded");
        // Some of it comes while there is no session.
        let rest = &body[first..];
        let (between, rest) = rest.split_at(rest.len().min(10_000));
        near.stage.data(caller, between);
        let second = near.dialled(2);
        near.meet(second);
        assert!(!near.stage.net.paused.contains(&caller));
        for piece in rest.chunks(20_000) {
            near.stage.data(caller, piece);
            near.carry();
        }
        let stream = near.far(second).only();
        let far = near.far(second);
        let text = &far.got[&stream];
        let at = text.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
        assert!(text[at..] == body, "{first}: {} of {}", text.len() - at, body.len());
        is_answered(&mut near, second, caller);
        assert_eq!(near.stage.net.leased(), 0, "{first}");
    }
}

#[test]
fn what_was_taken_before_is_finished_and_not_repeated() {
    let (mut near, session) = Near::ready();
    let taken = near.ask(&request("GET", "", b""));
    near.carry();
    near.far(session).tunnel.go_away();
    let late = near.ask(&request("DELETE", "", b""));
    near.carry();
    let second = near.dialled(2);
    near.meet(second);
    let stream = near.far(second).only();
    assert!(near.far(second).text(stream).starts_with("DELETE "));
    is_answered(&mut near, session, taken);
    is_answered(&mut near, second, late);
    assert!(!near.far(session).is_left);
    let stream = near.far(session).only();
    near.far(session).tunnel.finish(stream);
    near.carry();
    assert!(near.far(session).is_left);
}

/// The auth proxy has had it, and nobody knows what it did with it.
#[test]
fn a_stream_that_was_taken_and_given_up_is_not_repeated() {
    for says_so_first in [true, false] {
        let (mut near, session) = Near::ready();
        let caller = near.ask(&request("POST", "Content-Length: 2\r\n", b"ok"));
        near.carry_up();
        let far = near.far(session);
        let stream = far.only();
        if says_so_first {
            far.tunnel.go_away();
        }
        // Its acknowledgement has not left yet.
        assert!(far.tunnel.reset(stream));
        near.carry();
        let heard = near.heard(caller);
        assert!(heard.starts_with("HTTP/1.1 502 "), "{says_so_first}: {heard}");
        let again = near.stage.net.connects.len();
        assert_eq!(again, 1, "{says_so_first}");
    }
}

/// What one end hears of its first stream, which has left with a byte, after these frames.
fn heard(frames: &[(Kind, Flags, u32)]) -> Vec<String> {
    let (mut session, pool, now) = (Session::new(true), Pool::new(8, 8, 4096), Instant::now());
    let stream = session.open().unwrap();
    let send = |bytes: &[u8]| pool.slices(bytes).next().unwrap();
    let _: Pressure = session.send(stream, send(b"x"));
    while session.transmit(&mut Vec::new()) {}
    for &(kind, flags, id) in frames {
        let head = Header { kind, flags, stream: StreamId(id), length: 0 };
        session.receive(send(&head.encode()), now).unwrap();
    }
    std::iter::from_fn(|| session.poll_event()).map(|event| format!("{event:?}")).collect()
}

#[test]
fn only_a_reset_after_the_farewell_of_what_was_never_acknowledged_is_a_refusal() {
    let farewell = (Kind::GoAway, Flags::NONE, 0);
    let reset = (Kind::WindowUpdate, Flags::RST, 1);
    let taken = (Kind::WindowUpdate, Flags::ACK, 1);
    let data = (Kind::Data, Flags::NONE, 1);
    let both = (Kind::WindowUpdate, Flags::ACK | Flags::RST, 1);
    let unknown = (Kind::WindowUpdate, Flags::RST, 3);
    let closed = |how: &str| format!("Closed(StreamId(1), {how})");
    let gone = || "GoingAway".to_owned();
    assert_eq!(heard(&[farewell, reset]), [gone(), closed("Refused")]);
    assert_eq!(heard(&[farewell, reset, reset]), [gone(), closed("Refused")], "once");
    assert_eq!(heard(&[farewell, unknown]), [gone()]);
    assert_eq!(heard(&[reset, farewell]), [closed("Reset"), gone()], "too early to be one");
    assert_eq!(heard(&[reset]), [closed("Reset")]);
    for taken in [taken, data] {
        assert_eq!(heard(&[farewell, taken, reset]), [gone(), closed("Reset")]);
        assert_eq!(heard(&[taken, farewell, reset]), [gone(), closed("Reset")]);
    }
    assert_eq!(heard(&[farewell, both]), [gone(), closed("Reset")]);
    assert_eq!(heard(&[both, farewell, reset]), [closed("Reset"), gone()]);
}

#[test]
fn one_that_goes_each_time_is_not_tried_for_ever() {
    let (mut near, _, caller) = crossed(&request("GET", "", b""));
    for count in 2..=usize::from(STREAM_TRIES) {
        near.carry();
        assert_eq!(near.heard(caller), "");
        let next = near.dialled(count);
        // It goes before it has heard of the request.
        near.meet_leaving(next);
    }
    near.carry();
    let heard = near.heard(caller);
    assert!(heard.starts_with("HTTP/1.1 502 ") && heard.contains("is going away"), "{heard}");
    assert_eq!(near.stage.net.connects.len(), usize::from(STREAM_TRIES));
}

#[test]
fn a_caller_that_leaves_meanwhile_leaves_nothing_behind() {
    let (mut near, _, caller) = crossed(&request("GET", "", b""));
    near.carry();
    near.hang_up(caller);
    let second = near.dialled(2);
    near.meet(second);
    assert!(near.far(second).got.is_empty());
    assert_eq!((near.stage.role.leftovers(), near.stage.net.leased()), ((0, 0), 0));
}

#[test]
fn where_there_is_no_other_session_the_caller_is_told() {
    let (mut near, _, caller) = crossed(&request("GET", "", b""));
    near.carry();
    let second = near.dialled(2);
    near.refuse(second, "404 There are no listeners connected for the endpoint");
    let heard = near.heard(caller);
    assert!(heard.starts_with("HTTP/1.1 502 ") && heard.contains("offline"), "{heard}");
    near.stage.pass(120);
    assert_eq!((near.stage.role.leftovers().1, near.stage.net.leased()), (0, 0));
}

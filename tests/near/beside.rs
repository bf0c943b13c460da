//! A second session beside a crowded one: not asked for again and again, and not used once its
//! auth proxy goes.

use cluster_connect::role::ConnId;

use crate::near::{Near, OK, request};

/// A session on which a download has made its way twenty times as long, whatever its windows do.
fn crowded() -> (Near, ConnId, ConnId) {
    let (mut near, session) = Near::ready();
    let caller = near.ask(&request("GET", "", b""));
    near.carry();
    let far = near.far(session);
    let stream = far.only();
    far.say(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
    for _ in 0..8 {
        if near.stage.net.connects.len() < 2 {
            flow(&mut near, session, caller);
        }
    }
    (near, session, caller)
}

/// A session as [`crowded`] makes it, and a second one, which has the one stream that came then.
fn relieved() -> (Near, [ConnId; 2], [ConnId; 2]) {
    let (mut near, session, caller) = crowded();
    let second = near.dialled(2);
    near.meet(second);
    flow(&mut near, session, caller);
    let other = near.ask(&request("GET", "", b""));
    near.carry();
    (near, [session, second], [caller, other])
}

/// Five seconds in which half a megabyte goes to a caller who takes it, and mostly one passes before
/// anybody hears of that: the way is no longer than it was, but there is much on it.
fn flow(near: &mut Near, session: ConnId, caller: ConnId) {
    for wait in [0, 1, 1] {
        near.stage.pass(1);
        let far = near.far(session);
        let stream = *far.got.keys().next().unwrap();
        far.say(stream, &[b'x'; 150_000]);
        near.carry_down();
        near.heard(caller);
        near.stage.pass(wait);
        near.carry();
        near.heard(caller);
    }
}

#[test]
fn whoever_refuses_a_second_session_is_left_alone_for_half_a_minute() {
    let (mut near, session, caller) = crowded();
    let second = near.dialled(2);
    near.refuse(second, "429 TooManyRequests");
    for _ in 0..4 {
        flow(&mut near, session, caller);
        assert_eq!(near.stage.net.connects.len(), 2, "not asked all the time");
    }
    (0..3).for_each(|_| flow(&mut near, session, caller));
    let third = near.dialled(3);
    near.refuse(third, "429 TooManyRequests");
    // The first goes on with what it has and what comes.
    near.ask(&request("GET", "", b""));
    near.carry();
    assert_eq!(near.far(session).got.len(), 2);
}

#[test]
fn a_second_session_whose_auth_proxy_goes_takes_no_streams() {
    let (mut near, session, caller) = crowded();
    let second = near.dialled(2);
    near.meet(second);
    near.far(second).tunnel.go_away();
    near.carry();
    assert!(near.far(second).is_left, "it was of no use to anybody");
    flow(&mut near, session, caller);
    let other = near.ask(&request("GET", "", b""));
    near.carry();
    assert_eq!((near.far(session).got.len(), near.far(second).got.len()), (2, 0));
    let stream = *near.far(session).got.keys().next_back().unwrap();
    near.far(session).say(stream, OK);
    near.carry();
    assert!(near.heard(other).ends_with("ok"));
}

#[test]
fn what_comes_later_goes_to_the_second_session() {
    let (mut near, sessions, _) = relieved();
    assert_eq!(sessions.map(|conn| near.far(conn).got.len()), [1, 1]);
}

/// An upload on a way that became as long: only the other end knows for how long, and its pings say
/// so.
#[test]
fn what_comes_beside_an_upload_goes_to_a_second_session() {
    let (mut near, session) = Near::ready();
    let caller = near.ask(&request("POST", "Content-Length: 100000000\r\n", b""));
    near.carry();
    for _ in 0..10 {
        for wait in [0, 1, 1] {
            near.stage.pass(1);
            near.stage.data(caller, &[b'x'; 150_000]);
            near.carry_up();
            near.stage.pass(wait);
            near.carry();
        }
    }
    let second = near.dialled(2);
    near.meet(second);
    near.ask(&request("GET", "", b""));
    near.carry();
    assert_eq!((near.far(session).got.len(), near.far(second).got.len()), (1, 1));
}

#[test]
fn a_second_session_that_becomes_crowded_gets_another_as_soon_as_the_first_is_gone() {
    let (mut near, [session, second], [caller, other]) = relieved();
    let stream = near.far(second).only();
    near.far(second).say(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
    for _ in 0..3 {
        flow(&mut near, second, other);
    }
    near.dialled(2);
    near.hang_up(caller);
    near.carry();
    assert!(near.far(session).is_left, "it has nothing to go on with");
    flow(&mut near, second, other);
    near.dialled(3);
}

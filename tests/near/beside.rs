//! A second session beside one that is crowded, or far away: not asked for again and again, who has
//! which of both, and what becomes of them when one goes or both are no longer needed.

use std::time::Duration;

use cluster_connect::role::{Close, ConnId, Net as _};

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

/// As many seconds in which both sessions answer.
fn rest(near: &mut Near, seconds: u64) {
    for _ in 0..seconds / 10 {
        near.stage.pass(10);
        near.carry();
    }
}

/// The streams that each of them has had.
fn streams<const N: usize>(near: &mut Near, sessions: [ConnId; N]) -> [usize; N] {
    sessions.map(|conn| near.far(conn).got.len())
}

#[test]
fn when_the_second_becomes_crowded_and_the_first_no_longer_is_who_comes_goes_to_the_first() {
    let (mut near, sessions, [caller, other]) = relieved();
    near.hang_up(caller);
    near.carry();
    let stream = near.far(sessions[1]).only();
    near.far(sessions[1]).say(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
    for _ in 0..5 {
        flow(&mut near, sessions[1], other);
    }
    let before = streams(&mut near, sessions);
    for _ in 0..3 {
        near.ask(&request("GET", "", b""));
    }
    near.carry();
    assert_eq!(streams(&mut near, sessions), [before[0] + 3, before[1]]);
    near.dialled(2);
}

#[test]
fn of_two_that_are_not_crowded_who_comes_has_the_one_with_fewer_streams() {
    let (mut near, sessions, [caller, _]) = relieved();
    near.hang_up(caller);
    rest(&mut near, 60);
    let mut had = streams(&mut near, sessions);
    // The other one has the caller that came beside the download.
    for place in [0, 0, 1, 0, 1] {
        near.ask(&request("GET", "", b""));
        near.carry();
        had[place] += 1;
        assert_eq!(streams(&mut near, sessions), had);
    }
}

#[test]
fn whose_streams_are_gone_crowds_nobody_although_it_was_crowded_just_now() {
    let (mut near, sessions, [caller, _]) = relieved();
    near.hang_up(caller);
    near.ask(&request("GET", "", b""));
    near.carry();
    assert_eq!(streams(&mut near, sessions), [2, 1]);
}

#[test]
fn one_of_two_goes_when_neither_has_been_crowded_for_five_minutes() {
    let (mut near, [session, second], [caller, other]) = relieved();
    near.hang_up(caller);
    let mut passed = 0;
    while !near.far(session).is_left && passed < 600 {
        rest(&mut near, 10);
        passed += 10;
    }
    assert!((270..=330).contains(&passed), "{passed}");
    near.hang_up(other);
    rest(&mut near, 600);
    assert!(!near.far(second).is_left, "one stays");
    near.ask(&request("GET", "", b""));
    near.carry();
    assert_eq!(near.far(second).got.len(), 2);
    near.dialled(2);
}

#[test]
fn when_the_first_is_lost_the_second_takes_its_place() {
    let (mut near, [session, second], _) = relieved();
    near.stage.closed(session, Close::Reset);
    for _ in 0..2 {
        near.ask(&request("GET", "", b""));
    }
    near.carry();
    assert_eq!(near.far(second).got.len(), 3);
    near.dialled(2);
}

#[test]
fn when_the_auth_proxy_of_the_first_goes_the_second_takes_its_place() {
    let (mut near, [session, second], _) = relieved();
    near.far(session).tunnel.go_away();
    near.carry();
    for _ in 0..2 {
        near.ask(&request("GET", "", b""));
    }
    near.carry();
    assert_eq!((near.far(session).got.len(), near.far(second).got.len()), (1, 3));
    near.dialled(2);
}

#[test]
fn when_the_first_is_lost_while_the_second_is_on_its_way_whichever_comes_serves_who_waits() {
    for comes in [2, 3] {
        let (mut near, session, _) = crowded();
        let second = near.dialled(2);
        near.stage.closed(session, Close::Reset);
        let caller = near.ask(&request("GET", "", b""));
        let third = near.dialled(3);
        let [up, other] = if comes == 2 { [second, third] } else { [third, second] };
        near.meet(up);
        near.refuse(other, "429 TooManyRequests");
        near.carry();
        let stream = near.far(up).only();
        near.far(up).say(stream, OK);
        near.carry();
        assert!(near.heard(caller).ends_with("ok"), "{comes}");
    }
}

#[test]
fn when_neither_has_been_crowded_for_long_who_comes_stays_off_the_one_that_is_to_end() {
    let (mut near, sessions, _) = relieved();
    let [first, second] = sessions.map(|session| near.far(session).only());
    let ask = |near: &mut Near, count| {
        for _ in 0..count {
            near.ask(&request("GET", "", b""));
            near.carry();
        }
    };
    // What they have goes on.
    for seconds in [150, 150, 30] {
        rest(&mut near, seconds);
        near.far(sessions[0]).say(first, b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
        near.far(sessions[1]).say(second, b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
        near.carry();
    }
    let had = streams(&mut near, sessions);
    ask(&mut near, 4);
    assert_eq!(streams(&mut near, sessions), [had[0] + 4, had[1]]);
}

/// A session over a way of a second, with a caller who stays, and the second one beside it.
fn far_apart() -> (Near, [ConnId; 2], ConnId) {
    let (mut near, session) = Near::ready_over(Duration::from_secs(1));
    let caller = near.ask(&request("GET", "", b""));
    near.carry();
    near.stage.pass(2);
    let second = near.dialled(2);
    near.meet(second);
    (near, [session, second], caller)
}

#[test]
fn who_stays_on_a_long_way_has_a_second_session_beside_his_own_before_any_download() {
    let (mut near, [session, second], _) = far_apart();
    let mut had = [1, 0];
    for place in [1, 0, 1, 0] {
        near.ask(&request("GET", "", b""));
        near.carry();
        had[place] += 1;
        assert_eq!(streams(&mut near, [session, second]), had);
    }
}

#[test]
fn who_comes_and_goes_has_none_and_nor_has_anybody_on_a_short_way() {
    let (mut near, session) = Near::ready_over(Duration::from_secs(1));
    for _ in 0..5 {
        let caller = near.ask(&request("GET", "", b""));
        near.stage.pass_for(Duration::from_millis(900));
        near.hang_up(caller);
        near.carry();
    }
    rest(&mut near, 60);
    assert_eq!(near.far(session).got.len(), 5);
    near.dialled(1);

    for (way, count) in [(0, 1), (14, 1), (16, 2)] {
        let (mut near, _) = Near::ready_over(Duration::from_millis(way));
        near.ask(&request("GET", "", b""));
        near.carry();
        near.stage.pass(60);
        near.dialled(count);
    }
}

#[test]
fn who_comes_while_the_one_before_is_still_there_does_not_stay_either() {
    let (mut near, session) = Near::ready_over(Duration::from_millis(20));
    let step = |near: &mut Near| near.stage.pass_for(Duration::from_millis(450));
    let mut before = near.ask(&request("GET", "", b""));
    for _ in 0..200 {
        step(&mut near);
        let next = near.ask(&request("GET", "", b""));
        step(&mut near);
        near.hang_up(std::mem::replace(&mut before, next));
        near.carry();
    }
    assert_eq!(near.far(session).got.len(), 201);
    near.dialled(1);
}

#[test]
fn who_stays_on_a_second_session_that_has_become_the_first_has_another_beside_it() {
    let (mut near, [session, second], _) = far_apart();
    near.ask(&request("GET", "", b""));
    near.carry();
    let stream = near.far(second).only();
    near.far(second).say(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
    rest(&mut near, 60);
    near.stage.closed(session, Close::Reset);
    rest(&mut near, 60);
    let third = near.dialled(3);
    near.meet(third);
    near.ask(&request("GET", "", b""));
    near.carry();
    assert_eq!(streams(&mut near, [second, third]), [1, 1]);
}

#[test]
fn a_second_session_stays_for_as_long_as_anybody_does_and_five_minutes_more() {
    let (mut near, [session, second], caller) = far_apart();
    let stream = near.far(session).only();
    near.far(session).say(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
    for _ in 0..10 {
        rest(&mut near, 120);
        near.far(session).say(stream, b"x");
    }
    assert!(!near.far(session).is_left && !near.far(second).is_left);
    near.hang_up(caller);
    let gone = near.stage.net.now();
    let passed = |near: &Near| near.stage.net.now().duration_since(gone).as_secs();
    while !near.far(session).is_left && !near.far(second).is_left && passed(&near) < 600 {
        rest(&mut near, 10);
    }
    assert!((270..=330).contains(&passed(&near)), "{}", passed(&near));
    rest(&mut near, 600);
    assert!(!near.far(session).is_left || !near.far(second).is_left, "one stays");
    near.dialled(2);
}

#[test]
fn a_second_session_that_is_lost_is_asked_for_again_while_somebody_stays() {
    let (mut near, [_, second], _) = far_apart();
    near.stage.closed(second, Close::Reset);
    near.stage.pass(20);
    near.dialled(2);
    rest(&mut near, 60);
    let third = near.dialled(3);
    near.refuse(third, "429 TooManyRequests");
    rest(&mut near, 20);
    near.dialled(3);
}

#[test]
fn who_comes_stays_off_a_session_whose_answer_is_late_although_it_has_fewer_streams() {
    let (mut near, [session, second], _) = far_apart();
    // Both are asked for a sign of life, and only the first one answers.
    near.fars.remove(&second);
    near.stage.pass(31);
    near.carry();
    near.stage.pass(5);
    for _ in 0..3 {
        near.ask(&request("GET", "", b""));
    }
    near.carry();
    assert_eq!(near.far(session).got.len(), 4);
}

#[test]
fn when_a_line_is_cut_who_comes_back_and_stays_has_a_second_session_at_once() {
    let (mut near, [session, second], _) = far_apart();
    near.stage.closed(session, Close::Reset);
    near.stage.closed(second, Close::Reset);
    near.ask(&request("GET", "", b""));
    let third = near.dialled(3);
    near.meet(third);
    near.stage.pass(2);
    near.dialled(4);
}

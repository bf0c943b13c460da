//! Deadlines, under a clock that the test turns.

use super::*;

#[test]
fn a_slow_head_is_told_and_an_idle_connection_just_ends() {
    let mut rig = Rig::new();
    rig.after(29);
    rig.down("GET /").after(9);
    assert_eq!(rig.sent_down(), "");
    rig.after(1);
    assert_eq!((rig.status(), rig.down_end), ("408", Some(End::Finish)));
    let mut rig = Rig::new();
    rig.after(30);
    assert_eq!((rig.sent_down().as_str(), rig.down_end), ("", Some(End::Finish)));
    rig.after(1);
    assert!(rig.exchange.is_gone());
    assert_eq!(rig.exchange.deadline(), None);
}

#[test]
fn idle_time_grows_once_a_request_was_let_through() {
    let mut rig = Rig::new();
    rig.down("GET /unauthorized HTTP/1.1\r\nHost: h\r\n\r\n").after(30);
    assert_eq!(rig.down_end, Some(End::Finish));
    let mut rig = Rig::new();
    rig.down(GET).up(OK).after(59);
    assert_eq!(rig.up_ends[0], None);
    // An idle upstream is given up before it gives us up.
    rig.after(1);
    assert_eq!((rig.up_ends[0], rig.down_end), (Some(End::Close), None));
    rig.after(29);
    assert_eq!(rig.down_end, None);
    rig.after(1);
    assert_eq!(rig.down_end, Some(End::Finish));
}

#[test]
fn a_response_that_does_not_begin_is_a_504_unless_it_may_take_hours() {
    let mut rig = Rig::new();
    rig.down(GET).after(64);
    assert_eq!(rig.sent_down(), "");
    rig.after(1);
    assert_eq!((rig.status(), rig.up_ends[0]), ("504", Some(End::Abort)));
    let mut rig = Rig::new();
    rig.down("GET /a?watch HTTP/1.1\r\nHost: h\r\n\r\n").after(100_000);
    assert_eq!((rig.sent_down().as_str(), rig.exchange.deadline()), ("", None));
}

#[test]
fn a_slow_body_is_refused_unless_the_upstream_is_what_is_slow() {
    let long = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 99999\r\n\r\n";
    let mut rig = Rig::new();
    rig.down(long).down(vec![b'x'; 7680]).after(30);
    assert_eq!(rig.sent_down(), "");
    rig.down(vec![b'x'; 7679]).after(30);
    assert_eq!((rig.status(), rig.up_ends[0]), ("408", Some(End::Abort)));
    let mut rig = Rig::new();
    rig.down(long);
    rig.step(|exchange, now, _| exchange.up_pressure(Pressure::Full, now));
    rig.after(30).after(30);
    assert_eq!(rig.sent_down(), "");
    rig.after(60);
    assert_eq!(rig.status(), "504");
}

#[test]
fn a_reader_without_progress_is_given_up() {
    let mut rig = Rig::new();
    rig.down(GET).up("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
    rig.step(|exchange, now, out| exchange.down_pressure(Pressure::Full, now, out));
    rig.after(119);
    rig.step(|exchange, now, out| exchange.down_pressure(Pressure::Full, now, out));
    rig.after(119);
    assert_eq!(rig.down_end, None);
    rig.after(1);
    assert_eq!(
        (rig.last(), rig.down_end),
        ("failed: the caller has stopped reading", Some(End::Abort))
    );
    let mut rig = Rig::new();
    rig.down("GET /a?watch HTTP/1.1\r\nHost: h\r\n\r\n");
    rig.up("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
    rig.step(|exchange, now, out| exchange.down_pressure(Pressure::Full, now, out));
    rig.after(1000);
    assert_eq!(rig.down_end, None);
}

#[test]
fn an_upgraded_connection_ends_after_hours_without_traffic() {
    let mut rig = Rig::new();
    rig.down("GET /a HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    rig.up("HTTP/1.1 101 Yes\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    rig.after(3 * 3600).up("x").after(3 * 3600);
    assert!(rig.exchange.is_raw());
    rig.after(3600);
    assert_eq!((rig.down_end, rig.up_ends[0]), (Some(End::Close), Some(End::Close)));
}

//! Relayed WebSockets: what goes in at one end comes out at the other, and every way to end.

use cluster_connect::engine::ws::Side;
use cluster_connect::role::Close;
use cluster_connect::wire::ws::{Opcode, close_reason};

use crate::net::Fate;
use crate::{auth, fragment, frames, masked, plain, relay, upgrade};

#[test]
fn data_goes_both_ways_with_its_boundaries() {
    let (mut stage, _) = relay();
    let (sender, listener) = stage.joined();
    for (from, to) in [(sender, listener), (listener, sender)] {
        let mut bytes = masked(Opcode::Text, b"one");
        bytes.extend(fragment(Opcode::Binary, false, b"two"));
        bytes.extend(masked(Opcode::Continuation, &[7; 50_000]));
        for piece in bytes.chunks(1000) {
            stage.data(from, piece);
        }
        let got = frames(Side::Client, &stage.take(to));
        let shape: Vec<_> = got.iter().map(|f| (f.0, f.1, f.2.len())).collect();
        assert_eq!(
            shape,
            [
                (Opcode::Text, true, 3),
                (Opcode::Binary, false, 3),
                (Opcode::Continuation, false, 32_768),
                (Opcode::Continuation, true, 17_232),
            ]
        );
        assert!(got[2].2.iter().chain(&got[3].2).all(|&byte| byte == 7));
    }
    assert_eq!(stage.net.leased(), 0);
}

#[test]
fn what_the_sender_sent_early_is_delivered_first() {
    let (mut stage, _) = relay();
    let control = stage.listener("ent", "");
    let sender = stage.accept();
    let mut bytes = upgrade("/$hc/ent", &auth("ent", "Send"));
    bytes.extend(masked(Opcode::Binary, b"first"));
    stage.data(sender, &bytes);
    stage.data(sender, &masked(Opcode::Binary, b"second"));
    let accept = stage.accept_command(control);
    let listener = stage.rendezvous(&accept, "", "");
    let got = stage.take(listener);
    let head_len = got.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let got = frames(Side::Client, &got[head_len..]);
    assert_eq!(got.iter().map(|f| f.2.as_slice()).collect::<Vec<_>>(), [&b"first"[..], b"second"]);
}

#[test]
fn an_early_sender_is_stopped_when_it_sends_too_much() {
    let (mut stage, _) = relay();
    let control = stage.listener("ent", "");
    let sender = stage.sender("ent");
    let bulk = masked(Opcode::Binary, &[1; 65_530]);
    stage.data(sender, &bulk);
    assert!(stage.net.paused.contains(&sender));
    let accept = stage.accept_command(control);
    let listener = stage.rendezvous(&accept, "", "");
    assert!(!stage.net.paused.contains(&sender));
    assert!(stage.take(listener).len() > 65_530);
}

#[test]
fn a_close_is_passed_on_as_it_came_and_the_other_direction_goes_on() {
    for payload in [&[][..], &[3, 232], &[0x0f, 0xa0, b'b', b'y', b'e']] {
        let (mut stage, _) = relay();
        let (sender, listener) = stage.joined();
        stage.data(sender, &masked(Opcode::Close, payload));
        assert_eq!(stage.take(listener), plain(Opcode::Close, payload));
        assert_eq!(stage.take(sender), b"", "the relay does not answer");

        stage.finished(sender);
        stage.data(listener, &masked(Opcode::Binary, b"still here"));
        assert_eq!(stage.take(sender), plain(Opcode::Binary, b"still here"));

        stage.data(listener, &masked(Opcode::Close, &[3, 233]));
        assert_eq!(stage.take(sender), plain(Opcode::Close, &[3, 233]));
        for leg in [sender, listener] {
            assert!(stage.net.finished.contains(&leg));
            stage.closed(leg, Close::Clean);
        }
        assert_eq!(stage.role.leftovers(), (1, 0));
    }
}

#[test]
fn a_half_closed_connection_lives_as_long_as_bytes_are_delivered() {
    let (mut stage, _) = relay();
    let (sender, listener) = stage.joined();
    stage.data(sender, &masked(Opcode::Close, &[]));
    for _ in 0..20 {
        stage.pass(50);
        stage.data(listener, &masked(Opcode::Binary, b"log line"));
        stage.drained(sender, 10);
    }
    assert_eq!(stage.fate(sender), None);
    stage.pass(61);
    assert_eq!(
        (stage.fate(sender), stage.fate(listener)),
        (Some(Fate::Aborted), Some(Fate::Aborted))
    );
}

#[test]
fn a_leg_that_ends_without_a_close_takes_the_other_with_it() {
    for end in 0..3 {
        let (mut stage, _) = relay();
        let (sender, listener) = stage.joined();
        match end {
            0 => stage.closed(sender, Close::Reset),
            1 => stage.closed(sender, Close::Truncated),
            _ => stage.finished(sender),
        }
        assert_eq!(stage.fate(listener), Some(Fate::Aborted));
        assert_eq!(stage.take(listener), b"", "no close is invented");
        assert_eq!(stage.role.leftovers(), (1, 0));
    }
}

#[test]
fn a_close_is_delivered_even_if_its_sender_does_not_wait() {
    let (mut stage, _) = relay();
    let (sender, listener) = stage.joined();
    stage.data(sender, &masked(Opcode::Close, &[3, 232]));
    stage.closed(sender, Close::Truncated);
    assert_eq!(stage.take(listener), plain(Opcode::Close, &[3, 232]));
    assert!(stage.net.finished.contains(&listener) && stage.fate(listener).is_none());
    stage.data(listener, &masked(Opcode::Binary, b"nobody is there"));
    stage.pass(61);
    assert_eq!(stage.fate(listener), Some(Fate::Aborted));
    assert_eq!(stage.role.leftovers().0, 1);
}

#[test]
fn whoever_breaks_the_rules_is_told_and_the_other_is_not() {
    let rsv = {
        let mut frame = masked(Opcode::Binary, b"x");
        frame[0] |= 0x40;
        frame
    };
    for bad in [
        rsv,
        plain(Opcode::Binary, b"unmasked"),
        masked(Opcode::Continuation, b"of nothing"),
        fragment(Opcode::Ping, false, b""),
        vec![0x83, 0x80, 0, 0, 0, 0],
        vec![0x89, 0xfe, 0, 200, 0, 0, 0, 0],
    ] {
        let (mut stage, _) = relay();
        let (sender, listener) = stage.joined();
        stage.data(listener, &[masked(Opcode::Binary, b"good"), bad].concat());
        assert_eq!(stage.take(sender), plain(Opcode::Binary, b"good"));
        let closing = frames(Side::Client, &stage.take(listener));
        assert_eq!(close_reason(&closing[0].2).unwrap().0, 1002);
        assert_eq!(
            (stage.fate(listener), stage.fate(sender)),
            (Some(Fate::Closed), Some(Fate::Aborted))
        );
        assert_eq!(stage.role.leftovers(), (1, 0));
    }
}

#[test]
fn pings_are_answered_on_their_own_leg_and_not_within_a_frame() {
    let (mut stage, _) = relay();
    let (sender, listener) = stage.joined();
    stage.data(sender, &masked(Opcode::Ping, b"are you there"));
    assert_eq!(stage.take(sender), plain(Opcode::Pong, b"are you there"));
    assert_eq!(stage.take(listener), b"");

    let frame = masked(Opcode::Binary, &[5; 100]);
    stage.data(listener, &frame[..50]);
    stage.data(sender, &masked(Opcode::Ping, b"1"));
    stage.data(sender, &masked(Opcode::Ping, b"2"));
    stage.data(listener, &frame[50..]);
    let got = frames(Side::Client, &stage.take(sender));
    assert_eq!(got[0].2, [5; 100]);
    assert_eq!(got[1..], [(Opcode::Pong, true, b"2".to_vec())]);
}

#[test]
fn a_slow_reader_stops_its_source() {
    let (mut stage, _) = relay();
    let (sender, listener) = stage.joined();
    stage.net.full.insert(listener);
    stage.data(sender, &masked(Opcode::Binary, b"x"));
    assert!(stage.net.paused.contains(&sender));
    stage.drained(listener, 1);
    assert!(stage.net.paused.contains(&sender));
    stage.net.full.clear();
    stage.drained(listener, 1);
    assert!(!stage.net.paused.contains(&sender));
    assert!(!stage.net.paused.contains(&listener));
}

#[test]
fn idle_legs_are_pinged_and_the_dead_are_dropped() {
    let (mut stage, _) = relay();
    let (sender, listener) = stage.joined();
    for _ in 0..4 {
        stage.pass(30);
        assert_eq!(stage.take(listener), plain(Opcode::Ping, b""));
        stage.data(listener, &masked(Opcode::Pong, b""));
        assert_eq!(stage.fate(sender), None);
    }
    stage.pass(31);
    assert_eq!(
        (stage.fate(sender), stage.fate(listener)),
        (Some(Fate::Aborted), Some(Fate::Aborted))
    );
}

#[test]
fn a_leg_that_is_not_read_is_not_called_dead() {
    let (mut stage, _) = relay();
    let (sender, listener) = stage.joined();
    stage.net.full.insert(listener);
    stage.data(sender, &masked(Opcode::Binary, b"x"));
    for _ in 0..20 {
        stage.pass(30);
        stage.data(listener, &masked(Opcode::Pong, b""));
    }
    assert_eq!(stage.fate(sender), None);
}

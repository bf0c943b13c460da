//! How one control channel of the agent follows another: there is none missing in between, and no
//! invitation is answered twice.

use cluster_connect::engine::ws::Side;
use cluster_connect::role::agent::Agent;
use cluster_connect::role::{Close, ConnId, Event, Signal};
use cluster_connect::wire::ws::{Opcode, close_reason};

use crate::agent::{ADDRESS, command, listening, session};
use crate::net::{Fate, Stage};
use crate::{frames, open, plain, says};

/// Lets time pass on a channel whose relay gives signs of life, until another is asked for.
/// Returns the hours that it took.
fn grow_old(stage: &mut Stage<Agent>, channel: ConnId) -> u64 {
    let before = stage.net.connects.len();
    for minute in 0..24 * 60 {
        stage.data(channel, &plain(Opcode::Pong, b""));
        stage.pass(60);
        if stage.net.connects.len() != before {
            return minute / 60;
        }
    }
    panic!("a day has passed")
}

/// An agent whose old channel is about to be replaced by the second.
fn replacing() -> (Stage<Agent>, ConnId, ConnId) {
    let (mut stage, old) = listening();
    let hours = grow_old(&mut stage, old);
    assert!((18..=21).contains(&hours), "{hours}");
    assert_eq!(stage.net.connects.len(), 2);
    stage.take(old);
    let new = stage.net.connects[1].0;
    (stage, old, new)
}

fn closes(stage: &mut Stage<Agent>, channel: ConnId) -> Vec<u16> {
    let sent = frames(Side::Server, &stage.take(channel));
    let closes = sent.iter().filter(|frame| frame.0 == Opcode::Close);
    closes.map(|frame| close_reason(&frame.2).unwrap().0).collect()
}

#[test]
fn an_old_channel_serves_until_the_next_is_open() {
    let (mut stage, old, new) = replacing();
    let (_, local) = session(&mut stage, old);
    assert_eq!((closes(&mut stage, old), stage.fate(local)), (vec![], None));

    open(&mut stage, new);
    assert_eq!(closes(&mut stage, old), [1000]);
    assert_eq!(stage.fate(old), None, "what the relay has sent by now is still read");
    let late = ADDRESS.replace("I_G0", "I_G1");
    let dialled = stage.net.connects.len();
    stage.data(old, &command(&late, &[]));
    assert_eq!(stage.net.connects.len(), dialled + 2);
    stage.data(old, &plain(Opcode::Ping, b"p"));
    assert_eq!(stage.take(old), b"", "nothing follows a Close");

    stage.data(old, &plain(Opcode::Close, &[3, 232]));
    assert_eq!((stage.fate(old), stage.take(old)), (Some(Fate::Closed), vec![]));
    let dialled = stage.net.connects.len();
    stage.data(new, &command(&ADDRESS.replace("I_G0", "I_G2"), &[]));
    assert_eq!(stage.net.connects.len(), dialled + 2);
    assert_eq!(says(&stage), [""; 0], "nobody has to know");
}

#[test]
fn an_invitation_that_comes_on_both_channels_is_answered_once() {
    let (mut stage, old, new) = replacing();
    open(&mut stage, new);
    session(&mut stage, old);
    let dialled = stage.net.connects.len();
    stage.data(new, &command(ADDRESS, &[]));
    assert_eq!(stage.net.connects.len(), dialled);
    stage.data(new, &command(&ADDRESS.replace("I_G0", "other"), &[]));
    assert_eq!(stage.net.connects.len(), dialled + 2);
}

#[test]
fn a_relay_that_never_answers_the_close_does_not_keep_the_old_channel() {
    let (mut stage, old, new) = replacing();
    open(&mut stage, new);
    stage.pass(61);
    assert_eq!((stage.fate(old), stage.fate(new)), (Some(Fate::Aborted), None));
    assert_eq!(stage.role.leftovers(), 1);
    // From here on the new one is the one that is kept, renewed and replaced.
    let next = stage.net.connects.len();
    grow_old(&mut stage, new);
    assert_eq!(stage.net.connects.len(), next + 1);
}

#[test]
fn a_channel_that_finds_no_successor_serves_on_and_nobody_is_alarmed() {
    let (mut stage, old, new) = replacing();
    stage.event(Event::Connected(new));
    stage.data(new, b"HTTP/1.1 403 too many listeners\r\n\r\n");
    assert_eq!((stage.fate(new), stage.fate(old)), (Some(Fate::Closed), None));
    assert_eq!(closes(&mut stage, old), [0; 0]);
    for _ in 0..4 {
        stage.data(old, &plain(Opcode::Pong, b""));
        stage.pass(60);
    }
    assert_eq!(stage.net.connects.len(), 2, "no hurry");
    grow_old(&mut stage, old);
    let next = stage.net.connects[2].0;
    assert_eq!(says(&stage), [""; 0]);
    open(&mut stage, next);
    assert_eq!(closes(&mut stage, old), [1000]);
}

#[test]
fn either_may_be_lost_on_the_way() {
    // The old one: the next is under way, and is not begun twice.
    let (mut stage, old, new) = replacing();
    stage.closed(old, Close::Reset);
    stage.pass(5);
    assert_eq!(stage.net.connects.len(), 2);
    open(&mut stage, new);
    assert_eq!(stage.role.leftovers(), 1);
    assert!(says(&stage)[0].starts_with("lost the control channel"), "{:?}", says(&stage));

    // Both, one after the other: attempts go on as after any loss.
    let (mut stage, old, new) = replacing();
    stage.closed(old, Close::Reset);
    stage.closed(new, Close::Reset);
    assert_eq!(stage.role.leftovers(), 0);
    stage.pass(1);
    assert_eq!(stage.net.connects.len(), 3);

    // The old one while no attempt is due for long.
    let (mut stage, old, new) = replacing();
    stage.closed(new, Close::Reset);
    stage.closed(old, Close::Reset);
    stage.pass(0);
    assert_eq!(stage.net.connects.len(), 3);

    // The new one after the old was given up.
    let (mut stage, old, new) = replacing();
    open(&mut stage, new);
    stage.closed(new, Close::Reset);
    stage.pass(1);
    assert_eq!((stage.net.connects.len(), stage.fate(old)), (3, None));
    let third = stage.net.connects[2].0;
    open(&mut stage, third);
    stage.data(old, &plain(Opcode::Close, &[3, 232]));
    assert_eq!(stage.role.leftovers(), 1);
}

#[test]
fn a_relay_that_says_it_restarts_is_asked_again_at_once_but_not_for_ever() {
    let restarting = [&1001u16.to_be_bytes()[..], b"relay restarting"].concat();
    let (mut stage, channel) = listening();
    stage.data(channel, &plain(Opcode::Close, &restarting));
    stage.pass(0);
    assert_eq!(stage.net.connects.len(), 2);
    let next = stage.net.connects[1].0;
    open(&mut stage, next);
    stage.data(next, &plain(Opcode::Close, &restarting));
    stage.pass(0);
    assert_eq!(stage.net.connects.len(), 2, "twice in a row is met with a pause");
    stage.pass(2);
    assert_eq!(stage.net.connects.len(), 3);
}

#[test]
fn a_doubtful_channel_that_comes_to_life_again_is_given_up_in_peace() {
    let (mut stage, old) = listening();
    stage.pass(121);
    assert_eq!((stage.net.connects.len(), stage.fate(old)), (2, None));
    stage.data(old, &plain(Opcode::Pong, b""));
    let (_, local) = session(&mut stage, old);
    let new = stage.net.connects[1].0;
    open(&mut stage, new);
    assert_eq!(closes(&mut stage, old), [1000]);
    assert_eq!(stage.fate(local), None);
}

#[test]
fn stopping_closes_every_channel_once() {
    let (mut stage, old, new) = replacing();
    open(&mut stage, new);
    assert_eq!(closes(&mut stage, old), [1000]);
    stage.event(Event::Signal(Signal::Stop));
    assert_eq!((closes(&mut stage, old), closes(&mut stage, new)), (vec![], vec![1001]));
    assert_eq!(stage.role.leftovers(), 0);

    let (mut stage, old, new) = replacing();
    stage.event(Event::Signal(Signal::Stop));
    assert_eq!((closes(&mut stage, old), closes(&mut stage, new)), (vec![1001], vec![]));
    assert_eq!(stage.role.leftovers(), 0);
}

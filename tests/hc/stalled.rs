//! Who takes nothing for a minute goes when buffers are nearly out, and not before: at the relay, and
//! at the agent.

use cluster_connect::role::Event;
use cluster_connect::wire::ws::Opcode;

use crate::agent::{carrying, session};
use crate::net::Fate;
use crate::{masked, open, plain, relay};

#[test]
fn a_leg_that_takes_nothing_goes_when_others_wait_for_its_buffers() {
    let (mut stage, _) = relay();
    let (sender, listener) = stage.joined();
    let neighbours = stage.joined();
    stage.net.full.insert(listener);
    stage.data(sender, &masked(Opcode::Binary, b"x"));
    let mut taken = stage.net.lease_all_but(8);
    for _ in 0..5 {
        stage.pass(30);
        for other in [sender, listener, neighbours.0, neighbours.1] {
            stage.data(other, &masked(Opcode::Pong, b""));
        }
    }
    assert_eq!(stage.fate(listener), None, "the others have enough");
    stage.drained(listener, 1);
    stage.net.full.insert(listener);
    taken.extend(stage.net.lease_all_but(7));
    stage.pass(59);
    assert_eq!(stage.fate(listener), None, "a reader may pause");
    stage.pass(31);
    let fates = [sender, listener].map(|conn| stage.fate(conn));
    assert_eq!(fates, [Some(Fate::Aborted), Some(Fate::Aborted)]);
    assert_eq!([neighbours.0, neighbours.1].map(|conn| stage.fate(conn)), [None, None]);
}

/// Of two sessions, of which the first stands still on either side.
#[test]
fn a_session_that_takes_nothing_goes_when_others_wait_for_its_buffers() {
    for side in 0..2 {
        let (mut stage, channel, rendezvous, local) = carrying();
        let (neighbour, other) = session(&mut stage, channel);
        stage.event(Event::Connected(other));
        open(&mut stage, neighbour);
        let stuck = [rendezvous, local][side];
        stage.net.full.insert(stuck);
        stage.net.full.insert(other);
        let mut taken = stage.net.lease_all_but(8);
        for _ in 0..4 {
            stage.pass(30);
            // The neighbour is slow, and moves.
            stage.drained(other, 1);
            for conn in [channel, rendezvous, neighbour] {
                stage.data(conn, &plain(Opcode::Pong, b""));
            }
        }
        assert_eq!(stage.fate(stuck), None, "{side}: the others have enough");
        stage.net.full.remove(&stuck);
        stage.drained(stuck, 1);
        stage.net.full.insert(stuck);
        taken.extend(stage.net.lease_all_but(7));
        for seconds in [30, 29] {
            stage.pass(seconds);
            stage.drained(other, 1);
        }
        assert_eq!(stage.fate(stuck), None, "{side}: a reader may pause");
        stage.pass(31);
        let fates = [rendezvous, local].map(|conn| stage.fate(conn));
        assert_eq!(fates, [Some(Fate::Aborted), Some(Fate::Aborted)], "{side}");
        assert_eq!([neighbour, other, channel].map(|conn| stage.fate(conn)), [None; 3], "{side}");
        assert_eq!(stage.net.leased(), taken.len(), "{side}");
    }
}

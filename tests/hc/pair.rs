//! A relay and an agent together.

use cluster_connect::engine::ws::Side;
use cluster_connect::role::agent::Agent;
use cluster_connect::role::relay::{self, Relay};
use cluster_connect::role::{ConnId, Endpoint, Event, Notice};
use cluster_connect::wire::ws::Opcode;

use crate::net::Stage;
use crate::table::Table;
use crate::{Payload, agent, auth, frames, key_source, masked, upgrade};

/// A relay and an agent, and the bytes between them carried by hand.
struct Pair {
    relay: Stage<Relay>,
    agent: Stage<Agent>,
    /// Connections of the agent, and what they are at the relay.
    wires: Vec<(ConnId, ConnId)>,
}

impl Pair {
    fn new() -> Self {
        let config = relay::Config { secure: false, ..relay::Config::default() };
        let relay = Stage::new(Relay::new(config, Box::new(Table::with(&["ent"]))));
        let mut pair = Self { relay, agent: agent(key_source()), wires: Vec::new() };
        pair.settle();
        pair
    }

    /// Carries bytes until nothing moves. The auth proxy is the test.
    fn settle(&mut self) {
        loop {
            let mut moved = false;
            while let Some((conn, endpoint)) = self.agent.net.connects.pop() {
                if matches!(endpoint, Endpoint::Tcp { .. }) {
                    self.wires.push((conn, self.relay.accept()));
                }
                self.agent.event(Event::Connected(conn));
                moved = true;
            }
            for (at_agent, at_relay) in self.wires.clone() {
                let up = self.agent.take(at_agent);
                let down = self.relay.take(at_relay);
                moved |= !up.is_empty() || !down.is_empty();
                self.relay.data(at_relay, &up);
                self.agent.data(at_agent, &down);
            }
            if !moved {
                return;
            }
        }
    }
}

#[test]
fn relay_and_agent_carry_a_session_between_them() {
    let mut pair = Pair::new();
    assert!(matches!(pair.agent.net.notices[..], [Notice::Ready]));
    let head = upgrade("/$hc/ent", &auth("ent", "Send"));
    let sender = pair.relay.request(&head);
    let last = |pair: &Pair| *pair.agent.net.out.keys().last().unwrap();
    pair.settle();
    let local = last(&pair);
    assert_eq!(pair.relay.status(sender).0, 101);

    let bulk: Vec<u8> = (0..1_000_000u32).map(|i| u8::try_from(i % 241).unwrap()).collect();
    for piece in bulk.chunks(90_000) {
        pair.relay.data(sender, &masked(Opcode::Binary, piece));
        pair.agent.data(local, piece);
        pair.settle();
    }
    assert!(pair.agent.take(local) == bulk);
    assert!(frames(Side::Client, &pair.relay.take(sender)).concat_payload() == bulk);

    pair.relay.data(sender, &masked(Opcode::Close, &[3, 232]));
    pair.settle();
    assert!(pair.agent.net.finished.contains(&local));
    pair.agent.data(local, b"bye");
    pair.agent.finished(local);
    pair.settle();
    let got = frames(Side::Client, &pair.relay.take(sender));
    assert_eq!(got.iter().map(|f| f.2.as_slice()).collect::<Vec<_>>(), [&b"bye"[..], &[3, 232]]);
    assert!(pair.relay.net.finished.contains(&sender));
    assert_eq!((pair.agent.net.leased(), pair.relay.net.leased()), (0, 0));
}

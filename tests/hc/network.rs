//! Network rules: who is shut out hears so before anything is looked at, and what is open from
//! there ends when the rules change.

use std::sync::Arc;

use cluster_connect::auth::network::{Mask, NetworkRules};
use cluster_connect::engine::ws::Side;
use cluster_connect::role::relay::Relay;
use cluster_connect::role::relay::authority::Order;
use cluster_connect::role::{ConnId, Event, Revoked};
use cluster_connect::wire::ws::{Opcode, close_reason};

use crate::http::{get, head, response, serving};
use crate::net::{Fate, Stage};
use crate::table::Table;
use crate::{auth, frames, masked, plain, relay, upgrade};

const INSIDE: &str = "203.0.113.7:50123";
const OUTSIDE: &str = "198.51.100.9:50123";

fn rules(masks: &[&str]) -> NetworkRules {
    let masks = masks.iter().map(|mask| Mask::parse(mask).unwrap()).collect();
    NetworkRules::new(true, false, masks).unwrap()
}

impl Stage<Relay> {
    fn request_from(&mut self, address: &str, head: &[u8]) -> ConnId {
        let conn = self.accept_from(address);
        self.data(conn, head);
        conn
    }

    /// Makes `rules` the ones that hold, as the desk does.
    fn change(&mut self, table: &Table, rules: NetworkRules) {
        table.0.borrow_mut().network = rules.clone();
        table.order(Order::Revoke(Revoked::Outside(Arc::new(rules))));
        self.event(Event::Deadline);
    }

    fn close_code(&mut self, conn: ConnId) -> Option<u16> {
        let frames = frames(Side::Client, &self.take(conn));
        frames
            .iter()
            .find(|it| it.0 == Opcode::Close)
            .and_then(|it| close_reason(&it.2))
            .map(|it| it.0)
    }
}

/// Requests of every kind, with tokens that are good.
fn every_kind() -> [Vec<u8>; 6] {
    let send = auth("ent", "Send");
    [
        upgrade("/$hc/ent?sb-hc-action=listen", &auth("ent", "Listen")),
        upgrade("/$hc/ent?sb-hc-action=connect", &send),
        upgrade("/$hc/ent?sb-hc-action=accept&sb-hc-id=x_G0_00112233445566778899aabbccddeeff", ""),
        upgrade("/$hc/ent?sb-hc-action=request&sb-hc-id=x_G0_00112233445566778899aabbccddeeff", ""),
        head("GET", "/ent/info", &send).into_bytes(),
        head("GET", "/ent?api-version=2016-07", &format!("X-PROCESS-AT: ServiceBus\r\n{send}"))
            .into_bytes(),
    ]
}

#[test]
fn whoever_comes_from_elsewhere_is_refused_whatever_they_want_and_say() {
    let (mut stage, table, control) = serving();
    table.0.borrow_mut().network = rules(&["203.0.113.0/24", "2001:db8:1::/48"]);
    for request in every_kind() {
        let text = String::from_utf8(request).unwrap();
        for claim in ["", "X-Forwarded-For: 203.0.113.7\r\n", "Forwarded: for=203.0.113.7\r\n"] {
            let claiming = text.replacen("Host:", &format!("{claim}Host:"), 1);
            let conn = stage.request_from(OUTSIDE, claiming.as_bytes());
            let (status, answer) = stage.status(conn);
            assert_eq!(status, 401, "{answer}");
            let phrase =
                "401 Generic: Ip has been prevented to connect to the endpoint. TrackingId:";
            assert!(answer.contains(phrase) && !answer.contains("Via:"), "{answer}");
        }
    }
    assert_eq!(stage.take(control), b"", "no listener has heard of them");
    for address in ["[2001:db8:2::1]:1", "[::1]:1", "127.0.0.1:1"] {
        let conn = stage.request_from(address, &get());
        assert_eq!(stage.status(conn).0, 401, "{address}");
    }
    for address in [INSIDE, "[2001:db8:1::9]:1", "[::ffff:203.0.113.7]:1"] {
        stage.request_from(address, &get());
        assert_eq!(stage.inline(control).0.target, "/ent/info?a=1", "{address}");
    }
}

#[test]
fn a_bad_token_from_elsewhere_is_not_even_looked_at() {
    let (mut stage, table) = relay();
    table.0.borrow_mut().network = rules(&[]);
    let texts = ["ent", "nowhere"].map(|entity| {
        let target = format!("/$hc/{entity}?sb-hc-action=connect");
        let conn = stage.request_from(OUTSIDE, &upgrade(&target, &auth(entity, "guess")));
        stage.status(conn).1.split(". TrackingId").next().unwrap().to_owned()
    });
    assert_eq!(texts[0], texts[1]);
}

#[test]
fn refused_listeners_from_elsewhere_are_held_like_others() {
    let (mut stage, table) = relay();
    table.0.borrow_mut().network = rules(&[]);
    let head = upgrade("/$hc/ent?sb-hc-action=listen", &auth("ent", "Listen"));
    let conns: Vec<_> = (0..6).map(|_| stage.request_from(OUTSIDE, &head)).collect();
    let answered = conns.iter().filter(|conn| !stage.net.out[conn].is_empty()).count();
    assert_eq!(answered, 3);
}

#[test]
fn the_relays_own_api_is_open_from_everywhere() {
    let (mut stage, table) = relay();
    table.0.borrow_mut().network = rules(&[]);
    let conn = stage.request_from(OUTSIDE, head("GET", "/status", "").as_bytes());
    assert_eq!(stage.status(conn).0, 200);
}

/// A control channel, a sender and a listener that are joined, and one that waits, by where the
/// sender, the channel and the listener's other connection come from.
fn pair(stage: &mut Stage<Relay>, sender: &str, channel: &str, other: &str) -> [ConnId; 3] {
    let listen = upgrade("/$hc/ent?sb-hc-action=listen", &auth("ent", "Listen"));
    let control = stage.request_from(channel, &listen);
    assert_eq!(stage.status(control).0, 101);
    let connect = upgrade("/$hc/ent?sb-hc-action=connect", &auth("ent", "Send"));
    let sender = stage.request_from(sender, &connect);
    let accept = stage.accept_command(control);
    let target = accept.address.strip_prefix("wss://relay.example").unwrap();
    let listener = stage.request_from(other, &upgrade(target, ""));
    assert_eq!((stage.status(listener).0, stage.status(sender).0), (101, 101));
    [control, sender, listener]
}

#[test]
fn a_relayed_socket_ends_when_either_of_its_ends_is_shut_out() {
    for (sender, other) in [(OUTSIDE, INSIDE), (INSIDE, OUTSIDE), (OUTSIDE, OUTSIDE)] {
        let (mut stage, table) = relay();
        let [_, sender, listener] = pair(&mut stage, sender, INSIDE, other);
        stage.change(&table, rules(&["203.0.113.7"]));
        for leg in [sender, listener] {
            assert_eq!(stage.close_code(leg), Some(1001));
            assert_eq!(stage.fate(leg), Some(Fate::Closed));
        }
        assert_eq!(stage.role.leftovers(), (1, 0), "the control channel stays");
    }
}

#[test]
fn whoever_is_still_admitted_does_not_notice_a_change() {
    let (mut stage, table) = relay();
    let [control, sender, listener] = pair(&mut stage, INSIDE, INSIDE, INSIDE);
    stage.change(&table, rules(&["203.0.113.7/32"]));
    stage.data(sender, &masked(Opcode::Binary, b"on"));
    assert_eq!(stage.take(listener), plain(Opcode::Binary, b"on"));
    assert_eq!([control, sender, listener].map(|conn| stage.fate(conn)), [None; 3]);
    let again = stage.sender("ent");
    assert_eq!(stage.accept_command(control).remote.address, "203.0.113.7");
    assert_eq!(stage.fate(again), None);
}

#[test]
fn a_channel_and_whoever_waits_end_when_they_are_shut_out() {
    let (mut stage, table) = relay();
    let listen = upgrade("/$hc/ent?sb-hc-action=listen", &auth("ent", "Listen"));
    let inside = stage.request_from(INSIDE, &listen);
    let outside = stage.request_from(OUTSIDE, &listen);
    let connect = upgrade("/$hc/ent?sb-hc-action=connect", &auth("ent", "Send"));
    let waiting = stage.request_from(OUTSIDE, &connect);
    stage.take(inside);
    stage.take(outside);
    stage.change(&table, rules(&["203.0.113.7"]));
    assert_eq!(stage.close_code(outside), Some(1001));
    assert_eq!(table.0.borrow().counts["ent"], 1);
    assert_eq!(stage.fate(inside), None);
    let (status, answer) = stage.status(waiting);
    assert!(status == 401 && answer.contains("Ip has been prevented"), "{answer}");
}

#[test]
fn without_a_public_network_nobody_is_left() {
    let (mut stage, table) = relay();
    pair(&mut stage, INSIDE, INSIDE, INSIDE);
    let closed = NetworkRules::new(false, true, Vec::new()).unwrap();
    stage.change(&table, closed);
    stage.pass(6);
    assert_eq!(stage.role.leftovers(), (0, 0));
    let conn = stage.sender("ent");
    assert_eq!(stage.status(conn).0, 401);
}

/// The sender and the listener's rendezvous of an exchange whose response streams.
fn streaming(stage: &mut Stage<Relay>, control: ConnId, other: &str, from: &str) -> [ConnId; 2] {
    let sender = stage.request_from(from, &get());
    let (request, _) = stage.inline(control);
    let target = request.address.strip_prefix("wss://relay.example").unwrap();
    let rendezvous = stage.request_from(other, &upgrade(target, ""));
    stage.take(rendezvous);
    stage.data(rendezvous, &response(&request.id, 200, &[], true));
    stage.data(rendezvous, &crate::fragment(Opcode::Binary, false, b"half of"));
    [sender, rendezvous]
}

#[test]
fn a_response_that_streams_is_cut_and_does_not_look_whole() {
    for (other, from) in [(OUTSIDE, INSIDE), (INSIDE, OUTSIDE)] {
        let (mut stage, table, control) = serving();
        let [sender, rendezvous] = streaming(&mut stage, control, other, from);
        let so_far = stage.take_text(sender);
        assert!(so_far.ends_with("half of\r\n"), "{so_far}");
        stage.change(&table, rules(&["203.0.113.7"]));
        assert_eq!(stage.take_text(sender), "", "no second head within a body");
        assert_eq!(stage.fate(sender), Some(Fate::Aborted));
        stage.pass(6);
        assert!(stage.fate(rendezvous).is_some());
        assert_eq!(stage.role.leftovers(), (1, 0));
    }
}

#[test]
fn an_entity_that_goes_while_a_response_streams_cuts_it_too() {
    let (mut stage, table, control) = serving();
    let [sender, _] = streaming(&mut stage, control, INSIDE, INSIDE);
    stage.take(sender);
    table.order(Order::Revoke(Revoked::Entity("ent".to_owned())));
    stage.event(Event::Deadline);
    assert_eq!(stage.take_text(sender), "");
    assert_eq!(stage.fate(sender), Some(Fate::Aborted));
}

//! Senders are counted, of each entity and of each caller: one too many is told so, whoever goes in
//! whatever way makes room, and others do not notice.

use cluster_connect::engine::ws;
use cluster_connect::role::relay::authority::{Authority, Order};
use cluster_connect::role::relay::{Config, Relay};
use cluster_connect::role::{Close, ConnId, Event, Revoked};
use cluster_connect::wire::ws::Opcode;

use crate::http::{get, head, post, response};
use crate::net::{Fate, Stage};
use crate::operators;
use crate::table::Table;
use crate::{KEY, auth, fragment, masked, upgrade};

/// A relay with so many seats, where every entity takes HTTP requests.
fn relay(per_entity: usize, per_caller: usize) -> (Stage<Relay>, Table) {
    let table = Table::with(&["ent", "ent2"]);
    table.0.borrow_mut().entities.iter_mut().for_each(|entity| entity.http = true);
    let authority: Box<dyn Authority> = Box::new(table.clone());
    let config =
        Config { senders_max: per_entity, caller_senders_max: per_caller, ..Config::default() };
    (Stage::new(Relay::new(config, authority)), table)
}

fn connect(entity: &str, rule: &str) -> Vec<u8> {
    upgrade(&format!("/$hc/{entity}?sb-hc-action=connect"), &auth(entity, rule))
}

impl Stage<Relay> {
    /// A sender that waits, with whom it is joined being `joined`.
    fn meet(&mut self, control: ConnId, sender: ConnId) -> ConnId {
        let accept = self.accept_command(control);
        let listener = self.rendezvous(&accept, "", "");
        assert_eq!((self.status(listener).0, self.status(sender).0), (101, 101));
        listener
    }

    /// One more WebSocket and one more request are refused at once.
    fn is_full(&mut self, entity: &str, rule: &str, who: &str) {
        let said = format!("429 TooManyRequests: {who} has up to ");
        let conn = self.request(&connect(entity, rule));
        let (status, answer) = self.status(conn);
        assert!(status == 429 && answer.starts_with(&format!("HTTP/1.1 {said}")), "{answer}");
        assert!(answer.contains("senders at a time. TrackingId:"), "{answer}");
        assert!(answer.contains("\r\nRetry-After: 1\r\n"), "{answer}");
        assert_eq!(self.fate(conn), Some(Fate::Closed));
        let request = head("GET", &format!("/{entity}"), &auth(entity, rule));
        let conn = self.request(request.as_bytes());
        let (status, answer) = self.status(conn);
        assert!(status == 429 && answer.contains("\r\nRetry-After: 1\r\n"), "{answer}");
        assert!(answer.contains(r#"{"error":{"code":"TooManyRequests","message":"#), "{answer}");
        assert!(!answer.contains("Via:"), "{answer}");
    }
}

/// What the metrics say of senders that were one too many, of an endpoint and of a caller.
fn over_quota(stage: &mut Stage<Relay>) -> [u64; 2] {
    let page = operators::page(stage);
    ["endpoint", "caller"].map(|limit| {
        let name = format!("relay_senders_over_quota_total{{limit=\"{limit}\"}} ");
        page.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap()
    })
}

#[test]
fn one_sender_too_many_of_an_entity_is_told_so_and_the_next_entity_has_room() {
    let (mut stage, _) = relay(2, 100);
    let control = stage.listener("ent", "");
    let neighbour = stage.listener("ent2", "");
    let first = stage.request(&connect("ent", "Send"));
    let listener = stage.meet(control, first);
    stage.request(&get());
    assert_eq!(stage.role.senders(), 2);
    stage.inline(control);
    stage.is_full("ent", "root", "an endpoint");
    assert_eq!(stage.take(control), b"", "the listener hears nothing of them");
    assert_eq!(stage.role.senders(), 2);

    let other = stage.request(&connect("ent2", "Send"));
    let other_end = stage.meet(neighbour, other);
    stage.data(other, &masked(Opcode::Binary, b"at once"));
    assert_eq!(stage.take(other_end), crate::plain(Opcode::Binary, b"at once"));
    stage.data(first, &masked(Opcode::Binary, b"as before"));
    assert_eq!(stage.take(listener), crate::plain(Opcode::Binary, b"as before"));
}

#[test]
fn one_sender_too_many_of_a_caller_is_told_so_and_the_next_caller_has_room() {
    let (mut stage, _) = relay(100, 2);
    let control = stage.listener("ent", "");
    stage.listener("ent2", "");
    stage.request(&connect("ent", "Send"));
    stage.request(&connect("ent2", "Send"));
    stage.is_full("ent", "Send", "a caller");
    assert_eq!(over_quota(&mut stage), [0, 2]);
    stage.take(control);
    let other = stage.request(&connect("ent", "root"));
    stage.meet(control, other);
}

#[test]
fn where_nobody_needs_a_token_an_address_is_a_caller_and_a_given_token_is_none() {
    let (mut stage, table) = relay(100, 2);
    table.0.borrow_mut().entities.iter_mut().for_each(|entity| entity.needs_token = false);
    stage.listener("ent", "");
    let mut status = |address: &str, fields: &str| {
        let conn = stage.accept_from(address);
        stage.data(conn, &upgrade("/$hc/ent?sb-hc-action=connect", fields));
        stage.status(conn).0
    };
    let waits = 0;
    assert_eq!(status("203.0.113.9:1", ""), waits);
    assert_eq!(status("203.0.113.9:2", &auth("ent", "Send")), waits);
    assert_eq!(status("203.0.113.9:3", &auth("ent", "root")), 429);
    assert_eq!(status("[::ffff:203.0.113.9]:3", ""), 429);
    assert_eq!(status("203.0.113.10:1", ""), waits);
    assert_eq!(status("[2001:db8::1]:1", ""), waits);
    assert_eq!(status("[2001:db8::2]:1", ""), waits);
    assert_eq!(status("[2001:db8::ffff:3]:1", ""), 429, "a host has a whole /64");
    assert_eq!(status("[2001:db8:0:1::1]:1", ""), waits);
}

#[test]
fn who_could_not_be_served_anyway_is_told_why_not() {
    let (mut stage, _) = relay(1, 1);
    let control = stage.listener("ent", "");
    stage.request(&connect("ent", "Send"));
    let conn = stage.request(&connect("ent", "guess"));
    assert_eq!(stage.status(conn).0, 401);
    let conn = stage.request(&connect("nowhere", "Send"));
    assert_eq!(stage.status(conn).0, 404);
    let conn = stage.request(&connect("ent2", "Send"));
    assert_eq!(stage.status(conn).0, 404, "no listeners");
    let fields = format!("Microsoft-Relay-AllowedListeners: x\r\n{}", auth("ent", "Send"));
    let conn = stage.request(&upgrade("/$hc/ent?sb-hc-action=connect", &fields));
    assert_eq!(stage.status(conn).0, 404, "nor one that is allowed");
    assert_eq!(over_quota(&mut stage), [0, 0], "no seat would have helped them");
    stage.is_full("ent", "Send", "an endpoint");
    assert_eq!(over_quota(&mut stage), [2, 0], "a WebSocket and a request");
    stage.closed(control, Close::Reset);
    assert_eq!(stage.role.senders(), 0, "with the last listener goes who waits for it");
}

/// How a sender comes to its end; the connections are the listener's channel and the sender's.
type End = fn(&mut Stage<Relay>, &Table, ConnId, ConnId);

const ENDS: [End; 9] = [
    |stage, _, _, sender| stage.closed(sender, Close::Reset),
    |stage, _, _, sender| stage.finished(sender),
    |stage, _, control, _| stage.closed(control, Close::Reset),
    |stage, _, _, _| stage.pass(31),
    |stage, table, _, _| {
        table.order(Order::Revoke(Revoked::Entity("ent".to_owned())));
        stage.event(Event::Deadline);
    },
    |stage, table, _, _| {
        table.order(Order::Revoke(Revoked::Bearer("Send".to_owned())));
        stage.event(Event::Deadline);
    },
    |stage, _, control, _| {
        let accept = stage.accept_command(control);
        let conn = stage.rendezvous(&accept, "&sb-hc-statusCode=403", "");
        assert_eq!(stage.status(conn).0, 410);
    },
    |stage, _, control, sender| {
        let listener = stage.meet(control, sender);
        assert_eq!(stage.role.senders(), 1, "a sender that is served is counted still");
        stage.closed(listener, Close::Reset);
    },
    |stage, _, control, sender| {
        stage.meet(control, sender);
        stage.data(sender, &masked(Opcode::Ping, b""));
        stage.data(sender, b"\x8f\x00no frame of a client");
    },
];

#[test]
fn a_sender_that_ends_in_whatever_way_makes_room() {
    for (number, end) in ENDS.iter().enumerate() {
        let (mut stage, table) = relay(1, 1);
        let control = stage.listener("ent", "");
        let sender = stage.request(&connect("ent", "Send"));
        assert_eq!(stage.role.senders(), 1, "{number}");
        end(&mut stage, &table, control, sender);
        assert_eq!(stage.role.senders(), 0, "{number}");
        let control = stage.listener("ent", "");
        let sender = stage.request(&connect("ent", "Send"));
        stage.status(sender);
        assert_eq!(stage.role.senders(), 1, "{number}");
        assert_eq!(stage.fate(sender), None, "{number}");
        assert_ne!(stage.take(control), b"", "{number}: it is offered");
    }
}

#[test]
fn a_sender_keeps_its_seat_until_its_goodbye_has_left() {
    let (mut stage, _) = relay(1, 1);
    let control = stage.listener("ent", "");
    let sender = stage.request(&connect("ent", "Send"));
    let listener = stage.meet(control, sender);
    stage.data(sender, &ws::close(1000, "", KEY));
    assert_eq!(stage.role.senders(), 1, "half closed");
    stage.data(listener, &ws::close(1000, "", KEY));
    assert_eq!(stage.role.senders(), 1, "its socket is still there");
    stage.closed(listener, Close::Clean);
    stage.closed(sender, Close::Clean);
    assert_eq!((stage.role.senders(), stage.role.leftovers()), (0, (1, 0)));
}

/// Ways for an HTTP request to come to an end.
const EXCHANGES: [fn(&mut Stage<Relay>, ConnId) -> ConnId; 7] = [
    |stage, control| {
        let sender = stage.request(&get());
        let (request, _) = stage.inline(control);
        stage.data(control, &response(&request.id, 204, &[], false));
        assert_eq!(stage.status(sender).0, 204);
        assert_eq!(stage.fate(sender), None, "the connection stays, and is no sender");
        sender
    },
    |stage, control| {
        let sender = stage.request(&get());
        stage.inline(control);
        stage.closed(sender, Close::Reset);
        sender
    },
    |stage, control| {
        let sender = stage.request(&get());
        stage.inline(control);
        stage.pass(61);
        if stage.fate(control).is_none() {
            stage.closed(control, Close::Reset);
        }
        sender
    },
    |stage, _| {
        let sender = stage.request(&post("Content-Length: 10\r\n"));
        stage.finished(sender);
        sender
    },
    |stage, control| {
        let sender = stage.request(&post("Content-Length: 100000\r\n"));
        stage.pointer(control);
        stage.closed(sender, Close::Reset);
        sender
    },
    |stage, control| {
        let sender = stage.request(&get());
        let (request, _) = stage.inline(control);
        let rendezvous = stage.opened(&request.address);
        stage.data(rendezvous, &response(&request.id, 200, &[], true));
        stage.data(rendezvous, &fragment(Opcode::Binary, false, b"half"));
        assert_eq!(stage.role.senders(), 1);
        stage.closed(rendezvous, Close::Reset);
        sender
    },
    |stage, control| {
        let sender = stage.request(&get());
        let (request, _) = stage.inline(control);
        let rendezvous = stage.opened(&request.address);
        stage.data(rendezvous, &response(&request.id, 200, &[], true));
        stage.data(rendezvous, &masked(Opcode::Binary, b"all"));
        sender
    },
];

#[test]
fn a_request_that_ends_in_whatever_way_makes_room() {
    for (number, end) in EXCHANGES.iter().enumerate() {
        let (mut stage, _) = relay(1, 1);
        let control = stage.listener("ent", "");
        end(&mut stage, control);
        assert_eq!(stage.role.senders(), 0, "{number}");
    }
}

#[test]
fn a_kept_connection_has_a_seat_for_each_request_and_none_between() {
    let (mut stage, _) = relay(1, 1);
    let control = stage.listener("ent", "");
    let kept = stage.request(&get());
    for _ in 0..3 {
        let (request, _) = stage.inline(control);
        assert_eq!(stage.role.senders(), 1);
        stage.is_full("ent", "Send", "an endpoint");
        stage.data(control, &response(&request.id, 204, &[], false));
        assert_eq!((stage.status(kept).0, stage.role.senders()), (204, 0));
        stage.data(kept, &get());
    }
}

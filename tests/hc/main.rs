//! Hybrid Connections: the relay and the agent, driven event by event.
//!
//! Nothing here has a socket or a clock: bytes, time and accidents are what a test makes them.
#![allow(clippy::unwrap_used)]

mod agent;
mod call;
mod chaos;
mod checklist;
mod deadlines;
mod enrol;
mod flood;
mod hostile;
mod http;
mod http_ends;
mod listen;
mod net;
mod network;
mod operators;
mod pair;
mod pump;
mod rendezvous;
mod seats;
mod stalled;
mod succession;
mod table;

use cluster_connect::engine::upgrade::Request;
use cluster_connect::engine::ws::{Connection, Item, Side, push_frame};
use cluster_connect::role::agent::{Agent, Config as AgentConfig, Source};
use cluster_connect::role::relay::authority::Authority;
use cluster_connect::role::relay::{Config, Relay};
use cluster_connect::role::shared_key::SharedKey;
use cluster_connect::role::{ConnId, Endpoint, Event, ListenerTag, Notice};
use cluster_connect::secret::Secret;
use cluster_connect::wire::control::{Accept, Command};
use cluster_connect::wire::h1::Scan;
use cluster_connect::wire::ws::Opcode;

use self::net::Stage;
use self::table::{Table, token};

pub(crate) const KEY: Option<[u8; 4]> = Some([0x5a, 0x01, 0xfe, 0x33]);

/// A client's frame.
pub(crate) fn masked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    fragment(opcode, true, payload)
}

pub(crate) fn fragment(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    push_frame(&mut bytes, opcode, fin, KEY, payload);
    bytes
}

/// A server's frame.
pub(crate) fn plain(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    push_frame(&mut bytes, opcode, true, None, payload);
    bytes
}

/// The frames of `bytes`, as opcode, FIN and payload.
pub(crate) fn frames(side: Side, bytes: &[u8]) -> Vec<(Opcode, bool, Vec<u8>)> {
    let mut bytes = bytes.to_vec();
    let mut machine = Connection::new(side);
    let mut found: Vec<(Opcode, bool, Vec<u8>)> = Vec::new();
    let mut at = 0;
    while let Some((count, item)) = machine.read(&mut bytes[at..]).unwrap() {
        match item {
            Item::Frame { opcode, fin, .. } => found.push((opcode, fin, Vec::new())),
            Item::Payload { .. } => {
                found.last_mut().unwrap().2.extend_from_slice(&bytes[at..at + count]);
            }
            Item::Ping(payload) => found.push((Opcode::Ping, true, payload.to_vec())),
            Item::Pong(payload) => found.push((Opcode::Pong, true, payload.to_vec())),
            Item::Close(payload) => found.push((Opcode::Close, true, payload.to_vec())),
        }
        at += count;
    }
    found
}

/// The head of a request for a WebSocket.
pub(crate) fn upgrade(target: &str, fields: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/1.1\r\nHost: relay.example\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
    )
    .into_bytes()
}

/// A `ServiceBusAuthorization` of `rule` for the entity `name`, good for an hour.
pub(crate) fn auth(name: &str, rule: &str) -> String {
    let token = token(&format!("http://relay.example/{name}"), rule, 1_795_463_640 + 3600);
    format!("ServiceBusAuthorization: {token}\r\n")
}

/// A relay with the entities `ent`, `ent2` and one of two segments.
pub(crate) fn relay() -> (Stage<Relay>, Table) {
    let table = Table::with(&["ent", "ent2", "clusters/one"]);
    let authority: Box<dyn Authority> = Box::new(table.clone());
    (Stage::new(Relay::new(Config::default(), authority)), table)
}

impl Stage<Relay> {
    /// Sends one request on a new connection.
    pub(crate) fn request(&mut self, head: &[u8]) -> ConnId {
        let conn = self.accept();
        self.data(conn, head);
        conn
    }

    /// The status of the answer on `conn`, and all of it.
    pub(crate) fn status(&mut self, conn: ConnId) -> (u16, String) {
        let text = self.take_text(conn);
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or(0), text)
    }

    /// A listener of `name`.
    pub(crate) fn listener(&mut self, name: &str, id: &str) -> ConnId {
        let target = format!("/$hc/{name}?sb-hc-action=listen{id}");
        let conn = self.request(&upgrade(&target, &auth(name, "Listen")));
        assert_eq!(self.status(conn).0, 101);
        conn
    }

    /// A sender to `name`, which is not answered yet.
    pub(crate) fn sender(&mut self, name: &str) -> ConnId {
        let target = format!("/$hc/{name}?sb-hc-action=connect");
        self.request(&upgrade(&target, &auth(name, "Send")))
    }

    /// The accept command that `listener` has got.
    pub(crate) fn accept_command(&mut self, listener: ConnId) -> Accept {
        let bytes = self.take(listener);
        let frames = frames(Side::Client, &bytes);
        let (_, _, text) = frames.iter().find(|f| f.0 == Opcode::Text).expect("a command");
        match Command::parse(std::str::from_utf8(text).unwrap()) {
            Ok(Command::Accept(accept)) => accept,
            other => panic!("{other:?}"),
        }
    }

    /// The listener's connection to `accept`'s address.
    pub(crate) fn rendezvous(&mut self, accept: &Accept, more: &str, fields: &str) -> ConnId {
        let target = accept.address.strip_prefix("wss://relay.example").unwrap();
        self.request(&upgrade(&format!("{target}{more}"), fields))
    }

    /// A sender and a listener, joined.
    pub(crate) fn joined(&mut self) -> (ConnId, ConnId) {
        let control = self.listener("ent", "");
        let sender = self.sender("ent");
        let accept = self.accept_command(control);
        let listener = self.rendezvous(&accept, "", "");
        assert_eq!(self.status(listener).0, 101);
        assert_eq!(self.status(sender).0, 101);
        (sender, listener)
    }
}

pub(crate) fn key_source() -> Source {
    Source::Key(SharedKey {
        relay: "relay.example:8080".to_owned(),
        entity: "ent".to_owned(),
        rule: "Listen".to_owned(),
        key: Secret::new("Listen".to_owned()),
        file: None,
    })
}

pub(crate) fn agent(source: Source) -> Stage<Agent> {
    let auth_proxy = Endpoint::Local(ListenerTag::AuthProxy);
    Stage::new(Agent::new(AgentConfig::new(source, None, auth_proxy)))
}

pub(crate) fn says(stage: &Stage<Agent>) -> Vec<String> {
    let said = stage.net.notices.iter().filter_map(|notice| match notice {
        Notice::Say(sentence) => Some(sentence.clone()),
        Notice::Ready | Notice::Measured(_) | Notice::Exit(..) => None,
    });
    said.collect()
}

/// The request that was sent on `conn`.
pub(crate) fn request(stage: &mut Stage<Agent>, conn: ConnId) -> Request {
    let bytes = stage.take(conn);
    let (request, len) = Request::parse(&bytes, &mut Scan::default()).unwrap().unwrap();
    assert_eq!(len, bytes.len());
    request
}

/// Answers the handshake on `conn`.
pub(crate) fn open(stage: &mut Stage<Agent>, conn: ConnId) -> Request {
    stage.event(Event::Connected(conn));
    let request = request(stage, conn);
    let answer = request.upgrade().unwrap().unwrap().answer(None);
    stage.data(conn, &answer);
    request
}

pub(crate) trait Payload {
    fn concat_payload(&self) -> Vec<u8>;
}

impl Payload for Vec<(Opcode, bool, Vec<u8>)> {
    fn concat_payload(&self) -> Vec<u8> {
        self.iter().flat_map(|f| f.2.clone()).collect()
    }
}

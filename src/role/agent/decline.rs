//! HTTP requests that the agent is pointed to. It serves none, but a listener that stays silent is
//! a bad one, and the answer belongs on the socket where the request is.

use log::debug;

use super::address::Address;
use super::{Agent, Conn, Key, Net};
use crate::buf::Lease;
use crate::engine::upgrade::{Dial, Handshake};
use crate::engine::ws::{self, Message, Messages, Side};
use crate::limits::{COMMAND_MAX, CONTROL_BODY_MAX, DECLINING_MAX, RENDEZVOUS_TIMEOUT};
use crate::role::ConnId;
use crate::role::frames::write;
use crate::wire::control::{Command, Reply, Response};
use crate::wire::ws::Opcode;

/// A connection to the place of a request.
#[derive(Debug)]
pub(super) struct Declining {
    address: Address,
    handshake: Option<Handshake>,
    messages: Messages,
}

impl Agent {
    /// Goes where `address` points to; false if that cannot be.
    pub(super) fn decline_at(&mut self, address: &str, net: &mut dyn Net) -> bool {
        let declining = self.conns.values().filter(|it| matches!(it, Conn::Declining(_))).count();
        let address = self.parse_address(address).filter(|_| declining < DECLINING_MAX);
        let Some(address) = address else { return false };
        let endpoint = self.endpoint(&address.host, address.port);
        let Some(conn) = endpoint.and_then(|endpoint| net.connect(&endpoint)) else { return false };
        let messages = Messages::new(Side::Client, 2 * COMMAND_MAX, CONTROL_BODY_MAX);
        let declining = Declining { address, handshake: None, messages };
        self.conns.insert(conn, Conn::Declining(Box::new(declining)));
        self.timers.set(Key::Open(conn), net.now() + RENDEZVOUS_TIMEOUT);
        true
    }

    pub(super) fn on_declining_connected(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Declining(declining)) = self.conns.get_mut(&conn) else { return };
        let mut nonce = [0; 16];
        net.random(&mut nonce);
        let Address { authority, target, .. } = &declining.address;
        let dial = Dial { host: authority, target, nonce, protocol: None, token: None };
        let (head, handshake) = dial.start();
        declining.handshake = Some(handshake);
        write(net, conn, head.expose());
    }

    pub(super) fn on_declining_data(&mut self, conn: ConnId, mut data: Lease, net: &mut dyn Net) {
        let Some(Conn::Declining(declining)) = self.conns.get_mut(&conn) else { return };
        if let Some(handshake) = &mut declining.handshake {
            match handshake.handle(&data) {
                Ok(None) => return,
                Ok(Some(taken)) => data.advance(taken),
                Err(refused) => return self.drop_declining(conn, &refused.to_string(), net),
            }
            declining.handshake = None;
        }
        let mut rest = data.filled_mut();
        loop {
            let Some(Conn::Declining(declining)) = self.conns.get_mut(&conn) else { return };
            match declining.messages.read(rest) {
                Ok(None) => return,
                Ok(Some((count, message))) => {
                    rest = rest.get_mut(count..).unwrap_or_default();
                    self.on_declining_message(conn, message, net);
                }
                Err(violation) => return self.drop_declining(conn, &violation.to_string(), net),
            }
        }
    }

    fn on_declining_message(&mut self, conn: ConnId, message: Message, net: &mut dyn Net) {
        let mut send = |opcode, payload: &[u8]| {
            let key = Some(self.keys.draw(net));
            write(net, conn, &ws::frame(opcode, key, payload));
        };
        match message {
            Message::Ping(payload) => send(Opcode::Pong, &payload),
            Message::Pong | Message::Binary(_) => (),
            Message::Close(_) => self.drop_declining(conn, "closed", net),
            Message::Text(text) => match Command::parse(&text) {
                Ok(Command::Request(request)) => {
                    send(Opcode::Text, not_implemented(request.id).encode().as_bytes());
                    send(Opcode::Close, &1000u16.to_be_bytes());
                    self.end(conn, net);
                }
                _ => self.drop_declining(conn, "not a request", net),
            },
        }
    }

    pub(super) fn drop_declining(&mut self, conn: ConnId, why: &str, net: &mut dyn Net) {
        debug!("conn={} request not declined: {why}", conn.0);
        net.abort(conn);
        self.forget(conn);
    }
}

/// What the agent says to every HTTP request.
pub(super) fn not_implemented(request_id: String) -> Reply {
    Reply::Response(Response {
        request_id,
        status: 501,
        description: "Not Implemented".to_owned(),
        headers: Vec::new(),
        body: false,
    })
}

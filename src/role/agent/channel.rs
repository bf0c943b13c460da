//! One control channel: its handshake, what comes on it, its signs of life and its end.

use std::time::Instant;

use log::{debug, info};

use super::address::{Address, host_port};
use super::decline::not_implemented;
use super::succession::End;
use super::{Agent, Conn, Key, ListenToken, Net};
use crate::buf::{Lease, Pressure};
use crate::engine::upgrade::{Dial, Handshake};
use crate::engine::ws::{self, Message, Messages, Side};
use crate::limits::{
    AGENT_PING, AGENT_PINGS, CLOSE_TIMEOUT, COMMAND_MAX, CONTROL_BODY_MAX, RENDEZVOUS_TIMEOUT,
};
use crate::role::ConnId;
use crate::role::frames::write;
use crate::wire::control::{Command, Reply};
use crate::wire::ws::{Opcode, close_reason};

/// The control channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) token: ListenToken,
    handshake: Option<Handshake>,
    /// Since when it has been open.
    pub(super) open: Option<Instant>,
    messages: Messages,
    heard: Instant,
    missed: u8,
    /// Our Close has been sent. What the relay sent before its own is still read.
    is_closing: bool,
}

impl Agent {
    /// Begins a channel; `None` when there is no connection to be had.
    pub(super) fn dial_channel(&mut self, token: ListenToken, net: &mut dyn Net) -> Option<ConnId> {
        let default = if self.tls.is_some() { 443 } else { 80 };
        let (host, port) = host_port(&token.relay, default)?;
        let conn = net.connect(&self.endpoint(&host, port)?)?;
        let now = net.now();
        let channel = Channel {
            token,
            handshake: None,
            open: None,
            messages: Messages::new(Side::Client, 2 * COMMAND_MAX, CONTROL_BODY_MAX),
            heard: now,
            missed: 0,
            is_closing: false,
        };
        self.conns.insert(conn, Conn::Channel(Box::new(channel)));
        self.timers.set(Key::Open(conn), now + RENDEZVOUS_TIMEOUT);
        Some(conn)
    }

    pub(super) fn on_channel_connected(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Channel(channel)) = self.conns.get_mut(&conn) else { return };
        let mut nonce = [0; 16];
        net.random(&mut nonce);
        let target =
            format!("/$hc/{}?sb-hc-action=listen&sb-hc-id={}", channel.token.entity, self.name);
        let dial = Dial {
            host: &channel.token.relay,
            target: &target,
            nonce,
            protocol: None,
            token: Some(&channel.token.token),
        };
        let (head, handshake) = dial.start();
        channel.handshake = Some(handshake);
        write(net, conn, head.expose());
    }

    pub(super) fn on_channel_data(&mut self, conn: ConnId, mut data: Lease, net: &mut dyn Net) {
        let now = net.now();
        let Some(Conn::Channel(channel)) = self.conns.get_mut(&conn) else { return };
        channel.heard = now;
        channel.missed = 0;
        if let Some(handshake) = &mut channel.handshake {
            match handshake.handle(&data) {
                Ok(None) => return,
                Ok(Some(taken)) => {
                    data.advance(taken);
                    self.on_channel_open(conn, net);
                }
                Err(refused) => {
                    return self.on_channel_lost(conn, End::Broken, &refused.to_string(), net);
                }
            }
        }
        let mut at = 0;
        loop {
            let Some(Conn::Channel(channel)) = self.conns.get_mut(&conn) else { return };
            let bytes = data.filled_mut().get_mut(at..).unwrap_or_default();
            match channel.messages.read(bytes) {
                Ok(None) => return,
                Ok(Some((count, message))) => {
                    at += count;
                    self.on_message(conn, message, net);
                }
                Err(violation) => {
                    let key = Some(self.keys.draw(net));
                    let why = violation.to_string();
                    write(net, conn, &ws::close(violation.close_code(), &why, key));
                    return self.on_channel_lost(conn, End::Broken, &why, net);
                }
            }
        }
    }

    fn on_channel_open(&mut self, conn: ConnId, net: &mut dyn Net) {
        let now = net.now();
        let Some(Conn::Channel(channel)) = self.conns.get_mut(&conn) else { return };
        channel.handshake = None;
        channel.open = Some(now);
        info!("conn={} listening at {} for {}", conn.0, channel.token.relay, channel.token.entity);
        self.timers.cancel(Key::Open(conn));
        self.timers.set(Key::Ping(conn), now + AGENT_PING);
        self.succeed(conn, net);
    }

    fn on_message(&mut self, conn: ConnId, message: Message, net: &mut dyn Net) {
        let Some(Conn::Channel(channel)) = self.conns.get_mut(&conn) else { return };
        match message {
            Message::Ping(payload) => {
                let key = Some(self.keys.draw(net));
                if !channel.is_closing && net.pressure(conn) == Pressure::Open {
                    write(net, conn, &ws::frame(Opcode::Pong, key, &payload));
                }
            }
            // The body of a request that was answered already.
            Message::Pong | Message::Binary(_) => (),
            Message::Close(payload) => {
                let reason = close_reason(&payload);
                let end = match reason {
                    Some((1001 | 1011 | 1012, _)) => End::Announced,
                    Some(_) | None => End::Broken,
                };
                let why = reason
                    .map_or_else(|| "closed".to_owned(), |(code, why)| format!("{code} {why}"));
                if !channel.is_closing {
                    let key = Some(self.keys.draw(net));
                    write(net, conn, &ws::frame(Opcode::Close, key, &payload));
                }
                self.on_channel_lost(conn, end, &why, net);
            }
            Message::Text(text) => match Command::parse(&text) {
                Ok(Command::Accept(accept)) => self.on_accept(&accept, net),
                Ok(Command::Request(request)) => self.decline(conn, request.id, net),
                Ok(Command::Pointer(address)) => {
                    if !self.decline_at(&address, net)
                        && let Some(id) = request_id(&address)
                    {
                        self.decline(conn, id, net);
                    }
                }
                Ok(Command::Unknown) => debug!("conn={} unknown command", conn.0),
                Err(why) => debug!("conn={} malformed command: {why}", conn.0),
            },
        }
    }

    /// HTTP requests are not for the agent; but none may stay without an answer.
    fn decline(&mut self, conn: ConnId, request_id: String, net: &mut dyn Net) {
        self.send_command(conn, &not_implemented(request_id), net);
    }

    fn send_command(&mut self, conn: ConnId, reply: &Reply, net: &mut dyn Net) {
        let Some(Conn::Channel(channel)) = self.conns.get(&conn) else { return };
        // Nothing may follow a Close.
        if channel.is_closing {
            return;
        }
        let key = Some(self.keys.draw(net));
        let frame = ws::frame(Opcode::Text, key, reply.encode().as_bytes());
        write(net, conn, &frame);
    }

    /// Presents a new token on an open channel.
    pub(super) fn present(&mut self, conn: ConnId, token: ListenToken, net: &mut dyn Net) {
        let Some(Conn::Channel(channel)) = self.conns.get_mut(&conn) else { return };
        let renew = Reply::RenewToken(Some(token.token.expose().clone()));
        channel.token = token;
        self.send_command(conn, &renew, net);
    }

    pub(super) fn ping_channel(&mut self, conn: ConnId, net: &mut dyn Net) {
        let now = net.now();
        let Some(Conn::Channel(channel)) = self.conns.get_mut(&conn) else { return };
        let due = channel.heard + AGENT_PING;
        if now < due {
            return self.timers.set(Key::Ping(conn), due);
        }
        if channel.missed >= AGENT_PINGS {
            let why = "the relay has fallen silent";
            return self.on_channel_lost(conn, End::Broken, why, net);
        }
        channel.missed += 1;
        let is_suspect = channel.missed > 1;
        let key = Some(self.keys.draw(net));
        write(net, conn, &ws::frame(Opcode::Ping, key, &[]));
        self.timers.set(Key::Ping(conn), now + AGENT_PING);
        if is_suspect {
            self.replace(conn, net);
        }
    }

    /// Gives a channel up that another has taken the place of: our Close tells the relay to bring
    /// no more, and what it had brought by then is still taken.
    pub(super) fn retire_channel(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Channel(channel)) = self.conns.get_mut(&conn) else { return };
        channel.is_closing = true;
        let key = Some(self.keys.draw(net));
        write(net, conn, &ws::close(1000, "replaced", key));
        self.timers.cancel(Key::Ping(conn));
        self.timers.set(Key::End(conn), net.now() + CLOSE_TIMEOUT);
    }

    pub(super) fn close_channel(&mut self, conn: ConnId, code: u16, why: &str, net: &mut dyn Net) {
        let Some(Conn::Channel(channel)) = self.conns.get_mut(&conn) else { return };
        let is_told = channel.open.is_none() || std::mem::replace(&mut channel.is_closing, true);
        let key = Some(self.keys.draw(net));
        if !is_told {
            write(net, conn, &ws::close(code, why, key));
        }
        net.close(conn);
        self.forget(conn);
    }

    pub(super) fn parse_address(&self, address: &str) -> Option<Address> {
        // A relay that is trusted over TLS does not get to send its sessions round it.
        Address::parse(address).filter(|address| address.secure == self.tls.is_some())
    }
}

/// The request that the address of a pointer names.
fn request_id(address: &str) -> Option<String> {
    let (_, query) = address.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix("sb-hc-id=")).map(str::to_owned)
}

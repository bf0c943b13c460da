//! The agent's control channel: getting it, keeping it, and getting the next one.

use std::time::{Duration, Instant};

use log::{debug, info};

use super::address::{Address, host_port};
use super::decline::not_implemented;
use super::token::Progress;
use super::{Agent, Conn, Key, ListenToken, Net, Notice, Phase};
use crate::buf::{Lease, Pressure};
use crate::engine::upgrade::{Dial, Handshake};
use crate::engine::ws::{self, Message, Messages, Side};
use crate::limits::{
    AGENT_PING, AGENT_PINGS, CHANNEL_LASTED, COMMAND_MAX, CONTROL_BODY_MAX, RENDEZVOUS_TIMEOUT,
    RENEWAL,
};
use crate::role::ConnId;
use crate::role::frames::write;
use crate::wire::control::{Command, Reply};
use crate::wire::ws::{Opcode, close_reason};

/// The control channel.
#[derive(Debug)]
pub(super) struct Channel {
    token: ListenToken,
    handshake: Option<Handshake>,
    /// Since when it has been open.
    open: Option<Instant>,
    messages: Messages,
    heard: Instant,
    missed: u8,
    is_closing: bool,
}

impl Agent {
    /// The first step towards a channel: a token of its own for each attempt.
    pub(super) fn ask_for_token(&mut self, net: &mut dyn Net) {
        self.phase = Phase::Asking;
        let progress = self.tokens.request(net);
        self.on_progress(progress, net);
    }

    /// A token is here, or is not: for a new channel, or for the one that is open.
    pub(super) fn on_progress(&mut self, progress: Progress, net: &mut dyn Net) {
        match (progress, self.phase) {
            (Progress::Hopeless(fault), _) => {
                self.has_exited = true;
                net.tell(Notice::Exit(1, Some(fault)));
            }
            (Progress::Pending, _) | (_, Phase::Stopping | Phase::Waiting) => (),
            (Progress::Ready(token), Phase::Asking) => self.open_channel(token, net),
            (Progress::Failed(why), Phase::Asking) => {
                self.retry(&format!("cannot get a token to listen: {why}"), net);
            }
            (Progress::Ready(token), Phase::Channel(conn)) => self.on_renewed(conn, token, net),
            (Progress::Failed(why), Phase::Channel(_)) => {
                self.say(format!("cannot renew the token, will try again: {why}"), net);
                let delay = self.renewals.failed(random(net));
                self.timers.set(Key::Renew, net.now() + delay);
            }
        }
    }

    fn open_channel(&mut self, token: ListenToken, net: &mut dyn Net) {
        let default = if self.tls.is_some() { 443 } else { 80 };
        let endpoint =
            host_port(&token.relay, default).and_then(|(host, port)| self.endpoint(&host, port));
        let Some(conn) = endpoint.and_then(|endpoint| net.connect(&endpoint)) else {
            return self.retry(&format!("cannot connect to {}", token.relay), net);
        };
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
        self.phase = Phase::Channel(conn);
        self.timers.set(Key::Open(conn), now + RENDEZVOUS_TIMEOUT);
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
                    return self.on_channel_lost(conn, &refused.to_string(), net);
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
                    return self.on_channel_lost(conn, &why, net);
                }
            }
        }
    }

    fn on_channel_open(&mut self, conn: ConnId, net: &mut dyn Net) {
        let now = net.now();
        let Some(Conn::Channel(channel)) = self.conns.get_mut(&conn) else { return };
        channel.handshake = None;
        channel.open = Some(now);
        let renewal = renewal_delay(channel.token.expires, net.unix_time());
        info!("conn={} listening at {} for {}", conn.0, channel.token.relay, channel.token.entity);
        let was_in_trouble = self.said.take().is_some();
        let relay = channel.token.relay.clone();
        self.timers.cancel(Key::Open(conn));
        self.timers.set(Key::Renew, now + renewal);
        self.timers.set(Key::Ping(conn), now + AGENT_PING);
        if !std::mem::replace(&mut self.is_ready, true) {
            net.tell(Notice::Ready);
        } else if was_in_trouble {
            net.tell(Notice::Say(format!("connected to {relay} again")));
        }
    }

    fn on_message(&mut self, conn: ConnId, message: Message, net: &mut dyn Net) {
        let Some(Conn::Channel(channel)) = self.conns.get_mut(&conn) else { return };
        match message {
            Message::Ping(payload) => {
                let key = Some(self.keys.draw(net));
                if net.pressure(conn) == Pressure::Open {
                    write(net, conn, &ws::frame(Opcode::Pong, key, &payload));
                }
            }
            // The body of a request that was answered already.
            Message::Pong | Message::Binary(_) => (),
            Message::Close(payload) => {
                let why = close_reason(&payload);
                let why =
                    why.map_or_else(|| "closed".to_owned(), |(code, why)| format!("{code} {why}"));
                if !channel.is_closing {
                    let key = Some(self.keys.draw(net));
                    write(net, conn, &ws::frame(Opcode::Close, key, &payload));
                }
                self.on_channel_lost(conn, &why, net);
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
        let key = Some(self.keys.draw(net));
        let frame = ws::frame(Opcode::Text, key, reply.encode().as_bytes());
        write(net, conn, &frame);
    }

    pub(super) fn renew(&mut self, net: &mut dyn Net) {
        let progress = self.tokens.request(net);
        self.on_progress(progress, net);
    }

    fn on_renewed(&mut self, conn: ConnId, token: ListenToken, net: &mut dyn Net) {
        let Some(Conn::Channel(channel)) = self.conns.get_mut(&conn) else { return };
        if channel.open.is_none() {
            return;
        }
        self.renewals.succeeded();
        self.timers.set(Key::Renew, net.now() + renewal_delay(token.expires, net.unix_time()));
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
            return self.on_channel_lost(conn, "the relay has fallen silent", net);
        }
        channel.missed += 1;
        let key = Some(self.keys.draw(net));
        write(net, conn, &ws::frame(Opcode::Ping, key, &[]));
        self.timers.set(Key::Ping(conn), now + AGENT_PING);
    }

    pub(super) fn close_channel(&mut self, conn: ConnId, code: u16, why: &str, net: &mut dyn Net) {
        let Some(Conn::Channel(channel)) = self.conns.get_mut(&conn) else { return };
        let was_open = channel.open.is_some();
        channel.is_closing = true;
        let key = Some(self.keys.draw(net));
        if was_open {
            write(net, conn, &ws::close(code, why, key));
        }
        net.close(conn);
        self.forget(conn);
    }

    /// The channel is gone, or never came to be: tries again, at once if it had lasted.
    pub(super) fn on_channel_lost(&mut self, conn: ConnId, why: &str, net: &mut dyn Net) {
        let Some(Conn::Channel(channel)) = self.forget(conn) else { return };
        net.close(conn);
        self.timers.cancel(Key::Renew);
        if self.phase == Phase::Stopping {
            return;
        }
        let relay = &channel.token.relay;
        let sentence = match channel.open {
            Some(_) => format!("lost the control channel at {relay}: {why}"),
            None => format!("cannot listen at {relay}: {why}"),
        };
        let now = net.now();
        if channel.open.is_some_and(|open| now.duration_since(open) > CHANNEL_LASTED) {
            self.backoff.succeeded();
            self.say(sentence, net);
            self.phase = Phase::Waiting;
            self.timers.set(Key::Retry, now);
        } else {
            self.retry(&sentence, net);
        }
    }

    fn retry(&mut self, why: &str, net: &mut dyn Net) {
        self.phase = Phase::Waiting;
        self.say(why.to_owned(), net);
        let delay = self.backoff.failed(random(net));
        debug!("{why}; next attempt in {} ms", delay.as_millis());
        self.timers.set(Key::Retry, net.now() + delay);
    }

    pub(super) fn parse_address(&self, address: &str) -> Option<Address> {
        // A relay that is trusted over TLS does not get to send its sessions round it.
        Address::parse(address).filter(|address| address.secure == self.tls.is_some())
    }
}

/// At two thirds of the token's life, but neither at once nor never if the clock is wrong.
fn renewal_delay(expires: u64, unix_now: u64) -> Duration {
    let life = Duration::from_secs(expires.saturating_sub(unix_now).min(1 << 32));
    (life * 2 / 3).clamp(RENEWAL.0, RENEWAL.1)
}

fn random(net: &mut dyn Net) -> u64 {
    let mut bytes = [0; 8];
    net.random(&mut bytes);
    u64::from_ne_bytes(bytes)
}

/// The request that the address of a pointer names.
fn request_id(address: &str) -> Option<String> {
    let (_, query) = address.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix("sb-hc-id=")).map(str::to_owned)
}

//! Listeners and their control channels.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use log::{debug, info};

use super::authority::{Entity, Grant, Request as Question, Right};
use super::connect::Handle;
use super::fault::{Fault, Tracking};
use super::open::{is_sane_id, without_port};
use super::{Arrival, Conn, Key, Net, Relay, write};
use crate::auth::sas;
use crate::buf::{Lease, Pressure};
use crate::engine::upgrade::Upgrade;
use crate::engine::ws::{self, Message, Messages, Side};
use crate::limits::{
    CLOSE_ANSWER, COMMAND_MAX, CONTROL_BODY_MAX, CONTROL_PINGS, CONTROL_QUEUE_MAX, PING_INTERVAL,
    TOKEN_GRACE,
};
use crate::role::{ConnId, Peer, Revoked};
use crate::wire::control::{Reply, Response};
use crate::wire::ws::Opcode;

/// A listener's control channel.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) entity: String,
    /// The name it gave itself.
    pub(super) name: Option<String>,
    /// `host[:port]` by which it came.
    pub(super) host: String,
    path: String,
    tracking: Tracking,
    bearer: String,
    peer: Peer,
    messages: Messages,
    due: Due,
    heard: Instant,
    missed: u8,
    /// Bytes of commands and bodies that have not left yet.
    queued: usize,
    /// Senders that wait for it, the oldest first.
    pub(super) invitations: BTreeSet<(Instant, Handle)>,
    /// We have sent our Close.
    is_closing: bool,
}

/// What the next binary message on a control channel is.
#[derive(Debug)]
enum Due {
    /// Nothing that was announced.
    Nothing,
    /// The body of a response that nobody waits for any more.
    Unwanted,
    /// The body of this response, in the exchange with this key. Not for a connection: that may
    /// serve another request by then.
    Body(Handle, Box<Response>),
}

/// A listener for which there is no room, unless one of the others is dead.
#[derive(Debug)]
pub(super) struct Crowded {
    arrival: Arrival,
    upgrade: Upgrade,
    entity: Entity,
    grant: Grant,
    since: Instant,
}

impl Control {
    pub(super) fn is_among(&self, revoked: &Revoked) -> bool {
        revoked.covers(&self.entity, &self.bearer, self.peer)
    }
}

impl Crowded {
    pub(super) fn is_among(&self, revoked: &Revoked) -> bool {
        revoked.covers(&self.entity.name, &self.grant.bearer, self.arrival.peer)
    }
}

impl Relay {
    pub(super) fn listen(
        &mut self,
        arrival: Arrival,
        upgrade: Upgrade,
        entity: Entity,
        grant: Grant,
        net: &mut dyn Net,
    ) {
        let others = self.listeners.get(&entity.name).cloned().unwrap_or_default();
        if others.len() < self.config.listeners_max {
            return self.open_control(arrival, &upgrade, entity.name, grant, net);
        }
        for other in others {
            write(net, other, &ws::frame(Opcode::Ping, None, &[]));
        }
        let conn = arrival.conn;
        self.timers.set(Key::Crowded(conn), net.now() + PROBE);
        let crowded = Crowded { arrival, upgrade, entity, grant, since: net.now() };
        self.conns.insert(conn, Conn::Crowded(Box::new(crowded)));
    }

    /// Those who have answered the pings are alive; the others make room.
    pub(super) fn on_crowd_counted(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Crowded(crowded)) = self.forget(conn) else { return };
        let Crowded { arrival, upgrade, entity, grant, since } = *crowded;
        let others = self.listeners.get(&entity.name).cloned().unwrap_or_default();
        for other in &others {
            let silent = |conn: &Conn| matches!(conn, Conn::Control(c) if c.heard < since);
            if self.conns.get(other).is_some_and(silent) {
                net.abort(*other);
                self.on_gone(*other, net);
            }
        }
        let left = self.listeners.get(&entity.name).map_or(0, Vec::len);
        if left < self.config.listeners_max {
            self.open_control(arrival, &upgrade, entity.name, grant, net);
        } else {
            let fault = Fault::new(403, "MaximumListenersPerEndpoint: too many listeners");
            self.refuse_listen(&arrival, &fault, net);
        }
    }

    /// Its right was taken away while the others were counted.
    pub(super) fn refuse_crowded(&mut self, conn: ConnId, fault: &Fault, net: &mut dyn Net) {
        let Some(Conn::Crowded(crowded)) = self.forget(conn) else { return };
        self.refuse_listen(&crowded.arrival, fault, net);
    }

    fn open_control(
        &mut self,
        arrival: Arrival,
        upgrade: &Upgrade,
        entity: String,
        grant: Grant,
        net: &mut dyn Net,
    ) {
        let conn = arrival.conn;
        let now = net.now();
        write(net, conn, &upgrade.answer(None));
        info!("conn={} listener={entity} id={} opened", conn.0, arrival.tracking.id);
        let control = Control {
            entity: entity.clone(),
            name: arrival.target.parameters.id.filter(|id| is_sane_id(id)),
            host: arrival.tracking.host.clone(),
            path: arrival.target.path,
            tracking: arrival.tracking,
            bearer: grant.bearer,
            peer: arrival.peer,
            messages: Messages::new(Side::Server, COMMAND_MAX, CONTROL_BODY_MAX),
            due: Due::Nothing,
            heard: now,
            missed: 0,
            queued: 0,
            invitations: BTreeSet::new(),
            is_closing: false,
        };
        self.conns.insert(conn, Conn::Control(Box::new(control)));
        self.timers.set(Key::Ping(conn), now + PING_INTERVAL);
        self.timers.set(Key::Token(conn), token_end(grant.expires, net));
        let listeners = self.listeners.entry(entity.clone()).or_default();
        listeners.push(conn);
        self.metrics.listeners.succeeded();
        let count = listeners.len();
        self.authority.note_listeners(&entity, count, net);
        let mut rest = arrival.rest;
        self.read_control(conn, &mut rest, net);
    }

    /// Sends a command, with its body if it has one, as one unit.
    pub(super) fn send_command(&mut self, conn: ConnId, unit: &[u8], net: &mut dyn Net) {
        let Some(Conn::Control(control)) = self.conns.get_mut(&conn) else { return };
        control.queued += unit.len();
        write(net, conn, unit);
    }

    pub(super) fn on_control_drained(&mut self, conn: ConnId, count: usize) {
        let Some(Conn::Control(control)) = self.conns.get_mut(&conn) else { return };
        control.queued = control.queued.saturating_sub(count);
    }

    /// Whether `conn` is a listener that takes in what it is sent.
    pub(super) fn keeps_up(&self, conn: ConnId) -> bool {
        let queued = |conn: &Conn| match conn {
            Conn::Control(control) => Some(control.queued),
            _ => None,
        };
        self.conns.get(&conn).and_then(queued).is_some_and(|queued| queued < CONTROL_QUEUE_MAX)
    }

    pub(super) fn on_control_data(&mut self, conn: ConnId, mut data: Lease, net: &mut dyn Net) {
        self.read_control(conn, data.filled_mut(), net);
    }

    fn read_control(&mut self, conn: ConnId, bytes: &mut [u8], net: &mut dyn Net) {
        let mut at = 0;
        loop {
            let Some(Conn::Control(control)) = self.conns.get_mut(&conn) else { return };
            control.heard = net.now();
            control.missed = 0;
            match control.messages.read(bytes.get_mut(at..).unwrap_or_default()) {
                Ok(None) => return,
                Ok(Some((count, message))) => {
                    at += count;
                    self.on_message(conn, message, net);
                }
                Err(violation) => {
                    let close = ws::close(violation.close_code(), &violation.to_string(), None);
                    return self.dismiss(conn, &close, net);
                }
            }
        }
    }

    fn on_message(&mut self, conn: ConnId, message: Message, net: &mut dyn Net) {
        let Some(Conn::Control(control)) = self.conns.get_mut(&conn) else { return };
        match message {
            Message::Ping(payload) => {
                // A peer that does not read what it asks for gets no more of it.
                if net.pressure(conn) == Pressure::Open {
                    write(net, conn, &ws::frame(Opcode::Pong, None, &payload));
                }
            }
            Message::Pong => (),
            Message::Close(payload) => {
                if !control.is_closing {
                    write(net, conn, &ws::frame(Opcode::Close, None, &payload));
                }
                net.close(conn);
                self.on_gone(conn, net);
            }
            Message::Text(_) | Message::Binary(_) if control.is_closing => (),
            Message::Text(text) => match Reply::parse(&text) {
                Ok(Reply::RenewToken(token)) => self.renew(conn, token.as_deref(), net),
                Ok(Reply::Response(response)) => self.on_response(conn, response, net),
                Ok(Reply::Unknown) => debug!("conn={} unknown command", conn.0),
                Err(why) => {
                    self.dismiss(conn, &ws::close(1002, &why.to_string(), None), net);
                }
            },
            Message::Binary(body) => match std::mem::replace(&mut control.due, Due::Nothing) {
                Due::Body(handle, response) => {
                    if let Some(&sender) = self.asks.get(&handle) {
                        self.respond(sender, &response, &body, net);
                    }
                }
                Due::Unwanted => (),
                // Some send an empty body where they have announced none.
                Due::Nothing if body.is_empty() => (),
                Due::Nothing => {
                    let close = ws::close(1002, "a body that was not announced", None);
                    self.dismiss(conn, &close, net);
                }
            },
        }
    }

    fn on_response(&mut self, conn: ConnId, response: Response, net: &mut dyn Net) {
        let asker = self.asker_of(conn, &response);
        let Some(Conn::Control(control)) = self.conns.get_mut(&conn) else { return };
        match asker {
            Some((handle, _)) if response.body => {
                control.due = Due::Body(handle, Box::new(response));
            }
            Some((_, sender)) => self.respond(sender, &response, &[], net),
            None if response.body => control.due = Due::Unwanted,
            None => debug!("conn={} response that nobody waits for", conn.0),
        }
    }

    fn renew(&mut self, conn: ConnId, token: Option<&str>, net: &mut dyn Net) {
        let Some(Conn::Control(control)) = self.conns.get_mut(&conn) else { return };
        let question = Question {
            right: Right::Listen,
            host: without_port(&control.host),
            path: &control.path,
            // What is not even text is as malformed as any other text that is no token.
            token: Some(token.unwrap_or("not text")),
        };
        // A hybrid connection may have been made under a longer name since: a token for that one is
        // none for the one that this channel serves.
        let serves = self.authority.entity(&control.path);
        let is_its_own = serves.is_some_and(|entity| entity.name == control.entity);
        let fault = match self.authority.authorize(&question, net) {
            Ok(grant) if is_its_own => {
                control.bearer = grant.bearer;
                return self.timers.set(Key::Token(conn), token_end(grant.expires, net));
            }
            Ok(_) => Fault::new(401, &sas::Refusal::Audience.to_string()),
            Err(refusal) => Fault::from(refusal),
        };
        let phrase = fault.phrase(&control.tracking);
        self.close_control(conn, 1008, &phrase, net);
    }

    pub(super) fn on_token_expired(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Control(control)) = self.conns.get(&conn) else { return };
        let fault = Fault::new(401, "ExpiredToken: The token is expired");
        let phrase = fault.phrase(&control.tracking);
        self.close_control(conn, 1008, &phrase, net);
    }

    /// Sends a Close and waits for the answer: a channel that is closed in any other way makes
    /// some listeners open two new ones.
    pub(super) fn close_control(
        &mut self,
        conn: ConnId,
        code: u16,
        reason: &str,
        net: &mut dyn Net,
    ) {
        let Some(Conn::Control(control)) = self.conns.get_mut(&conn) else { return };
        if std::mem::replace(&mut control.is_closing, true) {
            return;
        }
        let entity = control.entity.clone();
        info!("conn={} listener={entity} closing: {code} {reason}", conn.0);
        write(net, conn, &ws::close(code, reason, None));
        self.timers.cancel(Key::Token(conn));
        self.timers.set(Key::Close(conn), net.now() + CLOSE_ANSWER);
        self.unlist(conn, &entity, net);
        self.reoffer(conn, net);
    }

    pub(super) fn on_listener_gone(&mut self, conn: ConnId, control: &Control, net: &mut dyn Net) {
        if !control.is_closing {
            info!("conn={} listener={} gone", conn.0, control.entity);
            self.unlist(conn, &control.entity, net);
            self.reoffer(conn, net);
        }
    }

    fn unlist(&mut self, conn: ConnId, entity: &str, net: &mut dyn Net) {
        let Some(listeners) = self.listeners.get_mut(entity) else { return };
        listeners.retain(|&listener| listener != conn);
        self.metrics.listener_disconnects += 1;
        let count = listeners.len();
        if count == 0 {
            self.listeners.remove(entity);
        }
        self.authority.note_listeners(entity, count, net);
    }

    pub(super) fn ping_control(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Control(control)) = self.conns.get_mut(&conn) else { return };
        let quiet = net.now().duration_since(control.heard);
        if quiet < PING_INTERVAL {
            let due = control.heard + PING_INTERVAL;
            return self.timers.set(Key::Ping(conn), due);
        }
        if control.missed >= CONTROL_PINGS {
            net.abort(conn);
            return self.on_gone(conn, net);
        }
        control.missed += 1;
        write(net, conn, &ws::frame(Opcode::Ping, None, &[]));
        self.timers.set(Key::Ping(conn), net.now() + PING_INTERVAL);
    }
}

/// How long the listeners of a crowded entity have to answer a ping.
const PROBE: Duration = Duration::from_secs(5);

fn token_end(expires: u64, net: &dyn Net) -> Instant {
    // Far ahead is as good as never, and cannot overflow.
    let left = expires.saturating_sub(net.unix_time()).min(FOREVER);
    net.now() + Duration::from_secs(left) + TOKEN_GRACE
}

/// Seconds of ten years.
const FOREVER: u64 = 10 * 365 * 24 * 3600;

//! Sessions: a rendezvous at the relay on one side, a connection to the auth proxy on the other.
//!
//! Bytes pass in both directions as they come. A Close of 1000 is an end of input and becomes a
//! FIN, and the other way round; anything else that ends one side breaks the other.

use std::time::Instant;

use log::debug;

use super::address::Address;
use super::{Agent, Conn, Key, Net, Phase};
use crate::buf::{Lease, Pressure};
use crate::engine::upgrade::{Dial, Handshake};
use crate::engine::ws::{self, Control, Side, Splice, Step, Violation, frame_up};
use crate::limits::{AGENT_PING, RELAYED_PINGS, RENDEZVOUS_TIMEOUT, STALLED};
use crate::role::frames::{send_payload, send_steps, write};
use crate::role::{Close, ConnId};
use crate::wire::control::Accept;
use crate::wire::ws::{Opcode, close_reason};

/// A session's connection to the relay.
#[derive(Debug)]
pub(super) struct Rendezvous {
    local: ConnId,
    stage: Stage,
    splice: Splice,
    is_paused: bool,
    /// The sender's Close has come: it sends no more.
    is_closed: bool,
    heard: Instant,
    missed: u8,
    /// When either side last took something.
    delivered: Instant,
}

/// A session's connection to the auth proxy.
#[derive(Debug)]
pub(super) struct Local {
    rendezvous: ConnId,
    is_paused: bool,
    /// The auth proxy sends no more, and the sender has been told with a Close.
    is_finished: bool,
}

#[derive(Debug)]
enum Stage {
    /// Waits for both connections.
    Dialling(Box<Dialling>),
    /// Waits for the relay's 101.
    Opening(Handshake),
    /// Waits for the relay's answer to a rejection, whatever it is.
    Rejecting,
    Open,
}

#[derive(Debug)]
struct Dialling {
    address: Address,
    protocol: Option<String>,
    is_connected: bool,
    /// Whether the auth proxy is there; `None` while that is open.
    verdict: Option<Result<(), &'static str>>,
}

impl Agent {
    /// A sender wants to be connected.
    pub(super) fn on_accept(&mut self, accept: &Accept, net: &mut dyn Net) {
        let Some(address) = self.parse_address(&accept.address) else {
            return debug!("id={} refused: not an address for this agent", accept.id);
        };
        if self.is_dialling(&address) {
            return debug!("id={} is being answered already", accept.id);
        }
        if self.sessions_max.saturating_mul(2) <= self.conns.len() / 2 {
            return debug!("id={} dropped: too many sessions", accept.id);
        }
        let Some(conn) =
            self.endpoint(&address.host, address.port).and_then(|endpoint| net.connect(&endpoint))
        else {
            return debug!("id={} dropped: no connection to be had", accept.id);
        };
        let sessions = self.conns.values().filter(|c| matches!(c, Conn::Rendezvous(_))).count();
        let is_full = sessions >= self.sessions_max || self.phase == Phase::Stopping;
        let local = if is_full { None } else { net.connect(&self.auth_proxy) };
        let offer = accept
            .connect_headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("Sec-WebSocket-Protocol"));
        let protocol = offer.and_then(|(_, offer)| offer.split(',').next());
        let dialling = Dialling {
            address,
            protocol: protocol.map(|p| p.trim().to_owned()).filter(|p| !p.is_empty()),
            is_connected: false,
            verdict: if local.is_none() { Some(Err(TOO_MANY)) } else { None },
        };
        let now = net.now();
        let rendezvous = Rendezvous {
            local: local.unwrap_or(conn),
            stage: Stage::Dialling(Box::new(dialling)),
            splice: Splice::payload(Side::Client),
            is_paused: false,
            is_closed: false,
            heard: now,
            missed: 0,
            delivered: now,
        };
        self.conns.insert(conn, Conn::Rendezvous(Box::new(rendezvous)));
        self.timers.set(Key::Open(conn), now + RENDEZVOUS_TIMEOUT);
        if let Some(local) = local {
            net.pause(local);
            let half = Local { rendezvous: conn, is_paused: true, is_finished: false };
            self.conns.insert(local, Conn::Local(Box::new(half)));
        }
    }

    /// Two channels may bring the same invitation, and a place takes one answer.
    fn is_dialling(&self, address: &Address) -> bool {
        self.conns.values().any(|conn| {
            let Conn::Rendezvous(rendezvous) = conn else { return false };
            matches!(&rendezvous.stage, Stage::Dialling(it) if it.address.target == address.target)
        })
    }

    pub(super) fn on_rendezvous_connected(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Rendezvous(rendezvous)) = self.conns.get_mut(&conn) else { return };
        if let Stage::Dialling(dialling) = &mut rendezvous.stage {
            dialling.is_connected = true;
        }
        self.answer_sender(conn, net);
    }

    pub(super) fn on_local_connected(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Local(local)) = self.conns.get(&conn) else { return };
        self.decide(local.rendezvous, Ok(()), net);
    }

    fn decide(&mut self, conn: ConnId, verdict: Result<(), &'static str>, net: &mut dyn Net) {
        let Some(Conn::Rendezvous(rendezvous)) = self.conns.get_mut(&conn) else { return };
        if let Stage::Dialling(dialling) = &mut rendezvous.stage {
            dialling.verdict = Some(verdict);
        }
        self.answer_sender(conn, net);
    }

    /// Opens the rendezvous, or rejects through it, once both are known.
    fn answer_sender(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Rendezvous(rendezvous)) = self.conns.get_mut(&conn) else { return };
        let Stage::Dialling(dialling) = &rendezvous.stage else { return };
        let Some(verdict) = dialling.verdict.filter(|_| dialling.is_connected) else { return };
        let Dialling { address, protocol, .. } = &**dialling;
        let target = match verdict {
            Ok(()) => address.target.clone(),
            Err(why) => address.rejection(502, why),
        };
        let mut nonce = [0; 16];
        net.random(&mut nonce);
        let protocol = protocol.as_deref();
        let dial = Dial { host: &address.authority, target: &target, nonce, protocol, token: None };
        let (head, handshake) = dial.start();
        rendezvous.stage = match verdict {
            Ok(()) => Stage::Opening(handshake),
            Err(_) => Stage::Rejecting,
        };
        write(net, conn, head.expose());
    }

    pub(super) fn on_rendezvous_data(&mut self, conn: ConnId, mut data: Lease, net: &mut dyn Net) {
        let now = net.now();
        let Some(Conn::Rendezvous(rendezvous)) = self.conns.get_mut(&conn) else { return };
        rendezvous.heard = now;
        rendezvous.missed = 0;
        match &mut rendezvous.stage {
            Stage::Open => (),
            Stage::Opening(handshake) => match handshake.handle(&data) {
                Ok(None) => return,
                Ok(Some(taken)) => {
                    data.advance(taken);
                    rendezvous.stage = Stage::Open;
                    self.on_session_open(conn, net);
                }
                Err(refused) => {
                    debug!("conn={} no rendezvous: {refused}", conn.0);
                    return self.abort_session(conn, net);
                }
            },
            Stage::Rejecting | Stage::Dialling(_) => return self.abort_session(conn, net),
        }
        self.pass_down(conn, data, net);
    }

    fn on_session_open(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Rendezvous(rendezvous)) = self.conns.get(&conn) else { return };
        let local = rendezvous.local;
        self.timers.cancel(Key::Open(conn));
        self.timers.set(Key::Ping(conn), net.now() + AGENT_PING);
        if let Some(Conn::Local(half)) = self.conns.get_mut(&local) {
            half.is_paused = false;
            net.resume(local);
        }
        debug!("conn={} session open, auth proxy conn={}", conn.0, local.0);
    }

    /// From the sender to the auth proxy.
    fn pass_down(&mut self, conn: ConnId, mut data: Lease, net: &mut dyn Net) {
        let Some(Conn::Rendezvous(rendezvous)) = self.conns.get_mut(&conn) else { return };
        let local = rendezvous.local;
        let mut steps = std::mem::take(&mut self.steps);
        let result = rendezvous.splice.handle(data.filled_mut(), &mut steps);
        send_payload(local, data.freeze(), &steps, net);
        if net.pressure(local) == Pressure::Full {
            rendezvous.is_paused = true;
            net.pause(conn);
        }
        for step in steps.drain(..) {
            match step {
                Step::Ping(payload) => self.send_pong(conn, &payload, net),
                Step::Close(payload) => self.on_sender_closed(conn, &payload, net),
                Step::Bytes(_) | Step::Head(_) => (),
            }
        }
        self.steps = steps;
        if let Err(violation) = result {
            self.on_violation(conn, violation, net);
        }
    }

    fn send_pong(&mut self, conn: ConnId, payload: &Control, net: &mut dyn Net) {
        let Some(Conn::Rendezvous(rendezvous)) = self.conns.get(&conn) else { return };
        let is_quiet = |conn: &Conn| matches!(conn, Conn::Local(l) if !l.is_finished);
        let may_send = self.conns.get(&rendezvous.local).is_some_and(is_quiet);
        if may_send && net.pressure(conn) == Pressure::Open {
            let key = Some(self.keys.draw(net));
            write(net, conn, &ws::frame(Opcode::Pong, key, payload));
        }
    }

    /// The sender sends no more. Without a code, or with that of a normal end, the auth proxy gets
    /// its end of input; otherwise the session is broken.
    fn on_sender_closed(&mut self, conn: ConnId, payload: &Control, net: &mut dyn Net) {
        let Some(Conn::Rendezvous(rendezvous)) = self.conns.get_mut(&conn) else { return };
        let local = rendezvous.local;
        rendezvous.is_closed = true;
        if close_reason(payload).is_none_or(|(code, _)| code == 1000) {
            net.finish(local);
            self.end_if_done(conn, local, net);
        } else {
            self.abort_session(conn, net);
        }
    }

    fn on_violation(&mut self, conn: ConnId, violation: Violation, net: &mut dyn Net) {
        debug!("conn={} violation: {violation}", conn.0);
        let key = Some(self.keys.draw(net));
        let Some(Conn::Rendezvous(rendezvous)) = self.forget(conn) else { return };
        let finished = |conn: &Conn| matches!(conn, Conn::Local(l) if l.is_finished);
        if !self.conns.get(&rendezvous.local).is_some_and(finished) {
            write(net, conn, &ws::close(violation.close_code(), &violation.to_string(), key));
        }
        net.close(conn);
        net.abort(rendezvous.local);
        self.forget(rendezvous.local);
    }

    /// From the auth proxy to the sender.
    pub(super) fn on_local_data(&mut self, conn: ConnId, mut data: Lease, net: &mut dyn Net) {
        let Some(Conn::Local(local)) = self.conns.get_mut(&conn) else { return };
        let rendezvous = local.rendezvous;
        let mut steps = std::mem::take(&mut self.steps);
        frame_up(data.filled_mut(), || self.keys.draw(net), &mut steps);
        send_steps(rendezvous, data.freeze(), &steps, net);
        steps.clear();
        self.steps = steps;
        if net.pressure(rendezvous) == Pressure::Full {
            local.is_paused = true;
            net.pause(conn);
        }
    }

    /// There may be room on `conn` again for what its other half brings.
    pub(super) fn resume_source(&mut self, conn: ConnId, net: &mut dyn Net) {
        self.note_delivered(conn, net.now());
        if net.pressure(conn) == Pressure::Full {
            return;
        }
        let source = match self.conns.get(&conn) {
            Some(Conn::Rendezvous(rendezvous)) => rendezvous.local,
            Some(Conn::Local(local)) => local.rendezvous,
            Some(Conn::Channel(_) | Conn::Declining(_) | Conn::Ending) | None => return,
        };
        let is_open = self.is_open(conn) || self.is_open(source);
        let paused = match self.conns.get_mut(&source) {
            Some(Conn::Rendezvous(rendezvous)) => &mut rendezvous.is_paused,
            Some(Conn::Local(local)) if is_open => &mut local.is_paused,
            Some(Conn::Local(_) | Conn::Channel(_) | Conn::Declining(_) | Conn::Ending) | None => {
                return;
            }
        };
        if std::mem::take(paused) {
            net.resume(source);
        }
    }

    fn note_delivered(&mut self, conn: ConnId, now: Instant) {
        let rendezvous = match self.conns.get(&conn) {
            Some(Conn::Local(local)) => local.rendezvous,
            _ => conn,
        };
        if let Some(Conn::Rendezvous(rendezvous)) = self.conns.get_mut(&rendezvous) {
            rendezvous.delivered = now;
        }
    }

    /// One side of the session at `conn` takes nothing, and others wait for its buffers.
    fn is_in_the_way(&self, conn: ConnId, net: &dyn Net) -> bool {
        let Some(Conn::Rendezvous(rendezvous)) = self.conns.get(&conn) else { return false };
        let mut sides = [conn, rendezvous.local].into_iter();
        STALLED <= net.now().duration_since(rendezvous.delivered)
            && net.pool().is_nearly_out()
            && sides.any(|side| net.pressure(side) == Pressure::Full)
    }

    fn is_open(&self, conn: ConnId) -> bool {
        let open =
            |conn: &Conn| matches!(conn, Conn::Rendezvous(r) if matches!(r.stage, Stage::Open));
        self.conns.get(&conn).is_some_and(open)
    }

    /// The auth proxy has sent everything: the sender is told with a Close.
    pub(super) fn on_local_finished(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Local(local)) = self.conns.get_mut(&conn) else { return };
        let rendezvous = local.rendezvous;
        if std::mem::replace(&mut local.is_finished, true) {
            return;
        }
        let key = Some(self.keys.draw(net));
        write(net, rendezvous, &ws::close(1000, "", key));
        self.end_if_done(rendezvous, conn, net);
    }

    /// Both directions have ended: what is queued goes out, and the connections with it.
    fn end_if_done(&mut self, conn: ConnId, local: ConnId, net: &mut dyn Net) {
        let (Some(Conn::Rendezvous(rendezvous)), Some(Conn::Local(half))) =
            (self.conns.get(&conn), self.conns.get(&local))
        else {
            return;
        };
        if rendezvous.is_closed && half.is_finished {
            self.end(conn, net);
            self.end(local, net);
        }
    }

    pub(super) fn on_rendezvous_finished(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Rendezvous(rendezvous)) = self.conns.get(&conn) else { return };
        // After its Close the other end may well close its half.
        if !rendezvous.is_closed {
            self.abort_session(conn, net);
        }
    }

    pub(super) fn on_rendezvous_closed(&mut self, conn: ConnId, net: &mut dyn Net) {
        self.abort_session(conn, net);
    }

    pub(super) fn on_local_closed(&mut self, conn: ConnId, why: &Close, net: &mut dyn Net) {
        let Some(Conn::Local(local)) = self.forget(conn) else { return };
        let rendezvous = local.rendezvous;
        let Some(Conn::Rendezvous(half)) = self.conns.get(&rendezvous) else { return };
        if matches!(half.stage, Stage::Dialling(_)) {
            debug!("conn={} auth proxy not reached: {why}", conn.0);
            self.decide(rendezvous, Err(NO_AUTH_PROXY), net);
        } else {
            self.abort_session(rendezvous, net);
        }
    }

    /// Breaks both halves of a session, `conn` being the one at the relay.
    pub(super) fn abort_session(&mut self, conn: ConnId, net: &mut dyn Net) {
        if let Some(Conn::Rendezvous(rendezvous)) = self.forget(conn) {
            for conn in [conn, rendezvous.local] {
                net.abort(conn);
                self.forget(conn);
            }
        }
    }

    pub(super) fn ping_rendezvous(&mut self, conn: ConnId, net: &mut dyn Net) {
        let now = net.now();
        if self.is_in_the_way(conn, net) {
            debug!("conn={} takes nothing, and others wait for its buffers: aborted", conn.0);
            return self.abort_session(conn, net);
        }
        let Some(Conn::Rendezvous(rendezvous)) = self.conns.get_mut(&conn) else { return };
        let due = rendezvous.heard + AGENT_PING;
        let is_muted = rendezvous.is_closed || rendezvous.is_paused;
        if now < due || is_muted {
            let next = if now < due { due } else { now + AGENT_PING };
            return self.timers.set(Key::Ping(conn), next);
        }
        if rendezvous.missed >= RELAYED_PINGS {
            return self.abort_session(conn, net);
        }
        rendezvous.missed += 1;
        self.timers.set(Key::Ping(conn), now + AGENT_PING);
        let finished = |conn: &Conn| matches!(conn, Conn::Local(l) if l.is_finished);
        let local = rendezvous.local;
        if !self.conns.get(&local).is_some_and(finished) && net.pressure(conn) == Pressure::Open {
            let key = Some(self.keys.draw(net));
            write(net, conn, &ws::frame(Opcode::Ping, key, &[]));
        }
    }
}

const NO_AUTH_PROXY: &str = "The agent cannot reach the auth proxy";
const TOO_MANY: &str = "The agent carries as many sessions as it can";

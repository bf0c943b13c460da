//! Relayed WebSockets: two legs, and frames from each to the other.
//!
//! A Close is passed on as it came and answered by nobody but the other end, so one direction may
//! be closed while the other still carries data. A leg that ends without a Close takes the other
//! one down in the same way.

use std::time::Instant;

use log::debug;

use super::connect::Waiting;
use super::{Conn, Key, Net, Relay, write};
use crate::buf::{Lease, Pressure};
use crate::engine::ws::{self, Control, Splice, Step, Violation};
use crate::limits::{CLOSE_TIMEOUT, PING_INTERVAL, RELAYED_PINGS};
use crate::role::ConnId;
use crate::role::frames::send_steps;
use crate::wire::ws::Opcode;

/// One end of a relayed WebSocket.
#[derive(Debug)]
pub(super) struct Leg {
    other: ConnId,
    /// This is the sender's end.
    pub(super) is_sender: bool,
    /// Reads this leg, for the other.
    splice: Splice,
    is_paused: bool,
    /// To be sent to this leg when the frame on its way there is complete.
    pong: Option<Control>,
    heard: Instant,
    missed: u8,
    /// When bytes for this leg last left.
    delivered: Instant,
    entity: String,
    bearer: String,
}

impl Leg {
    fn new(other: ConnId, is_sender: bool, waiting: &Waiting, now: Instant) -> Self {
        Self {
            other,
            is_sender,
            splice: Splice::frames(),
            is_paused: false,
            pong: None,
            heard: now,
            missed: 0,
            delivered: now,
            entity: waiting.entity.clone(),
            bearer: waiting.bearer.clone(),
        }
    }

    pub(super) fn matches(&self, entity: &str, bearer: Option<&str>) -> bool {
        self.entity == entity && bearer.is_none_or(|bearer| bearer == self.bearer)
    }
}

impl Relay {
    /// Both ends have their 101: moves frames from here on.
    pub(super) fn pump(
        &mut self,
        sender: ConnId,
        listener: ConnId,
        waiting: Waiting,
        rest: Vec<u8>,
        net: &mut dyn Net,
    ) {
        let now = net.now();
        for (conn, other) in [(sender, listener), (listener, sender)] {
            let leg = Leg::new(other, conn == sender, &waiting, now);
            self.conns.insert(conn, Conn::Leg(Box::new(leg)));
            self.timers.set(Key::Ping(conn), now + PING_INTERVAL);
        }
        net.resume(sender);
        for (conn, early) in [(sender, waiting.early), (listener, rest)] {
            let mut early = early.as_slice();
            while !early.is_empty() {
                let mut lease = net.pool().lease_beyond();
                early = early.get(lease.fill(early)..).unwrap_or_default();
                self.on_leg_data(conn, lease, net);
            }
        }
    }

    pub(super) fn on_leg_data(&mut self, conn: ConnId, mut data: Lease, net: &mut dyn Net) {
        let Some(Conn::Leg(leg)) = self.conns.get_mut(&conn) else { return };
        leg.heard = net.now();
        leg.missed = 0;
        self.metrics.carried(data.len());
        let mut steps = std::mem::take(&mut self.steps);
        let result = leg.splice.handle(data.filled_mut(), &mut steps);
        for step in &steps {
            if let Step::Ping(payload) = step {
                leg.pong = Some(*payload);
            }
        }
        send_steps(leg.other, data.freeze(), &steps, net);
        steps.clear();
        self.steps = steps;
        match result {
            Ok(()) => self.after_pass(conn, net),
            Err(violation) => self.on_violation(conn, violation, net),
        }
    }

    /// What follows once bytes from `conn` have been queued for the other leg.
    fn after_pass(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Leg(leg)) = self.conns.get_mut(&conn) else { return };
        let other = leg.other;
        if net.pressure(other) == Pressure::Full && !leg.is_paused {
            leg.is_paused = true;
            net.pause(conn);
        }
        self.send_pong(conn, net);
        self.send_pong(other, net);
        if self.is_closed(conn) {
            self.end_if_closed(conn, other, net);
        }
    }

    /// A leg has sent its Close, and the other one has it.
    fn is_closed(&self, conn: ConnId) -> bool {
        let closed = |conn: &Conn| matches!(conn, Conn::Leg(leg) if leg.splice.is_closed());
        self.conns.get(&conn).is_some_and(closed)
    }

    fn end_if_closed(&mut self, conn: ConnId, other: ConnId, net: &mut dyn Net) {
        if !self.is_closed(other) {
            let now = net.now();
            if self.timers.get(Key::Close(conn)).is_none() {
                self.timers.set(Key::Close(conn), now + CLOSE_TIMEOUT);
            }
            return;
        }
        for conn in [conn, other] {
            self.forget(conn);
            self.end(conn, net);
        }
    }

    /// Lets what is queued for `conn` go out, for as long as its peer takes it.
    fn end(&mut self, conn: ConnId, net: &mut dyn Net) {
        self.conns.insert(conn, Conn::Ending);
        net.resume(conn);
        net.finish(conn);
        self.expect_end(conn, net);
    }

    /// A connection that has nothing more to say must end while bytes still leave, or soon after.
    pub(super) fn expect_end(&mut self, conn: ConnId, net: &dyn Net) {
        self.timers.set(Key::Close(conn), net.now() + CLOSE_TIMEOUT);
    }

    /// A pong must not be put into the middle of a frame.
    fn send_pong(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Leg(leg)) = self.conns.get(&conn) else { return };
        let Some(pong) = leg.pong else { return };
        let within =
            |conn: &Conn| matches!(conn, Conn::Leg(other) if other.splice.is_within_frame());
        let is_blocked = self.conns.get(&leg.other).is_some_and(within);
        if is_blocked || self.is_closed(leg.other) || net.pressure(conn) == Pressure::Full {
            return;
        }
        write(net, conn, &ws::frame(Opcode::Pong, None, &pong));
        if let Some(Conn::Leg(leg)) = self.conns.get_mut(&conn) {
            leg.pong = None;
        }
    }

    pub(super) fn on_leg_drained(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Leg(leg)) = self.conns.get_mut(&conn) else { return };
        leg.delivered = net.now();
        self.resume_if_open(conn, net);
        self.send_pong(conn, net);
    }

    /// Reads the leg whose bytes go to `conn` again, if there is room for them.
    fn resume_if_open(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Leg(leg)) = self.conns.get(&conn) else { return };
        let source = leg.other;
        let Some(Conn::Leg(leg)) = self.conns.get_mut(&source) else { return };
        if leg.is_paused && net.pressure(conn) == Pressure::Open {
            leg.is_paused = false;
            net.resume(source);
        }
    }

    fn on_violation(&mut self, conn: ConnId, violation: Violation, net: &mut dyn Net) {
        debug!("conn={} violation: {violation}", conn.0);
        self.close_leg(conn, violation.close_code(), &violation.to_string(), net);
        if let Some(Conn::Leg(leg)) = self.forget(conn) {
            net.abort(leg.other);
            self.forget(leg.other);
        }
    }

    /// The peer has finished. After its Close that is all right; before, it is an abort, which it
    /// gets no reset for: some SDKs have stopped to listen for errors by then, and crash.
    pub(super) fn on_leg_finished(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Leg(leg)) = self.conns.get(&conn) else { return };
        if !leg.splice.is_closed() {
            net.close(conn);
            self.on_gone(conn, net);
        }
    }

    /// A leg is gone, and so must the other be: at once, or after the Close it is owed.
    pub(super) fn on_leg_gone(&mut self, leg: &Leg, net: &mut dyn Net) {
        self.forget(leg.other);
        if leg.splice.is_closed() {
            self.end(leg.other, net);
        } else {
            net.abort(leg.other);
        }
    }

    /// Nothing was delivered for a while to a connection that is half closed.
    pub(super) fn on_close_overdue(&mut self, conn: ConnId, net: &mut dyn Net) {
        match self.conns.get(&conn) {
            Some(Conn::Leg(leg)) => {
                let due = leg.delivered + CLOSE_TIMEOUT;
                if net.now() < due {
                    self.timers.set(Key::Close(conn), due);
                } else {
                    self.abort_pair(conn, net);
                }
            }
            Some(Conn::Control(_) | Conn::Replying(_)) => {
                net.close(conn);
                self.on_gone(conn, net);
            }
            Some(Conn::Ending) => {
                net.abort(conn);
                self.forget(conn);
            }
            _ => (),
        }
    }

    pub(super) fn ping_leg(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Leg(leg)) = self.conns.get(&conn) else { return };
        let within =
            |conn: &Conn| matches!(conn, Conn::Leg(other) if other.splice.is_within_frame());
        let is_blocked = self.conns.get(&leg.other).is_some_and(within)
            || self.is_closed(leg.other)
            // After its Close a peer says nothing more, and the close timer watches it.
            || leg.splice.is_closed()
            || leg.is_paused
            || net.pressure(conn) == Pressure::Full;
        let quiet_since = leg.heard;
        if leg.missed >= RELAYED_PINGS && !is_blocked {
            return self.abort_pair(conn, net);
        }
        let now = net.now();
        let due = quiet_since + PING_INTERVAL;
        let next = if now < due { due } else { now + PING_INTERVAL };
        self.timers.set(Key::Ping(conn), next);
        if now < due || is_blocked {
            return;
        }
        write(net, conn, &ws::frame(Opcode::Ping, None, &[]));
        if let Some(Conn::Leg(leg)) = self.conns.get_mut(&conn) {
            leg.missed += 1;
        }
    }

    fn abort_pair(&mut self, conn: ConnId, net: &mut dyn Net) {
        if let Some(Conn::Leg(leg)) = self.forget(conn) {
            for conn in [conn, leg.other] {
                net.abort(conn);
                self.forget(conn);
            }
        }
    }

    /// Closes both legs with the same code.
    pub(super) fn close_pair(&mut self, conn: ConnId, code: u16, why: &str, net: &mut dyn Net) {
        let Some(Conn::Leg(leg)) = self.conns.get(&conn) else { return };
        let other = leg.other;
        self.close_leg(other, code, why, net);
        self.close_leg(conn, code, why, net);
        self.forget(conn);
        self.forget(other);
    }

    /// Sends a Close if one may be sent now, and closes.
    fn close_leg(&self, conn: ConnId, code: u16, why: &str, net: &mut dyn Net) {
        let Some(Conn::Leg(leg)) = self.conns.get(&conn) else { return };
        let within =
            |conn: &Conn| matches!(conn, Conn::Leg(other) if other.splice.is_within_frame());
        if !self.conns.get(&leg.other).is_some_and(within) && !self.is_closed(leg.other) {
            write(net, conn, &ws::close(code, why, None));
        }
        net.close(conn);
    }
}

//! Relayed WebSockets: two legs, and frames from each to the other.
//!
//! A Close is passed on as it came and answered by nobody but the other end, so one direction may
//! be closed while the other still carries data. A leg that ends without a Close takes the other
//! one down in the same way.
//!
//! A pump needs nothing of the relay that has brought the two ends together, so it is also a role
//! of its own: that of a loop which carries what another has joined.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use log::debug;

use crate::buf::{Lease, Pressure};
use crate::engine::timers::Timers;
use crate::engine::ws::{self, Control, Splice, Step, Violation};
use crate::limits::{CLOSE_TIMEOUT, PING_INTERVAL, RELAYED_PINGS, STALLED};
use crate::role::frames::{send_steps, write};
use crate::role::{
    Close, ConnId, Event, Letter, LoopId, Net, Pair, Peer, Revoked, Role, Seat, Tally,
};
use crate::wire::ws::Opcode;

/// The relayed WebSockets of one loop.
#[derive(Debug)]
pub struct Pump {
    conns: BTreeMap<ConnId, Conn>,
    timers: Timers<Key>,
    /// Pairs that there have been.
    joined: u64,
    tally: Tally,
    /// What the other loop knows of [`Self::tally`].
    told: Tally,
    /// Scratch, empty between events.
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Conn {
    /// One end of a relayed WebSocket.
    Leg(Box<Leg>),
    /// Both ends have said goodbye; what is queued still goes out. The sender has its seat until then.
    Ending(Option<Seat>),
}

impl Conn {
    fn into_seat(self) -> Option<Seat> {
        match self {
            Self::Leg(leg) => leg.seat,
            Self::Ending(seat) => seat,
        }
    }
}

/// What a deadline is for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Key {
    /// A sign of life is due.
    Ping(ConnId),
    /// A half-closed connection delivers nothing more.
    Close(ConnId),
    /// The other loop wants to know how much was carried.
    Tell,
}

/// How late the loop that decides may learn of bytes that another has carried.
const TELL: Duration = Duration::from_secs(1);

/// One end of a relayed WebSocket.
#[derive(Debug)]
struct Leg {
    other: ConnId,
    /// This is the sender's end.
    is_sender: bool,
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
    peer: Peer,
    /// The sender's.
    seat: Option<Seat>,
}

impl Leg {
    fn new(other: ConnId, is_sender: bool, pair: &Pair, now: Instant) -> Self {
        Self {
            other,
            is_sender,
            splice: Splice::frames(),
            is_paused: false,
            pong: None,
            heard: now,
            missed: 0,
            delivered: now,
            entity: pair.entity.clone(),
            bearer: pair.bearer.clone(),
            peer: if is_sender { pair.peers[0] } else { pair.peers[1] },
            seat: None,
        }
    }

    fn is_among(&self, revoked: &Revoked) -> bool {
        revoked.covers(&self.entity, &self.bearer, self.peer)
    }
}

impl Default for Pump {
    fn default() -> Self {
        Self::new()
    }
}

impl Pump {
    /// A pump that carries nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            conns: BTreeMap::new(),
            timers: Timers::new(),
            joined: 0,
            tally: Tally::default(),
            told: Tally::default(),
            steps: Vec::new(),
        }
    }

    /// What it has done so far.
    pub(super) fn tally(&self) -> Tally {
        Tally { sockets: self.conns.len(), ..self.tally }
    }

    /// Pairs there are now.
    pub(super) const fn pairs(&self) -> u64 {
        self.joined - self.tally.ended
    }

    /// Whether `conn` is one of its own.
    pub(super) fn has(&self, conn: ConnId) -> bool {
        self.conns.contains_key(&conn)
    }

    /// When [`Self::on_deadline`] has something to do.
    pub(super) fn next(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Both ends have their 101: moves frames from here on.
    pub(super) fn carry(&mut self, mut pair: Pair, net: &mut dyn Net) {
        let now = net.now();
        let [sender, listener] = pair.conns;
        self.joined += 1;
        for (conn, other) in [(sender, listener), (listener, sender)] {
            let mut leg = Leg::new(other, conn == sender, &pair, now);
            leg.seat = pair.seat.take();
            self.conns.insert(conn, Conn::Leg(Box::new(leg)));
            self.timers.set(Key::Ping(conn), now + PING_INTERVAL);
        }
        net.resume(sender);
        for (conn, early) in [(sender, pair.early), (listener, pair.rest)] {
            let mut early = early.as_slice();
            while !early.is_empty() {
                let mut lease = net.pool().lease_beyond();
                early = early.get(lease.fill(early)..).unwrap_or_default();
                self.on_data(conn, lease, net);
            }
        }
    }

    pub(super) fn revoke(&mut self, revoked: &Revoked, net: &mut dyn Net) {
        let ends = |conn: &Conn| matches!(conn, Conn::Leg(leg) if leg.is_among(revoked));
        let legs = self.conns.iter().filter(|(_, conn)| ends(conn));
        let legs: Vec<ConnId> = legs.map(|(&id, _)| id).collect();
        // With one leg its pair ends, and then there is no other.
        for conn in legs {
            self.close_pair(conn, 1001, "revoked", net);
        }
    }

    pub(super) fn on_finished(&mut self, conn: ConnId, net: &mut dyn Net) {
        if let Some(Conn::Leg(_)) = self.conns.get(&conn) {
            self.on_leg_finished(conn, net);
        }
    }

    pub(super) fn on_drained(&mut self, conn: ConnId, net: &mut dyn Net) {
        match self.conns.get(&conn) {
            Some(Conn::Leg(_)) => self.on_leg_drained(conn, net),
            Some(Conn::Ending(_)) => self.expect_end(conn, net),
            None => (),
        }
    }

    /// `conn` is gone.
    pub(super) fn on_gone(&mut self, conn: ConnId, net: &mut dyn Net) {
        if let Some(Conn::Leg(leg)) = self.forget(conn) {
            self.on_leg_gone(&leg, net);
        }
    }

    fn on_closed(&mut self, conn: ConnId, why: &Close, net: &mut dyn Net) {
        debug!("conn={} closed: {why}", conn.0);
        self.on_gone(conn, net);
    }

    pub(super) fn on_deadline(&mut self, net: &mut dyn Net) {
        while let Some(key) = self.timers.expire(net.now()) {
            match key {
                Key::Ping(conn) => self.ping_leg(conn, net),
                Key::Close(conn) => self.on_close_overdue(conn, net),
                Key::Tell => self.tell(net),
            }
        }
    }

    fn tell(&mut self, net: &mut dyn Net) {
        self.timers.cancel(Key::Tell);
        self.told = self.tally();
        net.post(DECIDES, Letter::Tally(self.told));
    }

    /// The end of a pair is told at once: somebody may wait for it.
    fn tell_in_time(&mut self, net: &mut dyn Net) {
        let tally = self.tally();
        if tally == self.told {
            return;
        }
        if tally.ended != self.told.ended || tally.sockets != self.told.sockets {
            self.tell(net);
        } else if self.timers.get(Key::Tell).is_none() {
            self.timers.set(Key::Tell, net.now() + TELL);
        }
    }

    fn forget(&mut self, conn: ConnId) -> Option<Conn> {
        self.timers.cancel(Key::Ping(conn));
        self.timers.cancel(Key::Close(conn));
        let gone = self.conns.remove(&conn);
        self.tally.ended += u64::from(matches!(&gone, Some(Conn::Leg(leg)) if leg.is_sender));
        gone
    }

    pub(super) fn on_data(&mut self, conn: ConnId, mut data: Lease, net: &mut dyn Net) {
        let Some(Conn::Leg(leg)) = self.conns.get_mut(&conn) else { return };
        leg.heard = net.now();
        leg.missed = 0;
        self.tally.bytes = self.tally.bytes.saturating_add(data.len() as u64);
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
            let seat = self.forget(conn).and_then(Conn::into_seat);
            self.end(conn, seat, net);
        }
    }

    /// Lets what is queued for `conn` go out, for as long as its peer takes it.
    fn end(&mut self, conn: ConnId, seat: Option<Seat>, net: &mut dyn Net) {
        self.conns.insert(conn, Conn::Ending(seat));
        net.resume(conn);
        net.finish(conn);
        self.expect_end(conn, net);
    }

    /// A connection that has nothing more to say must end while bytes still leave, or soon after.
    fn expect_end(&mut self, conn: ConnId, net: &dyn Net) {
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

    fn on_leg_drained(&mut self, conn: ConnId, net: &mut dyn Net) {
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
    fn on_leg_finished(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Leg(leg)) = self.conns.get(&conn) else { return };
        if !leg.splice.is_closed() {
            net.close(conn);
            self.on_gone(conn, net);
        }
    }

    /// A leg is gone, and so must the other be: at once, or after the Close it is owed.
    fn on_leg_gone(&mut self, leg: &Leg, net: &mut dyn Net) {
        let seat = self.forget(leg.other).and_then(Conn::into_seat);
        if leg.splice.is_closed() {
            self.end(leg.other, seat, net);
        } else {
            net.abort(leg.other);
        }
    }

    /// Nothing was delivered for a while to a connection that is half closed.
    fn on_close_overdue(&mut self, conn: ConnId, net: &mut dyn Net) {
        match self.conns.get(&conn) {
            Some(Conn::Leg(leg)) => {
                let due = leg.delivered + CLOSE_TIMEOUT;
                if net.now() < due {
                    self.timers.set(Key::Close(conn), due);
                } else {
                    self.abort_pair(conn, net);
                }
            }
            Some(Conn::Ending(_)) => {
                net.abort(conn);
                self.forget(conn);
            }
            None => (),
        }
    }

    fn ping_leg(&mut self, conn: ConnId, net: &mut dyn Net) {
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
        let is_stuck = net.pressure(conn) == Pressure::Full
            && STALLED <= net.now().duration_since(leg.delivered);
        if is_stuck && net.pool().is_nearly_out() {
            debug!("conn={} takes nothing, and others wait for its buffers: aborted", conn.0);
            return self.abort_pair(conn, net);
        }
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
    fn close_pair(&mut self, conn: ConnId, code: u16, why: &str, net: &mut dyn Net) {
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

/// The loop that has joined the pairs.
const DECIDES: LoopId = LoopId(0);

/// A loop that carries, and does nothing else.
impl Role for Pump {
    fn on_event(&mut self, event: Event, net: &mut dyn Net) {
        match event {
            Event::Letter(_, Letter::Pair(pair)) => self.carry(*pair, net),
            Event::Letter(_, Letter::Revoke(revoked)) => self.revoke(&revoked, net),
            Event::Data(conn, data) => self.on_data(conn, data, net),
            Event::Finished(conn) => self.on_finished(conn, net),
            Event::Drained(conn, _) => self.on_drained(conn, net),
            Event::Closed(conn, why) => self.on_closed(conn, &why, net),
            Event::Deadline => self.on_deadline(net),
            // Nobody connects to it, and it asks for nothing.
            Event::Accepted(conn, ..) | Event::Connected(conn) => net.abort(conn),
            Event::Started
            | Event::Done(..)
            | Event::Signal(_)
            | Event::Letter(_, Letter::Tally(_)) => (),
        }
        self.tell_in_time(net);
    }

    fn deadline(&self) -> Option<Instant> {
        self.next()
    }
}

//! The relay: joins senders to listeners over the Hybrid Connections protocol.
//!
//! It moves frames and never looks into them. Who may do what, and the connected-clusters API, are
//! the [`Authority`]'s. A rendezvous id is a capability: 128 random bits, good for one use.

mod admin;
pub mod api;
mod ask;
pub mod audit;
pub mod authority;
mod call;
mod connect;
mod describe;
pub mod desk;
pub mod directory;
mod fault;
mod http;
mod listen;
mod loops;
mod metrics;
mod open;
pub mod provider;
pub mod pump;
pub mod registry;
mod reply;
mod seats;
mod storm;
pub mod target;

use std::collections::BTreeMap;
use std::time::Instant;

use log::{debug, info};

use self::admin::Visitor;
use self::ask::Asking;
use self::authority::{Authority, Order, Ticket};
use self::call::Calling;
use self::connect::{Handle, Meeting, Waiting};
use self::listen::{Control, Crowded};
use self::loops::Loops;
use self::metrics::Metrics;
use self::open::{Arrival, Opening};
use self::pump::Pump;
use self::reply::Replying;
use self::seats::Seats;
use self::storm::{Pair, Storm};
use super::frames::write;
use super::{Close, ConnId, Event, ListenerTag, Net, Notice, Peer, Revoked, Role, Signal};
use crate::buf::Lease;
use crate::engine::timers::Timers;
use crate::limits::{
    CALLER_SENDERS_MAX, LISTENERS_MAX, OPENING_TIMEOUT, SENDERS_MAX, STOP_TIMEOUT,
};

/// What differs from relay to relay.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's number, part of every tracking and rendezvous id.
    pub node: u32,
    /// `host[:port]` for rendezvous addresses. Without it, the name by which the listener came.
    pub public_host: Option<String>,
    /// Listeners come over TLS, so rendezvous addresses begin with `wss`.
    pub secure: bool,
    /// Control channels of one entity.
    pub listeners_max: usize,
    /// Senders of one entity at a time, requests included.
    pub senders_max: usize,
    /// Senders of one caller at a time, on all entities.
    pub caller_senders_max: usize,
    /// Loops of the process, this one included. The others run a [`pump::Pump`] each.
    pub loops: usize,
}

/// The role of the relay.
#[derive(Debug)]
pub struct Relay {
    config: Config,
    authority: Box<dyn Authority>,
    conns: BTreeMap<ConnId, Conn>,
    /// Relayed WebSockets on this loop.
    pump: Pump,
    /// Those on others.
    loops: Loops,
    /// Control channels by entity.
    listeners: BTreeMap<String, Vec<ConnId>>,
    /// Rendezvous that listeners have been invited to.
    meetings: BTreeMap<Handle, Meeting>,
    /// Senders of HTTP requests, by the same.
    asks: BTreeMap<Handle, ConnId>,
    timers: Timers<Key>,
    seats: Seats,
    storm: Storm,
    metrics: Metrics,
    calls: BTreeMap<Ticket, ConnId>,
    next_ticket: u64,
    is_ready: bool,
    is_stopping: bool,
    has_exited: bool,
}

/// What a connection is.
#[derive(Debug)]
enum Conn {
    /// Its request has not been read yet.
    Opening(Opening),
    /// It came to the listener for operators.
    Visiting(Visitor),
    /// It has called the relay's own API.
    Calling(Box<Calling>),
    /// It wants to listen where there are too many listeners; the dead among them are looked for.
    Crowded(Box<Crowded>),
    /// It was refused, and the answer is held back.
    Held(Pair, Vec<u8>),
    /// A listener's control channel.
    Control(Box<Control>),
    /// A sender waits for a listener.
    Waiting(Box<Waiting>),
    /// A sender of an HTTP request.
    Asking(Box<Asking>),
    /// The rendezvous of an HTTP exchange.
    Replying(Box<Replying>),
}

/// What a deadline is for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Key {
    /// The head, or the rest of a call, has to be here.
    Head(ConnId),
    /// A sign of life is due.
    Ping(ConnId),
    /// The token of a control channel has expired, and the grace is over.
    Token(ConnId),
    /// Time to decide about a listener too many.
    Crowded(ConnId),
    /// Nobody accepted this sender.
    Accept(ConnId),
    /// Offer this sender to another listener.
    Offer(ConnId),
    /// The next step of an HTTP exchange is due.
    Ask(ConnId),
    /// A meeting that nobody waits for can be forgotten.
    Meeting(Handle),
    /// The peer has not answered our Close.
    Close(ConnId),
    /// A stopping relay ends.
    Exit,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: 0,
            public_host: None,
            secure: true,
            listeners_max: LISTENERS_MAX,
            senders_max: SENDERS_MAX,
            caller_senders_max: CALLER_SENDERS_MAX,
            loops: 1,
        }
    }
}

impl Relay {
    /// A relay without connections.
    #[must_use]
    pub fn new(config: Config, authority: Box<dyn Authority>) -> Self {
        Self {
            loops: Loops::new(config.loops),
            seats: Seats::new(config.senders_max, config.caller_senders_max),
            config,
            authority,
            conns: BTreeMap::new(),
            pump: Pump::new(),
            listeners: BTreeMap::new(),
            meetings: BTreeMap::new(),
            asks: BTreeMap::new(),
            timers: Timers::new(),
            storm: Storm::default(),
            metrics: Metrics::default(),
            calls: BTreeMap::new(),
            next_ticket: 0,
            is_ready: false,
            is_stopping: false,
            has_exited: false,
        }
    }

    /// Open connections and pending rendezvous: a test that ends with other than nothing has found
    /// a leak.
    #[must_use]
    pub fn leftovers(&self) -> (usize, usize) {
        (self.conns.len() + self.pump.tally().sockets + self.loops.sockets(), self.meetings.len())
    }

    /// Senders that are served now, on all loops.
    #[must_use]
    pub fn senders(&self) -> usize {
        self.seats.taken()
    }

    fn on_accepted(&mut self, conn: ConnId, peer: Peer, net: &dyn Net) {
        self.conns.insert(conn, Conn::Opening(Opening::new(peer)));
        self.timers.set(Key::Head(conn), net.now() + OPENING_TIMEOUT);
    }

    fn on_data(&mut self, conn: ConnId, data: Lease, net: &mut dyn Net) {
        if self.pump.has(conn) {
            return self.pump.on_data(conn, data, net);
        }
        match self.conns.get(&conn) {
            Some(Conn::Opening(_)) => self.on_head_data(conn, &data, net),
            Some(Conn::Visiting(_)) => self.on_visitor_data(conn, &data, net),
            Some(Conn::Calling(_)) => self.on_call_data(conn, &data, net),
            Some(Conn::Control(_)) => self.on_control_data(conn, data, net),
            Some(Conn::Waiting(_)) => self.on_early_data(conn, &data, net),
            Some(Conn::Asking(_)) => self.on_ask_data(conn, &data, net),
            Some(Conn::Replying(_)) => self.on_reply_data(conn, data, net),
            // Whoever is refused has nothing to say.
            Some(Conn::Held(..) | Conn::Crowded(_)) => net.pause(conn),
            None => (),
        }
    }

    fn on_finished(&mut self, conn: ConnId, net: &mut dyn Net) {
        match self.conns.get(&conn) {
            Some(Conn::Calling(_)) => self.on_call_finished(conn, net),
            None => self.pump.on_finished(conn, net),
            Some(
                Conn::Opening(_)
                | Conn::Visiting(_)
                | Conn::Crowded(_)
                | Conn::Held(..)
                | Conn::Control(_)
                | Conn::Waiting(_)
                | Conn::Asking(_)
                | Conn::Replying(_),
            ) => {
                net.close(conn);
                self.on_gone(conn, net);
            }
        }
    }

    fn on_drained(&mut self, conn: ConnId, count: usize, net: &mut dyn Net) {
        match self.conns.get(&conn) {
            Some(Conn::Calling(_)) => self.on_call_drained(conn, net),
            Some(Conn::Asking(_) | Conn::Replying(_)) => self.on_exchange_drained(conn, net),
            Some(Conn::Control(_)) => self.on_control_drained(conn, count),
            Some(Conn::Opening(_)) => self.on_opening_drained(conn, net),
            Some(Conn::Visiting(_) | Conn::Crowded(_) | Conn::Held(..) | Conn::Waiting(_)) => {}
            None => self.pump.on_drained(conn, net),
        }
    }

    fn on_closed(&mut self, conn: ConnId, why: &Close, net: &mut dyn Net) {
        debug!("conn={} closed: {why}", conn.0);
        self.on_gone(conn, net);
    }

    /// `conn` is gone: forgets it, and does what follows for others.
    fn on_gone(&mut self, conn: ConnId, net: &mut dyn Net) {
        match self.forget(conn) {
            Some(Conn::Held(pair, _)) => self.storm.forget(&pair, conn),
            Some(Conn::Control(control)) => self.on_listener_gone(conn, &control, net),
            Some(Conn::Waiting(waiting)) => self.on_sender_gone(&waiting, net.now()),
            Some(Conn::Asking(asking)) => self.on_asker_gone(&asking, net),
            Some(Conn::Replying(replying)) => self.on_replier_gone(&replying, net),
            Some(Conn::Opening(_) | Conn::Visiting(_) | Conn::Calling(_) | Conn::Crowded(_)) => {}
            None => self.pump.on_gone(conn, net),
        }
    }

    /// Takes `conn` out of the tables.
    fn forget(&mut self, conn: ConnId) -> Option<Conn> {
        for key in [
            Key::Head(conn),
            Key::Ping(conn),
            Key::Token(conn),
            Key::Crowded(conn),
            Key::Accept(conn),
            Key::Offer(conn),
            Key::Ask(conn),
            Key::Close(conn),
        ] {
            self.timers.cancel(key);
        }
        self.conns.remove(&conn)
    }

    /// Sends `bytes` and closes after them.
    fn dismiss(&mut self, conn: ConnId, bytes: &[u8], net: &mut dyn Net) {
        write(net, conn, bytes);
        net.close(conn);
        self.on_gone(conn, net);
    }

    fn on_deadline(&mut self, net: &mut dyn Net) {
        let now = net.now();
        while let Some(key) = self.timers.expire(now) {
            match key {
                Key::Head(conn) => {
                    net.close(conn);
                    self.on_gone(conn, net);
                }
                Key::Ping(conn) => self.on_ping_due(conn, net),
                Key::Token(conn) => self.on_token_expired(conn, net),
                Key::Crowded(conn) => self.on_crowd_counted(conn, net),
                Key::Accept(conn) => self.on_not_accepted(conn, net),
                Key::Offer(conn) => self.on_second_offer(conn, net),
                Key::Ask(conn) => self.on_ask_overdue(conn, net),
                Key::Meeting(handle) => self.forget_meeting(handle),
                Key::Close(conn) => {
                    net.close(conn);
                    self.on_gone(conn, net);
                }
                Key::Exit => self.exit(net),
            }
        }
        self.pump.on_deadline(net);
        while let Some(conn) = self.storm.release(now) {
            if let Some(Conn::Held(_, answer)) = self.forget(conn) {
                write(net, conn, &answer);
                net.close(conn);
            }
        }
    }

    fn on_ping_due(&mut self, conn: ConnId, net: &mut dyn Net) {
        match self.conns.get(&conn) {
            Some(Conn::Control(_)) => self.ping_control(conn, net),
            Some(Conn::Replying(_)) => self.ping_rendezvous(conn, net),
            _ => (),
        }
    }

    fn on_signal(&mut self, signal: Signal, net: &mut dyn Net) {
        match signal {
            Signal::Reload => self.authority.handle_event(Event::Signal(signal), net),
            Signal::Stop => {
                info!("stopping: control channels close, relayed sockets may end by themselves");
                self.is_stopping = true;
                let controls: Vec<ConnId> = self.listeners.values().flatten().copied().collect();
                for conn in controls {
                    self.close_control(conn, 1001, "relay restarting", net);
                }
                self.timers.set(Key::Exit, net.now() + STOP_TIMEOUT);
                self.exit_if_idle(net);
            }
        }
    }

    fn exit_if_idle(&mut self, net: &mut dyn Net) {
        let busy = |conn: &Conn| matches!(conn, Conn::Waiting(_) | Conn::Asking(_));
        let carries = || self.pump.tally().sockets != 0 || self.loops.are_busy();
        if self.is_stopping && !carries() && !self.conns.values().any(busy) {
            self.exit(net);
        }
    }

    fn exit(&mut self, net: &mut dyn Net) {
        if !std::mem::replace(&mut self.has_exited, true) {
            net.tell(Notice::Exit(0, None));
        }
    }

    fn obey(&mut self, net: &mut dyn Net) {
        while let Some(order) = self.authority.poll_order() {
            match order {
                Order::Answer(ticket, answer) => self.on_answer(ticket, &answer, net),
                Order::Revoke(revoked) => self.revoke(&revoked, net),
            }
        }
        if !self.is_ready && self.authority.is_ready() {
            self.is_ready = true;
            net.tell(Notice::Ready);
        }
    }

    fn revoke(&mut self, revoked: &Revoked, net: &mut dyn Net) {
        let fault = match revoked {
            Revoked::Outside(_) => open::prevented(),
            Revoked::Entity(_) | Revoked::At(..) | Revoked::Bearer(_) => connect::gone(),
        };
        let conns: Vec<ConnId> = self.conns.keys().copied().collect();
        for conn in conns {
            match self.conns.get(&conn) {
                Some(Conn::Control(control)) if control.is_among(revoked) => {
                    self.close_control(conn, 1001, &fault.text, net);
                }
                Some(Conn::Crowded(crowded)) if crowded.is_among(revoked) => {
                    self.refuse_crowded(conn, &fault, net);
                }
                Some(Conn::Waiting(waiting)) if waiting.is_among(revoked) => {
                    self.refuse_waiting(conn, &fault, net);
                }
                Some(Conn::Asking(asking)) if asking.is_among(revoked) => {
                    self.refuse_asking(conn, &fault, net);
                }
                Some(Conn::Replying(replying)) if replying.is_among(revoked) => {
                    net.abort(conn);
                    self.on_gone(conn, net);
                }
                _ => (),
            }
        }
        self.pump.revoke(revoked, net);
        self.loops.revoke(revoked, net);
    }
}

impl Role for Relay {
    fn on_event(&mut self, event: Event, net: &mut dyn Net) {
        match event {
            Event::Accepted(conn, ListenerTag::Admin, _) => self.on_visitor(conn, net),
            Event::Accepted(conn, ListenerTag::Main | ListenerTag::AuthProxy, peer) => {
                self.on_accepted(conn, peer, net)
            }
            Event::Data(conn, data) => self.on_data(conn, data, net),
            Event::Finished(conn) => self.on_finished(conn, net),
            Event::Drained(conn, count) => self.on_drained(conn, count, net),
            Event::Closed(conn, why) => self.on_closed(conn, &why, net),
            Event::Signal(signal) => self.on_signal(signal, net),
            Event::Letter(from, letter) => self.loops.on_letter(from, &letter),
            Event::Deadline => {
                self.on_deadline(net);
                self.authority.handle_event(Event::Deadline, net);
            }
            Event::Started | Event::Done(..) | Event::Connected(_) => {
                self.authority.handle_event(event, net);
            }
        }
        self.obey(net);
        self.exit_if_idle(net);
    }

    fn deadline(&self) -> Option<Instant> {
        let roles = [self.authority.deadline(), self.pump.next()];
        let all = [self.timers.next(), self.storm.next()].into_iter().chain(roles);
        all.flatten().min()
    }
}

fn random_u128(net: &mut dyn Net) -> u128 {
    let mut bytes = [0; 16];
    net.random(&mut bytes);
    u128::from_ne_bytes(bytes)
}

//! Senders that wait, and the rendezvous at which a listener meets them.

use std::time::{Duration, Instant};

use log::debug;

use super::authority::{Deadlines, Right};
use super::fault::{Fault, Tracking};
use super::target::Target;
use super::{Arrival, Conn, Key, Net, Relay, random_u128, write};
use crate::engine::upgrade::{Fields, Upgrade, refusal};
use crate::limits::{ACCEPT_TIMEOUT, COMMAND_MAX, EARLY_MAX, SECOND_OFFER};
use crate::role::{ConnId, Pair, Peer, Revoked, Seat};
use crate::wire::control::{Accept, Command, Remote, joined};
use crate::wire::ws::Opcode;

/// A sender whose answer is held back until a listener is there.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) entity: String,
    pub(super) bearer: String,
    seat: Seat,
    deadlines: Deadlines,
    pub(super) upgrade: Upgrade,
    /// What it has sent already; delivered first.
    pub(super) early: Vec<u8>,
    peer: Peer,
    fields: Fields,
    target: Target,
    tracking: Tracking,
    /// Listeners that have been asked.
    asked: Vec<ConnId>,
    meetings: Vec<Handle>,
}

/// The first half of the random part of a rendezvous id, by which tables find it. The time that a
/// look-up takes may tell of this half; of the other one, which proves the id, it tells nothing.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Handle(u64);

/// A rendezvous to which a listener was invited.
#[derive(Debug)]
pub(super) struct Meeting {
    id: String,
    key: u128,
    /// Where the sender is; an id is no way into another entity.
    entity: String,
    purpose: Purpose,
    listener: ConnId,
    /// `None` once the sender has gone or has met another listener.
    sender: Option<ConnId>,
    since: Instant,
}

/// What a rendezvous is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Purpose {
    /// A WebSocket.
    Accept,
    /// An HTTP request or its response.
    Request,
}

/// A rendezvous that does not exist yet.
#[derive(Debug)]
pub(super) struct Place {
    key: u128,
    pub(super) id: String,
    pub(super) address: String,
}

impl Place {
    pub(super) const fn handle(&self) -> Handle {
        Handle::of(self.key)
    }

    /// What is to be remembered of it.
    pub(super) fn meeting(
        self,
        purpose: Purpose,
        entity: String,
        sender: ConnId,
        listener: ConnId,
        since: Instant,
    ) -> Meeting {
        let Self { key, id, .. } = self;
        Meeting { id, key, entity, purpose, listener, sender: Some(sender), since }
    }
}

impl Meeting {
    /// The random part decides, in a time that does not depend on how much of it is right.
    fn is_named(&self, key: u128, id: &str) -> bool {
        self.key ^ key == 0 && self.id == id
    }
}

impl Handle {
    const fn of(key: u128) -> Self {
        Self((key >> 64) as u64)
    }

    /// The handle in `id`, if it has the form of a rendezvous id.
    pub(super) fn in_id(id: &str) -> Option<Self> {
        rendezvous_key(id).map(Self::of)
    }
}

impl Waiting {
    pub(super) fn is_among(&self, revoked: &Revoked) -> bool {
        revoked.covers(&self.entity, &self.bearer, self.peer)
    }
}

impl Relay {
    pub(super) fn on_connect(&mut self, arrival: Arrival, upgrade: Upgrade, net: &mut dyn Net) {
        let conn = arrival.conn;
        let admitted = self.admit(&arrival, Right::Send, net).and_then(|(entity, grant)| {
            let seat = self.seat(&arrival, &entity.name, &grant.caller)?;
            Ok((entity, grant, seat))
        });
        let (entity, grant, seat) = match admitted {
            Ok(admitted) => admitted,
            Err(fault) => {
                self.metrics.senders.failed(fault.status);
                return self.dismiss(conn, &fault.for_upgrade(&arrival.tracking), net);
            }
        };
        let waiting = Waiting {
            entity: entity.name,
            bearer: grant.bearer,
            seat,
            deadlines: entity.deadlines,
            upgrade,
            early: arrival.rest,
            peer: arrival.peer,
            fields: arrival.request.fields,
            target: arrival.target,
            tracking: arrival.tracking,
            asked: Vec::new(),
            meetings: Vec::new(),
        };
        self.conns.insert(conn, Conn::Waiting(Box::new(waiting)));
        if let Err(fault) = self.offer(conn, net) {
            return self.refuse_waiting(conn, &fault, net);
        }
        self.timers.set(Key::Accept(conn), net.now() + entity.deadlines.accept);
        self.timers.set(Key::Offer(conn), net.now() + SECOND_OFFER);
    }

    /// Invites a listener to meet `sender`.
    fn offer(&mut self, sender: ConnId, net: &mut dyn Net) -> Result<(), Fault> {
        let Some(Conn::Waiting(waiting)) = self.conns.get(&sender) else { return Ok(()) };
        let listener = self.choose(&waiting.entity, &waiting.fields, &waiting.asked, net)?;
        let place = self.place(listener, &waiting.target, &waiting.tracking, Purpose::Accept, net);
        let command = Command::Accept(Accept {
            address: place.address.clone(),
            id: place.id.clone(),
            connect_headers: joined(waiting.visible_fields()),
            remote: remote(waiting.peer),
        });
        let command = command.encode();
        if command.len() > COMMAND_MAX {
            return Err(Fault::new(431, "The request headers are too large to be passed on"));
        }
        let frame = crate::engine::ws::frame(Opcode::Text, None, command.as_bytes());
        let (entity, lifetime) = (waiting.entity.clone(), waiting.deadlines.accept);
        self.send_command(listener, &frame, net);
        debug!("conn={} offered to listener conn={}", sender.0, listener.0);
        let handle = place.handle();
        let meeting = place.meeting(Purpose::Accept, entity, sender, listener, net.now());
        self.meet_at(meeting, lifetime);
        if let Some(Conn::Waiting(waiting)) = self.conns.get_mut(&sender) {
            waiting.asked.push(listener);
            waiting.meetings.push(handle);
        }
        Ok(())
    }

    /// Thinks of a rendezvous for `listener`, at the name by which it reaches this relay.
    pub(super) fn place(
        &self,
        listener: ConnId,
        target: &Target,
        tracking: &Tracking,
        purpose: Purpose,
        net: &mut dyn Net,
    ) -> Place {
        let host = match (&self.config.public_host, self.conns.get(&listener)) {
            (Some(host), _) => host,
            (None, Some(Conn::Control(control))) => &control.host,
            (None, _) => &tracking.host,
        };
        let scheme = if self.config.secure { "wss" } else { "ws" };
        let action = match purpose {
            Purpose::Accept => "accept",
            Purpose::Request => "request",
        };
        let key = random_u128(net);
        let id = format!("{}_{key:032x}", tracking.id);
        let address = target.rendezvous(&format!("{scheme}://{host}"), action, &id);
        Place { key, id, address }
    }

    /// Makes the rendezvous, now that the listener knows of it.
    pub(super) fn meet_at(&mut self, meeting: Meeting, lifetime: Duration) {
        let handle = Handle::of(meeting.key);
        self.timers.set(Key::Meeting(handle), meeting.since + lifetime);
        if meeting.purpose == Purpose::Accept
            && let Some(Conn::Control(control)) = self.conns.get_mut(&meeting.listener)
        {
            control.invitations.insert((meeting.since, handle));
        }
        self.meetings.insert(handle, meeting);
    }

    pub(super) fn forget_meeting(&mut self, handle: Handle) {
        self.settle(handle);
        self.meetings.remove(&handle);
        self.timers.cancel(Key::Meeting(handle));
    }

    /// The sender waits there no more: the listener owes it nothing. Returns whether it had waited.
    fn settle(&mut self, handle: Handle) -> bool {
        let Some(meeting) = self.meetings.get_mut(&handle) else { return false };
        let waited = meeting.sender.take().is_some();
        if let Some(Conn::Control(control)) = self.conns.get_mut(&meeting.listener) {
            control.invitations.remove(&(meeting.since, handle));
        }
        waited
    }

    /// A random listener among those that the sender admits and that were not asked before,
    /// preferably one that keeps up with its invitations.
    pub(super) fn choose(
        &self,
        entity: &str,
        fields: &Fields,
        asked: &[ConnId],
        net: &mut dyn Net,
    ) -> Result<ConnId, Fault> {
        let mut fresh = self.admitted(entity, fields)?;
        fresh.retain(|l| !asked.contains(l) && self.keeps_up(*l));
        let now = net.now();
        let is_prompt = |l: &ConnId| self.is_prompt(*l, now);
        let prompt: Vec<ConnId> = fresh.iter().copied().filter(is_prompt).collect();
        let pool = if prompt.is_empty() { fresh } else { prompt };
        let index = random_u128(net).checked_rem(pool.len() as u128).unwrap_or(0);
        let index = usize::try_from(index).unwrap_or(0);
        pool.get(index).copied().ok_or_else(|| Fault::new(503, "The listeners do not keep up"))
    }

    /// The listeners that the sender admits.
    pub(super) fn admitted(&self, entity: &str, fields: &Fields) -> Result<Vec<ConnId>, Fault> {
        let listeners = self.listeners.get(entity).ok_or_else(nobody)?;
        let admitted = listeners.iter().copied().filter(|&l| self.is_admitted(l, fields));
        let admitted: Vec<ConnId> = admitted.collect();
        if admitted.is_empty() {
            return Err(Fault::new(
                404,
                "None of the connected listeners meet the AllowedListeners/DisallowedListeners \
                 criteria",
            ));
        }
        Ok(admitted)
    }

    /// Whether `listener` owes no sender an answer for long.
    fn is_prompt(&self, listener: ConnId, now: Instant) -> bool {
        let Some(Conn::Control(control)) = self.conns.get(&listener) else { return false };
        control.invitations.first().is_none_or(|(since, _)| now <= *since + SLOW)
    }

    fn is_admitted(&self, listener: ConnId, fields: &Fields) -> bool {
        let Some(Conn::Control(control)) = self.conns.get(&listener) else { return false };
        let names = |field: &'static str| {
            control.name.as_deref().is_some_and(|name| fields.has(field, name))
        };
        let allowed = fields.get(ALLOWED).is_none() || names(ALLOWED);
        allowed && !names(DISALLOWED)
    }

    /// Keeps what a sender sends before it is answered.
    pub(super) fn on_early_data(&mut self, conn: ConnId, data: &[u8], net: &mut dyn Net) {
        let Some(Conn::Waiting(waiting)) = self.conns.get_mut(&conn) else { return };
        waiting.early.extend_from_slice(data);
        if waiting.early.len() > EARLY_MAX {
            net.pause(conn);
        }
    }

    pub(super) fn on_not_accepted(&mut self, conn: ConnId, net: &mut dyn Net) {
        let text = "None of the connected listeners accepted the connections within the allowed \
                    timeout";
        self.refuse_waiting(conn, &Fault::new(504, text), net);
    }

    /// The first listener is slow; whoever comes first has the sender.
    pub(super) fn on_second_offer(&mut self, conn: ConnId, net: &mut dyn Net) {
        if let Err(fault) = self.offer(conn, net) {
            debug!("conn={} no second listener: {}", conn.0, fault.text);
        }
    }

    /// Those who wait for `listener`, which is gone, are offered to another one, once.
    pub(super) fn reoffer(&mut self, listener: ConnId, net: &mut dyn Net) {
        let invited = self.meetings.values().filter(|m| m.listener == listener);
        let senders: Vec<ConnId> = invited.filter_map(|m| m.sender).collect();
        for sender in senders {
            let Some(Conn::Waiting(waiting)) = self.conns.get(&sender) else {
                self.on_asked_listener_gone(sender, net);
                continue;
            };
            let others = waiting.asked.iter().filter(|&&asked| asked != listener);
            let has_other = others.into_iter().any(|asked| self.is_listening(*asked));
            if !has_other && self.offer(sender, net).is_err() {
                let fault = Fault::new(502, "The listener left before it accepted the connection");
                self.refuse_waiting(sender, &fault, net);
            }
        }
    }

    fn is_listening(&self, conn: ConnId) -> bool {
        self.listeners.values().flatten().any(|&listener| listener == conn)
    }

    pub(super) fn refuse_waiting(&mut self, conn: ConnId, fault: &Fault, net: &mut dyn Net) {
        let Some(Conn::Waiting(waiting)) = self.conns.get(&conn) else { return };
        let answer = fault.for_upgrade(&waiting.tracking);
        self.metrics.senders.failed(fault.status);
        self.dismiss(conn, &answer, net);
    }

    /// A listener that comes now is told that the sender has gone; however long it may take to
    /// accept one that waits, this is not remembered for longer than usual.
    pub(super) fn on_sender_gone(&mut self, waiting: &Waiting, now: Instant) {
        for handle in &waiting.meetings {
            if self.settle(*handle) {
                self.timers
                    .set(Key::Meeting(*handle), now + waiting.deadlines.accept.min(ACCEPT_TIMEOUT));
            }
        }
    }

    pub(super) fn on_accept(&mut self, arrival: Arrival, upgrade: &Upgrade, net: &mut dyn Net) {
        match self.meet(&arrival, Purpose::Accept) {
            Err(fault) => {
                self.dismiss(arrival.conn, &fault.for_upgrade(&arrival.tracking), net);
            }
            Ok((sender, None)) => self.join(sender, arrival, upgrade, net),
            Ok((sender, Some(status))) => self.reject(sender, status, &arrival, net),
        }
    }

    /// Uses up the rendezvous that `arrival` names, unless it is malformed.
    pub(super) fn meet(
        &mut self,
        arrival: &Arrival,
        purpose: Purpose,
    ) -> Result<(ConnId, Option<u16>), Fault> {
        let unknown = || {
            let text = "Unknown Connection ID. Is the listener accepting the connection too late?";
            Fault::new(403, text)
        };
        let parameters = &arrival.target.parameters;
        let id = parameters.id.as_deref().unwrap_or_default();
        let key = rendezvous_key(id).ok_or_else(unknown)?;
        let handle = Handle::of(key);
        let meeting = self.meetings.get(&handle);
        let meeting = meeting.filter(|m| m.is_named(key, id) && m.purpose == purpose);
        let meeting = meeting.filter(|m| is_within(&arrival.target.path, &m.entity));
        let sender = meeting.ok_or_else(unknown)?.sender;
        let status = parameters.status.as_deref().map(str::parse::<u16>);
        let status = match status {
            None => None,
            Some(Ok(status @ 100..=999)) => Some(status),
            Some(_) => return Err(Fault::new(400, "The sb-hc-statusCode is not one of HTTP")),
        };
        self.forget_meeting(handle);
        let sender = sender.ok_or_else(|| Fault::new(410, "The sender has gone"))?;
        Ok((sender, status))
    }

    /// The listener does not want this sender.
    fn reject(&mut self, sender: ConnId, status: u16, arrival: &Arrival, net: &mut dyn Net) {
        // 1xx and 2xx would look like success.
        let status = if status < 300 { 502 } else { status };
        self.metrics.senders.failed(status);
        let description = arrival.target.parameters.description.as_deref().unwrap_or("Rejected");
        let phrase: String = description.chars().filter(|c| matches!(c, ' '..='~')).collect();
        self.dismiss(sender, &refusal(status, &phrase, "Connection: close\r\n", ""), net);
        let gone = refusal(410, "Gone", "Connection: close\r\n", "");
        self.dismiss(arrival.conn, &gone, net);
    }

    fn join(&mut self, sender: ConnId, arrival: Arrival, upgrade: &Upgrade, net: &mut dyn Net) {
        let Some(Conn::Waiting(waiting)) = self.forget(sender) else { return };
        self.on_sender_gone(&waiting, net.now());
        let offered = &waiting.upgrade.protocols;
        let asked = &upgrade.protocols;
        let agreed = asked.iter().find(|protocol| offered.contains(protocol));
        let to_listener = agreed.or_else(|| asked.first()).map(String::as_str);
        let listener = arrival.conn;
        write(net, listener, &upgrade.answer(to_listener));
        write(net, sender, &waiting.upgrade.answer(agreed.map(String::as_str)));
        debug!("conn={} joined to conn={} id={}", sender.0, listener.0, waiting.tracking.id);
        self.metrics.senders.succeeded();
        self.forget(listener);
        let Waiting { entity, bearer, seat, early, peer, .. } = *waiting;
        let seat = Some(seat);
        let (conns, peers) = ([sender, listener], [peer, arrival.peer]);
        let pair = Pair { conns, entity, bearer, peers, seat, early, rest: arrival.rest };
        self.carry(pair, net);
    }
}

impl Waiting {
    /// What the listener sees of the request: everything but the token.
    fn visible_fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let fields = self.fields.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        fields.filter(|(name, _)| !name.eq_ignore_ascii_case("ServiceBusAuthorization"))
    }
}

/// The entity was removed, or the sender's right to it.
pub(super) fn gone() -> Fault {
    Fault::new(404, "Endpoint does not exist")
}

pub(super) fn nobody() -> Fault {
    Fault::new(404, "There are no listeners connected for the endpoint")
}

pub(super) fn remote(peer: Peer) -> Remote {
    match peer {
        Peer::Tcp(address) => {
            Remote { address: address.ip().to_canonical().to_string(), port: address.port() }
        }
        Peer::Local => Remote { address: "127.0.0.1".to_owned(), port: 0 },
    }
}

/// Whether `path` is the entity's own or below it.
fn is_within(path: &str, entity: &str) -> bool {
    path.strip_prefix(entity).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `id` without the random part at the end of a rendezvous id.
pub(super) fn public_part(id: &str) -> &str {
    parts(id).map_or(id, |(public, _)| public)
}

/// The random part at the end of a rendezvous id.
fn rendezvous_key(id: &str) -> Option<u128> {
    parts(id).map(|(_, key)| key)
}

fn parts(id: &str) -> Option<(&str, u128)> {
    let (public, random) = id.rsplit_once('_')?;
    let is_hex = random.len() == 32 && random.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex { Some((public, u128::from_str_radix(random, 16).ok()?)) } else { None }
}

const ALLOWED: &str = "Microsoft-Relay-AllowedListeners";
const DISALLOWED: &str = "Microsoft-Relay-DisallowedListeners";

/// A listener that lets an invitation wait for longer is passed over when there are others.
const SLOW: Duration = Duration::from_secs(1);

//! Senders of HTTP requests: the request goes to a listener as a command and a message, small ones
//! over its control channel, others over a rendezvous to which a pointer invites it.

use super::authority::{Deadlines, Right};
use super::connect::{Handle, Purpose};
use super::fault::{Fault, Tracking};
use super::http::{request_fields, take_body};
use super::open::Opening;
use super::target::Target;
use super::{Arrival, Conn, Key, Net, Relay, connect, write};
use crate::buf::Pressure;
use crate::engine::upgrade::Request;
use crate::engine::ws::{self, FORWARD_MAX, push_frame};
use crate::limits::{COMMAND_MAX, EARLY_MAX, INLINE_BODY_MAX, INLINE_WAIT};
use crate::role::{ConnId, Peer, Revoked, Seat};
use crate::wire::control::{self, Command};
use crate::wire::h1::{BodyReader, Framing};
use crate::wire::ws::Opcode;

/// A sender whose HTTP request is being relayed.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) entity: String,
    pub(super) bearer: String,
    /// Held, never read.
    _seat: Seat,
    pub(super) deadlines: Deadlines,
    pub(super) peer: Peer,
    pub(super) request: Request,
    pub(super) tracking: Tracking,
    target: Target,
    hides_authorization: bool,
    pub(super) reader: BodyReader,
    /// From the sender, and not looked at yet.
    pub(super) raw: Vec<u8>,
    /// Out of its framing, and not passed on yet.
    body: Vec<u8>,
    pub(super) stage: Stage,
    asked: Vec<ConnId>,
    /// The exchange's handle in the tables, once there is one.
    pub(super) key: Option<Handle>,
    /// Its id, and the address of its rendezvous.
    id: String,
    address: String,
    pub(super) rendezvous: Option<ConnId>,
    /// The first fragment of the body has gone to the rendezvous.
    has_begun: bool,
    /// The head of the response has gone to the sender.
    pub(super) is_answered: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    /// The body may still turn out to be a small one.
    Collecting,
    /// A listener has been invited to fetch the request.
    Pointing,
    /// The body streams to the rendezvous.
    Sending,
    /// The listener has it all.
    Sent,
}

impl Asking {
    pub(super) fn is_among(&self, revoked: &Revoked) -> bool {
        revoked.covers(&self.entity, &self.bearer, self.peer)
    }

    /// Whether this is the request `id`, and `listener` the one that has it.
    pub(super) fn is_asked(&self, listener: ConnId, id: &str) -> bool {
        self.asked.last() == Some(&listener) && self.id == id
    }

    /// The command that carries the whole head.
    fn command(&self, address: &str, id: &str) -> String {
        Command::Request(control::Request {
            address: address.to_owned(),
            id: id.to_owned(),
            target: self.target.relayed(),
            method: self.request.method.clone(),
            remote: connect::remote(self.peer),
            headers: request_fields(
                &self.request,
                super::open::without_port(&self.tracking.host),
                self.hides_authorization,
            ),
            body: self.has_body(),
        })
        .encode()
    }

    /// The sender has sent more than is kept for it.
    const fn is_ahead(&self) -> bool {
        self.raw.len() + self.body.len() > EARLY_MAX
    }

    /// What was too large or too late to be inline has a body, even if it should turn out empty.
    fn has_body(&self) -> bool {
        !self.body.is_empty() || !self.reader.is_done()
    }
}

impl Relay {
    /// An HTTP request to an entity.
    pub(super) fn on_http_sender(&mut self, arrival: Arrival, net: &mut dyn Net) {
        if let Err(fault) = self.ask(&arrival, net) {
            self.metrics.senders.failed(fault.status);
            return self.dismiss(arrival.conn, &fault.for_http(&arrival.tracking), net);
        }
        let conn = arrival.conn;
        if arrival.request.expects_continue && arrival.rest.is_empty() {
            write(net, conn, b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        self.on_ask_data(conn, &arrival.rest, net);
    }

    fn ask(&mut self, arrival: &Arrival, net: &mut dyn Net) -> Result<(), Fault> {
        if !matches!(arrival.request.upgrade(), Ok(None)) {
            return Err(Fault::new(400, "Web-sockets are at /$hc/"));
        }
        let (entity, grant) = self.admit(arrival, Right::Send, net)?;
        if !entity.http {
            return Err(Fault::new(501, "HTTP requests are not enabled for the endpoint"));
        }
        if !self.listeners.contains_key(&entity.name) {
            return Err(connect::nobody());
        }
        let seat = self.seat(arrival, &entity.name, &grant.caller)?;
        let framing = arrival.request.framing;
        let asking = Asking {
            entity: entity.name,
            bearer: grant.bearer,
            _seat: seat,
            deadlines: entity.deadlines,
            peer: arrival.peer,
            request: arrival.request.clone(),
            tracking: arrival.tracking.clone(),
            target: arrival.target.clone(),
            hides_authorization: entity.needs_token && arrival.uses_authorization(),
            reader: BodyReader::new(framing),
            raw: Vec::new(),
            body: Vec::new(),
            stage: Stage::Collecting,
            asked: Vec::new(),
            key: None,
            id: String::new(),
            address: String::new(),
            rendezvous: None,
            has_begun: false,
            is_answered: false,
        };
        self.conns.insert(arrival.conn, Conn::Asking(Box::new(asking)));
        let gap = entity.deadlines.body_gap;
        let wait = if framing == Framing::Chunked { INLINE_WAIT } else { gap };
        self.timers.set(Key::Ask(arrival.conn), net.now() + wait);
        Ok(())
    }

    pub(super) fn on_ask_data(&mut self, conn: ConnId, data: &[u8], net: &mut dyn Net) {
        let Some(Conn::Asking(asking)) = self.conns.get_mut(&conn) else { return };
        asking.raw.extend_from_slice(data);
        match asking.stage {
            Stage::Collecting => self.collect(conn, net),
            Stage::Sending => self.send_body(conn, net),
            Stage::Pointing | Stage::Sent => {
                if asking.is_ahead() {
                    net.pause(conn);
                }
            }
        }
    }

    /// A request that is small and complete goes over the control channel.
    fn collect(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Asking(asking)) = self.conns.get_mut(&conn) else { return };
        let is_long =
            matches!(asking.request.framing, Framing::Length(n) if n > INLINE_BODY_MAX as u64);
        if is_long {
            return self.offer_pointer(conn, net);
        }
        if take_body(&mut asking.reader, &mut asking.raw, &mut asking.body).is_err() {
            let fault = Fault::new(400, "The body of the request is malformed");
            return self.refuse_asking(conn, &fault, net);
        }
        let is_done = asking.reader.is_done();
        if asking.body.len() > INLINE_BODY_MAX {
            self.offer_pointer(conn, net);
        } else if is_done {
            self.deliver(conn, net);
        } else if asking.request.framing != Framing::Chunked {
            self.timers.set(Key::Ask(conn), net.now() + asking.deadlines.body_gap);
        }
    }

    /// The whole request, as one unit, over a control channel.
    fn deliver(&mut self, conn: ConnId, net: &mut dyn Net) {
        let delivered = self.invite(conn, net, |asking, address, id| {
            let mut unit =
                ws::frame(Opcode::Text, None, checked(asking.command(address, id))?.as_bytes());
            if asking.has_body() {
                push_body(&mut unit, &asking.body, true, &mut false);
            }
            Ok(unit)
        });
        match delivered {
            Ok(()) => {
                let Some(Conn::Asking(asking)) = self.conns.get_mut(&conn) else { return };
                asking.stage = Stage::Sent;
                asking.body = Vec::new();
                self.timers.set(Key::Ask(conn), net.now() + asking.deadlines.response);
            }
            Err(fault) => self.refuse_asking(conn, &fault, net),
        }
    }

    fn offer_pointer(&mut self, conn: ConnId, net: &mut dyn Net) {
        let offered = self.invite(conn, net, |asking, address, id| {
            // Whoever fetches it gets the head in a command of the same size.
            checked(asking.command(address, id))?;
            let pointer = Command::Pointer(address.to_owned()).encode();
            Ok(ws::frame(Opcode::Text, None, pointer.as_bytes()))
        });
        if let Err(fault) = offered {
            return self.refuse_asking(conn, &fault, net);
        }
        let Some(Conn::Asking(asking)) = self.conns.get_mut(&conn) else { return };
        asking.stage = Stage::Pointing;
        if asking.is_ahead() {
            net.pause(conn);
        }
        self.timers.set(Key::Ask(conn), net.now() + asking.deadlines.accept);
    }

    /// Chooses a listener and sends it what `message` makes for a fresh rendezvous.
    fn invite(
        &mut self,
        conn: ConnId,
        net: &mut dyn Net,
        message: impl FnOnce(&Asking, &str, &str) -> Result<Vec<u8>, Fault>,
    ) -> Result<(), Fault> {
        let Some(Conn::Asking(asking)) = self.conns.get(&conn) else { return Ok(()) };
        let listener = self.choose(&asking.entity, &asking.request.fields, &asking.asked, net)?;
        let place = self.place(listener, &asking.target, &asking.tracking, Purpose::Request, net);
        let message = message(asking, &place.address, &place.id)?;
        // A listener that has the whole request comes once its response turns out to be large.
        let lifetime = asking.deadlines.accept.max(asking.deadlines.response);
        let entity = asking.entity.clone();
        self.send_command(listener, &message, net);
        let (key, id, address) = (place.handle(), place.id.clone(), place.address.clone());
        let meeting = place.meeting(Purpose::Request, entity, conn, listener, net.now());
        self.meet_at(meeting, lifetime);
        self.asks.insert(key, conn);
        let Some(Conn::Asking(asking)) = self.conns.get_mut(&conn) else { return Ok(()) };
        asking.asked.push(listener);
        asking.id = id;
        asking.address = address;
        if let Some(before) = asking.key.replace(key) {
            self.asks.remove(&before);
            self.forget_meeting(before);
        }
        Ok(())
    }

    /// The listener has come for the request: head first, then whatever of the body there is.
    pub(super) fn send_request(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Asking(asking)) = self.conns.get_mut(&conn) else { return };
        let Some(rendezvous) = asking.rendezvous else { return };
        let command = asking.command(&asking.address, &asking.id);
        asking.stage = Stage::Sending;
        write(net, rendezvous, &ws::frame(Opcode::Text, None, command.as_bytes()));
        net.resume(conn);
        self.send_body(conn, net);
    }

    fn send_body(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Asking(asking)) = self.conns.get_mut(&conn) else { return };
        let Some(rendezvous) = asking.rendezvous else { return };
        if take_body(&mut asking.reader, &mut asking.raw, &mut asking.body).is_err() {
            return self.abort_exchange(conn, net);
        }
        let is_done = asking.reader.is_done();
        let body = std::mem::take(&mut asking.body);
        if !body.is_empty() || is_done {
            let mut frames = Vec::with_capacity(body.len() + 64);
            self.metrics.carried(body.len());
            push_body(&mut frames, &body, is_done, &mut asking.has_begun);
            write(net, rendezvous, &frames);
        }
        if is_done {
            asking.stage = Stage::Sent;
            self.timers.set(Key::Ask(conn), net.now() + asking.deadlines.response);
            return;
        }
        self.timers.set(Key::Ask(conn), net.now() + asking.deadlines.body_gap);
        if net.pressure(rendezvous) == Pressure::Full {
            net.pause(conn);
        }
    }

    pub(super) fn on_ask_overdue(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Asking(asking)) = self.conns.get(&conn) else { return };
        if asking.is_answered {
            return self.abort_exchange(conn, net);
        }
        let fault = match asking.stage {
            Stage::Collecting if asking.request.framing == Framing::Chunked => {
                return self.offer_pointer(conn, net);
            }
            Stage::Collecting => Fault::new(408, "The body of the request did not come"),
            Stage::Sending => return self.abort_exchange(conn, net),
            Stage::Pointing => Fault::new(
                504,
                "The listener did not rendezvous to accept the request within the allotted time",
            ),
            Stage::Sent => Fault::new(
                504,
                "The request was routed to the listener but the listener did not respond in the \
                 required time",
            ),
        };
        self.refuse_asking(conn, &fault, net);
    }

    /// The listener that was asked has gone. One that has only been pointed to the request has had
    /// nothing of it, so another may have it.
    pub(super) fn on_asked_listener_gone(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Asking(asking)) = self.conns.get(&conn) else { return };
        let another =
            self.choose(&asking.entity, &asking.request.fields, &asking.asked, net).is_ok();
        match asking.stage {
            Stage::Pointing if another => self.offer_pointer(conn, net),
            Stage::Pointing | Stage::Sent if asking.rendezvous.is_none() => {
                let fault = Fault::new(502, "The listener left before it responded");
                self.refuse_asking(conn, &fault, net);
            }
            Stage::Collecting | Stage::Pointing | Stage::Sending | Stage::Sent => (),
        }
    }

    pub(super) fn refuse_asking(&mut self, conn: ConnId, fault: &Fault, net: &mut dyn Net) {
        let Some(Conn::Asking(asking)) = self.conns.get(&conn) else { return };
        if asking.is_answered {
            return self.abort_exchange(conn, net);
        }
        let answer = fault.for_http(&asking.tracking);
        self.metrics.senders.failed(fault.status);
        self.dismiss(conn, &answer, net);
    }

    /// The sender has gone: a rendezvous is closed, and a response that still comes is for nobody.
    pub(super) fn on_asker_gone(&mut self, asking: &Asking, net: &mut dyn Net) {
        if let Some(key) = asking.key {
            self.asks.remove(&key);
            self.forget_meeting(key);
        }
        if let Some(rendezvous) = asking.rendezvous {
            self.close_rendezvous(rendezvous, 1001, "the sender has gone", net);
        }
    }

    /// The exchange is over. The connection serves the next request, if it can.
    pub(super) fn end_exchange(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Asking(asking)) = self.forget(conn) else { return };
        if let Some(key) = asking.key {
            self.asks.remove(&key);
            self.forget_meeting(key);
        }
        if let Some(rendezvous) = asking.rendezvous {
            self.close_rendezvous(rendezvous, 1000, "Normal Closure", net);
        }
        if !asking.request.keep_alive || !asking.reader.is_done() {
            return net.close(conn);
        }
        self.conns.insert(conn, Conn::Opening(Opening::new(asking.peer)));
        self.timers.set(Key::Head(conn), net.now() + crate::limits::OPENING_TIMEOUT);
        if net.pressure(conn) == Pressure::Full {
            // Who does not read what it has asked for asks for nothing more.
            net.pause(conn);
            if let Some(Conn::Opening(opening)) = self.conns.get_mut(&conn) {
                opening.hold(&asking.raw);
            }
            return;
        }
        net.resume(conn);
        self.on_head_data(conn, &asking.raw, net);
    }

    /// A sender has read what it was answered: what it asks next, if it has to wait for that.
    pub(super) fn on_opening_drained(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Opening(opening)) = self.conns.get_mut(&conn) else { return };
        if net.pressure(conn) == Pressure::Open && opening.let_go() {
            net.resume(conn);
            self.on_head_data(conn, &[], net);
        }
    }

    /// Cuts the sender off, so that a response cut short does not look whole.
    pub(super) fn abort_exchange(&mut self, conn: ConnId, net: &mut dyn Net) {
        net.abort(conn);
        self.on_gone(conn, net);
    }
}

/// A command that every listener can read.
fn checked(command: String) -> Result<String, Fault> {
    if command.len() > COMMAND_MAX {
        return Err(Fault::new(431, "The request headers are too large to be passed on"));
    }
    Ok(command)
}

/// Appends `body` as fragments of one binary message, which ends with it if `is_last`.
fn push_body(out: &mut Vec<u8>, body: &[u8], is_last: bool, has_begun: &mut bool) {
    let mut rest = body;
    loop {
        let (piece, after) = rest.split_at(rest.len().min(FORWARD_MAX));
        rest = after;
        let opcode = if *has_begun { Opcode::Continuation } else { Opcode::Binary };
        push_frame(out, opcode, is_last && rest.is_empty(), None, piece);
        *has_begun = true;
        if rest.is_empty() {
            return;
        }
    }
}

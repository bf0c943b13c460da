//! Responses of listeners to HTTP requests: over the control channel, whole, or over a rendezvous,
//! as a stream.

use std::time::Instant;

use log::debug;

use super::connect::{Handle, Purpose};
use super::fault::Fault;
use super::http::{BodyOut, response_head};
use super::{Arrival, Conn, Key, Net, Relay, write};
use crate::buf::{Lease, Pressure};
use crate::engine::upgrade::Upgrade;
use crate::engine::ws::{self, Connection, Control, Item, Side};
use crate::limits::{CLOSE_ANSWER, COMMAND_MAX, PING_INTERVAL, RELAYED_PINGS};
use crate::role::{ConnId, Peer, Revoked};
use crate::wire::control::{Reply, Response};
use crate::wire::h1::BodyWriter;
use crate::wire::ws::{Opcode, close_reason};

/// The rendezvous of an HTTP exchange.
#[derive(Debug)]
pub(super) struct Replying {
    sender: ConnId,
    id: String,
    peer: Peer,
    frames: Connection,
    fin: bool,
    stage: Stage,
    /// The command, as far as it has come.
    text: Vec<u8>,
    heard: Instant,
    missed: u8,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// The response's command is to come.
    Head,
    /// The response's body is to come, for a sender that takes it so. `None` discards it.
    Body(Option<BodyWriter>),
    /// We have sent our Close.
    Done,
}

impl Replying {
    pub(super) fn is_among(&self, revoked: &Revoked) -> bool {
        revoked.shuts_out(self.peer)
    }
}

impl Relay {
    /// A listener opens the rendezvous of a request.
    pub(super) fn on_request(&mut self, arrival: Arrival, upgrade: &Upgrade, net: &mut dyn Net) {
        let conn = arrival.conn;
        let (sender, id) = match self.meet(&arrival, Purpose::Request) {
            Ok((sender, None)) => (sender, arrival.target.parameters.id.unwrap_or_default()),
            Ok((sender, Some(status))) => {
                let gone = Fault::new(410, "Gone");
                self.dismiss(conn, &gone.for_upgrade(&arrival.tracking), net);
                let fault = Fault::new(status.max(400), "The listener rejected the request");
                return self.refuse_asking(sender, &fault, net);
            }
            Err(fault) => {
                return self.dismiss(conn, &fault.for_upgrade(&arrival.tracking), net);
            }
        };
        write(net, conn, &upgrade.answer(None));
        let replying = Replying {
            sender,
            id: id.clone(),
            peer: arrival.peer,
            frames: Connection::new(Side::Server),
            fin: false,
            stage: Stage::Head,
            text: Vec::new(),
            heard: net.now(),
            missed: 0,
        };
        self.timers.set(Key::Ping(conn), net.now() + PING_INTERVAL);
        self.conns.insert(conn, Conn::Replying(Box::new(replying)));
        let Some(Conn::Asking(asking)) = self.conns.get_mut(&sender) else { return };
        asking.rendezvous = Some(conn);
        if asking.stage == super::ask::Stage::Pointing {
            self.send_request(sender, net);
        }
        let mut rest = arrival.rest;
        self.read_reply(conn, &mut rest, net);
    }

    pub(super) fn on_reply_data(&mut self, conn: ConnId, mut data: Lease, net: &mut dyn Net) {
        self.read_reply(conn, data.filled_mut(), net);
    }

    fn read_reply(&mut self, conn: ConnId, bytes: &mut [u8], net: &mut dyn Net) {
        if let Some(Conn::Replying(replying)) = self.conns.get_mut(&conn) {
            replying.heard = net.now();
            replying.missed = 0;
        }
        let mut at = 0;
        loop {
            let Some(Conn::Replying(replying)) = self.conns.get_mut(&conn) else { return };
            match replying.frames.read(bytes.get_mut(at..).unwrap_or_default()) {
                Ok(None) => return,
                Ok(Some((count, item))) => {
                    let taken = bytes.get(at..at + count).unwrap_or_default();
                    at += count;
                    self.on_reply_item(conn, item, taken, net);
                }
                Err(violation) => {
                    let code = violation.close_code();
                    return self.break_reply(conn, code, &violation.to_string(), net);
                }
            }
        }
    }

    fn on_reply_item(&mut self, conn: ConnId, item: Item, bytes: &[u8], net: &mut dyn Net) {
        let Some(Conn::Replying(replying)) = self.conns.get_mut(&conn) else { return };
        match item {
            Item::Frame { opcode, fin, len } => {
                replying.fin = fin;
                let is_wrong = match replying.stage {
                    Stage::Head => opcode == Opcode::Binary,
                    Stage::Body(_) => opcode == Opcode::Text,
                    Stage::Done => false,
                };
                if is_wrong {
                    return self.break_reply(conn, 1002, "not the message that is due", net);
                }
                if fin && len == 0 {
                    self.on_reply_message(conn, net);
                }
            }
            Item::Payload { end } => {
                let is_message = end && replying.fin;
                match replying.stage {
                    Stage::Head => {
                        replying.text.extend_from_slice(bytes);
                        if replying.text.len() > COMMAND_MAX {
                            return self.break_reply(conn, 1009, "the response is too long", net);
                        }
                    }
                    Stage::Body(writer) => {
                        let sender = replying.sender;
                        self.stream(conn, sender, writer, bytes, net);
                    }
                    Stage::Done => (),
                }
                if is_message {
                    self.on_reply_message(conn, net);
                }
            }
            Item::Ping(payload) => {
                if replying.stage != Stage::Done && net.pressure(conn) == Pressure::Open {
                    write(net, conn, &ws::frame(Opcode::Pong, None, &payload));
                }
            }
            Item::Pong(_) => (),
            Item::Close(payload) => self.on_reply_closed(conn, &payload, net),
        }
    }

    /// A message is complete.
    fn on_reply_message(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Replying(replying)) = self.conns.get_mut(&conn) else { return };
        let sender = replying.sender;
        match replying.stage {
            Stage::Head => {
                let text = String::from_utf8(std::mem::take(&mut replying.text));
                let reply = text.ok().and_then(|text| Reply::parse(&text).ok());
                match reply {
                    Some(Reply::Response(response)) if response.request_id == replying.id => {
                        self.begin_reply(conn, sender, &response, net);
                    }
                    _ => self.break_reply(conn, 1002, "not a response to this request", net),
                }
            }
            Stage::Body(writer) => {
                self.end_stream(sender, writer, net);
            }
            Stage::Done => (),
        }
    }

    fn begin_reply(
        &mut self,
        conn: ConnId,
        sender: ConnId,
        response: &Response,
        net: &mut dyn Net,
    ) {
        if !response.body {
            return self.respond(sender, response, &[], net);
        }
        if let Some(fault) = unusable(response) {
            return self.refuse_asking(sender, &fault, net);
        }
        let Some(Conn::Asking(asking)) = self.conns.get_mut(&sender) else { return };
        let (writer, body) = if has_no_body(&asking.request.method, response.status) {
            (None, BodyOut::None)
        } else if asking.request.is_http10 {
            (Some(BodyWriter::Plain), BodyOut::UntilClose)
        } else {
            (Some(BodyWriter::Chunked), BodyOut::Chunked)
        };
        let host = super::open::without_port(&asking.tracking.host);
        let keep_alive = asking.request.keep_alive && asking.reader.is_done();
        let now = net.unix_time();
        let head = response_head(response, &asking.request, host, now, body, keep_alive);
        asking.request.keep_alive = keep_alive;
        asking.is_answered = true;
        self.metrics.senders.succeeded();
        write(net, sender, &head);
        self.timers.set(Key::Ask(sender), net.now() + asking.deadlines.body_gap);
        if let Some(Conn::Replying(replying)) = self.conns.get_mut(&conn) {
            replying.stage = Stage::Body(writer);
        }
    }

    fn stream(
        &mut self,
        conn: ConnId,
        sender: ConnId,
        writer: Option<BodyWriter>,
        bytes: &[u8],
        net: &mut dyn Net,
    ) {
        let mut out = Vec::with_capacity(bytes.len() + 16);
        if let Some(writer) = writer.filter(|_| !bytes.is_empty()) {
            writer.write(&mut out, bytes);
        }
        self.metrics.carried(bytes.len());
        write(net, sender, &out);
        if let Some(Conn::Asking(asking)) = self.conns.get(&sender) {
            self.timers.set(Key::Ask(sender), net.now() + asking.deadlines.body_gap);
        }
        if net.pressure(sender) == Pressure::Full {
            net.pause(conn);
        }
    }

    fn end_stream(&mut self, sender: ConnId, writer: Option<BodyWriter>, net: &mut dyn Net) {
        let mut out = Vec::new();
        if let Some(writer) = writer {
            writer.finish(&mut out);
        }
        write(net, sender, &out);
        self.end_exchange(sender, net);
    }

    /// A response that is all here.
    pub(super) fn respond(
        &mut self,
        sender: ConnId,
        response: &Response,
        body: &[u8],
        net: &mut dyn Net,
    ) {
        if let Some(fault) = unusable(response) {
            return self.refuse_asking(sender, &fault, net);
        }
        let Some(Conn::Asking(asking)) = self.conns.get_mut(&sender) else { return };
        if asking.is_answered {
            return;
        }
        let host = super::open::without_port(&asking.tracking.host);
        let bodiless = has_no_body(&asking.request.method, response.status);
        let out = if bodiless { BodyOut::None } else { BodyOut::Length(body.len()) };
        let keep_alive = asking.request.keep_alive && asking.reader.is_done();
        let now = net.unix_time();
        let mut bytes = response_head(response, &asking.request, host, now, out, keep_alive);
        if !bodiless {
            bytes.extend_from_slice(body);
        }
        asking.is_answered = true;
        self.metrics.senders.succeeded();
        self.metrics.carried(body.len());
        write(net, sender, &bytes);
        self.end_exchange(sender, net);
    }

    /// Java ends a body with a Close of 1000; every other one in the middle of things breaks them.
    fn on_reply_closed(&mut self, conn: ConnId, payload: &Control, net: &mut dyn Net) {
        let Some(Conn::Replying(replying)) = self.conns.get_mut(&conn) else { return };
        let sender = replying.sender;
        let stage = std::mem::replace(&mut replying.stage, Stage::Done);
        if stage != Stage::Done {
            write(net, conn, &ws::frame(Opcode::Close, None, payload));
        }
        net.close(conn);
        self.forget(conn);
        let is_normal = close_reason(payload).is_some_and(|(code, _)| code == 1000);
        match stage {
            Stage::Body(writer) if is_normal => self.end_stream(sender, writer, net),
            Stage::Body(_) => self.abort_exchange(sender, net),
            Stage::Head => self.fail_asking(sender, net),
            Stage::Done => (),
        }
    }

    fn fail_asking(&mut self, sender: ConnId, net: &mut dyn Net) {
        let fault = Fault::new(502, "The listener left before it responded");
        self.refuse_asking(sender, &fault, net);
    }

    /// The listener breaks the rules on a rendezvous.
    fn break_reply(&mut self, conn: ConnId, code: u16, why: &str, net: &mut dyn Net) {
        debug!("conn={} violation: {why}", conn.0);
        let Some(Conn::Replying(replying)) = self.forget(conn) else { return };
        if replying.stage != Stage::Done {
            write(net, conn, &ws::close(code, why, None));
        }
        net.close(conn);
        self.on_replier_gone(&replying, net);
    }

    /// A rendezvous has ended without a Close.
    pub(super) fn on_replier_gone(&mut self, replying: &Replying, net: &mut dyn Net) {
        match replying.stage {
            Stage::Head => self.fail_asking(replying.sender, net),
            Stage::Body(_) => self.abort_exchange(replying.sender, net),
            Stage::Done => (),
        }
    }

    /// Sends a Close and waits a little for the answer.
    pub(super) fn close_rendezvous(
        &mut self,
        conn: ConnId,
        code: u16,
        why: &str,
        net: &mut dyn Net,
    ) {
        let Some(Conn::Replying(replying)) = self.conns.get_mut(&conn) else { return };
        if replying.stage != Stage::Done {
            replying.stage = Stage::Done;
            write(net, conn, &ws::close(code, why, None));
            net.resume(conn);
            self.timers.set(Key::Close(conn), net.now() + CLOSE_ANSWER);
        }
    }

    /// A listener that takes long over a response is asked for a sign of life. One whose response
    /// is not being read cannot give it.
    pub(super) fn ping_rendezvous(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Replying(replying)) = self.conns.get_mut(&conn) else { return };
        if replying.stage == Stage::Done {
            return;
        }
        let now = net.now();
        let due = replying.heard + PING_INTERVAL;
        if now < due {
            return self.timers.set(Key::Ping(conn), due);
        }
        let is_blocked =
            net.pressure(conn) == Pressure::Full || net.pressure(replying.sender) == Pressure::Full;
        if replying.missed >= RELAYED_PINGS && !is_blocked {
            net.abort(conn);
            return self.on_gone(conn, net);
        }
        if !is_blocked {
            replying.missed += 1;
            write(net, conn, &ws::frame(Opcode::Ping, None, &[]));
        }
        self.timers.set(Key::Ping(conn), now + PING_INTERVAL);
    }

    /// There is room again for what the other end of an exchange brings.
    pub(super) fn on_exchange_drained(&mut self, conn: ConnId, net: &mut dyn Net) {
        if net.pressure(conn) == Pressure::Full {
            return;
        }
        match self.conns.get(&conn) {
            Some(Conn::Asking(asking)) => {
                if let Some(rendezvous) = asking.rendezvous {
                    net.resume(rendezvous);
                }
            }
            Some(Conn::Replying(replying)) => net.resume(replying.sender),
            _ => (),
        }
    }

    /// A response on the control channel `conn`: whose it is, if somebody still waits for it. Only
    /// the listener that was asked may answer.
    pub(super) fn asker_of(&self, conn: ConnId, response: &Response) -> Option<(Handle, ConnId)> {
        let handle = Handle::in_id(&response.request_id)?;
        let sender = *self.asks.get(&handle)?;
        let Some(Conn::Asking(asking)) = self.conns.get(&sender) else { return None };
        asking.is_asked(conn, &response.request_id).then_some((handle, sender))
    }
}

fn has_no_body(method: &str, status: u16) -> bool {
    method == "HEAD" || matches!(status, 204 | 304)
}

/// A status that cannot be the answer to a request.
fn unusable(response: &Response) -> Option<Fault> {
    let is_final = response.status >= 200;
    (!is_final).then(|| Fault::new(502, "The listener responded without a usable status"))
}

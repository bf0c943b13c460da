//! Calls of the relay's own API: collects the body, hands the request on, sends the answer.

use std::sync::Arc;

use super::authority::{Answer, Call, Ticket};
use super::fault::{Fault, Tracking};
use super::http::take_body;
use super::open::Opening;
use super::{Arrival, Conn, Key, Net, Relay, write};
use crate::buf::Pressure;
use crate::engine::upgrade::Request;
use crate::limits::{API_BODY_MAX, HEAD_LIMIT, OPENING_TIMEOUT};
use crate::role::{ConnId, Peer};
use crate::wire::h1::{BodyReader, Framing, reason_phrase};

/// A connection that calls the API.
#[derive(Debug)]
pub(super) struct Calling {
    peer: Peer,
    request: Request,
    tracking: Tracking,
    stage: Stage,
    keep_alive: bool,
    body: Vec<u8>,
    /// What came behind the request.
    rest: Vec<u8>,
}

#[derive(Debug)]
enum Stage {
    /// The body is not all here.
    Collecting(BodyReader),
    /// The authority is at work.
    Asked,
    /// The answer goes out.
    Answering {
        head: Vec<u8>,
        body: Arc<Vec<u8>>,
        /// How much of both is queued.
        sent: usize,
    },
}

impl Relay {
    pub(super) fn on_call(&mut self, arrival: Arrival, net: &mut dyn Net) {
        let conn = arrival.conn;
        if matches!(arrival.request.framing, Framing::Length(len) if len > API_BODY_MAX as u64) {
            return self.dismiss(conn, &too_large().for_http(&arrival.tracking), net);
        }
        if arrival.request.expects_continue && arrival.rest.is_empty() {
            write(net, conn, b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        let keep_alive = arrival.request.keep_alive;
        let reader = BodyReader::new(arrival.request.framing);
        let calling = Calling {
            peer: arrival.peer,
            request: arrival.request,
            stage: Stage::Collecting(reader),
            keep_alive,
            tracking: arrival.tracking,
            body: Vec::new(),
            rest: arrival.rest,
        };
        self.conns.insert(conn, Conn::Calling(Box::new(calling)));
        self.timers.set(Key::Head(conn), net.now() + OPENING_TIMEOUT);
        self.on_call_data(conn, &[], net);
    }

    pub(super) fn on_call_data(&mut self, conn: ConnId, data: &[u8], net: &mut dyn Net) {
        let Some(Conn::Calling(calling)) = self.conns.get_mut(&conn) else { return };
        calling.rest.extend_from_slice(data);
        let Stage::Collecting(reader) = &mut calling.stage else {
            if calling.rest.len() > HEAD_LIMIT {
                net.pause(conn);
            }
            return;
        };
        let fault = match take_body(reader, &mut calling.rest, &mut calling.body) {
            Err(why) => Some(Fault::new(400, &format!("The body cannot be read: {why}"))),
            Ok(()) if calling.body.len() > API_BODY_MAX => Some(too_large()),
            Ok(()) if reader.is_done() => None,
            Ok(()) => return,
        };
        if let Some(fault) = fault {
            let answer = fault.for_http(&calling.tracking);
            return self.dismiss(conn, &answer, net);
        }
        let body = std::mem::take(&mut calling.body);
        calling.stage = Stage::Asked;
        let call = Call {
            method: calling.request.method.clone(),
            target: calling.request.target.clone(),
            fields: calling.request.fields.clone(),
            body,
            peer: calling.peer,
        };
        self.timers.cancel(Key::Head(conn));
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.calls.insert(ticket, conn);
        self.authority.handle_call(ticket, call, net);
    }

    /// The caller sends no more. It may still read its answer.
    pub(super) fn on_call_finished(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Calling(calling)) = self.conns.get_mut(&conn) else { return };
        calling.keep_alive = false;
        if let Stage::Collecting(_) = calling.stage {
            net.close(conn);
            self.forget(conn);
        }
    }

    pub(super) fn on_answer(&mut self, ticket: Ticket, answer: &Answer, net: &mut dyn Net) {
        let Some(conn) = self.calls.remove(&ticket) else { return };
        let Some(Conn::Calling(calling)) = self.conns.get_mut(&conn) else { return };
        let is_head = calling.request.method == "HEAD";
        let head = encode(answer, calling.keep_alive);
        let has_body = !is_head && answer.status != 204;
        let body = if has_body { Arc::clone(&answer.body) } else { Arc::default() };
        calling.stage = Stage::Answering { head, body, sent: 0 };
        self.on_call_drained(conn, net);
    }

    /// Sends as much of the answer as there is room for.
    pub(super) fn on_call_drained(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Calling(calling)) = self.conns.get_mut(&conn) else { return };
        let Stage::Answering { head, body, sent } = &mut calling.stage else { return };
        let len = head.len() + body.len();
        while *sent < len && net.pressure(conn) == Pressure::Open {
            let mut lease = net.pool().lease_beyond();
            let rest = match sent.checked_sub(head.len()) {
                None => head.get(*sent..),
                Some(at) => body.get(at..),
            };
            *sent += lease.fill(rest.unwrap_or_default());
            let _ = net.send(conn, lease.freeze());
        }
        let is_done = *sent == len;
        self.timers.set(Key::Head(conn), net.now() + OPENING_TIMEOUT);
        if !is_done {
            return;
        }
        if !calling.keep_alive {
            net.close(conn);
            self.forget(conn);
            return;
        }
        let rest = std::mem::take(&mut calling.rest);
        let opening = Opening::new(calling.peer);
        self.conns.insert(conn, Conn::Opening(opening));
        net.resume(conn);
        self.on_head_data(conn, &rest, net);
    }
}

fn too_large() -> Fault {
    Fault::new(413, "The body is too large")
}

fn encode(answer: &Answer, keep_alive: bool) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} {}\r\n", answer.status, reason_phrase(answer.status));
    for (name, value) in &answer.fields {
        let value: String = value.chars().filter(|c| !c.is_control()).collect();
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !keep_alive {
        head.push_str("Connection: close\r\n");
    }
    if answer.status != 204 {
        head.push_str(&format!("Content-Length: {}\r\n", answer.body.len()));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

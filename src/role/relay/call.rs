//! Calls of the relay's own API: collects the body, hands the request on, sends the answer.

use super::authority::{Answer, Call, Ticket};
use super::fault::Fault;
use super::open::Opening;
use super::{Arrival, Conn, Key, Net, Relay, write};
use crate::buf::Pressure;
use crate::engine::upgrade::Request;
use crate::limits::{API_CALL_MAX, HEAD_LIMIT, OPENING_TIMEOUT};
use crate::role::{ConnId, Peer};

/// A connection that calls the API.
#[derive(Debug)]
pub(super) struct Calling {
    peer: Peer,
    request: Request,
    stage: Stage,
    keep_alive: bool,
    /// What came behind the request.
    rest: Vec<u8>,
}

#[derive(Debug)]
enum Stage {
    /// The body has this length and is not all here.
    Collecting(usize),
    /// The authority is at work.
    Asked,
    /// The answer goes out.
    Answering {
        /// Head and body.
        bytes: Vec<u8>,
        /// How much of it is queued.
        sent: usize,
    },
}

impl Relay {
    pub(super) fn on_call(&mut self, arrival: Arrival, net: &mut dyn Net) {
        let conn = arrival.conn;
        let len = match body_len(&arrival.request) {
            Ok(len) => len,
            Err(fault) => return self.dismiss(conn, &fault.for_http(&arrival.tracking), net),
        };
        let fields = &arrival.request.fields;
        if fields.has("Expect", "100-continue") && arrival.rest.is_empty() {
            write(net, conn, b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        let keep_alive = !arrival.request.is_http10 && !fields.has("Connection", "close");
        let calling = Calling {
            peer: arrival.peer,
            request: arrival.request,
            stage: Stage::Collecting(len),
            keep_alive,
            rest: arrival.rest,
        };
        self.conns.insert(conn, Conn::Calling(Box::new(calling)));
        self.timers.set(Key::Head(conn), net.now() + OPENING_TIMEOUT);
        self.on_call_data(conn, &[], net);
    }

    pub(super) fn on_call_data(&mut self, conn: ConnId, data: &[u8], net: &mut dyn Net) {
        let Some(Conn::Calling(calling)) = self.conns.get_mut(&conn) else { return };
        calling.rest.extend_from_slice(data);
        let Stage::Collecting(len) = calling.stage else {
            if calling.rest.len() > HEAD_LIMIT {
                net.pause(conn);
            }
            return;
        };
        if calling.rest.len() < len {
            return;
        }
        let rest = calling.rest.split_off(len);
        let body = std::mem::replace(&mut calling.rest, rest);
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
        let bytes = encode(answer, is_head, calling.keep_alive);
        calling.stage = Stage::Answering { bytes, sent: 0 };
        self.on_call_drained(conn, net);
    }

    /// Sends as much of the answer as there is room for.
    pub(super) fn on_call_drained(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(Conn::Calling(calling)) = self.conns.get_mut(&conn) else { return };
        let Stage::Answering { bytes, sent } = &mut calling.stage else { return };
        while *sent < bytes.len() && net.pressure(conn) == Pressure::Open {
            let Some(mut lease) = net.lease() else { break };
            *sent += lease.fill(bytes.get(*sent..).unwrap_or_default());
            let _ = net.send(conn, lease.freeze());
        }
        let is_done = *sent == bytes.len();
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
        let opening = Opening::again(calling.peer, Vec::new());
        self.conns.insert(conn, Conn::Opening(opening));
        net.resume(conn);
        self.on_head_data(conn, &rest, net);
    }
}

fn body_len(request: &Request) -> Result<usize, Fault> {
    if request.fields.get("Transfer-Encoding").is_some() {
        return Err(Fault::new(411, "The body must come with a Content-Length"));
    }
    let mut lengths = request.fields.elements("Content-Length");
    let Some(len) = lengths.next() else { return Ok(0) };
    let is_number = !len.is_empty() && len.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || lengths.any(|other| other != len) {
        return Err(Fault::new(400, "The Content-Length is malformed"));
    }
    let len = len.parse().ok().filter(|&len| len <= API_CALL_MAX);
    len.ok_or_else(|| Fault::new(413, "The body is too large"))
}

fn encode(answer: &Answer, is_head: bool, keep_alive: bool) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} {}\r\n", answer.status, phrase(answer.status));
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
    let mut bytes = head.into_bytes();
    if !is_head && answer.status != 204 {
        bytes.extend_from_slice(&answer.body);
    }
    bytes
}

const fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

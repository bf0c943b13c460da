//! Requests as they come in: what each one wants, and the checks in the order that callers expect.

use super::authority::{Entity, Grant, Request as Question, Right};
use super::fault::{Fault, Tracking};
use super::storm::{Verdict, pair};
use super::target::Target;
use super::{Conn, Key, Net, Relay, connect, random_u128};
use crate::auth::network::site;
use crate::engine::upgrade::{Malformed, Request, Upgrade};
use crate::role::{ConnId, Peer};
use crate::wire::h1::Scan;

/// A connection whose head is being read.
#[derive(Debug)]
pub(super) struct Opening {
    peer: Peer,
    buffer: Vec<u8>,
    scan: Scan,
    /// What is in the buffer has to wait.
    is_held: bool,
}

/// A request, read and taken apart.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) conn: ConnId,
    pub(super) peer: Peer,
    pub(super) request: Request,
    pub(super) target: Target,
    pub(super) tracking: Tracking,
    /// What the peer has sent behind the head.
    pub(super) rest: Vec<u8>,
}

impl Opening {
    pub(super) fn new(peer: Peer) -> Self {
        Self { peer, buffer: Vec::new(), scan: Scan::default(), is_held: false }
    }

    /// Keeps what has come already, without looking at it yet.
    pub(super) fn hold(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
        self.is_held = true;
    }

    /// Whether something had to wait, which it need not any more.
    pub(super) fn let_go(&mut self) -> bool {
        std::mem::take(&mut self.is_held)
    }
}

impl Relay {
    pub(super) fn on_head_data(&mut self, conn: ConnId, data: &[u8], net: &mut dyn Net) {
        let Some(Conn::Opening(opening)) = self.conns.get_mut(&conn) else { return };
        opening.buffer.extend_from_slice(data);
        match Request::parse(&opening.buffer, &mut opening.scan) {
            Ok(None) => (),
            Ok(Some((request, len))) => {
                let rest = opening.buffer.split_off(len);
                let peer = opening.peer;
                self.timers.cancel(Key::Head(conn));
                self.on_head(conn, peer, request, rest, net);
            }
            Err(why) => {
                let status = if why == Malformed::TooLarge { 431 } else { 400 };
                let tracking = self.tracking(&Request::default(), &Target::default(), net);
                let fault = Fault::new(status, &format!("The request cannot be read: {why}"));
                self.dismiss(conn, &fault.for_http(&tracking), net);
            }
        }
    }

    fn on_head(
        &mut self,
        conn: ConnId,
        peer: Peer,
        request: Request,
        rest: Vec<u8>,
        net: &mut dyn Net,
    ) {
        let Some(target) = Target::parse(&request.target) else {
            let tracking = self.tracking(&request, &Target::default(), net);
            let fault = Fault::new(400, "The request target is not a plain path");
            return self.dismiss(conn, &fault.for_http(&tracking), net);
        };
        let tracking = self.tracking(&request, &target, net);
        let arrival = Arrival { conn, peer, request, target, tracking, rest };
        if arrival.target.is_reserved() {
            return self.on_call(arrival, net);
        }
        if !self.authority.is_ready() || self.is_stopping {
            let fault = Fault::new(503, "The relay is starting or stopping");
            return self.dismiss(conn, &arrival.error(&fault), net);
        }
        if !self.authority.admits(peer) {
            return self.shut_out(&arrival, net);
        }
        if arrival.asks_for_description() {
            return self.describe(&arrival, net);
        }
        if !arrival.target.is_hc {
            return self.on_http_sender(arrival, net);
        }
        if let Err(fault) = self.on_websocket(arrival, net) {
            let (arrival, fault) = *fault;
            self.dismiss(arrival.conn, &fault.for_upgrade(&arrival.tracking), net);
        }
    }

    /// Nobody may come from there. That is said first, so a token is not even looked at.
    fn shut_out(&mut self, arrival: &Arrival, net: &mut dyn Net) {
        let fault = prevented();
        match arrival.action().as_str() {
            "listen" => return self.refuse_listen(arrival, &fault, net),
            "connect" => self.metrics.senders.failed(fault.status),
            _ => (),
        }
        self.dismiss(arrival.conn, &arrival.error(&fault), net);
    }

    fn on_websocket(
        &mut self,
        arrival: Arrival,
        net: &mut dyn Net,
    ) -> Result<(), Box<(Arrival, Fault)>> {
        let upgrade = match arrival.request.upgrade() {
            Ok(Some(upgrade)) => upgrade,
            Ok(None) => {
                let fault = Fault::new(400, "This endpoint is only for web-socket requests");
                return Err(Box::new((arrival, fault)));
            }
            Err(why) => return Err(Box::new((arrival, Fault::new(400, &why.to_string())))),
        };
        match arrival.action().as_str() {
            "listen" => self.on_listen(arrival, upgrade, net),
            "connect" => self.on_connect(arrival, upgrade, net),
            "accept" => self.on_accept(arrival, &upgrade, net),
            "request" => self.on_request(arrival, &upgrade, net),
            _ => {
                let fault = Fault::new(400, "The sb-hc-action is not one of this endpoint");
                return Err(Box::new((arrival, fault)));
            }
        }
        Ok(())
    }

    fn on_listen(&mut self, arrival: Arrival, upgrade: Upgrade, net: &mut dyn Net) {
        let admitted = self.admit(&arrival, Right::Listen, net);
        match admitted {
            Ok((entity, grant)) => self.listen(arrival, upgrade, entity, grant, net),
            Err(fault) => self.refuse_listen(&arrival, &fault, net),
        }
    }

    /// The checks that every caller of an entity goes through: token first, so that a stranger
    /// cannot ask which entities there are.
    pub(super) fn admit(
        &mut self,
        arrival: &Arrival,
        right: Right,
        net: &mut dyn Net,
    ) -> Result<(Entity, Grant), Fault> {
        let entity = self.authority.entity(&arrival.target.path);
        let is_open = right == Right::Send && entity.as_ref().is_some_and(|e| !e.needs_token);
        let grant = if is_open {
            let site = arrival.peer.address().map(site);
            let caller = site.map_or_else(|| "local".to_owned(), |site| format!("address {site}"));
            Grant { expires: u64::MAX, bearer: String::new(), caller }
        } else {
            let question = Question {
                right,
                host: without_port(&arrival.tracking.host),
                path: &arrival.target.path,
                token: arrival.token(),
            };
            self.authority.authorize(&question, net)?
        };
        let entity = entity.ok_or_else(|| Fault::new(404, "Endpoint does not exist"))?;
        Ok((entity, grant))
    }

    /// Answers a listen that fails, or holds the answer back: some listeners try again twice for
    /// every answer they get.
    pub(super) fn refuse_listen(&mut self, arrival: &Arrival, fault: &Fault, net: &mut dyn Net) {
        let conn = arrival.conn;
        self.metrics.listeners.failed(fault.status);
        let answer = fault.for_upgrade(&arrival.tracking);
        let pair = pair(arrival.peer, &arrival.target.path);
        let (verdict, pair) = self.storm.refuse(pair, conn, net.now());
        match verdict {
            Verdict::Answer => self.dismiss(conn, &answer, net),
            Verdict::Hold => {
                self.timers.cancel(Key::Crowded(conn));
                self.conns.insert(conn, Conn::Held(pair, answer));
            }
            Verdict::Drop => {
                self.forget(conn);
                net.abort(conn);
            }
        }
    }

    fn tracking(&self, request: &Request, target: &Target, net: &mut dyn Net) -> Tracking {
        // The end of a rendezvous id is a secret, and tracking ids end up in logs.
        let id = target.parameters.id.as_deref().map(connect::public_part);
        let id = id.filter(|id| is_sane_id(id));
        let id = id.map_or_else(|| uuid(random_u128(net)), str::to_owned);
        Tracking {
            id: format!("{id}_G{}", self.config.node),
            host: request.fields.get("Host").unwrap_or_default().to_owned(),
            path: target.path.clone(),
            unix_time: net.unix_time(),
        }
    }
}

impl Arrival {
    /// What it wants of a WebSocket, in lower case. Whoever does not say wants to connect, as do
    /// requests that want no WebSocket.
    fn action(&self) -> String {
        let said = self.target.parameters.action.as_deref().filter(|_| self.target.is_hc);
        said.unwrap_or("connect").to_ascii_lowercase()
    }

    /// The token, wherever the caller has put it.
    pub(super) fn token(&self) -> Option<&str> {
        let header = self.request.fields.get("ServiceBusAuthorization");
        let query = self.target.parameters.token.as_deref();
        let [first, second] = if self.target.is_hc { [header, query] } else { [query, header] };
        let own = first.or(second);
        let general = || self.request.fields.get("Authorization").filter(|_| !self.target.is_hc);
        own.or_else(general)
    }

    /// `Authorization` is the token that counts, so it is not the listener's.
    pub(super) fn uses_authorization(&self) -> bool {
        let has_own = self.request.fields.get("ServiceBusAuthorization").is_some()
            || self.target.parameters.token.is_some();
        !has_own && !self.target.is_hc
    }

    /// `fault` in the form that this caller reads.
    fn error(&self, fault: &Fault) -> Vec<u8> {
        if self.target.is_hc {
            fault.for_upgrade(&self.tracking)
        } else {
            fault.for_http(&self.tracking)
        }
    }
}

/// The network rules do not admit the address.
pub(super) fn prevented() -> Fault {
    Fault::new(401, "Generic: Ip has been prevented to connect to the endpoint")
}

/// A client may choose an id, within reason.
pub(super) fn is_sane_id(id: &str) -> bool {
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    (1..=64).contains(&id.len()) && id.bytes().all(sane)
}

pub(super) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    }
}

fn uuid(random: u128) -> String {
    let hex = format!("{random:032x}");
    let (a, b, c) = (&hex[..8], &hex[8..12], &hex[12..16]);
    format!("{a}-{b}-{c}-{}-{}", &hex[16..20], &hex[20..])
}

//! The listener for operators: health, metrics, and the sessions that are live, which it can cut.
//! Plain HTTP/1.1, one request for each connection, no callers' traffic.
//!
//! Who reaches it over a loopback address or a Unix socket may see and cut sessions. Where the
//! configuration lets it listen elsewhere, others get health and metrics only.

use std::net::IpAddr;

use log::{info, warn};
use serde_json::{Value, json};

use super::admit::uuid;
use super::session::Session;
use super::{AuthProxy, Key, audit};
use crate::limits::{ADMIN_CONNS, ADMIN_TIMEOUT};
use crate::role::{ConnId, Net, Peer};
use crate::wire::h1::{Framing, RequestHead, ResponseHead, Scan};
use crate::wire::mux::StreamId;
use crate::wire::percent;

/// One connection of an operator or a probe.
#[derive(Debug)]
pub(super) struct Visitor {
    inbox: Vec<u8>,
    scan: Scan,
    peer: Peer,
}

/// Status, media type and body.
type Answer = (u16, &'static str, Vec<u8>);

impl AuthProxy {
    pub(super) fn on_visitor(&mut self, conn: ConnId, peer: Peer, net: &mut dyn Net) {
        if ADMIN_CONNS <= self.visitors.len() {
            net.abort(conn);
            return;
        }
        let visitor = Visitor { inbox: Vec::new(), scan: Scan::default(), peer };
        self.visitors.insert(conn, Box::new(visitor));
        self.timers.set(Key::Visitor(conn), net.now() + ADMIN_TIMEOUT);
    }

    pub(super) fn on_visitor_data(&mut self, conn: ConnId, data: &[u8], net: &mut dyn Net) {
        let Some(visitor) = self.visitors.get_mut(&conn) else { return };
        visitor.inbox.extend_from_slice(data);
        let (status, media, body) = match RequestHead::read(&visitor.inbox, &mut visitor.scan) {
            Ok(None) => return,
            Ok(Some((head, _))) => {
                let peer = visitor.peer;
                self.visit(&head, peer, net)
            }
            Err(why) => text(why.status(), &why.to_string()),
        };
        let mut head = ResponseHead::new(status, body.len() as u64);
        for (name, value) in [("Content-Type", media), ("Cache-Control", "no-store")] {
            // Constants obey the grammar.
            let _ = head.fields.push(name, value);
        }
        let mut bytes = Vec::new();
        if head.write(Framing::Length(body.len() as u64), false, &mut bytes).is_ok() {
            bytes.extend_from_slice(&body);
        }
        let pool = net.pool().clone();
        for slice in pool.slices(&bytes) {
            // One answer, bounded by what is live.
            let _ = net.send(conn, slice);
        }
        self.visitors.remove(&conn);
        self.timers.cancel(Key::Visitor(conn));
        net.close(conn);
    }

    fn visit(&mut self, head: &RequestHead, peer: Peer, net: &mut dyn Net) -> Answer {
        if !matches!(head.framing(), Framing::None | Framing::Length(0)) {
            return text(400, "a body is not expected");
        }
        match (head.method(), head.path()) {
            ("GET", "/healthz" | "/livez") => text(200, "ok"),
            ("GET", "/readyz") if self.is_fit() => text(200, "ok"),
            ("GET", "/readyz") => text(503, "no keys or no own credential yet, or stopping"),
            ("GET", "/metrics") => {
                let page = self.metrics_page(net.unix_time());
                (200, "text/plain; version=0.0.4", page.into_bytes())
            }
            ("GET" | "DELETE", path) if path == "/sessions" || path.starts_with("/sessions/") => {
                let near = match peer {
                    Peer::Local => true,
                    Peer::Tcp(address) => address.ip().to_canonical().is_loopback(),
                };
                if near && is_no_page(head, peer) {
                    self.sessions_asked(head, net)
                } else {
                    text(403, "sessions are for callers on this machine")
                }
            }
            ("GET" | "DELETE", _) => text(404, "there is nothing here"),
            (_, _) => text(405, "GET or DELETE"),
        }
    }

    /// Keys and credential are there, and new requests are welcome.
    fn is_fit(&self) -> bool {
        !self.is_stopping && self.keys.is_ready() && self.credential.is_usable()
    }

    fn sessions_asked(&mut self, head: &RequestHead, net: &mut dyn Net) -> Answer {
        match (head.method(), head.path().strip_prefix("/sessions/"), head.query()) {
            ("GET", None, None) => json_answer(&self.session_list()),
            ("DELETE", Some(id), None) => self.cut_id(id, net),
            ("DELETE", None, Some(query)) => match query.strip_prefix("user=").map(percent::decode)
            {
                Some(Some(user)) if !user.is_empty() => self.cut_user(&user, net),
                Some(_) | None => text(400, "DELETE /sessions?user=NAME"),
            },
            (_, _, _) => text(400, "GET /sessions, DELETE /sessions/ID or /sessions?user=NAME"),
        }
    }

    fn session_list(&self) -> Value {
        let sessions = self.sessions.iter().map(|(conn, session)| {
            let streams = session.streams.iter().filter_map(|(id, stream)| {
                let served = stream.served.as_ref()?;
                let admitted = &served.admitted;
                Some(json!({
                    "id": format!("{}.{}", conn.0, id.0),
                    "user": admitted.principal.user,
                    "actsAs": admitted.acts_as.as_ref().map(|other| &other.user),
                    "verb": admitted.info.verb,
                    "target": audit::clean_uri(&admitted.target),
                    "since": admitted.received / 1_000_000,
                    "auditID": admitted.audit_id,
                    "upgraded": stream.exchange.is_raw(),
                    "bytesReceived": stream.carried.0,
                    "bytesSent": stream.carried.1,
                }))
            });
            let measures = session.probe.as_ref().map(|probe| {
                json!({
                    "user": probe.admitted.principal.user,
                    "since": probe.admitted.received / 1_000_000,
                    "auditID": probe.admitted.audit_id,
                })
            });
            json!({
                "id": conn.0.to_string(),
                "measures": measures,
                "peer": audit::peer_text(session.peer),
                "since": session.since,
                "connections": session.streams.len(),
                "bytesReceived": session.carried.0,
                "bytesSent": session.carried.1,
                "requests": streams.collect::<Vec<_>>(),
            })
        });
        json!({ "sessions": sessions.collect::<Vec<_>>() })
    }

    /// `17` is a session, `17.3` what is in flight on one of its streams.
    fn cut_id(&mut self, id: &str, net: &mut dyn Net) -> Answer {
        let (session, stream) = match id.split_once('.') {
            Some((session, stream)) => (session.parse(), Some(stream.parse())),
            None => (id.parse(), None),
        };
        let known = |conn: &ConnId| self.sessions.contains_key(conn);
        let Some(conn) = session.ok().map(ConnId).filter(known) else {
            return text(404, "there is no such session");
        };
        match stream {
            None => {
                self.cut_session(conn, net);
                cut_answer(1)
            }
            Some(Ok(stream)) if self.serves(conn, StreamId(stream)).is_some() => {
                self.cut_stream(conn, StreamId(stream), net);
                cut_answer(1)
            }
            Some(_) => text(404, "there is no such request"),
        }
    }

    fn cut_user(&mut self, user: &str, net: &mut dyn Net) -> Answer {
        let mut found = Vec::new();
        let measuring = self.sessions.iter().filter(|(_, session)| measures(session) == Some(user));
        let measuring: Vec<ConnId> = measuring.map(|(&conn, _)| conn).collect();
        for &conn in &measuring {
            self.cut_session(conn, net);
        }
        for (&conn, session) in &self.sessions {
            for &id in session.streams.keys() {
                if self.serves(conn, id) == Some(user) {
                    found.push((conn, id));
                }
            }
        }
        for &(conn, id) in &found {
            self.cut_stream(conn, id, net);
        }
        cut_answer(found.len() + measuring.len())
    }

    /// Whose request is in flight on a stream.
    fn serves(&self, conn: ConnId, id: StreamId) -> Option<&str> {
        let served = self.sessions.get(&conn)?.streams.get(&id)?.served.as_ref()?;
        Some(&served.admitted.principal.user)
    }

    fn cut_stream(&mut self, conn: ConnId, id: StreamId, net: &mut dyn Net) {
        let user = self.serves(conn, id).unwrap_or_default().to_owned();
        self.note_cut(&format!("{}.{}", conn.0, id.0), &user, net);
        self.cut(conn, id, "cut by an operator", net);
    }

    fn cut_session(&mut self, conn: ConnId, net: &mut dyn Net) {
        let ids = self.sessions.get(&conn).map(|it| it.streams.keys().copied());
        let ids: Vec<StreamId> = ids.into_iter().flatten().collect();
        for id in ids {
            if self.serves(conn, id).is_some() {
                self.cut_stream(conn, id, net);
            }
        }
        let user =
            self.sessions.get(&conn).and_then(|it| measures(it)).unwrap_or_default().to_owned();
        self.note_cut(&conn.0.to_string(), &user, net);
        self.pump(conn, net);
        net.close(conn);
        self.on_session_gone(conn, net);
    }

    fn note_cut(&self, id: &str, user: &str, net: &mut dyn Net) {
        info!("session={id} cut by an operator");
        let line = audit::operator_cut(id, user, &uuid(net), net.unix_micros());
        if net.record(&line).is_err() {
            warn!("session={id} was cut, and that cannot be written to the audit log");
        }
    }
}

/// Who measures the tunnel on a session.
fn measures(session: &Session) -> Option<&str> {
    session.probe.as_ref().map(|probe| probe.admitted.principal.user.as_str())
}

/// A page in a browser on this machine must not reach the sessions either: it says where it is
/// from, or, where a name of its own was made to mean this machine, it calls us by that name.
fn is_no_page(head: &RequestHead, peer: Peer) -> bool {
    let host = head.fields.text("host").unwrap_or_default();
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_ours = name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok();
    (is_ours || peer == Peer::Local) && head.fields.first("origin").is_none()
}

fn text(status: u16, text: &str) -> Answer {
    (status, "text/plain; charset=utf-8", format!("{text}\n").into_bytes())
}

fn json_answer(value: &Value) -> Answer {
    (200, "application/json", format!("{value}\n").into_bytes())
}

fn cut_answer(count: usize) -> Answer {
    json_answer(&json!({ "cut": count }))
}

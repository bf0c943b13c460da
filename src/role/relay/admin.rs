//! The listener for operators: health and metrics. Plain HTTP/1.1, one request for each connection,
//! no callers' traffic.

use super::{Conn, Key, Net, Relay};
use crate::limits::{ADMIN_CONNS, ADMIN_TIMEOUT};
use crate::role::ConnId;
use crate::wire::h1::{Framing, RequestHead, ResponseHead, Scan};

/// One connection of an operator or a probe.
#[derive(Debug, Default)]
pub(super) struct Visitor {
    inbox: Vec<u8>,
    scan: Scan,
}

/// Status, media type and body.
type Answer = (u16, &'static str, String);

impl Relay {
    pub(super) fn on_visitor(&mut self, conn: ConnId, net: &mut dyn Net) {
        let visitors = self.conns.values().filter(|conn| matches!(conn, Conn::Visiting(_)));
        if ADMIN_CONNS <= visitors.count() {
            return net.abort(conn);
        }
        self.conns.insert(conn, Conn::Visiting(Visitor::default()));
        self.timers.set(Key::Head(conn), net.now() + ADMIN_TIMEOUT);
    }

    pub(super) fn on_visitor_data(&mut self, conn: ConnId, data: &[u8], net: &mut dyn Net) {
        let Some(Conn::Visiting(visitor)) = self.conns.get_mut(&conn) else { return };
        visitor.inbox.extend_from_slice(data);
        let (status, media, body) = match RequestHead::read(&visitor.inbox, &mut visitor.scan) {
            Ok(None) => return,
            Ok(Some((head, _))) => self.visit(&head),
            Err(why) => text(why.status(), &why.to_string()),
        };
        let mut head = ResponseHead::new(status, body.len() as u64);
        for (name, value) in [("Content-Type", media), ("Cache-Control", "no-store")] {
            // Constants obey the grammar.
            let _ = head.fields.push(name, value);
        }
        let mut bytes = Vec::new();
        if head.write(Framing::Length(body.len() as u64), false, &mut bytes).is_ok() {
            bytes.extend_from_slice(body.as_bytes());
        }
        self.dismiss(conn, &bytes, net);
    }

    fn visit(&self, head: &RequestHead) -> Answer {
        if !matches!(head.framing(), Framing::None | Framing::Length(0)) {
            return text(400, "a body is not expected");
        }
        match (head.method(), head.path()) {
            ("GET", "/healthz" | "/livez") => text(200, "ok"),
            ("GET", "/readyz") if self.is_ready && !self.is_stopping => text(200, "ok"),
            ("GET", "/readyz") => text(503, "starting or stopping"),
            ("GET", "/metrics") => (200, "text/plain; version=0.0.4", self.metrics_page()),
            ("GET", _) => text(404, "there is nothing here"),
            (_, _) => text(405, "GET"),
        }
    }
}

fn text(status: u16, text: &str) -> Answer {
    (status, "text/plain; charset=utf-8", format!("{text}\n"))
}

//! Counters, and their text for Prometheus. They bear the names that Azure Relay's metrics have,
//! and no label that comes from a request.

use std::fmt::Write as _;

use super::{Conn, Relay};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    /// Control channels.
    pub(super) listeners: Outcomes,
    /// Relayed WebSockets and HTTP requests.
    pub(super) senders: Outcomes,
    /// Control channels that have ended.
    pub(super) listener_disconnects: u64,
    /// Relayed WebSockets that have ended.
    pub(super) sender_disconnects: u64,
    /// What was relayed, in both directions.
    pub(super) bytes: u64,
}

/// How attempts went.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    success: u64,
    client_error: u64,
    server_error: u64,
}

impl Outcomes {
    pub(super) const fn succeeded(&mut self) {
        self.success += 1;
    }

    /// Refused with this status.
    pub(super) const fn failed(&mut self, status: u16) {
        match status {
            500.. => self.server_error += 1,
            _ => self.client_error += 1,
        }
    }
}

impl Metrics {
    pub(super) const fn carried(&mut self, len: usize) {
        self.bytes = self.bytes.saturating_add(len as u64);
    }
}

impl Relay {
    /// The page that Prometheus reads.
    pub(super) fn metrics_page(&self) -> String {
        let mut text = String::new();
        let page = &mut Page(&mut text);
        let all = [("listener", &self.metrics.listeners), ("sender", &self.metrics.senders)];
        for (kind, outcomes) in all {
            let name = format!("{kind}_connections_total");
            page.kind(&name, "counter");
            let counts = [
                ("success", outcomes.success),
                ("client_error", outcomes.client_error),
                ("server_error", outcomes.server_error),
            ];
            for (result, count) in counts {
                page.value(&name, &format!("{{result=\"{result}\"}}"), count);
            }
        }
        for (name, count) in [
            ("listener_disconnects_total", self.metrics.listener_disconnects),
            ("sender_disconnects_total", self.metrics.sender_disconnects),
            ("bytes_transferred_total", self.metrics.bytes),
        ] {
            page.kind(name, "counter");
            page.value(name, "", count);
        }
        let is_active = |conn: &&Conn| {
            matches!(conn, Conn::Asking(_)) || matches!(conn, Conn::Leg(leg) if leg.is_sender)
        };
        let listeners: usize = self.listeners.values().map(Vec::len).sum();
        for (name, count) in [
            ("active_listeners", listeners),
            ("active_connections", self.conns.values().filter(is_active).count()),
            ("pending_rendezvous", self.meetings.len()),
            ("sockets", self.conns.len()),
        ] {
            page.kind(name, "gauge");
            page.value(name, "", count as u64);
        }
        page.kind("build_info", "gauge");
        page.value("build_info", concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1);
        text
    }
}

struct Page<'a>(&'a mut String);

impl Page<'_> {
    fn kind(&mut self, name: &str, kind: &str) {
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "# TYPE relay_{name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &str, value: u64) {
        let _ = writeln!(self.0, "relay_{name}{labels} {value}");
    }
}

//! Counters, and their text for Prometheus. They bear the names that Azure Relay's metrics have,
//! where it has them, and no label that comes from a request.

use std::fmt::Write as _;

use super::seats::Full;
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
    /// Senders that were one too many, of a hybrid connection and of a caller. They are among the
    /// client's errors of [`Self::senders`], too: here an operator sees that a limit is too low.
    over_quota: [u64; 2],
    /// What was relayed of HTTP requests, in both directions.
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
    /// A sender got no seat.
    pub(super) const fn over_quota(&mut self, full: Full) {
        match full {
            Full::Entity(_) => self.over_quota[0] += 1,
            Full::Caller(_) => self.over_quota[1] += 1,
        }
    }

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
        page.kind("senders_over_quota_total", "counter");
        for (limit, count) in ["endpoint", "caller"].iter().zip(self.metrics.over_quota) {
            page.value("senders_over_quota_total", &format!("{{limit=\"{limit}\"}}"), count);
        }
        let pumps = [self.pump.tally()].into_iter().chain(self.loops.tallies());
        let (mut bytes, mut ended, mut sockets) = (self.metrics.bytes, 0, self.conns.len());
        for tally in pumps {
            bytes = bytes.saturating_add(tally.bytes);
            ended += tally.ended;
            sockets += tally.sockets;
        }
        for (name, count) in [
            ("listener_disconnects_total", self.metrics.listener_disconnects),
            ("sender_disconnects_total", ended),
            ("bytes_transferred_total", bytes),
        ] {
            page.kind(name, "counter");
            page.value(name, "", count);
        }
        let asking = self.conns.values().filter(|conn| matches!(conn, Conn::Asking(_))).count();
        let listeners: usize = self.listeners.values().map(Vec::len).sum();
        for (name, count) in [
            ("active_listeners", listeners as u64),
            ("active_connections", asking as u64 + self.pump.pairs() + self.loops.pairs()),
            ("pending_rendezvous", self.meetings.len() as u64),
            ("sockets", sockets as u64),
        ] {
            page.kind(name, "gauge");
            page.value(name, "", count);
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

//! Connections to the API server that are up before there is a request for them, so that a request
//! need not wait for TCP and TLS.
//!
//! Each has carried nothing, is taken once by one stream, and never comes back. They are made when
//! somebody is about to ask on whose session a request was let through before: at the start of a
//! stream, and when one was taken. Strangers make none, and an API server that is down is left alone
//! for longer and longer.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{AuthProxy, Key};
use crate::engine::backoff::Backoff;
use crate::limits::{SPARE_AGAIN, SPARE_LIFE};
use crate::role::{ConnId, Net, random_u64};

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Spares {
    /// Whether each is up.
    all: BTreeMap<ConnId, bool>,
    backoff: Backoff,
    /// One could not be made: none before this.
    quiet_until: Option<Instant>,
}

impl Spares {
    pub(super) const fn new() -> Self {
        let backoff = Backoff::new(SPARE_AGAIN.0, SPARE_AGAIN.1);
        Self { all: BTreeMap::new(), backoff, quiet_until: None }
    }

    pub(super) fn on_connected(&mut self, conn: ConnId) {
        if let Some(is_up) = self.all.get_mut(&conn) {
            *is_up = true;
            self.on_reached();
        }
    }

    /// The API server takes connections.
    pub(super) const fn on_reached(&mut self) {
        self.backoff.succeeded();
        self.quiet_until = None;
    }

    /// One that was on its way has ended.
    fn on_unreached(&mut self, now: Instant, random: u64) {
        self.quiet_until = Some(now + self.backoff.failed(random));
    }

    /// One that is up, or else the one that was begun first: it is ahead of a new one.
    fn next(&self) -> Option<(ConnId, bool)> {
        let up = self.all.iter().find(|(_, is_up)| **is_up);
        up.or_else(|| self.all.first_key_value()).map(|(conn, is_up)| (*conn, *is_up))
    }
}

impl AuthProxy {
    /// Makes as many as there should be for the session `of`. One that fails is made again when it
    /// is wanted next.
    pub(super) fn warm(&mut self, of: ConnId, net: &mut dyn Net) {
        let is_known = self.sessions.get(&of).is_some_and(|session| session.is_known);
        let is_quiet = self.spares.quiet_until.is_some_and(|until| net.now() < until);
        let is_of_use = is_known && !is_quiet && !self.is_stopping && self.credential.is_usable();
        while is_of_use && self.spares.all.len() < self.config.spares {
            let Some(conn) = net.connect(&self.config.upstream.endpoint) else { return };
            self.spares.all.insert(conn, false);
            self.timers.set(Key::Spare(conn), net.now() + SPARE_LIFE);
        }
    }

    /// Takes one for a stream, and says whether it is up.
    pub(super) fn take_spare(&mut self) -> Option<(ConnId, bool)> {
        let (conn, is_up) = self.spares.next()?;
        self.spares.all.remove(&conn);
        self.timers.cancel(Key::Spare(conn));
        Some((conn, is_up))
    }

    /// One has said something unasked, has ended, or has waited too long.
    pub(super) fn drop_spare(&mut self, conn: ConnId, net: &mut dyn Net) {
        if let Some(was_up) = self.spares.all.remove(&conn) {
            self.timers.cancel(Key::Spare(conn));
            net.abort(conn);
            if !was_up && !self.is_stopping {
                let random = random_u64(net);
                self.spares.on_unreached(net.now(), random);
            }
        }
    }

    pub(super) fn drop_spares(&mut self, net: &mut dyn Net) {
        while let Some((conn, _)) = self.spares.next() {
            self.drop_spare(conn, net);
        }
    }
}

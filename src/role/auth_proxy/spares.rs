//! Connections to the API server that are up before there is a request for them, so that a request
//! need not wait for TCP and TLS.
//!
//! Each has carried nothing, is taken once by one stream, and never comes back. They are made when
//! somebody is about to ask: at the start of a session or a stream, and when one was taken.

use std::collections::BTreeMap;

use super::{AuthProxy, Key};
use crate::limits::SPARE_LIFE;
use crate::role::{ConnId, Net};

/// See the module's documentation. Whether each is up.
#[derive(Debug, Default)]
pub(super) struct Spares(BTreeMap<ConnId, bool>);

impl Spares {
    pub(super) fn on_connected(&mut self, conn: ConnId) {
        if let Some(is_up) = self.0.get_mut(&conn) {
            *is_up = true;
        }
    }

    /// One that is up, or else the one that was begun first: it is ahead of a new one.
    fn next(&self) -> Option<(ConnId, bool)> {
        let up = self.0.iter().find(|(_, is_up)| **is_up);
        up.or_else(|| self.0.first_key_value()).map(|(conn, is_up)| (*conn, *is_up))
    }
}

impl AuthProxy {
    /// Makes as many as there should be. One that fails is made again when it is wanted next.
    pub(super) fn warm(&mut self, net: &mut dyn Net) {
        let is_of_use = !self.is_stopping && self.credential.is_usable();
        while is_of_use && self.spares.0.len() < self.config.spares {
            let Some(conn) = net.connect(&self.config.upstream.endpoint) else { return };
            self.spares.0.insert(conn, false);
            self.timers.set(Key::Spare(conn), net.now() + SPARE_LIFE);
        }
    }

    /// Takes one for a stream, and says whether it is up.
    pub(super) fn take_spare(&mut self) -> Option<(ConnId, bool)> {
        let (conn, is_up) = self.spares.next()?;
        self.spares.0.remove(&conn);
        self.timers.cancel(Key::Spare(conn));
        Some((conn, is_up))
    }

    /// One has said something unasked, has ended, or has waited too long.
    pub(super) fn drop_spare(&mut self, conn: ConnId, net: &mut dyn Net) {
        if self.spares.0.remove(&conn).is_some() {
            self.timers.cancel(Key::Spare(conn));
            net.abort(conn);
        }
    }

    pub(super) fn drop_spares(&mut self, net: &mut dyn Net) {
        while let Some((conn, _)) = self.spares.next() {
            self.drop_spare(conn, net);
        }
    }
}

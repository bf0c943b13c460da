//! A second session beside a crowded one. Windows keep what waits on a line short, but not on one
//! that loses packets: everything on a connection waits for the packet that is sent again. What
//! comes while much is received has a rendezvous of its own then.

use std::time::Instant;

use log::debug;

use super::{ClientProxy, Cluster};
use crate::limits::{RELIEF_PAUSE, SESSIONS_OF_CLUSTER};
use crate::role::{ConnId, Net};

impl Cluster {
    /// `conn` takes no new streams of it any more.
    pub(super) fn leave(&mut self, conn: ConnId) {
        for place in [&mut self.session, &mut self.relief] {
            place.take_if(|it| *it == conn);
        }
    }
}

impl ClientProxy {
    /// A session is up: where it was to be the second and there is no first, it is the first. Says
    /// whether it is the one that takes what waits.
    pub(super) fn takes_waiting(&mut self, conn: ConnId, id: &str) -> bool {
        let Some(cluster) = self.clusters.get_mut(id) else { return false };
        if cluster.session.is_none() && cluster.relief == Some(conn) {
            (cluster.session, cluster.relief) = (Some(conn), None);
        }
        cluster.session == Some(conn)
    }

    /// The session that a new stream belongs on: the one beside it, if that is up and this one is
    /// crowded. Until somebody comes the crowded one may have recovered.
    pub(super) fn session_for(&mut self, id: &str, net: &mut dyn Net) -> Option<ConnId> {
        let (cluster, now) = (self.clusters.get(id)?, net.now());
        let (session, relief) = (cluster.session?, cluster.relief);
        let is_up =
            |conn: &ConnId| self.sessions.get(conn).is_some_and(|it| it.tunnel.is_established());
        let relief = relief.filter(is_up).filter(|_| self.is_crowded(session, now));
        let Some(relief) = relief else { return Some(session) };
        let cluster = self.clusters.get_mut(id)?;
        (cluster.session, cluster.relief) = (Some(relief), None);
        // Nobody refused it, and what is crowded now is another one.
        cluster.relief_due = None;
        // It may have nothing left to go on with.
        self.pump_session(session, net);
        Some(relief)
    }

    fn is_crowded(&self, conn: ConnId, now: Instant) -> bool {
        self.sessions.get(&conn).is_some_and(|session| session.tunnel.is_crowded(now))
    }

    /// Starts a session beside a crowded one, which goes on with what it has.
    pub(super) fn relieve(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(session) = self.sessions.get(&conn) else { return };
        let now = net.now();
        let wants = |cluster: &Cluster| {
            cluster.session == Some(conn) && cluster.relief_due.is_none_or(|due| due <= now)
        };
        if !self.clusters.get(&session.cluster).is_some_and(wants) {
            return;
        }
        let id = session.cluster.clone();
        let count = self.sessions.values().filter(|session| session.cluster == id).count();
        if SESSIONS_OF_CLUSTER <= count || !self.has_credential(&id, now) {
            return;
        }
        if let Some(cluster) = self.clusters.get_mut(&id) {
            cluster.relief_due = Some(now + RELIEF_PAUSE);
        }
        match self.start_session(&id, net) {
            Ok(conn) => {
                debug!("conn={} starts beside a crowded session", conn.0);
                if let Some(cluster) = self.clusters.get_mut(&id) {
                    cluster.relief = Some(conn);
                }
            }
            Err(why) => debug!("no session beside a crowded one: {why}"),
        }
    }
}

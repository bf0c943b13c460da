//! A second session beside one that is crowded, or may come to be. Windows keep what waits on a line
//! short, but not on one that loses packets: everything on a connection waits for the packet that is
//! sent again. What comes while much is received has a rendezvous of its own then. Streams cannot
//! move, and who types is there before the download begins as often as after: so where the way is
//! long, whoever stays has a second session beside his own before anybody knows what the line loses,
//! and who comes goes where fewer are.

use std::time::Instant;

use log::debug;

use super::session::Session;
use super::{ClientProxy, Cluster, Key, random_u64};
use crate::limits::{RELIEF_AGE, RELIEF_KEPT, RELIEF_WAY, SESSIONS_OF_CLUSTER};
use crate::role::{ConnId, Net};

impl Cluster {
    /// `conn` takes new streams, or will once it is up.
    pub(super) fn has(&self, conn: ConnId) -> bool {
        [self.session, self.relief].contains(&Some(conn))
    }

    /// One session has been enough for long.
    fn is_calm(&self, now: Instant) -> bool {
        self.relief_wanted.is_none_or(|at| at + RELIEF_KEPT <= now)
    }
}

impl Session {
    /// The way is long enough for what is sent again to be noticed. One that has not been measured may
    /// be.
    pub(super) fn is_far(&self) -> bool {
        self.tunnel.way().is_none_or(|way| RELIEF_WAY <= way)
    }
}

impl ClientProxy {
    /// `conn` takes no new streams of a cluster any more; the one beside it does, if that is up.
    pub(super) fn leave(&mut self, conn: ConnId, id: &str) {
        let relief = self.clusters.get(id).and_then(|cluster| cluster.relief);
        let relief = relief.filter(|relief| *relief != conn);
        let is_up = relief.is_some_and(|relief| self.is_up(relief));
        let Some(cluster) = self.clusters.get_mut(id) else { return };
        cluster.relief = relief;
        if cluster.session == Some(conn) {
            cluster.session = cluster.relief.take_if(|_| is_up);
        }
    }

    /// A session is up: where it was to be the second and the first is not, it is the first. Says
    /// whether it is the one that takes what waits.
    pub(super) fn takes_waiting(&mut self, conn: ConnId, id: &str) -> bool {
        let first = self.clusters.get(id).and_then(|cluster| cluster.session);
        let has_first = first.is_some_and(|first| self.is_up(first));
        let Some(cluster) = self.clusters.get_mut(id) else { return false };
        if !has_first && cluster.relief == Some(conn) {
            (cluster.session, cluster.relief) = (Some(conn), cluster.session);
        }
        let is_first = cluster.session == Some(conn);
        if is_first {
            // The line may be another one, and what was refused on the last may be had on it.
            cluster.relief_due = None;
        }
        is_first
    }

    fn is_up(&self, conn: ConnId) -> bool {
        self.sessions.get(&conn).is_some_and(|session| session.tunnel.is_established())
    }

    /// The sessions that a new stream may have, the best one first: one that answers, one that is not
    /// crowded, the one with fewer streams; but the one with more when one has been enough for long,
    /// so that the other comes to its end. One without streams crowds nobody any more.
    pub(super) fn sessions_for(&self, id: &str, now: Instant) -> [Option<ConnId>; 2] {
        let Some(cluster) = self.clusters.get(id) else { return [None; 2] };
        let cost = |conn: ConnId| {
            let session = self.sessions.get(&conn).filter(|it| it.tunnel.is_established())?;
            let (tunnel, streams) = (&session.tunnel, session.streams.len());
            let order = if cluster.is_calm(now) { usize::MAX - streams } else { streams };
            Some((tunnel.is_overdue(now), 0 < streams && tunnel.is_crowded(now), order))
        };
        let (first, other) = (cluster.session, cluster.relief);
        match (first.and_then(cost), other.and_then(cost)) {
            (_, None) => [first, None],
            (of_first, of_other) if of_other < of_first => [other, first],
            _ => [first, other],
        }
    }

    /// Whoever stays on `conn` is to have a second session beside it, if the way is long. Looked at
    /// until somebody does, and with every sign of life.
    pub(super) fn look_who_stays(&mut self, conn: ConnId, net: &mut dyn Net) {
        let now = net.now();
        let Some(session) = self.sessions.get_mut(&conn).filter(|it| it.is_far()) else { return };
        let before = session.oldest;
        session.oldest = session.streams.keys().next().map(|&id| match before {
            Some((same, since)) if same == id => (id, since),
            _ => (id, now),
        });
        match session.oldest {
            Some((_, since)) if since + RELIEF_AGE <= now => self.relieve(conn, net),
            Some((_, since)) => self.timers.set(Key::Relief(conn), since + RELIEF_AGE),
            None => (),
        }
    }

    /// `conn` has lasted. If it is a second session, the next one that is needed has no long wait.
    pub(super) fn note_second(&mut self, conn: ConnId) {
        let id = self.sessions.get(&conn).map(|session| &session.cluster);
        let cluster = id.and_then(|id| self.clusters.get_mut(id));
        if let Some(cluster) = cluster.filter(|it| it.relief == Some(conn)) {
            cluster.relief_pause.succeeded();
        }
    }

    /// Two sessions are better than `conn` alone, which goes on with what it has. Starts one beside it,
    /// unless there is one.
    pub(super) fn relieve(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(session) = self.sessions.get(&conn) else { return };
        let (id, now) = (&session.cluster, net.now());
        let Some(cluster) = self.clusters.get_mut(id).filter(|it| it.has(conn)) else { return };
        cluster.relief_wanted = Some(now);
        if cluster.relief.is_some() || cluster.relief_due.is_some_and(|due| now < due) {
            return;
        }
        let count = self.sessions.values().filter(|session| session.cluster == *id).count();
        if SESSIONS_OF_CLUSTER <= count || !self.has_credential(id, now) {
            return;
        }
        let id = id.clone();
        let started = self.start_session(&id, net);
        let Some(cluster) = self.clusters.get_mut(&id) else { return };
        cluster.relief_due = Some(now + cluster.relief_pause.failed(random_u64(net)));
        match started {
            Ok(conn) => {
                debug!("conn={} is to be a second session", conn.0);
                cluster.relief = Some(conn);
            }
            Err(why) => debug!("no second session: {why}"),
        }
    }

    /// One of two sessions takes no new streams any more if it has none and one has been enough for
    /// long.
    pub(super) fn thin_out(&mut self, conn: ConnId, now: Instant) {
        let Some(session) = self.sessions.get(&conn) else { return };
        let is_one_of_two = |it: &&Cluster| it.is_calm(now) && it.relief.is_some();
        let cluster = self.clusters.get(&session.cluster).map(Box::as_ref).filter(is_one_of_two);
        if cluster.is_some() && session.streams.is_empty() {
            let id = session.cluster.clone();
            self.leave(conn, &id);
        }
    }
}

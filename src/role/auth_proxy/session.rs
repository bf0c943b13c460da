//! One session and the movement of its bytes: between the rendezvous and the tunnel, and between
//! the tunnel's streams and their machines.

use std::collections::BTreeMap;
use std::sync::Arc;

use log::debug;
use rustls::ServerConfig;

use super::probe::Probe;
use super::stream::Stream;
use super::throttle::{Guesses, Throttle};
use super::{AuthProxy, Key};
use crate::buf::Pressure;
use crate::engine::mux::Event;
use crate::engine::tls::Fresh;
use crate::engine::tunnel::Tunnel;
use crate::limits::{STRANGER_LEAVES, STRANGER_SESSION};
use crate::role::{ConnId, Net, Peer};
use crate::wire::mux::StreamId;

/// One client proxy's session, which is one rendezvous.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) tunnel: Tunnel,
    pub(super) streams: BTreeMap<StreamId, Box<Stream>>,
    /// Requests in flight.
    pub(super) in_flight: usize,
    pub(super) peer: Peer,
    /// What its callers may still cost before they have proved anything.
    pub(super) throttle: Throttle,
    /// When it came, in unix seconds.
    pub(super) since: u64,
    /// Bytes that came over the rendezvous, and that went over it.
    pub(super) carried: (u64, u64),
    /// The handshake is done, and that was noticed.
    pub(super) was_established: bool,
    /// Somebody has opened a stream on it.
    pub(super) has_asked: bool,
    /// A request on it was let through.
    pub(super) is_known: bool,
    /// Its caller was asked to go.
    is_leaving: bool,
    /// Whoever is at the other end has shown that it may measure, and does.
    pub(super) probe: Option<Box<Probe>>,
}

impl Session {
    pub(super) fn accept(
        tls: Arc<ServerConfig>,
        guesses: Guesses,
        peer: Peer,
        net: &dyn Net,
    ) -> Result<Self, rustls::Error> {
        let (tunnel, streams) = (Tunnel::accept(tls)?, BTreeMap::new());
        let (throttle, since) = (Throttle::new(guesses, net.now()), net.unix_time());
        Ok(Self {
            tunnel,
            streams,
            in_flight: 0,
            peer,
            throttle,
            since,
            carried: (0, 0),
            was_established: false,
            has_asked: false,
            is_known: false,
            is_leaving: false,
            probe: None,
        })
    }

    /// Requests that wait for answers about their callers.
    pub(super) fn parked(&self) -> usize {
        self.streams.values().filter(|stream| stream.parked.is_some()).count()
    }

    /// No request is in flight and nothing is half read.
    pub(super) fn is_idle(&self) -> bool {
        self.streams.values().all(|stream| stream.exchange.is_idle())
    }

    /// It is up, and nobody has asked anything on it, nor measures.
    fn is_silent(&self) -> bool {
        self.was_established && !self.has_asked && self.tunnel.streams() == 0
    }
}

impl AuthProxy {
    /// Hands on what the tunnel has received, and sends what it has to send, until neither is left.
    pub(super) fn serve(&mut self, conn: ConnId, net: &mut dyn Net) {
        loop {
            let Some(session) = self.sessions.get_mut(&conn) else { return };
            let Some(event) = session.tunnel.poll_event() else { break };
            self.on_tunnel_event(conn, event, net);
        }
        self.pump(conn, net);
    }

    fn on_tunnel_event(&mut self, conn: ConnId, event: Event, net: &mut dyn Net) {
        let Some(event) = self.offer_to_probe(conn, event, net) else { return };
        match event {
            Event::Opened(id) => self.on_stream_opened(conn, id, net),
            Event::Data(id, data) => self.on_stream_data(conn, id, data, net),
            Event::Finished(id) => self.on_stream_finished(conn, id, net),
            Event::Writable(id) => self.on_stream_writable(conn, id, net),
            Event::Closed(id, _) => self.on_stream_closed(conn, id, net),
            Event::GoingAway | Event::Pong(_) | Event::Crowded => (),
        }
    }

    /// Gives the rendezvous as many records as it takes now, and takes note of what has changed
    /// for it.
    pub(super) fn pump(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let pool = net.pool().clone();
        while net.pressure(conn) == Pressure::Open {
            let mut records = Fresh::new(&pool, 0);
            session.tunnel.transmit(&mut records);
            let Some(records) = records.into_lease() else { break };
            session.carried.1 += records.len() as u64;
            // The loop asks before the next one.
            let _ = net.send(conn, records.freeze());
        }
        if session.tunnel.is_stalled() {
            net.pause(conn);
        } else {
            net.resume(conn);
        }
        if session.streams.is_empty() && session.tunnel.is_over() {
            net.close(conn);
            self.on_session_gone(conn, net);
        }
    }

    /// The rendezvous is gone, and every stream with it.
    pub(super) fn on_session_gone(&mut self, conn: ConnId, net: &mut dyn Net) {
        self.timers.cancel(Key::Handshake(conn));
        self.timers.cancel(Key::Probe(conn));
        self.timers.cancel(Key::ProbeEnd(conn));
        self.note_probe(conn, net);
        let Some(session) = self.sessions.get(&conn) else { return };
        let ids: Vec<StreamId> = session.streams.keys().copied().collect();
        for id in ids {
            self.on_stream_closed(conn, id, net);
        }
        self.sessions.remove(&conn);
    }

    /// Nothing was let through on a session for long enough. Its caller is asked to begin another
    /// one when it has something to ask, and has a moment to see to it that nobody notices.
    pub(super) fn on_stranger_due(&mut self, conn: ConnId, net: &mut dyn Net) {
        let has_room = self.sessions.len() <= self.config.sessions / 2;
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        if has_room && session.is_silent() {
            return self.timers.set(Key::Handshake(conn), net.now() + STRANGER_SESSION);
        }
        debug!("conn={} session without a request that was let through", conn.0);
        if session.was_established && !std::mem::replace(&mut session.is_leaving, true) {
            session.tunnel.go_away();
            self.timers.set(Key::Handshake(conn), net.now() + STRANGER_LEAVES);
            return self.pump(conn, net);
        }
        if session.is_leaving {
            net.close(conn);
        } else {
            net.abort(conn);
        }
        self.on_session_gone(conn, net);
    }

    /// Takes no new streams, and ends those that are idle.
    pub(super) fn close_when_idle(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        session.tunnel.go_away();
        let ids: Vec<StreamId> = session.streams.keys().copied().collect();
        for id in ids {
            self.with_stream(conn, id, net, |stream, now, out| {
                stream.exchange.close_when_idle(now, out);
            });
        }
        self.pump(conn, net);
    }
}

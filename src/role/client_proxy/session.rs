//! One session with a cluster: the rendezvous through the relay, and the tunnel inside it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use log::{debug, info};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::lost::Lost;
use super::{ClientProxy, Key, random_u64};
use crate::buf::{Lease, Pressure};
use crate::engine::mux::{Ended, Event};
use crate::engine::tls::Fresh;
use crate::engine::tlsconf::{self, Versions};
use crate::engine::tunnel::{ALPN_BENCH, ALPN_MUX, Tunnel};
use crate::engine::upgrade::{Dial, Handshake};
use crate::engine::ws::{self, Side, Splice, Step};
use crate::limits::{SESSION_OPENING, SESSION_PING, WS_HEAD};
use crate::role::frames::write;
use crate::role::{ConnId, Endpoint, Net, Tls};
use crate::wire::mux::StreamId;
use crate::wire::ws::Opcode;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) cluster: String,
    stage: Stage,
    frames: Splice,
    pub(super) tunnel: Tunnel,
    /// The local connection that each stream belongs to.
    pub(super) streams: BTreeMap<StreamId, ConnId>,
    /// The oldest of them when that was looked at last, and since when it is.
    pub(super) oldest: Option<(StreamId, Instant)>,
    steps: Vec<Step>,
}

/// How far a session is.
#[derive(Debug)]
pub(super) enum Stage {
    /// There is no connection yet.
    Connecting,
    /// The relay looks for a listener.
    Upgrading(Handshake),
    /// Bytes pass between the ends.
    Open,
}

impl ClientProxy {
    /// Starts a session with a cluster unless there is one, up or on its way.
    pub(super) fn want_session(&mut self, id: &str, net: &mut dyn Net) {
        let Some(cluster) = self.clusters.get(id) else { return };
        if cluster.session.is_some() {
            return;
        }
        if !self.has_credential(id, net.now()) {
            self.want_credential(id, net);
            return;
        }
        match self.start_session(id, net) {
            Ok(conn) => {
                if let Some(cluster) = self.clusters.get_mut(id) {
                    cluster.session = Some(conn);
                }
            }
            Err(why) => self.on_trouble(id, "CLUSTER_UNREACHABLE", &why, net),
        }
    }

    /// How TLS is spoken with a cluster, end to end. It is kept for as long as the cluster's CA is
    /// the same, and with it what makes the next session's handshake short.
    fn inner_tls(&mut self, id: &str) -> Result<Arc<ClientConfig>, String> {
        let cluster = self.clusters.get_mut(id).ok_or("no such cluster")?;
        let credential = cluster.credential.current.as_ref().ok_or("no credential")?;
        if let Some((of, tls)) = &cluster.inner
            && *of == credential.fingerprint
        {
            return Ok(Arc::clone(tls));
        }
        let roots = std::slice::from_ref(&credential.authority);
        let time = self.config.time.clone();
        let alpn = if self.config.measure.is_some() { ALPN_BENCH } else { ALPN_MUX };
        let tls = tlsconf::client(roots, None, &[alpn], Versions::Newest, time)
            .map_err(|why| why.to_string())?;
        cluster.inner = Some((credential.fingerprint, Arc::clone(&tls)));
        Ok(tls)
    }

    pub(super) fn start_session(&mut self, id: &str, net: &mut dyn Net) -> Result<ConnId, String> {
        let tls = self.inner_tls(id)?;
        let cluster = self.clusters.get(id).ok_or("no such cluster")?;
        let credential = cluster.credential.current.as_ref().ok_or("no credential")?;
        let name = ServerName::try_from(credential.server_name.clone())
            .map_err(|_| "the cluster's server name is none".to_owned())?;
        let tunnel = Tunnel::dial(tls, name).map_err(|why| why.to_string())?;
        let outer = ServerName::try_from(credential.host.clone())
            .map_err(|_| "the relay's name is none".to_owned())?;
        let secure = self.config.relay.tls;
        let to = Endpoint::Tcp {
            host: credential.host.clone(),
            port: credential.port,
            tls: secure.then(|| Tls { config: self.config.tls.clone(), name: outer }),
            via: self.config.egress.via(&credential.host),
        };
        let conn = net.connect(&to).ok_or("too many connections")?;
        let session = Session {
            cluster: id.to_owned(),
            stage: Stage::Connecting,
            frames: Splice::payload(Side::Client),
            tunnel,
            streams: BTreeMap::new(),
            oldest: None,
            steps: Vec::new(),
        };
        self.sessions.insert(conn, Box::new(session));
        self.timers.set(Key::Opening(conn), net.now() + SESSION_OPENING);
        Ok(conn)
    }

    pub(super) fn on_session_connected(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let cluster = self.clusters.get(&session.cluster);
        let Some(credential) = cluster.and_then(|it| it.credential.current.as_ref()) else {
            return;
        };
        let mut nonce = [0; 16];
        net.random(&mut nonce);
        let standard = credential.port == 443;
        let host = match (standard, &credential.host) {
            (true, host) => host.clone(),
            (false, host) => format!("{host}:{}", credential.port),
        };
        let id = ws_id(net);
        let target = format!("/$hc/{}?sb-hc-action=connect&sb-hc-id={id}", credential.entity);
        let dial = Dial {
            host: &host,
            target: &target,
            nonce,
            protocol: None,
            token: Some(&credential.token),
        };
        let (request, handshake) = dial.start();
        session.stage = Stage::Upgrading(handshake);
        write(net, conn, request.expose());
    }

    pub(super) fn on_session_data(&mut self, conn: ConnId, mut data: Lease, net: &mut dyn Net) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        if let Stage::Upgrading(handshake) = &mut session.stage {
            match handshake.handle(&data) {
                Ok(None) => return,
                Ok(Some(used)) => {
                    data.advance(used);
                    session.stage = Stage::Open;
                    self.serve_session(conn, net);
                }
                Err(refused) => {
                    debug!("conn={} {refused}", conn.0);
                    net.close(conn);
                    return self.on_session_lost(conn, &refused.into(), net);
                }
            }
        }
        if let Err(why) = self.read_frames(conn, data, net) {
            // What came before the end counts: an answer that is whole, a stream that was refused.
            self.hand_on(conn, net);
            // What the tunnel still has to say may tell the other end why.
            self.pump_session(conn, net);
            if !self.sessions.contains_key(&conn) {
                return;
            }
            say_goodbye(conn, net);
            return self.on_session_lost(conn, &why, net);
        }
        self.serve_session(conn, net);
    }

    fn read_frames(
        &mut self,
        conn: ConnId,
        mut data: Lease,
        net: &mut dyn Net,
    ) -> Result<(), Lost> {
        let pool = net.pool().clone();
        let Some(session) = self.sessions.get_mut(&conn) else { return Ok(()) };
        let mut steps = std::mem::take(&mut session.steps);
        let result = session.frames.handle(data.filled_mut(), &mut steps);
        for step in steps.drain(..) {
            match step {
                Step::Bytes(range) => {
                    let bytes = data.filled_mut().get_mut(range).unwrap_or_default();
                    session.tunnel.receive(bytes, &pool, net.now())?;
                }
                Step::Head(_) => (),
                Step::Ping(ping) => {
                    let mut key = [0; 4];
                    net.random(&mut key);
                    write(net, conn, &ws::frame(Opcode::Pong, Some(key), &ping));
                }
                Step::Close(close) => {
                    let reason = crate::wire::ws::close_reason(&close);
                    let reason = reason.map(|(code, text)| format!(" ({code} {text})"));
                    let why = "the other end closed the session";
                    return Err(Lost::Cluster(format!("{why}{}", reason.unwrap_or_default())));
                }
            }
        }
        session.steps = steps;
        result.map_err(|why| Lost::Relay(format!("it broke the WebSocket protocol: {why}")))
    }

    /// Hands on what the tunnel has received, and sends what it has to send.
    pub(super) fn serve_session(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(session) = self.sessions.get(&conn) else { return };
        if session.tunnel.is_established() && self.timers.get(Key::Opening(conn)).is_some() {
            self.on_session_up(conn, net);
        }
        self.hand_on(conn, net);
        self.pump_session(conn, net);
    }

    fn hand_on(&mut self, conn: ConnId, net: &mut dyn Net) {
        loop {
            let Some(session) = self.sessions.get_mut(&conn) else { return };
            let Some(event) = session.tunnel.poll_event() else { return };
            self.on_tunnel_event(conn, event, net);
        }
    }

    fn on_session_up(&mut self, conn: ConnId, net: &mut dyn Net) {
        self.timers.cancel(Key::Opening(conn));
        self.timers.set(Key::Ping(conn), net.now() + SESSION_PING);
        let value = random_u64(net);
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        if let Some(mux) = session.tunnel.session() {
            mux.ping(u32::try_from(value >> 32).unwrap_or_default(), net.now());
        }
        let (id, resumed) = (session.cluster.clone(), session.tunnel.is_resumed());
        let name = self.name(&id);
        info!("cluster={name} connected, end-to-end session established resumed={resumed}");
        self.on_session_accepted(&id);
        if self.takes_waiting(conn, &id) {
            let waiting = self.clusters.get_mut(&id).map(|it| std::mem::take(&mut it.waiting));
            for local in waiting.unwrap_or_default() {
                self.give_stream(local, &id, net);
            }
        }
        self.become_ready(net);
    }

    fn on_tunnel_event(&mut self, conn: ConnId, event: Event, net: &mut dyn Net) {
        if self.near.as_ref().is_some_and(|(on, _)| *on == conn) {
            return self.on_measured(event, net);
        }
        let local = |session: &Session, id: &StreamId| session.streams.get(id).copied();
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        match event {
            Event::Data(id, data) => match local(session, &id) {
                Some(to) => self.on_cluster_data(to, data, net),
                None => session.tunnel.drained(id, data.len(), net.now()),
            },
            Event::Finished(id) => {
                if let Some(to) = local(session, &id) {
                    self.on_cluster_finished(to, net);
                }
            }
            Event::Writable(id) => {
                if let Some(to) = local(session, &id) {
                    self.on_cluster_writable(to, net);
                }
            }
            Event::Closed(id, how) => {
                let Some(to) = session.streams.remove(&id) else { return };
                match how {
                    Ended::Clean => (),
                    Ended::Reset => self.on_cluster_lost(to, net),
                    Ended::Refused => self.on_cluster_refused(to, net),
                }
            }
            // The auth proxy has no business opening streams.
            Event::Opened(id) => drop(session.tunnel.reset(id)),
            Event::GoingAway => self.retire(conn, net),
            Event::Pong(round_trip) => debug!("conn={} round trip {round_trip:?}", conn.0),
            Event::Crowded => self.relieve(conn, net),
        }
    }

    /// The session takes no new streams; the next request starts another one. Streams on which
    /// nothing is under way are given up, so that none is found closed by a request.
    fn retire(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(session) = self.sessions.get(&conn) else { return };
        let locals: Vec<ConnId> = session.streams.values().copied().collect();
        let id = session.cluster.clone();
        self.leave(conn, &id);
        for local in locals {
            self.retire_stream(local, net);
        }
    }

    /// Frames what the tunnel has to send, record by record, as long as the relay takes it.
    pub(super) fn pump_session(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        if !matches!(session.stage, Stage::Open) {
            return;
        }
        let pool = net.pool().clone();
        while net.pressure(conn) == Pressure::Open {
            let mut records = Fresh::new(&pool, WS_HEAD);
            session.tunnel.transmit(&mut records);
            let Some(mut frame) = records.into_lease() else { break };
            let mut key = [0; 4];
            net.random(&mut key);
            ws::frame_behind_head(&mut frame, key);
            // The loop asks before the next one.
            let _ = net.send(conn, frame.freeze());
        }
        let retired = !self.clusters.values().any(|cluster| cluster.has(conn));
        // A stream that has ended may have an event that nobody has heard of yet.
        let is_idle = session.streams.is_empty() && session.tunnel.streams() == 0;
        if retired && is_idle && session.tunnel.is_established() {
            say_goodbye(conn, net);
            self.forget_session(conn);
        }
    }

    pub(super) fn on_ping_due(&mut self, conn: ConnId, net: &mut dyn Net) {
        let value = random_u64(net);
        let now = net.now();
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let Some(mux) = session.tunnel.session() else { return };
        if mux.unanswered().is_some_and(|at| at + SESSION_PING <= now) {
            net.abort(conn);
            let why = Lost::Cluster("it has stopped answering".to_owned());
            return self.on_session_lost(conn, &why, net);
        }
        mux.ping(u32::try_from(value >> 32).unwrap_or_default(), now);
        self.timers.set(Key::Ping(conn), now + SESSION_PING);
        self.note_second(conn);
        self.look_who_stays(conn, net);
        self.thin_out(conn, now);
        self.pump_session(conn, net);
    }

    pub(super) fn forget_session(&mut self, conn: ConnId) -> Option<Session> {
        self.timers.cancel(Key::Opening(conn));
        self.timers.cancel(Key::Ping(conn));
        self.timers.cancel(Key::Relief(conn));
        if self.near.as_ref().is_some_and(|(on, _)| *on == conn) {
            self.near = None;
            self.timers.cancel(Key::Measure);
        }
        let session = self.sessions.remove(&conn)?;
        self.leave(conn, &session.cluster);
        Some(*session)
    }

    /// The session is gone: what was on it fails, what waited for it is told.
    pub(super) fn on_session_lost(&mut self, conn: ConnId, why: &Lost, net: &mut dyn Net) {
        let cluster = self.sessions.get(&conn).and_then(|it| self.clusters.get(&it.cluster));
        let current = cluster.is_some_and(|cluster| cluster.session == Some(conn));
        let is_relief = cluster.is_some_and(|cluster| cluster.relief == Some(conn));
        let Some(session) = self.forget_session(conn) else { return };
        let id = session.cluster;
        if !current && !is_relief && session.streams.is_empty() && session.tunnel.is_established() {
            return debug!("conn={} a session that was given up has ended", conn.0);
        }
        let sentence = why.sentence(&self.name(&id));
        if is_relief && !session.tunnel.is_established() {
            debug!("a second session has not come to be: {sentence}");
        } else {
            info!("session ended: {sentence}");
        }
        let lost = format!("{sentence}; whether the request was carried out is not known");
        for local in session.streams.into_values() {
            self.on_cluster_broken(local, &lost, net);
        }
        // There is one without it, which will ask again.
        if is_relief {
            return;
        }
        let (is_disputable, code) = match &self.config.shared {
            None => (why.is_for_the_api(), "CLUSTER_UNREACHABLE"),
            // Another key may be in its file by now.
            Some(shared) => {
                (shared.key.file.is_some() && why.is_for_the_key(), why.code(&session.stage))
            }
        };
        if is_disputable {
            return self.on_session_refused(&id, code, &sentence, net);
        }
        // Nobody waits for a session that was up, but for the process that is not ready without.
        let was_up = session.tunnel.is_established() && self.is_ready;
        if current && (!was_up || self.config.measure.is_some()) {
            self.on_trouble(&id, why.code(&session.stage), &sentence, net);
        }
    }
}

/// Closes a session as the WebSocket protocol wants it.
pub(super) fn say_goodbye(conn: ConnId, net: &mut dyn Net) {
    let mut key = [0; 4];
    net.random(&mut key);
    write(net, conn, &ws::close(1000, "", Some(key)));
    net.close(conn);
}

/// A tracing id for the relay's log.
fn ws_id(net: &mut dyn Net) -> String {
    format!("cc-{:016x}", random_u64(net))
}

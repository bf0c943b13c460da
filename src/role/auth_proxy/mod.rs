//! The auth proxy: ends the callers' TLS sessions, authenticates every request by its token, and
//! passes it on to kube-apiserver as that user by Kubernetes user impersonation.
//!
//! ```text
//! rendezvous ── Tunnel ── stream ── Exchange ── upstream connection ── kube-apiserver
//!                          └ admit: who is it, may it, as whom does it go on?
//! ```
//!
//! Each stream has an upstream connection of its own, so no answer can reach another caller.
//! Reading order: [`session`] moves the bytes, [`admit`] decides, [`upstream`] knows our own
//! credential, [`audit`] writes down.

mod admit;
mod audit;
mod session;
mod stream;
pub mod upstream;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use rustls::ServerConfig;

use self::session::Session;
use self::upstream::{Credential, Upstream};
use super::keys::Keys;
use super::{Close, ConnId, Event, ListenerTag, Net, Notice, Peer, Role, Signal};
use crate::buf::Lease;
use crate::engine::timers::Timers;
use crate::limits::{AUTH_PROXY_DRAIN, SESSION_HANDSHAKE};
use crate::wire::mux::StreamId;

/// What differs from auth proxy to auth proxy.
#[derive(Clone, Debug)]
pub struct Config {
    /// Certificate and protocols of the end-to-end session.
    pub tls: Arc<ServerConfig>,
    /// The API server.
    pub upstream: Upstream,
    /// Service accounts' tokens are passed on as they are.
    pub sa_passthrough: bool,
    /// How long exec, attach and port-forward may last.
    pub session_max: Duration,
    /// Requests go on although they cannot be written down.
    pub audit_fail_open: bool,
}

/// The role of the auth proxy.
#[derive(Debug)]
pub struct AuthProxy {
    config: Config,
    keys: Keys,
    credential: Credential,
    sessions: BTreeMap<ConnId, Session>,
    /// The stream that each upstream connection belongs to.
    upstreams: BTreeMap<ConnId, (ConnId, StreamId)>,
    /// Requests in flight, by caller.
    callers: BTreeMap<(String, String), usize>,
    timers: Timers<Key>,
    scratch: Vec<u8>,
    is_ready: bool,
    is_stopping: bool,
}

/// What a deadline is for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Key {
    /// A session has to be established.
    Handshake(ConnId),
    /// The machine of a stream has one.
    Exchange(ConnId, StreamId),
    /// The token of what a stream carries has expired, or its time is up.
    Expiry(ConnId, StreamId),
    /// A stopping auth proxy ends.
    Exit,
}

impl AuthProxy {
    /// An auth proxy without sessions, which verifies callers with `keys`.
    #[must_use]
    pub fn new(config: Config, keys: Keys) -> Self {
        let credential = Credential::new(&config.upstream);
        Self {
            config,
            keys,
            credential,
            sessions: BTreeMap::new(),
            upstreams: BTreeMap::new(),
            callers: BTreeMap::new(),
            timers: Timers::new(),
            scratch: Vec::new(),
            is_ready: false,
            is_stopping: false,
        }
    }

    /// Sessions and upstream connections: a test that ends with other than nothing has found a
    /// leak.
    #[must_use]
    pub fn leftovers(&self) -> (usize, usize, usize) {
        (self.sessions.len(), self.upstreams.len(), self.callers.len())
    }

    fn on_accepted(&mut self, conn: ConnId, peer: Peer, net: &mut dyn Net) {
        if self.is_stopping {
            net.close(conn);
            return;
        }
        match Session::accept(Arc::clone(&self.config.tls), peer) {
            Ok(session) => {
                self.sessions.insert(conn, session);
                self.timers.set(Key::Handshake(conn), net.now() + SESSION_HANDSHAKE);
            }
            Err(why) => {
                warn!("conn={} no session: {why}", conn.0);
                net.abort(conn);
            }
        }
    }

    fn on_data(&mut self, conn: ConnId, mut data: Lease, net: &mut dyn Net) {
        if let Some(&(session, stream)) = self.upstreams.get(&conn) {
            self.on_upstream_data(session, stream, &data, net);
            return;
        }
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let pool = net.pool().clone();
        match session.tunnel.receive(data.filled_mut(), &pool, net.now()) {
            Ok(()) => {
                if session.tunnel.is_established() {
                    self.timers.cancel(Key::Handshake(conn));
                }
                drop(data);
                self.serve(conn, net);
            }
            Err(why) => {
                debug!("conn={} session closed: {why}", conn.0);
                self.pump(conn, net);
                net.close(conn);
                self.on_session_gone(conn, net);
            }
        }
    }

    fn on_closed(&mut self, conn: ConnId, why: &Close, net: &mut dyn Net) {
        if let Some((session, stream)) = self.upstreams.remove(&conn) {
            self.on_upstream_closed(session, stream, why, net);
        } else if self.sessions.contains_key(&conn) {
            debug!("conn={} session closed: {why}", conn.0);
            self.on_session_gone(conn, net);
        }
    }

    fn on_finished(&mut self, conn: ConnId, net: &mut dyn Net) {
        if let Some(&(session, stream)) = self.upstreams.get(&conn) {
            self.on_upstream_finished(session, stream, net);
        } else if let Some(session) = self.sessions.get_mut(&conn) {
            // The rendezvous carries nothing more. A plain connection may still be owed an answer;
            // streams get no more window, and would hold their upstreams for good.
            if session.tunnel.session().is_some() || session.tunnel.streams() == 0 {
                net.close(conn);
                self.on_session_gone(conn, net);
            }
        }
    }

    fn on_drained(&mut self, conn: ConnId, len: usize, net: &mut dyn Net) {
        if let Some(&(session, stream)) = self.upstreams.get(&conn) {
            self.on_upstream_drained(session, stream, len, net);
        } else if self.sessions.contains_key(&conn) {
            self.serve(conn, net);
        }
    }

    fn on_deadline(&mut self, net: &mut dyn Net) {
        let now = net.now();
        while let Some(key) = self.timers.expire(now) {
            match key {
                Key::Handshake(conn) => {
                    debug!("conn={} session not established in time", conn.0);
                    net.abort(conn);
                    self.on_session_gone(conn, net);
                }
                Key::Exchange(conn, stream) => self.on_exchange_deadline(conn, stream, net),
                Key::Expiry(conn, stream) => self.on_expiry(conn, stream, net),
                Key::Exit => net.tell(Notice::Exit(0, None)),
            }
        }
        self.keys.handle_deadline(net);
        self.credential.handle_deadline(net);
    }

    fn on_signal(&mut self, signal: Signal, net: &mut dyn Net) {
        match signal {
            Signal::Reload => self.credential.read_again(net),
            Signal::Stop => {
                info!("stopping: requests in flight may end by themselves");
                self.is_stopping = true;
                self.timers.set(Key::Exit, net.now() + AUTH_PROXY_DRAIN);
                let sessions: Vec<ConnId> = self.sessions.keys().copied().collect();
                for conn in sessions {
                    self.close_when_idle(conn, net);
                }
                self.exit_if_idle(net);
            }
        }
    }

    fn exit_if_idle(&mut self, net: &mut dyn Net) {
        if self.is_stopping && self.sessions.values().all(Session::is_idle) {
            self.timers.cancel(Key::Exit);
            net.tell(Notice::Exit(0, None));
            self.is_stopping = false;
        }
    }

    fn become_ready(&mut self, net: &mut dyn Net) {
        if !self.is_ready && self.credential.is_usable() {
            self.is_ready = true;
            net.tell(Notice::Ready);
        }
    }
}

impl Role for AuthProxy {
    fn on_event(&mut self, event: Event, net: &mut dyn Net) {
        match event {
            Event::Started => {
                self.keys.start(net);
                self.credential.start(net);
                self.become_ready(net);
            }
            Event::Accepted(conn, ListenerTag::Main | ListenerTag::AuthProxy, peer) => {
                self.on_accepted(conn, peer, net);
            }
            Event::Accepted(conn, ListenerTag::Admin, _) => net.close(conn),
            Event::Connected(conn) => {
                if let Some(&(session, stream)) = self.upstreams.get(&conn) {
                    self.on_upstream_connected(session, stream, net);
                }
            }
            Event::Data(conn, data) => self.on_data(conn, data, net),
            Event::Finished(conn) => self.on_finished(conn, net),
            Event::Drained(conn, len) => self.on_drained(conn, len, net),
            Event::Closed(conn, why) => self.on_closed(conn, &why, net),
            Event::Done(job, outcome) => {
                if let Some(outcome) = self.keys.handle_done(job, outcome, net) {
                    self.credential.handle_done(job, outcome, net);
                    self.become_ready(net);
                }
            }
            Event::Signal(signal) => self.on_signal(signal, net),
            Event::Deadline => self.on_deadline(net),
        }
        self.exit_if_idle(net);
    }

    fn deadline(&self) -> Option<Instant> {
        let all = [self.timers.next(), self.keys.deadline(), self.credential.deadline()];
        all.into_iter().flatten().min()
    }
}

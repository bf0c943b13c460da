//! The agent: holds a control channel at the relay, and carries what senders bring to the auth
//! proxy. It moves bytes that it cannot read: TLS runs through it from end to end.

mod address;
mod channel;
mod decline;
mod session;
mod succession;
mod token;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use log::{debug, info};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use self::channel::Channel;
use self::decline::Declining;
use self::session::{Local, Rendezvous};
use self::succession::End;
pub use self::token::{AgentKey, Enrolment, Sign, Source};
use self::token::{ListenToken, Tokens};
use super::frames::Keys;
use super::{Close, ConnId, Endpoint, Event, Net, Notice, Role, Signal, Tls, Via};
use crate::buf::Lease;
use crate::engine::backoff::Backoff;
use crate::engine::timers::Timers;
use crate::engine::ws::Step;
use crate::limits::{CLOSE_TIMEOUT, RECONNECT, SESSIONS_MAX, STOP_TIMEOUT};

/// What differs from agent to agent.
#[derive(Debug)]
pub struct Config {
    /// Where Listen tokens come from, and with them the relay's name.
    pub source: Source,
    /// Trust for every connection to the relay. Without it they are plain TCP, for tests alone.
    pub tls: Option<Arc<ClientConfig>>,
    /// The HTTP proxy on the way to the relay.
    pub via: Option<Arc<Via>>,
    /// Where the auth proxy listens.
    pub auth_proxy: Endpoint,
    /// Sessions at a time.
    pub sessions_max: usize,
}

/// The role of the agent.
#[derive(Debug)]
pub struct Agent {
    tls: Option<Arc<ClientConfig>>,
    via: Option<Arc<Via>>,
    auth_proxy: Endpoint,
    sessions_max: usize,
    tokens: Tokens,
    phase: Phase,
    /// The open channel whose token is kept fresh. Those that it took the place of are read to
    /// their end.
    serving: Option<ConnId>,
    /// The agent's own name at the relay.
    name: String,
    conns: BTreeMap<ConnId, Conn>,
    timers: Timers<Key>,
    backoff: Backoff,
    renewals: Backoff,
    keys: Keys,
    /// Scratch, empty between events.
    steps: Vec<Step>,
    /// What was last said about a failure, so that it is said once.
    said: Option<String>,
    is_ready: bool,
    has_exited: bool,
}

/// How far the way to a control channel, or to the next one, is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// The next attempt comes with a deadline.
    Waiting,
    /// A token is on its way.
    Asking,
    /// This will be the channel.
    Opening(ConnId),
    /// A channel serves, and no other is wanted.
    Settled,
    /// No further channel: sessions end, and then the process.
    Stopping,
}

/// What a connection is.
#[derive(Debug)]
enum Conn {
    Channel(Box<Channel>),
    /// A session's connection to the relay.
    Rendezvous(Box<Rendezvous>),
    /// A session's connection to the auth proxy.
    Local(Box<Local>),
    /// To where an HTTP request is, which is declined there.
    Declining(Box<Declining>),
    /// Nothing more is expected of it but its end.
    Ending,
}

/// What a deadline is for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Key {
    /// Try to reach the relay again.
    Retry,
    /// Renew the token of the channel.
    Renew,
    /// Replace the channel before the relay ends it.
    Age,
    /// The handshake has to be done.
    Open(ConnId),
    /// A sign of life is due.
    Ping(ConnId),
    /// What is ending has to have ended.
    End(ConnId),
    /// A stopping agent ends.
    Exit,
}

impl Config {
    /// An agent that carries sessions to `auth_proxy`.
    #[must_use]
    pub const fn new(source: Source, tls: Option<Arc<ClientConfig>>, auth_proxy: Endpoint) -> Self {
        Self { source, tls, via: None, auth_proxy, sessions_max: SESSIONS_MAX }
    }
}

impl Agent {
    /// An agent that has not started.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            tls: config.tls,
            via: config.via,
            auth_proxy: config.auth_proxy,
            sessions_max: config.sessions_max,
            tokens: Tokens::new(config.source),
            phase: Phase::Waiting,
            serving: None,
            name: String::new(),
            conns: BTreeMap::new(),
            timers: Timers::new(),
            backoff: Backoff::new(RECONNECT.0, RECONNECT.1),
            renewals: Backoff::new(RECONNECT.0, RECONNECT.1),
            keys: Keys::default(),
            steps: Vec::new(),
            said: None,
            is_ready: false,
            has_exited: false,
        }
    }

    /// Open connections: a test that ends with other than none has found a leak.
    #[must_use]
    pub fn leftovers(&self) -> usize {
        self.conns.len()
    }

    fn on_started(&mut self, net: &mut dyn Net) {
        let mut name = [0; 16];
        net.random(&mut name);
        self.name = format!("{:032x}", u128::from_ne_bytes(name));
        self.ask_for_token(net);
    }

    fn on_connected(&mut self, conn: ConnId, net: &mut dyn Net) {
        match self.conns.get(&conn) {
            Some(Conn::Channel(_)) => self.on_channel_connected(conn, net),
            Some(Conn::Rendezvous(_)) => self.on_rendezvous_connected(conn, net),
            Some(Conn::Local(_)) => self.on_local_connected(conn, net),
            Some(Conn::Declining(_)) => self.on_declining_connected(conn, net),
            Some(Conn::Ending) | None => (),
        }
    }

    fn on_data(&mut self, conn: ConnId, data: Lease, net: &mut dyn Net) {
        match self.conns.get(&conn) {
            Some(Conn::Channel(_)) => self.on_channel_data(conn, data, net),
            Some(Conn::Rendezvous(_)) => self.on_rendezvous_data(conn, data, net),
            Some(Conn::Local(_)) => self.on_local_data(conn, data, net),
            Some(Conn::Declining(_)) => self.on_declining_data(conn, data, net),
            Some(Conn::Ending) | None => (),
        }
    }

    fn on_finished(&mut self, conn: ConnId, net: &mut dyn Net) {
        match self.conns.get(&conn) {
            Some(Conn::Channel(_)) => {
                self.on_channel_lost(conn, End::Broken, "the relay closed it", net);
            }
            Some(Conn::Rendezvous(_)) => self.on_rendezvous_finished(conn, net),
            Some(Conn::Local(_)) => self.on_local_finished(conn, net),
            Some(Conn::Declining(_)) => self.drop_declining(conn, "finished", net),
            Some(Conn::Ending) | None => (),
        }
    }

    fn on_drained(&mut self, conn: ConnId, net: &mut dyn Net) {
        match self.conns.get(&conn) {
            Some(Conn::Rendezvous(_) | Conn::Local(_)) => self.resume_source(conn, net),
            Some(Conn::Ending) => self.timers.set(Key::End(conn), net.now() + CLOSE_TIMEOUT),
            Some(Conn::Channel(_) | Conn::Declining(_)) | None => (),
        }
    }

    fn on_closed(&mut self, conn: ConnId, why: &Close, net: &mut dyn Net) {
        debug!("conn={} closed: {why}", conn.0);
        match self.conns.get(&conn) {
            Some(Conn::Channel(_)) => {
                self.on_channel_lost(conn, End::Broken, &why.to_string(), net);
            }
            Some(Conn::Rendezvous(_)) => self.on_rendezvous_closed(conn, net),
            Some(Conn::Local(_)) => self.on_local_closed(conn, why, net),
            Some(Conn::Declining(_) | Conn::Ending) | None => drop(self.forget(conn)),
        }
    }

    fn on_deadline(&mut self, net: &mut dyn Net) {
        let now = net.now();
        while let Some(key) = self.timers.expire(now) {
            match key {
                Key::Retry => self.ask_for_token(net),
                Key::Renew => self.renew(net),
                Key::Age => self.on_age(net),
                Key::Open(conn) => match self.conns.get(&conn) {
                    Some(Conn::Channel(_)) => {
                        self.on_channel_lost(conn, End::Broken, "no answer", net);
                    }
                    Some(Conn::Rendezvous(_)) => self.abort_session(conn, net),
                    Some(Conn::Declining(_)) => self.drop_declining(conn, "no answer", net),
                    Some(Conn::Local(_) | Conn::Ending) | None => (),
                },
                Key::Ping(conn) => match self.conns.get(&conn) {
                    Some(Conn::Channel(_)) => self.ping_channel(conn, net),
                    Some(Conn::Rendezvous(_)) => self.ping_rendezvous(conn, net),
                    Some(Conn::Local(_) | Conn::Declining(_) | Conn::Ending) | None => (),
                },
                Key::End(conn) => {
                    net.abort(conn);
                    self.forget(conn);
                }
                Key::Exit => self.exit(net),
            }
        }
    }

    fn on_signal(&mut self, signal: Signal, net: &mut dyn Net) {
        if signal == Signal::Stop && self.phase != Phase::Stopping {
            info!("stopping: no new sessions");
            self.phase = Phase::Stopping;
            for key in [Key::Retry, Key::Renew, Key::Age] {
                self.timers.cancel(key);
            }
            let channels = self.conns.iter().filter(|(_, conn)| matches!(conn, Conn::Channel(_)));
            let channels: Vec<ConnId> = channels.map(|(&conn, _)| conn).collect();
            for conn in channels {
                self.close_channel(conn, 1001, "agent stopping", net);
            }
            self.timers.set(Key::Exit, net.now() + STOP_TIMEOUT);
        }
    }

    fn exit_if_idle(&mut self, net: &mut dyn Net) {
        if self.phase == Phase::Stopping && self.conns.is_empty() {
            self.exit(net);
        }
    }

    fn exit(&mut self, net: &mut dyn Net) {
        if !std::mem::replace(&mut self.has_exited, true) {
            net.tell(Notice::Exit(0, None));
        }
    }

    /// Says `sentence` unless it was the last thing said.
    fn say(&mut self, sentence: String, net: &mut dyn Net) {
        if self.said.as_ref() != Some(&sentence) {
            net.tell(Notice::Say(sentence.clone()));
            self.said = Some(sentence);
        }
    }

    /// Takes `conn` out of the tables.
    fn forget(&mut self, conn: ConnId) -> Option<Conn> {
        for key in [Key::Open(conn), Key::Ping(conn), Key::End(conn)] {
            self.timers.cancel(key);
        }
        self.conns.remove(&conn)
    }

    /// Lets what is queued for `conn` go out, for as long as its peer takes it.
    fn end(&mut self, conn: ConnId, net: &mut dyn Net) {
        self.forget(conn);
        self.conns.insert(conn, Conn::Ending);
        net.resume(conn);
        net.finish(conn);
        self.timers.set(Key::End(conn), net.now() + CLOSE_TIMEOUT);
    }

    fn endpoint(&self, host: &str, port: u16) -> Option<Endpoint> {
        let tls = match &self.tls {
            None => None,
            Some(config) => {
                let name = ServerName::try_from(host.to_owned()).ok()?;
                Some(Tls { config: config.clone(), name })
            }
        };
        Some(Endpoint::Tcp { host: host.to_owned(), port, tls, via: self.via.clone() })
    }
}

impl Role for Agent {
    fn on_event(&mut self, event: Event, net: &mut dyn Net) {
        match event {
            Event::Started => self.on_started(net),
            Event::Connected(conn) => self.on_connected(conn, net),
            Event::Data(conn, data) => self.on_data(conn, data, net),
            Event::Finished(conn) => self.on_finished(conn, net),
            Event::Drained(conn, _) => self.on_drained(conn, net),
            Event::Closed(conn, why) => self.on_closed(conn, &why, net),
            Event::Done(job, outcome) => {
                if let Some(progress) = self.tokens.handle_done(job, outcome, net) {
                    self.on_progress(progress, net);
                }
            }
            Event::Signal(signal) => self.on_signal(signal, net),
            Event::Deadline => self.on_deadline(net),
            // The agent listens nowhere.
            Event::Accepted(conn, _, _) => net.abort(conn),
            // There is one loop.
            Event::Letter(..) => (),
        }
        self.exit_if_idle(net);
    }

    fn deadline(&self) -> Option<Instant> {
        self.timers.next()
    }
}

//! The event loop. A turn has four steps, always in this order: wait; note readiness; let the role
//! act on what is ready; flush what it queued. Nothing is written while the role runs, and the
//! role is never re-entered.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use ring::rand::SystemRandom;
use rustls::ServerConfig;

use super::conn::{Scratch, may_read};
use super::dial::{Origin, Stage};
use super::handoff::Place;
use super::link::Link;
use super::listener::{Bind, Listener, concerns_the_peer};
use super::setup::{Chore, Setup, Stopper};
use super::signals::Signals;
use super::sockets::Sockets;
use super::workers::{Finished, Workers};
use crate::buf::Pool;
use crate::engine::timers::Timers;
use crate::engine::tls::Acceptor;
use crate::limits::{BUFFER_SIZE, READS_PER_TURN, TRIM_PERIOD};
use crate::role::{Close, ConnId, Event, Fault, ListenerTag, Notice, Role, Signal};

/// Drives `R` on real sockets.
#[expect(missing_debug_implementations, reason = "a chore is a function")]
pub struct Reactor<R> {
    poll: Poll,
    listeners: Vec<Listener>,
    /// Only one loop hears of signals.
    signals: Option<Signals>,
    stopper: Stopper,
    chore: Option<(Instant, Chore)>,
    role: R,
    net: Sockets,
    scratch: Scratch,
    /// When buffers that nobody needs are looked for again.
    trim_at: Instant,
}

pub(super) const WAKER: Token = Token(usize::MAX);
const STOP: Token = Token(usize::MAX - 1);
const RELOAD: Token = Token(usize::MAX - 2);
/// Listeners have the tokens from here down; connections count up from 1.
const LISTENERS: usize = usize::MAX - 16;

impl<R: Role> Reactor<R> {
    /// A loop for `role`, which starts with [`Self::run`].
    ///
    /// # Errors
    ///
    /// The system has no more descriptors or threads.
    pub fn new(role: R, setup: Setup) -> io::Result<Self> {
        Self::at(Place::alone()?, role, setup)
    }

    /// The same at a place of its own among several. Those after the first have no workers and
    /// hear of no signal.
    ///
    /// # Errors
    ///
    /// The system has no more descriptors or threads.
    pub fn at(place: Place, role: R, setup: Setup) -> io::Result<Self> {
        let Place { poll, waker, mail } = place;
        let is_first = mail.number == 0;
        let signals =
            is_first.then(|| Signals::register(poll.registry(), STOP, RELOAD)).transpose()?;
        let net = Sockets {
            registry: poll.registry().try_clone()?,
            pool: Pool::new(setup.limits.buffers, setup.limits.keep, BUFFER_SIZE),
            conns: Default::default(),
            most_conns: setup.limits.conns,
            ready: Default::default(),
            dirty: Default::default(),
            hungry: Default::default(),
            news: [Event::Started].into(),
            notices: Default::default(),
            timers: Timers::new(),
            workers: Workers::start(if is_first { 2 } else { 0 }, setup.journal, &waker)?,
            audit: setup.audit,
            random: SystemRandom::new(),
            freed: false,
            next_id: mail.number as u64 + 1,
            mail,
            now: Instant::now(),
        };
        let stopper = Stopper { asked: Arc::default(), waker };
        let chore = setup.chore.map(|chore| (net.now + chore.every, chore));
        let (listeners, scratch) = (Vec::new(), Scratch::new());
        let trim_at = net.now + TRIM_PERIOD;
        Ok(Self { poll, listeners, signals, stopper, chore, role, net, scratch, trim_at })
    }

    /// Accepts connections on `bind`, with TLS if there is a configuration for it. Returns the
    /// address in use, for callers that asked for port 0.
    ///
    /// # Errors
    ///
    /// The address cannot be bound.
    pub fn listen(
        &mut self,
        tag: ListenerTag,
        bind: &Bind,
        tls: Option<Arc<ServerConfig>>,
    ) -> io::Result<Option<SocketAddr>> {
        let token = Token(LISTENERS - self.listeners.len());
        let (listener, address) =
            Listener::bind(bind, tag, tls.map(Acceptor::new), self.poll.registry(), token)?;
        self.listeners.push(listener);
        Ok(address)
    }

    /// A way to stop the loop from another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Runs until a notice says [`Notice::Exit`]; `hear` gets all the others.
    ///
    /// # Errors
    ///
    /// What the system reports for the poll.
    pub fn run(mut self, mut hear: impl FnMut(Notice)) -> io::Result<(u8, Option<Fault>)> {
        let mut events = Events::with_capacity(256);
        loop {
            self.turn(&mut events)?;
            if self.net.mail.is_orphaned {
                return Ok((0, None));
            }
            while let Some(notice) = self.net.notices.pop_front() {
                match notice {
                    Notice::Exit(code, why) => {
                        self.flush();
                        return Ok((code, why));
                    }
                    Notice::Ready | Notice::Say(_) | Notice::Measured(_) => hear(notice),
                }
            }
        }
    }

    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        match self.poll.poll(events, self.timeout()) {
            Err(err) if err.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        self.net.now = Instant::now();
        if self.trim_at <= self.net.now {
            self.net.pool.trim();
            self.trim_at = self.net.now + TRIM_PERIOD;
        }
        self.note(events);
        self.spread_news();
        self.expire();
        self.do_chore();
        if self.role.deadline().is_some_and(|at| at <= self.net.now) {
            self.role.on_event(Event::Deadline, &mut self.net);
        }
        for id in std::mem::take(&mut self.net.ready) {
            self.serve(id);
        }
        self.flush();
        self.spread_news();
        if may_read(&self.net.pool) {
            self.net.ready.append(&mut self.net.hungry);
        }
        Ok(())
    }

    fn timeout(&self) -> Option<Duration> {
        let work = !self.net.ready.is_empty()
            || !self.net.dirty.is_empty()
            || !self.net.news.is_empty()
            || !self.net.notices.is_empty();
        if work {
            return Some(Duration::ZERO);
        }
        let chore = self.chore.as_ref().map(|(at, _)| *at);
        let trim = self.net.pool.has_surplus().then_some(self.trim_at);
        let all = [self.role.deadline(), self.net.timers.next(), chore, trim];
        let at = all.into_iter().flatten().min()?;
        Some(at.saturating_duration_since(Instant::now()))
    }

    fn note(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                WAKER => self.collect(),
                STOP => self.signal(Signal::Stop),
                RELOAD => self.signal(Signal::Reload),
                Token(id) if LISTENERS - self.listeners.len() < id => {
                    if let Some(listener) = self.listeners.get_mut(LISTENERS - id) {
                        listener.ready = true;
                    }
                }
                Token(id) => self.net.note(ConnId(id as u64), event),
            }
        }
        if std::mem::take(&mut self.net.freed) || !events.is_empty() {
            self.accept();
        }
    }

    fn signal(&mut self, signal: Signal) {
        if self.signals.as_mut().is_some_and(|signals| signals.take(signal)) {
            if signal == Signal::Reload
                && let Some((at, _)) = &mut self.chore
            {
                *at = self.net.now;
            }
            self.net.news.push_back(Event::Signal(signal));
        }
    }

    fn collect(&mut self) {
        if self.stopper.asked.swap(false, Ordering::Acquire) {
            self.net.news.push_back(Event::Signal(Signal::Stop));
        }
        while let Some(parcel) = self.net.mail.take() {
            self.net.adopt(parcel);
        }
        while let Some(finished) = self.net.workers.poll() {
            match finished {
                Finished::Job(id, outcome) => self.net.news.push_back(Event::Done(id, outcome)),
                Finished::Resolved(id, found) => self.net.on_resolved(id, found),
            }
        }
    }

    fn accept(&mut self) {
        for listener in &mut self.listeners {
            while listener.ready && self.net.has_room() {
                match listener.accept() {
                    Ok((link, peer)) => {
                        self.net.accept(link, listener.tag, peer, listener.tls.as_ref());
                    }
                    // These concern the connection that was to come; the next may be there.
                    Err(err) if concerns_the_peer(&err) => (),
                    // Out of descriptors or memory: a closed connection wakes us up.
                    Err(_) => break,
                }
            }
        }
    }

    fn expire(&mut self) {
        while let Some(id) = self.net.timers.expire(self.net.now) {
            let why = match self.net.conns.get(&id).map(|conn| &conn.stage) {
                Some(Stage::Asking(dial, _)) => {
                    let (proxy, port) = dial.first_hop();
                    format!("the proxy {proxy}:{port} did not answer in time")
                }
                Some(Stage::Open) | None => {
                    self.net.abort_quietly(id);
                    continue;
                }
                Some(_) => "it did not answer in time".into(),
            };
            self.net.fail(id, Close::Refused(why));
        }
    }

    fn do_chore(&mut self) {
        if let Some((at, chore)) = self.chore.as_mut().filter(|(at, _)| *at <= self.net.now) {
            (chore.act)();
            *at = self.net.now + chore.every;
        }
    }

    fn spread_news(&mut self) {
        while let Some(event) = self.net.news.pop_front() {
            if let Event::Connected(id) | Event::Accepted(id, ..) = &event
                && !self.net.conns.contains_key(id)
            {
                continue;
            }
            self.role.on_event(event, &mut self.net);
        }
    }

    /// Gives the role what `id` has to read, up to the limit of one turn.
    fn serve(&mut self, id: ConnId) {
        for _ in 0..READS_PER_TURN {
            if !self.bring_up(id) {
                return;
            }
            self.deliver(id);
            let Some(conn) = self.net.conns.get_mut(&id) else { return };
            if conn.lingering {
                self.sink(id);
                return;
            }
            if conn.paused && matches!(conn.stage, Stage::Open) || !conn.inbox.is_empty() {
                return;
            }
            if !conn.wants_read() {
                return;
            }
            if !may_read(&self.net.pool) {
                self.net.hungry.insert(id);
                return;
            }
            match conn.read(&mut self.scratch, &self.net.pool) {
                Ok(true) => {
                    if conn.has_output() {
                        self.net.dirty.insert(id);
                    }
                }
                Ok(false) => return,
                Err(why) => {
                    self.net.dirty.insert(id);
                    conn.failed = Some(why);
                }
            }
        }
        self.net.ready.insert(id);
    }

    /// Takes a connection on from stage to stage. `false` when it is not up yet, or gone.
    fn bring_up(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.net.conns.get_mut(&id) else { return false };
        if matches!(conn.stage, Stage::Open) {
            return true;
        }
        let before = std::mem::discriminant(&conn.stage);
        match conn.progress(&self.net.pool) {
            Ok(Some(origin)) => {
                if let Some(handshake) = conn.handshake() {
                    log::debug!("conn={} {} tls={handshake}", id.0, origin.word());
                }
                self.net.timers.cancel(id);
                self.net.dirty.insert(id);
                self.announce(id, origin);
                self.net.conns.contains_key(&id)
            }
            Ok(None) => {
                if before != std::mem::discriminant(&conn.stage) || conn.has_output() {
                    self.net.dirty.insert(id);
                }
                match conn.failed.take() {
                    Some(why) if conn.inbox.is_empty() => {
                        self.last_words(id);
                        self.net.fail(id, in_handshake(why));
                        false
                    }
                    _ => true,
                }
            }
            Err(why) => {
                if !self.net.try_next(id) {
                    self.net.fail(id, why);
                }
                false
            }
        }
    }

    fn announce(&mut self, id: ConnId, origin: Origin) {
        self.role.on_event(origin.event(id), &mut self.net);
    }

    /// Hands on what is in the inbox, then the end, then the failure.
    fn deliver(&mut self, id: ConnId) {
        loop {
            let Some(conn) = self.net.conns.get_mut(&id) else { return };
            if conn.lingering || !matches!(conn.stage, Stage::Open) {
                return;
            }
            if conn.failed == Some(Close::Reset) {
                return self.net.fail(id, Close::Reset);
            }
            if conn.paused {
                return;
            }
            if let Some(lease) = conn.inbox.pop_front() {
                if let Link::Memory(peer) = conn.link {
                    self.net.dirty.insert(peer);
                }
                self.role.on_event(Event::Data(id, lease), &mut self.net);
            } else if conn.got_fin && !conn.told_fin {
                conn.told_fin = true;
                self.net.dirty.insert(id);
                self.role.on_event(Event::Finished(id), &mut self.net);
            } else {
                if let Some(why) = conn.failed.take() {
                    self.last_words(id);
                    self.net.fail(id, why);
                }
                return;
            }
        }
    }

    /// Reads what the peer of a closed connection still sends, and drops it.
    fn sink(&mut self, id: ConnId) {
        let Some(conn) = self.net.conns.get_mut(&id) else { return };
        let ended = match conn.read(&mut self.scratch, &self.net.pool) {
            Ok(_) => conn.got_fin,
            Err(_) => true,
        };
        conn.inbox.clear();
        if ended && (conn.has_sent_all() || conn.failed.is_some()) {
            self.net.remove(id);
        }
    }

    /// Sends the alert that tells the peer why, if the socket takes it.
    fn last_words(&mut self, id: ConnId) {
        if let Some(conn) = self.net.conns.get_mut(&id) {
            // The connection ends whether or not the peer hears of it.
            let _ = conn.flush(&mut self.scratch, &self.net.pool, self.net.now);
        }
    }

    fn flush(&mut self) {
        while let Some(id) = self.net.dirty.pop_first() {
            let Some(conn) = self.net.conns.get_mut(&id) else { continue };
            if let Link::Memory(peer) = conn.link {
                let moved = if peer.0 == 0 { 0 } else { self.net.pour(id, peer) };
                self.flushed(id, moved);
                continue;
            }
            match conn.flush(&mut self.scratch, &self.net.pool, self.net.now) {
                Ok(drained) => self.flushed(id, drained),
                Err(why) => {
                    conn.failed.get_or_insert(why);
                    self.net.ready.insert(id);
                    if conn.lingering {
                        self.net.remove(id);
                    }
                }
            }
        }
    }

    fn flushed(&mut self, id: ConnId, drained: usize) {
        let Some(conn) = self.net.conns.get_mut(&id) else { return };
        if conn.lingering {
            if conn.has_sent_all() && (conn.got_fin || matches!(conn.link, Link::Memory(_))) {
                self.net.remove(id);
            }
        } else if conn.is_over() {
            self.net.remove(id);
            self.role.on_event(Event::Closed(id, Close::Clean), &mut self.net);
        } else if 0 < drained && matches!(conn.stage, Stage::Open) {
            self.role.on_event(Event::Drained(id, drained), &mut self.net);
        }
    }
}

impl Sockets {
    /// A lingering connection has had its time.
    fn abort_quietly(&mut self, id: ConnId) {
        if let Some(conn) = self.remove(id) {
            conn.link.reset_on_drop();
        }
    }
}

/// A peer that goes away in the handshake has refused us.
fn in_handshake(why: Close) -> Close {
    match why {
        Close::Reset | Close::Truncated => {
            Close::Refused("it closed the connection during the handshake".into())
        }
        other => other,
    }
}

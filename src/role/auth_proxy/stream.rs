//! One stream of a session: a caller's HTTP connection, its machine, and its own connection to
//! kube-apiserver.
//!
//! Credit for what came over the stream is returned when it has left the process, so a slow API
//! server slows this caller and nobody else.

use std::time::{Duration, Instant};

use log::debug;

use super::admit::{Admitted, Decision};
use super::audit::{self, Stage};
use super::{AuthProxy, Key};
use crate::buf::{Lease, Pressure, Slice};
use crate::engine::exchange::{End, Event, Exchange, Failure, Output, Patience, status_response};
use crate::limits::{EXPIRY_LEEWAY, IN_FLIGHT_CALLER, IN_FLIGHT_MAX, IN_FLIGHT_SESSION};
use crate::role::{Close, ConnId, Net};
use crate::wire::h1::{RequestHead, ResponseHead};
use crate::wire::mux::StreamId;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) exchange: Exchange,
    upstream: Option<ConnId>,
    /// The upstream connection carries no credential of ours.
    anonymous: bool,
    /// Bytes received over the stream for which no credit has been returned.
    held: usize,
    /// Bytes queued towards the upstream.
    queued: usize,
    /// What is in flight, once it was let through.
    served: Option<Served>,
}

/// A request that was let through.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) admitted: Admitted,
    /// The head as it went upstream, for the one case in which it goes again.
    head: RequestHead,
    status: u16,
    retried: bool,
}

impl AuthProxy {
    pub(super) fn on_stream_opened(&mut self, conn: ConnId, id: StreamId, net: &mut dyn Net) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let stream = Stream {
            exchange: Exchange::new(net.now()),
            upstream: None,
            anonymous: false,
            held: 0,
            queued: 0,
            served: None,
        };
        session.streams.insert(id, stream);
        self.with_stream(conn, id, net, |_, _, _| ());
    }

    pub(super) fn on_stream_data(
        &mut self,
        conn: ConnId,
        id: StreamId,
        data: Slice,
        net: &mut dyn Net,
    ) {
        let (len, now) = (data.len(), net.now());
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let Some(stream) = session.streams.get_mut(&id) else {
            return session.tunnel.drained(id, len, now);
        };
        stream.held += len;
        if let Some(up) = stream.upstream
            && stream.exchange.pass_down(len, now)
        {
            stream.queued += len;
            let pressure = net.send(up, data);
            stream.exchange.up_pressure(pressure, now);
            return self.after(conn, id, net);
        }
        self.with_stream(conn, id, net, |stream, now, out| {
            stream.exchange.handle_down(&data, now, out);
        });
    }

    pub(super) fn on_stream_finished(&mut self, conn: ConnId, id: StreamId, net: &mut dyn Net) {
        self.with_stream(conn, id, net, |stream, now, out| stream.exchange.down_finished(now, out));
    }

    pub(super) fn on_stream_writable(&mut self, conn: ConnId, id: StreamId, net: &mut dyn Net) {
        self.with_stream(conn, id, net, |stream, now, out| {
            stream.exchange.down_pressure(Pressure::Open, now, out);
        });
    }

    /// The stream is gone: what it had upstream goes too.
    pub(super) fn on_stream_closed(&mut self, conn: ConnId, id: StreamId, net: &mut dyn Net) {
        self.with_stream(conn, id, net, |stream, _, out| stream.exchange.down_lost(out));
        self.forget_stream(conn, id, net);
    }

    pub(super) fn on_upstream_connected(&mut self, conn: ConnId, id: StreamId, net: &mut dyn Net) {
        self.with_stream(conn, id, net, |stream, now, out| stream.exchange.up_connected(now, out));
        self.pump(conn, net);
    }

    pub(super) fn on_upstream_data(
        &mut self,
        conn: ConnId,
        id: StreamId,
        data: Lease,
        net: &mut dyn Net,
    ) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let Some(stream) = session.streams.get_mut(&id) else { return };
        if !stream.exchange.pass_up(data.len(), net.now()) {
            self.with_stream(conn, id, net, |stream, now, out| {
                stream.exchange.handle_up(&data, now, out);
            });
        } else if session.tunnel.send(id, data.freeze()) == Pressure::Full {
            self.with_stream(conn, id, net, |stream, now, out| {
                stream.exchange.down_pressure(Pressure::Full, now, out);
            });
        }
        self.pump(conn, net);
    }

    pub(super) fn on_upstream_finished(&mut self, conn: ConnId, id: StreamId, net: &mut dyn Net) {
        self.with_stream(conn, id, net, |stream, now, out| stream.exchange.up_finished(now, out));
        self.pump(conn, net);
    }

    pub(super) fn on_upstream_drained(
        &mut self,
        conn: ConnId,
        id: StreamId,
        len: usize,
        net: &mut dyn Net,
    ) {
        self.with_stream(conn, id, net, |stream, _, _| {
            stream.queued = stream.queued.saturating_sub(len);
        });
        self.pump(conn, net);
    }

    pub(super) fn on_upstream_closed(
        &mut self,
        conn: ConnId,
        id: StreamId,
        why: &Close,
        net: &mut dyn Net,
    ) {
        self.with_stream(conn, id, net, |stream, now, out| {
            stream.upstream = None;
            stream.queued = 0;
            match why {
                Close::Clean => (),
                Close::Refused(why) | Close::Untrusted(why) => {
                    let why = format!("the API server cannot be reached: {why}");
                    stream.exchange.up_failed(&why, now, out);
                }
                Close::Truncated => {
                    // kube-apiserver ends streams without close_notify; the framing tells whether
                    // anything is missing, except where only the end tells the end.
                    stream.exchange.up_lost(now, out);
                }
                Close::Reset => stream.exchange.up_lost(now, out),
            }
        });
        self.pump(conn, net);
    }

    pub(super) fn on_exchange_deadline(&mut self, conn: ConnId, id: StreamId, net: &mut dyn Net) {
        self.with_stream(conn, id, net, |stream, now, out| {
            stream.exchange.handle_deadline(now, out);
        });
        self.pump(conn, net);
    }

    pub(super) fn on_expiry(&mut self, conn: ConnId, id: StreamId, net: &mut dyn Net) {
        self.with_stream(conn, id, net, |stream, now, out| stream.exchange.cut(now, out));
        self.pump(conn, net);
    }

    /// Lets `act` do something with a stream, then passes on what came of it. `false` if there is
    /// no such stream.
    pub(super) fn with_stream(
        &mut self,
        conn: ConnId,
        id: StreamId,
        net: &mut dyn Net,
        act: impl FnOnce(&mut Stream, Instant, &mut Output),
    ) -> bool {
        let mut out = Output::default();
        let Some(stream) = self.stream(conn, id) else { return false };
        act(stream, net.now(), &mut out);
        self.settle(conn, id, out, net);
        while let Some(event) = self.stream(conn, id).and_then(|it| it.exchange.poll_event()) {
            let mut out = Output::default();
            self.on_exchange_event(conn, id, event, &mut out, net);
            self.settle(conn, id, out, net);
        }
        self.after(conn, id, net);
        true
    }

    fn stream(&mut self, conn: ConnId, id: StreamId) -> Option<&mut Stream> {
        self.sessions.get_mut(&conn)?.streams.get_mut(&id)
    }

    fn on_exchange_event(
        &mut self,
        conn: ConnId,
        id: StreamId,
        event: Event,
        out: &mut Output,
        net: &mut dyn Net,
    ) {
        match event {
            Event::Request(head) => self.on_request(conn, id, head, out, net),
            Event::Connect => self.connect_upstream(conn, id, out, net),
            Event::Response(head) => self.on_response(conn, id, &head, out, net),
            Event::Upgraded => {
                self.note(conn, id, Stage::ResponseStarted, None, net);
                let at = net.now() + self.config.session_max;
                self.timers.set(Key::Expiry(conn, id), at);
            }
            Event::Complete => self.on_complete(conn, id, None, net),
            Event::Failed(failure) => self.on_complete(conn, id, Some(&failure), net),
        }
    }

    fn on_request(
        &mut self,
        conn: ConnId,
        id: StreamId,
        head: RequestHead,
        out: &mut Output,
        net: &mut dyn Net,
    ) {
        let decision = self.admit(conn, &head, net);
        let now = net.now();
        let (admitted, outgoing) = match decision {
            Decision::Forward(admitted, outgoing) => (*admitted, *outgoing),
            Decision::Refuse(refusal) => {
                let peer = self.sessions.get(&conn).map(|session| session.peer);
                let line = audit::refusal(&refusal, &head, peer, net.unix_time());
                // Nothing goes upstream, so there is nothing to hold back if this fails.
                let _ = net.record(&line);
                let Some(stream) = self.stream(conn, id) else { return };
                stream.exchange.respond(&refusal.head(), &refusal.body(), now, out);
                return;
            }
        };
        let Some(stream) = self.sessions.get_mut(&conn).and_then(|it| it.streams.get_mut(&id))
        else {
            return;
        };
        if stream.anonymous != admitted.anonymous {
            stream.exchange.retire_up(out);
        }
        stream.anonymous = admitted.anonymous;
        let patience = if admitted.info.is_long_running() {
            Patience::LongRunning
        } else {
            Patience::Ordinary
        };
        if let Err(why) = stream.exchange.forward(&outgoing, patience, now, out) {
            debug!("conn={} request cannot be passed on: {why}", conn.0);
            let (head, body) = status_response(400, "the request cannot be passed on");
            stream.exchange.respond(&head, &body, now, out);
            return;
        }
        if let Some(expires) = admitted.expires {
            let left = (expires + EXPIRY_LEEWAY).saturating_sub(net.unix_time());
            self.timers.set(Key::Expiry(conn, id), now + Duration::from_secs(left));
        }
        if let Some(caller) = &admitted.caller {
            *self.callers.entry(caller.clone()).or_default() += 1;
        }
        stream.served = Some(Served { admitted, head: outgoing, status: 0, retried: false });
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.in_flight += 1;
        }
    }

    /// Whether one more request of `caller` on this session is one too many.
    pub(super) fn is_crowded(&self, conn: ConnId, caller: Option<&(String, String)>) -> bool {
        let own = caller.and_then(|it| self.callers.get(it)).copied().unwrap_or_default();
        let session = self.sessions.get(&conn).map_or(0, |session| session.in_flight);
        let all: usize = self.sessions.values().map(|session| session.in_flight).sum();
        IN_FLIGHT_CALLER <= own || IN_FLIGHT_SESSION <= session || IN_FLIGHT_MAX <= all
    }

    fn connect_upstream(
        &mut self,
        conn: ConnId,
        id: StreamId,
        out: &mut Output,
        net: &mut dyn Net,
    ) {
        let Some(stream) = self.sessions.get_mut(&conn).and_then(|it| it.streams.get_mut(&id))
        else {
            return;
        };
        let upstream = &self.config.upstream;
        let to = if stream.anonymous { &upstream.anonymous } else { &upstream.endpoint };
        match net.connect(to) {
            Some(up) => {
                stream.upstream = Some(up);
                stream.queued = 0;
                self.upstreams.insert(up, (conn, id));
            }
            None => stream.exchange.up_failed("too many connections", net.now(), out),
        }
    }

    fn on_response(
        &mut self,
        conn: ConnId,
        id: StreamId,
        head: &ResponseHead,
        out: &mut Output,
        net: &mut dyn Net,
    ) {
        let token = self.credential.token().cloned();
        let Some(stream) = self.stream(conn, id) else { return };
        let now = net.now();
        if let Some(served) = &mut stream.served {
            // Our own token was refused: it may have been rotated a moment ago.
            let ours = head.status() == 401 && !served.admitted.anonymous && !served.retried;
            if ours && stream.exchange.can_retry() && token.is_some() {
                served.retried = true;
                let mut again = served.head.clone();
                super::admit::set_bearer(&mut again, token.as_ref());
                if stream.exchange.retry(&again, out).is_ok() {
                    self.credential.read_again(net);
                    return;
                }
            }
            served.status = head.status();
        }
        stream.exchange.answer(head, now, out);
        let long = stream.served.as_ref().is_some_and(|it| it.admitted.info.is_long_running());
        if long && head.status() != 101 {
            self.note(conn, id, Stage::ResponseStarted, None, net);
        }
    }

    fn on_complete(
        &mut self,
        conn: ConnId,
        id: StreamId,
        failure: Option<&Failure>,
        net: &mut dyn Net,
    ) {
        if let Some(failure) = failure {
            debug!("conn={} stream={} exchange failed: {failure}", conn.0, id.0);
        }
        self.note(conn, id, Stage::ResponseComplete, failure, net);
        self.timers.cancel(Key::Expiry(conn, id));
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let Some(served) = session.streams.get_mut(&id).and_then(|it| it.served.take()) else {
            return;
        };
        session.in_flight -= 1;
        let Some(caller) = served.admitted.caller else { return };
        if let Some(count) = self.callers.get_mut(&caller) {
            *count -= 1;
            if *count == 0 {
                self.callers.remove(&caller);
            }
        }
    }

    fn note(
        &mut self,
        conn: ConnId,
        id: StreamId,
        stage: Stage,
        failure: Option<&Failure>,
        net: &mut dyn Net,
    ) {
        let Some(served) = self.stream(conn, id).and_then(|it| it.served.as_ref()) else { return };
        let status =
            if served.status == 0 { failure.map_or(0, Failure::status) } else { served.status };
        let why = failure.map(ToString::to_string);
        let line = audit::served(&served.admitted, stage, status, why.as_deref(), net.unix_time());
        // The request was written down before it went upstream; this line only completes it.
        let _ = net.record(&line);
    }

    /// Passes on what the machine has put out: bytes before ends.
    fn settle(&mut self, conn: ConnId, id: StreamId, mut out: Output, net: &mut dyn Net) {
        while !out.is_empty() {
            let mut more = Output::default();
            self.send_up(conn, id, &out, net);
            self.send_down(conn, id, &out, net, &mut more);
            out = more;
        }
    }

    fn send_up(&mut self, conn: ConnId, id: StreamId, out: &Output, net: &mut dyn Net) {
        let Some(stream) = self.sessions.get_mut(&conn).and_then(|it| it.streams.get_mut(&id))
        else {
            return;
        };
        let Some(up) = stream.upstream else { return };
        let pool = net.pool().clone();
        stream.queued += out.up.len();
        let mut pressure = net.pressure(up);
        for slice in pool.slices(&out.up) {
            pressure = net.send(up, slice);
        }
        if !out.up.is_empty() {
            stream.exchange.up_pressure(pressure, net.now());
        }
        match out.up_end {
            None => (),
            Some(End::Finish) => net.finish(up),
            Some(end @ (End::Close | End::Abort)) => {
                stream.upstream = None;
                stream.queued = 0;
                self.upstreams.remove(&up);
                if end == End::Close { net.close(up) } else { net.abort(up) }
            }
        }
    }

    fn send_down(
        &mut self,
        conn: ConnId,
        id: StreamId,
        out: &Output,
        net: &mut dyn Net,
        more: &mut Output,
    ) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let pool = net.pool().clone();
        let mut pressure = Pressure::Open;
        for slice in pool.slices(&out.down) {
            pressure = session.tunnel.send(id, slice);
        }
        if pressure == Pressure::Full
            && let Some(stream) = session.streams.get_mut(&id)
        {
            stream.exchange.down_pressure(pressure, net.now(), more);
        }
        match out.down_end {
            None => (),
            Some(End::Finish | End::Close) => session.tunnel.finish(id),
            Some(End::Abort) => {
                if !session.tunnel.reset(id) {
                    net.abort(conn);
                    self.on_session_gone(conn, net);
                }
            }
        }
    }

    /// After every change: credit, back-pressure, deadlines.
    fn after(&mut self, conn: ConnId, id: StreamId, net: &mut dyn Net) {
        let now = net.now();
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let Some(stream) = session.streams.get_mut(&id) else { return };
        if stream.exchange.is_gone() {
            self.forget_stream(conn, id, net);
            return;
        }
        let unsent = stream.queued + stream.exchange.kept_down();
        let credit = stream.held.saturating_sub(unsent);
        stream.held -= credit;
        session.tunnel.drained(id, credit, now);
        if let Some(up) = stream.upstream {
            if net.pressure(up) == Pressure::Open {
                stream.exchange.up_pressure(Pressure::Open, now);
            }
            if stream.exchange.wants_up() { net.resume(up) } else { net.pause(up) }
        }
        match stream.exchange.deadline() {
            Some(at) => self.timers.set(Key::Exchange(conn, id), at),
            None => self.timers.cancel(Key::Exchange(conn, id)),
        }
    }

    fn forget_stream(&mut self, conn: ConnId, id: StreamId, net: &mut dyn Net) {
        self.on_complete(conn, id, None, net);
        self.timers.cancel(Key::Exchange(conn, id));
        self.timers.cancel(Key::Expiry(conn, id));
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let Some(stream) = session.streams.remove(&id) else { return };
        session.tunnel.drained(id, stream.held, net.now());
        if let Some(up) = stream.upstream {
            self.upstreams.remove(&up);
            net.abort(up);
        }
    }
}

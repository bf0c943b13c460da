//! One stream of a session: a caller's HTTP connection, its machine, and its own connection to
//! kube-apiserver.
//!
//! Credit for what came over the stream is returned when it has left the process, so a slow API
//! server slows this caller and nobody else.

use std::sync::Arc;
use std::time::Instant;

use super::admit::Admitted;
use super::audit::Stage;
use super::request::Parked;
use super::{AuthProxy, Key};
use crate::buf::{Lease, Pressure, Slice};
use crate::engine::exchange::{End, Event, Exchange, Output};
use crate::limits::STREAMS_OF_STRANGERS;
use crate::role::{Close, ConnId, Net};
use crate::wire::h1::{RequestHead, ResponseHead};
use crate::wire::mux::StreamId;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) exchange: Exchange,
    upstream: Option<ConnId>,
    /// The upstream connection carries no credential of ours.
    pub(super) anonymous: bool,
    /// Bytes received over the stream for which no credit has been returned.
    held: usize,
    /// Bytes queued towards the upstream.
    queued: usize,
    /// What waits for an answer before it can be decided.
    pub(super) parked: Option<Parked>,
    /// What is in flight, once it was let through.
    pub(super) served: Option<Served>,
    /// Bytes that came from the caller, and that went to it.
    pub(super) carried: (u64, u64),
}

/// A request that was let through.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) admitted: Admitted,
    /// The head as it went upstream, for the one case in which it goes again.
    pub(super) head: RequestHead,
    pub(super) status: u16,
    pub(super) retry: Retry,
    /// When it went upstream.
    pub(super) since: Instant,
    /// Why it was ended from here.
    pub(super) cut: Option<&'static str>,
}

/// Whether a request may go again because the API server does not know our own token.
#[derive(Debug)]
pub(super) enum Retry {
    /// It may.
    Possible,
    /// That is known once the token has been read again; this is the answer if it is no other.
    Awaited(Box<ResponseHead>),
    /// It has gone again, or need not.
    Over,
}

impl AuthProxy {
    pub(super) fn on_stream_opened(&mut self, conn: ConnId, id: StreamId, net: &mut dyn Net) {
        let most = self.config.in_flight.session;
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        // Whoever has shown no good credential yet gets by with a few streams.
        let most = if session.is_known { most.saturating_mul(2) } else { STREAMS_OF_STRANGERS };
        if most <= session.streams.len() {
            // A session of one stream has no second one.
            let _ = session.tunnel.reset(id);
            return;
        }
        let stream = Stream {
            exchange: Exchange::with_times(net.now(), Arc::clone(&self.config.times))
                .calling(Arc::clone(&self.server)),
            upstream: None,
            anonymous: false,
            held: 0,
            queued: 0,
            parked: None,
            served: None,
            carried: (0, 0),
        };
        session.streams.insert(id, Box::new(stream));
        session.has_asked = true;
        self.warm(conn, net);
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
        stream.carried.0 += len as u64;
        // A full queue pins no more buffers than it must: what still comes is copied together.
        if let Some(up) = stream.upstream
            && net.pressure(up) == Pressure::Open
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
        self.awaits_no_keys((conn, id));
        self.with_stream(conn, id, net, |stream, _, out| stream.exchange.down_lost(out));
        self.forget_stream(conn, id, net);
    }

    pub(super) fn on_upstream_connected(&mut self, conn: ConnId, id: StreamId, net: &mut dyn Net) {
        self.spares.on_reached();
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
        let len = data.len();
        if !stream.exchange.pass_up(len, net.now()) {
            self.with_stream(conn, id, net, |stream, now, out| {
                stream.exchange.handle_up(&data, now, out);
            });
            return self.pump(conn, net);
        }
        stream.carried.1 += len as u64;
        if session.tunnel.send(id, data.freeze()) == Pressure::Full {
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
        pressure: Pressure,
        net: &mut dyn Net,
    ) {
        self.with_stream(conn, id, net, |stream, now, _| {
            stream.queued = stream.queued.saturating_sub(len);
            stream.exchange.up_pressure(pressure, now);
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
        let server = Arc::clone(&self.server);
        self.with_stream(conn, id, net, |stream, now, out| {
            stream.upstream = None;
            stream.queued = 0;
            match why {
                Close::Clean => (),
                Close::Refused(why) | Close::Untrusted(why) => {
                    let why = format!("{server} cannot be reached: {why}");
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
        self.cut(conn, id, "the token has expired, or the session has lasted its time", net);
    }

    /// Ends what is in flight on a stream.
    pub(super) fn cut(&mut self, conn: ConnId, id: StreamId, why: &'static str, net: &mut dyn Net) {
        self.with_stream(conn, id, net, |stream, now, out| {
            if let Some(served) = &mut stream.served {
                served.cut = Some(why);
            }
            stream.exchange.cut(now, out);
        });
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

    pub(super) fn stream(&mut self, conn: ConnId, id: StreamId) -> Option<&mut Stream> {
        self.sessions.get_mut(&conn)?.streams.get_mut(&id).map(Box::as_mut)
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
            Event::Response(head) => self.on_response(conn, id, head, out, net),
            Event::Upgraded => {
                self.note(conn, id, Stage::ResponseStarted, None, net);
                self.limit_session(conn, id, net);
            }
            Event::Complete => self.on_complete(conn, id, None, net),
            Event::Failed(failure) => self.on_complete(conn, id, Some(&failure), net),
        }
    }

    fn connect_upstream(
        &mut self,
        conn: ConnId,
        id: StreamId,
        out: &mut Output,
        net: &mut dyn Net,
    ) {
        let Some(stream) = self.stream(conn, id) else { return };
        let anonymous = stream.anonymous;
        // What goes up without a credential of ours has connections of its own.
        let ready = if anonymous { None } else { self.take_spare() };
        let upstream = &self.config.upstream;
        let to = if anonymous { &upstream.anonymous } else { &upstream.endpoint };
        let dialled = ready.or_else(|| net.connect(to).map(|up| (up, false)));
        let Some(stream) = self.stream(conn, id) else { return };
        let Some((up, is_up)) = dialled else {
            return stream.exchange.up_failed("too many connections", net.now(), out);
        };
        stream.upstream = Some(up);
        stream.queued = 0;
        if is_up {
            stream.exchange.up_connected(net.now(), out);
        }
        self.upstreams.insert(up, (conn, id));
        self.warm(conn, net);
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
        if let Some(stream) = session.streams.get_mut(&id) {
            stream.carried.1 += out.down.len() as u64;
        }
        if pressure == Pressure::Full
            && let Some(stream) = session.streams.get_mut(&id)
        {
            stream.exchange.down_pressure(pressure, net.now(), more);
        }
        match out.down_end {
            None => (),
            Some(End::Finish | End::Close) => session.tunnel.finish(id),
            Some(End::Abort) if session.tunnel.reset(id) => (),
            Some(End::Abort) => {
                net.abort(conn);
                self.on_session_gone(conn, net);
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

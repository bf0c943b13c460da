//! One connection of kubectl's: its machine, and its stream towards the cluster.

use std::sync::Arc;
use std::time::Instant;

use log::debug;

use super::admission::Stranger;
use super::again::Kept;
use super::route::{PREFIX, Pinned, Route};
use super::{ClientProxy, Key};
use crate::buf::{Lease, Pressure, Slice};
use crate::engine::exchange::{End, Event, Exchange, Output, Patience, status_response};
use crate::limits::RELIEF_AGE;
use crate::role::{ConnId, Net};
use crate::wire::h1::{RequestHead, strip};
use crate::wire::kube::RequestInfo;
use crate::wire::mux::StreamId;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) exchange: Exchange,
    pinned: Pinned,
    pub(super) cluster: Option<String>,
    pub(super) stream: Option<(ConnId, StreamId)>,
    pub(super) kept: Kept,
    /// A request that waits for the caller's token.
    undecided: Option<RequestHead>,
    /// Bytes received from the cluster for which no credit has been returned.
    held: usize,
    /// Bytes queued towards kubectl.
    queued: usize,
}

impl ClientProxy {
    pub(super) fn on_local_accepted(&mut self, conn: ConnId, net: &mut dyn Net) {
        let local = Local {
            exchange: Exchange::new(net.now()).calling(Arc::clone(&self.far)),
            pinned: Pinned::default(),
            cluster: None,
            stream: None,
            kept: Kept::default(),
            undecided: None,
            held: 0,
            queued: 0,
        };
        self.locals.insert(conn, Box::new(local));
        self.with_local(conn, net, |_, _, _| ());
    }

    pub(super) fn on_local_data(&mut self, conn: ConnId, data: Lease, net: &mut dyn Net) {
        let Some(local) = self.locals.get_mut(&conn) else { return };
        if let Some((session, stream)) = local.stream
            && let Some(state) = self.sessions.get_mut(&session)
            && local.exchange.pass_down(data.len(), net.now())
        {
            local.kept.note(&state.tunnel, stream, &data);
            let pressure = state.tunnel.send(stream, data.freeze());
            local.exchange.up_pressure(pressure, net.now());
            return self.after(conn, net);
        }
        self.with_local(conn, net, |local, now, out| local.exchange.handle_down(&data, now, out));
    }

    pub(super) fn on_local_finished(&mut self, conn: ConnId, net: &mut dyn Net) {
        self.with_local(conn, net, |local, now, out| local.exchange.down_finished(now, out));
    }

    pub(super) fn on_local_drained(&mut self, conn: ConnId, len: usize, net: &mut dyn Net) {
        let pressure = net.pressure(conn);
        self.with_local(conn, net, |local, now, out| {
            local.queued = local.queued.saturating_sub(len);
            local.exchange.down_pressure(pressure, now, out);
        });
    }

    pub(super) fn on_local_gone(&mut self, conn: ConnId, net: &mut dyn Net) {
        self.with_local(conn, net, |local, _, out| local.exchange.down_lost(out));
        self.forget_local(conn, net);
    }

    pub(super) fn on_exchange_deadline(&mut self, conn: ConnId, net: &mut dyn Net) {
        self.with_local(conn, net, |local, now, out| local.exchange.handle_deadline(now, out));
    }

    pub(super) fn on_cluster_data(&mut self, conn: ConnId, data: Slice, net: &mut dyn Net) {
        let len = data.len();
        let Some(local) = self.locals.get_mut(&conn) else { return };
        local.kept = Kept::default();
        local.held += len;
        // A full queue pins no more buffers than it must: what still comes is copied together.
        if net.pressure(conn) == Pressure::Full || !local.exchange.pass_up(len, net.now()) {
            return self.with_local(conn, net, |local, now, out| {
                local.exchange.handle_up(&data, now, out)
            });
        }
        local.queued += len;
        if net.send(conn, data) == Pressure::Full {
            self.with_local(conn, net, |local, now, out| {
                local.exchange.down_pressure(Pressure::Full, now, out);
            });
        } else {
            self.after(conn, net);
        }
    }

    pub(super) fn on_cluster_finished(&mut self, conn: ConnId, net: &mut dyn Net) {
        self.with_local(conn, net, |local, now, out| local.exchange.up_finished(now, out));
    }

    pub(super) fn on_cluster_writable(&mut self, conn: ConnId, net: &mut dyn Net) {
        self.with_local(conn, net, |local, now, _| {
            local.exchange.up_pressure(Pressure::Open, now);
        });
    }

    /// The stream was reset, or its session is gone.
    pub(super) fn on_cluster_lost(&mut self, conn: ConnId, net: &mut dyn Net) {
        self.with_local(conn, net, |local, now, out| {
            local.stream = None;
            local.exchange.up_lost(now, out);
        });
    }

    /// The session is gone, and `why` says so to who still waits for an answer.
    pub(super) fn on_cluster_broken(&mut self, conn: ConnId, why: &str, net: &mut dyn Net) {
        self.with_local(conn, net, |local, now, out| {
            local.stream = None;
            local.exchange.up_broken(why, now, out);
        });
    }

    /// The stream of a connection is of no further use unless something is under way on it.
    pub(super) fn retire_stream(&mut self, conn: ConnId, net: &mut dyn Net) {
        self.with_local(conn, net, |local, _, out| local.exchange.retire_up(out));
    }

    /// The cluster cannot be reached: everybody who waits for it reads `why`.
    pub(super) fn refuse_waiting(&mut self, id: &str, why: &str, net: &mut dyn Net) {
        let Some(cluster) = self.clusters.get_mut(id) else { return };
        for conn in std::mem::take(&mut cluster.waiting) {
            self.with_local(conn, net, |local, now, out| local.exchange.up_broken(why, now, out));
        }
        let Some(cluster) = self.clusters.get_mut(id) else { return };
        for conn in std::mem::take(&mut cluster.undecided) {
            self.with_local(conn, net, |local, now, out| {
                local.undecided = None;
                local.exchange.up_failed(why, now, out);
            });
        }
    }

    /// The caller's token is there now.
    pub(super) fn decide_again(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(head) = self.locals.get_mut(&conn).and_then(|local| local.undecided.take()) else {
            return;
        };
        let mut out = Output::default();
        self.decide(conn, head, &mut out, net);
        self.settle(conn, out, net);
        self.with_local(conn, net, |_, _, _| ());
    }

    /// Gives a waiting connection its stream.
    pub(super) fn give_stream(&mut self, conn: ConnId, id: &str, net: &mut dyn Net) {
        if !self.locals.contains_key(&conn) {
            return;
        }
        let sessions = self.sessions_for(id, net.now()).into_iter().flatten();
        let stream = sessions
            .filter_map(|session| Some((session, self.sessions.get_mut(&session)?.tunnel.open()?)))
            .next();
        if let Some((session, stream)) = stream
            && let Some(state) = self.sessions.get_mut(&session)
        {
            state.streams.insert(stream, conn);
            if state.streams.len() == 1 && state.is_far() {
                // Whether it stays is to be seen.
                state.oldest = Some((stream, net.now()));
                self.timers.set(Key::Relief(session), net.now() + RELIEF_AGE);
            }
            if let Some(local) = self.locals.get_mut(&conn).filter(|it| it.kept.is_waiting()) {
                local.stream = Some((session, stream));
                let pressure = local.kept.send(&mut state.tunnel, stream, net);
                local.exchange.up_pressure(pressure, net.now());
                return self.with_local(conn, net, |_, _, _| ());
            }
        }
        self.with_local(conn, net, |local, now, out| match stream {
            Some(stream) => {
                local.stream = Some(stream);
                local.kept = Kept::default();
                local.held = 0;
                local.exchange.up_connected(now, out);
            }
            None => local.exchange.up_broken("the cluster takes no more streams", now, out),
        });
    }

    /// Lets `act` do something with a connection, then passes on what came of it.
    pub(super) fn with_local(
        &mut self,
        conn: ConnId,
        net: &mut dyn Net,
        act: impl FnOnce(&mut Local, Instant, &mut Output),
    ) {
        let mut out = Output::default();
        let Some(local) = self.locals.get_mut(&conn) else { return };
        act(local, net.now(), &mut out);
        self.settle(conn, out, net);
        while let Some(event) =
            self.locals.get_mut(&conn).and_then(|local| local.exchange.poll_event())
        {
            let mut out = Output::default();
            match event {
                Event::Request(head) => self.decide(conn, head, &mut out, net),
                Event::Connect => self.connect(conn, net),
                Event::Response(head) => {
                    if let Some(local) = self.locals.get_mut(&conn) {
                        local.exchange.answer(&head, net.now(), &mut out);
                    }
                }
                Event::Upgraded | Event::Complete => (),
                Event::Failed(why) => debug!("conn={} exchange failed: {why}", conn.0),
            }
            self.settle(conn, out, net);
        }
        self.after(conn, net);
    }

    fn decide(&mut self, conn: ConnId, mut head: RequestHead, out: &mut Output, net: &mut dyn Net) {
        let now = net.now();
        let refused = match self.check(conn, &head) {
            Err((status, why)) => Some((status, why)),
            Ok(id) => match self.prepare(&id, &mut head, now) {
                Prepared::Yes => {
                    let long = RequestInfo::of(head.method(), head.target()).is_long_running();
                    let patience = if long { Patience::LongRunning } else { Patience::Ordinary };
                    let Some(local) = self.locals.get_mut(&conn) else { return };
                    local.cluster = Some(id);
                    let forwarded = local.exchange.forward(&head, patience, now, out);
                    forwarded.err().map(|why| (400, why.to_string()))
                }
                Prepared::TokenMissing => {
                    let Some(local) = self.locals.get_mut(&conn) else { return };
                    local.undecided = Some(head);
                    if let Some(cluster) = self.clusters.get_mut(&id) {
                        cluster.undecided.push(conn);
                    }
                    self.want_token(&id, net);
                    None
                }
                Prepared::No(why) => Some((400, why)),
            },
        };
        let Some((status, why)) = refused else { return };
        let Some(local) = self.locals.get_mut(&conn) else { return };
        let (answer, body) = status_response(status, &why);
        local.exchange.respond(&answer, &body, now, out);
        if status == 421 {
            local.exchange.close_when_idle(now, out);
        }
    }

    /// Whether the caller may use this port, and for which cluster the request is.
    fn check(&mut self, conn: ConnId, head: &RequestHead) -> Result<String, (u16, String)> {
        let fields = head.fields.all("authorization");
        self.config.bearer.check(fields).map_err(|why: Stranger| (401, why.to_string()))?;
        let Some((cluster, _)) = self.route(head.target()) else {
            return Err((404, "this proxy does not lead to that cluster".to_owned()));
        };
        let Some(local) = self.locals.get_mut(&conn) else {
            return Err((500, "the connection is gone".to_owned()));
        };
        local.pinned.admit(&cluster).map_err(|_| {
            (421, "one connection leads to one cluster: open another one".to_owned())
        })?;
        Ok(cluster)
    }

    /// The cluster that a target is for, and the target there. `kubectl get --raw` leaves out the
    /// path of the server's URL; with a single cluster there is nothing to guess.
    fn route(&self, target: &str) -> Option<(String, String)> {
        if let Some(route) = Route::of(target) {
            let known = self.clusters.contains_key(route.cluster);
            return known.then(|| (route.cluster.to_owned(), route.target()));
        }
        let mut clusters = self.clusters.keys();
        let (Some(only), None) = (clusters.next(), clusters.next()) else { return None };
        let is_path = target.starts_with('/') && !target.starts_with(PREFIX);
        is_path.then(|| (only.clone(), target.to_owned()))
    }

    /// Makes the head that goes on: the path without its prefix, the caller's own token in the
    /// place of the local bearer.
    fn prepare(&self, id: &str, head: &mut RequestHead, now: Instant) -> Prepared {
        let Some(cluster) = self.clusters.get(id) else { return Prepared::No("unknown".into()) };
        let token = match &self.config.kubernetes_token {
            Some(token) => token,
            None if !cluster.token.is_good(now, false) => return Prepared::TokenMissing,
            None => match cluster.token.text() {
                Some(token) => token,
                None => return Prepared::TokenMissing,
            },
        };
        let Some((_, target)) = self.route(head.target()) else {
            return Prepared::No("no such path".into());
        };
        strip(&mut head.fields);
        head.fields.remove("authorization");
        head.fields.remove("host");
        let bearer = format!("Bearer {}", token.expose());
        let result = head
            .set_target(&target)
            .and_then(|()| head.fields.push("Host", cluster.resource.server_name()))
            .and_then(|()| head.fields.push("Authorization", bearer));
        match result {
            Ok(()) => Prepared::Yes,
            Err(why) => Prepared::No(why.to_string()),
        }
    }

    pub(super) fn connect(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(id) = self.locals.get(&conn).and_then(|local| local.cluster.clone()) else {
            return;
        };
        let session = self.clusters.get(&id).and_then(|cluster| cluster.session);
        let session = session.and_then(|session| self.sessions.get(&session));
        if session.is_some_and(|session| session.tunnel.is_established()) {
            self.give_stream(conn, &id, net);
            return;
        }
        if let Some(cluster) = self.clusters.get_mut(&id) {
            cluster.waiting.push(conn);
        }
        self.want_session(&id, net);
    }

    /// Passes on what the machine has put out: bytes before ends.
    fn settle(&mut self, conn: ConnId, mut out: Output, net: &mut dyn Net) {
        while !out.is_empty() {
            let mut more = Output::default();
            self.send_to_cluster(conn, &out, net);
            self.send_to_caller(conn, &out, net, &mut more);
            out = more;
        }
    }

    fn send_to_cluster(&mut self, conn: ConnId, out: &Output, net: &mut dyn Net) {
        let Some(local) = self.locals.get_mut(&conn) else { return };
        if local.kept.is_waiting() {
            return self.keep(conn, out);
        }
        let Some((session, stream)) = local.stream else { return };
        let Some(state) = self.sessions.get_mut(&session) else { return };
        local.kept.note(&state.tunnel, stream, &out.up);
        let pool = net.pool().clone();
        let mut pressure = Pressure::Open;
        for slice in pool.slices(&out.up) {
            pressure = state.tunnel.send(stream, slice);
        }
        if pressure == Pressure::Full {
            local.exchange.up_pressure(pressure, net.now());
        }
        match out.up_end {
            None => (),
            Some(End::Finish) => state.tunnel.finish(stream),
            Some(End::Close) => {
                // What still comes is of no use to anybody; the reset says so once we are done.
                state.tunnel.finish(stream);
                state.streams.remove(&stream);
                state.tunnel.drained(stream, local.held, net.now());
                local.stream = None;
            }
            Some(End::Abort) => {
                state.streams.remove(&stream);
                // A session of many streams is never dropped for one of them.
                let _ = state.tunnel.reset(stream);
                local.stream = None;
            }
        }
        self.pump_session(session, net);
    }

    fn send_to_caller(&mut self, conn: ConnId, out: &Output, net: &mut dyn Net, more: &mut Output) {
        let Some(local) = self.locals.get_mut(&conn) else { return };
        let pool = net.pool().clone();
        let mut pressure = Pressure::Open;
        local.queued += out.down.len();
        for slice in pool.slices(&out.down) {
            pressure = net.send(conn, slice);
        }
        if pressure == Pressure::Full {
            local.exchange.down_pressure(pressure, net.now(), more);
        }
        match out.down_end {
            None => (),
            Some(End::Finish) => net.finish(conn),
            Some(End::Close) => {
                net.close(conn);
                self.forget_local(conn, net);
            }
            Some(End::Abort) => {
                net.abort(conn);
                self.forget_local(conn, net);
            }
        }
    }

    /// After every change: credit, back-pressure, deadlines.
    fn after(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(local) = self.locals.get_mut(&conn) else { return };
        if let Some((session, stream)) = local.stream
            && let Some(state) = self.sessions.get_mut(&session)
        {
            let credit = local.held.saturating_sub(local.queued);
            local.held -= credit;
            state.tunnel.drained(stream, credit, net.now());
            if state.tunnel.pressure(stream) == Pressure::Open {
                local.exchange.up_pressure(Pressure::Open, net.now());
            }
        }
        if local.exchange.wants_down() {
            net.resume(conn)
        } else {
            net.pause(conn)
        }
        match local.exchange.deadline() {
            Some(at) => self.timers.set(Key::Exchange(conn), at),
            None => self.timers.cancel(Key::Exchange(conn)),
        }
        if let Some((session, _)) = local.stream {
            self.pump_session(session, net);
        }
    }

    fn forget_local(&mut self, conn: ConnId, net: &mut dyn Net) {
        self.timers.cancel(Key::Exchange(conn));
        let Some(local) = self.locals.remove(&conn) else { return };
        for cluster in self.clusters.values_mut() {
            cluster.waiting.retain(|it| *it != conn);
            cluster.undecided.retain(|it| *it != conn);
        }
        if let Some((session, stream)) = local.stream
            && let Some(state) = self.sessions.get_mut(&session)
        {
            state.streams.remove(&stream);
            let _ = state.tunnel.reset(stream);
            self.pump_session(session, net);
        }
    }
}

enum Prepared {
    Yes,
    TokenMissing,
    No(String),
}

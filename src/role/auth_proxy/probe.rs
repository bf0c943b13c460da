//! Callers measure the tunnel (ALPN `cluster-connect-bench/1`): who they are is decided as for any
//! other request, by the one request of the session's first stream. It goes nowhere; what follows
//! stays between the two ends, one session at a time, for so long, at such a rate, and not too
//! often.

use log::{info, warn};

use super::admit::Admitted;
use super::audit::{self, Stage};
use super::throttle::Bucket;
use super::{AuthProxy, Key};
use crate::engine::exchange::{Output, status_response};
use crate::engine::mux::Event;
use crate::engine::probe::Far;
use crate::limits::{PROBE_LIFE, PROBE_REFILL, PROBES};
use crate::role::{ConnId, Net};
use crate::wire::h1::ResponseHead;
use crate::wire::mux::StreamId;
use crate::wire::probe::{TARGET, Terms};

impl AuthProxy {
    /// A caller that may make requests wants to measure instead.
    pub(super) fn begin_probe(
        &mut self,
        conn: ConnId,
        id: StreamId,
        admitted: &Admitted,
        out: &mut Output,
        net: &mut dyn Net,
    ) {
        let now = net.now();
        let refusal = self.refuse_probe(admitted, net);
        let (head, body) = match refusal {
            Some((status, why)) => status_response(status, why),
            None => {
                let rate = self.config.probe_rate;
                let body = Terms { seconds: PROBE_LIFE.as_secs(), rate }.to_json();
                (ResponseHead::new(200, body.len() as u64), body)
            }
        };
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        if head.status() == 200 {
            session.is_known = true;
            self.timers.cancel(Key::Handshake(conn));
            session.probe = Some(Far::new(self.config.probe_rate, net.pool(), now));
            self.timers.set(Key::ProbeEnd(conn), now + PROBE_LIFE);
            info!("conn={} user={:?} measures the tunnel", conn.0, admitted.principal.user);
        }
        if let Some(stream) = session.streams.get_mut(&id) {
            stream.exchange.respond(&head, &body, now, out);
        }
        let (stage, status) = (Stage::ResponseComplete, head.status());
        let line = audit::served(admitted, stage, status, None, net.unix_micros());
        // That the request came is written down; nothing of it goes upstream.
        let _ = net.record(&line);
    }

    fn refuse_probe(&mut self, admitted: &Admitted, net: &dyn Net) -> Option<(u16, &'static str)> {
        if admitted.target != TARGET {
            return Some((404, "this session is for measuring"));
        }
        if self.config.probe_rate == 0 {
            return Some((403, "measuring is off"));
        }
        if self.sessions.values().any(|session| session.probe.is_some()) {
            return Some((429, "somebody else is measuring, try again in a minute"));
        }
        let now = net.now();
        let probes = self.probes.get_or_insert_with(|| Bucket::new(PROBES, PROBE_REFILL, now));
        (!probes.take(now)).then_some((429, "measured too often, try again in two minutes"))
    }

    /// Hands `event` to what measures, if the stream is one of its own. Gives it back otherwise.
    pub(super) fn offer_to_probe(
        &mut self,
        conn: ConnId,
        event: Event,
        net: &mut dyn Net,
    ) -> Option<Event> {
        let session = self.sessions.get_mut(&conn)?;
        let Some(far) = session.probe.as_mut() else { return Some(event) };
        let is_ordinary = match &event {
            Event::Data(id, _)
            | Event::Writable(id)
            | Event::Finished(id)
            | Event::Closed(id, _) => session.streams.contains_key(id),
            Event::Opened(_) | Event::GoingAway | Event::Pong(_) => false,
        };
        if is_ordinary {
            return Some(event);
        }
        far.handle(event, &mut session.tunnel, net.pool(), net.now());
        self.watch_probe(conn);
        None
    }

    /// Its allowance has something again.
    pub(super) fn on_probe_due(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let Some(far) = session.probe.as_mut() else { return };
        far.act(&mut session.tunnel, net.pool(), net.now());
        self.watch_probe(conn);
        self.pump(conn, net);
    }

    fn watch_probe(&mut self, conn: ConnId) {
        let far = self.sessions.get(&conn).and_then(|session| session.probe.as_ref());
        match far.and_then(Far::deadline) {
            Some(at) => self.timers.set(Key::Probe(conn), at),
            None => self.timers.cancel(Key::Probe(conn)),
        }
    }

    /// Its time is up.
    pub(super) fn end_probe(&mut self, conn: ConnId, net: &mut dyn Net) {
        warn!("conn={} has measured for {} s: closed", conn.0, PROBE_LIFE.as_secs());
        net.abort(conn);
        self.on_session_gone(conn, net);
    }
}

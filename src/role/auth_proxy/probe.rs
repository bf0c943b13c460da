//! Callers measure the tunnel (ALPN `cluster-connect-bench/1`): who they are is decided as for any
//! other request, by the one request of the session's first stream. It goes nowhere; what follows
//! stays between the two ends, one session at a time, for so long, at such a rate, and not too
//! often for each caller. It is in the audit log from its beginning to its end.

use std::collections::BTreeMap;
use std::time::Instant;

use log::{info, warn};

use super::admit::{self, Admitted};
use super::audit::{self, Stage};
use super::throttle::Bucket;
use super::{AuthProxy, Key};
use crate::engine::exchange::{Output, status_response};
use crate::engine::mux::Event;
use crate::engine::probe::Far;
use crate::limits::{PROBE_CALLERS, PROBE_LIFE, PROBE_REFILL, PROBES};
use crate::role::{ConnId, Net};
use crate::wire::h1::ResponseHead;
use crate::wire::mux::StreamId;
use crate::wire::probe::{TARGET, Terms};

/// A session that measures.
#[derive(Debug)]
pub(super) struct Probe {
    far: Far,
    /// Who does, and since when.
    pub(super) admitted: Admitted,
}

/// How often each caller may still begin to measure.
#[derive(Debug, Default)]
pub(super) struct Callers(BTreeMap<(String, String), Bucket>);

impl Callers {
    /// Whether `caller` may measure once more; `None` when there are too many to tell.
    fn take(&mut self, caller: (String, String), now: Instant) -> Option<bool> {
        if PROBE_CALLERS <= self.0.len() && !self.0.contains_key(&caller) {
            self.0.retain(|_, bucket| !bucket.is_full(now));
            if PROBE_CALLERS <= self.0.len() {
                return None;
            }
        }
        let bucket = self.0.entry(caller);
        Some(bucket.or_insert_with(|| Bucket::new(PROBES, PROBE_REFILL, now)).take(now))
    }
}

impl AuthProxy {
    /// A caller that may make requests wants to measure instead.
    pub(super) fn begin_probe(
        &mut self,
        conn: ConnId,
        id: StreamId,
        admitted: Admitted,
        out: &mut Output,
        net: &mut dyn Net,
    ) {
        let now = net.now();
        let refusal = self.refuse_probe(&admitted, net);
        let (mut head, body) = match refusal {
            Some((status, why)) => status_response(status, why),
            None => {
                let rate = self.config.probe_rate;
                let body = Terms { seconds: PROBE_LIFE.as_secs(), rate }.to_json();
                (ResponseHead::new(200, body.len() as u64), body)
            }
        };
        if head.status() == 429 {
            // A constant obeys the grammar.
            let _ = head.fields.push("Retry-After", "60");
        }
        // What goes on for a while has two lines, as a watch has.
        let begins = head.status() == 200;
        let stage = if begins { Stage::ResponseStarted } else { Stage::ResponseComplete };
        let line = audit::served(&admitted, stage, head.status(), None, net.unix_micros());
        // That the request came is written down; nothing of it goes upstream.
        let _ = net.record(&line);
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        if let Some(stream) = session.streams.get_mut(&id) {
            stream.exchange.respond(&head, &body, now, out);
        }
        if begins {
            session.is_known = true;
            self.timers.cancel(Key::Handshake(conn));
            self.timers.set(Key::ProbeEnd(conn), now + PROBE_LIFE);
            info!("conn={} user={:?} measures the tunnel", conn.0, admitted.principal.user);
            let far = Far::new(self.config.probe_rate, net.pool(), now);
            session.probe = Some(Box::new(Probe { far, admitted }));
        }
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
        match self.probes.take(admit::caller(&admitted.principal), net.now()) {
            Some(true) => None,
            Some(false) => Some((429, "you have measured too often, try again in three minutes")),
            None => Some((429, "too many have measured, try again in three minutes")),
        }
    }

    /// Hands `event` to what measures, if the stream is one of its own. Gives it back otherwise.
    pub(super) fn offer_to_probe(
        &mut self,
        conn: ConnId,
        event: Event,
        net: &mut dyn Net,
    ) -> Option<Event> {
        let session = self.sessions.get_mut(&conn)?;
        let Some(probe) = session.probe.as_mut() else { return Some(event) };
        let is_ordinary = match &event {
            Event::Data(id, _)
            | Event::Writable(id)
            | Event::Finished(id)
            | Event::Closed(id, _) => session.streams.contains_key(id),
            Event::Opened(_) | Event::GoingAway | Event::Pong(_) | Event::Crowded => false,
        };
        if is_ordinary {
            return Some(event);
        }
        probe.far.handle(event, &mut session.tunnel, net.pool(), net.now());
        self.watch_probe(conn);
        None
    }

    /// Its allowance has something again.
    pub(super) fn on_probe_due(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let Some(probe) = session.probe.as_mut() else { return };
        probe.far.act(&mut session.tunnel, net.pool(), net.now());
        self.watch_probe(conn);
        self.pump(conn, net);
    }

    fn watch_probe(&mut self, conn: ConnId) {
        let probe = self.sessions.get(&conn).and_then(|session| session.probe.as_ref());
        match probe.and_then(|probe| probe.far.deadline()) {
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

    /// A session that measured is over.
    pub(super) fn note_probe(&self, conn: ConnId, net: &mut dyn Net) {
        let Some(session) = self.sessions.get(&conn) else { return };
        let Some(probe) = &session.probe else { return };
        let line = audit::measured(&probe.admitted, session.carried, net.unix_micros());
        // The line of its beginning says who it was.
        let _ = net.record(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_cannot_use_up_what_others_have() {
        let now = Instant::now();
        let mut callers = Callers::default();
        let name = |n: usize| ("issuer".to_owned(), format!("caller-{n}"));
        for _ in 0..PROBES {
            assert_eq!(callers.take(name(0), now), Some(true));
        }
        assert_eq!(callers.take(name(0), now), Some(false));
        assert_eq!(callers.take(name(1), now), Some(true));
        assert_eq!(callers.take(name(0), now + PROBE_REFILL), Some(true));
    }

    #[test]
    fn the_table_of_callers_is_bounded_and_forgets_those_who_rested() {
        let now = Instant::now();
        let mut callers = Callers::default();
        let name = |n: usize| ("issuer".to_owned(), format!("caller-{n}"));
        for n in 0..PROBE_CALLERS {
            assert_eq!(callers.take(name(n), now), Some(true));
        }
        assert_eq!(callers.take(name(PROBE_CALLERS), now), None);
        assert_eq!(callers.take(name(0), now), Some(true), "one who is in it is not affected");
        assert_eq!(callers.0.len(), PROBE_CALLERS);
        let later = now + PROBE_REFILL * 2;
        assert_eq!(callers.take(name(PROBE_CALLERS), later), Some(true));
        assert_eq!(callers.0.len(), 1);
    }
}

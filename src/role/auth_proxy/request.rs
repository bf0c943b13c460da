//! A request between its arrival and its way upstream: decided, counted, refused, or parked until
//! somebody has answered what the decision depends on.

use std::collections::BTreeSet;
use std::time::Duration;

use log::debug;

use super::admit::{self, Admitted, Decision, Wanted};
use super::fault::Refusal;
use super::question::Waiting;
use super::stream::{Retry, Served};
use super::{AuthProxy, Key, audit};
use crate::engine::exchange::{Failure, Output, Patience, status_response};
use crate::limits::{PARKED_FOR_KEYS_MAX, PARKED_KEYS, PARKED_MAX, PARKED_SESSION, PARKED_TIMEOUT};
use crate::role::{ConnId, Net};
use crate::wire::h1::RequestHead;
use crate::wire::mux::StreamId;

/// A request that is not decided yet.
#[derive(Debug)]
pub(super) struct Undecided {
    pub(super) head: RequestHead,
    /// Ties our audit log to the API server's.
    pub(super) audit_id: String,
    /// It has not waited for keys. Once it has, it is decided by those that there are.
    pub(super) may_wait: bool,
    /// What its credential is worth was counted.
    pub(super) is_counted: bool,
}

/// A request that waits for answers.
#[derive(Debug)]
pub(super) struct Parked {
    request: Undecided,
    for_keys: bool,
}

impl AuthProxy {
    pub(super) fn on_request(
        &mut self,
        conn: ConnId,
        id: StreamId,
        head: RequestHead,
        out: &mut Output,
        net: &mut dyn Net,
    ) {
        let audit_id = admit::uuid(net);
        let request = Undecided { head, audit_id, may_wait: true, is_counted: false };
        self.consider((conn, id), request, out, net);
    }

    fn consider(
        &mut self,
        (conn, id): Waiting,
        mut request: Undecided,
        out: &mut Output,
        net: &mut dyn Net,
    ) {
        let wanted = match self.admit(conn, &mut request, net) {
            Decision::Forward(admitted, outgoing) => {
                self.pass_on(conn, id, *admitted, *outgoing, out, net);
                return;
            }
            Decision::Refuse(refusal) => {
                self.answer_refused(conn, id, &request.head, &refusal, out, net);
                return;
            }
            Decision::Ask(wanted) => wanted,
        };
        let for_keys = matches!(wanted, Wanted::Keys(_));
        request.may_wait &= !for_keys;
        if !self.ask(wanted, (conn, id), net) {
            if for_keys {
                return self.consider((conn, id), request, out, net);
            }
            let refusal = self.unanswered(conn, &request.audit_id, net);
            self.answer_refused(conn, id, &request.head, &refusal, out, net);
            return;
        }
        let key = Key::Parked(conn, id);
        if self.timers.get(key).is_none() {
            let patience = if for_keys { PARKED_KEYS } else { PARKED_TIMEOUT };
            self.timers.set(key, net.now() + patience);
        }
        if let Some(stream) = self.stream(conn, id) {
            stream.parked = Some(Parked { request, for_keys });
        }
    }

    fn ask(&mut self, wanted: Wanted, waiting: Waiting, net: &mut dyn Net) -> bool {
        let own = self.sessions.get(&waiting.0).map_or(0, |it| it.parked());
        let all: usize = self.sessions.values().map(|it| it.parked()).sum();
        // Whoever waits for keys is a stranger still, and takes no place of those who are not.
        let for_keys: usize = self.keys_awaited.values().map(BTreeSet::len).sum();
        let is_full = match &wanted {
            // The issuers of others may be quicker.
            Wanted::Keys(issuer) => {
                PARKED_FOR_KEYS_MAX <= self.keys_awaited.get(issuer).map_or(0, BTreeSet::len)
            }
            Wanted::Groups(_) | Wanted::Answers(_) => PARKED_MAX <= all.saturating_sub(for_keys),
        };
        if PARKED_SESSION <= own || is_full {
            return false;
        }
        match wanted {
            Wanted::Groups(member) => self.groups.ask(member, waiting, net).is_ok(),
            Wanted::Answers(questions) => {
                let Some(own) = self.credential.token() else { return false };
                let mut questions = questions.into_iter();
                questions.all(|question| self.questions.ask(question, waiting, own, net).is_ok())
            }
            Wanted::Keys(issuer) => {
                self.keys_awaited.entry(issuer).or_default().insert(waiting);
                true
            }
        }
    }

    /// Keys have come, or not: who waited for them is decided by those that there are.
    pub(super) fn on_keys(&mut self, net: &mut dyn Net) {
        let keys = &self.keys;
        let over = self.keys_awaited.extract_if(.., |issuer, _| !keys.is_fetching(*issuer));
        let over: Vec<Waiting> = over.flat_map(|(_, waiting)| waiting).collect();
        over.into_iter().for_each(|one| self.on_answered(one, net));
    }

    /// Everything that a parked request waited for has been answered.
    pub(super) fn on_answered(&mut self, (conn, id): Waiting, net: &mut dyn Net) {
        let Some(parked) = self.stream(conn, id).and_then(|it| it.parked.take()) else { return };
        let mut out = Output::default();
        self.awaits_no_keys((conn, id));
        if parked.for_keys {
            // What it may have to wait for next has a time of its own.
            self.timers.cancel(Key::Parked(conn, id));
        }
        self.consider((conn, id), parked.request, &mut out, net);
        if self.stream(conn, id).is_none_or(|stream| stream.parked.is_none()) {
            self.timers.cancel(Key::Parked(conn, id));
        }
        self.with_stream(conn, id, net, |_, _, into| *into = out);
        self.pump(conn, net);
    }

    /// It waits no longer, or is gone.
    pub(super) fn awaits_no_keys(&mut self, waiting: Waiting) {
        for all in self.keys_awaited.values_mut() {
            all.remove(&waiting);
        }
    }

    /// A parked request has waited long enough.
    pub(super) fn on_unanswered(&mut self, conn: ConnId, id: StreamId, net: &mut dyn Net) {
        if self.stream(conn, id).and_then(|it| it.parked.as_ref()).is_some_and(|it| it.for_keys) {
            return self.on_answered((conn, id), net);
        }
        let Some(parked) = self.stream(conn, id).and_then(|it| it.parked.take()) else { return };
        let Undecided { head, audit_id, .. } = parked.request;
        let mut out = Output::default();
        let refusal = self.unanswered(conn, &audit_id, net);
        self.answer_refused(conn, id, &head, &refusal, &mut out, net);
        self.with_stream(conn, id, net, |_, _, into| *into = out);
        self.pump(conn, net);
    }

    fn answer_refused(
        &mut self,
        conn: ConnId,
        id: StreamId,
        head: &RequestHead,
        refusal: &Refusal,
        out: &mut Output,
        net: &mut dyn Net,
    ) {
        let now = net.now();
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        // A caller must not be able to rotate everybody's evidence out of the log.
        if let Some(left_out) = session.throttle.may_note(now) {
            let line = audit::refusal(refusal, head, session.peer, left_out, net.unix_micros());
            // Nothing goes upstream, so there is nothing to hold back if this fails.
            let _ = net.record(&line);
        }
        let Some(stream) = self.stream(conn, id) else { return };
        stream.exchange.respond(&refusal.head(), &refusal.body(), now, out);
    }

    /// What came on a stream was no request, or never became a whole one.
    pub(super) fn note_no_request(&mut self, conn: ConnId, failure: &Failure, net: &mut dyn Net) {
        self.metrics.on_rejected(failure.code());
        let audit_id = admit::uuid(net);
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        if let Some(left_out) = session.throttle.may_note(net.now()) {
            let now = net.unix_micros();
            let line = audit::no_request(failure, &audit_id, session.peer, left_out, now);
            // Nothing goes upstream, so there is nothing to hold back if this fails.
            let _ = net.record(&line);
        }
    }

    fn pass_on(
        &mut self,
        conn: ConnId,
        id: StreamId,
        admitted: Admitted,
        outgoing: RequestHead,
        out: &mut Output,
        net: &mut dyn Net,
    ) {
        if self.sessions.get(&conn).is_some_and(|session| session.tunnel.measures()) {
            return self.begin_probe(conn, id, admitted, out, net);
        }
        let now = net.now();
        let Some(stream) = self.stream(conn, id) else { return };
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
        let left = left_of(admitted.ends, net.unix_time());
        *self.callers.entry(admit::caller(&admitted.principal)).or_default() += 1;
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        session.in_flight += 1;
        if !std::mem::replace(&mut session.is_known, true) {
            self.timers.cancel(Key::Handshake(conn));
        }
        if let Some(stream) = session.streams.get_mut(&id) {
            let (status, retry, cut) = (0, Retry::Possible, None);
            let served = Served { admitted, head: outgoing, status, retry, since: now, cut };
            stream.served = Some(served);
        }
        self.timers.set(Key::Expiry(conn, id), now + left);
    }

    /// An upgraded connection ends by its own rule.
    pub(super) fn limit_session(&mut self, conn: ConnId, id: StreamId, net: &mut dyn Net) {
        let mut most = self.config.session_max;
        let served = self.stream(conn, id).and_then(|it| it.served.as_ref());
        let ends = served.map(|served| served.admitted.ends);
        if let Some(ends) = ends.filter(|_| self.config.session_ends_with_token) {
            most = most.min(left_of(ends, net.unix_time()));
        }
        self.timers.set(Key::Expiry(conn, id), net.now() + most);
    }

    /// Whether one more request of `caller` on this session is one too many.
    pub(super) fn is_crowded(&self, conn: ConnId, caller: &(String, String)) -> bool {
        let most = &self.config.in_flight;
        let own = self.callers.get(caller).copied().unwrap_or_default();
        let session = self.sessions.get(&conn).map_or(0, |session| session.in_flight);
        let all: usize = self.sessions.values().map(|session| session.in_flight).sum();
        most.caller <= own || most.session <= session || most.all <= all
    }
}

/// For how long a token that ends at `ends` still counts.
fn left_of(ends: u64, unix_now: u64) -> Duration {
    // A century is for ever, and can still be added to a time.
    let most = 100 * 365 * 24 * 3600;
    Duration::from_secs(ends.saturating_sub(unix_now).min(most))
}

//! What the API server has answered, and how a request ends: passed on, written down, counted. The
//! one answer that is not passed on at once is a 401, which may be about our own token.

use log::{debug, warn};

use super::audit::{self, Stage};
use super::stream::Retry;
use super::{AuthProxy, Key, admit};
use crate::engine::exchange::{Failure, Output};
use crate::limits::COMPLAINTS;
use crate::role::{ConnId, Net};
use crate::wire::h1::ResponseHead;
use crate::wire::mux::StreamId;

impl AuthProxy {
    pub(super) fn on_response(
        &mut self,
        conn: ConnId,
        id: StreamId,
        head: ResponseHead,
        out: &mut Output,
        net: &mut dyn Net,
    ) {
        if head.status() == 401 && self.try_again(conn, id, &head, out, net) {
            return;
        }
        self.pass_back(conn, id, &head, out, net);
    }

    /// Whether a 401 is not passed on for now: the request goes again with a newer token of ours,
    /// or it is being found out whether there is one.
    fn try_again(
        &mut self,
        conn: ConnId,
        id: StreamId,
        head: &ResponseHead,
        out: &mut Output,
        net: &mut dyn Net,
    ) -> bool {
        let Some(stream) = self.stream(conn, id) else { return false };
        let Some(served) = &mut stream.served else { return false };
        let may = matches!(served.retry, Retry::Possible) && !served.admitted.anonymous;
        if !may || !stream.exchange.can_retry() {
            return false;
        }
        served.retry = Retry::Awaited(Box::new(head.clone()));
        // It may have been read since the request went up.
        if self.send_again(conn, id, out) {
            return true;
        }
        self.credential.read_again(net);
        self.credential.is_asked()
    }

    /// The source of our own token has answered: what was refused goes again if the token is a new
    /// one, and is passed on if not.
    pub(super) fn on_token_read(&mut self, net: &mut dyn Net) {
        if self.credential.is_asked() {
            return;
        }
        let mut waiting = Vec::new();
        for (conn, session) in &self.sessions {
            for (id, stream) in &session.streams {
                let retry = stream.served.as_ref().map(|served| &served.retry);
                if let Some(Retry::Awaited(head)) = retry {
                    waiting.push((*conn, *id, (**head).clone()));
                }
            }
        }
        for (conn, id, head) in waiting {
            let mut out = Output::default();
            if !self.send_again(conn, id, &mut out) {
                self.pass_back(conn, id, &head, &mut out, net);
            }
            self.with_stream(conn, id, net, |_, _, into| *into = out);
            self.pump(conn, net);
        }
    }

    /// Sends a request that waits for that once more, if our token is another one by now.
    fn send_again(&mut self, conn: ConnId, id: StreamId, out: &mut Output) -> bool {
        let token = self.credential.token().cloned();
        let Some(stream) = self.stream(conn, id) else { return false };
        let Some(served) = &mut stream.served else { return false };
        let mut again = served.head.clone();
        super::head::set_bearer(&mut again, token.as_ref());
        let credential = again.fields.first("authorization");
        let is_new = token.is_some() && credential != served.head.fields.first("authorization");
        if !is_new || !stream.exchange.can_retry() || stream.exchange.retry(&again, out).is_err() {
            return false;
        }
        served.head = again;
        served.retry = Retry::Over;
        true
    }

    fn pass_back(
        &mut self,
        conn: ConnId,
        id: StreamId,
        head: &ResponseHead,
        out: &mut Output,
        net: &mut dyn Net,
    ) {
        let now = net.now();
        let Some(stream) = self.stream(conn, id) else { return };
        if let Some(served) = &mut stream.served {
            served.retry = Retry::Over;
            served.status = head.status();
        }
        stream.exchange.answer(head, now, out);
        let served = stream.served.as_ref();
        let long = served.is_some_and(|it| it.admitted.info.is_long_running());
        let took = served.map(|served| now.saturating_duration_since(served.since));
        if let Some(took) = took {
            self.metrics.on_answered(took);
        }
        if long && head.status() != 101 {
            self.note(conn, id, Stage::ResponseStarted, None, net);
        }
    }

    pub(super) fn on_complete(
        &mut self,
        conn: ConnId,
        id: StreamId,
        failure: Option<&Failure>,
        net: &mut dyn Net,
    ) {
        if let Some(failure) = failure {
            self.complain(conn, id, failure, net);
        }
        self.note(conn, id, Stage::ResponseComplete, failure, net);
        self.timers.cancel(Key::Expiry(conn, id));
        self.timers.cancel(Key::Parked(conn, id));
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let Some(stream) = session.streams.get_mut(&id) else { return };
        stream.parked = None;
        let Some(served) = stream.served.take() else {
            if let Some(failure @ (Failure::Malformed(_) | Failure::SlowCaller)) = failure {
                self.note_no_request(conn, failure, net);
            }
            return;
        };
        session.in_flight -= 1;
        let status = failure.filter(|_| served.status == 0).map_or(served.status, Failure::status);
        self.metrics.on_served(&served.admitted.info, status);
        let caller = admit::caller(&served.admitted.principal);
        if let Some(count) = self.callers.get_mut(&caller) {
            *count -= 1;
            if *count == 0 {
                self.callers.remove(&caller);
            }
        }
    }

    /// Trouble with the API server is for its operators to see, but not once for each request.
    fn complain(&mut self, conn: ConnId, id: StreamId, failure: &Failure, net: &dyn Net) {
        let is_upstream = matches!(
            failure,
            Failure::UpstreamGone(_) | Failure::SlowUpstream(_) | Failure::Unreachable(_)
        );
        let now = net.now();
        if is_upstream && self.complaint_due.is_none_or(|due| due <= now) {
            self.complaint_due = Some(now + COMPLAINTS);
            warn!("conn={} stream={} request failed: {failure}", conn.0, id.0);
        } else {
            debug!("conn={} stream={} exchange failed: {failure}", conn.0, id.0);
        }
    }

    pub(super) fn note(
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
        let why = served.cut.map(str::to_owned).or_else(|| failure.map(ToString::to_string));
        let now = net.unix_micros();
        let line = audit::served(&served.admitted, stage, status, why.as_deref(), now);
        // The request was written down before it went upstream; this line only completes it.
        let _ = net.record(&line);
    }
}

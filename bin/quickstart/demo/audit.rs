//! Who did what: one audit.k8s.io/v1 event per request and stage, at level Metadata.

use std::io::Write;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::http::Request;
use super::identity::Caller;
use super::route::Route;
use super::tls::lock;
use super::token::random_uuid;

/// Events kept in memory; then the older half goes.
const EVENTS_MAX: usize = 100_000;

/// The events since the start, and optionally a line of JSON each into a sink.
pub(crate) struct Audit {
    events: Mutex<Vec<Value>>,
    grown: Condvar,
    sink: Option<Mutex<Box<dyn Write + Send>>>,
}

/// The code of a request whose caller left before it was answered.
const CALLER_GONE: u16 = 499;

/// What is known of one request so far.
pub(crate) struct Entry {
    pub(crate) id: String,
    event: Value,
    code: u16,
    complete: bool,
}

impl Audit {
    pub(crate) fn new(sink: Option<Box<dyn Write + Send>>) -> Self {
        Self { events: Mutex::default(), grown: Condvar::new(), sink: sink.map(Mutex::new) }
    }

    pub(crate) fn snapshot(&self) -> Vec<Value> {
        lock(&self.events).clone()
    }

    /// Waits until an event satisfies `wanted`, and gives the first that does.
    pub(crate) fn wait_for(
        &self,
        wanted: impl Fn(&Value) -> bool,
        for_: Duration,
    ) -> Option<Value> {
        let until = Instant::now() + for_;
        let mut events = lock(&self.events);
        loop {
            if let Some(found) = events.iter().find(|event| wanted(event)) {
                return Some(found.clone());
            }
            let left = until.checked_duration_since(Instant::now())?;
            let waited = self.grown.wait_timeout(events, left);
            events = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn record(&self, event: Value) {
        if let Some(sink) = &self.sink {
            let mut sink = lock(sink);
            // An audit sink that is full or gone is no reason to stop serving.
            let _ = writeln!(sink, "{event}").and_then(|()| sink.flush());
        }
        let mut events = lock(&self.events);
        if events.len() >= EVENTS_MAX {
            events.drain(..EVENTS_MAX / 2);
        }
        events.push(event);
        self.grown.notify_all();
    }
}

impl Entry {
    /// The caller's own `Audit-ID` is taken as it is.
    pub(crate) fn new(request: &Request, route: &Route, peer: &str) -> Self {
        let headers = &request.headers;
        let id = headers.first("audit-id").map_or_else(random_uuid, String::from);
        let mut sources: Vec<&str> = headers.list("x-forwarded-for").collect();
        sources.extend(headers.first("x-real-ip"));
        if sources.last() != Some(&peer) {
            sources.push(peer);
        }
        let mut event = json!({
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": "Metadata",
            "auditID": id,
            "requestURI": request.target,
            "verb": route.verb,
            "user": {},
            "sourceIPs": sources,
            "userAgent": headers.first("user-agent").unwrap_or_default(),
            "requestReceivedTimestamp": timestamp(),
            "annotations": {},
        });
        if route.is_resource
            && let Some(event) = event.as_object_mut()
        {
            event.insert("objectRef".into(), object_ref(route));
        }
        Self { id, event, code: CALLER_GONE, complete: false }
    }

    pub(crate) fn set_caller(&mut self, caller: &Caller) {
        self.set("user", caller.account.to_json());
        if let Some(user) = &caller.impersonated {
            self.set("impersonatedUser", user.to_json());
        }
    }

    pub(crate) fn started(&mut self, audit: &Audit, code: u16) {
        self.stage("ResponseStarted", code);
        audit.record(self.event.clone());
    }

    pub(crate) fn completed(&mut self, audit: &Audit, code: u16) {
        if !std::mem::replace(&mut self.complete, true) {
            self.stage("ResponseComplete", code);
            audit.record(self.event.clone());
        }
    }

    /// The end of an answer that was sent piece by piece, or never.
    pub(crate) fn ended(&mut self, audit: &Audit) {
        self.completed(audit, self.code);
    }

    fn stage(&mut self, stage: &str, code: u16) {
        self.code = code;
        self.set("stage", json!(stage));
        self.set("stageTimestamp", json!(timestamp()));
        self.set("responseStatus", json!({ "metadata": {}, "code": code }));
    }

    fn set(&mut self, field: &str, value: Value) {
        if let Some(event) = self.event.as_object_mut() {
            event.insert(field.into(), value);
        }
    }
}

fn object_ref(route: &Route) -> Value {
    let all = [
        ("resource", &route.resource),
        ("namespace", &route.namespace),
        ("name", &route.name),
        ("apiGroup", &route.group),
        ("apiVersion", &route.version),
        ("subresource", &route.subresource),
    ];
    let said = all.into_iter().filter(|(_, value)| !value.is_empty());
    Value::Object(said.map(|(field, value)| (field.to_owned(), json!(value))).collect())
}

fn timestamp() -> String {
    OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default()
}

//! Watches: one event, one chunk, one flush. Over a WebSocket, one event, one text message.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::accept::{Form, negotiate};
use super::connection::{Answer, Exchange};
use super::resources::Resource;
use super::select::Selector;
use super::status::{Failure, Status};
use super::store::{Change, text};
use super::{table, websocket};

/// How long a watch waits before it looks whether its caller is still there.
const PATIENCE: Duration = Duration::from_millis(200);
const LONGEST: u64 = 1800;

struct Watch<'e, 'c> {
    exchange: &'e mut Exchange<'c>,
    socket: Option<websocket::Socket>,
    resource: &'static Resource,
    selector: Selector,
    form: Form,
    include: String,
    /// Column definitions come with the first row only.
    columns_sent: bool,
    namespace: String,
    bookmarks: bool,
}

pub(crate) fn answer(
    exchange: &mut Exchange<'_>,
    resource: &'static Resource,
) -> Result<Answer, Failure> {
    let query = &exchange.request.query;
    let form = negotiate(&exchange.request.headers)?;
    let selector = Selector::parse(query)?;
    let seconds = query.get("timeoutSeconds").and_then(|s| s.parse().ok());
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(LONGEST).min(LONGEST));
    let said = query.get("resourceVersion").unwrap_or_default();
    let initial = query.is_set("sendInitialEvents");
    let from = match said {
        "" | "0" => None,
        _ if initial => None,
        said => Some(
            said.parse::<u64>()
                .map_err(|_| Status::bad_request(format!("invalid resourceVersion {said:?}")))?,
        ),
    };
    let mut watch = Watch {
        resource,
        selector,
        form,
        include: query.get("includeObject").unwrap_or_default().into(),
        columns_sent: false,
        namespace: if resource.namespaced {
            exchange.route.namespace.clone()
        } else {
            String::new()
        },
        bookmarks: query.is_set("allowWatchBookmarks"),
        socket: None,
        exchange,
    };
    watch.start()?;
    let mut version = match from {
        Some(version) => version,
        None => watch.existing(initial)?,
    };
    while Instant::now() < until {
        let Ok(changes) = watch.exchange.world.store.changes_after(version, PATIENCE) else {
            let status = Status::expired(format!("too old resource version: {version}"));
            watch.send("ERROR", status.to_json())?;
            break;
        };
        for change in &changes {
            version = change.version;
            watch.on_change(change)?;
        }
        if changes.is_empty() && watch.exchange.caller_is_gone() {
            break;
        }
    }
    watch.finish()?;
    Ok(Answer::Sent)
}

impl Watch<'_, '_> {
    fn start(&mut self) -> Result<(), Failure> {
        if websocket::is_asked_for(self.exchange.request) {
            self.socket = Some(websocket::accept(self.exchange, &["", "binary.k8s.io"])?);
        } else {
            self.exchange.start("application/json")?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Failure> {
        match &self.socket {
            Some(socket) => socket.close(1000)?,
            None => self.exchange.end()?,
        }
        Ok(())
    }

    /// What is there already, as if it had just been added.
    fn existing(&mut self, mark_end: bool) -> Result<u64, Failure> {
        let (version, items) =
            self.exchange.world.store.list(self.resource.plural, &self.namespace);
        for item in items {
            if self.selector.matches(&item) {
                self.send_object("ADDED", &item)?;
            }
        }
        if mark_end && self.bookmarks {
            let bookmark = json!({
                "kind": self.resource.kind,
                "apiVersion": self.resource.api_version(),
                "metadata": {
                    "resourceVersion": version.to_string(),
                    "creationTimestamp": null,
                    "annotations": { "k8s.io/initial-events-end": "true" },
                },
            });
            self.send_object("BOOKMARK", &Arc::new(bookmark))?;
        }
        Ok(version)
    }

    fn on_change(&mut self, change: &Change) -> Result<(), Failure> {
        let wanted = |object: &&Arc<Value>| {
            let namespace = text(object, "/metadata/namespace");
            change.resource == self.resource.plural
                && (self.namespace.is_empty() || self.namespace == namespace)
                && self.selector.matches(object)
        };
        let before = change.before.as_ref().filter(wanted);
        let after = change.after.as_ref().filter(wanted);
        match (before, after) {
            (None, Some(after)) => self.send_object("ADDED", after),
            (Some(_), Some(after)) => self.send_object("MODIFIED", after),
            (Some(before), None) => self.send_object("DELETED", before),
            (None, None) => Ok(()),
        }
    }

    fn send_object(&mut self, kind: &str, object: &Arc<Value>) -> Result<(), Failure> {
        let shown = match self.form {
            Form::Table(version) => {
                let metadata =
                    json!({ "resourceVersion": text(object, "/metadata/resourceVersion") });
                let columns = !std::mem::replace(&mut self.columns_sent, true);
                let objects = std::slice::from_ref(object);
                table::of(version, self.resource, objects, metadata, &self.include, columns)
            }
            Form::Partial(version) => table::partial(version, object),
            Form::Json | Form::Discovery(_) => Value::clone(object),
        };
        self.send(kind, shown)
    }

    fn send(&mut self, kind: &str, object: Value) -> Result<(), Failure> {
        let mut line = json!({ "type": kind, "object": object }).to_string().into_bytes();
        match &self.socket {
            Some(socket) => socket.send_text(&line)?,
            None => {
                line.push(b'\n');
                self.exchange.chunk(&line)?;
            }
        }
        Ok(())
    }
}

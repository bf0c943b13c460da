//! What containers have printed, and `kubectl logs` over it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::connection::{Answer, Exchange};
use super::http::Response;
use super::status::{Failure, Status};
use super::store::text;
use super::tls::lock;
use super::websocket::{self, Socket};
use super::world::{age_seconds, now_text};

/// How long a follower waits before it looks whether its caller is still there.
const PATIENCE: Duration = Duration::from_millis(200);

/// Namespace, pod, container.
pub(crate) type Container = (String, String, String);

/// A printed line and when that was.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) at: String,
    pub(crate) text: String,
}

#[derive(Default)]
pub(crate) struct Logs {
    lines: Mutex<BTreeMap<Container, Vec<Line>>>,
    grown: Condvar,
}

impl Logs {
    pub(crate) fn print(&self, namespace: &str, pod: &str, container: &str, text: &str) {
        let key = (namespace.to_owned(), pod.to_owned(), container.to_owned());
        let line = Line { at: now_text(), text: text.to_owned() };
        lock(&self.lines).entry(key).or_default().push(line);
        self.grown.notify_all();
    }

    pub(crate) fn len(&self, container: &Container) -> usize {
        lock(&self.lines).get(container).map_or(0, Vec::len)
    }

    /// Lines from a position on; waits a while when there are none yet.
    pub(crate) fn after(
        &self,
        container: &Container,
        from: usize,
        patience: Duration,
    ) -> Vec<Line> {
        let mut lines = lock(&self.lines);
        if lines.get(container).map_or(0, Vec::len) <= from {
            let waited = self.grown.wait_timeout(lines, patience);
            lines = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let all = lines.get(container).and_then(|all| all.get(from..));
        all.map(<[Line]>::to_vec).unwrap_or_default()
    }
}

pub(crate) fn answer(exchange: &mut Exchange<'_>) -> Result<Answer, Failure> {
    let container = container_of(exchange)?;
    let query = exchange.request.query.clone();
    let number = |name: &str| query.get(name).and_then(|value| value.parse::<usize>().ok());
    let with_time = query.is_set("timestamps");
    let show = |line: &Line| match with_time {
        true => format!("{} {}\n", line.at, line.text),
        false => format!("{}\n", line.text),
    };
    if query.is_set("previous") {
        let message = format!(
            "previous terminated container {:?} in pod {:?} not found",
            container.2, container.1
        );
        return Err(Status::bad_request(message).into());
    }
    let mut all = exchange.world.logs.after(&container, 0, Duration::ZERO);
    let mut next = all.len();
    if let Some(seconds) = query.get("sinceSeconds").and_then(|s| s.parse::<i64>().ok()) {
        all.retain(|line| age_seconds(&line.at) <= seconds);
    }
    if let Some(tail) = number("tailLines") {
        all.drain(..all.len().saturating_sub(tail));
    }
    let mut shown: String = all.iter().map(show).collect();
    if let Some(limit) = number("limitBytes") {
        shown.truncate(shown.floor_char_boundary(limit));
    }
    if !query.is_set("follow") {
        return Ok(
            Response { content_type: "text/plain".into(), ..Response::text(200, shown) }.into()
        );
    }

    let mut follower = Follower::start(exchange)?;
    follower.send(shown)?;
    loop {
        let lines = follower.exchange.world.logs.after(&container, next, PATIENCE);
        next += lines.len();
        for line in &lines {
            follower.send(show(line))?;
        }
        let pods = &follower.exchange.world.store;
        let deleted = pods.get("pods", &container.0, &container.1).is_none();
        if lines.is_empty() && (deleted || follower.exchange.caller_is_gone()) {
            follower.finish()?;
            return Ok(Answer::Sent);
        }
    }
}

/// Whoever follows a log: by chunks of a response, or by messages of a WebSocket.
struct Follower<'e, 'c> {
    exchange: &'e mut Exchange<'c>,
    socket: Option<Socket>,
}

impl<'e, 'c> Follower<'e, 'c> {
    fn start(exchange: &'e mut Exchange<'c>) -> Result<Self, Failure> {
        let socket = match websocket::is_asked_for(exchange.request) {
            true => Some(websocket::accept(exchange, &["", "binary.k8s.io"])?),
            false => None,
        };
        if socket.is_none() {
            exchange.start("text/plain")?;
        }
        Ok(Self { exchange, socket })
    }

    fn send(&mut self, text: String) -> io::Result<()> {
        match &self.socket {
            Some(_) if text.is_empty() => Ok(()),
            Some(socket) => socket.send_binary(text.as_bytes()),
            None => self.exchange.chunk(text.as_bytes()),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        match &self.socket {
            Some(socket) => socket.close(1000),
            None => self.exchange.end(),
        }
    }
}

/// The container a request means: the one it names, or the only one.
pub(crate) fn container_of(exchange: &Exchange<'_>) -> Result<Container, Status> {
    let (namespace, name) = (&exchange.route.namespace, &exchange.route.name);
    let pod = exchange.world.store.get("pods", namespace, name);
    let pod = pod.ok_or_else(|| Status::not_found("pods", name))?;
    let names = |field: &str| -> Vec<String> {
        let all = pod.pointer(&format!("/spec/{field}")).and_then(Value::as_array);
        all.into_iter().flatten().map(|c| text(c, "/name").to_owned()).collect()
    };
    let (main, ephemeral) = (names("containers"), names("ephemeralContainers"));
    let wanted = exchange.request.query.get("container").unwrap_or_default();
    let container = match (wanted, main.as_slice()) {
        ("", [only]) => only.clone(),
        ("", several) => {
            return Err(Status::bad_request(format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                several.join(" ")
            )));
        }
        (wanted, _) if main.iter().chain(&ephemeral).any(|known| known == wanted) => wanted.into(),
        (wanted, _) => {
            let message = format!("container {wanted} is not valid for pod {name}");
            return Err(Status::bad_request(message));
        }
    };
    Ok((namespace.clone(), name.clone(), container))
}

//! The machine between a scripted caller and a scripted upstream.

mod failing;
mod passing;
mod timing;
mod upgrading;

use std::time::{Duration, Instant};

use super::*;
use crate::wire::h1::{ResponseHead, strip};

/// An exchange, with a role that forwards everything except `/deny` and `/unauthorized`, and a
/// record of all that came out.
struct Rig {
    exchange: Exchange,
    now: Instant,
    down: Vec<u8>,
    /// The bytes of each upstream connection, in order.
    up: Vec<Vec<u8>>,
    down_end: Option<End>,
    up_ends: Vec<Option<End>>,
    log: Vec<String>,
    /// Whether upstream connections come up at once.
    connects: bool,
    /// Whether responses are answered at once.
    answers: bool,
    waiting: Option<ResponseHead>,
}

impl Rig {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            exchange: Exchange::new(now),
            now,
            down: Vec::new(),
            up: Vec::new(),
            down_end: None,
            up_ends: Vec::new(),
            log: Vec::new(),
            connects: true,
            answers: true,
            waiting: None,
        }
    }

    /// One call into the machine, and everything that follows from it.
    fn step(&mut self, call: impl FnOnce(&mut Exchange, Instant, &mut Output)) {
        let mut out = Output::default();
        call(&mut self.exchange, self.now, &mut out);
        loop {
            self.flush(&mut out);
            let Some(event) = self.exchange.poll_event() else { break };
            self.on_event(event, &mut out);
        }
        assert!(out.is_empty());
    }

    fn flush(&mut self, out: &mut Output) {
        let Output { down, up, down_end, up_end } = std::mem::take(out);
        assert!(down.is_empty() || self.down_end.is_none(), "bytes after the end of the caller");
        self.down.extend(down);
        self.down_end = self.down_end.max(down_end);
        if up.is_empty() && up_end.is_none() {
            return;
        }
        // While a connection is being made there is nothing to write to, only something to drop.
        if let Some(last) = self.up_ends.last_mut() {
            assert!(up.is_empty() || last.is_none(), "bytes after the end of the upstream");
            self.up.last_mut().unwrap().extend(up);
            *last = (*last).max(up_end);
        } else {
            assert!(up.is_empty(), "bytes without an upstream");
        }
    }

    fn on_event(&mut self, event: Event, out: &mut Output) {
        match event {
            Event::Request(mut head) => {
                self.log.push(format!("request {} {}", head.method(), head.target()));
                let refused = [("/deny", 403), ("/unauthorized", 401)];
                if let Some((_, status)) = refused.iter().find(|it| it.0 == head.path()) {
                    let (head, body) = status_response(*status, "no");
                    return self.exchange.respond(&head, &body, self.now, out);
                }
                let patience = match head.query() {
                    Some("watch") => Patience::LongRunning,
                    _ => Patience::Ordinary,
                };
                strip(&mut head.fields);
                head.fields.remove("host");
                head.fields.push("Host", "up").unwrap();
                self.exchange.forward(&head, patience, self.now, out).unwrap();
            }
            Event::Connect => {
                self.log.push("connect".to_owned());
                self.up.push(Vec::new());
                self.up_ends.push(None);
                if self.connects {
                    self.exchange.up_connected(self.now, out);
                }
            }
            Event::Response(head) => {
                self.log.push(format!("response {}", head.status()));
                if self.answers {
                    self.exchange.answer(&head, self.now, out);
                } else {
                    self.waiting = Some(head);
                }
            }
            Event::Upgraded => self.log.push("upgraded".to_owned()),
            Event::Complete => self.log.push("complete".to_owned()),
            Event::Failed(failure) => self.log.push(format!("failed: {failure}")),
        }
    }

    fn down(&mut self, data: impl AsRef<[u8]>) -> &mut Self {
        self.step(|exchange, now, out| exchange.handle_down(data.as_ref(), now, out));
        self
    }

    fn up(&mut self, data: impl AsRef<[u8]>) -> &mut Self {
        self.step(|exchange, now, out| exchange.handle_up(data.as_ref(), now, out));
        self
    }

    fn after(&mut self, seconds: u64) -> &mut Self {
        self.now += Duration::from_secs(seconds);
        self.step(Exchange::handle_deadline);
        self
    }

    fn sent_down(&self) -> String {
        self.down.escape_ascii().to_string().replace("\\r\\n", "\n")
    }

    /// What went to upstream connection `index`.
    fn sent_up(&self, index: usize) -> String {
        let bytes = self.up.get(index).cloned().unwrap_or_default();
        bytes.escape_ascii().to_string().replace("\\r\\n", "\n")
    }

    fn status(&self) -> &str {
        std::str::from_utf8(self.down.get(9..12).unwrap_or_default()).unwrap()
    }

    fn last(&self) -> &str {
        self.log.last().map_or("", String::as_str)
    }
}

const GET: &str = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
const POST: &str = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n";
const CHUNKED: &str = "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

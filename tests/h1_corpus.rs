//! The corpus of hostile requests against parser, policy and exchange, without a socket.
//!
//! The role here accepts one token by comparison, so that nothing but HTTP is on trial.

#[path = "corpora/h1.rs"]
mod corpus;

use std::time::{Duration, Instant};

use cluster_connect::engine::exchange::{Event, Exchange, Output, Patience, status_response};
use cluster_connect::wire::h1::policy::{admit, credential, impersonates, strip_identity};
use cluster_connect::wire::h1::{BodyReader, RequestHead, Scan, strip};
use corpus::{Case, Seen, cases};

const TOKEN: &str = "eyJ.valid.token";

/// An auth proxy reduced to its HTTP, and an upstream that answers every request.
struct Proxy {
    exchange: Exchange,
    now: Instant,
    seen: Seen,
    /// Bytes of requests that the upstream has answered.
    served: usize,
    /// What the upstream sends for each request.
    response: &'static str,
}

impl Proxy {
    fn new(response: &'static str) -> Self {
        let now = Instant::now();
        Self { exchange: Exchange::new(now), now, seen: Seen::default(), served: 0, response }
    }

    fn step(&mut self, call: impl FnOnce(&mut Exchange, Instant, &mut Output)) {
        let mut out = Output::default();
        call(&mut self.exchange, self.now, &mut out);
        loop {
            let Output { down, up, .. } = std::mem::take(&mut out);
            self.seen.down.extend(down);
            self.seen.up.extend(up);
            match self.exchange.poll_event() {
                None => break,
                Some(Event::Request(head)) => self.decide(head, &mut out),
                Some(Event::Connect) => self.exchange.up_connected(self.now, &mut out),
                Some(Event::Response(head)) => self.exchange.answer(&head, self.now, &mut out),
                Some(Event::Upgraded | Event::Complete | Event::Failed(_)) => (),
            }
        }
    }

    fn decide(&mut self, mut head: RequestHead, out: &mut Output) {
        if let Err((status, why)) = allowed(&head) {
            let (head, body) = status_response(status, &why);
            return self.exchange.respond(&head, &body, self.now, out);
        }
        strip(&mut head.fields);
        strip_identity(&mut head.fields);
        head.fields.remove("host");
        for (name, value) in [
            ("Host", "kubernetes.default.svc"),
            ("Authorization", "Bearer own"),
            ("Impersonate-User", "alice"),
            ("Impersonate-Group", "system:authenticated"),
        ] {
            head.fields.push(name, value).expect("constants are writable");
        }
        let forwarded = self.exchange.forward(&head, Patience::Ordinary, self.now, out);
        forwarded.expect("a stripped head is writable");
    }

    /// Answers every request that has arrived as a whole.
    fn serve(&mut self) {
        while let Some(len) = whole_request(self.seen.up.get(self.served..).unwrap_or_default()) {
            self.served += len;
            let response = self.response;
            self.step(|exchange, now, out| exchange.handle_up(response.as_bytes(), now, out));
        }
    }
}

/// The length of the request at the start of `bytes`, once it is complete.
fn whole_request(bytes: &[u8]) -> Option<usize> {
    let (head, mut used) = RequestHead::read(bytes, &mut Scan::default()).ok()??;
    let mut body = BodyReader::new(head.framing());
    loop {
        let piece = body.read(&bytes[used..]).expect("a body of our own");
        used += piece.consumed;
        if piece.consumed == 0 {
            return body.is_done().then_some(used);
        }
    }
}

fn allowed(head: &RequestHead) -> Result<(), (u16, String)> {
    admit(head).map_err(|it| (it.status(), it.to_string()))?;
    let token = credential(&head.fields, false).map_err(|it| (it.status(), it.to_string()))?;
    if impersonates(&head.fields) {
        return Err((403, "impersonation through this proxy is off".to_owned()));
    }
    if token.expose() == TOKEN { Ok(()) } else { Err((401, "unknown token".to_owned())) }
}

/// Runs a case with its bytes in pieces of `size`.
fn run(case: &Case, size: usize) -> Seen {
    let text = String::from_utf8_lossy(&case.raw);
    let asks = |protocol: &str| text.contains(&format!("Upgrade: {protocol}\r\n"));
    let response = match case.id.as_str() {
        "ws-ok" if asks("websocket") => {
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        }
        "spdy-ok" if asks("SPDY/3.1") => {
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
        }
        "up-early" => "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
        _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    };
    let mut proxy = Proxy::new(response);
    for piece in case.raw.chunks(size) {
        proxy.step(|exchange, now, out| exchange.handle_down(piece, now, out));
        proxy.serve();
    }
    // A caller that never comes to the end of its head or body is answered when time is up.
    proxy.now += Duration::from_secs(40);
    proxy.step(Exchange::handle_deadline);
    proxy.seen
}

#[test]
fn every_case_at_once_ends_as_it_must() {
    let all = cases(TOKEN);
    assert_eq!(all.len(), 427);
    let judge = |case: &Case| case.judge(&run(case, usize::MAX)).err();
    let wrong: Vec<_> =
        all.iter().filter_map(|case| Some((&case.id, &case.why, judge(case)?))).collect();
    assert!(wrong.is_empty(), "{} cases: {wrong:#?}", wrong.len());
}

#[test]
fn every_case_in_small_pieces_ends_as_it_must() {
    for size in [1, 7] {
        for case in cases(TOKEN).iter().filter(|case| !case.is_about_body()) {
            let verdict = case.judge(&run(case, size));
            assert_eq!(verdict, Ok(()), "{} ({}), pieces of {size}", case.id, case.why);
        }
    }
}

#[test]
fn a_bad_body_in_small_pieces_never_becomes_a_whole_request() {
    for case in cases(TOKEN).iter().filter(|case| case.is_about_body()) {
        for size in [1, 7, 64] {
            let seen = run(case, size);
            let up = seen.up.escape_ascii().to_string();
            assert!(!up.contains("smuggled") && !up.ends_with("0\\r\\n\\r\\n"), "{}", case.id);
            assert!(seen.down.starts_with(b"HTTP/1.1 400 "), "{}, pieces of {size}", case.id);
        }
    }
}

//! One connection: requests in turn, each authenticated, audited, impersonated, authorised and
//! answered, until one side closes or the connection is taken over by an upgrade.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use rustls::ServerConfig;

use super::api;
use super::http::{Framing, Link, NoRequest, Request, Response, phrase};
use super::identity::{Caller, User, authenticate, impersonate};
use super::rbac::{Attributes, Authorizer};
use super::route::Route;
use super::status::{Failure, Status};
use super::tls::Wire;
use super::world::World;
use super::{audit, streams};

/// How a request was answered.
pub(crate) enum Answer {
    Response(Response),
    /// The answer has been sent piece by piece.
    Sent,
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self::Response(response)
    }
}

/// A request while it is being answered.
pub(crate) struct Exchange<'c> {
    pub(crate) world: &'c Arc<World>,
    pub(crate) request: &'c Request,
    pub(crate) route: Route,
    pub(crate) caller: Caller,
    link: &'c mut Link,
    entry: audit::Entry,
    answered: bool,
    body_read: bool,
    keep_open: bool,
}

/// Serves a connection to its end.
pub(crate) fn serve(world: &Arc<World>, tcp: TcpStream, config: Arc<ServerConfig>) {
    let Ok(peer) = tcp.peer_addr() else { return };
    let peer = peer.ip().to_string();
    let Ok(wire) = Wire::accept(tcp, config) else { return };
    let certificate = wire.peer_certificate();
    let wire = Arc::new(wire);
    let mut link = Link::new(wire.clone());
    loop {
        let request = match link.request() {
            Ok(request) => request,
            Err(NoRequest::Ended) => break,
            Err(NoRequest::Malformed(code, why)) => {
                let _ = wire.write_all(&head(code, "text/plain", why.len(), &[], true));
                let _ = wire.write_all(why.as_bytes());
                break;
            }
        };
        let mut exchange = Exchange::new(world, &request, &mut link, &peer);
        match exchange.run(certificate.as_deref()) {
            Ok(true) => {}
            Ok(false) | Err(_) => break,
        }
    }
    wire.close();
}

impl<'c> Exchange<'c> {
    fn new(world: &'c Arc<World>, request: &'c Request, link: &'c mut Link, peer: &str) -> Self {
        let route = Route::of(request);
        Self {
            entry: audit::Entry::new(request, &route, peer),
            caller: Caller { account: User::anonymous(), impersonated: None },
            keep_open: request.keep_open,
            answered: false,
            body_read: request.framing == Framing::Length(0),
            world,
            request,
            route,
            link,
        }
    }

    /// Whether the connection may carry another request.
    fn run(&mut self, certificate: Option<&[u8]>) -> io::Result<bool> {
        let answer = self.decide(certificate);
        match answer {
            Ok(Answer::Response(response)) => self.reply(&response)?,
            Ok(Answer::Sent) => {}
            Err(Failure::Status(status)) if !self.answered => self.refuse(&status)?,
            Err(Failure::Status(_)) => self.keep_open = false,
            Err(Failure::Lost(error)) => {
                self.entry.ended(&self.world.audit);
                return Err(error);
            }
        }
        self.entry.ended(&self.world.audit);
        if self.keep_open && !self.body_read {
            // Go reads a bounded rest too, unless the client still waits for its 100.
            let waits = self.request.headers.has_token("expect", "100-continue");
            return Ok(!waits && self.link.body(self.request.framing)?.is_some());
        }
        Ok(self.keep_open)
    }

    fn decide(&mut self, certificate: Option<&[u8]>) -> Result<Answer, Failure> {
        let account = authenticate(self.world, certificate, self.request)?;
        self.caller = Caller { account, impersonated: None };
        self.entry.set_caller(&self.caller);
        let authorizer = Authorizer::new(&self.world.store);
        let attributes = Attributes::of(&self.route);
        let account = self.caller.account.clone();
        self.caller = impersonate(&authorizer, account, self.request, &attributes)?;
        self.entry.set_caller(&self.caller);
        if !authorizer.allows(self.caller.user(), &attributes) {
            return Err(attributes.refusal(self.caller.user()).into());
        }
        api::answer(self)
    }

    /// The whole body, after a 100 (Continue) if the client waits for one.
    pub(crate) fn body(&mut self) -> Result<Vec<u8>, Failure> {
        if self.body_read {
            return Ok(Vec::new());
        }
        if self.request.headers.has_token("expect", "100-continue") {
            self.link.wire.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        self.body_read = true;
        match self.link.body(self.request.framing)? {
            Some(body) => Ok(body),
            None => {
                self.keep_open = false;
                Err(Status::too_large().into())
            }
        }
    }

    fn refuse(&mut self, status: &Status) -> io::Result<()> {
        let mut response = Response::json(status.code, &status.to_json());
        if status.code == 401 {
            response.headers.push(("Www-Authenticate", "Bearer".into()));
        }
        self.reply(&response)
    }

    /// Audited before it is sent, so that whoever has seen the answer finds it in the log.
    fn reply(&mut self, response: &Response) -> io::Result<()> {
        self.answered = true;
        self.entry.completed(&self.world.audit, response.code);
        let mut headers = self.common_headers();
        headers.extend(response.headers.iter().cloned());
        let len = response.body.len();
        let mut out = head(response.code, &response.content_type, len, &headers, !self.keep_open);
        if self.request.method != "HEAD" {
            out.extend_from_slice(&response.body);
        }
        self.link.wire.write_all(&out)
    }

    /// Starts an answer whose end is not known yet.
    pub(crate) fn start(&mut self, content_type: &str) -> io::Result<()> {
        self.answered = true;
        self.entry.started(&self.world.audit, 200);
        let mut out = "HTTP/1.1 200 OK\r\n".to_owned();
        for (name, value) in self.common_headers() {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        out.push_str(&format!(
            "Content-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        self.link.wire.write_all(out.as_bytes())
    }

    /// One chunk, in one write.
    pub(crate) fn chunk(&mut self, data: &[u8]) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let mut out = format!("{:x}\r\n", data.len()).into_bytes();
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
        self.link.wire.write_all(&out)
    }

    pub(crate) fn end(&mut self) -> io::Result<()> {
        self.link.wire.write_all(b"0\r\n\r\n")
    }

    pub(crate) fn caller_is_gone(&self) -> bool {
        self.link.wire.is_gone()
    }

    /// Answers 101 and hands the connection over; no further request is read from it.
    pub(crate) fn switch(&mut self, headers: &[(&str, String)]) -> io::Result<streams::Upgraded> {
        self.answered = true;
        self.keep_open = false;
        self.entry.started(&self.world.audit, 101);
        let mut out = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n".to_owned();
        for (name, value) in self.common_headers().iter().chain(headers) {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        out.push_str("\r\n");
        self.link.wire.write_all(out.as_bytes())?;
        Ok(streams::Upgraded::new(self.link.wire.clone(), self.link.take_ahead()))
    }

    fn common_headers(&self) -> Vec<(&'static str, String)> {
        vec![("Audit-Id", self.entry.id.clone()), ("Cache-Control", "no-cache, private".into())]
    }
}

fn head(
    code: u16,
    content_type: &str,
    len: usize,
    headers: &[(&'static str, String)],
    close: bool,
) -> Vec<u8> {
    let mut out = format!(
        "HTTP/1.1 {code} {}\r\nContent-Type: {content_type}\r\nContent-Length: {len}\r\n",
        phrase(code)
    );
    for (name, value) in headers {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    if close {
        out.push_str("Connection: close\r\n");
    }
    out.push_str("\r\n");
    out.into_bytes()
}

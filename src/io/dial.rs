//! How a connection comes to be: name, address, CONNECT proxy, TLS, in this order.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use mio::net::TcpStream;

use super::conn::Conn;
use super::link::Link;
use crate::buf::Pool;
use crate::engine::tls;
use crate::role::{Close, ConnId, Event, ListenerTag, Peer, Tls, Via};

/// What a new connection still lacks.
#[derive(Debug)]
pub(super) enum Stage {
    /// The addresses of its host.
    Resolving(Dial),
    /// A TCP connection; these addresses are left to try.
    Connecting(Dial, VecDeque<SocketAddr>),
    /// The proxy's answer to CONNECT, of which this much has come.
    Asking(Dial, Vec<u8>),
    /// The end of the TLS handshake.
    Securing(Origin),
    /// Nothing.
    Open,
}

/// Where a connection goes to.
#[derive(Clone, Debug)]
pub(super) struct Dial {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: Option<Tls>,
    pub(super) via: Option<Arc<Via>>,
}

/// Who made a connection, and so what the role is told when it is up.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    Dialled,
    Accepted(ListenerTag, Peer),
}

/// The most that a proxy may say before it says yes or no.
const ANSWER_MAX: usize = 8 * 1024;

impl Dial {
    /// The host whose addresses are needed: the proxy's, where there is one.
    pub(super) fn first_hop(&self) -> (&str, u16) {
        self.via.as_ref().map_or((&self.host, self.port), |via| (&via.host, via.port))
    }

    fn request(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let target = format!("{host}:{}", self.port);
        let authorization = self.via.as_ref().and_then(|via| via.authorization.as_ref());
        let extra = authorization
            .map(|secret| format!("Proxy-Authorization: {}\r\n", secret.expose()))
            .unwrap_or_default();
        format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{extra}\r\n")
    }
}

impl Origin {
    /// For the log.
    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::Dialled => "dialled",
            Self::Accepted(..) => "accepted",
        }
    }

    pub(super) fn event(self, id: ConnId) -> Event {
        match self {
            Self::Dialled => Event::Connected(id),
            Self::Accepted(tag, peer) => Event::Accepted(id, tag, peer),
        }
    }
}

impl Conn {
    /// Goes on as far as it can. Returns what the role is to be told when the connection is up.
    pub(super) fn progress(&mut self, pool: &Pool) -> Result<Option<Origin>, Close> {
        loop {
            match std::mem::replace(&mut self.stage, Stage::Open) {
                Stage::Resolving(dial) => {
                    self.stage = Stage::Resolving(dial);
                    return Ok(None);
                }
                Stage::Connecting(dial, rest) => {
                    if !self.on_connecting(dial, rest, pool)? {
                        return Ok(None);
                    }
                }
                Stage::Asking(dial, answer) => {
                    if !self.on_asking(dial, answer, pool)? {
                        return Ok(None);
                    }
                }
                Stage::Securing(origin) => {
                    if !self.tls.as_ref().is_none_or(tls::Session::is_established) {
                        self.stage = Stage::Securing(origin);
                        return Ok(None);
                    }
                    return Ok(Some(origin));
                }
                Stage::Open => return Ok(None),
            }
        }
    }

    fn on_connecting(
        &mut self,
        dial: Dial,
        rest: VecDeque<SocketAddr>,
        pool: &Pool,
    ) -> Result<bool, Close> {
        if !self.writable {
            self.stage = Stage::Connecting(dial, rest);
            return Ok(false);
        }
        match self.link.connected() {
            Ok(Some(())) if dial.via.is_some() => {
                for slice in pool.slices(dial.request().as_bytes()) {
                    let _ = self.outbox.push(slice);
                }
                self.stage = Stage::Asking(dial, Vec::new());
                Ok(false)
            }
            Ok(Some(())) => self.secure(dial, pool).map(|()| true),
            Ok(None) => {
                self.stage = Stage::Connecting(dial, rest);
                Ok(false)
            }
            Err(err) => {
                let (host, port) = dial.first_hop();
                Err(Close::Refused(format!("cannot connect to {host}:{port}: {err}")))
            }
        }
    }

    fn on_asking(&mut self, dial: Dial, mut answer: Vec<u8>, pool: &Pool) -> Result<bool, Close> {
        while let Some(lease) = self.inbox.pop_front() {
            answer.extend_from_slice(&lease);
        }
        let (proxy, port) = dial.first_hop();
        let refused = |why: &str| Close::Refused(format!("the proxy {proxy}:{port} {why}"));
        let Some(end) = memchr::memmem::find(&answer, b"\r\n\r\n") else {
            if ANSWER_MAX < answer.len() || self.got_fin {
                return Err(refused("did not answer CONNECT in HTTP"));
            }
            self.stage = Stage::Asking(dial, answer);
            return Ok(false);
        };
        let status = answer.get(9..12).map(|code| String::from_utf8_lossy(code).into_owned());
        match status.as_deref() {
            Some(code) if answer.starts_with(b"HTTP/1.") && code.starts_with('2') => (),
            Some("407") => return Err(refused("wants a user name and password")),
            Some(code) if answer.starts_with(b"HTTP/1.") => {
                return Err(refused(&format!("refused the tunnel with status {code}")));
            }
            _ => return Err(refused("did not answer CONNECT in HTTP")),
        }
        if end + 4 < answer.len() {
            // TLS clients speak first: whoever speaks before them is not the host we asked for.
            return Err(refused("sent bytes before the tunnel was used"));
        }
        self.secure(dial, pool).map(|()| true)
    }

    fn secure(&mut self, dial: Dial, pool: &Pool) -> Result<(), Close> {
        if let Some(Tls { config, name }) = dial.tls {
            let session = tls::Session::client(config, name)
                .map_err(|err| Close::Untrusted(format!("TLS cannot start: {err}")))?;
            self.start_tls(session, pool)?;
        }
        self.stage = Stage::Securing(Origin::Dialled);
        Ok(())
    }
}

/// Starts a TCP connection to the first of `addresses` that can be started.
pub(super) fn start(mut addresses: VecDeque<SocketAddr>) -> Option<(Link, VecDeque<SocketAddr>)> {
    while let Some(address) = addresses.pop_front() {
        if let Ok(socket) = TcpStream::connect(address) {
            return Some((Link::Tcp(socket), addresses));
        }
    }
    None
}

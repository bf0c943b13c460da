//! Listening sockets: how they are bound, and what comes of an accept.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};

use super::link::Link;
use crate::engine::tls::Acceptor;
use crate::role::{ListenerTag, Peer};

/// Where to listen.
#[derive(Clone, Debug)]
pub enum Bind {
    /// An address; port 0 takes any that is free.
    Tcp(SocketAddr),
    /// A path, which is removed first if it is a socket that nobody listens on.
    Unix(PathBuf),
}

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    socket: Socket,
    pub(super) tag: ListenerTag,
    pub(super) tls: Option<Acceptor>,
    /// There may be connections to accept that could not be accepted yet.
    pub(super) ready: bool,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Binds and registers. Returns the address in use, where there is one.
    pub(super) fn bind(
        bind: &Bind,
        tag: ListenerTag,
        tls: Option<Acceptor>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<(Self, Option<SocketAddr>)> {
        let (socket, address) = match bind {
            Bind::Tcp(address) => {
                let mut socket = TcpListener::bind(*address)?;
                let address = socket.local_addr()?;
                registry.register(&mut socket, token, Interest::READABLE)?;
                (Socket::Tcp(socket), Some(address))
            }
            Bind::Unix(path) => {
                let stale = std::os::unix::net::UnixStream::connect(path)
                    .is_err_and(|err| err.kind() == io::ErrorKind::ConnectionRefused);
                if stale {
                    std::fs::remove_file(path)?;
                }
                let mut socket = UnixListener::bind(path)?;
                registry.register(&mut socket, token, Interest::READABLE)?;
                (Socket::Unix(socket), None)
            }
        };
        Ok((Self { socket, tag, tls, ready: true }, address))
    }

    /// The next connection. `WouldBlock` clears [`Self::ready`].
    pub(super) fn accept(&mut self) -> io::Result<(Link, Peer)> {
        let accepted = self.socket.accept();
        if accepted.as_ref().is_err_and(|err| err.kind() == io::ErrorKind::WouldBlock) {
            self.ready = false;
        }
        accepted
    }
}

impl Socket {
    fn accept(&self) -> io::Result<(Link, Peer)> {
        match self {
            Self::Tcp(socket) => {
                socket.accept().map(|(socket, peer)| (Link::Tcp(socket), Peer::Tcp(peer)))
            }
            Self::Unix(socket) => {
                socket.accept().map(|(socket, _)| (Link::Unix(socket), Peer::Local))
            }
        }
    }
}

/// An error of accept(2) that says nothing about the next connection.
pub(super) fn concerns_the_peer(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted)
        || err.raw_os_error() == Some(EPROTO)
}

/// A protocol error, which has no kind of its own in the standard library.
const EPROTO: i32 = 71;

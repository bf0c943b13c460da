//! One socket, or one end of a pipe in memory.

use std::io::{self, IoSliceMut, Read, Write};
use std::net::Shutdown;
#[cfg(target_os = "linux")]
use std::sync::OnceLock;
use std::time::Duration;

use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use socket2::{SockRef, TcpKeepalive};

use crate::limits::QUEUE_MAX;
use crate::role::ConnId;

/// Where the bytes of a connection come from and go to.
#[derive(Debug)]
pub(super) enum Link {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// The other end lives in the same reactor.
    Memory(ConnId),
}

impl Link {
    pub(super) fn register(&mut self, registry: &Registry, id: ConnId) -> io::Result<()> {
        let token = Token(usize::try_from(id.0).expect("64-bit targets only"));
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(socket) => {
                socket.set_nodelay(true).ok();
                let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60));
                SockRef::from(&*socket).set_tcp_keepalive(&keepalive).ok();
                self.limit_unsent(QUEUE_MAX);
                let Self::Tcp(socket) = self else { return Ok(()) };
                registry.register(socket, token, both)
            }
            Self::Unix(socket) => registry.register(socket, token, both),
            Self::Memory(_) => Ok(()),
        }
    }

    /// Lets at most `bytes` wait in the kernel that it could not send yet: beyond those the socket
    /// is full. What is on its way and unacknowledged does not count, so a long line stays full.
    pub(super) fn limit_unsent(&self, bytes: usize) {
        let limit = u32::try_from(bytes).unwrap_or(u32::MAX);
        // A system without this option has longer queues.
        #[cfg(any(target_os = "android", target_os = "linux"))]
        if let Self::Tcp(socket) = self {
            SockRef::from(socket).set_tcp_notsent_lowat(limit).ok();
        }
        #[cfg(not(any(target_os = "android", target_os = "linux")))]
        let _ = limit;
    }

    /// Has TCP find out what the line is like once more, as a new connection does. Only BBR needs that
    /// (see [`crate::engine::lull`]), and begins again when it is chosen again.
    pub(super) fn learn_anew(&self) {
        #[cfg(target_os = "linux")]
        if let Self::Tcp(socket) = self
            && let socket = SockRef::from(socket)
            && socket.tcp_congestion().is_ok_and(|name| name.starts_with(b"bbr\0"))
            && may_choose_bbr()
            && socket.set_tcp_congestion(b"reno").is_ok()
            && let Err(err) = socket.set_tcp_congestion(b"bbr")
        {
            log::debug!("a connection goes on with Reno: {err}");
        }
    }

    pub(super) fn deregister(&mut self, registry: &Registry) {
        // A socket that is about to be closed leaves the poll by itself, if not here.
        match self {
            Self::Tcp(socket) => registry.deregister(socket).ok(),
            Self::Unix(socket) => registry.deregister(socket).ok(),
            Self::Memory(_) => None,
        };
    }

    /// `None` while the connection is still being made.
    pub(super) fn connected(&self) -> io::Result<Option<()>> {
        match self {
            Self::Tcp(socket) => {
                if let Some(err) = socket.take_error()? {
                    return Err(err);
                }
                match socket.peer_addr() {
                    Ok(_) => Ok(Some(())),
                    Err(err) if err.kind() == io::ErrorKind::NotConnected => Ok(None),
                    Err(err) => Err(err),
                }
            }
            Self::Unix(_) | Self::Memory(_) => Ok(Some(())),
        }
    }

    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(into),
            Self::Unix(socket) => socket.read(into),
            Self::Memory(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    pub(super) fn read_vectored(&mut self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read_vectored(into),
            Self::Unix(socket) => socket.read_vectored(into),
            Self::Memory(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    pub(super) fn shutdown_write(&self) {
        // The peer may be gone already, and then there is nobody to tell.
        match self {
            Self::Tcp(socket) => socket.shutdown(Shutdown::Write).ok(),
            Self::Unix(socket) => socket.shutdown(Shutdown::Write).ok(),
            Self::Memory(_) => None,
        };
    }

    /// Makes the drop that follows a reset instead of a FIN.
    pub(super) fn reset_on_drop(&self) {
        if let Self::Tcp(socket) = self {
            SockRef::from(socket).set_linger(Some(Duration::ZERO)).ok();
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(bytes),
            Self::Unix(socket) => socket.write(bytes),
            Self::Memory(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn write_vectored(&mut self, bytes: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write_vectored(bytes),
            Self::Unix(socket) => socket.write_vectored(bytes),
            Self::Memory(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether the system lets this process choose BBR: nobody should be left with what he must choose
/// before.
#[cfg(target_os = "linux")]
fn may_choose_bbr() -> bool {
    static MAY: OnceLock<bool> = OnceLock::new();
    *MAY.get_or_init(|| {
        let names = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_allowed_congestion_control");
        names.is_ok_and(|names| has_bbr(&names))
    })
}

#[cfg(target_os = "linux")]
fn has_bbr(names: &str) -> bool {
    names.split_whitespace().any(|name| name == "bbr")
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{TcpListener, TcpStream as Std};

    use super::*;

    #[test]
    fn bbr_is_chosen_where_the_system_names_it() {
        assert!(has_bbr("reno bbr\n") && has_bbr("bbr"));
        assert!(!has_bbr("reno cubic\n") && !has_bbr("bbr2 xbbr") && !has_bbr(""));
    }

    #[test]
    fn a_socket_that_learns_anew_keeps_what_the_system_has_chosen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = Std::connect(listener.local_addr().unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        let link = Link::Tcp(TcpStream::from_std(socket));
        let chosen = |link: &Link| match link {
            Link::Tcp(socket) => SockRef::from(socket).tcp_congestion().unwrap(),
            Link::Unix(_) | Link::Memory(_) => unreachable!("it is TCP"),
        };
        let before = chosen(&link);
        link.learn_anew();
        assert_eq!(chosen(&link), before);
    }
}

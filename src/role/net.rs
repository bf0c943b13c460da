//! The two traits between what a process decides and what it can do, and the values they exchange.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::job::{Job, JobId, Outcome};
use super::letter::{Letter, LoopId};
use crate::buf::{Lease, Pool, Pressure, Slice};
use crate::engine::probe::Report;
use crate::secret::Secret;

/// Names one connection of the process, on whichever loop it is. Ids are never reused.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConnId(pub u64);

/// The logic of one process.
pub trait Role {
    /// Takes note of `event` and acts on `net`.
    fn on_event(&mut self, event: Event, net: &mut dyn Net);

    /// When to send [`Event::Deadline`], if nothing else happens before.
    fn deadline(&self) -> Option<Instant> {
        None
    }
}

/// What has happened.
#[derive(Debug)]
pub enum Event {
    /// The loop runs; comes once, before everything else.
    Started,
    /// A listener accepted a connection, and its TLS handshake, if it has one, is done.
    Accepted(ConnId, ListenerTag, Peer),
    /// A connection asked for with [`Net::connect`] is up, TLS included.
    Connected(ConnId),
    /// Bytes arrived.
    Data(ConnId, Lease),
    /// The peer will send no more, and said so (`close_notify` where there is TLS).
    Finished(ConnId),
    /// So many queued bytes have gone to the kernel.
    Drained(ConnId, usize),
    /// The connection is gone, for this reason. No further event names it.
    Closed(ConnId, Close),
    /// A job is done.
    Done(JobId, Outcome),
    /// The operating system has sent a signal.
    Signal(Signal),
    /// Another loop of the process has written. The connections that the letter names have come
    /// with it.
    Letter(LoopId, Letter),
    /// The time [`Role::deadline`] asked for has come.
    Deadline,
}

/// What a role can do. Nothing here blocks, and nothing calls back into the role. A connection that
/// is gone may still be named: that does nothing.
pub trait Net {
    /// The time of the current turn of the loop.
    fn now(&self) -> Instant;

    /// Seconds since 1970, for the expiry of tokens and for log lines only.
    fn unix_time(&self) -> u64;

    /// The same in microseconds, where the system tells them.
    fn unix_micros(&self) -> u64 {
        self.unix_time().saturating_mul(1_000_000)
    }

    /// Fills `into` from the system's generator.
    fn random(&mut self, into: &mut [u8]);

    /// Starts to connect; [`Event::Connected`] or [`Event::Closed`] follows. Names, CONNECT
    /// proxies and TLS are dealt with inside. `None` at the connection limit.
    fn connect(&mut self, to: &Endpoint) -> Option<ConnId>;

    /// Queues `data`. The limit is soft: what crosses it is still taken.
    fn send(&mut self, conn: ConnId, data: Slice) -> Pressure;

    /// Whether more should be queued for `conn` now.
    fn pressure(&self, conn: ConnId) -> Pressure;

    /// Stops [`Event::Data`] and [`Event::Finished`] for `conn`, and so in the end its peer.
    fn pause(&mut self, conn: ConnId);

    /// Undoes [`Self::pause`].
    fn resume(&mut self, conn: ConnId);

    /// Sends no more on `conn` once its queue is empty: `close_notify`, then FIN. The other
    /// direction goes on. [`Event::Closed`] comes when both sides have finished.
    fn finish(&mut self, conn: ConnId);

    /// Sends what is queued for as long as the peer takes it, within a few seconds, then closes.
    /// No event follows, whatever happens.
    fn close(&mut self, conn: ConnId);

    /// Drops `conn` now, queue and all: no Close frame, no `close_notify`, a reset where the system
    /// can send one. No event follows.
    fn abort(&mut self, conn: ConnId);

    /// The buffers of this loop, for what a role writes itself.
    fn pool(&self) -> &Pool;

    /// A buffer for what a role writes itself. `None` when all are out.
    fn lease(&mut self) -> Option<Lease> {
        self.pool().lease()
    }

    /// Hands `job` to the worker threads; [`Event::Done`] follows.
    ///
    /// # Errors
    ///
    /// [`Busy`] when their queue is full.
    fn submit(&mut self, job: Job) -> Result<JobId, Busy>;

    /// Sends `letter` to another loop of the process, and the connections that it names with it:
    /// whole, with what is queued either way. Here they are gone, and no event follows. Where
    /// there is no such loop they are dropped.
    fn post(&mut self, _to: LoopId, letter: Letter) {
        for conn in letter.conns() {
            self.abort(*conn);
        }
    }

    /// Appends one line to the audit log.
    ///
    /// # Errors
    ///
    /// [`Unrecorded`] when the log cannot be written; the caller decides whether to go on.
    fn record(&mut self, line: &str) -> Result<(), Unrecorded>;

    /// Tells whoever runs the process.
    fn tell(&mut self, notice: Notice);
}

/// Which listening socket a connection came from.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ListenerTag {
    /// The role's own port: the relay's, the auth proxy's, the client proxy's loopback port.
    Main,
    /// Health and metrics.
    Admin,
    /// Of the `edge`: the auth proxy, which the agent reaches without a socket.
    AuthProxy,
}

/// Who is at the other end, as far as the socket can tell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Peer {
    /// A TCP peer.
    Tcp(SocketAddr),
    /// A Unix socket, or the same process.
    Local,
}

impl Peer {
    /// Its address, where it has one.
    pub const fn address(self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            Self::Local => None,
        }
    }
}

/// Where to connect to.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// A host by name or address.
    Tcp {
        /// Name or address, without brackets.
        host: String,
        /// Port.
        port: u16,
        /// What to expect of the peer; without it the connection is plain TCP.
        tls: Option<Tls>,
        /// The HTTP proxy to ask for a tunnel.
        via: Option<Arc<Via>>,
    },
    /// A Unix socket.
    Unix(PathBuf),
    /// A listener of the same process, through memory. Both ends get events as if over a socket.
    Local(ListenerTag),
}

/// How to speak TLS on a new connection.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Roots, ALPN, client certificate, session cache.
    pub config: Arc<ClientConfig>,
    /// The name that the peer's certificate must have.
    pub name: ServerName<'static>,
}

/// An HTTP proxy that is asked for a tunnel with `CONNECT`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Via {
    /// The proxy's host.
    pub host: String,
    /// The proxy's port.
    pub port: u16,
    /// The value of `Proxy-Authorization`, if it wants one.
    pub authorization: Option<Secret<String>>,
}

/// Why a connection is gone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Close {
    /// Both sides had finished.
    Clean,
    /// The connection could not be made: the reason as a sentence.
    Refused(String),
    /// The peer's certificate is not to be trusted, or it broke TLS: the reason as a sentence.
    Untrusted(String),
    /// It broke.
    Reset,
    /// The peer sent FIN without `close_notify`: bytes may be missing.
    Truncated,
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clean => f.write_str("closed"),
            Self::Refused(why) | Self::Untrusted(why) => f.write_str(why),
            Self::Reset => f.write_str("connection reset by peer"),
            Self::Truncated => f.write_str("connection cut off by peer"),
        }
    }
}

/// A signal, by what it asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signal {
    /// SIGTERM or SIGINT: finish and exit. A second one exits at once.
    Stop,
    /// SIGHUP: read files again.
    Reload,
}

/// What a role has to say to whoever runs the process.
#[derive(Clone, Debug)]
pub enum Notice {
    /// The process does now what it is for; the value is for the binary to print.
    Ready,
    /// A sentence for a person, on standard error.
    Say(String),
    /// What was measured.
    Measured(Box<Report>),
    /// End the process: exit code, and why when it is not 0.
    Exit(u8, Option<Fault>),
}

/// Why a process ends, for the person who started it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// A stable word that the manual explains.
    pub code: &'static str,
    /// A sentence.
    pub message: String,
}

/// The queue of the worker threads is full: fail the request that wanted the job.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Busy;

/// The audit log cannot be written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unrecorded;

/// Random bits, as many as one number has.
pub fn random_u64(net: &mut dyn Net) -> u64 {
    let mut bytes = [0; 8];
    net.random(&mut bytes);
    u64::from_ne_bytes(bytes)
}

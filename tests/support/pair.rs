#![allow(dead_code, unreachable_pub, reason = "each test uses its own part of this")]
//! Both ends of a tunnel, or of a TLS session, in memory.

use std::sync::Arc;
use std::time::Instant;

use cluster_connect::buf::Pool;
use cluster_connect::engine::mux::Event;
use cluster_connect::engine::tls::Session;
use cluster_connect::engine::tunnel::{ALPN_MUX, Tunnel};
use cluster_connect::limits::BUFFER_SIZE;
use cluster_connect::wire::mux::StreamId;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

use super::tls::Pki;

/// Both ends of a tunnel, established.
pub struct Pair {
    pub pool: Pool,
    pub near: Tunnel,
    pub far: Tunnel,
    bytes: Vec<u8>,
    now: Instant,
}

impl Pair {
    pub fn new() -> Self {
        let pki = Pki::new();
        Self::with(&pki.client(&[ALPN_MUX]), &pki.server(&[ALPN_MUX]))
    }

    pub fn with(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Self {
        let near = Tunnel::dial(Arc::clone(client), name()).expect("a tunnel");
        let far = Tunnel::accept(Arc::clone(server)).expect("a tunnel");
        let (pool, now) = (Pool::new(64, 64, BUFFER_SIZE), Instant::now());
        let mut pair = Self { pool, near, far, bytes: Vec::new(), now };
        while !pair.near.is_established() || !pair.far.is_established() {
            pair.carry();
        }
        pair
    }

    /// Everything that either side has to say, once.
    pub fn carry(&mut self) {
        self.bytes.clear();
        while self.near.transmit(&mut self.bytes) {}
        self.far.receive(&mut self.bytes, &self.pool, self.now).expect("TLS");
        self.bytes.clear();
        while self.far.transmit(&mut self.bytes) {}
        self.near.receive(&mut self.bytes, &self.pool, self.now).expect("TLS");
    }

    pub fn send(&mut self, stream: StreamId, bytes: &[u8]) {
        let mut lease = self.pool.lease_beyond();
        lease.fill(bytes);
        let _ = self.near.send(stream, lease.freeze());
    }

    /// The far end takes what has come. Returns the stream that was opened last.
    pub fn take(&mut self) -> Option<StreamId> {
        let mut opened = None;
        while let Some(event) = self.far.poll_event() {
            match event {
                Event::Opened(id) => opened = Some(id),
                Event::Data(id, data) => self.far.drained(id, data.len(), self.now),
                _ => (),
            }
        }
        opened
    }

    /// One stream for 100 bytes, opened and closed at both ends.
    pub fn open_and_close(&mut self) {
        let stream = self.near.open().expect("a stream");
        self.send(stream, &[7; 100]);
        self.near.finish(stream);
        self.carry();
        let far = self.take().expect("opened");
        self.far.finish(far);
        self.carry();
        while self.near.poll_event().is_some() {}
    }
}

/// Both ends of a TLS session, established.
pub fn sessions() -> (Session, Session) {
    let pki = Pki::new();
    sessions_with(&pki.client(&[]), &pki.server(&[]))
}

pub fn sessions_with(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> (Session, Session) {
    let mut near = Session::client(Arc::clone(client), name()).expect("a session");
    let mut far = Session::server(Arc::clone(server)).expect("a session");
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        near.receive(&mut down, |_| (), &mut up).expect("TLS");
        down.clear();
        far.receive(&mut up, |_| (), &mut down).expect("TLS");
        up.clear();
    }
    near.receive(&mut down, |_| (), &mut up).expect("TLS");
    (near, far)
}

fn name() -> ServerName<'static> {
    ServerName::try_from("relay.test").expect("a name")
}

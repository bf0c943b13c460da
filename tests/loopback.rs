//! The reactor on real sockets: TLS, half-close, back-pressure, pipes in memory, garbage.

mod support;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::channel;
use std::thread;

use cluster_connect::buf::Pressure;
use cluster_connect::io::{AuditSink, Bind, Limits, Reactor, Setup};
use cluster_connect::role::{Close, ConnId, Endpoint, Event, ListenerTag, Net, Role, Tls};
use rustls::{ClientConnection, StreamOwned};
use support::tls::Pki;

/// Forwards what comes to `Main` to `to`, and sends back what comes to `AuthProxy`.
struct Splice {
    to: Endpoint,
    peers: BTreeMap<ConnId, ConnId>,
}

impl Splice {
    fn new(to: Endpoint) -> Self {
        Self { to, peers: BTreeMap::new() }
    }
}

impl Role for Splice {
    fn on_event(&mut self, event: Event, net: &mut dyn Net) {
        match event {
            Event::Accepted(conn, ListenerTag::Main, _) => {
                net.pause(conn);
                let back = net.connect(&self.to).expect("there is room");
                self.peers.insert(conn, back);
                self.peers.insert(back, conn);
            }
            Event::Accepted(conn, ..) => {
                self.peers.insert(conn, conn);
            }
            Event::Connected(conn) => net.resume(self.peers[&conn]),
            Event::Data(conn, data) => match net.send(self.peers[&conn], data.freeze()) {
                Pressure::Full => net.pause(conn),
                Pressure::Open => (),
            },
            Event::Drained(conn, _) if net.pressure(conn) == Pressure::Open => {
                net.resume(self.peers[&conn]);
            }
            Event::Finished(conn) => net.finish(self.peers[&conn]),
            Event::Closed(conn, why) => {
                if let Some(peer) = self.peers.remove(&conn)
                    && why != Close::Clean
                {
                    self.peers.remove(&peer);
                    net.abort(peer);
                }
            }
            _ => (),
        }
    }
}

fn serve(pki: &Pki, to: Endpoint, tls: bool) -> SocketAddr {
    serve_with(pki, to, tls, 256)
}

fn serve_with(pki: &Pki, to: Endpoint, tls: bool, buffers: usize) -> SocketAddr {
    let config = tls.then(|| pki.server(&[]));
    let (tell, hear) = channel();
    thread::spawn(move || {
        let setup = Setup {
            limits: Limits { conns: 64, buffers, keep: 16 },
            audit: AuditSink::nowhere(),
            journal: None,
            chore: None,
        };
        let mut reactor = Reactor::new(Splice::new(to), setup).expect("a loop");
        let any = Bind::Tcp(([127, 0, 0, 1], 0).into());
        let address = reactor.listen(ListenerTag::Main, &any, config).expect("a port");
        tell.send(address.expect("TCP")).expect("somebody waits for it");
        reactor.run(|_| ()).expect("a loop that goes on");
    });
    hear.recv().expect("it listens")
}

fn dial(pki: &Pki, to: SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
    let session = ClientConnection::new(pki.client(&[]), pki.name()).expect("a client");
    StreamOwned::new(session, TcpStream::connect(to).expect("it listens"))
}

/// Writes `plan` from one thread while reading in another, and finishes.
fn echo_over_tls(pki: &Pki, to: SocketAddr, len: usize) {
    let plan: Vec<u8> = (0..253).cycle().take(len).collect();
    let mut stream = dial(pki, to);
    let mut got = Vec::new();
    for piece in plan.chunks(100_000) {
        stream.write_all(piece).expect("it reads");
        let mut back = vec![0; piece.len()];
        stream.read_exact(&mut back).expect("it comes back");
        got.extend_from_slice(&back);
    }
    stream.conn.send_close_notify();
    stream.flush().expect("it reads");
    // Half-closed: the end comes back as close_notify, not as a cut.
    stream.read_to_end(&mut got).expect("it ends by itself");
    assert!(got == plan);
}

#[test]
fn bytes_travel_through_tls_and_a_pipe_in_memory_and_back() {
    let pki = Pki::new();
    let to = serve(&pki, Endpoint::Local(ListenerTag::AuthProxy), true);
    echo_over_tls(&pki, to, 3_000_000);
}

#[test]
fn bytes_travel_through_two_processes_worth_of_tls() {
    let pki = Pki::new();
    let far = serve(&pki, Endpoint::Local(ListenerTag::AuthProxy), true);
    let to = Endpoint::Tcp {
        host: "127.0.0.1".into(),
        port: far.port(),
        tls: Some(Tls { config: pki.client(&[]), name: pki.name() }),
        via: None,
    };
    let near = serve(&pki, to, true);
    echo_over_tls(&pki, near, 1_000_000);
}

#[test]
fn a_writer_that_never_reads_is_stopped_and_its_neighbour_served() {
    let pki = Pki::new();
    let to = serve(&pki, Endpoint::Local(ListenerTag::AuthProxy), false);
    let mut greedy = TcpStream::connect(to).unwrap();
    greedy.set_nonblocking(true).unwrap();
    let mut taken = 0;
    let mut idle = 0;
    while idle < 2000 {
        match greedy.write(&[1; 64 * 1024]) {
            Ok(len) => (taken, idle) = (taken + len, 0),
            Err(err) if err.kind() == ErrorKind::WouldBlock => {
                idle += 1;
                thread::yield_now();
            }
            Err(err) => panic!("{err}"),
        }
        assert!(taken < 64 * 1024 * 1024, "nothing stops the writer");
    }
    let mut neighbour = TcpStream::connect(to).unwrap();
    neighbour.write_all(b"hello").unwrap();
    neighbour.shutdown(Shutdown::Write).unwrap();
    let mut back = Vec::new();
    neighbour.read_to_end(&mut back).unwrap();
    assert_eq!(back, b"hello");
}

/// What a process has left under a tight limit of memory.
#[test]
fn with_few_buffers_everybody_is_served_later() {
    let pki = Pki::new();
    let to = serve_with(&pki, Endpoint::Local(ListenerTag::AuthProxy), true, 32);
    // It writes and never reads, and so holds what it can.
    let mut greedy = dial(&pki, to);
    greedy.sock.set_read_timeout(None).unwrap();
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| echo_over_tls(&pki, to, 500_000));
        }
        for _ in 0..10 {
            greedy.write_all(&[1; 10_000]).unwrap();
        }
    });
}

#[test]
fn garbage_in_place_of_a_handshake_is_dropped_and_others_are_served() {
    let pki = Pki::new();
    let to = serve(&pki, Endpoint::Local(ListenerTag::AuthProxy), true);
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 600], &[0x16, 3, 1, 0xff, 0xff, 1], b""] {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.write_all(garbage).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        // An alert, a FIN or a reset: what counts is that it ends.
        let _ = stream.read_to_end(&mut back);
        assert!(back.len() < 100);
    }
    echo_over_tls(&pki, to, 1000);
}

#[test]
fn a_server_that_is_not_trusted_or_not_there_refuses_the_caller() {
    let pki = Pki::new();
    let other = Pki::new();
    let far = serve(&pki, Endpoint::Local(ListenerTag::AuthProxy), true);
    let untrusted = Endpoint::Tcp {
        host: "localhost".into(),
        port: far.port(),
        tls: Some(Tls { config: other.client(&[]), name: pki.name() }),
        via: None,
    };
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody =
        Endpoint::Tcp { host: "127.0.0.1".into(), port: gone.port(), tls: None, via: None };
    for to in [untrusted, nobody] {
        let near = serve(&pki, to, false);
        let mut stream = TcpStream::connect(near).unwrap();
        // The splice aborts what cannot be forwarded: a reset, or the end.
        let mut back = Vec::new();
        let _ = stream.read_to_end(&mut back);
        assert!(back.is_empty());
    }
}

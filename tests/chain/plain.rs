//! Callers of the auth proxy without a client proxy: TLS, and inside it one HTTP connection. They
//! speak rustls' own buffered API, so that the two ways to it check each other.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cluster_connect::engine::tlsconf::{self, Versions};
use cluster_connect::engine::tunnel::ALPN_HTTP;
use cluster_connect::role::{ConnId, Event, Net, Role};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use super::apiserver::pattern;
use super::{Chain, Shape, Stopped, cluster, pki, plain, tokens};
use crate::sim::http::{Item, Reader};
use crate::sim::no_jobs;

/// What a caller does once it has said all that it has to say.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    /// Reads, and ends after the answer.
    Reads,
    /// Says that it sends no more, and reads.
    Finishes,
    /// Breaks off without saying so.
    BreaksOff,
    /// Stays, and does nothing more.
    Stays,
}

struct Plain {
    tls: ClientConnection,
    conn: Option<ConnId>,
    then: Then,
    has_finished: bool,
    got: Rc<RefCell<Got>>,
}

#[derive(Default)]
struct Got {
    bytes: Vec<u8>,
    is_answered: bool,
    has_ended: bool,
}

impl Plain {
    fn new(request: &[u8], then: Then, got: Rc<RefCell<Got>>) -> Self {
        let roots = [pki().authority.certificate().clone()];
        let config =
            tlsconf::client(&roots, None, &[ALPN_HTTP], Versions::Newest, Arc::new(Stopped));
        let name = ServerName::try_from(cluster().server_name()).expect("a name");
        let mut tls = ClientConnection::new(config.expect("a configuration"), name).expect("TLS");
        tls.set_buffer_limit(None);
        tls.writer().write_all(request).expect("no limit");
        Self { tls, conn: None, then, has_finished: false, got }
    }

    fn send(&mut self, net: &mut dyn Net) {
        let Some(conn) = self.conn else { return };
        let ends = !self.tls.is_handshaking()
            && matches!(self.then, Then::Finishes | Then::BreaksOff)
            && !std::mem::replace(&mut self.has_finished, true);
        if ends && self.then == Then::Finishes {
            self.tls.send_close_notify();
        }
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes).expect("a vector takes everything");
        }
        for slice in net.pool().clone().slices(&bytes) {
            let _ = net.send(conn, slice);
        }
        if ends {
            net.finish(conn);
        }
    }

    fn on_data(&mut self, mut data: &[u8], net: &mut dyn Net) {
        let mut got = self.got.borrow_mut();
        while !data.is_empty() {
            self.tls.read_tls(&mut data).expect("bytes");
            self.tls.process_new_packets().expect("good TLS");
            let mut buffer = [0; 20_000];
            while let Ok(len @ 1..) = self.tls.reader().read(&mut buffer) {
                got.bytes.extend_from_slice(&buffer[..len]);
            }
        }
        drop(got);
        self.send(net);
        let (mut reader, bytes) = (Reader::client(), self.got.borrow().bytes.clone());
        reader.feed(&bytes);
        while let Some(item) = reader.poll() {
            if matches!(item, Item::End) {
                self.got.borrow_mut().is_answered = true;
                if self.then == Then::Reads {
                    self.tls.send_close_notify();
                    self.send(net);
                    net.finish(self.conn.expect("there is one"));
                    self.then = Then::Stays;
                }
            }
        }
    }
}

impl Role for Plain {
    fn on_event(&mut self, event: Event, net: &mut dyn Net) {
        match event {
            Event::Started => self.conn = net.connect(&plain("auth-proxy.test")),
            Event::Connected(_) => self.send(net),
            Event::Data(_, data) => self.on_data(&data, net),
            Event::Finished(conn) => {
                self.got.borrow_mut().has_ended = true;
                net.finish(conn);
            }
            Event::Closed(..) => self.got.borrow_mut().has_ended = true,
            _ => (),
        }
    }
}

fn request(size: u64) -> (Vec<u8>, Vec<u8>) {
    let body = pattern(7, size);
    let head = format!(
        "POST /api/v1/namespaces/n/configmaps?slow=1 HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\
         Authorization: Bearer {}\r\n\r\n",
        tokens::token("alice", "cluster", crate::sim::EPOCH, 3600)
    );
    ([head.as_bytes(), &body].concat(), body)
}

/// A chain with such a caller.
fn chain(seed: u64, request: &[u8], then: Then) -> (Chain, Rc<RefCell<Got>>) {
    let mut chain = Chain::new(seed, Shape { is_apart: true, ..Shape::default() });
    let got = Rc::default();
    let role = Plain::new(request, then, Rc::clone(&got));
    chain.world.add("plain.test", role, no_jobs());
    (chain, got)
}

#[test]
fn a_plain_connection_carries_any_amount_in_both_directions() {
    for seed in 0..12_u64 {
        let size = if seed < 4 { 900_000 } else { 10 * seed.pow(4) };
        let (bytes, body) = request(size);
        let then = if seed % 2 == 0 { Then::Reads } else { Then::Finishes };
        let (mut chain, got) = chain(seed, &bytes, then);
        let done = chain.world.run_until(Duration::from_secs(60), |_| got.borrow().has_ended);
        let len = got.borrow().bytes.len();
        assert!(done && got.borrow().is_answered, "seed {seed}: {len} of {size} bytes");
        assert!(got.borrow().bytes.ends_with(&body), "seed {seed}");
        chain.world.run_for(Duration::from_secs(20));
        assert_eq!(chain.leftovers(), [""; 0], "seed {seed}");
    }
}

#[test]
fn a_plain_connection_ends_when_nothing_more_comes() {
    let (bytes, _) = request(5_000);
    for (what, bytes, then) in [
        ("after an answer", bytes.as_slice(), Then::Stays),
        ("before a request", &[], Then::Stays),
        ("in a head", &bytes[..50], Then::Stays),
        ("before a request, at once", &[], Then::Finishes),
        ("in a head, at once", &bytes[..50], Then::Finishes),
        ("in a body, at once", &bytes[..3_000], Then::Finishes),
        ("in a body, without a word", &bytes[..3_000], Then::BreaksOff),
        ("before an answer, without a word", &bytes, Then::BreaksOff),
    ] {
        let (mut chain, got) = chain(1, bytes, then);
        // Longer than any connection may idle.
        chain.world.run_for(Duration::from_secs(120));
        assert!(got.borrow().has_ended, "{what}");
        chain.is_served();
        assert_eq!(chain.leftovers(), [""; 0], "{what}");
    }
}

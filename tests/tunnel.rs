//! Both ends of an end-to-end session, joined by a pipe that cuts bytes anywhere: what goes in at
//! one end of a stream comes out at the other, whatever the seed.

mod sim;
mod support;

use std::collections::BTreeMap;
use std::time::Instant;

use cluster_connect::buf::{Pool, Pressure};
use cluster_connect::engine::mux::{Ended, Event};
use cluster_connect::engine::tls::Fresh;
use cluster_connect::engine::tunnel::{ALPN_HTTP, ALPN_MUX, Tunnel};
use cluster_connect::wire::mux::StreamId;
use sim::Rng;
use support::tls::Pki;

struct End {
    tunnel: Tunnel,
    out: Vec<u8>,
    got: BTreeMap<StreamId, Vec<u8>>,
    /// What has still to be sent, by stream.
    plan: BTreeMap<StreamId, Vec<u8>>,
    finished: usize,
    clean: usize,
}

impl End {
    fn new(tunnel: Tunnel) -> Self {
        let (got, plan) = (BTreeMap::new(), BTreeMap::new());
        Self { tunnel, out: Vec::new(), got, plan, finished: 0, clean: 0 }
    }

    /// Sends what it may, and echoes what it gets if it has no plan of its own.
    fn act(&mut self, pool: &Pool, rng: &mut Rng, now: Instant, echo: bool) {
        while let Some(event) = self.tunnel.poll_event() {
            match event {
                Event::Data(stream, data) => {
                    if echo {
                        self.plan.entry(stream).or_default().extend_from_slice(&data);
                    }
                    self.got.entry(stream).or_default().extend_from_slice(&data);
                    self.tunnel.drained(stream, data.len(), now);
                }
                Event::Finished(stream) if echo => {
                    self.finished += 1;
                    self.plan.entry(stream).or_default();
                }
                Event::Finished(_) => self.finished += 1,
                Event::Closed(_, Ended::Clean) => self.clean += 1,
                Event::Closed(stream, how) => panic!("{stream:?} has ended: {how:?}"),
                Event::Opened(_)
                | Event::Writable(_)
                | Event::GoingAway
                | Event::Pong(_)
                | Event::Crowded => (),
            }
        }
        for (stream, left) in &mut self.plan {
            while !left.is_empty() && self.tunnel.pressure(*stream) == Pressure::Open {
                let mut lease = pool.lease_beyond();
                let len = lease.fill(&left[..rng.size(30_000).min(left.len())]);
                left.drain(..len);
                let _ = self.tunnel.send(*stream, lease.freeze());
            }
        }
        self.tunnel.transmit(&mut self.out);
    }
}

fn carry(from: &mut End, to: &mut End, pool: &Pool, rng: &mut Rng, now: Instant) {
    let len = rng.size(70_000).min(from.out.len());
    let mut piece: Vec<u8> = from.out.drain(..len).collect();
    to.tunnel.receive(&mut piece, pool, now).expect("both ends keep to the protocol");
}

#[test]
fn every_byte_of_every_stream_comes_back_in_order() {
    let pki = Pki::new();
    for seed in 0..60 {
        let pool = Pool::new(64, 64, 32 * 1024);
        let mut rng = Rng(seed);
        let now = Instant::now();
        let dialled = Tunnel::dial(pki.client(&[ALPN_MUX]), pki.name()).unwrap();
        let mut near = End::new(dialled);
        let mut far = End::new(Tunnel::accept(pki.server(&[ALPN_MUX, ALPN_HTTP])).unwrap());
        let mut plans = BTreeMap::new();
        for _ in 0..200_000 {
            if near.tunnel.is_established() && plans.is_empty() {
                for number in 0..1 + seed % 5 {
                    let stream = near.tunnel.open().unwrap();
                    let len = rng.index(600_000) + 1;
                    let fill = u8::try_from(number).unwrap();
                    let fill = fill.wrapping_mul(37);
                    let plan: Vec<u8> =
                        (0..251).cycle().take(len).map(|byte: u8| byte ^ fill).collect();
                    plans.insert(stream, plan.clone());
                    near.plan.insert(stream, plan);
                }
            }
            near.act(&pool, &mut rng, now, false);
            far.act(&pool, &mut rng, now, true);
            carry(&mut near, &mut far, &pool, &mut rng, now);
            carry(&mut far, &mut near, &pool, &mut rng, now);
            for (stream, left) in &near.plan {
                if left.is_empty() {
                    near.tunnel.finish(*stream);
                }
            }
            if far.finished == plans.len() && !plans.is_empty() {
                for (stream, left) in &far.plan {
                    if left.is_empty() {
                        far.tunnel.finish(*stream);
                    }
                }
            }
            if near.clean == plans.len() && !plans.is_empty() {
                break;
            }
        }
        assert!(near.got == plans, "seed {seed}");
        assert_eq!((near.tunnel.streams(), far.tunnel.streams()), (0, 0), "seed {seed}");
        drop((near, far));
        assert_eq!(pool.leased(), 0, "seed {seed}");
    }
}

#[test]
fn a_flight_longer_than_a_buffer_leaves_in_several() {
    let (pki, now) = (Pki::new(), Instant::now());
    let (pool, small) = (Pool::new(64, 64, 32 * 1024), Pool::new(64, 64, 200));
    let mut near = Tunnel::dial(pki.client(&[ALPN_MUX]), pki.name()).unwrap();
    let mut far = Tunnel::accept(pki.server(&[ALPN_MUX])).unwrap();
    let mut buffers = 0;
    let mut carry = |from: &mut Tunnel, to: &mut Tunnel| {
        loop {
            let mut records = Fresh::new(&small, 8);
            from.transmit(&mut records);
            let Some(mut records) = records.into_lease() else { return };
            to.receive(&mut records.filled_mut()[8..], &pool, now).unwrap();
            buffers += 1;
        }
    };
    carry(&mut near, &mut far);
    carry(&mut far, &mut near);
    carry(&mut near, &mut far);
    assert!(near.is_established() && far.is_established());
    assert!(5 < buffers, "{buffers}");
    assert_eq!(small.leased(), 0);
}

#[test]
fn a_stream_that_nobody_reads_stops_its_writer_at_one_window() {
    let pki = Pki::new();
    let pool = Pool::new(64, 64, 32 * 1024);
    let (mut rng, now) = (Rng(1), Instant::now());
    let mut near = End::new(Tunnel::dial(pki.client(&[ALPN_MUX]), pki.name()).unwrap());
    let mut far = End::new(Tunnel::accept(pki.server(&[ALPN_MUX])).unwrap());
    let mut stream = None;
    let mut received = 0;
    for _ in 0..3000 {
        if near.tunnel.is_established() && stream.is_none() {
            let id = near.tunnel.open().unwrap();
            near.plan.insert(id, vec![7; 4 * 1024 * 1024]);
            stream = Some(id);
        }
        near.act(&pool, &mut rng, now, false);
        far.tunnel.transmit(&mut far.out);
        carry(&mut near, &mut far, &pool, &mut rng, now);
        carry(&mut far, &mut near, &pool, &mut rng, now);
        // Nothing is reported as drained.
        while let Some(event) = far.tunnel.poll_event() {
            if let Event::Data(_, data) = event {
                received += data.len();
            }
        }
    }
    assert_eq!(received, cluster_connect::limits::WINDOW as usize);
}

#[test]
fn a_server_without_a_common_protocol_is_refused() {
    let pki = Pki::new();
    let pool = Pool::new(64, 64, 32 * 1024);
    let (mut rng, now) = (Rng(1), Instant::now());
    let mut near = End::new(Tunnel::dial(pki.client(&[b"h2"]), pki.name()).unwrap());
    let mut far = Tunnel::accept(pki.server(&[ALPN_MUX])).unwrap();
    near.act(&pool, &mut rng, now, false);
    let mut hello = std::mem::take(&mut near.out);
    assert!(far.receive(&mut hello, &pool, now).is_err());
    let mut alert = Vec::new();
    assert!(far.transmit(&mut alert), "the client is told why");
    assert!(near.tunnel.receive(&mut alert, &pool, now).is_err());
}

#[test]
fn a_plain_connection_is_a_session_of_one_stream() {
    let pki = Pki::new();
    let pool = Pool::new(64, 64, 32 * 1024);
    let now = Instant::now();
    let mut far = Tunnel::accept(pki.server(&[ALPN_MUX, ALPN_HTTP])).unwrap();
    let mut tls =
        cluster_connect::engine::tls::Session::client(pki.client(&[ALPN_HTTP]), pki.name())
            .unwrap();
    let (mut up, mut down, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..6 {
        tls.receive(&mut down, |bytes| plain.extend_from_slice(bytes), &mut up).unwrap();
        down.clear();
        far.receive(&mut up, &pool, now).unwrap();
        up.clear();
        while far.transmit(&mut down) {}
    }
    tls.receive(&mut down, |_| (), &mut up).unwrap();
    tls.seal(b"GET / HTTP/1.1\r\n\r\n", &mut up).unwrap();
    tls.close(&mut up);
    far.receive(&mut up, &pool, now).unwrap();
    assert!(matches!(far.poll_event(), Some(Event::Opened(StreamId(1)))));
    assert!(
        matches!(far.poll_event(), Some(Event::Data(StreamId(1), data)) if data.starts_with(b"GET"))
    );
    assert!(matches!(far.poll_event(), Some(Event::Finished(StreamId(1)))));
    let mut lease = pool.lease().unwrap();
    lease.fill(b"HTTP/1.1 204 No Content\r\n\r\n");
    let _ = far.send(StreamId(1), lease.freeze());
    far.finish(StreamId(1));
    down.clear();
    while far.transmit(&mut down) {}
    assert!(matches!(far.poll_event(), Some(Event::Closed(StreamId(1), Ended::Clean))));
    let state = tls.receive(&mut down, |bytes| plain.extend_from_slice(bytes), &mut up).unwrap();
    assert_eq!(state, cluster_connect::engine::tls::State::PeerClosed);
    assert!(plain.starts_with(b"HTTP/1.1 204"));
}

#[test]
fn a_request_that_ends_in_the_flight_that_ends_the_handshake_is_answered() {
    use cluster_connect::engine::tls::{Session, State};
    let pki = Pki::new();
    let pool = Pool::new(64, 64, 32 * 1024);
    let now = Instant::now();
    let mut far = Tunnel::accept(pki.server(&[ALPN_HTTP])).unwrap();
    let mut near = Session::client(pki.client(&[ALPN_HTTP]), pki.name()).unwrap();
    let (mut up, mut down, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    near.receive(&mut [], |_| (), &mut up).unwrap();
    while !near.is_established() {
        far.receive(&mut up, &pool, now).unwrap();
        up.clear();
        while far.transmit(&mut down) {}
        near.receive(&mut down, |_| (), &mut up).unwrap();
        down.clear();
    }
    near.seal(b"GET / HTTP/1.1\r\n\r\n", &mut up).unwrap();
    near.close(&mut up);
    far.receive(&mut up, &pool, now).unwrap();
    assert!(far.is_established());
    let mut lease = pool.lease().unwrap();
    lease.fill(b"HTTP/1.1 204 No Content\r\n\r\n");
    let _ = far.send(StreamId(1), lease.freeze());
    far.finish(StreamId(1));
    while far.transmit(&mut down) {}
    let state = near.receive(&mut down, |bytes| plain.extend_from_slice(bytes), &mut up).unwrap();
    assert_eq!(state, State::PeerClosed);
    assert!(plain.starts_with(b"HTTP/1.1 204"));
}

/// Two ends with a session of many streams.
fn established(pki: &Pki, pool: &Pool, rng: &mut Rng, now: Instant) -> (End, End) {
    let dialled = Tunnel::dial(pki.client(&[ALPN_MUX]), pki.name()).expect("a client");
    let mut near = End::new(dialled);
    let mut far = End::new(Tunnel::accept(pki.server(&[ALPN_MUX])).expect("a server"));
    while !(near.tunnel.is_established() && far.tunnel.is_established()) {
        near.act(pool, rng, now, false);
        far.act(pool, rng, now, false);
        carry(&mut near, &mut far, pool, rng, now);
        carry(&mut far, &mut near, pool, rng, now);
    }
    (near, far)
}

#[test]
fn whoever_tampers_with_a_session_ends_it_and_nothing_else() {
    let pki = Pki::new();
    let pool = Pool::new(64, 64, 32 * 1024);
    let (mut rng, now) = (Rng(1), Instant::now());
    for place in [0, 1, 3, 5, 9, 33] {
        let (mut near, mut far) = established(&pki, &pool, &mut rng, now);
        let stream = near.tunnel.open().unwrap();
        near.plan.insert(stream, vec![1; 1000]);
        near.act(&pool, &mut rng, now, false);
        near.tunnel.transmit(&mut near.out);
        let mut bytes = std::mem::take(&mut near.out);
        far.tunnel.receive(&mut bytes, &pool, now).unwrap();
        far.tunnel.session().unwrap().ping(7, now);
        near.tunnel.session().unwrap().ping(9, now);
        near.tunnel.transmit(&mut near.out);
        near.out[place] ^= 0x55;
        let mut bytes = std::mem::take(&mut near.out);
        bytes.extend_from_slice(&[0x17, 3, 3, 0, 40]);
        bytes.extend_from_slice(&[9; 40]);
        assert!(far.tunnel.receive(&mut bytes, &pool, now).is_err(), "byte {place}");
        let mut words = Vec::new();
        assert!(far.tunnel.transmit(&mut words), "byte {place}: the alert");
        assert!(!far.tunnel.transmit(&mut words), "byte {place}: nothing else");
        drop((near, far));
        assert_eq!(pool.leased(), 0);
    }
}

#[test]
fn what_has_still_to_be_said_after_the_peers_end_is_said() {
    let pki = Pki::new();
    let pool = Pool::new(64, 64, 32 * 1024);
    let now = Instant::now();
    let mut far = Tunnel::accept(pki.server(&[ALPN_MUX])).unwrap();
    let mut tls =
        cluster_connect::engine::tls::Session::client(pki.client(&[ALPN_MUX]), pki.name()).unwrap();
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for _ in 0..6 {
        tls.receive(&mut down, |_| (), &mut up).unwrap();
        down.clear();
        far.receive(&mut up, &pool, now).unwrap();
        up.clear();
        while far.transmit(&mut down) {}
    }
    tls.close(&mut up);
    far.receive(&mut up, &pool, now).unwrap();
    far.session().unwrap().ping(3, now);
    down.clear();
    while far.transmit(&mut down) {}
    assert!(!down.is_empty());
}

//! Figures that are exact: allocations in the data path, bytes on the wire, and bytes that are held
//! for what is idle.

#[path = "support/heads.rs"]
mod heads;
mod support;

use std::time::Instant;

use allocation_counter::measure;
use cluster_connect::buf::{Outbox, Pool};
use cluster_connect::engine::exchange::Exchange;
use cluster_connect::engine::mux::{Event, Session};
use cluster_connect::engine::tunnel::{ALPN_MUX, Tunnel};
use cluster_connect::engine::ws::{Splice, frame_up, push_frame};
use cluster_connect::limits::{BUFFER_SIZE, FRAME_MAX, MUX_HEADER, TLS_RECORD_OVERHEAD, WS_HEAD};
use cluster_connect::wire::h1::{RequestHead, Scan};
use cluster_connect::wire::ws::Opcode;
use heads::Caller;
use support::pair::{Pair, sessions_with};
use support::tls::Pki;

const KEY: [u8; 4] = [0xa1, 0xb2, 0xc3, 0xd4];

/// Allocations of one `act`, once buffers have their size.
fn allocations(mut act: impl FnMut()) -> u64 {
    for _ in 0..64 {
        act();
    }
    measure(|| (0..64).for_each(|_| act())).count_total
}

#[test]
fn buffers_go_round_without_allocating() {
    let pool = Pool::new(16, 16, BUFFER_SIZE);
    let (mut outbox, mut scratch) = (Outbox::new(8), Vec::with_capacity(BUFFER_SIZE));
    let count = allocations(|| {
        for len in [10, 3000, 16_000] {
            let mut lease = pool.lease().unwrap();
            lease.commit(len);
            let _ = outbox.push(lease.freeze());
        }
        while !outbox.is_empty() {
            assert!(!outbox.record(&mut scratch, 16 * 1024).is_empty());
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn frames_pass_the_agent_and_the_relay_without_allocating() {
    let mut bytes = vec![7; BUFFER_SIZE];
    let mut steps = Vec::new();
    let agent = allocations(|| {
        steps.clear();
        frame_up(&mut bytes, || KEY, &mut steps);
    });
    let mut frame = Vec::new();
    push_frame(&mut frame, Opcode::Binary, true, Some(KEY), &[7; 16_000]);
    let mut buffer = frame.clone();
    let mut splice = Splice::frames();
    let relay = allocations(|| {
        buffer.copy_from_slice(&frame);
        steps.clear();
        splice.handle(&mut buffer, &mut steps).unwrap();
    });
    assert_eq!((agent, relay), (0, 0));
}

fn pass(from: &mut Session, to: &mut Session, wire: &mut Vec<u8>, pool: &Pool, now: Instant) {
    wire.clear();
    while from.transmit(wire) {}
    for slice in pool.slices(wire) {
        to.receive(slice, now).expect("what the other end has sent");
    }
}

#[test]
fn streams_carry_data_without_allocating() {
    let pool = Pool::new(16, 16, BUFFER_SIZE);
    let now = Instant::now();
    let (mut near, mut far) = (Session::new(true), Session::new(false));
    let stream = near.open().unwrap();
    let mut wire = Vec::new();
    let count = allocations(|| {
        let mut lease = pool.lease().unwrap();
        lease.commit(FRAME_MAX - MUX_HEADER);
        let _ = near.send(stream, lease.freeze());
        pass(&mut near, &mut far, &mut wire, &pool, now);
        pass(&mut far, &mut near, &mut wire, &pool, now);
        while let Some(event) = far.poll_event() {
            if let Event::Data(id, data) = event {
                far.drained(id, data.len(), now);
            }
        }
        while near.poll_event().is_some() {}
    });
    assert_eq!(count, 0);
}

/// Both ends of a session whose handshake is done.
fn established(pool: &Pool) -> (Tunnel, Tunnel) {
    let pki = Pki::new();
    let now = Instant::now();
    let mut near = Tunnel::dial(pki.client(&[ALPN_MUX]), pki.name()).expect("a client");
    let mut far = Tunnel::accept(pki.server(&[ALPN_MUX])).expect("a server");
    let mut bytes = Vec::new();
    while !near.is_established() || !far.is_established() {
        bytes.clear();
        while near.transmit(&mut bytes) {}
        far.receive(&mut bytes, pool, now).expect("what the client has sent");
        bytes.clear();
        while far.transmit(&mut bytes) {}
        near.receive(&mut bytes, pool, now).expect("what the server has sent");
    }
    (near, far)
}

#[test]
fn a_session_that_falls_silent_gives_up_its_room_for_a_frame() {
    let pool = Pool::new(16, 16, BUFFER_SIZE);
    let (mut near, _far) = established(&pool);
    let stream = near.open().unwrap();
    let mut lease = pool.lease().unwrap();
    lease.commit(FRAME_MAX - MUX_HEADER);
    let _ = near.send(stream, lease.freeze());
    let mut bytes = Vec::new();
    while near.transmit(&mut bytes) {}
    let silent = measure(|| assert!(!near.transmit(&mut bytes)));
    assert!(silent.bytes_current <= -i64::try_from(FRAME_MAX).unwrap(), "{silent:?}");
}

#[test]
fn opening_a_stream_costs_one_header_in_one_record() {
    let pool = Pool::new(16, 16, BUFFER_SIZE);
    let (mut near, _far) = established(&pool);
    let mut bytes = Vec::new();
    let mut sent = |near: &mut Tunnel| {
        bytes.clear();
        while near.transmit(&mut bytes) {}
        bytes.len()
    };
    assert_eq!(sent(&mut near), 0);
    let stream = near.open().unwrap();
    assert_eq!(sent(&mut near), MUX_HEADER + TLS_RECORD_OVERHEAD);

    let mut lease = pool.lease().unwrap();
    lease.commit(FRAME_MAX - MUX_HEADER);
    let _ = near.send(stream, lease.freeze());
    // With the head of its WebSocket frame, a full frame fills one record of the outer session.
    assert_eq!(sent(&mut near) + WS_HEAD, 16 * 1024);
}

/// Bytes of each of `count` things that `make` keeps, and those that stay allocated for it.
fn held<T>(count: usize, mut make: impl FnMut() -> T) -> u64 {
    let mut kept = Vec::with_capacity(count);
    let found = measure(|| (0..count).for_each(|_| kept.push(make())));
    let beside = u64::try_from(found.bytes_current).expect("more than nothing") / count as u64;
    size_of::<T>() as u64 + beside
}

#[test]
fn an_idle_stream_costs_less_than_it_did() {
    let mut pair = Pair::new();
    let both_ends = held(1000, || {
        let stream = pair.near.open().expect("a stream");
        pair.carry();
        assert!(pair.take().is_some());
        stream
    });
    let machine = held(1000, || Exchange::new(Instant::now()));
    // One machine at the client proxy, and one at the auth proxy.
    let all = both_ends + 2 * machine;
    assert!(all <= IDLE_STREAM, "{both_ends} and twice {machine} bytes");
}

#[test]
fn an_idle_session_costs_less_than_it_did() {
    let pki = Pki::new();
    let (client, server) = (pki.client(&[ALPN_MUX]), pki.server(&[ALPN_MUX]));
    // Configurations fill their caches of sessions first.
    let _ = held(300, || drop(sessions_with(&client, &server)));
    let end_to_end = held(32, || {
        let Pair { near, far, .. } = Pair::with(&client, &server);
        (near, far)
    });
    // Towards the relay and from it, both ends of each.
    let outer = held(32, || [(); 2].map(|()| sessions_with(&client, &server)));
    assert!(end_to_end <= IDLE_TUNNEL, "end to end: {end_to_end} bytes");
    assert!(outer <= IDLE_LEGS, "to the relay and on: {outer} bytes");
}

/// What kubectl sends, with a token of the usual size, read, judged, and made into what goes on.
#[test]
fn a_requests_head_passes_with_few_allocations() {
    let (text, caller) = (heads::request(&heads::token()), Caller::new());
    let found = measure(|| {
        let (head, _) = RequestHead::read(text.as_bytes(), &mut Scan::default()).unwrap().unwrap();
        caller.send_on(&head);
    });
    assert_eq!(found.count_total, HEAD, "{found:?}");
}

/// Allocations for a head that goes on: four parts of the one that came, four of its copy, our fields
/// and two of their names, two bearer tokens, and the bytes.
const HEAD: u64 = 14;

/// Bytes of a stream on which nothing happens, in all processes together; the target is 4 KiB.
const IDLE_STREAM: u64 = 2_250;

/// Bytes of a session on which nothing happens, at its two ends; 180 are for the trials of windows,
/// 50 to tell whether it is crowded.
const IDLE_TUNNEL: u64 = 7_950;

/// Bytes of both TLS connections that carry it, at both ends of each. The relay and the agent have
/// three of these four; their target is 24 KiB.
const IDLE_LEGS: u64 = 13_900;

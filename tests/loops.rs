//! Several loops in one process, on real sockets: connections with TLS change hands whole, count
//! against one limit, and do not outlive the loop that accepted them.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use cluster_connect::engine::ws::{self, Side, Splice, Step, push_frame};
use cluster_connect::io::{AuditSink, Bind, Limits, Place, Reactor, Setup, Stopper};
use cluster_connect::limits::{BUFFER_SIZE, QUEUE_MAX, QUEUE_MIN, WS_HEAD};
use cluster_connect::role::relay::pump::Pump;
use cluster_connect::role::{
    ConnId, Event, Letter, ListenerTag, LoopId, Net, Notice, Pair, Peer, Role, Signal,
};
use cluster_connect::wire::ws::Opcode;
use rustls::{ClientConnection, StreamOwned};
use support::tls::Pki;

/// What the loop that accepts has seen, in order.
#[derive(Debug, Eq, PartialEq)]
enum Seen {
    Accepted,
    Ended(u64),
}

/// Joins every two connections that have said something, and gives them to loop 1.
struct Matcher {
    tell: Sender<Seen>,
    alone: Option<(ConnId, Vec<u8>)>,
    ended: u64,
}

impl Role for Matcher {
    fn on_event(&mut self, event: Event, net: &mut dyn Net) {
        match event {
            Event::Accepted(..) => self.tell.send(Seen::Accepted).unwrap(),
            Event::Data(conn, data) => {
                let said = data.to_vec();
                drop(data);
                let pool = net.pool().clone();
                pool.slices(b"go").for_each(|slice| {
                    let _ = net.send(conn, slice);
                });
                let Some((other, early)) = self.alone.take() else {
                    self.alone = Some((conn, said));
                    return;
                };
                let (entity, bearer) = ("ent".to_owned(), String::new());
                let (conns, peers) = ([other, conn], [Peer::Local; 2]);
                let pair = Pair { conns, entity, bearer, peers, seat: None, early, rest: said };
                net.post(LoopId(1), Letter::Pair(Box::new(pair)));
            }
            Event::Letter(LoopId(1), Letter::Tally(tally)) if self.ended < tally.ended => {
                self.ended = tally.ended;
                self.tell.send(Seen::Ended(tally.ended)).unwrap();
            }
            Event::Signal(Signal::Stop) => net.tell(Notice::Exit(0, None)),
            _ => (),
        }
    }
}

/// A pump, and the buffers that are out after each of its events.
struct Watched {
    pump: Pump,
    leased: Arc<AtomicUsize>,
}

impl Role for Watched {
    fn on_event(&mut self, event: Event, net: &mut dyn Net) {
        self.pump.on_event(event, net);
        self.leased.store(net.pool().leased(), Ordering::Relaxed);
    }

    fn deadline(&self) -> Option<Instant> {
        self.pump.deadline()
    }
}

fn start(pki: &Pki, conns: usize) -> (SocketAddr, Stopper, Receiver<Seen>) {
    start_watched(pki, conns, &Arc::default())
}

fn start_watched(
    pki: &Pki,
    conns: usize,
    leased: &Arc<AtomicUsize>,
) -> (SocketAddr, Stopper, Receiver<Seen>) {
    let (tell, seen) = channel();
    let leased = Arc::clone(leased);
    let (ready, address) = channel();
    let config = pki.server(&[]);
    thread::spawn(move || {
        let limits = Limits { conns, buffers: 256, keep: 16 };
        let (place, others) = Place::first(2).unwrap();
        for other in others {
            let leased = Arc::clone(&leased);
            other.spawn(move || Watched { pump: Pump::new(), leased }, limits).unwrap();
        }
        let setup = Setup { limits, audit: AuditSink::nowhere(), journal: None, chore: None };
        let mut reactor =
            Reactor::at(place, Matcher { tell, alone: None, ended: 0 }, setup).unwrap();
        let any = Bind::Tcp(([127, 0, 0, 1], 0).into());
        let address = reactor.listen(ListenerTag::Main, &any, Some(config)).unwrap().unwrap();
        ready.send((address, reactor.stopper())).unwrap();
        reactor.run(|_| ()).unwrap();
    });
    let (address, stopper) = address.recv().unwrap();
    (address, stopper, seen)
}

type Client = StreamOwned<ClientConnection, TcpStream>;

/// Buffers of 32 KiB: what may wait for a socket, what is read at once, and one at each end of them
/// that is not full.
const MOST: usize = 2 * QUEUE_MAX / BUFFER_SIZE + 2;

const KEY: Option<[u8; 4]> = Some([9, 8, 7, 6]);

/// Connects and sends one frame at once, before anybody has answered.
fn dial(pki: &Pki, to: SocketAddr, first: &[u8]) -> Client {
    let session = ClientConnection::new(pki.client(&[]), pki.name()).unwrap();
    let mut client = StreamOwned::new(session, TcpStream::connect(to).unwrap());
    let mut frame = Vec::new();
    push_frame(&mut frame, Opcode::Binary, true, KEY, first);
    client.write_all(&frame).unwrap();
    let mut go = [0; 2];
    client.read_exact(&mut go).unwrap();
    assert_eq!(&go, b"go");
    client
}

fn plan(seed: u8, len: usize) -> Vec<u8> {
    (0..251).cycle().take(len).map(|byte: u8| byte ^ seed).collect()
}

/// Sends `mine` piece by piece and the Close, and reads `theirs` to the other end's Close.
fn exchange(client: &mut Client, mine: &[u8], theirs: &[u8]) {
    let mut frames = Splice::payload(Side::Client);
    let (mut got, mut steps) = (Vec::new(), Vec::new());
    let mut is_closed = false;
    let mut buffer = vec![0; 64 * 1024];
    let mut pieces = mine.chunks(30_000);
    while got.len() < theirs.len() || !is_closed {
        if let Some(piece) = pieces.next() {
            let mut frame = Vec::new();
            push_frame(&mut frame, Opcode::Binary, true, KEY, piece);
            if pieces.len() == 0 {
                frame.extend(ws::close(1000, "", KEY));
            }
            client.write_all(&frame).unwrap();
        }
        let len = client.read(&mut buffer).unwrap();
        assert_ne!(len, 0, "cut after {} bytes", got.len());
        frames.handle(&mut buffer[..len], &mut steps).unwrap();
        for step in steps.drain(..) {
            match step {
                Step::Bytes(range) => got.extend_from_slice(&buffer[range]),
                Step::Close(_) => is_closed = true,
                Step::Ping(_) | Step::Head(_) => (),
            }
        }
    }
    assert!(got == theirs);
}

/// A pair from its first byte to its end, `len` bytes each way.
fn pair(pki: &Pki, to: SocketAddr, len: usize, between: impl FnOnce()) {
    let [left, right] = [1, 2].map(|seed| plan(seed, len));
    let mut one = dial(pki, to, &left[..1000]);
    let mut two = dial(pki, to, &right[..1000]);
    between();
    thread::scope(|scope| {
        scope.spawn(|| exchange(&mut one, &left[1000..], &right));
        exchange(&mut two, &right[1000..], &left);
    });
}

#[test]
fn a_pair_goes_to_another_loop_with_all_that_it_has() {
    let pki = Pki::new();
    let (to, _, seen) = start(&pki, 64);
    for number in 1..=5 {
        pair(&pki, to, 1_500_000, || ());
        let expected = [Seen::Accepted, Seen::Accepted, Seen::Ended(number)];
        assert_eq!([(); 3].map(|()| seen.recv().unwrap()), expected);
    }
}

#[test]
fn connections_on_all_loops_count_against_one_limit() {
    let pki = Pki::new();
    let (to, _, seen) = start(&pki, 2);
    let mut third = None;
    pair(&pki, to, 1_500_000, || third = Some(TcpStream::connect(to).unwrap()));
    // It is in the kernel's queue all the while, and was let in when there was room.
    let session = ClientConnection::new(pki.client(&[]), pki.name()).unwrap();
    let mut third = StreamOwned::new(session, third.unwrap());
    third.write_all(b"hello").unwrap();
    let expected = [Seen::Accepted, Seen::Accepted, Seen::Ended(1), Seen::Accepted];
    assert_eq!([(); 4].map(|()| seen.recv().unwrap()), expected);
}

/// Readers that stop while their writers run on. What one of them may cost is what waits for a
/// socket, sealed or not, and what was read when that was full.
#[test]
fn a_reader_that_stalls_costs_one_queue_and_one_read() {
    const STALLED: usize = 8;
    let pki = Pki::new();
    let leased = Arc::default();
    let (to, _, seen) = start_watched(&pki, 64, &leased);
    let pairs: Vec<_> = (0..STALLED).map(|_| [(); 2].map(|()| dial(&pki, to, b"hi"))).collect();
    let mut neighbours = [(); 2].map(|()| dial(&pki, to, b"hi"));
    for neighbour in &mut neighbours {
        neighbour.read_exact(&mut [0; 4]).unwrap();
    }
    let (written, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let mut readers = Vec::new();
        for [mut writer, reader] in pairs {
            readers.push(reader);
            let (written, is_over) = (&written, &is_over);
            scope.spawn(move || {
                let frame = ws::frame(Opcode::Binary, KEY, &[0x5a; QUEUE_MIN - WS_HEAD]);
                // Ends with an error once the reader is gone.
                while !is_over.load(Ordering::Relaxed) && writer.write_all(&frame).is_ok() {
                    written.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Until nothing moves for a hundred round trips of their neighbours.
        let (mut before, mut at_rest) = (0, 0);
        while at_rest < 100 {
            echo(&mut neighbours);
            let now = written.load(Ordering::Relaxed);
            at_rest = if now == before { at_rest + 1 } else { 0 };
            before = now;
        }
        let stalled = leased.load(Ordering::Relaxed) - 1;
        is_over.store(true, Ordering::Relaxed);
        drop(readers);
        assert!(STALLED <= stalled, "{stalled} buffers: they do not stall");
        assert!(stalled <= STALLED * MOST, "{stalled} buffers of {STALLED} readers");
    });
    drop(seen);
}

/// Bytes there and back.
fn echo([one, two]: &mut [Client; 2]) {
    let frame = ws::frame(Opcode::Binary, KEY, b"typed");
    let pass = |from: &mut Client, to: &mut Client| {
        from.write_all(&frame).unwrap();
        let mut got = [0; 7];
        to.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"\x82\x05typed");
    };
    pass(one, two);
    pass(two, one);
}

#[test]
fn loops_end_with_the_one_that_accepts() {
    let pki = Pki::new();
    let (to, stopper, seen) = start(&pki, 64);
    let (mut one, _two) = (dial(&pki, to, b"one"), dial(&pki, to, b"two"));
    let mut frame = [0; 5];
    one.read_exact(&mut frame).unwrap();
    assert_eq!(&frame, b"\x82\x03two", "the other loop has it");
    stopper.stop();
    let mut rest = Vec::new();
    // A FIN or a reset: what counts is that it ends.
    let _ = one.read_to_end(&mut rest);
    assert_eq!(rest, b"");
    drop(seen);
}

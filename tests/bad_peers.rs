//! Peers of a tunnel that are slow, greedy or hostile: what they cost is bounded, and the streams
//! beside them go on.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use cluster_connect::buf::{Outbox, Pool, Pressure, Slice};
use cluster_connect::engine::mux::{Event, Session, Violation};
use cluster_connect::limits::{
    BUFFER_SIZE, FRAME_MAX, MUX_CONTROL_MAX, MUX_HEADER, SESSION_GROWTH, STREAMS_MAX, WINDOW,
};
use cluster_connect::wire::mux::{CROWDED, Flags, Header, Kind, StreamId};

fn pool() -> Pool {
    Pool::new(1 << 20, 64, BUFFER_SIZE)
}

fn slice(pool: &Pool, bytes: &[u8]) -> Slice {
    let mut lease = pool.lease().unwrap();
    assert_eq!(lease.fill(bytes), bytes.len());
    lease.freeze()
}

fn frame(kind: Kind, flags: Flags, stream: u32, length: u32) -> [u8; MUX_HEADER] {
    Header { kind, flags, stream: StreamId(stream), length }.encode()
}

/// What `from` has to say, told to `to`. Returns how many frames that was.
fn pass(pool: &Pool, from: &mut Session, to: &mut Session, now: Instant) -> usize {
    let (mut bytes, mut frames) = (Vec::new(), 0);
    while from.transmit(&mut bytes) {
        to.receive(slice(pool, &bytes), now).unwrap();
        bytes.clear();
        frames += 1;
    }
    frames
}

/// Streams opened by the first of two sessions.
fn joined(pool: &Pool, streams: usize) -> (Session, Session, Vec<StreamId>) {
    let (mut near, mut far) = (Session::new(true), Session::new(false));
    let ids = (0..streams).map(|_| near.open().unwrap()).collect();
    let now = Instant::now();
    pass(pool, &mut near, &mut far, now);
    pass(pool, &mut far, &mut near, now);
    while far.poll_event().is_some() {}
    (near, far, ids)
}

#[test]
fn frames_of_one_byte_fill_one_window_and_a_bounded_memory() {
    let pool = pool();
    let now = Instant::now();
    let mut session = Session::new(false);
    session.receive(slice(&pool, &frame(Kind::WindowUpdate, Flags::SYN, 1, 0)), now).unwrap();
    let mut hostile = frame(Kind::Data, Flags::NONE, 1, 1).to_vec();
    hostile.push(b'x');
    let per_buffer = BUFFER_SIZE / hostile.len();
    let batch = hostile.repeat(per_buffer);
    // A reader that has stopped: what comes waits in its connection's queue.
    let mut stalled = Outbox::new(8);
    let mut got = 0;
    let cost = allocation_counter::measure(|| {
        while got + per_buffer <= WINDOW as usize {
            session.receive(slice(&pool, &batch), now).unwrap();
            while let Some(event) = session.poll_event() {
                if let Event::Data(_, data) = event {
                    got += data.len();
                    let _ = stalled.push(data);
                }
            }
        }
    });
    assert!(cost.bytes_max < 16 << 20, "{} bytes for {got}", cost.bytes_max);
    let rest = hostile.repeat(WINDOW as usize - got);
    session.receive(slice(&pool, &rest), now).unwrap();
    let over = session.receive(slice(&pool, &hostile), now);
    assert_eq!(over, Err(Violation::Overdraft(StreamId(1))));
}

#[test]
fn a_peer_that_ignores_its_window_ends_its_session_at_the_first_byte_too_many() {
    let pool = pool();
    let now = Instant::now();
    for extra in [0, 1, 1 << 20] {
        let mut session = Session::new(false);
        let syn = frame(Kind::Data, Flags::SYN, 1, WINDOW + extra);
        let result = session.receive(slice(&pool, &syn), now);
        let expected = if extra == 0 { Ok(()) } else { Err(Violation::Overdraft(StreamId(1))) };
        assert_eq!(result, expected, "{extra}");
    }
}

#[test]
fn a_peer_that_acknowledges_nothing_on_one_stream_stops_that_one_alone() {
    let pool = pool();
    let (mut near, mut far, ids) = joined(&pool, 2);
    let [stuck, lively] = ids[..] else { panic!("two streams") };
    let now = Instant::now();
    let (mut sent, mut through, mut queued) = (0, 0, 0);
    let piece = [7; 16_000];
    while through < 10 << 20 {
        // A writer that never stops, but for what it is told.
        while near.pressure(stuck) == Pressure::Open {
            queued += piece.len();
            let _ = near.send(stuck, slice(&pool, &piece));
        }
        if near.pressure(lively) == Pressure::Open {
            let _ = near.send(lively, slice(&pool, &piece));
        }
        pass(&pool, &mut near, &mut far, now);
        while let Some(event) = far.poll_event() {
            match event {
                Event::Data(id, data) if id == stuck => sent += data.len(),
                Event::Data(id, data) => {
                    through += data.len();
                    far.drained(id, data.len(), now);
                }
                _ => (),
            }
        }
        pass(&pool, &mut far, &mut near, now);
        while near.poll_event().is_some() {}
    }
    assert_eq!(sent, WINDOW as usize);
    assert!(queued - sent <= 5 * piece.len(), "{queued} bytes taken from the writer");
    assert!(pool.leased() <= 6, "{} buffers", pool.leased());
}

#[test]
fn ten_thousand_streams_at_once_are_small_and_take_their_turns() {
    let pool = pool();
    let now = Instant::now();
    let (mut near, mut far, ids) = joined(&pool, 1);
    let before = ids[0];
    let mut crowd = Vec::new();
    let cost = allocation_counter::measure(|| {
        crowd = (0..10_000).map(|_| near.open().unwrap()).collect();
        assert_eq!(pass(&pool, &mut near, &mut far, now), crowd.len());
        while far.poll_event().is_some() {}
    });
    // Both ends, their SYN and ACK frames, and the list of ids here.
    assert!(cost.bytes_max < 10_000 * 1000, "{} bytes", cost.bytes_max);
    // All of them want to send two frames, and the one that was there before a keystroke.
    let bulk = slice(&pool, &[1; 2 * FRAME_MAX - 100]);
    for id in &crowd {
        let _ = near.send(*id, bulk.clone());
    }
    let _ = near.send(before, slice(&pool, b"k"));
    let (mut frames, mut bytes) = (0, Vec::new());
    let at = loop {
        bytes.clear();
        assert!(near.transmit(&mut bytes));
        frames += 1;
        if bytes[MUX_HEADER..] == *b"k" {
            break frames;
        }
    };
    assert!(at <= crowd.len() + 1, "one frame of each comes first, not {at}");
}

#[test]
fn streams_beyond_the_limit_are_refused_one_by_one() {
    let pool = pool();
    let now = Instant::now();
    let mut session = Session::new(false);
    let most = u32::try_from(STREAMS_MAX).expect("a small number");
    for number in 0..most + 3 {
        let syn = frame(Kind::WindowUpdate, Flags::SYN, 2 * number + 1, 0);
        session.receive(slice(&pool, &syn), now).unwrap();
    }
    assert_eq!(session.streams(), STREAMS_MAX);
    let mut resets = 0;
    let mut bytes = Vec::new();
    while session.transmit(&mut bytes) {
        let head = Header::decode(bytes[..MUX_HEADER].try_into().unwrap()).unwrap();
        resets += usize::from(head.flags.has(Flags::RST));
        bytes.clear();
    }
    assert_eq!(resets, 3);
}

#[test]
fn a_peer_that_asks_and_never_reads_is_cut_off() {
    let pool = pool();
    let now = Instant::now();
    let mut session = Session::new(false);
    let pings: Vec<u8> = frame(Kind::Ping, Flags::SYN, 0, 1).repeat(1000);
    let end = (0..).find_map(|_| session.receive(slice(&pool, &pings), now).err());
    assert_eq!(end, Some(Violation::Flood));
    let mut owed = 0;
    while session.transmit(&mut Vec::new()) {
        owed += 1;
    }
    assert!(owed <= MUX_CONTROL_MAX + 1, "{owed} answers wait");
}

#[test]
fn a_peer_that_says_a_thousand_times_that_it_is_crowded_is_heard_once_and_not_for_long() {
    let pool = pool();
    let now = Instant::now();
    let mut session = Session::new(true);
    let pings: Vec<u8> = frame(Kind::Ping, Flags::SYN, 0, CROWDED | 7).repeat(1000);
    session.receive(slice(&pool, &pings), now).unwrap();
    assert!(matches!(session.poll_event(), Some(Event::Crowded)));
    assert!(session.poll_event().is_none());
    let soon = now + Duration::from_secs(4);
    assert!(session.is_crowded(soon) && !session.is_crowded(soon + Duration::from_secs(1)));
    session.receive(slice(&pool, &pings), now).unwrap();
    assert!(matches!(session.poll_event(), Some(Event::Crowded)), "again when that was heard");
    session.receive(slice(&pool, &frame(Kind::Ping, Flags::SYN, 0, 7)), now).unwrap();
    assert!(!session.is_crowded(now), "it takes that back");
}

/// Streams that receive as fast as they are sent to, over a long line, at the end that has accepted
/// the session: it has to find out how long the line is by itself.
struct Long {
    pool: Pool,
    near: Session,
    far: Session,
    now: Instant,
    half_way: Duration,
}

impl Long {
    fn new(streams: usize) -> (Self, Vec<StreamId>) {
        let pool = Pool::new(1 << 20, 64, BUFFER_SIZE);
        let (near, far, ids) = joined(&pool, streams);
        (Self { pool, near, far, now: Instant::now(), half_way: Duration::from_millis(150) }, ids)
    }

    /// Round trips in which `ids` send all that they may. Returns what each sent in the last.
    fn run(&mut self, ids: &[StreamId], rounds: u32) -> Vec<u64> {
        let half_way = self.half_way;
        let mut received = Vec::new();
        for _ in 0..rounds {
            for _ in 0..4000 {
                for id in ids {
                    if self.near.pressure(*id) == Pressure::Open {
                        let _ = self.near.send(*id, slice(&self.pool, &[7; 16_000]));
                    }
                }
                let later = self.now + half_way;
                if pass_one(&self.pool, &mut self.near, &mut self.far, later) == 0 {
                    break;
                }
            }
            self.now += half_way;
            received = vec![0; ids.len()];
            while let Some(event) = self.far.poll_event() {
                if let Event::Data(id, data) = event {
                    if let Some(index) = ids.iter().position(|it| *it == id) {
                        received[index] += data.len() as u64;
                    }
                    self.far.drained(id, data.len(), self.now);
                }
            }
            pass(&self.pool, &mut self.far, &mut self.near, self.now + half_way);
            self.now += half_way;
            while self.near.poll_event().is_some() {}
        }
        received
    }
}

#[test]
fn windows_grow_where_much_is_received_and_share_the_memory_of_the_session() {
    let (mut line, ids) = Long::new(3);
    let most = u64::from(SESSION_GROWTH);
    let received = line.run(&ids[..2], 60);
    for each in &received {
        assert!(8 * u64::from(WINDOW) < *each, "{received:?}: no growth at the accepting end");
        assert!(*each <= most / 2 + u64::from(WINDOW), "{received:?}: more than its share");
    }
    let received = line.run(&ids, 60);
    for each in &received {
        assert!(8 * u64::from(WINDOW) < *each, "{received:?}: nothing left for who comes later");
    }
    let all: u64 = received.iter().sum();
    assert!(all <= most + 3 * u64::from(WINDOW), "{received:?}");
}

/// Credit cannot be taken back from who does not use it: there is something left for others.
#[test]
fn who_grows_and_idles_leaves_something_to_who_comes_later() {
    let (mut line, ids) = Long::new(3);
    for id in ids {
        let received = line.run(&[id], 40);
        assert!(8 * u64::from(WINDOW) < received[0], "{id:?}: {received:?}");
    }
}

/// Who lets one window after the other grow, and shrink with little of it used, cannot have more than
/// the memory of the session in the end.
#[test]
fn credit_that_is_not_used_counts_although_its_window_shrinks() {
    let (mut line, ids) = Long::new(6);
    let (most, short) = (u64::from(SESSION_GROWTH), line.half_way);
    for (index, id) in ids.iter().enumerate() {
        line.half_way = short;
        line.run(&[*id], 40);
        // The way seems to have become long: windows that are too large shrink, by a little of each.
        line.half_way = short * 4;
        for _ in 0..40 {
            for before in &ids[..index] {
                let _ = line.near.send(*before, slice(&line.pool, &[7; 100]));
            }
            line.run(&[*id], 1);
        }
    }
    let received: u64 = line.run(&ids, 1).iter().sum();
    assert!(received <= most + ids.len() as u64 * u64::from(WINDOW), "{received} of {most}");
}

fn pass_one(pool: &Pool, from: &mut Session, to: &mut Session, now: Instant) -> usize {
    let (mut bytes, mut frames) = (Vec::new(), 0);
    while frames < 4 && from.transmit(&mut bytes) {
        to.receive(slice(pool, &bytes), now).unwrap();
        bytes.clear();
        frames += 1;
    }
    frames
}

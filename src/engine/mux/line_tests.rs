//! Windows on lines of every kind. A model of one: TCP at its two ends, packets that are lost and
//! sent again, and senders that always have something to send.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::company::Visit;
use super::credit::RecvCredit;
use super::flow::Flow;
use crate::limits::{FRAME_MAX, WINDOW, WINDOW_MIN, WINDOW_SLACK, WINDOW_SLACK_SHARED};

const TICK: Duration = Duration::from_millis(1);

/// What TCP sends in one packet.
const PACKET: u64 = 1448;

struct Line {
    now: Instant,
    /// Bytes in a millisecond.
    rate: u64,
    base: Duration,
    /// Packets lost in a thousand.
    loss: u64,
    random: u64,
    streams: Vec<End>,
    flow: Flow,
    /// A ping of ours has no answer yet.
    pinged: bool,
    /// What goes to the senders, and when it arrives.
    back: VecDeque<(Instant, Back)>,
    /// What the senders wrote: where in all that was written it ends.
    written: VecDeque<(u64, Wrote)>,
    tcp: Tcp,
    /// Round trips of pings.
    times: Vec<Duration>,
    arrived: u64,
    /// A second session was asked for.
    is_crowded: bool,
}

/// Of one stream: what its sender may send, and what the receiver makes of it.
struct End {
    credit: u32,
    recv: RecvCredit,
    visit: Visit,
}

enum Back {
    Grant(usize, u32),
    Ping(Instant),
}

enum Wrote {
    Data(usize, u32),
    Pong(Instant),
}

/// What was written passes in the order in which it was written.
#[derive(Default)]
struct Tcp {
    written: u64,
    sent: u64,
    /// What the line may carry by now.
    turn: u64,
    /// Packets on their way, and those that were lost and when the sender knows.
    on_way: VecDeque<(Instant, u64, u64)>,
    lost: VecDeque<(Instant, u64, u64)>,
    /// What came before it was its turn.
    early: BTreeMap<u64, u64>,
    received: u64,
}

impl Line {
    fn new(mbits: u64, ms: u64, loss: u64, streams: usize) -> Self {
        let now = Instant::now();
        let base = Duration::from_millis(ms);
        let mut flow = Flow::new();
        flow.measured(base + TICK, now);
        let end = || End { credit: WINDOW, recv: RecvCredit::new(), visit: Visit::default() };
        Self {
            now,
            rate: mbits * 125,
            base,
            loss,
            random: 0x9e37_79b9_7f4a_7c15,
            streams: std::iter::repeat_with(end).take(streams).collect(),
            flow,
            pinged: false,
            back: VecDeque::new(),
            written: VecDeque::new(),
            tcp: Tcp::default(),
            times: Vec::new(),
            arrived: 0,
            is_crowded: false,
        }
    }

    /// Lets time pass, and says which share of the line was used meanwhile.
    fn run(&mut self, seconds: u64) -> f64 {
        (self.arrived, self.times, self.is_crowded) = (0, Vec::new(), false);
        for _ in 0..seconds * 1000 {
            self.now += TICK;
            self.send();
            self.pass();
            self.receive();
        }
        self.arrived as f64 / (self.rate * seconds * 1000) as f64
    }

    fn is_lost(&mut self) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 1000 < self.loss
    }

    /// Senders write what they may.
    fn send(&mut self) {
        let now = self.now;
        while let Some((_, back)) = self.back.pop_front_if(|(at, _)| *at <= now) {
            match back {
                Back::Grant(stream, more) => self.streams[stream].credit += more,
                Back::Ping(at) => self.write(12, Wrote::Pong(at)),
            }
        }
        while self.streams.iter().any(|end| 0 < end.credit) {
            for stream in 0..self.streams.len() {
                let len = self.streams[stream].credit.min(u32::try_from(FRAME_MAX).unwrap());
                self.streams[stream].credit -= len;
                self.write(u64::from(len), Wrote::Data(stream, len));
            }
        }
    }

    fn write(&mut self, len: u64, what: Wrote) {
        self.tcp.written += len;
        self.written.push_back((self.tcp.written, what));
    }

    /// Packets leave as the line takes them.
    fn pass(&mut self) {
        let (now, whole) = (self.now, if self.loss == 0 { self.rate } else { PACKET });
        self.tcp.turn = (self.tcp.turn + self.rate).min(self.rate.max(PACKET) * 2);
        while whole <= self.tcp.turn {
            let tcp = &mut self.tcp;
            let (at, len) = if let Some((_, at, len)) = tcp.lost.pop_front_if(|it| it.0 <= now) {
                (at, len)
            } else {
                let (at, len) = (tcp.sent, whole.min(tcp.written - tcp.sent));
                tcp.sent += len;
                (at, len)
            };
            if len == 0 {
                return;
            }
            tcp.turn -= len;
            if self.is_lost() {
                self.tcp.lost.push_back((now + self.base, at, len));
            } else {
                self.tcp.on_way.push_back((now + self.base / 2, at, len));
            }
        }
    }

    /// What arrives is drained at once.
    fn receive(&mut self) {
        let (now, tcp) = (self.now, &mut self.tcp);
        while let Some((_, at, len)) = tcp.on_way.pop_front_if(|it| it.0 <= now) {
            tcp.early.insert(at, len);
            while let Some(len) = tcp.early.remove(&tcp.received) {
                tcp.received += len;
            }
        }
        let received = tcp.received;
        while let Some((_, what)) = self.written.pop_front_if(|(end, _)| *end <= received) {
            match what {
                Wrote::Data(stream, len) => self.drain(stream, len),
                Wrote::Pong(at) => {
                    self.flow.measured(now - at, now);
                    self.times.push(now - at);
                    self.pinged = false;
                }
            }
        }
    }

    /// As the session does.
    fn drain(&mut self, stream: usize, len: u32) {
        self.arrived += u64::from(len);
        self.flow.received(len as usize, self.now);
        let End { recv, visit, .. } = &mut self.streams[stream];
        recv.used(len).unwrap();
        let grant = self.flow.drained(recv, visit, len as usize, self.now);
        if let Some(grant) = grant {
            self.reply(Back::Grant(stream, grant));
        }
        if !self.pinged && self.flow.is_due(grant.is_some(), self.now) {
            self.pinged = true;
            self.reply(Back::Ping(self.now));
        }
        // A session says so with a grant.
        self.is_crowded |= grant.is_some() && self.flow.is_crowded(self.now);
    }

    fn reply(&mut self, what: Back) {
        let late = if self.is_lost() { self.base } else { Duration::ZERO };
        let before = self.back.back().map_or(self.now, |(at, _)| *at);
        self.back.push_back(((self.now + self.base / 2 + late).max(before), what));
    }

    fn slack(&self) -> Duration {
        if 1 < self.streams.len() { WINDOW_SLACK_SHARED } else { WINDOW_SLACK }
    }

    /// Of the pings since the line runs, the one in the middle.
    fn round_trip(&mut self) -> Duration {
        self.times.sort();
        self.times[self.times.len() / 2]
    }

    fn windows(&self) -> f64 {
        self.streams.iter().map(|end| f64::from(end.recv.window())).sum()
    }

    /// Bytes that are on the way when it is full.
    fn fits(&self) -> f64 {
        self.rate as f64 * self.base.as_secs_f64() * 1e3
    }
}

#[test]
fn windows_fill_a_line_and_let_nobody_else_wait() {
    for (mbits, streams) in [(10, 1), (10, 4), (100, 1), (100, 4), (1000, 1)] {
        for ms in [1, 20, 100, 300] {
            let mut line = Line::new(mbits, ms, 0, streams);
            line.run(30);
            let was_crowded = line.is_crowded;
            let share = line.run(10);
            assert!(0.99 < share, "{mbits} Mbit/s, {ms} ms, {streams} streams: {share}");
            if streams == 1 && 1 < ms {
                let asked = line.is_crowded || was_crowded;
                assert!(!asked, "{mbits} Mbit/s, {ms} ms: a second session was asked for");
            }
            assert!(line.fits() * 1.3 <= line.windows(), "{mbits} Mbit/s, {ms} ms");
            // The smallest windows are 50 ms of 10 Mbit/s each.
            let least = f64::from(WINDOW_MIN) * streams as f64 / line.rate as f64 * 1e-3;
            let bearable = line.base + (line.base + line.slack() * 2);
            let bearable = bearable.max(line.base + Duration::from_secs_f64(least));
            let waits = line.round_trip();
            // The shares of several come and go, and what the smallest windows let wait is taken for a
            // longer way in the end.
            let bearable = if line.base < bearable / 3 { bearable * 5 / 4 } else { bearable };
            let bearable = if streams == 1 { bearable } else { bearable * 5 / 4 };
            assert!(waits <= bearable + TICK * 5, "{mbits} Mbit/s, {ms} ms, {streams}: {waits:?}");
        }
    }
}

#[test]
fn windows_fill_a_line_that_loses_packets() {
    let lines =
        [(10, 20, 1), (10, 100, 1), (10, 300, 1), (10, 300, 4), (100, 100, 1), (100, 300, 1)];
    for (mbits, ms, streams) in lines {
        for seed in 1..=4 {
            let mut line = Line::new(mbits, ms, 10, streams);
            line.random = line.random.wrapping_mul(seed);
            line.run(20);
            let share = line.run(60);
            let waits = line.round_trip();
            let what = format!("{mbits} Mbit/s, {ms} ms, {streams} streams, seed {seed}");
            assert!(0.92 < share, "{what}: {share}");
            let known = line.flow.base().unwrap();
            assert!(known * 4 <= line.base * 5, "{what}: {known:?}");
            // Who is alone makes nobody else wait. Who comes then has another session.
            let most = if streams == 1 { line.base * 15 / 2 } else { line.base * 9 / 2 };
            let bearable = most + WINDOW_SLACK * 2;
            assert!(waits <= bearable, "{what}: {waits:?}");
        }
    }
}

#[test]
fn a_second_session_is_asked_for_soon_where_packets_are_lost() {
    for (mbits, ms, streams) in
        [(10, 100, 1), (10, 300, 1), (10, 300, 4), (100, 100, 1), (100, 300, 1)]
    {
        let mut soon = 0;
        for seed in 1..=4 {
            let mut line = Line::new(mbits, ms, 10, streams);
            line.random = line.random.wrapping_mul(seed);
            line.run(14);
            soon += usize::from(line.is_crowded);
            line.run(26);
            assert!(line.is_crowded, "{mbits} Mbit/s, {ms} ms, {streams} streams, seed {seed}");
        }
        assert!(3 <= soon, "{mbits} Mbit/s, {ms} ms, {streams} streams: {soon} of 4 seeds");
    }
}

#[test]
fn windows_grow_although_packets_are_lost() {
    for seed in 1..=4 {
        let mut line = Line::new(100, 300, 10, 1);
        line.random = line.random.wrapping_mul(seed);
        let share = line.run(15);
        assert!(0.6 < share, "seed {seed}: {share}");
    }
}

#[test]
fn a_window_keeps_to_its_share_and_shrinks_to_it() {
    let mut line = Line::new(1000, 100, 0, 1);
    line.run(10);
    assert!(20_000_000.0 < line.windows());
    for _ in 0..20 {
        line.flow.fill();
        line.run(1);
    }
    let most = WINDOW / 2 * 3;
    assert!(line.windows() <= f64::from(most), "{}", line.windows());
}

#[test]
fn a_window_shrinks_when_a_line_becomes_slower() {
    let mut line = Line::new(100, 20, 0, 1);
    line.run(10);
    line.rate /= 10;
    line.run(10);
    assert!(line.windows() <= f64::from(WINDOW_MIN), "{} of {}", line.windows(), line.fits());
    line.run(10);
    assert!(line.round_trip() <= line.base * 4, "{:?}", line.round_trip());
}

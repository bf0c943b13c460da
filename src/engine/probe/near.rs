//! The end that says what happens, and keeps the time.
//!
//! One [`Stretch`] after the other, or one alone. A stretch in which bytes flow has a run-up that
//! does not count, and is over for the next one when a message sent after its end has come back:
//! what was still on its way has arrived by then.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Plan, Report, RoundTrips, Stretch, Transfer, zeros};
use crate::buf::{Pool, Pressure, Slice};
use crate::engine::mux::{Ended, Event};
use crate::engine::tunnel::Tunnel;
use crate::limits::{
    PROBE_ANSWER_MAX, PROBE_ECHO, PROBE_OPENERS, PROBE_PATIENCE, PROBE_PROGRESS, PROBE_SAMPLES,
};
use crate::secret::Secret;
use crate::wire::h1::{Framing, ResponseHead, Scan};
use crate::wire::mux::StreamId;
use crate::wire::probe::{Ask, TARGET, Terms};

/// What whoever waits wants to know.
#[derive(Debug)]
pub enum News {
    /// Something to read while it lasts.
    Progress(String),
    /// It is over.
    Done(Report),
    /// The other end does not want to: its status and words.
    Refused(u16, String),
    /// The other end does not keep to what was agreed.
    Broken(&'static str),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Near {
    plan: Plan,
    stage: Stage,
    /// The stream on which messages come back, once there is one.
    echo: Option<StreamId>,
    /// When the message that is under way left, and how much of it is back.
    under_way: Option<(Instant, usize)>,
    times: Vec<u32>,
    bulk: BTreeMap<StreamId, Box<Bulk>>,
    /// When the stage began, when what counts begins, and when it ends.
    span: [Instant; 3],
    /// Bytes, or streams, in all, and how many of them before the count began.
    moved: (u64, Option<(Instant, u64)>),
    told: Instant,
    report: Report,
    news: Option<News>,
    zeros: Slice,
}

#[derive(Debug)]
enum Stage {
    /// The bearer is shown on this stream.
    Greeting {
        stream: StreamId,
        answer: Vec<u8>,
    },
    Measuring(Stretch),
    /// Nothing is to flow any more; this begins when a message comes back.
    Settling(Stretch),
    Over,
}

/// A stream that carries bytes.
#[derive(Debug, Default)]
struct Bulk {
    /// The number that is arriving.
    number: [u8; 8],
    have: usize,
    total: u64,
}

impl Near {
    /// Shows `bearer` on the first stream of a session that was just established. `None` when the
    /// session takes no stream.
    pub fn start(
        plan: Plan,
        bearer: &Secret<String>,
        tunnel: &mut Tunnel,
        pool: &Pool,
        now: Instant,
    ) -> Option<Self> {
        let stream = tunnel.open()?;
        let head = Secret::new(format!(
            "POST {TARGET} HTTP/1.1\r\nHost: auth-proxy\r\nAuthorization: Bearer {}\r\n\
             Content-Length: 0\r\n\r\n",
            bearer.expose()
        ));
        for slice in pool.slices(head.expose().as_bytes()) {
            let _ = tunnel.send(stream, slice);
        }
        let patience = now + PROBE_PATIENCE;
        Some(Self {
            plan,
            stage: Stage::Greeting { stream, answer: Vec::new() },
            echo: None,
            under_way: None,
            times: Vec::new(),
            bulk: BTreeMap::new(),
            span: [now, patience, patience],
            moved: (0, None),
            told: now,
            report: Report::default(),
            news: None,
            zeros: zeros(pool),
        })
    }

    /// What is new. Ask after each call.
    pub fn poll_news(&mut self) -> Option<News> {
        self.news.take()
    }

    /// When [`Self::handle_deadline`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Greeting { .. } | Stage::Settling(_) => Some(self.span[2]),
            Stage::Measuring(_) => Some(self.span[2].min(self.told + PROBE_PROGRESS)),
            Stage::Over => None,
        }
    }

    /// Time has passed.
    pub fn handle_deadline(&mut self, tunnel: &mut Tunnel, pool: &Pool, now: Instant) {
        match self.stage {
            Stage::Greeting { .. } if self.span[2] <= now => {
                self.stop(News::Broken("it does not answer"));
            }
            Stage::Settling(_) if self.span[2] <= now => {
                self.stop(News::Broken("what was sent does not come back"));
            }
            Stage::Measuring(stretch) if self.span[2] <= now => {
                self.end(stretch, tunnel, pool, now);
            }
            Stage::Measuring(stretch) if self.told + PROBE_PROGRESS <= now => {
                self.told = now;
                self.tell(stretch, now);
            }
            Stage::Greeting { .. } | Stage::Measuring(_) | Stage::Settling(_) | Stage::Over => (),
        }
    }

    /// Something has happened on a stream.
    pub fn handle(&mut self, event: Event, tunnel: &mut Tunnel, pool: &Pool, now: Instant) {
        match event {
            Event::Data(id, data) => {
                tunnel.drained(id, data.len(), now);
                self.on_data(id, &data, tunnel, pool, now);
            }
            Event::Writable(id) if self.bulk.contains_key(&id) => self.fill(id, tunnel),
            Event::Closed(id, how) => self.on_closed(id, how, tunnel, pool, now),
            // Whoever answers has no business opening streams.
            Event::Opened(id) => drop(tunnel.reset(id)),
            Event::Finished(_)
            | Event::Writable(_)
            | Event::GoingAway
            | Event::Pong(_)
            | Event::Crowded => (),
        }
    }

    fn on_data(
        &mut self,
        id: StreamId,
        data: &[u8],
        tunnel: &mut Tunnel,
        pool: &Pool,
        now: Instant,
    ) {
        if let Stage::Greeting { stream, answer } = &mut self.stage {
            if *stream == id {
                answer.extend_from_slice(data);
                self.read_answer(tunnel, pool, now);
            }
        } else if self.echo == Some(id) {
            self.on_echo(data.len(), tunnel, pool, now);
        } else if let Some(bulk) = self.bulk.get_mut(&id)
            && let Stage::Measuring(stretch) = self.stage
        {
            let count = match stretch {
                Stretch::Down => data.len() as u64,
                Stretch::Up => bulk.read(data),
                // A stream counts when it is closed.
                Stretch::RoundTrip | Stretch::Streams => 0,
            };
            self.count(count, now);
        }
    }

    fn read_answer(&mut self, tunnel: &mut Tunnel, pool: &Pool, now: Instant) {
        let Stage::Greeting { answer, .. } = &self.stage else { return };
        let (head, used) = match ResponseHead::read(answer, &mut Scan::default()) {
            Ok(Some(read)) => read,
            Ok(None) if answer.len() < PROBE_ANSWER_MAX => return,
            Ok(None) | Err(_) => return self.stop(News::Broken("its answer is no HTTP")),
        };
        let length = match head.framing("POST") {
            Framing::Length(length) => usize::try_from(length).unwrap_or(usize::MAX),
            Framing::None => 0,
            Framing::Chunked | Framing::UntilClose => usize::MAX,
        };
        let body = answer.get(used..).unwrap_or_default();
        if PROBE_ANSWER_MAX < length {
            return self.stop(News::Broken("its answer is too long"));
        }
        let Some(body) = body.get(..length) else { return };
        if head.status() != 200 {
            let status: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
            let words = status.get("message").and_then(serde_json::Value::as_str);
            let words = words.unwrap_or("no reason given").to_owned();
            return self.stop(News::Refused(head.status(), words));
        }
        let Some(terms) = Terms::from_json(body) else {
            return self.stop(News::Broken("its terms cannot be read"));
        };
        // Half for the round trip alone, one each way, half for streams, and what it takes to
        // settle in between.
        let most = Duration::from_secs(terms.seconds) / 4;
        self.plan.each = self.plan.each.min(most);
        self.report.rate = terms.rate;
        self.report.streams = self.plan.streams;
        self.report.each = self.plan.each;
        self.echo = tunnel.open();
        let Some(echo) = self.echo else {
            return self.stop(News::Broken("the session takes no streams"));
        };
        say(&Ask::Echo.encode(), echo, tunnel, pool);
        self.begin(self.plan.first(), tunnel, pool, now);
    }

    fn begin(&mut self, stretch: Stretch, tunnel: &mut Tunnel, pool: &Pool, now: Instant) {
        let (length, run_up) = self.plan.length(stretch);
        self.span = [now, now + run_up, now + length];
        (self.moved, self.told) = ((0, None), now);
        self.times.clear();
        self.stage = Stage::Measuring(stretch);
        self.count(0, now);
        match stretch {
            Stretch::RoundTrip => (),
            Stretch::Down => {
                for _ in 0..self.plan.streams {
                    self.open(Ask::Send(u64::MAX), tunnel, pool);
                }
            }
            Stretch::Up => {
                for _ in 0..self.plan.streams {
                    if let Some(id) = self.open(Ask::Take, tunnel, pool) {
                        self.fill(id, tunnel);
                    }
                }
            }
            Stretch::Streams => {
                for _ in 0..PROBE_OPENERS {
                    self.open_once(tunnel, pool);
                }
            }
        }
        if stretch != Stretch::Streams {
            self.send_echo(tunnel, pool, now);
        }
    }

    fn end(&mut self, stretch: Stretch, tunnel: &mut Tunnel, pool: &Pool, now: Instant) {
        self.tell(stretch, now);
        let round_trips = RoundTrips::of(&mut self.times);
        let rate = self.rate(now);
        let transfer = Transfer { bytes: self.moved.0, bytes_per_second: rate, round_trips };
        match stretch {
            Stretch::RoundTrip => self.report.idle = Some(round_trips),
            Stretch::Down => self.report.down = Some(transfer),
            Stretch::Up => self.report.up = Some(transfer),
            Stretch::Streams => self.report.streams_per_second = Some(rate),
        }
        for id in std::mem::take(&mut self.bulk).into_keys() {
            let _ = tunnel.reset(id);
        }
        let Some(next) = self.plan.after(stretch) else {
            return self.stop(News::Done(self.report.clone()));
        };
        self.stage = Stage::Settling(next);
        self.span[2] = now + PROBE_PATIENCE;
        // One that is under way may have overtaken what is still to come: the next one has not.
        self.send_echo(tunnel, pool, now);
    }

    fn on_echo(&mut self, len: usize, tunnel: &mut Tunnel, pool: &Pool, now: Instant) {
        let Some((left, have)) = self.under_way.as_mut() else {
            return self.stop(News::Broken("more comes back than was sent"));
        };
        *have += len;
        if *have < PROBE_ECHO {
            return;
        }
        let (left, more) = (*left, PROBE_ECHO < *have);
        self.under_way = None;
        if more {
            return self.stop(News::Broken("more comes back than was sent"));
        }
        match self.stage {
            Stage::Measuring(_) => {
                let time = now.saturating_duration_since(left).as_micros();
                if self.times.len() < PROBE_SAMPLES && self.span[1] <= left {
                    self.times.push(u32::try_from(time).unwrap_or(u32::MAX));
                }
                self.send_echo(tunnel, pool, now);
            }
            Stage::Settling(_) if left < self.span[2] - PROBE_PATIENCE => {
                self.send_echo(tunnel, pool, now);
            }
            Stage::Settling(next) => self.begin(next, tunnel, pool, now),
            Stage::Greeting { .. } | Stage::Over => (),
        }
    }

    fn on_closed(
        &mut self,
        id: StreamId,
        how: Ended,
        tunnel: &mut Tunnel,
        pool: &Pool,
        now: Instant,
    ) {
        let greets = matches!(self.stage, Stage::Greeting { stream, .. } if stream == id);
        if greets || self.echo == Some(id) {
            return self.stop(News::Broken("it has closed a stream"));
        }
        if self.bulk.remove(&id).is_none() {
            return;
        }
        match (&self.stage, how) {
            (Stage::Measuring(Stretch::Streams), Ended::Clean) => {
                self.count(1, now);
                self.open_once(tunnel, pool);
            }
            (Stage::Measuring(_), _) => self.stop(News::Broken("it has closed a stream")),
            (Stage::Greeting { .. } | Stage::Settling(_) | Stage::Over, _) => (),
        }
    }

    /// A stream for one byte and its end.
    fn open_once(&mut self, tunnel: &mut Tunnel, pool: &Pool) {
        if let Some(id) = self.open(Ask::Send(1), tunnel, pool) {
            tunnel.finish(id);
        }
    }

    fn open(&mut self, ask: Ask, tunnel: &mut Tunnel, pool: &Pool) -> Option<StreamId> {
        let Some(id) = tunnel.open() else {
            self.stop(News::Broken("the session takes no streams"));
            return None;
        };
        say(&ask.encode(), id, tunnel, pool);
        self.bulk.insert(id, Box::default());
        Some(id)
    }

    /// As much as the stream takes now.
    fn fill(&self, id: StreamId, tunnel: &mut Tunnel) {
        if matches!(self.stage, Stage::Measuring(Stretch::Up)) {
            while tunnel.send(id, self.zeros.clone()) == Pressure::Open {}
        }
    }

    fn send_echo(&mut self, tunnel: &mut Tunnel, pool: &Pool, now: Instant) {
        if let (Some(echo), None) = (self.echo, self.under_way) {
            self.under_way = Some((now, 0));
            say(&[0; PROBE_ECHO], echo, tunnel, pool);
        }
    }

    fn count(&mut self, more: u64, now: Instant) {
        self.moved.0 = self.moved.0.saturating_add(more);
        if self.moved.1.is_none() && self.span[1] <= now {
            self.moved.1 = Some((now, self.moved.0));
        }
    }

    /// What was counted, per second.
    fn rate(&self, now: Instant) -> u64 {
        let Some((since, before)) = self.moved.1 else { return 0 };
        let nanos = now.saturating_duration_since(since).as_nanos().max(1);
        let per_second = u128::from(self.moved.0 - before).saturating_mul(1_000_000_000) / nanos;
        u64::try_from(per_second).unwrap_or(u64::MAX)
    }

    fn tell(&mut self, stretch: Stretch, now: Instant) {
        let seconds = now.saturating_duration_since(self.span[0]).as_secs_f64();
        let rate = self.rate(now);
        let text = match stretch {
            Stretch::RoundTrip => format!("round trip: {} messages", self.times.len()),
            Stretch::Down => format!("down: {}", super::report::speed(rate)),
            Stretch::Up => format!("up: {}", super::report::speed(rate)),
            Stretch::Streams => format!("streams: {rate} per s"),
        };
        self.news = Some(News::Progress(format!("{text} ({seconds:.1} s)")));
    }

    fn stop(&mut self, with: News) {
        self.news = Some(with);
        self.stage = Stage::Over;
    }
}

impl Bulk {
    /// Reads totals, and says by how much the newest is beyond the one before.
    fn read(&mut self, data: &[u8]) -> u64 {
        let before = self.total;
        for byte in data {
            if let Some(place) = self.number.get_mut(self.have) {
                *place = *byte;
            }
            self.have += 1;
            if self.have == self.number.len() {
                self.have = 0;
                self.total = self.total.max(u64::from_be_bytes(self.number));
            }
        }
        self.total - before
    }
}

fn say(bytes: &[u8], id: StreamId, tunnel: &mut Tunnel, pool: &Pool) {
    for slice in pool.slices(bytes) {
        let _ = tunnel.send(id, slice);
    }
}

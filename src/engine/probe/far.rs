//! The end that obeys.
//!
//! Everything it moves is paid from one allowance: what it sends, what it takes (credit is returned
//! only then), and each new stream. Streams get their pieces in turn.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{Allowance, zeros};
use crate::buf::{Pool, Pressure, Slice};
use crate::engine::mux::Event;
use crate::engine::tunnel::Tunnel;
use crate::limits::{PROBE_REPORT, PROBE_STREAM_COST, PROBE_STREAMS};
use crate::wire::mux::StreamId;
use crate::wire::probe::{ASK, Ask};

/// See the module's documentation.
#[derive(Debug)]
pub struct Far {
    allowance: Allowance,
    lanes: BTreeMap<StreamId, Box<Lane>>,
    /// Who had the last turn.
    last: StreamId,
    zeros: Slice,
    is_short: bool,
}

/// One stream.
#[derive(Debug)]
struct Lane {
    state: State,
    /// Bytes that have come and were not paid for: the peer has no credit for more.
    owed: usize,
    /// The peer has finished.
    is_ending: bool,
}

#[derive(Debug)]
enum State {
    Asking { bytes: [u8; ASK], have: usize },
    Echo,
    Send { left: u64 },
    Take { taken: u64, told: u64 },
    Done,
}

impl Far {
    /// An end that moves at most `rate` bytes per second.
    #[must_use]
    pub fn new(rate: u64, pool: &Pool, now: Instant) -> Self {
        Self {
            allowance: Allowance::new(rate, now),
            lanes: BTreeMap::new(),
            last: StreamId(0),
            zeros: zeros(pool),
            is_short: false,
        }
    }

    /// Takes note of what has happened on a stream, and acts on it.
    pub fn handle(&mut self, event: Event, tunnel: &mut Tunnel, pool: &Pool, now: Instant) {
        match event {
            Event::Opened(id) => {
                self.allowance.spend(PROBE_STREAM_COST);
                if PROBE_STREAMS <= self.lanes.len() {
                    let _ = tunnel.reset(id);
                } else {
                    let state = State::Asking { bytes: [0; ASK], have: 0 };
                    self.lanes.insert(id, Box::new(Lane { state, owed: 0, is_ending: false }));
                }
            }
            Event::Data(id, data) => self.on_data(id, data, tunnel, now),
            Event::Finished(id) => {
                if let Some(lane) = self.lanes.get_mut(&id) {
                    lane.is_ending = true;
                }
            }
            Event::Closed(id, _) => drop(self.lanes.remove(&id)),
            Event::Writable(_) | Event::GoingAway | Event::Pong(_) | Event::Crowded => (),
        }
        self.act(tunnel, pool, now);
    }

    /// When [`Self::act`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.is_short.then(|| self.allowance.opens_at())
    }

    /// Moves what may be moved now.
    pub fn act(&mut self, tunnel: &mut Tunnel, pool: &Pool, now: Instant) {
        self.is_short = false;
        // A round without progress ends it; whoever comes next had to wait longest.
        let mut idle = 0;
        while idle < self.lanes.len() {
            let next = self.lanes.range(StreamId(self.last.0.saturating_add(1))..).next();
            let Some(id) = next.or_else(|| self.lanes.iter().next()).map(|(id, _)| *id) else {
                return;
            };
            let Some(lane) = self.lanes.get_mut(&id) else { return };
            if lane.wants(id, tunnel) {
                if !self.allowance.is_open(now) {
                    self.is_short = true;
                    return;
                }
                self.allowance.spend(lane.step(id, &self.zeros, tunnel, pool, now));
                idle = 0;
            } else {
                idle += 1;
            }
            self.last = id;
        }
    }

    fn on_data(&mut self, id: StreamId, mut data: Slice, tunnel: &mut Tunnel, now: Instant) {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return tunnel.drained(id, data.len(), now);
        };
        lane.owed += data.len();
        if let State::Asking { bytes, have } = &mut lane.state {
            let count = (ASK - *have).min(data.len());
            let first = data.split_to(count);
            if let Some(room) = bytes.get_mut(*have..*have + count) {
                room.copy_from_slice(&first);
            }
            *have += count;
            if *have < ASK {
                return;
            }
            match Ask::decode(*bytes) {
                Ok(Ask::Echo) => lane.state = State::Echo,
                Ok(Ask::Send(left)) => lane.state = State::Send { left },
                Ok(Ask::Take) => lane.state = State::Take { taken: 0, told: 0 },
                Err(_) => {
                    self.lanes.remove(&id);
                    let _ = tunnel.reset(id);
                    return;
                }
            }
        }
        match lane.state {
            // What comes back is bounded by the credit that is not returned while it waits.
            State::Echo if !data.is_empty() => drop(tunnel.send(id, data)),
            State::Take { ref mut taken, .. } => *taken += data.len() as u64,
            State::Asking { .. } | State::Echo | State::Send { .. } | State::Done => (),
        }
    }
}

impl Lane {
    /// Something is to be moved.
    fn wants(&self, id: StreamId, tunnel: &Tunnel) -> bool {
        let is_open = tunnel.pressure(id) == Pressure::Open;
        match self.state {
            State::Asking { .. } => self.is_ending,
            State::Echo | State::Take { .. } => is_open && (0 < self.owed || self.is_ending),
            State::Send { .. } => is_open,
            // A peer that goes on sending pays for it like any other.
            State::Done => 0 < self.owed,
        }
    }

    /// Moves a piece, and says how many bytes that was.
    fn step(
        &mut self,
        id: StreamId,
        zeros: &Slice,
        tunnel: &mut Tunnel,
        pool: &Pool,
        now: Instant,
    ) -> u64 {
        let owed = std::mem::take(&mut self.owed);
        tunnel.drained(id, owed, now);
        let mut moved = owed as u64;
        match &mut self.state {
            State::Asking { .. } | State::Echo => {
                if self.is_ending {
                    self.end(id, tunnel);
                }
            }
            State::Send { left } => {
                let piece = usize::try_from(*left).unwrap_or(usize::MAX).min(zeros.len());
                *left -= piece as u64;
                moved += piece as u64;
                let is_last = *left == 0;
                if 0 < piece {
                    let _ = tunnel.send(id, zeros.clone().split_to(piece));
                }
                if is_last {
                    self.end(id, tunnel);
                }
            }
            State::Take { taken, told } => {
                let is_due = PROBE_REPORT <= *taken - *told || self.is_ending;
                if is_due {
                    *told = *taken;
                    for slice in pool.slices(&taken.to_be_bytes()) {
                        let _ = tunnel.send(id, slice);
                    }
                }
                if self.is_ending {
                    self.end(id, tunnel);
                }
            }
            State::Done => (),
        }
        moved
    }

    fn end(&mut self, id: StreamId, tunnel: &mut Tunnel) {
        self.state = State::Done;
        tunnel.finish(id);
    }
}

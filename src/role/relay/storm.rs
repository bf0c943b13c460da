//! Refused listens that are not answered.
//!
//! A widely used listener (hyco-ws) turns every answer to a failing handshake into two new
//! attempts at once. Slow answers only slow the doubling; an attempt that is never answered stops
//! it. So a few refusals are given at once, for clients that behave, and the others are held.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::role::{ConnId, Peer};

/// Refusals answered at once in each [`WINDOW`].
const AT_ONCE: usize = 3;
/// After this long without a refusal everything is forgotten.
const WINDOW: Duration = Duration::from_secs(10);
/// Held connections are answered this far apart.
const RELEASE: Duration = Duration::from_secs(30);
/// Held connections of one pair. No more are answered then, so that no more come.
const HELD_MAX: usize = 64;
/// Pairs remembered. Past these, refusals are answered at once.
const PAIRS_MAX: usize = 4096;
/// Held connections of all pairs. Past these, refusals are answered at once.
const HELD_IN_ALL: usize = 2048;

/// What to do with a refused listen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// Tell the peer.
    Answer,
    /// Say nothing, and keep the connection.
    Hold,
    /// Drop the connection: there are too many.
    Drop,
}

/// Where a listen came from and what it was for.
pub(super) type Pair = (Option<IpAddr>, String);

/// The refused listens of late.
#[derive(Debug, Default)]
pub(super) struct Storm {
    pairs: BTreeMap<Pair, Refused>,
    /// Held connections of all pairs.
    held: usize,
}

#[derive(Debug)]
struct Refused {
    answered: usize,
    last: Instant,
    next_release: Instant,
    held: VecDeque<ConnId>,
}

/// The key under which refusals of `peer` at `path` count. An IPv6 host has a whole /64.
#[must_use]
pub(super) fn pair(peer: Peer, path: &str) -> Pair {
    let address = match peer {
        Peer::Tcp(address) => Some(match address.ip() {
            IpAddr::V4(v4) => IpAddr::V4(v4),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) >> 64 << 64)),
        }),
        Peer::Local => None,
    };
    (address, path.chars().take(260).collect())
}

impl Storm {
    /// `conn` has been refused.
    pub(super) fn refuse(&mut self, pair: &Pair, conn: ConnId, now: Instant) -> Verdict {
        self.pairs.retain(|_, refused| {
            !refused.held.is_empty() || now.duration_since(refused.last) < WINDOW
        });
        if self.pairs.len() >= PAIRS_MAX && !self.pairs.contains_key(pair) {
            return Verdict::Answer;
        }
        let refused = self.pairs.entry(pair.clone()).or_insert_with(|| Refused {
            answered: 0,
            last: now,
            next_release: now + RELEASE,
            held: VecDeque::new(),
        });
        refused.last = now;
        if refused.answered < AT_ONCE {
            refused.answered += 1;
            return Verdict::Answer;
        }
        if refused.held.len() >= HELD_MAX {
            return Verdict::Drop;
        }
        if self.held >= HELD_IN_ALL {
            return Verdict::Answer;
        }
        self.held += 1;
        refused.held.push_back(conn);
        Verdict::Hold
    }

    /// `conn` is gone or has been answered.
    pub(super) fn forget(&mut self, pair: &Pair, conn: ConnId) {
        if let Some(refused) = self.pairs.get_mut(pair) {
            let before = refused.held.len();
            refused.held.retain(|&held| held != conn);
            self.held -= before - refused.held.len();
        }
    }

    /// A held connection whose turn it is to be answered.
    pub(super) fn release(&mut self, now: Instant) -> Option<ConnId> {
        let due = self.pairs.values_mut().find(|refused| refused.is_due(now))?;
        due.next_release = now + RELEASE;
        let released = due.held.pop_front();
        self.held -= usize::from(released.is_some());
        released
    }

    /// When [`Self::release`] has something next.
    #[must_use]
    pub(super) fn next(&self) -> Option<Instant> {
        let waiting = self.pairs.values().filter(|refused| refused.may_release());
        waiting.map(|refused| refused.next_release).min()
    }
}

impl Refused {
    fn may_release(&self) -> bool {
        !self.held.is_empty() && self.held.len() < HELD_MAX
    }

    fn is_due(&self, now: Instant) -> bool {
        self.may_release() && self.next_release <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A listener that answers every refusal with two attempts, as hyco-ws does.
    #[test]
    fn a_listener_that_doubles_its_attempts_is_stopped() {
        let start = Instant::now();
        let mut storm = Storm::default();
        let pair = pair(Peer::Local, "ent");
        let (mut attempts, mut open) = (0, 1);
        for second in 0..60 {
            let now = start + Duration::from_secs(second);
            while open > 0 {
                open -= 1;
                attempts += 1;
                match storm.refuse(&pair, ConnId(attempts), now) {
                    Verdict::Answer => open += 2,
                    Verdict::Hold => (),
                    Verdict::Drop => panic!("nowhere near the limit"),
                }
            }
            if storm.release(now).is_some() {
                open += 2;
            }
        }
        assert!(attempts <= 10, "{attempts} attempts in a minute");
    }

    #[test]
    fn held_connections_are_bounded_and_the_full_pair_falls_silent() {
        let now = Instant::now();
        let mut storm = Storm::default();
        let pair = pair(Peer::Local, "ent");
        let verdicts: Vec<Verdict> =
            (0..100).map(|conn| storm.refuse(&pair, ConnId(conn), now)).collect();
        let count = |verdict| verdicts.iter().filter(|&&v| v == verdict).count();
        assert_eq!(count(Verdict::Answer), AT_ONCE);
        assert_eq!(count(Verdict::Hold), HELD_MAX);
        assert_eq!(storm.next(), None);
        storm.forget(&pair, ConnId(50));
        assert_eq!(storm.next(), Some(now + RELEASE));
        assert_eq!(storm.release(now), None);
        assert_eq!(storm.release(now + RELEASE), Some(ConnId(3)));
    }

    #[test]
    fn a_quiet_pair_starts_anew() {
        let now = Instant::now();
        let mut storm = Storm::default();
        let pair = pair(Peer::Tcp("[2001:db8::1]:1".parse().unwrap()), "ent");
        for conn in 0..3 {
            assert_eq!(storm.refuse(&pair, ConnId(conn), now), Verdict::Answer);
        }
        assert_eq!(storm.refuse(&pair, ConnId(4), now + WINDOW), Verdict::Answer);
        let same = super::pair(Peer::Tcp("[2001:db8::ffff]:2".parse().unwrap()), "ent");
        assert_eq!(same, pair);
    }
}

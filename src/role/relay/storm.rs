//! Refused listens that are not answered.
//!
//! A widely used listener (hyco-ws) turns every answer to a failing handshake into two new
//! attempts at once. Slow answers only slow the doubling; an attempt that is never answered stops
//! it. So a few refusals are given at once, for clients that behave, and the others are held.
//!
//! What is remembered is counted by address, so that no stranger can use up what protects the
//! relay from another one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::auth::network::site;
use crate::limits::ENTITY_NAME_MAX;
use crate::role::{ConnId, Peer};

/// Refusals answered at once in each [`WINDOW`].
const AT_ONCE: usize = 3;
/// After this long without a refusal everything is forgotten.
const WINDOW: Duration = Duration::from_secs(10);
/// Held connections are answered this far apart.
const RELEASE: Duration = Duration::from_secs(30);
/// Held connections of one address. Further ones are dropped, and none is answered for as long as
/// it is full, so that no more come.
const HELD_MAX: usize = 64;
/// Paths of one address that are counted one by one; the others are counted together.
const PATHS_MAX: usize = 32;
/// Addresses remembered. Past these, refusals are answered at once.
const ADDRESSES_MAX: usize = 4096;
/// Held connections of all addresses. Past these, refusals are answered at once.
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
    addresses: BTreeMap<Option<IpAddr>, Address>,
    /// When a held connection of an address is to be answered next.
    releases: BTreeSet<(Instant, Option<IpAddr>)>,
    /// Held connections of all addresses.
    held: usize,
}

#[derive(Debug, Default)]
struct Address {
    paths: BTreeMap<String, Box<Refused>>,
    /// Held connections of all paths.
    held: usize,
    /// As in [`Storm::releases`].
    due: Option<Instant>,
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
    let address = peer.address().map(site);
    (address, path.chars().take(ENTITY_NAME_MAX).collect())
}

impl Storm {
    /// `conn` has been refused. Returns the pair it counts for, with which it is to be forgotten.
    pub(super) fn refuse(&mut self, pair: Pair, conn: ConnId, now: Instant) -> (Verdict, Pair) {
        if !self.addresses.contains_key(&pair.0) && self.addresses.len() >= ADDRESSES_MAX {
            self.addresses.retain(|_, address| !address.is_stale(now));
            if self.addresses.len() >= ADDRESSES_MAX {
                return (Verdict::Answer, pair);
            }
        }
        let address = self.addresses.entry(pair.0).or_default();
        address.paths.retain(|_, refused| !refused.is_stale(now));
        let is_known = address.paths.contains_key(&pair.1);
        let pair = match address.paths.len() < PATHS_MAX || is_known {
            true => pair,
            false => (pair.0, String::new()),
        };
        let verdict = address.refuse(&pair.1, self.held < HELD_IN_ALL, conn, now);
        if verdict == Verdict::Hold {
            self.held += 1;
            self.schedule(pair.0);
        }
        (verdict, pair)
    }

    /// `conn` is gone or has been answered.
    pub(super) fn forget(&mut self, pair: &Pair, conn: ConnId) {
        let Some(address) = self.addresses.get_mut(&pair.0) else { return };
        let Some(refused) = address.paths.get_mut(&pair.1) else { return };
        let before = refused.held.len();
        refused.held.retain(|&held| held != conn);
        let gone = before - refused.held.len();
        address.held -= gone;
        self.held -= gone;
        self.schedule(pair.0);
    }

    /// A held connection whose turn it is to be answered.
    pub(super) fn release(&mut self, now: Instant) -> Option<ConnId> {
        let (_, at) = *self.releases.first().filter(|(due, _)| *due <= now)?;
        let address = self.addresses.get_mut(&at)?;
        let waiting = address.paths.values_mut().filter(|refused| !refused.held.is_empty());
        let refused = waiting.min_by_key(|refused| refused.next_release)?;
        refused.next_release = now + RELEASE;
        let released = refused.held.pop_front();
        address.held -= 1;
        self.held -= 1;
        self.schedule(at);
        released
    }

    /// When [`Self::release`] has something next.
    #[must_use]
    pub(super) fn next(&self) -> Option<Instant> {
        self.releases.first().map(|(due, _)| *due)
    }

    /// Sees to it that `releases` is right about `at`.
    fn schedule(&mut self, at: Option<IpAddr>) {
        let Some(address) = self.addresses.get_mut(&at) else { return };
        let waiting = address.paths.values().filter(|refused| !refused.held.is_empty());
        let due = waiting.map(|refused| refused.next_release).min();
        let due = due.filter(|_| address.held < HELD_MAX);
        let before = std::mem::replace(&mut address.due, due);
        self.releases.extend(due.map(|due| (due, at)));
        if let Some(before) = before.filter(|_| before != due) {
            self.releases.remove(&(before, at));
        }
    }
}

impl Address {
    fn refuse(&mut self, path: &str, may_hold: bool, conn: ConnId, now: Instant) -> Verdict {
        let refused = self.paths.entry(path.to_owned()).or_insert_with(|| {
            let next_release = now + RELEASE;
            Box::new(Refused { answered: 0, last: now, next_release, held: VecDeque::new() })
        });
        refused.last = now;
        if refused.answered < AT_ONCE {
            refused.answered += 1;
            return Verdict::Answer;
        }
        if self.held >= HELD_MAX {
            return Verdict::Drop;
        }
        if !may_hold {
            return Verdict::Answer;
        }
        self.held += 1;
        refused.held.push_back(conn);
        Verdict::Hold
    }

    fn is_stale(&self, now: Instant) -> bool {
        self.paths.values().all(|refused| refused.is_stale(now))
    }
}

impl Refused {
    fn is_stale(&self, now: Instant) -> bool {
        self.held.is_empty() && now.duration_since(self.last) >= WINDOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Peer {
        Peer::Tcp(address.parse().unwrap())
    }

    fn refuse(storm: &mut Storm, pair: &Pair, conn: u64, now: Instant) -> Verdict {
        storm.refuse(pair.clone(), ConnId(conn), now).0
    }

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
                match refuse(&mut storm, &pair, attempts, now) {
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
    fn held_connections_are_bounded_and_a_full_address_falls_silent() {
        let now = Instant::now();
        let mut storm = Storm::default();
        let pair = pair(Peer::Local, "ent");
        let verdicts: Vec<Verdict> =
            (0..100).map(|conn| refuse(&mut storm, &pair, conn, now)).collect();
        let count = |verdict| verdicts.iter().filter(|&&v| v == verdict).count();
        assert_eq!(count(Verdict::Answer), AT_ONCE);
        assert_eq!(count(Verdict::Hold), HELD_MAX);
        assert_eq!(storm.next(), None);
        storm.forget(&pair, ConnId(50));
        assert_eq!(storm.next(), Some(now + RELEASE));
        assert_eq!(storm.release(now), None);
        assert_eq!(storm.release(now + RELEASE), Some(ConnId(3)));
        assert_eq!(storm.release(now + RELEASE), None);
        assert_eq!(storm.next(), Some(now + RELEASE * 2));
    }

    #[test]
    fn no_address_takes_what_protects_from_another() {
        let now = Instant::now();
        let mut storm = Storm::default();
        let mut conn = 0;
        let mut next = || {
            conn += 1;
            conn
        };
        let hostile = at("203.0.113.7:1");
        for path in 0..20_000 {
            let pair = pair(hostile, &format!("guess-{path}"));
            let _ = refuse(&mut storm, &pair, next(), now);
        }
        let address = &storm.addresses[&pair(hostile, "").0];
        assert_eq!((address.paths.len(), address.held), (PATHS_MAX + 1, HELD_MAX));
        assert_eq!((storm.addresses.len(), storm.held), (1, HELD_MAX));

        let other = pair(at("203.0.113.8:1"), "ent");
        let verdicts: Vec<Verdict> =
            (0..5).map(|_| refuse(&mut storm, &other, next(), now)).collect();
        assert_eq!(verdicts[AT_ONCE..], [Verdict::Hold, Verdict::Hold]);
        assert_eq!(storm.next(), Some(now + RELEASE));
    }

    #[test]
    fn what_is_remembered_of_addresses_is_bounded_and_passes() {
        let start = Instant::now();
        let mut storm = Storm::default();
        let many = |storm: &mut Storm, net: u8, now: Instant| {
            for n in 0..=ADDRESSES_MAX {
                let pair = pair(at(&format!("{net}.0.{}.{}:1", n / 256, n % 256)), "ent");
                assert_eq!(refuse(storm, &pair, n as u64, now), Verdict::Answer);
            }
            assert_eq!(storm.addresses.len(), ADDRESSES_MAX);
        };
        many(&mut storm, 10, start);
        many(&mut storm, 11, start + WINDOW);
        assert!(storm.addresses.keys().flatten().all(|it| it.to_string().starts_with("11.")));
    }

    #[test]
    fn a_quiet_pair_starts_anew() {
        let now = Instant::now();
        let mut storm = Storm::default();
        let first = pair(at("[2001:db8::1]:1"), "ent");
        for conn in 0..3 {
            assert_eq!(refuse(&mut storm, &first, conn, now), Verdict::Answer);
        }
        assert_eq!(refuse(&mut storm, &first, 4, now + WINDOW), Verdict::Answer);
        assert_eq!(pair(at("[2001:db8::ffff]:2"), "ent"), first);
        assert_eq!(pair(at("[::ffff:192.0.2.1]:2"), "ent"), pair(at("192.0.2.1:3"), "ent"));
    }
}

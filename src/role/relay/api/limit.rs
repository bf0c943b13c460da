//! Wrong guesses of an address: of join tokens, of bearer tokens, of answers to challenges. Each
//! address has a few at once and then one every few seconds; the table is bounded, and addresses
//! beyond it share one count.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::auth::network::site;
use crate::limits::{GUESS_REFILL, GUESSERS_MAX, GUESSES};

/// What is guessed. The counts are apart: an agent with a wrong join token does not lock out the
/// people behind the same address.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Guess {
    /// A join token.
    JoinToken,
    /// An answer to a challenge.
    Challenge,
    /// A bearer token.
    Bearer,
    /// What a good token may do.
    Right,
}

/// Who has guessed wrong, and how long ago.
#[derive(Debug, Default)]
pub struct Guesses {
    /// When the count is back at nothing: each wrong guess moves it by one refill.
    clear_at: BTreeMap<(Guess, IpAddr), Instant>,
    overflow: BTreeMap<Guess, Instant>,
}

impl Guesses {
    /// How long `peer` has to wait before it may guess again; `None`: not at all.
    pub fn wait(&self, guess: Guess, peer: Option<IpAddr>, now: Instant) -> Option<Duration> {
        let key = (guess, key(peer));
        let clear_at = self.clear_at.get(&key).or_else(|| match self.is_full() {
            true => self.overflow.get(&guess),
            false => None,
        })?;
        // The bucket is empty while its refilling takes longer than that of all but one.
        let debt = clear_at.saturating_duration_since(now);
        let room = GUESS_REFILL.saturating_mul(GUESSES.saturating_sub(1));
        let wait = debt.saturating_sub(room);
        (!wait.is_zero()).then_some(wait)
    }

    /// Takes note of a wrong guess.
    pub fn note(&mut self, guess: Guess, peer: Option<IpAddr>, now: Instant) {
        let key = (guess, key(peer));
        if self.is_full() && !self.clear_at.contains_key(&key) {
            self.clear_at.retain(|_, clear_at| *clear_at > now);
        }
        let clear_at = match self.is_full() && !self.clear_at.contains_key(&key) {
            true => self.overflow.entry(guess).or_insert(now),
            false => self.clear_at.entry(key).or_insert(now),
        };
        let most = now.checked_add(GUESS_REFILL.saturating_mul(GUESSES)).unwrap_or(now);
        let later = (*clear_at).max(now).checked_add(GUESS_REFILL).unwrap_or(most);
        *clear_at = later.min(most);
    }

    fn is_full(&self) -> bool {
        self.clear_at.len() >= GUESSERS_MAX
    }
}

fn key(peer: Option<IpAddr>) -> IpAddr {
    peer.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), site)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    #[test]
    fn a_guesser_waits_and_others_do_not() {
        let (mut all, now) = (Guesses::default(), Instant::now());
        let (eve, bob) = (peer("10.0.0.4"), peer("10.0.0.5"));
        for _ in 0..GUESSES {
            assert_eq!(all.wait(Guess::JoinToken, eve, now), None);
            all.note(Guess::JoinToken, eve, now);
        }
        assert_eq!(all.wait(Guess::JoinToken, eve, now), Some(GUESS_REFILL));
        assert_eq!(all.wait(Guess::JoinToken, bob, now), None);
        assert_eq!(all.wait(Guess::Bearer, eve, now), None);
        (0..1000).for_each(|_| all.note(Guess::JoinToken, eve, now));
        assert_eq!(all.wait(Guess::JoinToken, eve, now), Some(GUESS_REFILL), "not for ever");
        assert_eq!(all.wait(Guess::JoinToken, eve, now + GUESS_REFILL), None);
    }

    #[test]
    fn another_address_of_the_same_site_is_the_same_guesser() {
        let (mut all, now) = (Guesses::default(), Instant::now());
        for n in 0..GUESSES {
            all.note(Guess::Bearer, peer(&format!("2001:db8::{n:x}")), now);
        }
        assert!(all.wait(Guess::Bearer, peer("2001:db8::ffff:1"), now).is_some());
        assert!(all.wait(Guess::Bearer, peer("2001:db8:0:1::1"), now).is_none());
        (0..GUESSES).for_each(|_| all.note(Guess::Bearer, peer("::ffff:10.0.0.4"), now));
        assert!(all.wait(Guess::Bearer, peer("10.0.0.4"), now).is_some());
    }

    #[test]
    fn a_flood_of_addresses_is_bounded_and_shares_one_count() {
        let (mut all, now) = (Guesses::default(), Instant::now());
        for n in 0..u32::try_from(GUESSERS_MAX).unwrap() + 2 * GUESSES {
            all.note(Guess::JoinToken, Some(IpAddr::V4(n.into())), now);
        }
        assert_eq!(all.clear_at.len(), GUESSERS_MAX);
        let fresh = peer("203.0.113.7");
        assert!(all.wait(Guess::JoinToken, fresh, now).is_some());
        let later = now + GUESS_REFILL * GUESSES;
        all.note(Guess::JoinToken, fresh, later);
        assert_eq!(all.clear_at.len(), 1, "what is over makes room");
        assert_eq!(all.wait(Guess::JoinToken, fresh, later), None);
    }
}

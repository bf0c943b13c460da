//! How many senders are served at a time, of one hybrid connection and of one caller.
//!
//! A [`Seat`] is a share of two counters, and a counter is how many shares of it there are: whoever
//! vanishes, in whichever phase and on whichever loop, takes the seat along.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fault::Fault;
use super::{Arrival, Relay};
use crate::role::Seat;

/// Who has a seat.
#[derive(Debug)]
pub(super) struct Seats {
    entities: Counters,
    callers: Counters,
}

/// Counters by name. One that stands at nothing is forgotten before there are many.
#[derive(Debug)]
struct Counters {
    most: usize,
    by_name: BTreeMap<String, Arc<()>>,
    /// So many names make a search for those that stand at nothing worth its while.
    sweep_at: usize,
}

/// Which of the two counters stands at its most.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Full {
    Entity(usize),
    Caller(usize),
}

impl From<Full> for Fault {
    fn from(full: Full) -> Self {
        let (what, most) = match full {
            Full::Entity(most) => ("an endpoint", most),
            Full::Caller(most) => ("a caller", most),
        };
        let text = format!("TooManyRequests: {what} has up to {most} senders at a time");
        Self::new(429, &text)
    }
}

impl Seats {
    /// With the most that there may be of one hybrid connection, and of one caller.
    pub(super) const fn new(per_entity: usize, per_caller: usize) -> Self {
        Self { entities: Counters::new(per_entity), callers: Counters::new(per_caller) }
    }

    /// A seat for one more sender of `caller` at `entity`.
    pub(super) fn take(&mut self, entity: &str, caller: &str) -> Result<Seat, Full> {
        if self.entities.is_full(entity) {
            return Err(Full::Entity(self.entities.most));
        }
        if self.callers.is_full(caller) {
            return Err(Full::Caller(self.callers.most));
        }
        Ok(Seat::new([self.entities.share(entity), self.callers.share(caller)]))
    }

    /// Seats that are taken.
    pub(super) fn taken(&self) -> usize {
        self.entities.by_name.values().map(shares).sum()
    }
}

impl Counters {
    const fn new(most: usize) -> Self {
        Self { most, by_name: BTreeMap::new(), sweep_at: SWEEP_MIN }
    }

    fn is_full(&self, name: &str) -> bool {
        self.by_name.get(name).is_some_and(|counter| self.most <= shares(counter))
    }

    fn share(&mut self, name: &str) -> Arc<()> {
        if let Some(counter) = self.by_name.get(name) {
            return Arc::clone(counter);
        }
        if self.sweep_at <= self.by_name.len() {
            self.by_name.retain(|_, counter| shares(counter) != 0);
            self.sweep_at = self.by_name.len().saturating_mul(2).max(SWEEP_MIN);
        }
        Arc::clone(self.by_name.entry(name.to_owned()).or_default())
    }
}

impl Relay {
    /// A seat for a sender. Where there is none, who could not be served anyway is told why not.
    pub(super) fn seat(
        &mut self,
        arrival: &Arrival,
        entity: &str,
        caller: &str,
    ) -> Result<Seat, Fault> {
        let full = match self.seats.take(entity, caller) {
            Ok(seat) => return Ok(seat),
            Err(full) => full,
        };
        self.admitted(entity, &arrival.request.fields)?;
        self.metrics.over_quota(full);
        Err(full.into())
    }
}

/// Of a counter, besides the table's own.
fn shares(counter: &Arc<()>) -> usize {
    Arc::strong_count(counter).saturating_sub(1)
}

/// Names below which nothing is gained by forgetting some.
const SWEEP_MIN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_entity_and_a_full_caller_are_told_apart_and_fill_nobody_else() {
        let mut seats = Seats::new(3, 2);
        let mut taken: Vec<Seat> = Vec::new();
        let mut take = |seats: &mut Seats, entity, caller| match seats.take(entity, caller) {
            Ok(seat) => {
                taken.push(seat);
                String::new()
            }
            Err(full) => {
                let fault = Fault::from(full);
                format!("{} {}", fault.status, fault.text)
            }
        };
        assert_eq!(take(&mut seats, "a", "eve"), "");
        assert_eq!(take(&mut seats, "b", "eve"), "");
        let full = "429 TooManyRequests: a caller has up to 2 senders at a time";
        assert_eq!(take(&mut seats, "b", "eve"), full);
        assert_eq!(take(&mut seats, "b", "bob"), "");
        assert_eq!(take(&mut seats, "b", "ann"), "");
        let full = "429 TooManyRequests: an endpoint has up to 3 senders at a time";
        assert_eq!(take(&mut seats, "b", "ann"), full);
        assert_eq!(take(&mut seats, "a", "ann"), "");
        assert_eq!(seats.taken(), 5, "a refusal takes no half of a seat");
        taken.remove(0);
        assert_eq!(seats.taken(), 4);
        assert!(seats.take("a", "eve").is_ok());
    }

    #[test]
    fn a_seat_that_goes_on_another_thread_is_free() {
        let mut seats = Seats::new(1, 1);
        let seat = seats.take("a", "eve").unwrap();
        assert!(seats.take("a", "bob").is_err() && seats.take("b", "eve").is_err());
        std::thread::spawn(move || drop(seat)).join().unwrap();
        assert_eq!(seats.taken(), 0);
        assert!(seats.take("a", "eve").is_ok());
    }

    #[test]
    fn names_that_nobody_has_are_forgotten() {
        let mut seats = Seats::new(10, 10);
        let kept: Vec<Seat> = (0..40)
            .map(|n| {
                seats
                    .take("a", &n.to_string())
                    .unwrap_or_else(|_| seats.take(&format!("e{n}"), &n.to_string()).unwrap())
            })
            .collect();
        for n in 0..100_000 {
            drop(seats.take(&format!("guess-{n}"), &format!("address-{n}")).unwrap());
        }
        assert!(seats.entities.by_name.len() <= 128 && seats.callers.by_name.len() <= 128);
        assert_eq!(seats.taken(), kept.len());
    }
}

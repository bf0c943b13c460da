//! How many streams of a session have received lately: who is alone may fill the way, who has
//! company must leave it short.

use std::time::{Duration, Instant};

/// Long enough that somebody who types is never away.
const PERIOD: Duration = Duration::from_secs(2);

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Company {
    since: Option<Instant>,
    /// The number of the period, from 1.
    period: u32,
    present: u16,
    before: u16,
}

/// What a stream remembers of its last visit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Visit(u32);

impl Company {
    pub(super) const fn new() -> Self {
        Self { since: None, period: 0, present: 0, before: 0 }
    }

    /// A stream has received something.
    pub(super) fn meet(&mut self, visit: &mut Visit, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let passed = now.saturating_duration_since(since);
        if self.period == 0 || PERIOD <= passed {
            self.before = if passed < PERIOD * 2 { self.present } else { 0 };
            (self.present, self.since) = (0, Some(now));
            self.period = self.period.wrapping_add(1).max(1);
        }
        if visit.0 != self.period {
            visit.0 = self.period;
            self.present = self.present.saturating_add(1);
        }
    }

    /// Streams in this period and the last, whichever has more.
    pub(super) fn count(&self) -> u16 {
        self.present.max(self.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_came_lately_counts_once() {
        let start = Instant::now();
        let (mut company, mut one, mut other) =
            (Company::new(), Visit::default(), Visit::default());
        for millis in 0..1000 {
            company.meet(&mut one, start + Duration::from_millis(millis));
        }
        assert_eq!(company.count(), 1);
        company.meet(&mut other, start + Duration::from_millis(1000));
        assert_eq!(company.count(), 2);
        company.meet(&mut one, start + PERIOD);
        assert_eq!(company.count(), 2, "it came in the period before");
        company.meet(&mut one, start + PERIOD * 2);
        assert_eq!(company.count(), 1);
        company.meet(&mut other, start + PERIOD * 9);
        assert_eq!(company.count(), 1, "nobody else came for long");
    }
}

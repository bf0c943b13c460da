//! What is to be measured, in which order, and for how long.

use std::time::Duration;

/// How much is to be measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How long bytes flow each way; the round trip alone and the opening of streams get half.
    pub each: Duration,
    /// Streams that bytes flow on at a time.
    pub streams: usize,
    /// This alone, for as long as bytes would flow one way.
    pub only: Option<Stretch>,
}

/// What is measured at a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stretch {
    /// The round trip while nothing else moves.
    RoundTrip,
    /// Bytes from the cluster, and the round trip beside them.
    Down,
    /// Bytes towards the cluster, and the round trip beside them.
    Up,
    /// Streams opened, used and closed.
    Streams,
}

impl Plan {
    /// What comes at the beginning.
    pub(super) fn first(&self) -> Stretch {
        self.only.unwrap_or(Stretch::RoundTrip)
    }

    /// What comes after `done`, if that was not the last.
    pub(super) fn after(&self, done: Stretch) -> Option<Stretch> {
        match (self.only, done) {
            (Some(_), _) | (None, Stretch::Streams) => None,
            (None, Stretch::RoundTrip) => Some(Stretch::Down),
            (None, Stretch::Down) => Some(Stretch::Up),
            (None, Stretch::Up) => Some(Stretch::Streams),
        }
    }

    /// How long a stretch is, and how much of that does not count.
    pub(super) fn length(&self, stretch: Stretch) -> (Duration, Duration) {
        match stretch {
            Stretch::Down | Stretch::Up => (self.each, self.each / 4),
            Stretch::RoundTrip | Stretch::Streams if self.only.is_none() => {
                (self.each / 2, Duration::ZERO)
            }
            Stretch::RoundTrip | Stretch::Streams => (self.each, Duration::ZERO),
        }
    }
}

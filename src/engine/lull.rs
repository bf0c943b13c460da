//! When a socket has been free for a while and fills up again. What TCP knows of the line is old by
//! then, and windows that begin small have it believe that the line is as slow as they are: BBR takes
//! the most that was delivered in one of the last ten round trips for the line's speed, and if those
//! say nothing of it, the first one that does. From there it goes up by a quarter in eight round
//! trips; a new connection doubles its speed in each.

use std::time::{Duration, Instant};

/// Shorter ones leave TCP what it knows, where a round trip is long enough for it to matter.
const LULL: Duration = Duration::from_secs(1);

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub enum Lull {
    /// The socket has never refused anything: TCP has not come to know the line yet.
    New,
    /// It refuses what comes.
    Full,
    /// It has taken everything since then.
    Since(Instant),
}

impl Lull {
    /// The socket has taken what there was, or refused something if it `is_full`. Returns whether that
    /// ends a lull.
    #[must_use]
    pub fn ends(&mut self, is_full: bool, now: Instant) -> bool {
        let before = *self;
        *self = match before {
            _ if is_full => Self::Full,
            Self::Full => Self::Since(now),
            Self::New | Self::Since(_) => before,
        };
        is_full && matches!(before, Self::Since(at) if LULL <= now.saturating_duration_since(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_fills_up_after_a_second_ends_a_lull() {
        let (mut lull, start) = (Lull::New, Instant::now());
        let mut note = |is_full, millis| lull.ends(is_full, start + Duration::from_millis(millis));
        assert!(!note(false, 0) && !note(true, 5000), "TCP is new to the line");
        assert!(!note(true, 9000), "a slow line is full for long");
        assert!(!note(false, 9000) && !note(false, 9900));
        assert!(!note(true, 9999), "it was free for less than a second");
        assert!(!note(false, 10_000) && !note(false, 10_900));
        assert!(note(true, 11_000));
        assert!(!note(true, 13_000), "told once");
    }
}

//! When a socket has refused nothing for a while and fills up again. What TCP knows of the line
//! may be old by then, and windows that begin small have it believe that the line is as slow as they are:
//! BBR takes the most that was delivered in one of the last ten round trips for the line's speed, and
//! if those say nothing of it, the first one that does. From there it goes up by a quarter in eight
//! round trips; a new connection doubles its speed in each.

use std::time::{Duration, Instant};

/// Shorter ones leave TCP what it knows, where a round trip is long enough for it to matter.
const LULL: Duration = Duration::from_secs(1);

/// Bytes. Who takes more in each second has no lull: TCP sees the line at work. Not fewer, because of
/// what ends a lull MiBs may have been taken before anything is refused, while windows grow. So a slow
/// line that is busy and refuses nothing for a second counts as a lull, too.
const LITTLE: usize = 8 * 1024 * 1024;

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub enum Lull {
    /// The socket has never refused anything: TCP has not come to know the line yet.
    New,
    /// It refuses what comes.
    Full,
    /// It has refused nothing since then, and has taken so many bytes.
    Since(Instant, usize),
}

impl Lull {
    /// The socket has taken `len` bytes, and refused others if it `is_full`. Returns whether that ends
    /// a lull.
    #[must_use]
    pub fn ends(&mut self, len: usize, is_full: bool, now: Instant) -> bool {
        let before = *self;
        *self = match before {
            _ if is_full => Self::Full,
            Self::New => Self::New,
            Self::Since(at, taken) if taken + len <= LITTLE => Self::Since(at, taken + len),
            Self::Full | Self::Since(..) => Self::Since(now, 0),
        };
        is_full && matches!(before, Self::Since(at, _) if LULL <= now.saturating_duration_since(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_fills_up_after_a_second_ends_a_lull() {
        let (mut lull, start) = (Lull::New, Instant::now());
        let mut note =
            |is_full, millis| lull.ends(1000, is_full, start + Duration::from_millis(millis));
        assert!(!note(false, 0) && !note(true, 5000), "TCP is new to the line");
        assert!(!note(true, 9000), "a slow line is full for long");
        assert!(!note(false, 9000) && !note(false, 9900));
        assert!(!note(true, 9999), "it was free for less than a second");
        assert!(!note(false, 10_000) && !note(false, 10_900));
        assert!(note(true, 11_000));
        assert!(!note(true, 13_000), "told once");
    }

    #[test]
    fn a_socket_that_takes_much_and_refuses_nothing_has_no_lull() {
        for (each, ends) in [(2000, true), (2_000_000, false)] {
            let (mut lull, mut now) = (Lull::Full, Instant::now());
            for _ in 0..100 {
                now += Duration::from_millis(100);
                assert!(!lull.ends(each, false, now));
            }
            assert_eq!(lull.ends(each, true, now), ends, "{each} bytes ten times a second");
        }
    }
}

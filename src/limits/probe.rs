//! Measuring a live tunnel.

use std::time::Duration;

use super::{FRAME_MAX, MUX_HEADER};

/// How long one session may measure, whatever the caller wants.
pub const PROBE_LIFE: Duration = Duration::from_secs(60);

/// Bytes per second, both ways together, that a session which measures may move unless configured:
/// about 100 Mbit/s. Everybody who is authenticated may measure, one at a time, so this is what strangers
/// to the cluster could take of its line and of a core (a thirtieth) for as long as they like.
pub const PROBE_RATE: u64 = 12_000_000;

/// Sessions of one caller that may measure one after the other, and one more for each
/// [`PROBE_REFILL`]: whoever wants to measure finds a time at which no other does.
pub const PROBES: u32 = 3;

/// See [`PROBES`].
pub const PROBE_REFILL: Duration = Duration::from_secs(180);

/// Callers whose measuring is remembered. Those who have all of [`PROBES`] again are forgotten, and
/// with this many others nobody new measures.
pub const PROBE_CALLERS: usize = 256;

/// Streams of a session that measures, at a time.
pub const PROBE_STREAMS: usize = 64;

/// Bytes that a new stream counts as: what it costs in time.
pub const PROBE_STREAM_COST: u64 = 4 * 1024;

/// Bytes of one piece: two full frames.
pub const PROBE_PIECE: usize = 2 * (FRAME_MAX - MUX_HEADER);

/// The part of a second that an allowance may be saved up for.
pub const PROBE_SAVED: Duration = Duration::from_millis(50);

/// How long a session that has used up its allowance rests at least.
pub const PROBE_REST: Duration = Duration::from_millis(2);

/// Bytes after which the receiving end says how many have come.
pub const PROBE_REPORT: u64 = 64 * 1024;

/// Bytes of one message of which the way there and back is timed.
pub const PROBE_ECHO: usize = 64;

/// Times that are kept for each row of the result.
pub const PROBE_SAMPLES: usize = 50_000;

/// Streams that are opened, used and closed at a time.
pub const PROBE_OPENERS: usize = 16;

/// Bytes of the answer to who measures.
pub const PROBE_ANSWER_MAX: usize = 16 * 1024;

/// How long an answer may take, and a stretch whose last bytes are still on their way.
pub const PROBE_PATIENCE: Duration = Duration::from_secs(15);

/// How often progress is told.
pub const PROBE_PROGRESS: Duration = Duration::from_secs(1);

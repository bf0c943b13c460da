//! Measuring a live tunnel.

use std::time::Duration;

use super::{FRAME_MAX, MUX_HEADER};

/// How long one session may measure, whatever the caller wants.
pub const PROBE_LIFE: Duration = Duration::from_secs(60);

/// Bytes per second, both ways together, that a session which measures may move unless configured:
/// 1 Gbit/s, more than most lines have, and a third of a core.
pub const PROBE_RATE: u64 = 125_000_000;

/// Sessions that may measure one after the other, and one more for each [`PROBE_REFILL`]: an auth
/// proxy spends at most half of its time on it.
pub const PROBES: u32 = 4;

/// See [`PROBES`].
pub const PROBE_REFILL: Duration = Duration::from_secs(120);

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

//! Memory, framing, the loop, and what is shared by all.

use std::time::Duration;

/// Bytes of a pooled buffer: one TLS record of 16 KiB with its overhead fits twice, roughly.
pub const BUFFER_SIZE: usize = 32 * 1024;

/// Bytes of a WebSocket head with a 16-bit length and a mask (RFC 6455, 5.2).
pub const WS_HEAD: usize = 2 + 2 + 4;

/// Bytes that TLS 1.3 adds to a record: header, content type, tag (RFC 8446, 5.2).
pub const TLS_RECORD_OVERHEAD: usize = 5 + 1 + 16;

/// Bytes of a yamux header.
pub const MUX_HEADER: usize = 12;

/// Plaintext bytes of one inner TLS record: one yamux frame is one inner record is one WebSocket
/// message is one outer record.
pub const FRAME_MAX: usize = 16 * 1024 - WS_HEAD - TLS_RECORD_OVERHEAD;
const _: () = assert!(FRAME_MAX == 16_354);
const _: () = assert!(FRAME_MAX + WS_HEAD + TLS_RECORD_OVERHEAD <= BUFFER_SIZE);

/// Bytes that a stream may be sent before the peer hears of it: yamux's own first window.
pub const WINDOW: u32 = 256 * 1024;

/// Bytes that one stream's window may grow to: 1 Gbit/s over 300 ms, and the grant on its way.
pub const WINDOW_MAX: u32 = 48 * 1024 * 1024;

/// Bytes that a window may shrink to, where a slow line makes others wait: four full frames.
pub const WINDOW_MIN: u32 = 64 * 1024;

/// What waits behind a full line may last a round trip and twice this.
pub const WINDOW_SLACK: Duration = Duration::from_millis(5);

/// The same where several streams of a session receive, and one may be somebody who types.
pub const WINDOW_SLACK_SHARED: Duration = Duration::from_micros(500);

/// Bytes are counted for a round trip and this long to know how fast they leave.
pub const WINDOW_SPAN: Duration = Duration::from_millis(5);

/// Bytes that all windows of a session together may grow beyond their first size. A stream may have
/// three quarters of what the others leave.
pub const SESSION_GROWTH: u32 = 64 * 1024 * 1024;

/// Streams of one session at a time.
pub const STREAMS_MAX: usize = 16 * 1024;

/// Control frames (grants, pings, resets) that wait to be sent; a peer that makes us owe more does
/// not read.
pub const MUX_CONTROL_MAX: usize = 4 * STREAMS_MAX;

/// Slices queued on one stream from which on its source is paused.
pub const STREAM_OUTBOX: usize = 4;

/// Slices queued on one connection from which on its source is paused: 128 KiB of full frames.
pub const CONN_OUTBOX: usize = 8;

/// What may wait for a socket, in time.
pub const QUEUE_TIME: Duration = Duration::from_millis(5);

/// Bytes that may wait for a socket, at most: what is worth a system call.
pub const QUEUE_MAX: usize = 128 * 1024;

/// And at least: one full frame.
pub const QUEUE_MIN: usize = 16 * 1024;
const _: () = assert!(QUEUE_MAX == CONN_OUTBOX * QUEUE_MIN);

/// What may wait in the kernel until it can be sent, in time, for TCP to get to know the line. Where
/// windows let so much through a keystroke waits for it, too.
pub const UNSENT_TIME: Duration = Duration::from_millis(100);

/// And in bytes, at most: a little less than as much at 100 Mbit/s. It is the kernel's memory, not the
/// pool's, and a reader that was fast and stalls keeps it until its connection ends.
pub const UNSENT_MAX: usize = 1024 * 1024;

/// Nor more than this part of all buffers that the process may have: where memory is short, connections
/// that stall together must not take it all.
pub const UNSENT_SHARE: usize = 32;

/// Stream ids are not reused: a session that has come this far is replaced.
pub const STREAM_ID_MAX: u32 = u32::MAX / 2;

/// How long a connection may take to be made, names, proxies and TLS included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// How long an accepted connection may take for its TLS handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a closed connection may take to give its last bytes to the peer.
pub const LINGER: Duration = Duration::from_secs(5);

/// Reads of one connection in one turn, of up to 128 KiB each: then the others have theirs.
pub const READS_PER_TURN: usize = 4;

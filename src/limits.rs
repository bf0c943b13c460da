//! Every number with its unit and its reason. Relations between them are checked when compiling.

use std::time::Duration;

// ---- memory and framing ----

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

// ---- wire::h1 ----

// ---- hybrid connections ----

/// Bytes of a request or answer head: Azure allows 32 kB of header data, plus the request line.
pub const HEAD_LIMIT: usize = 34 * 1024;

/// Fields of a head.
pub const HEAD_FIELDS: usize = 128;

// ---- auth ----

// ---- relay ----

// ---- auth proxy ----

// ---- client proxy ----

// ---- reactor ----

/// How long a connection may take to be made, names, proxies and TLS included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

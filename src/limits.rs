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

// ---- wire::yaml and config ----

/// Nested collections of a YAML text. A kubeconfig has five; extensions may have a few more.
pub const YAML_DEPTH_MAX: usize = 32;

/// Values of a YAML text. A kubeconfig has about ten for each cluster.
pub const YAML_NODES_MAX: usize = 65_536;

/// Bytes of a key; YAML itself allows a key on one line 1,024 characters.
pub const YAML_KEY_MAX: usize = 512;

/// Bytes of a kubeconfig: a thousand clusters with their certificates.
pub const KUBECONFIG_MAX: usize = 4 * 1024 * 1024;

/// Bytes of a certificate bundle: what a distribution trusts is about 250 KiB.
pub const CERTIFICATES_MAX: usize = 1024 * 1024;

/// Bytes of a file with a token or a key.
pub const SECRET_FILE_MAX: usize = 64 * 1024;

// ---- auth ----

// ---- relay ----

// ---- auth proxy ----

// ---- client proxy ----

// ---- reactor ----

/// How long a connection may take to be made, names, proxies and TLS included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

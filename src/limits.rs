//! Every number with its unit and its reason. Relations between them are checked when compiling.

use std::ops::RangeInclusive;
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

// ---- auth ----

/// Characters of a bearer token, PoP tokens included. Real ones end near 4 KiB.
pub const TOKEN_BYTES: usize = 32 * 1024;

/// Levels of nesting in a token's header or payload.
pub const TOKEN_DEPTH: usize = 16;

/// Characters of a `kid`. Real ones are thumbprints of 43.
pub const KID_BYTES: usize = 256;

/// Seconds by which an issuer's clock may differ from ours, unless configured.
pub const CLOCK_LEEWAY: u64 = 60;

/// The most that [`CLOCK_LEEWAY`] may be configured to: what Microsoft's own validators allow.
pub const CLOCK_LEEWAY_MAX: u64 = 300;
const _: () = assert!(CLOCK_LEEWAY <= CLOCK_LEEWAY_MAX);

/// Seconds that a token may live. Entra ID tokens with continuous access evaluation live 20-28 h.
pub const TOKEN_LIFETIME: u64 = 28 * 3600;

/// Bytes of a user or group name that goes into an impersonation field.
pub const NAME_BYTES: usize = 256;

/// Groups of one caller. Entra ID sends 200 at most; each costs the API server an RBAC check.
pub const GROUPS: usize = 256;

/// Bytes of all groups of one caller together: they must fit one request head.
pub const GROUPS_BYTES: usize = 24 * 1024;
const _: () = assert!(NAME_BYTES <= GROUPS_BYTES);

/// Bytes of a key set or a discovery document.
pub const KEY_SET_BYTES: usize = 1024 * 1024;

/// Keys in a key set. Entra ID publishes about ten.
pub const KEY_SET_KEYS: usize = 100;

/// Levels of nesting in a key set or a discovery document.
pub const KEY_SET_DEPTH: usize = 16;

/// Bits of an RSA modulus: below, it can be factored; above, one signature costs too much.
pub const RSA_BITS: RangeInclusive<usize> = 2048..=8192;

/// Time between two fetches of a key set, give or take a tenth: emergency rollovers are seen
/// within the hour.
pub const KEYS_REFRESH: Duration = Duration::from_secs(3600);

/// Time between two fetches that unknown keys ask for, for one issuer.
pub const KEYS_ON_DEMAND: Duration = Duration::from_secs(300);

/// Seconds that a key set may be used after it was last seen at its issuer.
pub const KEYS_STALE: u64 = 24 * 3600;

/// The first delay after a failed fetch of keys.
pub const KEYS_RETRY_FIRST: Duration = Duration::from_secs(1);

/// The longest delay between failed fetches of keys.
pub const KEYS_RETRY_MOST: Duration = Duration::from_secs(300);

/// Seconds for which a proof of possession may be repeated: what kubelogin and guard agree on.
pub const PROOF_AGE: u64 = 900;

/// Seconds by which a proof's time may lie ahead of ours.
pub const PROOF_AHEAD: u64 = 60;

/// Bits of the RSA key of a proof. The caller brings it, so it costs no more than a usual one.
pub const PROOF_RSA_BITS: RangeInclusive<usize> = 2048..=4096;

/// Levels of nesting in an answer of the API server or of Microsoft Graph.
pub const ANSWER_DEPTH: usize = 32;

/// Bytes of such an answer.
pub const ANSWER_BYTES: usize = 1024 * 1024;

/// Questions to the API server that one request with impersonation may cost.
pub const REVIEWS: usize = 32;

/// How long a yes of the API server holds.
pub const REVIEW_YES: Duration = Duration::from_secs(10);

/// How long a no of the API server holds.
pub const REVIEW_NO: Duration = Duration::from_secs(5);

/// Verdicts of the API server that are remembered.
pub const REVIEWS_REMEMBERED: usize = 1024;

/// Bytes of a SAS token. Real ones have about 300.
pub const SAS_TOKEN_BYTES: usize = 4 * 1024;

/// Characters of a rule's name and of a key: the SDKs' own limit.
pub const SAS_NAME_CHARS: usize = 256;

/// Digits of a SAS token's expiry: ten reach to the year 2286.
pub const SAS_EXPIRY_DIGITS: usize = 10;

// ---- relay ----

// ---- auth proxy ----

// ---- client proxy ----

// ---- reactor ----

/// How long a connection may take to be made, names, proxies and TLS included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

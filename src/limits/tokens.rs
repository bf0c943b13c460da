//! Tokens, keys and certificates.

use std::ops::RangeInclusive;
use std::time::Duration;

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

/// Bytes of a connection string: a host, a rule and its key, the name of a hybrid connection.
pub const CONNECTION_STRING_MAX: usize = 2048;

/// Digits of a SAS token's expiry: ten reach to the year 2286.
pub const SAS_EXPIRY_DIGITS: usize = 10;

/// When the CAs that we make begin, in seconds since 1970 (2024-01-01): before any of them was made,
/// so that a clock that is behind does no harm.
pub const CA_BEGINS: u64 = 1_704_067_200;

/// How long those CAs last. They are pinned, and to replace one every client must be told.
pub const CA_LIFETIME: Duration = Duration::from_secs(40 * 365 * 24 * 3600);

/// How long a certificate from them lasts.
pub const LEAF_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// How far before now it begins: nodes at the edge have clocks that are ahead of their clients'.
pub const LEAF_BACKDATED: Duration = Duration::from_secs(7 * 24 * 3600);

/// Connections of one process.
pub const CONNS_MAX: usize = 60_000;

/// Buffers in use at a time: 256 MiB.
pub const BUFFERS: usize = 8 * 1024;

/// Buffers that a loop has at least, however little memory there is: two full reads and their like
/// on the way out.
pub const BUFFERS_LEAST: usize = 32;

/// Buffers that a loop of several has where memory is not short: 32 MiB, enough for a hundred
/// readers that stall.
pub const LOOP_BUFFERS_MIN: usize = 1024;

/// Buffers kept when nobody uses them: 1 MiB.
pub const BUFFERS_KEPT: usize = 32;

/// How often a relay looks whether its certificate's files have changed.
pub const CERTIFICATE_CHECK: Duration = Duration::from_secs(300);
/// How long a buffer beyond those may find no user.
pub const TRIM_PERIOD: Duration = Duration::from_secs(1);

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

/// Bytes that one stream's window may grow to: 1 Gbit/s over 130 ms.
pub const WINDOW_MAX: u32 = 16 * 1024 * 1024;

/// Bytes that all windows of a session together may grow beyond their first size.
pub const SESSION_GROWTH: u32 = 32 * 1024 * 1024;

/// Streams of one session at a time.
pub const STREAMS_MAX: usize = 16 * 1024;

/// Control frames (grants, pings, resets) that wait to be sent; a peer that makes us owe more does
/// not read.
pub const MUX_CONTROL_MAX: usize = 4 * STREAMS_MAX;

/// Slices queued on one stream from which on its source is paused.
pub const STREAM_OUTBOX: usize = 4;

/// Slices queued on one connection from which on its source is paused: 128 KiB of full frames.
pub const CONN_OUTBOX: usize = 8;

/// Stream ids are not reused: a session that has come this far is replaced.
pub const STREAM_ID_MAX: u32 = u32::MAX / 2;

// ---- wire::resource ----

/// Characters of a cluster's name: what Azure takes.
pub const CLUSTER_NAME_MAX: usize = 63;

/// Characters of a resource group's name: what Azure takes.
pub const RESOURCE_GROUP_MAX: usize = 90;

/// Bytes of a resource id: the longest valid one has 276.
pub const RESOURCE_ID_MAX: usize = 320;

// ---- wire::h1 ----

/// Bytes of a request head; kubectl's are under 4 KiB, and a token with many groups adds 30.
pub const REQUEST_HEAD_MAX: usize = 64 * 1024;

/// Bytes of a response head, with room for services behind the API server's proxy.
pub const RESPONSE_HEAD_MAX: usize = 256 * 1024;

/// Fields of a head.
pub const FIELDS_MAX: usize = 128;

/// Bytes of a field name.
pub const FIELD_NAME_MAX: usize = 256;

/// Empty lines skipped before a request line (RFC 9112, 2.2).
pub const EMPTY_LINES_MAX: usize = 2;

/// Digits of a chunk size: sixty bits, so that it can be counted without overflow.
pub const CHUNK_SIZE_DIGITS_MAX: usize = 15;

/// Bytes of the extensions of one chunk.
pub const CHUNK_EXTENSION_MAX: usize = 256;

/// Bytes of the extensions of all chunks of a body: a byte of data must not cost a line.
pub const CHUNK_EXTENSIONS_MAX: usize = 16 * 1024;

/// Bytes of a trailer section, which is read only to be dropped.
pub const TRAILER_SECTION_MAX: usize = 8 * 1024;

/// Bytes read from a caller before they can be used: pipelined requests, early bodies.
pub const READ_AHEAD_MAX: usize = 64 * 1024;
const _: () = assert!(READ_AHEAD_MAX >= REQUEST_HEAD_MAX);

/// Interim (1xx) responses to one request.
pub const INTERIM_RESPONSES_MAX: usize = 8;

/// Bytes discarded from a caller after the last response, so that a reset does not overtake it.
pub const DRAIN_MAX: usize = 256 * 1024;

/// How long bytes are discarded after the last response.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// A request head, from its first byte.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Between requests, as long as none on the connection was let through.
pub const STRANGER_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Between requests, once one was let through: what kube-apiserver grants.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// How long an unused upstream connection is kept: well under the 90 seconds after which
/// kube-apiserver closes it, so that no request meets that close half-way.
pub const UPSTREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const _: () = assert!(UPSTREAM_IDLE_TIMEOUT.as_secs() < IDLE_TIMEOUT.as_secs());

/// For the response head of a request that is not long-running; kube-apiserver gives up at 60.
pub const RESPONSE_HEAD_TIMEOUT: Duration = Duration::from_secs(65);

/// The stretch over which the rate of a request body is measured.
pub const BODY_RATE_WINDOW: Duration = Duration::from_secs(30);

/// Bytes of a request body in each such stretch: 256 per second.
pub const BODY_RATE_MIN: u64 = 256 * 30;

/// How long a caller may take no byte of a response that waits for it.
pub const SLOW_READER_TIMEOUT: Duration = Duration::from_secs(120);

/// An upgraded connection without traffic: the kubelet's own figure.
pub const UPGRADED_IDLE_TIMEOUT: Duration = Duration::from_secs(4 * 3600);

// ---- hybrid connections ----

/// Bytes of a request or answer head: Azure allows 32 kB of header data, plus the request line.
pub const HEAD_LIMIT: usize = 34 * 1024;

/// How long a peer may take to send a head, from the moment it is connected or was last answered.
pub const OPENING_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of a command on a control channel: .NET and Java read them into buffers of this size.
pub const COMMAND_MAX: usize = 64 * 1024;

/// Bytes of a body on a control channel: what the guide allows, and as much again, because
/// closing a channel hurts more than a body that is too long.
pub const CONTROL_BODY_MAX: usize = 128 * 1024;

/// Bytes of the body of an HTTP request that goes over the control channel (protocol guide).
pub const INLINE_BODY_MAX: usize = 64 * 1024;

/// How long a body of unknown length may turn out to be a small one.
pub const INLINE_WAIT: Duration = Duration::from_millis(50);

/// How long a listener has to answer an HTTP request (protocol guide).
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest gap within the body of an HTTP request or response (protocol guide).
pub const BODY_GAP_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes queued for a control channel past which its listener is passed over. Many requests may
/// come within one turn of the loop.
pub const CONTROL_QUEUE_MAX: usize = 1024 * 1024;

/// How long a sender waits for a listener to accept (protocol guide).
pub const ACCEPT_TIMEOUT: Duration = Duration::from_secs(30);

/// After this long without a rendezvous the sender is offered to a second listener.
pub const SECOND_OFFER: Duration = Duration::from_secs(5);

/// A socket that was silent for this long is asked for a sign of life. Load balancers forget
/// connections after four minutes.
pub const PING_INTERVAL: Duration = Duration::from_secs(30);

/// Pings without an answer after which a control channel is dead.
pub const CONTROL_PINGS: u8 = 2;

/// The same for relayed sockets: .NET answers pings there only while its application reads.
pub const RELAYED_PINGS: u8 = 4;

/// How long a control channel outlives its token. SDKs renew at the moment of expiry or later, and
/// Azure waits about as long.
pub const TOKEN_GRACE: Duration = Duration::from_secs(300);

/// A relayed socket that is closed in one direction lives on for as long as bytes are delivered in
/// the other, and for this long without any.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a peer may take to answer our Close of a control channel.
pub const CLOSE_ANSWER: Duration = Duration::from_secs(5);

/// Control channels of one entity (Azure's own number).
pub const LISTENERS_MAX: usize = 25;

/// Bytes that a sender may send before it is answered.
pub const EARLY_MAX: usize = 64 * 1024;

/// How long a stopping relay lets relayed sockets go on.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// An agent asks its relay for a sign of life after this much silence. Load balancers forget
/// connections after four minutes.
pub const AGENT_PING: Duration = Duration::from_secs(60);

/// Pings without an answer after which an agent gives a connection up.
pub const AGENT_PINGS: u8 = 2;

/// The shortest and the longest ceiling of the time between two attempts to reach the relay.
pub const RECONNECT: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// A control channel that lived for this long is replaced at once.
pub const CHANNEL_LASTED: Duration = Duration::from_secs(60);

/// How long a handshake may take once the connection has been asked for. SDKs give up after 20 s,
/// and a sender waits for 30 s.
pub const RENDEZVOUS_TIMEOUT: Duration = Duration::from_secs(25);

/// Sessions that an agent carries at a time.
pub const SESSIONS_MAX: usize = 4096;

/// How long a token that an agent signs with a shared key is good.
pub const TOKEN_LIFE: Duration = Duration::from_secs(3600);

/// Bounds of the time until a token is renewed, whatever the clock says.
pub const RENEWAL: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(2400));

/// For one call of the connected-clusters API.
pub const API_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of an answer of the connected-clusters API that an agent reads.
pub const API_ANSWER_MAX: usize = 64 * 1024;

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

// ---- relay: registry ----

/// Connected clusters of one relay; each costs about 2 KiB of memory.
pub const CLUSTERS_MAX: usize = 100_000;

/// Hybrid connections that belong to no cluster: what Azure allows in a namespace.
pub const ENTITIES_MAX: usize = 10_000;

/// Authorization rules on a namespace or a hybrid connection: what Azure allows.
pub const RULES_MAX: usize = 12;

/// Join tokens of one cluster that are neither expired nor obsolete.
pub const JOIN_TOKENS_MAX: usize = 16;

/// Role assignments of one cluster: far more is a case for a group.
pub const ASSIGNMENTS_MAX: usize = 2_000;

/// Tags of one cluster: what Azure allows.
pub const TAGS_MAX: usize = 50;

/// Bytes of a tag's value, of a display name, of an audience, of a key: what Azure allows.
pub const TEXT_MAX: usize = 256;

/// Bytes of an issuer, a subject or a group: far more than any issuer makes.
pub const CLAIM_MAX: usize = 512;

/// Bytes of the certificate of an auth proxy's CA.
pub const CERTIFICATE_MAX: usize = 4 * 1024;

/// Audiences that an auth proxy may report.
pub const AUDIENCES_MAX: usize = 16;

/// Bytes of a hybrid connection's name: what Azure allows.
pub const ENTITY_NAME_MAX: usize = 260;

/// Bytes of a hybrid connection's user metadata: what Azure allows.
pub const USER_METADATA_MAX: usize = 1024;

/// Principals that the relay remembers, for grants by name.
pub const PRINCIPALS_MAX: usize = 10_000;

/// A principal that is known with the same names is written down again only this late.
pub const PRINCIPAL_REFRESH: Duration = Duration::from_secs(24 * 3600);

// ---- relay: connected-clusters API ----

/// Bytes of a request body. The largest real one is an enrolment with 4 KiB of certificate.
pub const API_BODY_MAX: usize = 64 * 1024;

/// Bytes of a path: a resource id and an action.
pub const API_PATH_MAX: usize = 512;

/// How long a challenge may be answered: one round trip over a bad line.
pub const CHALLENGE_LIFE: Duration = Duration::from_secs(60);

/// Challenges answered within [`CHALLENGE_LIFE`] that are remembered so as to be used once.
pub const CHALLENGES_MAX: usize = 65_536;

/// Longest life of a join token.
pub const JOIN_TOKEN_LIFE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// Wrong guesses that one address has at once, and one more for each [`GUESS_REFILL`].
pub const GUESSES: u32 = 20;

/// See [`GUESSES`].
pub const GUESS_REFILL: Duration = Duration::from_secs(3);

/// Addresses whose wrong guesses are counted one by one; the others share one count.
pub const GUESSERS_MAX: usize = 4096;

/// Calls that wait for the disk, each with a body of up to [`API_BODY_MAX`].
pub const CALLS_WAITING_MAX: usize = 256;

/// Clusters whose coming and going is written down in one record.
pub const SEEN_BATCH: usize = 1000;

// ---- io::store ----

/// Bytes of one record of the journal. The largest real one is a cluster with all its tags.
pub const RECORD_MAX: usize = 1024 * 1024;

/// Bytes of a journal: what a relay reads at its start.
pub const JOURNAL_MAX: u64 = 1024 * 1024 * 1024;

/// A journal is not rewritten before it has grown by this much, in bytes.
pub const COMPACT_AFTER: u64 = 1024 * 1024;

// ---- relay ----

// ---- auth proxy ----

/// How long a fetch of keys or of a discovery document may take.
pub const KEY_FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// How often files with keys are read again.
pub const KEY_FILE_PERIOD: Duration = Duration::from_secs(60);

/// How often the auth proxy's own token is read again, as client-go does.
pub const TOKEN_FILE_PERIOD: Duration = Duration::from_secs(60);

/// Bytes of the auth proxy's own token file.
pub const TOKEN_FILE_MAX: usize = 16 * 1024;

/// Seconds that a stream may go on after its token has expired: the leeway of clocks.
pub const EXPIRY_LEEWAY: u64 = 60;

/// Requests in flight for one caller, on one session, and in all.
pub const IN_FLIGHT_CALLER: usize = 200;
/// See [`IN_FLIGHT_CALLER`].
pub const IN_FLIGHT_SESSION: usize = 500;
/// See [`IN_FLIGHT_CALLER`].
pub const IN_FLIGHT_MAX: usize = 2000;

/// How long a new session may take for its TLS handshake.
pub const SESSION_HANDSHAKE: Duration = Duration::from_secs(10);

/// How long exec, attach and port-forward may last, unless configured.
pub const SESSION_MAX: Duration = Duration::from_secs(12 * 3600);

/// Refused credentials that one session has at once, and one more for each [`REFUSAL_REFILL`].
pub const REFUSALS: u32 = 20;

/// See [`REFUSALS`].
pub const REFUSAL_REFILL: Duration = Duration::from_secs(3);

/// Credentials of one session that are verified at once, and one more for each
/// [`VERIFICATION_REFILL`]: a core verifies about ten times as many.
pub const VERIFICATIONS: u32 = 2000;

/// See [`VERIFICATIONS`].
pub const VERIFICATION_REFILL: Duration = Duration::from_micros(500);

/// Keys that were asked for in vain and are remembered.
pub const UNKNOWN_KEYS: usize = 1024;

/// Questions to the API server that are open at a time.
pub const QUESTIONS_OPEN: usize = 64;
const _: () = assert!(REVIEWS <= QUESTIONS_OPEN);

/// How long the API server may take for one of them.
pub const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a question that was not answered is not asked again.
pub const QUESTION_UNANSWERED: Duration = Duration::from_secs(1);

/// Requests that wait for answers at a time, each with its head.
pub const PARKED_MAX: usize = 256;

/// How long a request waits for all of its answers.
pub const PARKED_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections of operators and probes at a time.
pub const ADMIN_CONNS: usize = 64;

/// How long one of these may take to say what it wants.
pub const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);

/// A clock that shows less is wrong: this version is younger (2026-11-01).
pub const BUILT_AFTER: u64 = 1_793_491_200;

/// How long a stopping auth proxy lets requests go on.
pub const AUTH_PROXY_DRAIN: Duration = Duration::from_secs(30);

// ---- auth proxy: an account of its own ----

/// Seconds of life that are asked for each token: an edge that was off for a night still has one.
pub const ACCOUNT_TOKEN_LIFE: u64 = 24 * 3600;

/// A token that the API server refuses is a reason to ask for a new one, this often at most.
pub const ACCOUNT_TOKEN_GAP: Duration = Duration::from_secs(30);

/// Refusals in a row after which a token is lost: one may be a fault of the server's start.
pub const ACCOUNT_TOKEN_REFUSALS: u32 = 3;

/// For one question to the API server.
pub const API_SERVER_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a process that starts waits for an API server that is away. A supervisor that starts
/// it again only this often does not give up.
pub const API_SERVER_PATIENCE: Duration = Duration::from_secs(60);

/// How long new rights may take until they hold: API servers see them through a cache.
pub const ACCOUNT_RIGHTS_WAIT: Duration = Duration::from_secs(10);

// ---- client proxy ----

/// How long a session may take from the first packet to the end of the inner handshake. The relay
/// gives up on the listener after 30 s.
pub const SESSION_OPENING: Duration = Duration::from_secs(45);

/// How long a client proxy that waits for a cluster at start pauses between two attempts.
pub const START_RETRY: Duration = Duration::from_secs(2);

/// How often a session is asked for a sign of life.
pub const SESSION_PING: Duration = Duration::from_secs(30);

/// Bytes of the file of known clusters.
pub const KNOWN_HOSTS_MAX: usize = 1024 * 1024;

/// How long a call to the relay's API may take.
pub const CREDENTIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a token that does not say when it ends is used before another is asked for.
pub const CLUSTER_TOKEN_LIFE: Duration = Duration::from_secs(300);

// ---- reactor ----

/// How long a connection may take to be made, names, proxies and TLS included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// How long an accepted connection may take for its TLS handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a closed connection may take to give its last bytes to the peer.
pub const LINGER: Duration = Duration::from_secs(5);

/// Reads of one connection in one turn, of up to 128 KiB each: then the others have theirs.
pub const READS_PER_TURN: usize = 4;
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

/// Bytes of a file of issuers.
pub const AUTH_CONFIG_MAX: usize = 256 * 1024;

/// Nested objects and lists in it: file, issuers, issuer, mapping, claim, and one to spare.
pub const AUTH_CONFIG_DEPTH: usize = 6;

/// Bytes of a credential: a token and a kubeconfig with one certificate.
pub const CREDENTIAL_MAX: usize = 256 * 1024;

/// How long a command may take to print a token; a person may have to press a button meanwhile.
pub const IDENTITY_TIMEOUT: Duration = Duration::from_secs(120);

// ---- io::operator ----

/// Bytes of an answer to an operator: a list of ten thousand clusters.
pub const OPERATOR_ANSWER_MAX: u64 = 32 * 1024 * 1024;

/// How long a command waits for the relay, names and proxies included.
pub const OPERATOR_TIMEOUT: Duration = Duration::from_secs(30);

// ---- auth::certify ----

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

/// Buffers kept when nobody uses them: 1 MiB.
pub const BUFFERS_KEPT: usize = 32;

/// How often a relay looks whether its certificate's files have changed.
pub const CERTIFICATE_CHECK: Duration = Duration::from_secs(300);
/// How long a buffer beyond those may find no user.
pub const TRIM_PERIOD: Duration = Duration::from_secs(1);

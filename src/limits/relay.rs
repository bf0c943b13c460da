//! The relay: Hybrid Connections, the registry, its API and store.

use std::time::Duration;

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

/// The longest that any of these three may be made for a hybrid connection.
pub const DEADLINE_MAX: Duration = Duration::from_secs(24 * 3600);

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

/// A relayed socket that has taken nothing for this long goes when buffers are nearly out.
pub const STALLED: Duration = Duration::from_secs(60);

/// A relayed socket that is closed in one direction lives on for as long as bytes are delivered in
/// the other, and for this long without any.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a peer may take to answer our Close of a control channel.
pub const CLOSE_ANSWER: Duration = Duration::from_secs(5);

/// Control channels of one entity (Azure's own number).
pub const LISTENERS_MAX: usize = 25;

/// Senders of one hybrid connection at a time, waiting, relayed or with a request. Each has two of the
/// connections of a process when it is joined: this is a third of them.
pub const SENDERS_MAX: usize = 10_000;

/// Senders of one caller at a time: few enough that nobody takes all sessions of a cluster. A client
/// proxy has two while somebody stays on a long way, and all who share a key are one caller.
pub const CALLER_SENDERS_MAX: usize = 1_000;

const _: () = assert!(CALLER_SENDERS_MAX < SESSIONS_MAX / 4);

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

/// The age at which an agent replaces its control channel, drawn between these two. Azure Relay
/// ends each after about 24 hours.
pub const CHANNEL_AGE: (Duration, Duration) =
    (Duration::from_secs(18 * 3600), Duration::from_secs(21 * 3600));

/// The shortest time, and half of the longest, after which an agent whose channel still serves tries
/// again to replace it.
pub const CHANNEL_AGAIN: Duration = Duration::from_secs(300);

/// How long a handshake may take once the connection has been asked for. SDKs give up after 20 s,
/// and a sender waits for 30 s.
pub const RENDEZVOUS_TIMEOUT: Duration = Duration::from_secs(25);

/// Sessions that an agent carries, and an auth proxy takes, at a time: one or two of each client proxy.
pub const SESSIONS_MAX: usize = 4096;

/// HTTP requests that an agent fetches at a time in order to decline them.
pub const DECLINING_MAX: usize = 16;

/// How long a token that an agent signs with a shared key is good.
pub const TOKEN_LIFE: Duration = Duration::from_secs(3600);

/// Bounds of the time until a token is renewed, whatever the clock says.
pub const RENEWAL: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(2400));

/// For one call of the connected-clusters API.
pub const API_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of an answer of the connected-clusters API that an agent reads.
pub const API_ANSWER_MAX: usize = 64 * 1024;

/// Connected clusters of one relay; each costs about 9 KiB of memory, and 2 KiB of the journal.
pub const CLUSTERS_MAX: usize = 100_000;

/// Hybrid connections that belong to no cluster: what Azure allows in a namespace.
pub const ENTITIES_MAX: usize = 10_000;

/// Authorization rules on a namespace or a hybrid connection: what Azure allows.
pub const RULES_MAX: usize = 12;

/// Addresses and ranges in the network rules: what Azure allows.
pub const NETWORK_MASKS_MAX: usize = 128;

/// Join tokens of one cluster that are neither expired nor obsolete.
pub const JOIN_TOKENS_MAX: usize = 16;

/// Role assignments of one cluster: far more is a case for a group.
pub const ASSIGNMENTS_MAX: usize = 2_000;

/// Role assignments on the data plane: what Azure allows in a subscription.
pub const ROLE_ASSIGNMENTS_MAX: usize = 4_000;

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

/// Bytes of a request body. The largest real one is an enrolment with 4 KiB of certificate.
pub const API_BODY_MAX: usize = 64 * 1024;

/// Bytes of a path: a resource id and an action.
pub const API_PATH_MAX: usize = 512;

/// Clusters in one page of a list: about 1 MiB of JSON.
pub const LIST_PAGE: usize = 500;

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

/// Bytes of one record of the journal. The largest real one is a cluster with all its tags.
pub const RECORD_MAX: usize = 1024 * 1024;

/// Bytes of a journal: what a relay reads at its start.
pub const JOURNAL_MAX: u64 = 1024 * 1024 * 1024;

/// A journal is not rewritten before it has grown by this much, in bytes.
pub const COMPACT_AFTER: u64 = 1024 * 1024;

/// Loops of one relay: more cores than this carry more than a network card does.
pub const LOOPS_MAX: usize = 256;

//! Auth proxy and client proxy.

use std::time::Duration;

use super::REVIEWS;

/// How long a fetch of keys or of a discovery document may take.
pub const KEY_FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// How often files with keys are read again.
pub const KEY_FILE_PERIOD: Duration = Duration::from_secs(60);

/// How often the auth proxy's own token is read again, as client-go does.
pub const TOKEN_FILE_PERIOD: Duration = Duration::from_secs(60);

/// Bytes of the auth proxy's own token file.
pub const TOKEN_FILE_MAX: usize = 16 * 1024;

/// Streams of a session on which no request was let through yet.
pub const STREAMS_OF_STRANGERS: usize = 128;

/// Refusals of one session that are written to the audit log at once, and how often one more is.
pub const REFUSAL_NOTES: u32 = 30;
/// See [`REFUSAL_NOTES`].
pub const REFUSAL_NOTE_REFILL: Duration = Duration::from_secs(3);

/// Bytes of one text of a caller's in the audit log: a target, an agent's name, a name of an object.
pub const AUDIT_TEXT_MAX: usize = 1024;

/// Requests in flight for one caller, on one session, and in all.
pub const IN_FLIGHT_CALLER: usize = 200;
/// See [`IN_FLIGHT_CALLER`].
pub const IN_FLIGHT_SESSION: usize = 500;
/// See [`IN_FLIGHT_CALLER`].
pub const IN_FLIGHT_MAX: usize = 2000;

/// How long a new session may take for its TLS handshake.
pub const SESSION_HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a session may stand on which no request was let through. Whoever holds a right to reach
/// the auth proxy and none to be served takes a place for no longer than this; but while half of the
/// places are free who has asked nothing may stay: it may be the second session of somebody who is served.
pub const STRANGER_SESSION: Duration = Duration::from_secs(60);

/// How long the caller of such a session has to leave by itself: some round trips.
pub const STRANGER_LEAVES: Duration = Duration::from_secs(5);

/// How long exec, attach and port-forward may last, unless configured.
pub const SESSION_MAX: Duration = Duration::from_secs(12 * 3600);

/// Refused credentials that one session has at once, and one more for each [`REFUSAL_REFILL`].
pub const REFUSALS: u32 = 20;

/// See [`REFUSALS`].
pub const REFUSAL_REFILL: Duration = Duration::from_secs(3);

/// Credentials of one session that are verified at once, and one more for each
/// [`VERIFICATION_REFILL`]: a core verifies about ten times as many.
pub const VERIFICATIONS: u32 = 2000;

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

/// Requests that wait for keys of one issuer that may verify them, beside those.
pub const PARKED_FOR_KEYS_MAX: usize = 128;

/// The same for one session: nobody's requests take all the places.
pub const PARKED_SESSION: usize = 64;

/// How long a request waits for all of its answers.
pub const PARKED_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a request waits for keys that are being fetched: the first, or one that its token
/// names.
pub const PARKED_KEYS: Duration = Duration::from_secs(2);

/// Time between two lines of the log about trouble with the API server.
pub const COMPLAINTS: Duration = Duration::from_secs(10);

/// Connections of operators and probes at a time.
pub const ADMIN_CONNS: usize = 64;

/// How long one of these may take to say what it wants.
pub const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);

/// A clock that shows less is wrong: this version is younger (2026-11-01).
pub const BUILT_AFTER: u64 = 1_793_491_200;

/// How long a stopping auth proxy that has nothing to do waits for callers to leave: some round trips,
/// in which what crosses its farewell is refused. Nobody knows otherwise what became of it.
pub const CROSSED: Duration = Duration::from_secs(2);
const _: () = assert!(CROSSED.as_secs() < AUTH_PROXY_DRAIN.as_secs());

/// How long a stopping auth proxy lets requests go on.
pub const AUTH_PROXY_DRAIN: Duration = Duration::from_secs(30);

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

/// How long a session may take from the first packet to the end of the inner handshake. A relay
/// gives up on the listener after 30 s unless it is told otherwise; Azure's SDKs wait this long.
pub const SESSION_OPENING: Duration = Duration::from_secs(70);

/// How long a client proxy that waits for a cluster at start pauses between two attempts.
pub const START_RETRY: Duration = Duration::from_secs(2);

/// Sessions that a request is tried on whose streams are refused because the auth proxy goes: both
/// that there may be with one, and of those that one restarts after the other, one stays.
pub const STREAM_TRIES: u8 = 4;

/// Sessions with one cluster at a time: what is on one stays there, and what comes later may have
/// another rendezvous.
pub const SESSIONS_OF_CLUSTER: usize = 2;

/// From one attempt at a second session to the next, at first and at most, half of the first at least:
/// whoever refused it is not asked all the time.
pub const RELIEF_PAUSE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(600));

/// A stream that is so old is one that stays.
pub const RELIEF_AGE: Duration = Duration::from_secs(1);

/// There and back: on a shorter way what is sent again comes before anybody misses it.
pub const RELIEF_WAY: Duration = Duration::from_millis(15);

/// Two sessions stay for so long after they were found to be better than one.
pub const RELIEF_KEPT: Duration = Duration::from_secs(300);

/// How often a session is asked for a sign of life.
pub const SESSION_PING: Duration = Duration::from_secs(30);

/// Bytes of the file of known clusters.
pub const KNOWN_HOSTS_MAX: usize = 1024 * 1024;

/// How long a call to the relay's API may take.
pub const CREDENTIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a token that does not say when it ends is used before another is asked for.
pub const CLUSTER_TOKEN_LIFE: Duration = Duration::from_secs(300);

/// How long the groups of a caller hold that its token leaves out. A token's own groups are those
/// of an hour ago.
pub const GROUPS_HELD: Duration = Duration::from_secs(300);

/// How long Microsoft Graph is left alone after it, or the place where our own token for it comes
/// from, has said no.
pub const GROUPS_RETRY: Duration = Duration::from_secs(5);

/// Callers whose groups are asked for at a time.
pub const GROUPS_OPEN: usize = 64;

/// Connections to the API server that wait for a request, ready to take it.
pub const SPARES: usize = 2;

/// How long one waits. kube-apiserver gives a new connection 32 seconds for its first head.
pub const SPARE_LIFE: Duration = Duration::from_secs(20);

/// The shortest and the longest ceiling of the time without new ones after one could not be made.
pub const SPARE_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

//! HTTP/1.1 and resource names.

use std::time::Duration;

/// Characters of a cluster's name: what Azure takes.
pub const CLUSTER_NAME_MAX: usize = 63;

/// Characters of a resource group's name: what Azure takes.
pub const RESOURCE_GROUP_MAX: usize = 90;

/// Bytes of a resource id: the longest valid one has 276.
pub const RESOURCE_ID_MAX: usize = 320;

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

/// Bytes of a request body in each second of such a stretch, on average.
pub const BODY_RATE: u64 = 256;

/// How long a caller may take no byte of a response that waits for it.
pub const SLOW_READER_TIMEOUT: Duration = Duration::from_secs(120);

/// An upgraded connection without traffic: the kubelet's own figure.
pub const UPGRADED_IDLE_TIMEOUT: Duration = Duration::from_secs(4 * 3600);

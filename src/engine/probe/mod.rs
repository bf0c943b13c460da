//! Measuring a live tunnel, from the client proxy to the auth proxy and back: both ends of a session
//! with ALPN `cluster-connect-bench/1`, after whoever measures has shown a bearer. Nothing of it
//! goes upstream.
//!
//! [`Near`] says what happens and keeps the time, [`Far`] obeys within an [`Allowance`]; a
//! [`Report`] is what comes of it. Both work on the streams of a [`Tunnel`](super::tunnel::Tunnel).

mod allowance;
mod far;
mod near;
mod plan;
mod report;

pub use allowance::Allowance;
pub use far::Far;
pub use near::{Near, News};
pub use plan::{Plan, Stretch};
pub use report::{Report, RoundTrips, Transfer};

use crate::buf::{Pool, Slice};
use crate::limits::PROBE_PIECE;

/// What is moved: nothing of anybody's.
fn zeros(pool: &Pool) -> Slice {
    let mut lease = pool.lease_beyond();
    let len = PROBE_PIECE.min(lease.spare());
    lease.fill(&vec![0; len]);
    lease.freeze()
}

//! Memory of the data path: a pool of equal buffers, leases on it, and queues of leased bytes.
//!
//! A buffer lives and dies on the thread of its event loop; nothing here is `Send`.

mod outbox;
mod pool;

pub use outbox::{Outbox, Pressure, Record};
pub use pool::{Lease, Pool, Slice};

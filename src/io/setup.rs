//! What a loop is made of, beside its role.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::Waker;

use super::audit::AuditSink;
use super::workers::Journal;

/// How large a loop may become.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections, accepted and made together.
    pub conns: usize,
    /// Buffers in use at a time, of [`BUFFER_SIZE`] bytes.
    pub buffers: usize,
    /// Buffers kept when nobody uses them.
    pub keep: usize,
}

/// What a loop has beside its role.
#[expect(missing_debug_implementations, reason = "a journal is a function")]
pub struct Setup {
    /// How large it may become.
    pub limits: Limits,
    /// Where audit lines go.
    pub audit: AuditSink,
    /// Where records go, for a role that has any.
    pub journal: Option<Journal>,
    /// What is to be done from time to time.
    pub chore: Option<Chore>,
}

/// Something short that a process does for itself: read a certificate again, make a new one. Done
/// on SIGHUP, too.
#[expect(missing_debug_implementations, reason = "what is done is a function")]
pub struct Chore {
    /// How often.
    pub every: Duration,
    /// What.
    pub act: Box<dyn FnMut()>,
}

/// Stops a loop from another thread, as SIGTERM would.
#[derive(Clone, Debug)]
pub struct Stopper {
    pub(super) asked: Arc<AtomicBool>,
    pub(super) waker: Arc<Waker>,
}

impl Stopper {
    /// Asks the loop to stop.
    pub fn stop(&self) {
        self.asked.store(true, Ordering::Release);
        // A loop that is gone has stopped.
        let _ = self.waker.wake();
    }
}

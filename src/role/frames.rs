//! Bytes and WebSocket frames from a role to a connection.

use super::{ConnId, Net};
use crate::buf::Slice;
use crate::engine::ws::{self, Step};
use crate::wire::ws::Opcode;

/// Queues `bytes`.
pub(super) fn write(net: &mut dyn Net, conn: ConnId, bytes: &[u8]) {
    let pool = net.pool().clone();
    for slice in pool.slices(bytes) {
        let _ = net.send(conn, slice);
    }
}

/// Sends to `to` what `steps` say: heads and an unmasked Close from one small buffer, everything
/// else from where it lies in `data`. Pings are the caller's.
pub(super) fn send_steps(to: ConnId, mut data: Slice, steps: &[Step], net: &mut dyn Net) {
    let mut small = small_parts(steps, net);
    let mut at = 0;
    for step in steps {
        let slice = match (step, &mut small) {
            (Step::Bytes(range), _) => {
                data.advance(range.start - at);
                at = range.end;
                data.split_to(range.len())
            }
            (Step::Head(head), Some(small)) => small.split_to(head.len()),
            (Step::Close(payload), Some(small)) => small.split_to(2 + payload.len()),
            (Step::Ping(_) | Step::Head(_) | Step::Close(_), _) => continue,
        };
        let _ = net.send(to, slice);
    }
}

/// The heads and the Close of `steps`, one after another.
fn small_parts(steps: &[Step], net: &dyn Net) -> Option<Slice> {
    if !steps.iter().any(|step| matches!(step, Step::Head(_) | Step::Close(_))) {
        return None;
    }
    let mut lease = net.pool().lease_beyond();
    for step in steps {
        let left = match step {
            Step::Head(head) => head.len() - lease.fill(head),
            Step::Close(payload) => {
                let frame = ws::frame(Opcode::Close, None, payload);
                frame.len() - lease.fill(&frame)
            }
            Step::Bytes(_) | Step::Ping(_) => 0,
        };
        assert_eq!(left, 0, "a buffer holds the heads of a buffer's frames");
    }
    Some(lease.freeze())
}

/// Sends to `to` the bytes of `data` that `steps` name, and nothing else.
pub(super) fn send_payload(to: ConnId, mut data: Slice, steps: &[Step], net: &mut dyn Net) {
    let mut at = 0;
    for step in steps {
        if let Step::Bytes(range) = step {
            data.advance(range.start - at);
            at = range.end;
            let _ = net.send(to, data.split_to(range.len()));
        }
    }
}

/// Masking keys, drawn many at a time.
#[derive(Debug, Default)]
pub(super) struct Keys {
    fresh: Vec<[u8; 4]>,
}

impl Keys {
    /// A key that was not used before.
    pub(super) fn draw(&mut self, net: &mut dyn Net) -> [u8; 4] {
        if let Some(key) = self.fresh.pop() {
            return key;
        }
        let mut bytes = [0; 4 * BATCH];
        net.random(&mut bytes);
        self.fresh.extend(bytes.as_chunks::<4>().0);
        self.fresh.pop().unwrap_or_default()
    }
}

const BATCH: usize = 64;

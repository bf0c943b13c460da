//! Bytes and WebSocket frames from a role to a connection.

use super::{ConnId, Net};
use crate::buf::Slice;
use crate::engine::ws::{self, Step};
use crate::wire::ws::Opcode;

/// Queues `bytes`. Whether there were buffers for all of it.
pub(super) fn write(net: &mut dyn Net, conn: ConnId, bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some(mut lease) = net.lease() else { return false };
        let (_, after) = rest.split_at(lease.fill(rest));
        rest = after;
        let _ = net.send(conn, lease.freeze());
    }
    true
}

/// Sends to `to` what `steps` say: heads and an unmasked Close from one small buffer, everything
/// else from where it lies in `data`. Pings are the caller's. `false`, and nothing sent, when there
/// is no such buffer.
pub(super) fn send_steps(to: ConnId, mut data: Slice, steps: &[Step], net: &mut dyn Net) -> bool {
    let mut small = None;
    if steps.iter().any(|step| matches!(step, Step::Head(_) | Step::Close(_))) {
        let Some(mut lease) = net.lease() else { return false };
        for step in steps {
            let len = match step {
                Step::Head(head) => head.len() - lease.fill(head),
                Step::Close(payload) => {
                    let frame = ws::frame(Opcode::Close, None, payload);
                    frame.len() - lease.fill(&frame)
                }
                Step::Bytes(_) | Step::Ping(_) => 0,
            };
            assert_eq!(len, 0, "a buffer holds the heads of a buffer's frames");
        }
        small = Some(lease.freeze());
    }
    let mut at = 0;
    for step in steps {
        let slice = match (step, &mut small) {
            (Step::Bytes(range), _) => {
                let _ = data.split_to(range.start - at);
                at = range.end;
                data.split_to(range.len())
            }
            (Step::Head(head), Some(small)) => small.split_to(head.len()),
            (Step::Close(payload), Some(small)) => small.split_to(2 + payload.len()),
            (Step::Ping(_) | Step::Head(_) | Step::Close(_), _) => continue,
        };
        let _ = net.send(to, slice);
    }
    true
}

/// Sends to `to` the bytes of `data` that `steps` name, and nothing else.
pub(super) fn send_payload(to: ConnId, mut data: Slice, steps: &[Step], net: &mut dyn Net) {
    let mut at = 0;
    for step in steps {
        if let Step::Bytes(range) = step {
            let _ = data.split_to(range.start - at);
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

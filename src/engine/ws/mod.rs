//! WebSocket after the handshake (RFC 6455), at the level of frames.
//!
//! [`Connection`] reads frames and enforces the rules; it assembles no message, answers nothing
//! and closes nothing by itself, because a relayed Close is the other end's to answer.
//! [`Splice`] passes data frames on within the buffer they arrived in; [`Messages`] assembles
//! whole messages, for control channels.

mod connection;
mod messages;
mod splice;

pub use connection::{Connection, Control, Item, Side, Violation};
pub use messages::{Message, Messages};
pub use splice::{FORWARD_MAX, Splice, Step, frame_behind_head, frame_up};

use crate::wire::ws::{Head, Opcode, close_payload, mask};

/// One whole, unfragmented frame, masked when there is a `key`. For control frames and commands;
/// bulk data is framed in place by [`frame_behind_head`], [`frame_up`] and [`Splice`].
#[must_use]
pub fn frame(opcode: Opcode, key: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(crate::wire::ws::HEAD_MAX + payload.len());
    push_frame(&mut bytes, opcode, true, key, payload);
    bytes
}

/// A Close with `code` and as much of `reason` as fits.
#[must_use]
pub fn close(code: u16, reason: &str, key: Option<[u8; 4]>) -> Vec<u8> {
    frame(Opcode::Close, key, &close_payload(code, reason))
}

/// Appends one frame to `out`.
pub fn push_frame(
    out: &mut Vec<u8>,
    opcode: Opcode,
    fin: bool,
    key: Option<[u8; 4]>,
    payload: &[u8],
) {
    out.extend_from_slice(&Head::new(opcode, fin, key, payload.len() as u64).encode());
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = key {
        mask(&mut out[start..], key, 0);
    }
}

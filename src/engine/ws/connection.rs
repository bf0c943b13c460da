//! Frames out of bytes, with every rule of RFC 6455 that does not need a whole message.

use std::fmt;
use std::ops::Deref;

use crate::wire::ws::{CONTROL_MAX, HEAD_MAX, Head, Opcode, UnknownOpcode, mask};

/// Which end we are. Clients mask what they send, servers do not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// We dialled.
    Client,
    /// We were dialled.
    Server,
}

/// The receiving half of one connection.
#[derive(Debug)]
pub struct Connection {
    side: Side,
    /// A head that came in pieces.
    partial: Partial,
    frame: Option<Reading>,
    control: Control,
    /// A message has begun and not ended: only a continuation may follow.
    in_message: bool,
    closed: bool,
}

/// What [`Connection::read`] found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Item {
    /// A data frame begins. With `len` 0 it also ends here.
    Frame {
        /// Text, binary or continuation.
        opcode: Opcode,
        /// The frame ends its message.
        fin: bool,
        /// Payload bytes to come.
        len: u64,
    },
    /// The bytes just consumed are payload of the current frame, unmasked in place.
    Payload {
        /// They end the frame.
        end: bool,
    },
    /// To be answered with a pong.
    Ping(Control),
    /// A sign of life.
    Pong(Control),
    /// The peer sends nothing more. What it still sends is skipped.
    Close(Control),
}

/// The payload of a control frame.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Control {
    bytes: [u8; CONTROL_MAX],
    len: usize,
}

/// Which rule the peer has broken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Violation {
    /// A reserved bit is set, and no extension was agreed on.
    ReservedBits,
    /// The opcode does not exist.
    UnknownOpcode,
    /// A client's frame is not masked.
    Unmasked,
    /// A server's frame is masked.
    Masked,
    /// A control frame has more than 125 bytes.
    LongControl,
    /// A control frame is a fragment.
    FragmentedControl,
    /// A continuation continues nothing.
    OrphanContinuation,
    /// A message begins before the one before it has ended.
    InterleavedMessage,
    /// The length is not in its shortest form, or has its highest bit set.
    Length,
    /// The payload of a Close is one byte.
    ShortClose,
    /// A text message is not UTF-8.
    NotUtf8,
    /// A message is longer than this end takes.
    TooBig,
}

#[derive(Debug)]
struct Partial {
    bytes: [u8; HEAD_MAX],
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    head: Head,
    done: u64,
}

impl Connection {
    /// A connection on which nothing has been read.
    #[must_use]
    pub const fn new(side: Side) -> Self {
        Self {
            side,
            partial: Partial { bytes: [0; HEAD_MAX], len: 0 },
            frame: None,
            control: Control::EMPTY,
            in_message: false,
            closed: false,
        }
    }

    /// Consumes the front of `input` up to and including the next item, and returns how many bytes
    /// that was. `None`: all of `input` is consumed, and there is no further item in it.
    ///
    /// # Errors
    ///
    /// The rule that the peer has broken. The connection must not be read any more.
    pub fn read(&mut self, input: &mut [u8]) -> Result<Option<(usize, Item)>, Violation> {
        if self.closed {
            return Ok(None);
        }
        let mut used = 0;
        if self.frame.is_none() {
            let Some((taken, head)) = self.read_head(input)? else { return Ok(None) };
            used = taken;
            self.check(&head)?;
            if let Some(item) = self.begin(head) {
                return Ok(Some((used, item)));
            }
        }
        let rest = input.get_mut(used..).unwrap_or_default();
        Ok(self.read_payload(rest).map(|(taken, item)| (used + taken, item)))
    }

    /// The peer has sent its Close.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    fn read_head(&mut self, input: &[u8]) -> Result<Option<(usize, Head)>, Violation> {
        if self.partial.len == 0
            && let Some((head, len)) = Head::parse(input)?
        {
            check_length(&head, len)?;
            return Ok(Some((len, head)));
        }
        let before = self.partial.len;
        let room = self.partial.bytes.get_mut(before..).unwrap_or_default();
        let count = room.len().min(input.len());
        room[..count].copy_from_slice(&input[..count]);
        self.partial.len = before + count;
        let Some((head, len)) = Head::parse(&self.partial.bytes[..self.partial.len])? else {
            return Ok(None);
        };
        check_length(&head, len)?;
        self.partial.len = 0;
        Ok(Some((len - before, head)))
    }

    fn check(&self, head: &Head) -> Result<(), Violation> {
        if head.reserved {
            return Err(Violation::ReservedBits);
        }
        match (self.side, head.key) {
            (Side::Server, None) => return Err(Violation::Unmasked),
            (Side::Client, Some(_)) => return Err(Violation::Masked),
            (Side::Server, Some(_)) | (Side::Client, None) => (),
        }
        match head.opcode {
            Opcode::Close | Opcode::Ping | Opcode::Pong => {
                if !head.fin {
                    return Err(Violation::FragmentedControl);
                }
                if head.len > CONTROL_MAX as u64 {
                    return Err(Violation::LongControl);
                }
                if head.opcode == Opcode::Close && head.len == 1 {
                    return Err(Violation::ShortClose);
                }
            }
            Opcode::Continuation if !self.in_message => return Err(Violation::OrphanContinuation),
            Opcode::Text | Opcode::Binary if self.in_message => {
                return Err(Violation::InterleavedMessage);
            }
            Opcode::Continuation | Opcode::Text | Opcode::Binary => (),
        }
        Ok(())
    }

    /// Takes note of a head; gives the item when it is complete with that.
    fn begin(&mut self, head: Head) -> Option<Item> {
        if head.opcode.is_control() {
            self.control.len = 0;
            if head.len == 0 {
                return Some(self.end_control(head.opcode));
            }
            self.frame = Some(Reading { head, done: 0 });
            return None;
        }
        self.in_message = !head.fin;
        if head.len > 0 {
            self.frame = Some(Reading { head, done: 0 });
        }
        Some(Item::Frame { opcode: head.opcode, fin: head.fin, len: head.len })
    }

    fn read_payload(&mut self, input: &mut [u8]) -> Option<(usize, Item)> {
        let reading = self.frame.as_mut()?;
        if input.is_empty() {
            return None;
        }
        let left = usize::try_from(reading.head.len - reading.done).unwrap_or(usize::MAX);
        let count = left.min(input.len());
        let payload = &mut input[..count];
        if let Some(key) = reading.head.key {
            mask(payload, key, usize::try_from(reading.done % 4).expect("below 4"));
        }
        reading.done += count as u64;
        let Head { opcode, .. } = reading.head;
        let end = count == left;
        if end {
            self.frame = None;
        }
        if !opcode.is_control() {
            return Some((count, Item::Payload { end }));
        }
        self.control.extend(payload);
        end.then(|| (count, self.end_control(opcode)))
    }

    fn end_control(&mut self, opcode: Opcode) -> Item {
        match opcode {
            Opcode::Ping => Item::Ping(self.control),
            Opcode::Close => {
                self.closed = true;
                Item::Close(self.control)
            }
            Opcode::Pong | Opcode::Continuation | Opcode::Text | Opcode::Binary => {
                Item::Pong(self.control)
            }
        }
    }
}

impl Control {
    const EMPTY: Self = Self { bytes: [0; CONTROL_MAX], len: 0 };

    fn extend(&mut self, more: &[u8]) {
        let room = self.bytes.get_mut(self.len..).unwrap_or_default();
        for (to, from) in room.iter_mut().zip(more) {
            *to = *from;
            self.len += 1;
        }
    }
}

impl Deref for Control {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Control({} bytes)", self.len)
    }
}

impl Violation {
    /// The code of the Close that tells the peer (RFC 6455, 7.4.1).
    #[must_use]
    pub const fn close_code(self) -> u16 {
        match self {
            Self::NotUtf8 => 1007,
            Self::TooBig => 1009,
            Self::ReservedBits
            | Self::UnknownOpcode
            | Self::Unmasked
            | Self::Masked
            | Self::LongControl
            | Self::FragmentedControl
            | Self::OrphanContinuation
            | Self::InterleavedMessage
            | Self::Length
            | Self::ShortClose => 1002,
        }
    }
}

impl From<UnknownOpcode> for Violation {
    fn from(_: UnknownOpcode) -> Self {
        Self::UnknownOpcode
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReservedBits => "reserved bits are set",
            Self::UnknownOpcode => "unknown opcode",
            Self::Unmasked => "frame of a client is not masked",
            Self::Masked => "frame of a server is masked",
            Self::LongControl => "control frame is longer than 125 bytes",
            Self::FragmentedControl => "control frame is fragmented",
            Self::OrphanContinuation => "continuation without a message",
            Self::InterleavedMessage => "message within a message",
            Self::Length => "payload length is malformed",
            Self::ShortClose => "payload of the close frame is one byte",
            Self::NotUtf8 => "text is not utf-8",
            Self::TooBig => "message is too big",
        })
    }
}

impl std::error::Error for Violation {}

fn check_length(head: &Head, head_len: usize) -> Result<(), Violation> {
    let shortest = match head.len {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    };
    let key = if head.key.is_some() { 4 } else { 0 };
    if head_len != shortest + key || head.len > u64::MAX / 2 {
        return Err(Violation::Length);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ws::push_frame;

    const KEY: Option<[u8; 4]> = Some([0x11, 0x22, 0x33, 0x44]);

    /// Items of `bytes` fed in the given pieces, payload pieces of one frame joined.
    fn items(side: Side, pieces: &[&[u8]]) -> Result<Vec<(Item, Vec<u8>)>, Violation> {
        let mut connection = Connection::new(side);
        let mut found: Vec<(Item, Vec<u8>)> = Vec::new();
        for piece in pieces {
            let mut piece = piece.to_vec();
            let mut at = 0;
            while let Some((count, item)) = connection.read(&mut piece[at..])? {
                if let Item::Payload { .. } = item {
                    found.last_mut().unwrap().1.extend_from_slice(&piece[at..at + count]);
                } else {
                    found.push((item, Vec::new()));
                }
                at += count;
            }
        }
        Ok(found)
    }

    fn sample(key: Option<[u8; 4]>) -> Vec<u8> {
        let mut bytes = Vec::new();
        push_frame(&mut bytes, Opcode::Text, false, key, b"Hel");
        push_frame(&mut bytes, Opcode::Ping, true, key, b"ping");
        push_frame(&mut bytes, Opcode::Continuation, true, key, b"lo");
        push_frame(&mut bytes, Opcode::Binary, true, key, &[]);
        push_frame(&mut bytes, Opcode::Binary, true, key, &[5; 300]);
        push_frame(&mut bytes, Opcode::Pong, true, key, &[]);
        push_frame(&mut bytes, Opcode::Close, true, key, &[0x03, 0xe8, b'x']);
        bytes
    }

    #[test]
    fn every_cut_gives_the_same_items() {
        for (side, key) in [(Side::Server, KEY), (Side::Client, None)] {
            let bytes = sample(key);
            let whole = items(side, &[&bytes]).unwrap();
            assert_eq!(whole.len(), 7);
            assert_eq!(whole[0].1, b"Hel");
            assert_eq!(whole[4].1, [5; 300]);
            for cut in 0..bytes.len() {
                let (head, tail) = bytes.split_at(cut);
                assert_eq!(items(side, &[head, tail]).unwrap(), whole, "cut at {cut}");
            }
            let bytewise: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(items(side, &bytewise).unwrap(), whole);
        }
    }

    #[test]
    fn what_follows_a_close_is_skipped() {
        let mut bytes = sample(KEY);
        bytes.extend_from_slice(&[0xff; 100]);
        assert_eq!(items(Side::Server, &[&bytes]).unwrap().len(), 7);
    }

    #[test]
    fn every_broken_rule_has_its_name() {
        let masked = |first: u8, second: u8| vec![first, 0x80 | second, 0, 0, 0, 0];
        let long = |len: &[u8]| {
            [&[0x82, 0x80 | if len.len() == 2 { 126 } else { 127 }], len, &[0; 4]].concat()
        };
        let cases: [(Vec<u8>, Violation); 14] = [
            (masked(0xc2, 0), Violation::ReservedBits),
            (masked(0xa2, 0), Violation::ReservedBits),
            (masked(0x92, 0), Violation::ReservedBits),
            (masked(0x83, 0), Violation::UnknownOpcode),
            (masked(0x8b, 0), Violation::UnknownOpcode),
            (vec![0x82, 0], Violation::Unmasked),
            ([&[0x89, 0xfe, 0, 126], &[0; 4][..]].concat(), Violation::LongControl),
            (masked(0x09, 0), Violation::FragmentedControl),
            (masked(0x80, 0), Violation::OrphanContinuation),
            ([masked(0x01, 0), masked(0x82, 0)].concat(), Violation::InterleavedMessage),
            (long(&[0, 125]), Violation::Length),
            (long(&[0, 0, 0, 0, 0, 0, 0xff, 0xff]), Violation::Length),
            (long(&[0x80, 0, 0, 0, 0, 0, 0, 0]), Violation::Length),
            (masked(0x88, 1), Violation::ShortClose),
        ];
        for (bytes, violation) in cases {
            assert_eq!(items(Side::Server, &[&bytes]), Err(violation), "{bytes:02x?}");
            let bytewise: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(items(Side::Server, &bytewise), Err(violation), "{bytes:02x?} bytewise");
        }
        assert_eq!(items(Side::Client, &[&masked(0x82, 0)]), Err(Violation::Masked));
    }
}

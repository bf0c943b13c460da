//! The yamux frame header, as its published specification has it (version 0).
//!
//! ```text
//!  0        1        2                 4                         8                        12
//! +--------+--------+-----------------+-------------------------+------------------------+-----
//! | 0      | kind   | flags           | stream id               | length                 | data
//! +--------+--------+-----------------+-------------------------+------------------------+-----
//! ```
//!
//! All numbers are big endian. `length` is the length of the data, the bytes of credit granted, an
//! opaque ping value, or a go-away code, by kind.

use std::fmt;
use std::ops::BitOr;

use crate::limits::MUX_HEADER;

/// Names one stream of a session. The side that dialled opens odd ids, the other even ones; 0 is
/// the session itself.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StreamId(pub u32);

/// What a frame is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Kind {
    /// `length` bytes of the stream follow.
    Data = 0,
    /// The peer may send `length` bytes more.
    WindowUpdate = 1,
    /// With [`Flags::SYN`] a question, with [`Flags::ACK`] its answer; `length` is the same.
    Ping = 2,
    /// No new streams, please; `length` says why.
    GoAway = 3,
}

/// In the value of a ping: its sender receives much, and who shares the session with that has waited
/// too long for too long. Ours, not yamux's: to a peer that does not know it, it is a
/// value as any other.
pub const CROWDED: u32 = 1 << 31;

/// What a frame does beside its kind.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Flags(pub u16);

/// The twelve bytes of a frame before its data.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// What the frame is for.
    pub kind: Kind,
    /// What it does besides.
    pub flags: Flags,
    /// Which stream it is about.
    pub stream: StreamId,
    /// See [`Kind`].
    pub length: u32,
}

/// Twelve bytes that are no header of this protocol: the session ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Malformed {
    /// A version other than 0.
    Version(u8),
    /// No such [`Kind`].
    Kind(u8),
    /// A flag that does not exist.
    Flags(u16),
}

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// The first frame of a stream, or a ping.
    pub const SYN: Self = Self(1);
    /// The first frame back, or a ping's answer.
    pub const ACK: Self = Self(2);
    /// The sender has no more data.
    pub const FIN: Self = Self(4);
    /// The stream is gone both ways.
    pub const RST: Self = Self(8);

    /// All flags of `other` are set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Header {
    /// The header's bytes.
    #[must_use]
    pub fn encode(self) -> [u8; MUX_HEADER] {
        let [f0, f1] = self.flags.0.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.0.to_be_bytes();
        let [l0, l1, l2, l3] = self.length.to_be_bytes();
        [0, self.kind as u8, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3]
    }

    /// The header in `bytes`.
    ///
    /// # Errors
    ///
    /// [`Malformed`] names the field that cannot be.
    pub fn decode(bytes: [u8; MUX_HEADER]) -> Result<Self, Malformed> {
        let [version, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3] = bytes;
        if version != 0 {
            return Err(Malformed::Version(version));
        }
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::WindowUpdate,
            2 => Kind::Ping,
            3 => Kind::GoAway,
            other => return Err(Malformed::Kind(other)),
        };
        let flags = u16::from_be_bytes([f0, f1]);
        if 0xf < flags {
            return Err(Malformed::Flags(flags));
        }
        Ok(Self {
            kind,
            flags: Flags(flags),
            stream: StreamId(u32::from_be_bytes([s0, s1, s2, s3])),
            length: u32::from_be_bytes([l0, l1, l2, l3]),
        })
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "unknown mux version {version}"),
            Self::Kind(kind) => write!(f, "unknown mux frame kind {kind}"),
            Self::Flags(flags) => write!(f, "unknown mux flags {flags:#06x}"),
        }
    }
}

impl std::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let header = Header {
            kind: Kind::WindowUpdate,
            flags: Flags::SYN | Flags::FIN,
            stream: StreamId(0x0102_0304),
            length: 0x0a0b_0c0d,
        };
        assert_eq!(header.encode(), [0, 1, 0, 5, 1, 2, 3, 4, 10, 11, 12, 13]);
        assert_eq!(Header::decode(header.encode()), Ok(header));
    }

    #[test]
    fn every_malformation_has_its_name() {
        let good = [0u8, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0];
        let with = |at: usize, value: u8| {
            let mut bytes = good;
            bytes[at] = value;
            Header::decode(bytes)
        };
        assert_eq!(with(0, 1), Err(Malformed::Version(1)));
        assert_eq!(with(1, 4), Err(Malformed::Kind(4)));
        assert_eq!(with(2, 1), Err(Malformed::Flags(0x101)));
        assert_eq!(with(3, 16), Err(Malformed::Flags(16)));
    }
}

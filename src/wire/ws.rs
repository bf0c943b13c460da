//! RFC 6455 frame heads (5.2), masking in place, and the payload of a Close.
//!
//! tungstenite is the judge of these in tests, and not here: its generator of masks, which nothing
//! here would call, brings a second `getrandom` beside ring's.

use std::fmt;
use std::ops::Deref;

/// Bytes of the longest head: 64-bit length and a mask.
pub const HEAD_MAX: usize = 14;

/// Bytes of the longest control payload (RFC 6455, 5.5).
pub const CONTROL_MAX: usize = 125;

/// Of a head's first byte: the frame ends its message, bits that are zero, and what it is.
const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;

/// Of its second byte: a key follows, and the length, or where it is: in 16 or 64 bits behind.
const MASKED: u8 = 0x80;
const LEN: u8 = 0x7f;
const LEN_U16: u8 = 126;
const LEN_U64: u8 = 127;

/// What a frame is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Opcode {
    /// More of the message begun before.
    Continuation,
    /// Begins a text message.
    Text,
    /// Begins a binary message.
    Binary,
    /// The peer will send nothing after this.
    Close,
    /// Asks for a pong with the same payload.
    Ping,
    /// Answers a ping, or only says that the peer lives.
    Pong,
}

/// The head of one frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Head {
    /// What the frame is.
    pub opcode: Opcode,
    /// The frame ends its message.
    pub fin: bool,
    /// One of the reserved bits is set. Never written.
    pub reserved: bool,
    /// The masking key, in the client's direction.
    pub key: Option<[u8; 4]>,
    /// Bytes of payload.
    pub len: u64,
}

/// The encoded form of a [`Head`].
#[derive(Clone, Copy)]
pub struct HeadBytes {
    bytes: [u8; HEAD_MAX],
    len: usize,
}

/// The opcode is one of those that RFC 6455 keeps for later.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UnknownOpcode;

impl Opcode {
    /// Close, ping and pong: short, whole, and allowed between the fragments of a message.
    #[must_use]
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    const fn decode(bits: u8) -> Result<Self, UnknownOpcode> {
        match bits {
            0x0 => Ok(Self::Continuation),
            0x1 => Ok(Self::Text),
            0x2 => Ok(Self::Binary),
            0x8 => Ok(Self::Close),
            0x9 => Ok(Self::Ping),
            0xa => Ok(Self::Pong),
            _ => Err(UnknownOpcode),
        }
    }

    const fn encode(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xa,
        }
    }
}

impl Head {
    /// A head without reserved bits.
    #[must_use]
    pub const fn new(opcode: Opcode, fin: bool, key: Option<[u8; 4]>, len: u64) -> Self {
        Self { opcode, fin, reserved: false, key, len }
    }

    /// The head at the front of `bytes` and its own length. `None` asks for more bytes; nothing
    /// has been consumed then.
    ///
    /// # Errors
    ///
    /// [`UnknownOpcode`]. The other rules of RFC 6455 are the state machine's to enforce.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, UnknownOpcode> {
        let Some((&[first, second], rest)) = bytes.split_first_chunk() else { return Ok(None) };
        let opcode = Opcode::decode(first & OPCODE)?;
        let extended = match second & LEN {
            LEN_U16 => {
                rest.split_first_chunk().map(|(len, rest)| (u16::from_be_bytes(*len).into(), rest))
            }
            LEN_U64 => rest.split_first_chunk().map(|(len, rest)| (u64::from_be_bytes(*len), rest)),
            len => Some((len.into(), rest)),
        };
        let Some((len, mut rest)) = extended else { return Ok(None) };
        let mut key = None;
        if second & MASKED != 0 {
            let Some((bytes, behind)) = rest.split_first_chunk() else { return Ok(None) };
            (key, rest) = (Some(*bytes), behind);
        }
        let (fin, reserved) = (first & FIN != 0, first & RESERVED != 0);
        Ok(Some((Self { opcode, fin, reserved, key, len }, bytes.len() - rest.len())))
    }

    /// The shortest encoding, which is the only one allowed. A masked head for 126 to 65,535 bytes
    /// takes eight bytes, so that the payload after it stays aligned.
    #[must_use]
    pub fn encode(&self) -> HeadBytes {
        let mut head = HeadBytes { bytes: [0; HEAD_MAX], len: 0 };
        let masked = if self.key.is_some() { MASKED } else { 0 };
        let fin = if self.fin { FIN } else { 0 };
        head.push([fin | self.opcode.encode()]);
        match (u8::try_from(self.len), u16::try_from(self.len)) {
            (Ok(len @ ..LEN_U16), _) => head.push([masked | len]),
            (_, Ok(len)) => {
                head.push([masked | LEN_U16]);
                head.push(len.to_be_bytes());
            }
            _ => {
                head.push([masked | LEN_U64]);
                head.push(self.len.to_be_bytes());
            }
        }
        if let Some(key) = self.key {
            head.push(key);
        }
        head
    }
}

impl HeadBytes {
    fn push<const N: usize>(&mut self, bytes: [u8; N]) {
        self.bytes[self.len..self.len + N].copy_from_slice(&bytes);
        self.len += N;
    }
}

/// Masks or unmasks `payload`, whose first byte is number `offset` of its frame.
pub fn mask(payload: &mut [u8], mut key: [u8; 4], offset: usize) {
    key.rotate_left(offset % 4);
    let word = u64::from(u32::from_ne_bytes(key));
    let word = word | word << 32;
    let turn = |bytes: &mut [u8; 8]| *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    let (words, tail) = payload.as_chunks_mut::<8>();
    // Twice as fast as one by one, and code that is made for size unrolls no loop by itself.
    let (fours, rest) = words.as_chunks_mut::<4>();
    for [first, second, third, fourth] in fours {
        turn(first);
        turn(second);
        turn(third);
        turn(fourth);
    }
    rest.iter_mut().for_each(turn);
    for (byte, key) in tail.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

/// The payload of a Close: `code`, and as much of `reason` as fits, cut between characters. A
/// longer one makes some peers break the connection instead of closing it.
#[must_use]
pub fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    let end = reason.floor_char_boundary(CONTROL_MAX - 2);
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(&reason.as_bytes()[..end]);
    payload
}

/// Code and reason of the payload of a Close; `None` when it has none.
#[must_use]
pub fn close_reason(payload: &[u8]) -> Option<(u16, String)> {
    let (code, reason) = payload.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*code), String::from_utf8_lossy(reason).into_owned()))
}

impl Deref for HeadBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl fmt::Debug for HeadBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeadBytes({:02x?})", &**self)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tungstenite::protocol::frame::FrameHeader;

    use super::*;

    #[test]
    fn tungstenite_reads_and_writes_the_same_heads() {
        let lengths: [&[u8]; 9] = [
            &[0],
            &[125],
            &[126, 0, 125],
            &[126, 0, 126],
            &[126, 255, 255],
            &[127, 0, 0, 0, 0, 0, 0, 255, 255],
            &[127, 0, 0, 0, 0, 0, 1, 0, 0],
            &[127, 127, 255, 255, 255, 255, 255, 255, 255],
            &[127, 255, 255, 255, 255, 255, 255, 255, 255],
        ];
        for (first, len, masked) in (0..=255u8)
            .flat_map(|first| lengths.map(|len| (first, len)))
            .flat_map(|(first, len)| [(first, len, false), (first, len, true)])
        {
            let mut bytes = vec![first];
            bytes.extend(len);
            if masked {
                bytes[1] |= MASKED;
                bytes.extend([1, 2, 3, 4]);
            }
            let whole = bytes.len();
            bytes.extend([0xaa; 3]);
            for cut in 0..=bytes.len() {
                let mut cursor = Cursor::new(&bytes[..cut]);
                let ours = Head::parse(&bytes[..cut]);
                let Ok(theirs) = FrameHeader::parse(&mut cursor) else {
                    assert_eq!(ours, Err(UnknownOpcode), "{bytes:02x?} cut at {cut}");
                    continue;
                };
                let Some((header, len)) = theirs else {
                    // Ours refuses as soon as it has seen the opcode.
                    assert!(matches!(ours, Ok(None) | Err(UnknownOpcode)), "{bytes:02x?}");
                    continue;
                };
                let (head, head_len) = ours.expect("theirs is a head").expect("and whole");
                assert_eq!(head_len, whole);
                assert_eq!((head.fin, head.key, head.len), (header.is_final, header.mask, len));
                assert_eq!(head.reserved, header.rsv1 || header.rsv2 || header.rsv3);
                let mut written = Vec::new();
                let plain = FrameHeader { rsv1: false, rsv2: false, rsv3: false, ..header };
                plain.format(len, &mut written).expect("into memory");
                assert_eq!(*head.encode(), *written);
            }
        }
    }

    #[test]
    fn masking_in_pieces_equals_masking_at_once() {
        let key = [1, 2, 3, 4];
        let plain: Vec<u8> = (0..64).collect();
        let expected: Vec<u8> = plain.iter().enumerate().map(|(i, b)| b ^ key[i % 4]).collect();
        for cut in 0..plain.len() {
            let mut bytes = plain.clone();
            let (head, tail) = bytes.split_at_mut(cut);
            mask(head, key, 0);
            mask(tail, key, cut);
            assert_eq!(bytes, expected, "cut at {cut}");
        }
    }

    #[test]
    fn an_incomplete_head_consumes_nothing() {
        let whole = [0x82, 0xfe, 0x01, 0x00, 9, 9, 9, 9];
        for len in 0..whole.len() {
            assert!(Head::parse(&whole[..len]).unwrap().is_none(), "{len} bytes");
        }
        let (head, head_len) = Head::parse(&whole).unwrap().unwrap();
        assert_eq!((head.key, head_len, head.len), (Some([9; 4]), 8, 256));
    }

    #[test]
    fn heads_come_back_as_they_were_written() {
        let opcodes = [Opcode::Continuation, Opcode::Text, Opcode::Binary, Opcode::Ping];
        for len in [0, 1, 125, 126, 16_376, 65_535, 65_536, u64::MAX / 2] {
            for (opcode, key) in opcodes.into_iter().zip([None, Some([7; 4])].into_iter().cycle()) {
                let head = Head::new(opcode, len % 2 == 0, key, len);
                let bytes = head.encode();
                assert_eq!(Head::parse(&bytes).unwrap(), Some((head, bytes.len())));
            }
        }
    }

    #[test]
    fn the_head_of_a_full_client_frame_keeps_the_payload_aligned() {
        let head = Head::new(Opcode::Binary, true, Some([1; 4]), 16_376).encode();
        assert_eq!(head.len(), crate::limits::WS_HEAD);
    }

    #[test]
    fn reserved_opcodes_are_refused() {
        for code in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            assert_eq!(Head::parse(&[0x80 | code, 0]), Err(UnknownOpcode), "opcode {code}");
        }
    }

    #[test]
    fn a_long_close_reason_is_cut_between_characters() {
        let payload = close_payload(1008, &"é".repeat(100));
        assert_eq!(payload.len(), 2 + 122);
        assert_eq!(close_reason(&payload), Some((1008, "é".repeat(61))));
        assert_eq!(close_reason(&[]), None);
    }
}

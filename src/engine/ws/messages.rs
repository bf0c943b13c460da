//! Whole messages under a size limit, for control channels.

use super::connection::{Connection, Control, Item, Side, Violation};
use crate::wire::ws::Opcode;

/// Assembles messages.
#[derive(Debug)]
pub struct Messages {
    frames: Connection,
    text_limit: usize,
    binary_limit: usize,
    text: bool,
    fin: bool,
    partial: Vec<u8>,
}

/// What a control channel carries.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Message {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// To be answered with a pong.
    Ping(Control),
    /// A sign of life.
    Pong,
    /// The peer sends nothing more.
    Close(Control),
}

impl Messages {
    /// Refuses text messages of more than `text_limit` bytes and binary ones of more than
    /// `binary_limit`.
    #[must_use]
    pub const fn new(side: Side, text_limit: usize, binary_limit: usize) -> Self {
        let frames = Connection::new(side);
        Self { frames, text_limit, binary_limit, text: false, fin: false, partial: Vec::new() }
    }

    /// Consumes the front of `input` up to the next message and returns how many bytes that was.
    /// `None`: all of `input` is consumed.
    ///
    /// # Errors
    ///
    /// The rule that the peer has broken. The connection must not be read any more.
    pub fn read(&mut self, input: &mut [u8]) -> Result<Option<(usize, Message)>, Violation> {
        let mut used = 0;
        while let Some((count, item)) =
            self.frames.read(input.get_mut(used..).unwrap_or_default())?
        {
            let taken = used..used + count;
            used += count;
            let done = match item {
                Item::Ping(payload) => Some(Message::Ping(payload)),
                Item::Pong(_) => Some(Message::Pong),
                Item::Close(payload) => Some(Message::Close(payload)),
                Item::Frame { opcode, fin, len } => self.begin(opcode, fin, len)?,
                Item::Payload { end } => {
                    self.partial.extend_from_slice(input.get(taken).unwrap_or_default());
                    if end && self.fin { Some(self.end()?) } else { None }
                }
            };
            if let Some(message) = done {
                return Ok(Some((used, message)));
            }
        }
        Ok(None)
    }

    fn begin(&mut self, opcode: Opcode, fin: bool, len: u64) -> Result<Option<Message>, Violation> {
        if opcode != Opcode::Continuation {
            self.text = opcode == Opcode::Text;
        }
        self.fin = fin;
        let limit = if self.text { self.text_limit } else { self.binary_limit };
        if self.partial.len() as u64 + len > limit as u64 {
            return Err(Violation::TooBig);
        }
        if fin && len == 0 { self.end().map(Some) } else { Ok(None) }
    }

    fn end(&mut self) -> Result<Message, Violation> {
        let bytes = std::mem::take(&mut self.partial);
        if !self.text {
            return Ok(Message::Binary(bytes));
        }
        String::from_utf8(bytes).map(Message::Text).map_err(|_| Violation::NotUtf8)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Cursor, Read, Write};

    use tungstenite::protocol::Role;
    use tungstenite::{Message as Oracle, WebSocket};

    use super::*;
    use crate::engine::ws::push_frame;

    const KEY: Option<[u8; 4]> = Some([9, 8, 7, 6]);

    fn messages(bytes: &[u8], cut: usize) -> Result<Vec<Message>, Violation> {
        let mut machine = Messages::new(Side::Server, 64, 4096);
        let mut found = Vec::new();
        for piece in [&bytes[..cut], &bytes[cut..]] {
            let mut piece = piece.to_vec();
            let mut at = 0;
            while let Some((count, message)) = machine.read(&mut piece[at..])? {
                found.push(message);
                at += count;
            }
        }
        Ok(found)
    }

    struct Replay(Cursor<Vec<u8>>);

    impl Read for Replay {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0.read(into)
        }
    }

    impl Write for Replay {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What tungstenite reads from the same bytes.
    fn oracle(bytes: &[u8]) -> Result<Vec<Message>, ()> {
        let mut socket =
            WebSocket::from_raw_socket(Replay(Cursor::new(bytes.to_vec())), Role::Server, None);
        let mut found = Vec::new();
        loop {
            match socket.read() {
                Ok(Oracle::Text(text)) => found.push(Message::Text(text.as_str().to_owned())),
                Ok(Oracle::Binary(bytes)) => found.push(Message::Binary(bytes.to_vec())),
                Ok(Oracle::Pong(_)) => found.push(Message::Pong),
                Ok(Oracle::Ping(_) | Oracle::Close(_) | Oracle::Frame(_)) => (),
                Err(tungstenite::Error::Io(_) | tungstenite::Error::ConnectionClosed) => break,
                Err(tungstenite::Error::Protocol(
                    tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
                )) => break,
                Err(_) => return Err(()),
            }
        }
        Ok(found)
    }

    /// A small generator, so that the oracle test replays.
    struct Bits(u64);

    impl Bits {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 33) % limit
        }
    }

    fn random_frames(bits: &mut Bits) -> Vec<u8> {
        let opcodes =
            [Opcode::Continuation, Opcode::Text, Opcode::Binary, Opcode::Ping, Opcode::Pong];
        let mut bytes = Vec::new();
        for _ in 0..bits.below(6) {
            let opcode = opcodes[usize::try_from(bits.below(5)).unwrap()];
            let len = if bits.below(9) == 0 { 200 } else { bits.below(20) };
            let payload =
                vec![b'a' + u8::try_from(len % 26).unwrap(); usize::try_from(len).unwrap()];
            let fin = bits.below(3) > 0;
            push_frame(&mut bytes, opcode, fin, (bits.below(40) > 0).then_some([3; 4]), &payload);
        }
        if bits.below(20) == 0
            && let Some(first) = bytes.first_mut()
        {
            *first ^= 1 << bits.below(8);
        }
        bytes
    }

    #[test]
    fn tungstenite_reads_the_same_messages() {
        let mut bits = Bits(7);
        let mut accepted = 0;
        for round in 0..4000 {
            let bytes = random_frames(&mut bits);
            let cut = usize::try_from(bits.below(bytes.len() as u64 + 1)).unwrap();
            let theirs = oracle(&bytes);
            let ours = messages(&bytes, cut);
            match (ours, theirs) {
                (Ok(ours), Ok(theirs)) => {
                    let ours: Vec<Message> = ours
                        .into_iter()
                        .filter(|m| !matches!(m, Message::Ping(_) | Message::Close(_)))
                        .collect();
                    assert_eq!(ours, theirs, "round {round}: {bytes:02x?}");
                    accepted += 1;
                }
                (Err(_), Err(())) | (Err(Violation::TooBig), Ok(_)) => (),
                (ours, theirs) => panic!("round {round}: {ours:?} but {theirs:?}: {bytes:02x?}"),
            }
        }
        assert!(accepted > 500, "only {accepted} rounds were accepted");
    }

    #[test]
    fn a_message_over_the_limit_is_refused_before_it_is_stored() {
        let mut bytes = Vec::new();
        push_frame(&mut bytes, Opcode::Text, false, KEY, &[b'a'; 60]);
        push_frame(&mut bytes, Opcode::Continuation, true, KEY, &[b'a'; 5]);
        assert_eq!(messages(&bytes, 0), Err(Violation::TooBig));

        let mut bytes = Vec::new();
        push_frame(&mut bytes, Opcode::Binary, true, KEY, &[1; 4096]);
        assert_eq!(messages(&bytes, 9).unwrap(), [Message::Binary(vec![1; 4096])]);
    }

    #[test]
    fn text_that_is_not_utf8_is_refused() {
        let mut bytes = Vec::new();
        push_frame(&mut bytes, Opcode::Text, true, KEY, &[0xff]);
        let refused = messages(&bytes, 3);
        assert_eq!(refused, Err(Violation::NotUtf8));
        assert_eq!(refused.unwrap_err().close_code(), 1007);
    }
}

//! Bodies of every framing, in and out.

use super::Malformed;
use super::chunk::{ChunkReader, LAST_CHUNK, write_chunk};
use super::framing::{Framing, Piece};

/// Takes a body apart as it arrives.
#[derive(Clone, Debug)]
pub enum BodyReader {
    /// So many bytes are still to come; none when the body is complete.
    Length(u64),
    /// A chunked body.
    Chunked(ChunkReader),
    /// Everything up to the end of the connection.
    UntilClose,
}

/// Puts a body together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyWriter {
    /// As it comes: the length was announced, or the end of the connection ends it.
    Plain,
    /// In chunks.
    Chunked,
}

impl BodyReader {
    /// At the start of a body framed so.
    #[must_use]
    pub const fn new(framing: Framing) -> Self {
        match framing {
            Framing::None => Self::Length(0),
            Framing::Length(len) => Self::Length(len),
            Framing::Chunked => Self::Chunked(ChunkReader::new()),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// The whole body has been consumed. A body that ends with the connection never is by itself.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(reader) => reader.is_done(),
            Self::UntilClose => false,
        }
    }

    /// Takes note of `len` bytes that are all data and not the last of it. `false`: they may be
    /// something else, and are for [`Self::read`].
    #[must_use]
    pub const fn pass(&mut self, len: usize) -> bool {
        match self {
            Self::Length(left) if (len as u64) < *left => {
                *left -= len as u64;
                true
            }
            Self::Length(_) | Self::Chunked(_) => false,
            Self::UntilClose => true,
        }
    }

    /// Reads on, up to the end of the next run of data. Call again with the rest until nothing is
    /// consumed; what follows the body is left alone.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when the chunked coding is broken.
    pub fn read(&mut self, input: &[u8]) -> Result<Piece, Malformed> {
        match self {
            Self::Length(left) => {
                let len = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                *left = left.saturating_sub(len as u64);
                Ok(Piece { data: 0..len, consumed: len })
            }
            Self::Chunked(reader) => reader.read(input),
            Self::UntilClose => Ok(Piece { data: 0..input.len(), consumed: input.len() }),
        }
    }
}

impl BodyWriter {
    /// Appends `data`.
    pub fn write(self, out: &mut Vec<u8>, data: &[u8]) {
        match self {
            Self::Plain => out.extend_from_slice(data),
            Self::Chunked => write_chunk(out, data),
        }
    }

    /// Appends what ends the body.
    pub fn finish(self, out: &mut Vec<u8>) {
        match self {
            Self::Plain => (),
            Self::Chunked => out.extend_from_slice(LAST_CHUNK),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counted_body_leaves_what_follows_it() {
        let mut reader = BodyReader::new(Framing::Length(5));
        assert_eq!(reader.read(b"abc").unwrap(), Piece { data: 0..3, consumed: 3 });
        assert!(!reader.is_done());
        assert_eq!(reader.read(b"deGET").unwrap(), Piece { data: 0..2, consumed: 2 });
        assert!(reader.is_done());
        assert_eq!(reader.read(b"GET").unwrap().consumed, 0);
        assert!(BodyReader::new(Framing::None).is_done());
    }

    #[test]
    fn only_data_that_does_not_end_the_body_passes_unread() {
        let mut reader = BodyReader::new(Framing::Length(5));
        assert!(reader.pass(4));
        assert!(!reader.pass(1), "the last byte has consequences");
        assert_eq!(reader.read(b"eGET").unwrap(), Piece { data: 0..1, consumed: 1 });
        assert!(!BodyReader::new(Framing::Chunked).pass(1));
        assert!(BodyReader::new(Framing::UntilClose).pass(1));
    }

    #[test]
    fn a_body_until_close_takes_everything() {
        let mut reader = BodyReader::new(Framing::UntilClose);
        assert_eq!(reader.read(b"abc").unwrap(), Piece { data: 0..3, consumed: 3 });
        assert!(!reader.is_done());
    }
}

//! The chunked coding (RFC 9112, 7.1), read strictly and written plainly.

use super::Malformed;
use super::framing::Piece;
use super::grammar::{is_tchar, is_value_byte};
use crate::limits::{
    CHUNK_EXTENSION_MAX, CHUNK_EXTENSIONS_MAX, CHUNK_SIZE_DIGITS_MAX, TRAILER_SECTION_MAX,
};

/// The chunk of size zero and an empty trailer section: the end of a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends `data` as one chunk. An empty chunk would end the body, so none is written for it.
pub fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let digits = (usize::BITS - data.len().leading_zeros()).div_ceil(4);
    for digit in (0..digits).rev() {
        let nibble = (data.len() >> (digit * 4)) & 0xf;
        out.push(b"0123456789abcdef".get(nibble).copied().unwrap_or_default());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Takes a chunked body apart as it arrives. Holds no bytes: extensions and trailers are checked
/// and dropped.
#[derive(Clone, Debug)]
pub struct ChunkReader {
    at: At,
    extensions: usize,
    trailers: usize,
}

#[derive(Clone, Copy, Debug)]
enum At {
    Size { value: u64, digits: usize },
    Extension { value: u64, len: usize },
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

impl ChunkReader {
    /// At the start of a body.
    #[must_use]
    pub const fn new() -> Self {
        Self { at: At::Size { value: 0, digits: 0 }, extensions: 0, trailers: 0 }
    }

    /// The last byte of the trailer section has been consumed.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self.at, At::Done)
    }

    /// Reads on, up to the end of the next run of data. Call again with the rest until nothing is
    /// consumed.
    ///
    /// # Errors
    ///
    /// [`Malformed`] at the first byte that no chunked body can have there.
    pub fn read(&mut self, input: &[u8]) -> Result<Piece, Malformed> {
        let mut consumed = 0;
        while let Some((&byte, rest)) = input.get(consumed..).and_then(<[u8]>::split_first) {
            match self.at {
                At::Done => break,
                At::Data(left) => {
                    let room = rest.len().saturating_add(1);
                    let len = usize::try_from(left).map_or(room, |left| left.min(room));
                    let left = left.saturating_sub(len as u64);
                    self.at = if left == 0 { At::DataCr } else { At::Data(left) };
                    let end = consumed.saturating_add(len);
                    return Ok(Piece { data: consumed..end, consumed: end });
                }
                at => self.at = self.step(at, byte)?,
            }
            consumed += 1;
        }
        Ok(Piece { data: 0..0, consumed })
    }

    /// The state after `byte`, outside of data.
    fn step(&mut self, at: At, byte: u8) -> Result<At, Malformed> {
        match (at, byte) {
            (At::Size { value, digits }, _) => self.size(value, digits, byte),
            (At::Extension { value, .. }, b'\r') => Ok(At::SizeLf(value)),
            (At::Extension { value, len }, _) => self.extension(value, len, byte),
            (At::SizeLf(0), b'\n') => Ok(At::TrailerStart),
            (At::SizeLf(value), b'\n') => Ok(At::Data(value)),
            (At::SizeLf(_), _) => Err(Malformed::ChunkSize),
            (At::DataCr, b'\r') => Ok(At::DataLf),
            (At::DataLf, b'\n') => Ok(At::Size { value: 0, digits: 0 }),
            (At::DataCr | At::DataLf | At::Data(_), _) => Err(Malformed::ChunkEnd),
            (At::EndLf, b'\n') => Ok(At::Done),
            (
                At::TrailerStart | At::TrailerName | At::TrailerValue | At::TrailerLf | At::EndLf,
                _,
            ) => self.trailer(at, byte),
            (At::Done, _) => Ok(At::Done),
        }
    }

    fn size(&mut self, value: u64, digits: usize, byte: u8) -> Result<At, Malformed> {
        match char::from(byte).to_digit(16) {
            Some(digit) if digits < CHUNK_SIZE_DIGITS_MAX => {
                Ok(At::Size { value: value << 4 | u64::from(digit), digits: digits + 1 })
            }
            None if digits > 0 && byte == b'\r' => Ok(At::SizeLf(value)),
            None if digits > 0 && byte == b';' => self.extension(value, 0, byte),
            Some(_) | None => Err(Malformed::ChunkSize),
        }
    }

    fn extension(&mut self, value: u64, len: usize, byte: u8) -> Result<At, Malformed> {
        self.extensions += 1;
        let fits = len < CHUNK_EXTENSION_MAX && self.extensions <= CHUNK_EXTENSIONS_MAX;
        if fits && is_value_byte(byte) {
            Ok(At::Extension { value, len: len + 1 })
        } else {
            Err(Malformed::ChunkExtension)
        }
    }

    fn trailer(&mut self, at: At, byte: u8) -> Result<At, Malformed> {
        self.trailers += 1;
        if self.trailers > TRAILER_SECTION_MAX {
            return Err(Malformed::Trailer);
        }
        match (at, byte) {
            (At::TrailerStart, b'\r') => Ok(At::EndLf),
            (At::TrailerStart | At::TrailerName, _) if is_tchar(byte) => Ok(At::TrailerName),
            (At::TrailerName, b':') => Ok(At::TrailerValue),
            (At::TrailerValue, b'\r') => Ok(At::TrailerLf),
            (At::TrailerValue, _) if is_value_byte(byte) => Ok(At::TrailerValue),
            (At::TrailerLf, b'\n') => Ok(At::TrailerStart),
            _ => Err(Malformed::Trailer),
        }
    }
}

impl Default for ChunkReader {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data and what was left over, fed in pieces that end at `cuts`.
    fn read(input: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, usize, bool), Malformed> {
        let mut reader = ChunkReader::new();
        let (mut data, mut used) = (Vec::new(), 0);
        for end in cuts.iter().copied().chain([input.len()]) {
            loop {
                let piece = reader.read(&input[used..end])?;
                data.extend_from_slice(&input[used..end][piece.data.clone()]);
                used += piece.consumed;
                if piece.consumed == 0 {
                    break;
                }
            }
        }
        Ok((data, input.len() - used, reader.is_done()))
    }

    #[test]
    fn every_cut_gives_the_same_data() {
        let body: &[u8] =
            b"3\r\nabc\r\n00A;x=\"y z\"\r\n0123456789\r\n0;e\r\nT: v\r\nU:\r\n\r\nnext";
        for first in 0..body.len() {
            for second in first..body.len() {
                let got = read(body, &[first, second]).unwrap();
                assert_eq!(got, (b"abc0123456789".to_vec(), 4, true), "cuts {first} {second}");
            }
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for len in [0, 1, 9, 15, 16, 255, 256, 4095, 70_000] {
            let data = vec![b'x'; len];
            let mut out = Vec::new();
            write_chunk(&mut out, &data);
            assert_eq!(out.is_empty(), len == 0);
            out.extend_from_slice(LAST_CHUNK);
            assert_eq!(read(&out, &[]), Ok((data, 0, true)), "{len} bytes");
        }
    }

    #[test]
    fn bad_size_lines_are_refused() {
        let bad: [&[u8]; 18] = [
            b"\r\n",
            b" 3\r\n",
            b"\t3\r\n",
            b"-3\r\n",
            b"+3\r\n",
            b"0x3\r\n",
            b"0_3\r\n",
            b"3 \r\n",
            b"3\t\r\n",
            b"3\n",
            b"3\r\r\n",
            b"3\rx",
            b"g\r\n",
            b";a\r\n",
            b"0000000000000003\r\n",
            b"ffffffffffffffff\r\n",
            b"3these\r\n",
            b"\x003\r\n",
        ];
        for bad in bad {
            assert_eq!(read(bad, &[]), Err(Malformed::ChunkSize), "{:?}", bad.escape_ascii());
        }
    }

    #[test]
    fn data_must_be_followed_by_crlf() {
        for bad in [b"3\r\nabcd\r\n".as_slice(), b"3\r\nabcXX", b"3\r\nabc\n", b"3\r\nabc\r\r"] {
            assert_eq!(read(bad, &[]), Err(Malformed::ChunkEnd), "{:?}", bad.escape_ascii());
        }
    }

    #[test]
    fn extensions_are_bounded_and_hold_no_controls() {
        for bad in [b"3;a\nb".as_slice(), b"3;\0", b"3;a\x7f", b"3;a\x0b"] {
            assert_eq!(read(bad, &[]), Err(Malformed::ChunkExtension), "{:?}", bad.escape_ascii());
        }
        let long = [b"3;".as_slice(), &[b'a'; CHUNK_EXTENSION_MAX]].concat();
        assert_eq!(read(&long, &[]), Err(Malformed::ChunkExtension));
        let many =
            b"1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n".repeat(CHUNK_EXTENSIONS_MAX / 38);
        assert_eq!(read(&many, &[]), Err(Malformed::ChunkExtension));
    }

    #[test]
    fn trailers_are_checked_and_dropped() {
        let good = b"0\r\nImpersonate-User: root\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(read(good, &[]), Ok((Vec::new(), 0, true)));
        let bad: [&[u8]; 9] = [
            b"0\r\n\n",
            b"0\r\n a: b\r\n",
            b"0\r\na b: c\r\n",
            b"0\r\n: c\r\n",
            b"0\r\na\r\n",
            b"0\r\na: b\n",
            b"0\r\na: \0\r\n",
            b"0\r\n\r\r",
            b"0\r\na: b\r\r",
        ];
        for bad in bad {
            assert_eq!(read(bad, &[]), Err(Malformed::Trailer), "{:?}", bad.escape_ascii());
        }
        let long = [b"0\r\na: ".as_slice(), &[b'a'; TRAILER_SECTION_MAX]].concat();
        assert_eq!(read(&long, &[]), Err(Malformed::Trailer));
    }
}

//! Finds where a head ends, in bytes that arrive in pieces.

use memchr::memchr2;

use super::Malformed;
use crate::limits::EMPTY_LINES_MAX;

/// How far a head that is still arriving has been looked at, so that a slow peer costs each byte
/// once. Start a new one for each head.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan {
    seen: usize,
}

/// Where a complete head lies in the bytes that were looked at.
pub(super) struct Found<'a> {
    /// The head, from its first line to the empty line that ends it.
    pub(super) head: &'a [u8],
    /// Bytes up to and with the head.
    pub(super) used: usize,
}

impl Scan {
    /// Looks for a head of at most `max` bytes at the start of `buf`, which begins with the bytes
    /// of the call before.
    ///
    /// # Errors
    ///
    /// A stray CR or LF is refused as soon as it is seen, and so is a head that has grown too long.
    pub(super) fn find<'a>(
        &mut self,
        buf: &'a [u8],
        max: usize,
    ) -> Result<Option<Found<'a>>, Malformed> {
        let lines = buf.chunks_exact(2).take(EMPTY_LINES_MAX + 1);
        let skip = 2 * lines.take_while(|pair| pair == b"\r\n").count();
        if skip > 2 * EMPTY_LINES_MAX {
            return Err(Malformed::EmptyLines);
        }
        let text = buf.get(skip..).unwrap_or_default();
        self.seen = self.seen.max(skip);
        while let Some(rest) = buf.get(self.seen..) {
            let Some(offset) = memchr2(b'\r', b'\n', rest) else {
                self.seen = buf.len();
                break;
            };
            self.seen += offset;
            match buf.get(self.seen..) {
                Some([b'\r', b'\n', ..]) => (),
                Some([b'\r', _, ..]) => return Err(Malformed::BareCr),
                Some([b'\n', ..]) => return Err(Malformed::BareLf),
                Some(_) | None => break,
            }
            let before = buf.get(skip..self.seen).unwrap_or_default();
            self.seen += 2;
            if before.ends_with(b"\r\n") {
                let head = buf.get(skip..self.seen).filter(|head| head.len() <= max);
                let head = head.ok_or(Malformed::HeadTooLong)?;
                return Ok(Some(Found { head, used: self.seen }));
            }
        }
        if text.len() > max { Err(Malformed::HeadTooLong) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(buf: &[u8]) -> Result<Option<usize>, Malformed> {
        Scan::default().find(buf, 100).map(|found| found.map(|it| it.used))
    }

    #[test]
    fn the_end_is_found_at_every_cut() {
        let text = b"\r\n\r\nGET / HTTP/1.1\r\na: b\r\n\r\nrest";
        for cut in 0..text.len() {
            let mut scan = Scan::default();
            let first = scan.find(&text[..cut], 100).unwrap().map(|it| it.used);
            assert_eq!(first, (cut >= 28).then_some(28), "cut {cut}");
            if first.is_none() {
                let found = scan.find(text, 100).unwrap().unwrap();
                assert_eq!((found.used, found.head.len()), (28, 24), "cut {cut}");
            }
        }
    }

    #[test]
    fn every_byte_alone_gives_the_same_end() {
        let text = b"GET / HTTP/1.1\r\na: b\r\n\r\n";
        let mut scan = Scan::default();
        for end in 0..text.len() {
            assert!(scan.find(&text[..end], 100).unwrap().is_none(), "at {end}");
        }
        assert_eq!(scan.find(text, 100).unwrap().map(|it| it.used), Some(text.len()));
    }

    #[test]
    fn stray_line_ends_are_refused_at_once() {
        assert_eq!(whole(b"GET / HTTP/1.1\n"), Err(Malformed::BareLf));
        assert_eq!(whole(b"a\r\nb\n"), Err(Malformed::BareLf));
        assert_eq!(whole(b"\n"), Err(Malformed::BareLf));
        assert_eq!(whole(b"a\rb"), Err(Malformed::BareCr));
        assert_eq!(whole(b"a\r\r\n"), Err(Malformed::BareCr));
        assert_eq!(whole(b"a\r"), Ok(None));
    }

    #[test]
    fn empty_lines_and_long_heads_are_refused() {
        assert_eq!(whole(b"\r\n\r\n\r\n"), Err(Malformed::EmptyLines));
        assert_eq!(whole(&[b'a'; 101]), Err(Malformed::HeadTooLong));
        let mut long = vec![b'a'; 97];
        long.extend_from_slice(b"\r\n\r\n");
        assert_eq!(whole(&long), Err(Malformed::HeadTooLong));
        assert_eq!(whole(&long[1..]), Ok(Some(100)));
    }
}

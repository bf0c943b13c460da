//! How the end of a body is known: the decision table of RFC 9112, 6.3, without its leniencies.

use std::ops::Range;

use super::grammar::{is_token, trim_ows};
use super::request::Version;
use super::{Fields, Malformed};

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// There is no body.
    None,
    /// By counting so many bytes.
    Length(u64),
    /// By the chunk of size zero.
    Chunked,
    /// By the end of the connection. Responses only.
    UntilClose,
}

/// What a body reader made of some bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Piece {
    /// Where the body's bytes are in what was given; often empty.
    pub data: Range<usize>,
    /// Bytes that are dealt with, [`Self::data`] among them. Zero only when more are needed or the
    /// body is complete.
    pub consumed: usize,
}

/// What the fields of a head say about its body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Declared {
    Nothing,
    Length(u64),
    Chunked,
}

/// Reads `Content-Length` and `Transfer-Encoding`.
pub(super) fn declared(fields: &Fields, version: Version) -> Result<Declared, Malformed> {
    let mut codings = fields.all("transfer-encoding");
    let mut lengths = fields.all("content-length");
    match (codings.next(), lengths.next()) {
        (Some(_), Some(_)) => Err(Malformed::LengthAndCoding),
        (Some(_), None) if codings.next().is_some() => Err(Malformed::TwoCodings),
        (Some(_), None) if version == Version::Http10 => Err(Malformed::CodingInOldVersion),
        (Some(coding), None) => coding_is_chunked(coding).map(|()| Declared::Chunked),
        (None, Some(_)) if lengths.next().is_some() => Err(Malformed::TwoLengths),
        (None, Some(length)) => parse_length(length).map(Declared::Length),
        (None, None) => Ok(Declared::Nothing),
    }
}

fn coding_is_chunked(value: &[u8]) -> Result<(), Malformed> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let well_formed = value.split(|&byte| byte == b',').map(trim_ows).all(is_token);
    Err(if well_formed { Malformed::UnknownCoding } else { Malformed::Coding })
}

/// Decimal digits only; 64 bits have at most twenty.
fn parse_length(value: &[u8]) -> Result<u64, Malformed> {
    if value.is_empty() || value.len() > 20 {
        return Err(Malformed::Length);
    }
    value
        .iter()
        .try_fold(0u64, |sum, byte| {
            let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
            sum.checked_mul(10)?.checked_add(digit)
        })
        .ok_or(Malformed::Length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(version: Version, fields: &[(&str, &str)]) -> Result<Declared, Malformed> {
        let mut list = Fields::default();
        for (name, value) in fields {
            list.push(name, value).unwrap();
        }
        declared(&list, version)
    }

    #[test]
    fn the_decision_table() {
        use Declared::{Chunked, Length, Nothing};
        const CL: &str = "Content-Length";
        const TE: &str = "transfer-encoding";
        let new = |fields: &[(&str, &str)]| decide(Version::Http11, fields);
        assert_eq!(new(&[]), Ok(Nothing));
        assert_eq!(new(&[(CL, "0")]), Ok(Length(0)));
        assert_eq!(new(&[(CL, "0012")]), Ok(Length(12)));
        assert_eq!(new(&[(CL, "18446744073709551615")]), Ok(Length(u64::MAX)));
        assert_eq!(new(&[(TE, "Chunked")]), Ok(Chunked));
        assert_eq!(new(&[(CL, "1"), (TE, "chunked")]), Err(Malformed::LengthAndCoding));
        assert_eq!(new(&[(TE, "chunked"), (CL, "1")]), Err(Malformed::LengthAndCoding));
        assert_eq!(new(&[(CL, "1"), (CL, "1")]), Err(Malformed::TwoLengths));
        assert_eq!(new(&[(TE, "chunked"), (TE, "chunked")]), Err(Malformed::TwoCodings));
        let old = decide(Version::Http10, &[(TE, "chunked")]);
        assert_eq!(old, Err(Malformed::CodingInOldVersion));
    }

    #[test]
    fn lengths_are_digits_and_nothing_else() {
        let bad = [
            "",
            "+3",
            "-3",
            "0x3",
            "1_0",
            "\"3\"",
            "3,3",
            "3, 3",
            "3a",
            "3 3",
            "3.0",
            "1e3",
            "18446744073709551616",
            "9999999999999999999999999",
            "000000000000000000003",
            "٣",
        ];
        for bad in bad {
            let got = decide(Version::Http11, &[("content-length", bad)]);
            assert_eq!(got, Err(Malformed::Length), "{bad}");
        }
    }

    #[test]
    fn codings_other_than_one_chunked_are_refused() {
        for other in ["xchunked", "chunked, chunked", "gzip, chunked", "identity", "chunked,gzip"] {
            let got = decide(Version::Http11, &[("transfer-encoding", other)]);
            assert_eq!(got, Err(Malformed::UnknownCoding), "{other}");
        }
        for bad in ["", ",chunked", "chunked,", "\"chunked\"", "chunked;q=1", "chunked x", "é"] {
            let got = decide(Version::Http11, &[("transfer-encoding", bad)]);
            assert_eq!(got, Err(Malformed::Coding), "{bad}");
        }
    }
}

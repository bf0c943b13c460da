//! What the ends of a session that measures say to each other (ALPN `cluster-connect-bench/1`).
//!
//! The first stream carries one HTTP request with a bearer, [`TARGET`]. Once that is answered with
//! 200 and [`Terms`], every further stream begins with an [`Ask`]:
//!
//! ```text
//! E 0000000000000000   everything that follows comes back
//! S <length>           so many bytes are wanted, then the end
//! T 0000000000000000   what follows is taken; back come totals of it, each a 64-bit number
//! ```
//!
//! Numbers are big endian.

use std::fmt;

/// What the first stream asks for, with POST.
pub const TARGET: &str = "/cluster-connect/bench";

/// Bytes of an [`Ask`].
pub const ASK: usize = 9;

/// What a stream is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ask {
    /// Send back what comes.
    Echo,
    /// Send so many bytes, then finish.
    Send(u64),
    /// Take what comes, and say how much it was.
    Take,
}

/// Bytes that ask for nothing: the stream is reset.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Malformed {
    /// No such kind.
    Kind(u8),
    /// A length where there is none.
    Length(u64),
}

/// What whoever measures is held to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Terms {
    /// Seconds until the session is closed.
    pub seconds: u64,
    /// Bytes per second, both ways together.
    pub rate: u64,
}

impl Ask {
    /// The bytes that say so.
    #[must_use]
    pub fn encode(self) -> [u8; ASK] {
        let (kind, length) = match self {
            Self::Echo => (b'E', 0),
            Self::Send(length) => (b'S', length),
            Self::Take => (b'T', 0),
        };
        let [a, b, c, d, e, f, g, h] = u64::to_be_bytes(length);
        [kind, a, b, c, d, e, f, g, h]
    }

    /// What `bytes` ask for.
    ///
    /// # Errors
    ///
    /// [`Malformed`]
    pub fn decode(bytes: [u8; ASK]) -> Result<Self, Malformed> {
        let [kind, length @ ..] = bytes;
        match (kind, u64::from_be_bytes(length)) {
            (b'S', length) => Ok(Self::Send(length)),
            (b'E', 0) => Ok(Self::Echo),
            (b'T', 0) => Ok(Self::Take),
            (b'E' | b'T', length) => Err(Malformed::Length(length)),
            (kind, _) => Err(Malformed::Kind(kind)),
        }
    }
}

impl Terms {
    /// As the answer has them.
    #[must_use]
    pub fn to_json(self) -> Vec<u8> {
        serde_json::json!({ "seconds": self.seconds, "bytesPerSecond": self.rate })
            .to_string()
            .into_bytes()
    }

    /// What an answer says.
    #[must_use]
    pub fn from_json(body: &[u8]) -> Option<Self> {
        let value: serde_json::Value = serde_json::from_slice(body).ok()?;
        let number = |name: &str| value.get(name).and_then(serde_json::Value::as_u64);
        Some(Self { seconds: number("seconds")?, rate: number("bytesPerSecond")? })
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => write!(f, "a stream cannot be for {kind:#04x}"),
            Self::Length(length) => write!(f, "a length of {length} where there is none"),
        }
    }
}

impl std::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_has_one_spelling() {
        for (ask, bytes) in [
            (Ask::Echo, *b"E\0\0\0\0\0\0\0\0"),
            (Ask::Take, *b"T\0\0\0\0\0\0\0\0"),
            (Ask::Send(0x0102), *b"S\0\0\0\0\0\0\x01\x02"),
            (Ask::Send(u64::MAX), *b"S\xff\xff\xff\xff\xff\xff\xff\xff"),
        ] {
            assert_eq!(ask.encode(), bytes);
            assert_eq!(Ask::decode(bytes), Ok(ask));
        }
        assert_eq!(Ask::decode(*b"E\0\0\0\0\0\0\0\x01"), Err(Malformed::Length(1)));
        assert_eq!(Ask::decode(*b"T\x01\0\0\0\0\0\0\0"), Err(Malformed::Length(1 << 56)));
        assert_eq!(Ask::decode(*b"GET /api/"), Err(Malformed::Kind(b'G')));
        assert_eq!(Ask::decode([0; ASK]), Err(Malformed::Kind(0)));
    }

    #[test]
    fn terms_are_read_as_they_were_written() {
        let terms = Terms { seconds: 60, rate: 125_000_000 };
        assert_eq!(Terms::from_json(&terms.to_json()), Some(terms));
        for other in ["", "{}", "[]", r#"{"seconds":-1,"bytesPerSecond":1}"#, r#"{"seconds":1}"#] {
            assert_eq!(Terms::from_json(other.as_bytes()), None, "{other}");
        }
    }
}

//! Why a head or a body is refused.

use std::error::Error;
use std::fmt;

/// The rule that a message breaks. Each is the peer's fault, and after each the connection ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Malformed {
    /// An LF without a CR before it.
    BareLf,
    /// A CR without an LF after it.
    BareCr,
    /// More empty lines before a request than are skipped.
    EmptyLines,
    /// The head is longer than we read.
    HeadTooLong,
    /// More fields than we keep.
    TooManyFields,
    /// A field name longer than we keep.
    NameTooLong,
    /// The request line is not `method SP target SP version`.
    RequestLine,
    /// The target is not an absolute path of legal bytes.
    Target,
    /// A version other than HTTP/1.0 and HTTP/1.1.
    Version,
    /// The status line is not `version SP status SP reason`.
    StatusLine,
    /// A line of the head starts with a blank (obs-fold).
    Folded,
    /// A field without a colon, without a name, or with a name that is not a token.
    FieldName,
    /// A control character in a field value.
    FieldValue,
    /// No `Host`, more than one, or one that names no host.
    Host,
    /// A connection option that is not a token.
    ConnectionOption,
    /// A `Content-Length` that is not a decimal number, or does not fit 64 bits.
    Length,
    /// More than one `Content-Length`, equal or not.
    TwoLengths,
    /// `Content-Length` beside `Transfer-Encoding`.
    LengthAndCoding,
    /// More than one `Transfer-Encoding`.
    TwoCodings,
    /// A `Transfer-Encoding` that is not a list of codings.
    Coding,
    /// A well-formed `Transfer-Encoding` other than the single `chunked`.
    UnknownCoding,
    /// `Transfer-Encoding` in HTTP/1.0.
    CodingInOldVersion,
    /// An `Expect` other than `100-continue`.
    Expectation,
    /// An `Upgrade` that offers several protocols.
    UpgradeList,
    /// An upgrade of a request that has a body.
    UpgradeWithBody,
    /// An upgrade asked for in HTTP/1.0.
    UpgradeInOldVersion,
    /// A chunk size that is not one to fifteen hexadecimal digits.
    ChunkSize,
    /// A chunk extension longer than we skip, or all of a body's together.
    ChunkExtension,
    /// Chunk data that is not followed by CRLF.
    ChunkEnd,
    /// A trailer section that is not lines of fields, or longer than we skip.
    Trailer,
}

impl Malformed {
    /// The status of the answer to a request that breaks the rule.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::HeadTooLong | Self::TooManyFields | Self::NameTooLong => 431,
            Self::Version => 505,
            Self::UnknownCoding => 501,
            Self::Expectation => 417,
            Self::BareLf
            | Self::BareCr
            | Self::EmptyLines
            | Self::RequestLine
            | Self::Target
            | Self::StatusLine
            | Self::Folded
            | Self::FieldName
            | Self::FieldValue
            | Self::Host
            | Self::ConnectionOption
            | Self::Length
            | Self::TwoLengths
            | Self::LengthAndCoding
            | Self::TwoCodings
            | Self::Coding
            | Self::CodingInOldVersion
            | Self::UpgradeList
            | Self::UpgradeWithBody
            | Self::UpgradeInOldVersion
            | Self::ChunkSize
            | Self::ChunkExtension
            | Self::ChunkEnd
            | Self::Trailer => 400,
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BareLf => "line feed without carriage return",
            Self::BareCr => "carriage return without line feed",
            Self::EmptyLines => "too many empty lines before the request",
            Self::HeadTooLong => "head too long",
            Self::TooManyFields => "too many fields",
            Self::NameTooLong => "field name too long",
            Self::RequestLine => "request line is not method, target, version",
            Self::Target => "request target is not an absolute path",
            Self::Version => "version is neither HTTP/1.0 nor HTTP/1.1",
            Self::StatusLine => "status line is not version, status, reason",
            Self::Folded => "folded field line",
            Self::FieldName => "field name is not a token",
            Self::FieldValue => "control character in a field value",
            Self::Host => "Host is not exactly one host",
            Self::ConnectionOption => "connection option is not a token",
            Self::Length => "Content-Length is not a number",
            Self::TwoLengths => "more than one Content-Length",
            Self::LengthAndCoding => "Content-Length beside Transfer-Encoding",
            Self::TwoCodings => "more than one Transfer-Encoding",
            Self::Coding => "Transfer-Encoding is not a list of codings",
            Self::UnknownCoding => "transfer coding other than chunked",
            Self::CodingInOldVersion => "Transfer-Encoding in HTTP/1.0",
            Self::Expectation => "expectation other than 100-continue",
            Self::UpgradeList => "more than one protocol to upgrade to",
            Self::UpgradeWithBody => "upgrade of a request with a body",
            Self::UpgradeInOldVersion => "upgrade in HTTP/1.0",
            Self::ChunkSize => "chunk size is not one to fifteen hexadecimal digits",
            Self::ChunkExtension => "chunk extension too long or not text",
            Self::ChunkEnd => "chunk data not followed by a line end",
            Self::Trailer => "trailer section too long or not fields",
        })
    }
}

impl Error for Malformed {}

//! Compact JWS (RFC 7515, 7.1), read strictly: three parts, unpadded base64url in its one
//! canonical form, a header without duplicates and without extensions.
//!
//! Nothing here is verified. Because the form is canonical, two texts that differ in any byte
//! differ in header, payload or signature, too.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::json::{self, Mismatch, Object};
use crate::limits::{KID_BYTES, TOKEN_BYTES, TOKEN_DEPTH};

/// A signature algorithm (RFC 7518, 3.1). There is no symmetric one, and there is no `none`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256; what Entra ID uses.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
    ];

    /// The algorithm of that exact name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }

    /// The name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
        }
    }
}

/// What kind of token the header says this is. Media types have no case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// No `typ` (RFC 7519 makes it optional), `JWT`, or `at+jwt` (RFC 9068).
    Access,
    /// `pop`: a signed HTTP request.
    Proof,
    /// Something that is no access token: `dpop+jwt`, `logout+jwt`, `secevent+jwt`.
    Other,
}

/// The header, as far as it matters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Header {
    /// `alg`, unread: it may name anything.
    pub algorithm: String,
    /// `kid`: a name for an exact look-up and nothing else.
    pub key_id: Option<String>,
    /// `typ`
    pub kind: Kind,
    /// Whether the token brings or points to a key of its own: `jku`, `jwk`, `x5u`, `x5c`. It is
    /// never used.
    pub brings_key: bool,
    /// Whether there is a `nonce`, as in tokens for Microsoft Graph, which nobody else can verify.
    pub has_nonce: bool,
}

/// A compact JWS, taken apart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Compact {
    /// The header.
    pub header: Header,
    /// The payload's bytes.
    pub payload: Vec<u8>,
    /// The signature's bytes.
    pub signature: Vec<u8>,
    /// What the signature covers: the first two parts with their dot.
    pub signed: String,
}

impl Compact {
    /// Takes `text` apart. The length is looked at before anything else.
    ///
    /// # Errors
    /// [`Malformed`] if the text is not a compact JWS, or has a header field that changes how it
    /// is to be read.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if TOKEN_BYTES < text.len() {
            return Err(Malformed::TooLong(text.len()));
        }
        let dots = memchr::memchr_iter(b'.', text.as_bytes()).count();
        let split = text.rsplit_once('.').and_then(|(signed, signature)| {
            let (header, payload) = signed.split_once('.')?;
            Some((header, payload, signed, signature))
        });
        let Some((header, payload, signed, signature)) = split.filter(|_| dots == 2) else {
            return Err(Malformed::Parts(dots.saturating_add(1)));
        };
        Ok(Self {
            header: parse_header(&decode("header", header)?)?,
            payload: decode("payload", payload)?,
            signature: decode("signature", signature)?,
            signed: signed.to_owned(),
        })
    }
}

/// Bytes from base64url in its one canonical form: no padding, no blanks, no stray last bits.
#[must_use]
pub fn decode_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Unpadded base64url of `bytes`.
#[must_use]
pub fn encode_base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(part: &'static str, text: &str) -> Result<Vec<u8>, Malformed> {
    match decode_base64url(text) {
        Some(bytes) if !bytes.is_empty() => Ok(bytes),
        Some(_) => Err(Malformed::Empty(part)),
        None => Err(Malformed::Base64(part)),
    }
}

fn parse_header(bytes: &[u8]) -> Result<Header, Malformed> {
    let fields = json::parse_object(bytes, TOKEN_DEPTH).map_err(Malformed::Json)?;
    if let Some((one, other)) = fields.case_twins() {
        return Err(Malformed::CaseTwins(one.to_owned(), other.to_owned()));
    }
    for name in ["crit", "b64", "zip", "enc", "cty"] {
        if fields.has(name) {
            return Err(Malformed::Extension(name));
        }
    }
    Ok(Header {
        algorithm: fields.text("alg").map_err(Malformed::Field)?.to_owned(),
        key_id: parse_key_id(&fields)?,
        kind: parse_kind(fields.optional_text("typ").map_err(Malformed::Field)?),
        brings_key: ["jku", "jwk", "x5u", "x5c"].iter().any(|name| fields.has(name)),
        has_nonce: fields.has("nonce"),
    })
}

fn parse_key_id(fields: &Object) -> Result<Option<String>, Malformed> {
    let Some(kid) = fields.optional_text("kid").map_err(Malformed::Field)? else {
        return Ok(None);
    };
    let visible = kid.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if kid.is_empty() || KID_BYTES < kid.len() || !visible {
        return Err(Malformed::KeyId);
    }
    Ok(Some(kid.to_owned()))
}

fn parse_kind(typ: Option<&str>) -> Kind {
    let Some(typ) = typ else { return Kind::Access };
    let typ = typ.to_ascii_lowercase();
    match typ.strip_prefix("application/").unwrap_or(&typ) {
        "jwt" | "at+jwt" => Kind::Access,
        "pop" => Kind::Proof,
        _ => Kind::Other,
    }
}

/// Why a text is no compact JWS that may be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Malformed {
    /// It has this many characters.
    TooLong(usize),
    /// It has this many parts instead of three.
    Parts(usize),
    /// This part has no bytes.
    Empty(&'static str),
    /// This part is not canonical unpadded base64url.
    Base64(&'static str),
    /// The header is not strict JSON.
    Json(json::Malformed),
    /// A header field is missing or has the wrong type.
    Field(Mismatch),
    /// Two header fields differ in case only.
    CaseTwins(String, String),
    /// The header has this field, which changes how a token is to be read.
    Extension(&'static str),
    /// `kid` is empty, too long, or not printable.
    KeyId,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(len) => write!(f, "token of {len} characters is too long"),
            Self::Parts(count) => write!(f, "token has {count} parts instead of 3"),
            Self::Empty(part) => write!(f, "{part} is empty"),
            Self::Base64(part) => write!(f, "{part} is not canonical base64url"),
            Self::Json(why) => write!(f, "header is {why}"),
            Self::Field(why) => write!(f, "header field {why}"),
            Self::CaseTwins(one, other) => {
                write!(f, "header fields {one:?} and {other:?} differ in case only")
            }
            Self::Extension(name) => write!(f, "header field {name:?} is not understood"),
            Self::KeyId => f.write_str("header field \"kid\" is no key name"),
        }
    }
}

impl std::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = r#"{"alg":"RS256","kid":"k1","typ":"JWT"}"#;

    fn token(header: &str) -> String {
        let [header, payload] = [header, "{}"].map(|part| encode_base64url(part.as_bytes()));
        format!("{header}.{payload}.AQ")
    }

    fn refused(header: &str) -> Malformed {
        Compact::parse(&token(header)).expect_err(header)
    }

    #[test]
    fn the_three_parts_come_apart() {
        let text = token(HEADER);
        let jws = Compact::parse(&text).expect("a token");
        assert_eq!(jws.header.algorithm, "RS256");
        assert_eq!(jws.header.key_id.as_deref(), Some("k1"));
        assert_eq!(jws.header.kind, Kind::Access);
        assert!(!jws.header.brings_key && !jws.header.has_nonce);
        assert_eq!((jws.payload.as_slice(), jws.signature.as_slice()), (&b"{}"[..], &[1][..]));
        assert_eq!(format!("{}.AQ", jws.signed), text);
    }

    #[test]
    fn algorithms_are_named_exactly() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::parse(algorithm.as_str()), Some(algorithm));
            assert_eq!(Algorithm::parse(&algorithm.as_str().to_lowercase()), None);
        }
        for name in ["none", "None", "nOnE", "", "HS256", "HS384", "HS512", "EdDSA", "ES512"] {
            assert_eq!(Algorithm::parse(name), None, "{name}");
        }
    }

    #[test]
    fn other_numbers_of_parts_and_other_serialisations_are_refused() {
        let good = token(HEADER);
        let cases = [
            (String::new(), Malformed::Parts(1)),
            ("a.b".to_owned(), Malformed::Parts(2)),
            (format!("{good}.x"), Malformed::Parts(4)),
            (format!("{good}.x.y"), Malformed::Parts(5)),
            (".".repeat(20_000), Malformed::Parts(20_001)),
            ("..".to_owned(), Malformed::Empty("header")),
            (good.replace(".AQ", "."), Malformed::Empty("signature")),
            (".".repeat(TOKEN_BYTES + 1), Malformed::TooLong(TOKEN_BYTES + 1)),
        ];
        for (text, expected) in cases {
            assert_eq!(Compact::parse(&text), Err(expected));
        }
        assert!(Compact::parse(r#"{"payload":"","signatures":[]}"#).is_err());
    }

    #[test]
    fn base64_has_one_form() {
        let good = token(HEADER);
        for (from, to) in [
            (".AQ", ".AQ=="),
            (".AQ", ".AQ="),
            (".AQ", ".AR"),
            (".AQ", ".A"),
            (".AQ", ".AQ "),
            (".AQ", ".AQ\n"),
            (".AQ", ".+Q"),
            (".AQ", "./Q"),
            (".AQ", ".A\u{e9}"),
        ] {
            let refused = Compact::parse(&good.replace(from, to));
            assert_eq!(refused, Err(Malformed::Base64("signature")), "{to:?}");
        }
        assert_eq!(Compact::parse(&format!(" {good}")), Err(Malformed::Base64("header")));
    }

    #[test]
    fn extensions_are_refused_by_their_presence() {
        for (field, name) in [
            (r#""crit":["exp"],"exp":1"#, "crit"),
            (r#""crit":[]"#, "crit"),
            (r#""b64":false"#, "b64"),
            (r#""b64":true"#, "b64"),
            (r#""zip":"DEF""#, "zip"),
            (r#""enc":"A128GCM""#, "enc"),
            (r#""cty":"JWT""#, "cty"),
        ] {
            let header = format!(r#"{{"alg":"RS256",{field}}}"#);
            assert_eq!(refused(&header), Malformed::Extension(name));
        }
    }

    #[test]
    fn a_header_that_two_readers_may_read_differently_is_refused() {
        assert!(matches!(refused(r#"{"alg":"RS256","alg":"none"}"#), Malformed::Json(_)));
        assert!(matches!(refused(r#"{"alg":"RS256","\u0061lg":"none"}"#), Malformed::Json(_)));
        assert!(matches!(refused(r#"{"alg":"RS256","Alg":"none"}"#), Malformed::CaseTwins(..)));
        assert!(matches!(refused(r#"["RS256"]"#), Malformed::Json(_)));
        assert!(matches!(refused(r#"{"kid":"k"}"#), Malformed::Field(_)));
        assert!(matches!(refused(r#"{"alg":1}"#), Malformed::Field(_)));
        assert!(matches!(refused(r#"{"alg":"RS256","typ":1}"#), Malformed::Field(_)));
    }

    #[test]
    fn a_key_id_is_a_printable_name() {
        for kid in [String::new(), "k".repeat(KID_BYTES + 1), "k\\u0000".into(), "k\\r\\n".into()] {
            let header = format!(r#"{{"alg":"RS256","kid":"{kid}"}}"#);
            assert_eq!(refused(&header), Malformed::KeyId, "{kid}");
        }
        assert!(matches!(refused(r#"{"alg":"RS256","kid":1}"#), Malformed::Field(_)));
    }

    #[test]
    fn kinds_have_no_case() {
        for (typ, kind) in [
            ("jwt", Kind::Access),
            ("AT+JWT", Kind::Access),
            ("application/at+jwt", Kind::Access),
            ("PoP", Kind::Proof),
            ("dpop+jwt", Kind::Other),
            ("logout+jwt", Kind::Other),
            ("", Kind::Other),
        ] {
            let text = token(&format!(r#"{{"alg":"RS256","typ":"{typ}"}}"#));
            assert_eq!(Compact::parse(&text).expect("a token").header.kind, kind, "{typ}");
        }
        let text = token(r#"{"alg":"RS256","jwk":{},"nonce":"x"}"#);
        let header = Compact::parse(&text).expect("a token").header;
        assert!(header.kind == Kind::Access && header.brings_key && header.has_nonce);
    }
}

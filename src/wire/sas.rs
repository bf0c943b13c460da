//! The text of a SharedAccessSignature token (Azure Relay, "SAS tokens").
//!
//! ```text
//! SharedAccessSignature sr={enc(URI)}&sig={enc(base64(HMAC-SHA256))}&se={unix seconds}&skn={enc(rule)}
//! ```
//!
//! What is signed is the text of `sr` exactly as it stands in the token, a line feed, and the text
//! of `se`. Nothing is decoded and encoded again for that: `%3A` and `%3a` sign differently.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::percent;
use crate::limits::{SAS_EXPIRY_DIGITS, SAS_NAME_CHARS, SAS_TOKEN_BYTES};

/// The scheme word in front of a token. Its case does not matter.
pub const SCHEME: &str = "SharedAccessSignature";

/// A token, read and not yet verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SasToken<'a> {
    resource_text: &'a str,
    expiry_text: &'a str,
    resource: String,
    signature: Vec<u8>,
    expires: u64,
    rule: String,
}

impl<'a> SasToken<'a> {
    /// Reads the fields, in whatever order they come. Unknown fields are passed over.
    ///
    /// # Errors
    /// [`Malformed`] if the text is not a token of this kind.
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        if SAS_TOKEN_BYTES < text.len() {
            return Err(Malformed::TooLong);
        }
        let (scheme, fields) = text.split_once(' ').ok_or(Malformed::Scheme)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(Malformed::Scheme);
        }
        let (mut sr, mut sig, mut se, mut skn) = (None, None, None, None);
        for field in fields.split('&') {
            let (name, value) = field.split_once('=').ok_or(Malformed::Field)?;
            let (slot, name) = match name {
                "sr" => (&mut sr, "sr"),
                "sig" => (&mut sig, "sig"),
                "se" => (&mut se, "se"),
                "skn" => (&mut skn, "skn"),
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(Malformed::Twice(name));
            }
        }
        let resource_text = sr.ok_or(Malformed::Missing("sr"))?;
        let expiry_text = se.ok_or(Malformed::Missing("se"))?;
        let signature = sig.ok_or(Malformed::Missing("sig"))?;
        let rule = skn.ok_or(Malformed::Missing("skn"))?;
        let signature = percent::decode(signature).ok_or(Malformed::Escape("sig"))?;
        let rule = percent::decode(rule).ok_or(Malformed::Escape("skn"))?;
        if SAS_NAME_CHARS < rule.chars().count() {
            return Err(Malformed::TooLong);
        }
        Ok(Self {
            resource_text,
            expiry_text,
            resource: percent::decode(resource_text).ok_or(Malformed::Escape("sr"))?,
            signature: STANDARD.decode(signature).map_err(|_| Malformed::Signature)?,
            expires: parse_expiry(expiry_text)?,
            rule,
        })
    }

    /// The text that the signature covers.
    #[must_use]
    pub fn string_to_sign(&self) -> String {
        string_to_sign(self.resource_text, self.expiry_text)
    }

    /// The URI that the token is for, decoded.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The signature's bytes.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// When the token ends, in unix seconds.
    #[must_use]
    pub const fn expires(&self) -> u64 {
        self.expires
    }

    /// The name of the rule whose key has signed, decoded.
    #[must_use]
    pub fn rule(&self) -> &str {
        &self.rule
    }
}

/// Writes a token. `resource_text` is the URI already encoded, as it was signed.
#[must_use]
pub fn format(resource_text: &str, signature: &[u8], expires: u64, rule: &str) -> String {
    let signature = percent::encode(&STANDARD.encode(signature), percent::is_unreserved);
    let rule = percent::encode(rule, percent::is_unreserved);
    format!("{SCHEME} sr={resource_text}&sig={signature}&se={expires}&skn={rule}")
}

/// The text that a signature covers, from the raw texts of `sr` and `se`.
#[must_use]
pub fn string_to_sign(resource_text: &str, expiry_text: &str) -> String {
    format!("{resource_text}\n{expiry_text}")
}

fn parse_expiry(text: &str) -> Result<u64, Malformed> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || text.len() > SAS_EXPIRY_DIGITS {
        return Err(Malformed::Expiry);
    }
    text.parse().map_err(|_| Malformed::Expiry)
}

/// Why a text is no SAS token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Malformed {
    /// The text, or a name in it, is longer than any real one.
    TooLong,
    /// It does not begin with the scheme word and a blank.
    Scheme,
    /// A field has no `=`.
    Field,
    /// This field is there twice.
    Twice(&'static str),
    /// This field is not there.
    Missing(&'static str),
    /// This field has a broken escape.
    Escape(&'static str),
    /// `sig` is not base64.
    Signature,
    /// `se` is not a decimal number of at most ten digits.
    Expiry,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("the token is too long"),
            Self::Scheme => write!(f, "the token does not begin with {SCHEME}"),
            Self::Field => f.write_str("a field has no value"),
            Self::Twice(name) => write!(f, "the field {name} is there twice"),
            Self::Missing(name) => write!(f, "the field {name} is missing"),
            Self::Escape(name) => write!(f, "the field {name} has a broken escape"),
            Self::Signature => f.write_str("the field sig is not base64"),
            Self::Expiry => f.write_str("the field se is not a time in unix seconds"),
        }
    }
}

impl std::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use super::*;

    const SIG: &str = "9XA76OkyCLDChqTBwC4OB0KBb52RXrFpUyVAe6CXOGE%3D";

    #[test]
    fn fields_come_in_any_order_and_unknown_ones_are_passed_over() {
        let text = format!("sharedaccesssignature skn=Root%20Key&x=1&se=17&sig={SIG}&sr=a%3a%2Fb");
        let token = SasToken::parse(&text).expect("a token");
        assert_eq!(token.resource(), "a:/b");
        assert_eq!(token.rule(), "Root Key");
        assert_eq!(token.expires(), 17);
        assert_eq!(token.signature().len(), 32);
        assert_eq!(token.string_to_sign(), "a%3a%2Fb\n17");
    }

    #[test]
    fn what_is_written_reads_back() {
        let text = format("http%3A%2F%2Fns%2Fe", &[7; 32], 1_893_456_000, "Send & Listen");
        let token = SasToken::parse(&text).expect("a token");
        assert_eq!(token.resource(), "http://ns/e");
        assert_eq!(token.rule(), "Send & Listen");
        assert_eq!(token.signature(), &[7; 32]);
    }

    #[test]
    fn every_malformation_has_its_name() {
        let long = "x".repeat(SAS_TOKEN_BYTES);
        let rule = "r".repeat(SAS_NAME_CHARS + 1);
        let cases = [
            (String::new(), Malformed::Scheme),
            (format!("Bearer sr=a&sig={SIG}&se=1&skn=r"), Malformed::Scheme),
            (format!("{SCHEME}\tsr=a&sig={SIG}&se=1&skn=r"), Malformed::Scheme),
            (format!("{SCHEME} {long}"), Malformed::TooLong),
            (format!("{SCHEME} sr=a&sig={SIG}&se=1&skn={rule}"), Malformed::TooLong),
            (format!("{SCHEME} sr=a&&sig={SIG}&se=1&skn=r"), Malformed::Field),
            (format!("{SCHEME} sr=a&sr=a&sig={SIG}&se=1&skn=r"), Malformed::Twice("sr")),
            (format!("{SCHEME} sr=a&sig={SIG}&se=1&se=2&skn=r"), Malformed::Twice("se")),
            (format!("{SCHEME} sig={SIG}&se=1&skn=r"), Malformed::Missing("sr")),
            (format!("{SCHEME} sr=a&se=1&skn=r"), Malformed::Missing("sig")),
            (format!("{SCHEME} sr=a&sig={SIG}&skn=r"), Malformed::Missing("se")),
            (format!("{SCHEME} sr=a&sig={SIG}&se=1"), Malformed::Missing("skn")),
            (format!("{SCHEME} sr=%&sig={SIG}&se=1&skn=r"), Malformed::Escape("sr")),
            (format!("{SCHEME} sr=a&sig=%3&se=1&skn=r"), Malformed::Escape("sig")),
            (format!("{SCHEME} sr=a&sig={SIG}&se=1&skn=%ff"), Malformed::Escape("skn")),
            (format!("{SCHEME} sr=a&sig=***&se=1&skn=r"), Malformed::Signature),
            (format!("{SCHEME} sr=a&sig={SIG}&se=&skn=r"), Malformed::Expiry),
            (format!("{SCHEME} sr=a&sig={SIG}&se=+1&skn=r"), Malformed::Expiry),
            (format!("{SCHEME} sr=a&sig={SIG}&se=1.0&skn=r"), Malformed::Expiry),
            (format!("{SCHEME} sr=a&sig={SIG}&se=12345678901&skn=r"), Malformed::Expiry),
        ];
        for (text, expected) in cases {
            assert_eq!(SasToken::parse(&text), Err(expected), "{text}");
        }
    }
}

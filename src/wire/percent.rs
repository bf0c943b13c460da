//! Percent-encoding (RFC 3986, 2.1): bytes to `%XX` and back.

use std::fmt::Write as _;

/// Text in which every byte that `keep` does not name is written as `%XX`.
#[must_use]
pub fn encode(text: &str, keep: impl Fn(u8) -> bool) -> String {
    encode_behind("", text, keep)
}

/// The same behind `start`, which is taken as it is.
#[must_use]
pub fn encode_behind(start: &str, text: &str, keep: impl Fn(u8) -> bool) -> String {
    // Room for a few escapes, of which most texts have none or one.
    let mut encoded = String::with_capacity(start.len() + text.len() + 8);
    encoded.push_str(start);
    for byte in text.bytes() {
        if byte.is_ascii() && keep(byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a String takes all text");
        }
    }
    encoded
}

/// Whether RFC 3986 calls this byte unreserved: it needs no escape anywhere in a URI.
#[must_use]
pub const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// The text behind the escapes, or nothing if one is cut short, is not hexadecimal, or the result
/// is not UTF-8. A `+` stays a `+`.
#[must_use]
pub fn decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let high = char::from(rest.next()?).to_digit(16)?;
        let low = char::from(rest.next()?).to_digit(16)?;
        decoded.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_decodes_to_itself() {
        let text = "http://relay.example:443/a b/\u{e9}%+";
        let encoded = encode(text, is_unreserved);
        assert_eq!(encoded, "http%3A%2F%2Frelay.example%3A443%2Fa%20b%2F%C3%A9%25%2B");
        assert_eq!(decode(&encoded).as_deref(), Some(text));
        assert_eq!(decode("%3a%3A+").as_deref(), Some("::+"));
    }

    #[test]
    fn broken_escapes_are_refused() {
        for text in ["%", "%2", "%zz", "%+1", "a%2", "%ff", "%c3%28"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}

//! The character classes of RFC 9110 and RFC 3986 that heads are checked against.

/// `tchar` of RFC 9110, 5.6.2.
pub(super) const fn is_tchar(byte: u8) -> bool {
    matches!(byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`'
        | b'|' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z')
}

/// A token: one or more `tchar`.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_tchar)
}

/// What may stand in a field value: tab, space, visible and obs-text (RFC 9110, 5.5).
pub(super) const fn is_value_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// A field value as it may be sent: no controls, no blank at either end.
pub(super) fn is_value(bytes: &[u8]) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    bytes.iter().copied().all(is_value_byte) && !blank(bytes.first()) && !blank(bytes.last())
}

/// Takes optional white space (space and tab, nothing else) off both ends.
pub(super) const fn trim_ows(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// `unreserved` and `sub-delims` of RFC 3986, section 2.
const fn is_plain(byte: u8) -> bool {
    matches!(byte,
        b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b','
        | b';' | b'=' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z')
}

/// Text of plain bytes, bytes that `also` admits, and whole percent escapes.
fn is_escaped_text(mut bytes: &[u8], also: impl Fn(u8) -> bool) -> bool {
    loop {
        match bytes {
            [] => return true,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                bytes = rest;
            }
            [byte, rest @ ..] if is_plain(*byte) || also(*byte) => bytes = rest,
            _ => return false,
        }
    }
}

/// `origin-form` of RFC 9112, 3.2.1: an absolute path and perhaps a query.
pub(super) fn is_origin_form(target: &[u8]) -> bool {
    let path_end = memchr::memchr(b'?', target).unwrap_or(target.len());
    let (path, query) = target.split_at(path_end);
    path.first() == Some(&b'/')
        && is_escaped_text(path, |byte| matches!(byte, b'/' | b':' | b'@'))
        && is_escaped_text(query, |byte| matches!(byte, b'/' | b':' | b'@' | b'?'))
}

/// `uri-host [ ":" port ]` of RFC 9110, 7.2, for hosts that there are: names of letters, digits,
/// hyphens, underscores and dots, and address literals.
pub(super) fn is_host(value: &[u8]) -> bool {
    let (host, port) = match value {
        [b'[', rest @ ..] => {
            let Some(end) = memchr::memchr(b']', rest) else { return false };
            let (inner, tail) = rest.split_at(end);
            let literal = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
            if !inner.iter().all(literal) {
                return false;
            }
            (inner, tail.get(1..).unwrap_or_default())
        }
        _ => value.split_at(memchr::memchr(b':', value).unwrap_or(value.len())),
    };
    let port_is_good = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let named = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    let bracketed = value.first() == Some(&b'[');
    !host.is_empty() && port_is_good && (bracketed || host.iter().all(named))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_an_absolute_path_and_a_query_of_legal_bytes() {
        for good in ["/", "//x/y", "/a/../%2e%2F;p=1:@", "/a?b=c&d=/?:@", "/?", "/a%00"] {
            assert!(is_origin_form(good.as_bytes()), "{good}");
        }
        let bad = [
            "",
            "*",
            "a",
            "http://h/",
            "h:443",
            "/a b",
            "/a#f",
            "/a\"",
            "/a\\b",
            "/%zz",
            "/%2",
            "/a\t",
            "/a\u{1}",
            "/a\u{7f}",
            "/é",
            "/a?b#c",
            "/a?<",
            "/[",
            "/a|b",
            "/a^b",
            "/{",
        ];
        for bad in bad {
            assert!(!is_origin_form(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn hosts_are_names_addresses_and_bracketed_literals_with_a_port() {
        for good in ["h", "h:1", "h:", "a-b.c_d:65535", "127.0.0.1:80", "[::1]", "[::1]:443"] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        let bad = [
            "", ":80", "h:x", "h:123456", "h/", "h@g", "u@h", "h h", "[::1", "[::1]x", "[]", "h,g",
            "[g]", "h\0.x", "h:80:81", "é", "h#", "h?",
        ];
        for bad in bad {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn only_space_and_tab_are_trimmed() {
        assert_eq!(trim_ows(b" \t a b\t "), b"a b");
        assert_eq!(trim_ows(b"\x0ba\xa0"), b"\x0ba\xa0");
        assert_eq!(trim_ows(b"  "), b"");
    }
}

//! The absolute URLs that people write in options and kubeconfig files: scheme, host, port, path.
//! No user, no query, no fragment: none of them has a meaning here, and each has hidden a host.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An `https` or `http` URL.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Url {
    /// It is `https`.
    pub tls: bool,
    /// A name in lower case or an address, without brackets.
    pub host: String,
    /// As written, or that of the scheme.
    pub port: u16,
    /// Empty, or with a slash at its beginning and none at its end.
    pub path: String,
}

/// Why a text is no URL.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Misshapen {
    /// Neither `https://` nor `http://`.
    Scheme,
    /// No host, or one with a character that no host has.
    Host,
    /// Not a port from 1 to 65535.
    Port,
    /// A user name before the host.
    User,
    /// A path with a query, a fragment or a character that belongs in none.
    Path,
}

impl fmt::Display for Misshapen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "a URL begins with https:// or http://",
            Self::Host => "the host of the URL is not a name or an address",
            Self::Port => "the port of the URL is not one",
            Self::User => "a user name in the URL is not taken",
            Self::Path => "the path of the URL has a query, a fragment or a stray character",
        })
    }
}

impl std::error::Error for Misshapen {}

impl Url {
    /// Reads an absolute URL.
    ///
    /// # Errors
    ///
    /// [`Misshapen`]
    pub fn parse(text: &str) -> Result<Self, Misshapen> {
        let scheme = |name: &str| {
            let head = text.get(..name.len())?;
            head.eq_ignore_ascii_case(name).then(|| text.get(name.len()..)).flatten()
        };
        let (tls, rest) = match (scheme("https://"), scheme("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(Misshapen::Scheme),
        };
        let at = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(at).ok_or(Misshapen::Host)?;
        let (host, port) = authority_parts(authority)?;
        let port = port.unwrap_or(if tls { 443 } else { 80 });
        let stray = |c: char| !c.is_ascii_graphic() || "?#\\\"<>^`{|}".contains(c);
        if path.contains(stray) {
            return Err(Misshapen::Path);
        }
        Ok(Self { tls, host, port, path: path.trim_end_matches('/').to_owned() })
    }

    /// `host[:port]` as a `Host` field has it.
    #[must_use]
    pub fn authority(&self) -> String {
        let default = if self.tls { 443 } else { 80 };
        let brackets = self.host.contains(':');
        let host = if brackets { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == default { host } else { format!("{host}:{}", self.port) }
    }

    /// The host is this machine, by name or by address.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

/// Splits `host[:port]`; the host loses its brackets and its capitals.
///
/// # Errors
///
/// [`Misshapen`]
pub fn authority_parts(text: &str) -> Result<(String, Option<u16>), Misshapen> {
    if text.contains('@') {
        return Err(Misshapen::User);
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(Misshapen::Host)?;
            host.parse::<Ipv6Addr>().map_err(|_| Misshapen::Host)?;
            match rest {
                "" => (host, None),
                _ => (host, Some(rest.strip_prefix(':').ok_or(Misshapen::Host)?)),
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let name = |c: u8| c.is_ascii_alphanumeric() || b"-._".contains(&c);
    let numeric = host.rsplit('.').next().is_some_and(|last| last.parse::<u64>().is_ok());
    let good = host.contains(':')
        || host.parse::<Ipv4Addr>().is_ok()
        || (!host.is_empty() && host.len() <= 253 && host.bytes().all(name) && !numeric);
    if !good {
        return Err(Misshapen::Host);
    }
    let port = match port {
        None => None,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            let port = digits.parse::<u16>().map_err(|_| Misshapen::Port)?;
            Some(port).filter(|&port| port != 0).ok_or(Misshapen::Port).map(Some)?
        }
        Some(_) => return Err(Misshapen::Port),
    };
    Ok((host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_comes_apart_and_together() {
        for (text, host, port, path, again) in [
            ("https://Relay.Example", "relay.example", 443, "", "https://relay.example"),
            ("HTTPS://r:8443/", "r", 8443, "", "https://r:8443"),
            ("http://127.0.0.1:80/a/b/", "127.0.0.1", 80, "/a/b", "http://127.0.0.1/a/b"),
            ("https://[::1]:6443/x", "::1", 6443, "/x", "https://[::1]:6443/x"),
            ("https://a_b-c.d:443", "a_b-c.d", 443, "", "https://a_b-c.d"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.host.as_str(), url.port, url.path.as_str()), (host, port, path));
            assert_eq!(url.to_string(), again);
            assert_eq!(Url::parse(again), Ok(url));
        }
    }

    #[test]
    fn what_hides_or_breaks_a_host_is_refused() {
        for (text, why) in [
            ("", Misshapen::Scheme),
            ("relay.example", Misshapen::Scheme),
            ("ftp://a", Misshapen::Scheme),
            ("https:/a", Misshapen::Scheme),
            ("https://", Misshapen::Host),
            ("https:///path", Misshapen::Host),
            ("https://a b", Misshapen::Host),
            ("https://a\r\nb", Misshapen::Host),
            ("https://[::1", Misshapen::Host),
            ("https://[::1]x", Misshapen::Host),
            ("https://[evil]", Misshapen::Host),
            ("https://::1", Misshapen::Host),
            ("https://1.2.3.4.5", Misshapen::Host),
            ("https://0x7f.1", Misshapen::Host),
            ("https://2130706433", Misshapen::Host),
            ("https://ä", Misshapen::Host),
            ("https://a:", Misshapen::Port),
            ("https://a:0", Misshapen::Port),
            ("https://a:+1", Misshapen::Port),
            ("https://a:65536", Misshapen::Port),
            ("https://good@evil", Misshapen::User),
            ("https://good:x@evil/", Misshapen::User),
            ("https://a/?q", Misshapen::Path),
            ("https://a/#f", Misshapen::Path),
            ("https://a/b c", Misshapen::Path),
            ("https://a/\\b", Misshapen::Path),
        ] {
            assert_eq!(Url::parse(text), Err(why), "{text:?}");
        }
    }

    #[test]
    fn loopback_is_known_by_name_and_address() {
        for (text, local) in
            [("http://localhost", true), ("http://127.9.9.9", true), ("http://[::1]", true)]
        {
            assert_eq!(Url::parse(text).unwrap().is_loopback(), local);
        }
        assert!(!Url::parse("http://localhost.evil").unwrap().is_loopback());
    }
}

//! Addresses of rendezvous: used as they came, but not for everything.

use crate::wire::percent;

/// Where a rendezvous is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Address {
    /// Over TLS.
    pub(super) secure: bool,
    /// Name or address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// For `Host`, as written.
    pub(super) authority: String,
    /// Path and query, as written.
    pub(super) target: String,
}

impl Address {
    pub(super) fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "wss" | "https" => true,
            "ws" | "http" => false,
            _ => return None,
        };
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let end = rest.find('/')?;
        let (authority, target) = rest.split_at(end);
        let (host, port) = host_port(authority, if secure { 443 } else { 80 })?;
        Some(Self {
            secure,
            host,
            port,
            authority: authority.to_owned(),
            target: target.to_owned(),
        })
    }

    /// The target that turns the accept into a rejection.
    pub(super) fn rejection(&self, status: u16, description: &str) -> String {
        let description = percent::encode(description, percent::is_unreserved);
        let target = &self.target;
        format!("{target}&sb-hc-statusCode={status}&sb-hc-statusDescription={description}")
    }
}

/// Host without brackets, and port, of `host[:port]`.
pub(super) fn host_port(authority: &str, default: u16) -> Option<(String, u16)> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        Some(_) | None => (authority, default),
    };
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let sane = !host.is_empty() && !host.contains(['@', '?', '#', '\\']);
    sane.then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart_and_kept_verbatim() {
        let url = "wss://g12-prod.example:8443/$hc/e/s%c3?a&&b=1&sb-hc-action=accept&sb-hc-id=I_G1";
        let address = Address::parse(url).unwrap();
        assert!(address.secure);
        assert_eq!((address.host.as_str(), address.port), ("g12-prod.example", 8443));
        assert_eq!(address.authority, "g12-prod.example:8443");
        assert_eq!(address.target, "/$hc/e/s%c3?a&&b=1&sb-hc-action=accept&sb-hc-id=I_G1");
        assert!(address.rejection(502, "no auth proxy").ends_with(
            "&sb-hc-id=I_G1&sb-hc-statusCode=502&sb-hc-statusDescription=no%20auth%20proxy"
        ));
        let v6 = Address::parse("ws://[::1]/x").unwrap();
        assert_eq!((v6.secure, v6.host.as_str(), v6.port), (false, "::1", 80));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for url in [
            "",
            "wss://",
            "wss://host",
            "ftp://host/x",
            "wss:///x",
            "wss://h:99999/x",
            "wss://user@host/x",
            "wss://h/x y",
            "wss://h/x\r\nX: y",
            "/$hc/x",
        ] {
            assert_eq!(Address::parse(url), None, "{url}");
        }
    }
}

//! What belongs to one hop: the connection fields, and the upgrade.

use super::grammar::trim_ows;
use super::{FieldClass, Fields, Framing, Malformed, Version, reads_as};

/// A protocol that a connection may be upgraded to. Others are not offered on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// RFC 6455.
    WebSocket,
    /// What kubectl spoke before WebSocket, and still falls back to.
    Spdy,
}

impl Protocol {
    /// Its name in `Upgrade`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Spdy => "SPDY/3.1",
        }
    }

    fn named(value: &[u8]) -> Option<Self> {
        let is = |protocol: &Self| value.eq_ignore_ascii_case(protocol.name().as_bytes());
        [Self::WebSocket, Self::Spdy].into_iter().find(is)
    }

    /// What a request asks for. `Upgrade` without the connection option means nothing, and neither
    /// does one protocol that we do not carry.
    pub(super) fn requested(
        fields: &Fields,
        version: Version,
        framing: Framing,
    ) -> Result<Option<Self>, Malformed> {
        if !fields.has_member("connection", "upgrade") {
            return Ok(None);
        }
        let mut offers = fields.all("upgrade");
        let protocol = match (offers.next(), offers.next()) {
            (None, _) => return Ok(None),
            (Some(offer), None) if !offer.contains(&b',') => Self::named(trim_ows(offer)),
            (Some(_), _) => return Err(Malformed::UpgradeList),
        };
        match (protocol, version, framing) {
            (None, _, _) => Ok(None),
            (Some(_), Version::Http10, _) => Err(Malformed::UpgradeInOldVersion),
            (Some(_), Version::Http11, Framing::None | Framing::Length(0)) => Ok(protocol),
            (
                Some(_),
                Version::Http11,
                Framing::Length(_) | Framing::Chunked | Framing::UntilClose,
            ) => Err(Malformed::UpgradeWithBody),
        }
    }

    /// What a `101` switches to.
    pub(super) fn granted(fields: &Fields) -> Option<Self> {
        let mut names = fields.all("upgrade");
        match (names.next(), names.next()) {
            (Some(name), None) if fields.has_member("connection", "upgrade") => Self::named(name),
            _ => None,
        }
    }

    pub(super) fn write(self, out: &mut Vec<u8>) {
        for part in ["Connection: Upgrade\r\nUpgrade: ", self.name(), "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
}

/// Whether a field belongs to one hop and is made anew for the next, or left out: the connection
/// fields of RFC 9110, 7.6.1, the framing, the expectation.
#[must_use]
pub fn is_remade(name: &str) -> bool {
    // Spelt with underscores it is nobody's but a server's that folds them, and not of this hop.
    let is_plain = !name.contains('_') && !name.eq_ignore_ascii_case("host");
    is_plain && matches!(FieldClass::of(name), FieldClass::HopByHop | FieldClass::Framing)
}

/// Removes every field that [`is_remade`] or that the sender has declared to be of its own hop.
/// Add fields only afterwards: nothing that was added may be subject to a peer's list.
pub fn strip(fields: &mut Fields) {
    let options: Vec<Box<[u8]>> = fields.members("connection").map(Box::from).collect();
    fields.retain(|field| {
        let named = options.iter().any(|it| it.eq_ignore_ascii_case(field.name.as_bytes()));
        !named && !is_remade(field.name)
    });
}

/// The first connection option that names a field which no sender may have removed: identity,
/// framing, routing. Honouring it would let a caller take off what a proxy puts on.
#[must_use]
pub fn protected_option(fields: &Fields) -> Option<&str> {
    const CONTENT: [&str; 6] = [
        "content-type",
        "content-encoding",
        "cookie",
        "expect",
        "sec-websocket-protocol",
        "sec-websocket-key",
    ];
    fields.members("connection").filter_map(|it| std::str::from_utf8(it).ok()).find(|option| {
        let is_content = || CONTENT.iter().any(|plain| reads_as(option, plain));
        !FieldClass::of(option).may_be_per_hop() || is_content()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(list: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in list {
            fields.push(name, value).unwrap();
        }
        fields
    }

    #[test]
    fn one_hops_fields_go_and_the_others_stay() {
        let mut list = fields(&[
            ("Connection", "X-Foo, close"),
            ("X-Foo", "1"),
            ("connection", "keep-alive,,x-bar"),
            ("x-Bar", "1"),
            ("X-FOO", "2"),
            ("Keep-Alive", "5"),
            ("TE", "trailers"),
            ("Trailer", "a"),
            ("Transfer-Encoding", "chunked"),
            ("Content-Length", "3"),
            ("Upgrade", "h2c"),
            ("HTTP2-Settings", "AA"),
            ("Proxy-Authorization", "x"),
            ("Proxy-Connection", "x"),
            ("Expect", "100-continue"),
            ("Accept", "*/*"),
            ("Proxyless", "1"),
        ]);
        strip(&mut list);
        assert_eq!(list.iter().map(|it| it.name).collect::<Vec<_>>(), ["Accept", "Proxyless"]);
    }

    #[test]
    fn options_that_name_protected_fields_are_found() {
        let bad = [
            "Impersonate-User",
            "x, IMPERSONATE_GROUP",
            "authorization",
            "Host",
            "content-length",
            "Transfer-Encoding",
            "X-Remote-User",
            "x_forwarded_for",
            "Audit-ID",
            "Impersonate",
        ];
        for bad in bad {
            assert!(protected_option(&fields(&[("Connection", bad)])).is_some(), "{bad}");
        }
        let two = fields(&[("Connection", "x"), ("Connection", "Impersonate-User")]);
        assert_eq!(protected_option(&two), Some("Impersonate-User"));
        for good in ["close", "keep-alive, Upgrade", "X-Foo", "HTTP2-Settings", ""] {
            assert_eq!(protected_option(&fields(&[("Connection", good)])), None, "{good}");
        }
    }

    #[test]
    fn an_upgrade_is_one_protocol_on_the_list_without_a_body() {
        let ask = |connection: &str, upgrade: &str, version, framing| {
            let list = fields(&[("Connection", connection), ("Upgrade", upgrade)]);
            Protocol::requested(&list, version, framing)
        };
        let (new, old, none) = (Version::Http11, Version::Http10, Framing::None);
        assert_eq!(ask("a, UPGRADE", "WebSocket", new, none), Ok(Some(Protocol::WebSocket)));
        assert_eq!(ask("Upgrade", "spdy/3.1", new, Framing::Length(0)), Ok(Some(Protocol::Spdy)));
        assert_eq!(ask("Upgrade", "h2c", new, none), Ok(None));
        assert_eq!(ask("keep-alive", "websocket", new, none), Ok(None));
        assert_eq!(ask("Upgrade", "websocket, h2c", new, none), Err(Malformed::UpgradeList));
        assert_eq!(ask("Upgrade", "websocket", old, none), Err(Malformed::UpgradeInOldVersion));
        for framing in [Framing::Length(1), Framing::Chunked] {
            let got = ask("Upgrade", "websocket", new, framing);
            assert_eq!(got, Err(Malformed::UpgradeWithBody));
        }
        let twice =
            fields(&[("Connection", "upgrade"), ("Upgrade", "websocket"), ("Upgrade", "h2c")]);
        assert_eq!(Protocol::requested(&twice, new, none), Err(Malformed::UpgradeList));
        assert_eq!(Protocol::granted(&twice), None);
    }
}

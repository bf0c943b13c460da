//! The way out: which connections go through an HTTP proxy, as `HTTPS_PROXY` and `NO_PROXY` say.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Via;
use crate::secret::Secret;
use crate::wire::url::{Misshapen, Url};

/// The proxy, and where it is not used.
#[derive(Clone, Debug, Default)]
pub struct Egress {
    proxy: Option<Arc<Via>>,
    exempt: Vec<Exempt>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Exempt {
    All,
    /// The name itself and every name below it.
    Name(String),
    Net(IpAddr, u8),
}

/// A proxy that is not understood. The text itself may hold a password.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unusable {
    /// Only `http://` proxies are spoken to.
    Scheme,
    /// Its URL.
    Url(Misshapen),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme => f.write_str("HTTPS_PROXY must begin with http://"),
            Self::Url(why) => write!(f, "HTTPS_PROXY: {why}"),
        }
    }
}

impl std::error::Error for Unusable {}

impl Egress {
    /// Reads the variables, in upper or lower case.
    ///
    /// # Errors
    ///
    /// [`Unusable`]
    pub fn from_variables(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, Unusable> {
        let first = |names: [&str; 2]| {
            names.into_iter().find_map(variable).filter(|text| !text.trim().is_empty())
        };
        let proxy = match first(["HTTPS_PROXY", "https_proxy"]) {
            Some(text) => Some(Arc::new(via(text.trim())?)),
            None => None,
        };
        let exempt = first(["NO_PROXY", "no_proxy"]).unwrap_or_default();
        let exempt = exempt.split(',').filter_map(|word| Exempt::parse(word.trim())).collect();
        Ok(Self { proxy, exempt })
    }

    /// The proxy for a connection to `host`, a name or an address without brackets. This machine is
    /// never reached through one.
    #[must_use]
    pub fn via(&self, host: &str) -> Option<Arc<Via>> {
        let host = host.to_ascii_lowercase();
        let address = host.parse::<IpAddr>().ok();
        let local = host == "localhost" || address.is_some_and(|address| address.is_loopback());
        let exempt = local || self.exempt.iter().any(|exempt| exempt.covers(&host, address));
        self.proxy.clone().filter(|_| !exempt)
    }
}

impl Exempt {
    fn parse(word: &str) -> Option<Self> {
        if word.is_empty() {
            return None;
        }
        if word == "*" {
            return Some(Self::All);
        }
        let (address, bits) = match word.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
            None => (word, None),
        };
        if let Ok(address) = address.trim_matches(['[', ']']).parse::<IpAddr>() {
            let most = if address.is_ipv4() { 32 } else { 128 };
            return Some(Self::Net(address, bits.unwrap_or(most).min(most)));
        }
        let name = word.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase();
        Some(Self::Name(name))
    }

    fn covers(&self, host: &str, address: Option<IpAddr>) -> bool {
        match self {
            Self::All => true,
            Self::Name(name) => host
                .strip_suffix(name.as_str())
                .is_some_and(|head| head.is_empty() || head.ends_with('.')),
            Self::Net(net, bits) => address.is_some_and(|address| same_net(*net, address, *bits)),
        }
    }
}

fn same_net(net: IpAddr, address: IpAddr, bits: u8) -> bool {
    let (a, b, width) = match (net, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    let shift = u32::from(bits).abs_diff(width);
    a.checked_shr(shift).unwrap_or(0) == b.checked_shr(shift).unwrap_or(0)
}

/// `[http://][user:password@]host[:port]`
fn via(text: &str) -> Result<Via, Unusable> {
    let rest = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some(_) => return Err(Unusable::Scheme),
        None => text,
    };
    let (user, place) = match rest.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, rest),
    };
    let url = Url::parse(&format!("http://{place}")).map_err(Unusable::Url)?;
    let authorization = match user {
        Some(user) => {
            let plain = percent_decoded(user).ok_or(Unusable::Url(Misshapen::User))?;
            Some(Secret::new(format!("Basic {}", STANDARD.encode(plain))))
        }
        None => None,
    };
    Ok(Via { host: url.host, port: url.port, authorization })
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        bytes.push(u8::try_from(high.checked_mul(16)?.checked_add(low)?).ok()?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn egress(proxy: &'static str, exempt: &'static str) -> Result<Egress, Unusable> {
        Egress::from_variables(&|name| match name {
            "HTTPS_PROXY" => Some(proxy.to_owned()),
            "no_proxy" => Some(exempt.to_owned()),
            _ => None,
        })
    }

    #[test]
    fn a_proxy_is_used_except_where_it_is_not_wanted() {
        let egress = egress(
            "http://proxy.corp:3128",
            "internal.corp, .svc,*.lab,10.0.0.0/8,192.168.1.5,[fd00::]/8,,x/y",
        );
        let egress = egress.unwrap();
        for (host, through) in [
            ("relay.example", true),
            ("internal.corp", false),
            ("a.internal.corp", false),
            ("A.Internal.Corp", false),
            ("notinternal.corp", true),
            ("kubernetes.default.svc", false),
            ("a.lab", false),
            ("10.1.2.3", false),
            ("11.1.2.3", true),
            ("192.168.1.5", false),
            ("192.168.1.6", true),
            ("fd12::1", false),
            ("fe80::1", true),
            ("127.0.0.1", false),
            ("::1", false),
            ("localhost", false),
        ] {
            assert_eq!(egress.via(host).is_some(), through, "{host}");
        }
    }

    #[test]
    fn a_password_is_sent_and_not_shown() {
        let egress = egress("http://user:p%40ss@proxy:3128/", "").unwrap();
        let via = egress.via("a").unwrap();
        assert_eq!((via.host.as_str(), via.port), ("proxy", 3128));
        let sent = via.authorization.as_ref().unwrap().expose().clone();
        assert_eq!(sent, format!("Basic {}", STANDARD.encode("user:p@ss")));
        assert!(!format!("{egress:?}").contains(&sent));
    }

    #[test]
    fn a_bare_host_is_a_proxy_and_nothing_means_none() {
        assert_eq!(egress("proxy", "").unwrap().via("a").unwrap().port, 80);
        assert!(egress(" ", "").unwrap().via("a").is_none());
        assert!(egress("proxy", "*").unwrap().via("a").is_none());
    }

    #[test]
    fn a_proxy_that_is_not_understood_is_an_error_without_its_password() {
        for text in ["socks5://proxy", "https://proxy", "http://", "http://a b", "http://u%zz@p"] {
            let error = egress(text, "").unwrap_err().to_string();
            assert!(!error.contains("u%zz"), "{error}");
        }
    }
}

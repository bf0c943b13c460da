//! From which addresses anybody may come at all: the network rules of a namespace, in Azure's terms.
//!
//! An address is the one that the socket has, never one that a header claims. IPv4 has one form
//! here: a peer `::ffff:10.0.0.4` is `10.0.0.4`, and no mask is written in that form.

use std::fmt;
use std::net::IpAddr;

use crate::limits::NETWORK_MASKS_MAX;

/// Who may come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NetworkRules {
    /// Anybody may come by the network.
    pub is_public: bool,
    /// Whoever comes from an address of no mask may come.
    pub allows_others: bool,
    masks: Vec<Mask>,
}

/// Everybody may come.
impl Default for NetworkRules {
    fn default() -> Self {
        Self { is_public: true, allows_others: true, masks: Vec::new() }
    }
}

impl NetworkRules {
    /// With `masks`, each of them once; `None` if there are too many.
    #[must_use]
    pub fn new(is_public: bool, allows_others: bool, masks: Vec<Mask>) -> Option<Self> {
        let mut once: Vec<Mask> = Vec::new();
        for mask in masks {
            if !once.contains(&mask) {
                once.push(mask);
            }
        }
        (once.len() <= NETWORK_MASKS_MAX).then_some(Self { is_public, allows_others, masks: once })
    }

    /// The addresses that may come, in the order in which they were named.
    #[must_use]
    pub fn masks(&self) -> &[Mask] {
        &self.masks
    }

    /// Whether somebody may come from `address`. Who has none, as behind a Unix socket, is under no
    /// mask.
    #[must_use]
    pub fn admit(&self, address: Option<IpAddr>) -> bool {
        let address = address.map(|address| address.to_canonical());
        let is_named = || {
            let covers = |address| self.masks.iter().any(|mask| mask.covers(address));
            address.is_some_and(covers)
        };
        self.is_public && (self.allows_others || is_named())
    }
}

/// What counts as one: an address of IPv4, and the whole /64 that an IPv6 host has.
#[must_use]
pub fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
    }
}

/// An address, or all that begin with the same bits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mask {
    first: IpAddr,
    bits: u8,
}

impl Mask {
    /// Reads `10.0.0.0/8`, `192.0.2.7`, `2001:db8::/32`.
    ///
    /// # Errors
    ///
    /// [`Mismasked`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Mismasked> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let first: IpAddr = address.parse().map_err(|_| Mismasked::NoAddress)?;
        if matches!(first, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
            return Err(Mismasked::Mapped);
        }
        let bits = match bits {
            None => width(first),
            Some(bits) => prefix(bits)
                .filter(|bits| *bits <= width(first))
                .ok_or_else(|| Mismasked::Length(width(first)))?,
        };
        let mask = Self { first, bits };
        let cut = mask.cut(first);
        if cut != first {
            return Err(Mismasked::Rest(Self { first: cut, bits }));
        }
        Ok(mask)
    }

    /// Whether `address`, in its canonical form, is among them.
    fn covers(self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && self.cut(address) == self.first
    }

    /// `address` without the bits behind the prefix.
    fn cut(self, address: IpAddr) -> IpAddr {
        let behind = u32::from(width(address).saturating_sub(self.bits));
        match address {
            IpAddr::V4(v4) => {
                let kept = u32::MAX.checked_shl(behind).unwrap_or(0);
                IpAddr::V4((u32::from(v4) & kept).into())
            }
            IpAddr::V6(v6) => {
                let kept = u128::MAX.checked_shl(behind).unwrap_or(0);
                IpAddr::V6((u128::from(v6) & kept).into())
            }
        }
    }
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bits == width(self.first) {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}/{}", self.first, self.bits),
        }
    }
}

/// Bits of an address like this one.
const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// A number without a sign and without leading zeros.
fn prefix(text: &str) -> Option<u8> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_short = text == "0" || !text.starts_with('0');
    text.parse().ok().filter(|_| is_plain && is_short)
}

/// Why a text is no mask.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mismasked {
    /// What stands before the slash is no address.
    NoAddress,
    /// IPv4 in the clothes of IPv6.
    Mapped,
    /// The length of the prefix is none, or more than this.
    Length(u8),
    /// There are bits behind the prefix; without them it is this.
    Rest(Mask),
}

impl fmt::Display for Mismasked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress => {
                f.write_str("no address such as 192.0.2.7, 10.0.0.0/8, 2001:db8::/32")
            }
            Self::Mapped => f.write_str("IPv4 within IPv6; write it as IPv4"),
            Self::Length(most) => write!(f, "without a prefix length from 0 to {most}"),
            Self::Rest(mask) => write!(f, "with bits behind its prefix; {mask} has none"),
        }
    }
}

impl std::error::Error for Mismasked {}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(masks: &[&str]) -> NetworkRules {
        let masks = masks.iter().map(|mask| Mask::parse(mask).unwrap()).collect();
        NetworkRules::new(true, false, masks).unwrap()
    }

    fn admits(rules: &NetworkRules, address: &str) -> bool {
        rules.admit(Some(address.parse().unwrap()))
    }

    #[test]
    fn a_mask_covers_what_begins_with_its_bits_and_nothing_else() {
        let rules = rules(&["10.1.0.0/16", "192.0.2.7", "192.0.2.128/25", "2001:db8::/33"]);
        for inside in [
            "10.1.0.0",
            "10.1.255.255",
            "192.0.2.7",
            "192.0.2.128",
            "192.0.2.255",
            "2001:db8:7fff:ffff::1",
            "::ffff:10.1.2.3",
        ] {
            assert!(admits(&rules, inside), "{inside}");
        }
        for outside in [
            "10.0.255.255",
            "10.2.0.0",
            "192.0.2.6",
            "192.0.2.127",
            "2001:db8:8000::1",
            "::10.1.2.3",
            "::ffff:10.2.0.0",
            "a01::",
        ] {
            assert!(!admits(&rules, outside), "{outside}");
        }
        assert!(!rules.admit(None), "a Unix socket has no address");
    }

    #[test]
    fn all_of_one_family_is_nothing_of_the_other() {
        let (four, six) = (rules(&["0.0.0.0/0"]), rules(&["::/0"]));
        assert!(admits(&four, "203.0.113.7") && admits(&four, "::ffff:203.0.113.7"));
        assert!(!admits(&four, "2001:db8::1"));
        assert!(admits(&six, "2001:db8::1") && !admits(&six, "::ffff:203.0.113.7"));
    }

    #[test]
    fn without_a_public_network_no_mask_helps() {
        let closed = NetworkRules { is_public: false, ..rules(&["0.0.0.0/0"]) };
        assert!(!admits(&closed, "10.0.0.4") && !closed.admit(None));
        let closed = NetworkRules { is_public: false, ..NetworkRules::default() };
        assert!(!admits(&closed, "10.0.0.4") && !closed.admit(None));
        assert!(NetworkRules::default().admit(None) && admits(&NetworkRules::default(), "::1"));
    }

    #[test]
    fn what_is_no_mask_is_refused() {
        for (text, why) in [
            ("", "no address"),
            ("10.0.0", "no address"),
            ("10.0.0.256", "no address"),
            ("010.0.0.4", "no address"),
            ("0x0a.0.0.4", "no address"),
            ("167772164", "no address"),
            (" 10.0.0.4", "no address"),
            ("10.0.0.4:443", "no address"),
            ("10.0.0.1-10.0.0.9", "no address"),
            ("relay.example", "no address"),
            ("[2001:db8::1]", "no address"),
            ("fe80::1%eth0", "no address"),
            ("10.0.0.0/", "from 0 to 32"),
            ("10.0.0.0/33", "from 0 to 32"),
            ("10.0.0.0/+8", "from 0 to 32"),
            ("10.0.0.0/-1", "from 0 to 32"),
            ("10.0.0.0/08", "from 0 to 32"),
            ("10.0.0.0/8/8", "from 0 to 32"),
            ("10.0.0.0/256", "from 0 to 32"),
            ("10.0.0.0/255.0.0.0", "from 0 to 32"),
            ("2001:db8::/129", "from 0 to 128"),
            ("::ffff:10.0.0.4", "as IPv4"),
            ("::ffff:0:0/96", "as IPv4"),
            ("10.0.0.4/8", "10.0.0.0/8 has none"),
            ("10.0.0.0/0", "0.0.0.0/0 has none"),
            ("2001:db8::1/32", "2001:db8::/32 has none"),
        ] {
            let said = Mask::parse(text).unwrap_err().to_string();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn a_mask_is_written_in_one_way() {
        for (text, written) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.7/32", "192.0.2.7"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:DB8:0:0::/32", "2001:db8::/32"),
            ("2001:db8::1/128", "2001:db8::1"),
        ] {
            let mask = Mask::parse(text).unwrap();
            assert_eq!(mask.to_string(), written);
            assert_eq!(Mask::parse(written), Ok(mask));
        }
    }

    #[test]
    fn a_list_has_an_end_and_each_mask_once() {
        let mask = |n: usize| Mask::parse(&format!("10.0.{}.{}", n / 256, n % 256)).unwrap();
        let list = |len: usize| (0..len).map(mask).collect::<Vec<_>>();
        assert!(NetworkRules::new(true, false, list(NETWORK_MASKS_MAX)).is_some());
        assert_eq!(NetworkRules::new(true, false, list(NETWORK_MASKS_MAX + 1)), None);
        let twice = [list(NETWORK_MASKS_MAX), list(NETWORK_MASKS_MAX)].concat();
        let rules = NetworkRules::new(true, false, twice).unwrap();
        assert_eq!(rules.masks().len(), NETWORK_MASKS_MAX);
    }
}

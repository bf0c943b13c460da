//! Key sets (RFC 7517): read strictly, used as a whole, replaced as a whole.
//!
//! A key that cannot verify, is weak, or shares its name with another key is left out and counted;
//! it does not spoil the rest. The type of a key decides what it verifies, not the token's header.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;

use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};

use crate::limits::{KEY_SET_BYTES, KEY_SET_DEPTH, KEY_SET_KEYS, RSA_BITS};
use crate::wire::json::{self, Object, Value};
use crate::wire::jws::{Algorithm, decode_base64url};

/// The usable keys of an issuer, and why the others are not.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
    left_out: Vec<(String, Unusable)>,
}

/// A key that verifies signatures.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Key {
    id: Option<String>,
    algorithm: Option<Algorithm>,
    /// `issuer`, an extension of Entra ID: which tenants' tokens this key may sign.
    pub(super) issuer: Option<String>,
    /// `cloud_instance_name`, another: in which cloud.
    pub(super) cloud: Option<String>,
    material: Material,
}

/// The public key itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Material {
    /// Modulus and exponent, big-endian without leading zeros.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// An uncompressed point.
    P256(Vec<u8>),
    /// An uncompressed point.
    P384(Vec<u8>),
}

impl KeySet {
    /// Reads a key set.
    ///
    /// # Errors
    /// [`BadKeySet`] if it is not strict JSON of that shape within the limits, or if no key of it
    /// is usable. The set that is in use should stay then.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadKeySet> {
        if KEY_SET_BYTES < bytes.len() {
            return Err(BadKeySet::TooLong(bytes.len()));
        }
        let document = json::parse_object(bytes, KEY_SET_DEPTH).map_err(BadKeySet::Json)?;
        let entries = document.optional_array("keys").map_err(BadKeySet::Field)?;
        let entries = entries.ok_or(BadKeySet::NoKeys)?;
        if KEY_SET_KEYS < entries.len() {
            return Err(BadKeySet::TooMany(entries.len()));
        }
        let contested = contested_ids(entries);
        let mut set = Self::default();
        for entry in entries {
            match read_key(entry, &contested) {
                Ok(key) if set.keys.contains(&key) => {}
                Ok(key) => set.keys.push(key),
                Err(why) => set.left_out.push((describe(entry), why)),
            }
        }
        if set.keys.is_empty() { Err(BadKeySet::NoneUsable) } else { Ok(set) }
    }

    /// The key of that name. A token without a name gets a key only if there is but one.
    #[must_use]
    pub fn find(&self, id: Option<&str>) -> Option<&Key> {
        match (id, self.keys.as_slice()) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(id), keys) => keys.iter().find(|key| key.id.as_deref() == Some(id)),
        }
    }

    /// How many keys are usable.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is usable, which [`KeySet::parse`] does not let happen.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys that were left out, by name, and why. For the log.
    pub fn left_out(&self) -> impl Iterator<Item = (&str, Unusable)> {
        self.left_out.iter().map(|(name, why)| (name.as_str(), *why))
    }
}

impl Key {
    /// A key beside any set, as a proof of possession brings it.
    pub(super) const fn new(material: Material) -> Self {
        Self { id: None, algorithm: None, issuer: None, cloud: None, material }
    }

    /// Whether tokens of `algorithm` may be verified with this key.
    #[must_use]
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        self.algorithm.is_none_or(|own| own == algorithm) && self.material.fits(algorithm)
    }

    /// Whether `signature` is this key's signature of `message` by `algorithm`.
    #[must_use]
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        self.fits(algorithm) && self.material.verifies(algorithm, message, signature)
    }
}

impl Material {
    /// An RSA key from the texts of a JWK, with a modulus of so many bits.
    pub(super) fn rsa(n: &str, e: &str, bits: &RangeInclusive<usize>) -> Result<Self, Unusable> {
        let n = decode_base64url(n).ok_or(Unusable::Encoding)?;
        let e = decode_base64url(e).ok_or(Unusable::Encoding)?;
        let (Some(&top), Some(&bottom)) = (n.first(), n.last()) else {
            return Err(Unusable::Modulus);
        };
        let zeros = usize::try_from(top.leading_zeros()).unwrap_or(8);
        let len = n.len().saturating_mul(8).saturating_sub(zeros);
        if top == 0 || bottom % 2 == 0 || !bits.contains(&len) {
            return Err(Unusable::Modulus);
        }
        // ring takes exponents up to 33 bits; 3 is the least that RSA signatures can have.
        match e.as_slice() {
            [0, ..] | [] | [1] => Err(Unusable::Exponent),
            bytes if 4 < bytes.len() => Err(Unusable::Exponent),
            [.., last] if last % 2 == 0 => Err(Unusable::Exponent),
            _ => Ok(Self::Rsa { n, e }),
        }
    }

    fn ec(curve: &str, x: &str, y: &str) -> Result<Self, Unusable> {
        let x = decode_base64url(x).ok_or(Unusable::Encoding)?;
        let y = decode_base64url(y).ok_or(Unusable::Encoding)?;
        let point = |len: usize| {
            let fits = x.len() == len && y.len() == len;
            fits.then(|| [&[4][..], &x, &y].concat()).ok_or(Unusable::Point)
        };
        match curve {
            "P-256" => point(32).map(Self::P256),
            "P-384" => point(48).map(Self::P384),
            _ => Err(Unusable::Curve),
        }
    }

    const fn fits(&self, algorithm: Algorithm) -> bool {
        match algorithm {
            Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512 => matches!(self, Self::Rsa { .. }),
            Algorithm::Es256 => matches!(self, Self::P256(_)),
            Algorithm::Es384 => matches!(self, Self::P384(_)),
        }
    }

    fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let rsa = |parameters| match self {
            Self::Rsa { n, e } => {
                let key = RsaPublicKeyComponents { n, e };
                key.verify(parameters, message, signature).is_ok()
            }
            Self::P256(_) | Self::P384(_) => false,
        };
        let ecdsa = |curve, point: &[u8]| {
            UnparsedPublicKey::new(curve, point).verify(message, signature).is_ok()
        };
        match algorithm {
            Algorithm::Rs256 => rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::Rs384 => rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::Rs512 => rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::Ps256 => rsa(&signature::RSA_PSS_2048_8192_SHA256),
            Algorithm::Ps384 => rsa(&signature::RSA_PSS_2048_8192_SHA384),
            Algorithm::Ps512 => rsa(&signature::RSA_PSS_2048_8192_SHA512),
            Algorithm::Es256 => match self {
                Self::P256(point) => ecdsa(&signature::ECDSA_P256_SHA256_FIXED, point),
                Self::P384(_) | Self::Rsa { .. } => false,
            },
            Algorithm::Es384 => match self {
                Self::P384(point) => ecdsa(&signature::ECDSA_P384_SHA384_FIXED, point),
                Self::P256(_) | Self::Rsa { .. } => false,
            },
        }
    }
}

/// Names that two different keys claim. A key for encryption is no rival to one for signatures.
fn contested_ids(entries: &[Value]) -> BTreeSet<&str> {
    let mut first: BTreeMap<&str, &Object> = BTreeMap::new();
    let mut contested = BTreeSet::new();
    for entry in entries.iter().filter_map(Value::as_object) {
        let Ok(Some(id)) = entry.optional_text("kid") else { continue };
        if entry.optional_text("use") == Ok(Some("enc")) {
            continue;
        }
        if first.insert(id, entry).is_some_and(|before| before != entry) {
            contested.insert(id);
        }
    }
    contested
}

fn read_key(entry: &Value, contested: &BTreeSet<&str>) -> Result<Key, Unusable> {
    let jwk = entry.as_object().ok_or(Unusable::Shape)?;
    let text = |name: &str| jwk.text(name).map_err(|_| Unusable::Shape);
    let optional = |name: &str| jwk.optional_text(name).map_err(|_| Unusable::Shape);
    let id = optional("kid")?;
    if id.is_some_and(|id| contested.contains(id)) {
        return Err(Unusable::SameName);
    }
    check_purpose(jwk)?;
    let material = match text("kty")? {
        "RSA" => Material::rsa(text("n")?, text("e")?, &RSA_BITS)?,
        "EC" => Material::ec(text("crv")?, text("x")?, text("y")?)?,
        _ => return Err(Unusable::Type),
    };
    let algorithm = match optional("alg")? {
        Some(name) => Some(Algorithm::parse(name).ok_or(Unusable::Algorithm)?),
        None => None,
    };
    if algorithm.is_some_and(|algorithm| !material.fits(algorithm)) {
        return Err(Unusable::Algorithm);
    }
    Ok(Key {
        id: id.map(str::to_owned),
        algorithm,
        issuer: optional("issuer")?.map(str::to_owned),
        cloud: optional("cloud_instance_name")?.map(str::to_owned),
        material,
    })
}

/// `use` and `key_ops`, where they are there, must allow verification; private parts must not be.
fn check_purpose(jwk: &Object) -> Result<(), Unusable> {
    if ["d", "k", "p", "q", "dp", "dq", "qi", "oth"].iter().any(|name| jwk.has(name)) {
        return Err(Unusable::Private);
    }
    match jwk.optional_text("use") {
        Ok(None | Some("sig")) => {}
        Ok(Some(_)) => return Err(Unusable::Purpose),
        Err(_) => return Err(Unusable::Shape),
    }
    match jwk.optional_array("key_ops") {
        Ok(None) => Ok(()),
        Ok(Some(uses)) if uses.iter().any(|one| one.as_text() == Some("verify")) => Ok(()),
        Ok(Some(_)) => Err(Unusable::Purpose),
        Err(_) => Err(Unusable::Shape),
    }
}

fn describe(entry: &Value) -> String {
    let id = entry.as_object().and_then(|jwk| jwk.optional_text("kid").ok().flatten());
    id.unwrap_or("(no kid)").chars().take(64).collect()
}

/// Why a key is left out of its set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unusable {
    /// It is no object, or a member has the wrong type or is missing.
    Shape,
    /// A number is not base64url.
    Encoding,
    /// `kty` is neither RSA nor EC: symmetric keys have no place here.
    Type,
    /// The curve is neither P-256 nor P-384.
    Curve,
    /// A coordinate has the wrong length.
    Point,
    /// The modulus is too short, too long, even, or begins with zeros.
    Modulus,
    /// The exponent is 1, even, too long, or begins with zeros.
    Exponent,
    /// It is not for verification.
    Purpose,
    /// Its own algorithm is not one of ours, or not one for its type.
    Algorithm,
    /// It has private parts.
    Private,
    /// Another key of the set has the same name.
    SameName,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shape => "a member is missing or has the wrong type",
            Self::Encoding => "a number is not base64url",
            Self::Type => "its type is neither RSA nor EC",
            Self::Curve => "its curve is neither P-256 nor P-384",
            Self::Point => "a coordinate has the wrong length",
            Self::Modulus => "its modulus is weak, too long or malformed",
            Self::Exponent => "its exponent is weak, too long or malformed",
            Self::Purpose => "it is not for verification",
            Self::Algorithm => "its algorithm does not fit",
            Self::Private => "it has private parts",
            Self::SameName => "another key has the same name",
        })
    }
}

/// Why a key set cannot be used at all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BadKeySet {
    /// It has this many bytes.
    TooLong(usize),
    /// It is not strict JSON.
    Json(json::Malformed),
    /// A member has the wrong type.
    Field(json::Mismatch),
    /// It has no array of keys.
    NoKeys,
    /// It has this many keys.
    TooMany(usize),
    /// No key in it is usable.
    NoneUsable,
}

impl fmt::Display for BadKeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(len) => write!(f, "key set of {len} bytes is too long"),
            Self::Json(why) => write!(f, "key set is {why}"),
            Self::Field(why) => write!(f, "key set member {why}"),
            Self::NoKeys => f.write_str("key set has no \"keys\""),
            Self::TooMany(count) => write!(f, "key set has {count} keys"),
            Self::NoneUsable => f.write_str("key set has no usable key"),
        }
    }
}

impl std::error::Error for BadKeySet {}

#[cfg(test)]
#[path = "jwks_tests.rs"]
mod tests;

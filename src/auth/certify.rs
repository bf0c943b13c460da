//! Certificates and keys that a process makes for itself: the auth proxy's CA, the CA of a local
//! listener, the agent's key. Private keys are made where they are used and go nowhere else.
//!
//! A CA here may sign its own few names and no other (RFC 5280, 4.2.1.10), so whoever trusts it
//! for one cluster has not trusted it for the world. ring draws key material from the system; time
//! and serial numbers are arguments.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use ring::digest::{SHA256, digest};
use ring::rand::SecureRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING as SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use time::OffsetDateTime;

use crate::engine::tlsconf::{self, Identity};
use crate::limits::{CA_BEGINS, CA_LIFETIME, LEAF_BACKDATED, LEAF_LIFETIME};
use crate::secret::Secret;
use crate::wire::resource::hex;

/// What could not be made or read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unfit {
    /// Not a name or address that a certificate can carry.
    Name(String),
    /// The text holds no ECDSA P-256 key.
    Key,
    /// The text holds no certificate.
    Certificate,
    /// The certificate is not that of the key, or is for other names.
    Mismatch(String),
    /// The library's own words.
    Library(String),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name:?} cannot stand in a certificate"),
            Self::Key => f.write_str("no ECDSA P-256 private key in PKCS#8"),
            Self::Certificate => f.write_str("no certificate"),
            Self::Mismatch(why) => {
                write!(f, "the CA certificate does not belong to its key and names: {why}")
            }
            Self::Library(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Unfit {}

impl From<rcgen::Error> for Unfit {
    fn from(why: rcgen::Error) -> Self {
        Self::Library(why.to_string())
    }
}

/// A CA for a few names, and the right to sign for them.
pub struct Authority {
    names: Vec<String>,
    key: KeyPair,
    params: CertificateParams,
    certificate: CertificateDer<'static>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a key and a certificate for it, good for `names` (DNS names or addresses).
    ///
    /// # Errors
    ///
    /// [`Unfit`]
    pub fn create(names: &[&str]) -> Result<Self, Unfit> {
        Self::with_key(names, KeyPair::generate()?, None)
    }

    /// Reads what [`Self::to_pem`] has written for the same `names`, and sees that a certificate
    /// from it would be taken.
    ///
    /// # Errors
    ///
    /// [`Unfit`]
    pub fn from_pem(names: &[&str], pem: &[u8], unix_now: u64) -> Result<Self, Unfit> {
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8(pem)?, &PKCS_ECDSA_P256_SHA256)
            .map_err(|_| Unfit::Key)?;
        let mut chain = tlsconf::certificates(pem).map_err(|_| Unfit::Certificate)?;
        let authority = Self::with_key(names, key, Some(chain.swap_remove(0)))?;
        authority.check(unix_now)?;
        Ok(authority)
    }

    /// Key and certificate, for the one file or Secret that keeps them.
    #[must_use]
    pub fn to_pem(&self) -> Secret<String> {
        let key = Secret::new(self.key.serialize_der());
        Secret::new(format!("{}{}", pem("PRIVATE KEY", key.expose()), self.certificate_pem()))
    }

    /// The certificate alone: what others are given.
    #[must_use]
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The certificate alone, in PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        pem_certificate(&self.certificate)
    }

    /// A new key and a certificate for all names. `serial` is random. The chain ends below the CA,
    /// which the other side has.
    ///
    /// # Errors
    ///
    /// [`Unfit`]
    pub fn leaf(&self, unix_now: u64, serial: [u8; 16]) -> Result<Identity, Unfit> {
        let mut params = CertificateParams::new(self.names.clone())?;
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, self.names.first().map_or("", String::as_str));
        params.distinguished_name = subject;
        params.not_before = moment(unix_now.saturating_sub(LEAF_BACKDATED.as_secs()))?;
        params.not_after = moment(unix_now.saturating_add(LEAF_LIFETIME.as_secs()))?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let key = KeyPair::generate()?;
        let certificate =
            params.signed_by(&key, &Issuer::from_params(&self.params, &self.key))?.der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Identity { chain: vec![certificate], key })
    }

    /// How long after [`Self::leaf`] the next one is due: a third of its life, so that a machine
    /// with a wrong clock and one that slept have the rest.
    #[must_use]
    pub const fn renew_after() -> Duration {
        Duration::from_secs(LEAF_LIFETIME.as_secs() / 3)
    }

    fn with_key(
        names: &[&str],
        key: KeyPair,
        certificate: Option<CertificateDer<'static>>,
    ) -> Result<Self, Unfit> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let first = names.first().ok_or_else(|| Unfit::Name(String::new()))?;
        let mut subject = DistinguishedName::new();
        subject.push(DnType::OrganizationName, "cluster-connect");
        subject.push(DnType::CommonName, format!("CA of {first}"));
        let mut params = CertificateParams::default();
        params.distinguished_name = subject;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.name_constraints = Some(constraints(&names)?);
        params.not_before = moment(CA_BEGINS)?;
        params.not_after = moment(CA_BEGINS.saturating_add(CA_LIFETIME.as_secs()))?;
        let certificate = match certificate {
            Some(certificate) => certificate,
            None => params.self_signed(&key)?.der().clone(),
        };
        Ok(Self { names, key, params, certificate })
    }

    /// Signs a certificate and verifies it as a client would.
    fn check(&self, unix_now: u64) -> Result<(), Unfit> {
        let mismatch = |why: &dyn fmt::Display| Unfit::Mismatch(why.to_string());
        let leaf = self.leaf(unix_now, [1; 16])?;
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).map_err(|why| mismatch(&why))?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), tlsconf::provider())
                .build()
                .map_err(|why| mismatch(&why))?;
        let end = leaf.chain.first().ok_or(Unfit::Certificate)?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(unix_now));
        for name in &self.names {
            let name = ServerName::try_from(name.as_str()).map_err(|why| mismatch(&why))?;
            verifier.verify_server_cert(end, &[], &name, &[], now).map_err(|why| mismatch(&why))?;
        }
        Ok(())
    }
}

/// The names of a listener on this machine's loopback addresses.
pub const LOOPBACK_NAMES: [&str; 3] = ["127.0.0.1", "localhost", "::1"];

/// The key that an agent proves to have, each time it asks for a token: ECDSA, P-256. The library
/// for certificates is not asked, so that an agent alone does without it.
pub struct AgentKey {
    pair: EcdsaKeyPair,
    pkcs8: Secret<Vec<u8>>,
}

impl fmt::Debug for AgentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AgentKey(***)")
    }
}

impl AgentKey {
    /// Makes a key.
    ///
    /// # Errors
    ///
    /// [`Unfit::Key`] when `random` gives nothing.
    pub fn create(random: &dyn SecureRandom) -> Result<Self, Unfit> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&SIGNING, random).map_err(|_| Unfit::Key)?;
        Self::read(pkcs8.as_ref(), random)
    }

    /// Reads what [`Self::to_pem`] has written.
    ///
    /// # Errors
    ///
    /// [`Unfit::Key`]
    pub fn from_pem(pem: &[u8], random: &dyn SecureRandom) -> Result<Self, Unfit> {
        Self::read(pkcs8(pem)?.secret_pkcs8_der(), random)
    }

    fn read(pkcs8: &[u8], random: &dyn SecureRandom) -> Result<Self, Unfit> {
        let pair = EcdsaKeyPair::from_pkcs8(&SIGNING, pkcs8, random).map_err(|_| Unfit::Key)?;
        Ok(Self { pair, pkcs8: Secret::new(pkcs8.to_vec()) })
    }

    /// The key, for the file or Secret that keeps it.
    #[must_use]
    pub fn to_pem(&self) -> Secret<String> {
        Secret::new(pem("PRIVATE KEY", self.pkcs8.expose()))
    }

    /// The public key: an uncompressed point, 65 bytes.
    #[must_use]
    pub fn public_point(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// Signs a challenge of the relay for `cluster_id` (SHA-256, ASN.1).
    ///
    /// # Errors
    ///
    /// [`Unfit::Key`] when `random` gives nothing.
    pub fn sign(
        &self,
        cluster_id: &str,
        challenge: &str,
        random: &dyn SecureRandom,
    ) -> Result<Vec<u8>, Unfit> {
        self.sign_bytes(listen_message(cluster_id, challenge).as_bytes(), random)
    }

    /// Signs bytes (SHA-256, ASN.1).
    ///
    /// # Errors
    ///
    /// [`Unfit::Key`] when `random` gives nothing.
    pub fn sign_bytes(&self, bytes: &[u8], random: &dyn SecureRandom) -> Result<Vec<u8>, Unfit> {
        let signature = self.pair.sign(random, bytes).map_err(|_| Unfit::Key)?;
        Ok(signature.as_ref().to_vec())
    }
}

/// What an agent signs to be given a token to listen with.
#[must_use]
pub fn listen_message(cluster_id: &str, challenge: &str) -> String {
    format!("cluster-connect listen v1\n{cluster_id}\n{challenge}")
}

/// The SHA-256 of a certificate's DER: what people compare.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of this certificate.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, certificate).as_ref());
        Self(bytes)
    }

    /// Reads `sha256:` and 64 hexadecimal digits, or the same as openssl prints it, in pairs with
    /// colons between.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let head = text.get(..7)?;
        let digits = text.get(7..).filter(|_| head.eq_ignore_ascii_case("sha256:"))?;
        let paired = digits.len() == 95 && digits.bytes().skip(2).step_by(3).all(|b| b == b':');
        let digits = if paired { digits.replace(':', "") } else { digits.to_owned() };
        if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            let pair = digits.get(at.saturating_mul(2)..at.saturating_mul(2).saturating_add(2))?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex(&self.0))
    }
}

/// A certificate in PEM.
#[must_use]
pub fn pem_certificate(der: &[u8]) -> String {
    pem("CERTIFICATE", der)
}

/// Text of RFC 7468: lines of 64 characters between two that name what they are.
fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// The key in a text, in which a certificate may stand, too.
fn pkcs8(pem: &[u8]) -> Result<PrivatePkcs8KeyDer<'static>, Unfit> {
    PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| Unfit::Key)
}

/// All that a CA may sign: its names, and no address where it has none.
fn constraints(names: &[String]) -> Result<NameConstraints, Unfit> {
    let mut permitted_subtrees = Vec::new();
    for name in names {
        permitted_subtrees.push(match name.parse::<IpAddr>() {
            Ok(address) => {
                let bits = if address.is_ipv4() { 32 } else { 128 };
                GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, bits))
            }
            Err(_) => {
                ServerName::try_from(name.as_str()).map_err(|_| Unfit::Name(name.clone()))?;
                GeneralSubtree::DnsName(name.clone())
            }
        });
    }
    let mut excluded_subtrees = Vec::new();
    if !names.iter().any(|name| name.parse::<IpAddr>().is_ok()) {
        excluded_subtrees.push(GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([0; 4], 0)));
        excluded_subtrees.push(GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix([0; 16], 0)));
    }
    Ok(NameConstraints { permitted_subtrees, excluded_subtrees })
}

fn moment(unix: u64) -> Result<OffsetDateTime, Unfit> {
    let seconds = i64::try_from(unix).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|why| Unfit::Library(why.to_string()))
}

#[cfg(test)]
#[path = "certify_tests.rs"]
mod tests;

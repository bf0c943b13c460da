//! Configurations of rustls, made in one place: ring is named explicitly, early data is off, and
//! what goes end to end speaks TLS 1.3 and nothing older.

use std::fmt;
use std::sync::{Arc, RwLock};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion, version};

/// Of a multiplexed session, client proxy to auth proxy.
pub const ALPN_TUNNEL: &[u8] = b"cluster-connect/1";

/// Of a session that measures the tunnel.
pub const ALPN_BENCH: &[u8] = b"cluster-connect-bench/1";

/// Of one plain HTTP connection.
pub const ALPN_HTTP: &[u8] = b"http/1.1";

/// The versions to speak.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Versions {
    /// TLS 1.3 alone: both ends are ours.
    Newest,
    /// TLS 1.2 as well: the other end may be anybody's.
    Both,
}

/// A certificate chain and the key of its first certificate.
#[derive(Debug)]
pub struct Identity {
    /// The own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum Unusable {
    /// The PEM text holds no certificate.
    NoCertificate,
    /// The PEM text holds no private key, or one under a password.
    NoKey,
    /// The PEM text is broken.
    Pem,
    /// A certificate or key that rustls does not take.
    Refused(rustls::Error),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCertificate => f.write_str("no certificate in it"),
            Self::NoKey => f.write_str("no private key in it that can be used without a password"),
            Self::Pem => f.write_str("broken PEM"),
            Self::Refused(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for Unusable {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused(why) => Some(why),
            Self::NoCertificate | Self::NoKey | Self::Pem => None,
        }
    }
}

impl From<rustls::Error> for Unusable {
    fn from(why: rustls::Error) -> Self {
        Self::Refused(why)
    }
}

impl Identity {
    /// Reads a chain and a key, which may stand in one text.
    ///
    /// # Errors
    ///
    /// [`Unusable`]
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, Unusable> {
        let chain = certificates(chain)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| Unusable::NoKey)?;
        Ok(Self { chain, key })
    }
}

/// Every certificate of a PEM text; there is at least one.
///
/// # Errors
///
/// [`Unusable::NoCertificate`], [`Unusable::Pem`].
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|_| Unusable::Pem)?;
    if all.is_empty() { Err(Unusable::NoCertificate) } else { Ok(all) }
}

/// The one provider of cryptography.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A server that asks for no client certificate.
///
/// # Errors
///
/// [`Unusable::Refused`] when the key is not the certificate's, or of a kind that ring has not.
pub fn server(
    identity: Identity,
    alpn: &[&[u8]],
    versions: Versions,
    time: Arc<dyn TimeProvider>,
) -> Result<Server, Unusable> {
    let current = Arc::new(Current::new(identity)?);
    let mut config = ServerConfig::builder_with_details(provider(), time)
        .with_protocol_versions(supported(versions))?
        .with_no_client_auth()
        .with_cert_resolver(current.clone());
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.ticketer = ring::Ticketer::new()?;
    config.max_early_data_size = 0;
    Ok(Server { config: Arc::new(config), current })
}

/// How a server speaks TLS, and the certificate that it shows, which may be replaced while it runs.
#[derive(Clone, Debug)]
pub struct Server {
    /// For each new connection.
    pub config: Arc<ServerConfig>,
    /// What it shows.
    pub current: Arc<Current>,
}

/// The certificate of a server as it is now. It is shared with the handshakes of its loop, and
/// replaced between them.
#[derive(Debug)]
pub struct Current(RwLock<Arc<CertifiedKey>>);

impl Current {
    fn new(identity: Identity) -> Result<Self, Unusable> {
        certified(identity).map(|key| Self(RwLock::new(key)))
    }

    /// Shows another certificate from the next handshake on.
    ///
    /// # Errors
    ///
    /// [`Unusable::Refused`], and the old one stays.
    pub fn replace(&self, identity: Identity) -> Result<(), Unusable> {
        *self.0.write().expect("nobody panics with the lock") = certified(identity)?;
        Ok(())
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().expect("nobody panics with the lock")))
    }
}

fn certified(identity: Identity) -> Result<Arc<CertifiedKey>, Unusable> {
    let key = CertifiedKey::from_der(identity.chain, identity.key, &provider())?;
    Ok(Arc::new(key))
}

/// A client that trusts `roots` and nothing else.
///
/// # Errors
///
/// [`Unusable`] when a root is no certificate, there is none, or the client's own certificate and
/// key do not go together.
pub fn client(
    roots: &[CertificateDer<'static>],
    own: Option<Identity>,
    alpn: &[&[u8]],
    versions: Versions,
    time: Arc<dyn TimeProvider>,
) -> Result<Arc<ClientConfig>, Unusable> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone())?;
    }
    if store.is_empty() {
        return Err(Unusable::NoCertificate);
    }
    let builder = ClientConfig::builder_with_details(provider(), time)
        .with_protocol_versions(supported(versions))?
        .with_root_certificates(store);
    let mut config = match own {
        Some(own) => builder.with_client_auth_cert(own.chain, own.key)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.enable_early_data = false;
    Ok(Arc::new(config))
}

/// Those of `roots` that can be used as roots. What an operating system trusts always holds a few
/// that cannot.
#[must_use]
pub fn usable_roots(roots: Vec<CertificateDer<'static>>) -> Vec<CertificateDer<'static>> {
    let usable = |root: &CertificateDer<'static>| RootCertStore::empty().add(root.clone()).is_ok();
    roots.into_iter().filter(usable).collect()
}

static NEWEST: [&SupportedProtocolVersion; 1] = [&version::TLS13];
static BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];

const fn supported(versions: Versions) -> &'static [&'static SupportedProtocolVersion] {
    match versions {
        Versions::Newest => &NEWEST,
        Versions::Both => &BOTH,
    }
}

//! Certificates made on the spot, and one TLS connection that two threads may use at once: one
//! reads, others write. Reading never holds the lock while it waits for the socket.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use super::identity::User;

/// How long a closed connection is still read.
const LINGER: Duration = Duration::from_secs(1);

/// The cluster's certificate authority, and whom it has issued client certificates to.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    clients: Mutex<BTreeMap<Vec<u8>, User>>,
}

/// A certificate with its key, both PEM.
pub(crate) struct ClientCertificate {
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
}

impl Authority {
    pub(crate) fn new() -> io::Result<Self> {
        let mut params = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "cluster-connect demonstration CA");
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params.self_signed(&key).map_err(io::Error::other)?;
        Ok(Self {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
            clients: Mutex::new(BTreeMap::new()),
        })
    }

    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate whose common name is the user and whose organisations are the groups, as
    /// kube-apiserver reads it.
    pub(crate) fn client(&self, user: &str, groups: &[&str]) -> io::Result<ClientCertificate> {
        let mut params = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
        params.distinguished_name.push(DnType::CommonName, user);
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(io::Error::other)?;
        let identity = User::new(user, groups.iter().map(ToString::to_string).collect());
        lock(&self.clients).insert(certificate.der().to_vec(), identity);
        Ok(ClientCertificate { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// The user of a certificate that the TLS handshake has already verified.
    pub(crate) fn user_of(&self, certificate: &[u8]) -> Option<User> {
        lock(&self.clients).get(certificate).cloned()
    }

    /// A server at `place`, which asks for a client certificate and does without one.
    pub(crate) fn server_config(&self, place: IpAddr) -> io::Result<Arc<ServerConfig>> {
        let place = place.to_string();
        let names = ["localhost", "127.0.0.1", "::1", "kubernetes.default.svc", &place];
        let mut params =
            CertificateParams::new(names.map(String::from).to_vec()).map_err(io::Error::other)?;
        params.distinguished_name.push(DnType::CommonName, "cluster-connect demonstration server");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(io::Error::other)?;

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).map_err(io::Error::other)?;
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .allow_unauthenticated()
                .build()
                .map_err(io::Error::other)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], key)
            .map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// A TLS connection that can be read by one thread and written by several.
pub(crate) struct Wire {
    tcp: TcpStream,
    tls: Mutex<ServerConnection>,
    plain: Mutex<Vec<u8>>,
    /// Held from sealing to sending, so that records leave in the order they were sealed.
    order: Mutex<()>,
    /// Set while `tls` is held.
    said_goodbye: AtomicBool,
}

impl Wire {
    /// Does the handshake.
    pub(crate) fn accept(mut tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
        tls.set_buffer_limit(None);
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp)?;
        }
        while tls.wants_write() {
            tls.write_tls(&mut tcp)?;
        }
        let mut plain = Vec::new();
        drain(&mut tls, &mut plain)?;
        Ok(Self {
            tcp,
            tls: Mutex::new(tls),
            plain: Mutex::new(plain),
            order: Mutex::new(()),
            said_goodbye: AtomicBool::new(false),
        })
    }

    pub(crate) fn peer_certificate(&self) -> Option<Vec<u8>> {
        lock(&self.tls).peer_certificates()?.first().map(|certificate| certificate.to_vec())
    }

    /// Plain bytes; 0 is the end.
    pub(crate) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut plain = lock(&self.plain);
        while plain.is_empty() {
            if !self.fill(&mut plain)? {
                return Ok(0);
            }
        }
        let len = plain.len().min(into.len());
        for (to, from) in into.iter_mut().zip(plain.drain(..len)) {
            *to = from;
        }
        Ok(len)
    }

    pub(crate) fn write_all(&self, data: &[u8]) -> io::Result<()> {
        // Held to the end: a frame that is longer than a part must not be cut by another.
        let _order = lock(&self.order);
        for part in data.chunks(64 * 1024) {
            let sealed = {
                let mut tls = lock(&self.tls);
                tls.writer().write_all(part)?;
                seal(&mut tls)?
            };
            (&self.tcp).write_all(&sealed)?;
        }
        Ok(())
    }

    /// Whether the peer has gone, without waiting. What it sent meanwhile is kept for `read`.
    pub(crate) fn is_gone(&self) -> bool {
        let mut plain = lock(&self.plain);
        if self.tcp.set_nonblocking(true).is_err() {
            return true;
        }
        let gone = loop {
            match self.fill(&mut plain) {
                Ok(true) => {}
                Ok(false) => break true,
                Err(error) => break error.kind() != io::ErrorKind::WouldBlock,
            }
        };
        self.tcp.set_nonblocking(false).is_err() || gone
    }

    /// Says goodbye, then reads for a moment what still comes, because a socket closed with unread
    /// bytes is reset, and the reset overtakes what was written last.
    pub(crate) fn close(&self) {
        {
            let _order = lock(&self.order);
            let sealed = {
                let mut tls = lock(&self.tls);
                tls.send_close_notify();
                self.said_goodbye.store(true, Ordering::Relaxed);
                seal(&mut tls).unwrap_or_default()
            };
            // The peer may be gone; then there is nobody to say goodbye to.
            let _ = (&self.tcp).write_all(&sealed);
            let _ = self.tcp.shutdown(Shutdown::Write);
        }
        let until = Instant::now() + LINGER;
        let mut scratch = [0_u8; 4096];
        while let Some(left) = until.checked_duration_since(Instant::now())
            && self.tcp.set_read_timeout(Some(left.max(Duration::from_millis(1)))).is_ok()
            && matches!((&self.tcp).read(&mut scratch), Ok(1..))
        {}
        let _ = self.tcp.shutdown(Shutdown::Both);
    }

    /// Reads the socket once; false at the end.
    fn fill(&self, plain: &mut Vec<u8>) -> io::Result<bool> {
        let mut scratch = [0_u8; 16 * 1024];
        let len = (&self.tcp).read(&mut scratch)?;
        let Some(mut raw) = scratch.get(..len).filter(|raw| !raw.is_empty()) else {
            return Ok(false);
        };
        let (open, wants_write) = {
            let mut tls = lock(&self.tls);
            // From then on `close` takes records off the socket, and what is left makes no sense.
            if self.said_goodbye.load(Ordering::Relaxed) {
                return Ok(false);
            }
            while !raw.is_empty() {
                tls.read_tls(&mut raw)?;
                let processed = tls.process_new_packets();
                drain(&mut tls, plain)?;
                if let Err(error) = processed {
                    let alert = seal(&mut tls)?;
                    let _ = (&self.tcp).write_all(&alert);
                    return Err(io::Error::other(error));
                }
            }
            let closed = tls.process_new_packets().map_or(true, |state| state.peer_has_closed());
            (!closed || !plain.is_empty(), tls.wants_write())
        };
        if wants_write {
            let _order = lock(&self.order);
            let sealed = seal(&mut lock(&self.tls))?;
            (&self.tcp).write_all(&sealed)?;
        }
        Ok(open)
    }
}

/// A poisoned lock only says that another connection's thread has died.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn drain(tls: &mut ServerConnection, plain: &mut Vec<u8>) -> io::Result<()> {
    match tls.reader().read_to_end(plain) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        other => other.map(drop),
    }
}

fn seal(tls: &mut ServerConnection) -> io::Result<Vec<u8>> {
    let mut sealed = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut sealed)?;
    }
    Ok(sealed)
}

//! A token issuer on this machine, standing in for Entra ID or any OpenID Connect provider in
//! development, tests and the quickstart: it publishes its keys over HTTPS as OpenID discovery
//! wants it, and signs whatever claims it is asked to. It authenticates nobody.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

/// A fixed key: ring signs with RSA but makes no RSA keys.
const RSA_KEY: &[u8] = include_bytes!("issuer-rsa-key.pem");
const IDLE: Duration = Duration::from_secs(30);

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Es256,
    Rs256,
}

/// A running issuer. It ends when this is dropped.
pub(crate) struct Issuer {
    addr: SocketAddr,
    ca_pem: String,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    url: String,
    rsa: RsaKeyPair,
    ec: Mutex<Ec>,
    stop: AtomicBool,
    fetches: AtomicUsize,
}

struct Ec {
    key: EcdsaKeyPair,
    kid: String,
}

#[allow(dead_code, reason = "each program that includes this module uses a part of it")]
impl Issuer {
    /// Makes keys and a certificate, and serves them on a free loopback port.
    pub(crate) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let addr = listener.local_addr()?;
        let (config, ca_pem) = certificate()?;
        let rsa = PrivatePkcs8KeyDer::from_pem_slice(RSA_KEY).map_err(io::Error::other)?;
        let rsa = RsaKeyPair::from_pkcs8(rsa.secret_pkcs8_der());
        let shared = Arc::new(Shared {
            url: format!("https://{addr}"),
            rsa: rsa.map_err(|_| io::Error::other("the embedded RSA key is damaged"))?,
            ec: Mutex::new(new_ec()?),
            stop: AtomicBool::new(false),
            fetches: AtomicUsize::new(0),
        });
        let serving = shared.clone();
        let accepting = thread::spawn(move || {
            for tcp in listener.incoming() {
                if serving.stop.load(Ordering::SeqCst) {
                    return;
                }
                let (shared, config) = (serving.clone(), config.clone());
                // A client that breaks off is its own affair.
                thread::spawn(move || tcp.and_then(|tcp| shared.serve(tcp, config)).ok());
            }
        });
        Ok(Self { addr, ca_pem, shared, accepting: Some(accepting) })
    }

    /// The `iss` of its tokens, and where its discovery document is.
    pub(crate) fn url(&self) -> &str {
        &self.shared.url
    }

    /// The certificate authority of its HTTPS server.
    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Its key set, for verifiers that read it from a file.
    pub(crate) fn jwks_json(&self) -> String {
        self.shared.jwks().to_string()
    }

    /// How often the key set was fetched.
    pub(crate) fn key_fetches(&self) -> usize {
        self.shared.fetches.load(Ordering::SeqCst)
    }

    /// Replaces the ES256 key; tokens signed before are no longer in the key set.
    pub(crate) fn rotate(&self) -> io::Result<()> {
        *lock(&self.shared.ec) = new_ec()?;
        Ok(())
    }

    /// Signs these claims as they are, with ES256.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.token_with(Algorithm::Es256, claims)
    }

    pub(crate) fn token_with(&self, algorithm: Algorithm, claims: &Value) -> String {
        self.shared.sign(algorithm, claims)
    }

    /// An ordinary user's token, valid from now for `lifetime`.
    pub(crate) fn user_token(
        &self,
        audience: &str,
        user: &str,
        groups: &[&str],
        lifetime: Duration,
    ) -> String {
        self.token(&self.user_claims(audience, user, groups, lifetime))
    }

    /// What `user_token` signs, for tests that change one claim.
    pub(crate) fn user_claims(
        &self,
        audience: &str,
        user: &str,
        groups: &[&str],
        lifetime: Duration,
    ) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        json!({
            "iss": self.url(),
            "aud": audience,
            "sub": user,
            "upn": user,
            "oid": object_id(user),
            "groups": groups,
            "iat": now,
            "nbf": now,
            "exp": now.saturating_add(lifetime.as_secs()),
            "jti": random_id(),
        })
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the accept loop, which then sees the flag.
        let _ = TcpStream::connect(self.addr);
        let _ = self.accepting.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn jwks(&self) -> Value {
        let rsa = PublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        let ec = lock(&self.ec);
        let point = ec.key.public_key().as_ref();
        // An uncompressed point: 4, x, y.
        let half = |at: usize| encode(point.get(at..at + 32).unwrap_or_default());
        json!({ "keys": [
            { "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": ec.kid,
              "x": half(1), "y": half(33) },
            { "kty": "RSA", "alg": "RS256", "use": "sig", "kid": "demo-rsa",
              "n": encode(&rsa.n), "e": encode(&rsa.e) },
        ] })
    }

    fn discovery(&self) -> Value {
        json!({
            "issuer": self.url,
            "jwks_uri": format!("{}/keys", self.url),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256", "RS256"],
            "about": "the demonstration token issuer of cluster-connect; it authenticates nobody",
        })
    }

    fn sign(&self, algorithm: Algorithm, claims: &Value) -> String {
        let random = SystemRandom::new();
        let ec = lock(&self.ec);
        let (name, kid) = match algorithm {
            Algorithm::Es256 => ("ES256", ec.kid.as_str()),
            Algorithm::Rs256 => ("RS256", "demo-rsa"),
        };
        let header = json!({ "typ": "JWT", "alg": name, "kid": kid }).to_string();
        let signed =
            format!("{}.{}", encode(header.as_bytes()), encode(claims.to_string().as_bytes()));
        let signature = match algorithm {
            Algorithm::Es256 => {
                let signature = ec.key.sign(&random, signed.as_bytes());
                signature.expect("the system has randomness").as_ref().to_vec()
            }
            Algorithm::Rs256 => {
                let mut signature = vec![0; self.rsa.public().modulus_len()];
                self.rsa
                    .sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature)
                    .expect("the system has randomness");
                signature
            }
        };
        format!("{signed}.{}", encode(&signature))
    }

    /// Answers GET requests one after the other until the client is done.
    fn serve(&self, tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<()> {
        tcp.set_read_timeout(Some(IDLE))?;
        tcp.set_nodelay(true)?;
        let tls = ServerConnection::new(config).map_err(io::Error::other)?;
        let mut client = BufReader::new(StreamOwned::new(tls, tcp));
        loop {
            let mut request = String::new();
            if client.read_line(&mut request)? == 0 {
                return Ok(());
            }
            let mut wanted_tag = String::new();
            loop {
                let mut field = String::new();
                if client.read_line(&mut field)? == 0 || field.trim().is_empty() {
                    break;
                }
                if let Some((name, value)) = field.split_once(':')
                    && name.eq_ignore_ascii_case("if-none-match")
                {
                    wanted_tag = value.trim().into();
                }
            }
            let path = request.split(' ').nth(1).unwrap_or_default();
            let body = match path {
                "/.well-known/openid-configuration" => self.discovery().to_string(),
                "/keys" => {
                    self.fetches.fetch_add(1, Ordering::SeqCst);
                    self.jwks().to_string()
                }
                _ => String::new(),
            };
            let tag = format!("\"{}\"", encode(digest(&SHA256, body.as_bytes()).as_ref()));
            let (status, body) = match body.is_empty() {
                true => ("404 Not Found", ""),
                false if wanted_tag == tag => ("304 Not Modified", ""),
                false => ("200 OK", body.as_str()),
            };
            let length = body.len();
            write!(
                client.get_mut(),
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nETag: {tag}\r\n\
                 Content-Length: {length}\r\n\r\n{body}"
            )?;
            client.get_mut().flush()?;
        }
    }
}

/// A server certificate, and the PEM of the authority that issued it.
fn certificate() -> io::Result<(Arc<ServerConfig>, String)> {
    let mut ca = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.distinguished_name.push(DnType::CommonName, "cluster-connect demonstration issuer CA");
    let ca_key = KeyPair::generate().map_err(io::Error::other)?;
    let ca_pem = ca.self_signed(&ca_key).map_err(io::Error::other)?.pem();
    let ca = rcgen::Issuer::new(ca, ca_key);
    let names = ["localhost", "127.0.0.1"].map(String::from).to_vec();
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let leaf = CertificateParams::new(names)
        .and_then(|params| params.signed_by(&key, &ca))
        .map_err(io::Error::other)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .map_err(io::Error::other)?;
    Ok((Arc::new(config), ca_pem))
}

fn new_ec() -> io::Result<Ec> {
    let random = SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random)
        .ok()
        .and_then(|document| EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).ok())
        .ok_or_else(|| io::Error::other("no key for tokens"))?;
    Ok(Ec { key, kid: format!("demo-ec-{}", random_id()) })
}

/// A stable identifier in the shape of Entra's object ids.
fn object_id(user: &str) -> String {
    let hash = digest(&SHA256, user.as_bytes());
    let hex: String = hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

fn random_id() -> String {
    let mut bytes = [0_u8; 12];
    SystemRandom::new().fill(&mut bytes).expect("the system has randomness");
    encode(&bytes)
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A poisoned lock only says that another connection's thread has died.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

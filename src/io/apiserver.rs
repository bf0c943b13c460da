//! kube-apiserver as a process asks it before its loop runs: one call after another, always over
//! TLS, never through a proxy, no redirects, a limit on what comes back.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value as Json;
use ureq::Agent;
use ureq::config::Config;
use ureq::http::{Request, Uri};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig, TlsProvider};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use crate::engine::tlsconf::{self, Identity};
use crate::limits::{ANSWER_BYTES, API_SERVER_TIMEOUT};
use crate::secret::Secret;
use crate::wire::url::Url;

/// An API server, and who asks.
pub struct ApiServer {
    /// Begins every URL. Its host is the name that the certificate must have.
    base: Url,
    token: Option<Secret<String>>,
    agent: Agent,
}

/// By what the asker is known. A certificate beats a token, so there is never one beside it.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A bearer token.
    Token(Secret<String>),
    /// A client certificate.
    Certificate(Identity),
}

/// Why there is no result.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failure {
    /// No connection: the reason.
    Unreachable(String),
    /// The certificate is not to be trusted: the reason.
    Untrusted(String),
    /// A status of 300 or above, and the server's words.
    Refused(u16, String),
    /// What came back is not of the API: the reason.
    Answer(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "the API server cannot be reached: {why}"),
            Self::Untrusted(why) => write!(f, "the API server's certificate is not trusted: {why}"),
            Self::Refused(status, why) => write!(f, "the API server answers {status}: {why}"),
            Self::Answer(why) => write!(f, "the API server's answer is not understood: {why}"),
        }
    }
}

impl std::error::Error for Failure {}

impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiServer").field("base", &self.base).finish_non_exhaustive()
    }
}

impl ApiServer {
    /// The server at `url`, whose certificate must be of one of `roots` and have the name
    /// `server_name`.
    #[must_use]
    pub fn new(
        url: &Url,
        server_name: &str,
        roots: &[CertificateDer<'static>],
        credential: Credential,
    ) -> Self {
        let (token, identity) = match credential {
            Credential::Token(token) => (Some(token), None),
            Credential::Certificate(identity) => (None, Some(client_certificate(&identity))),
        };
        let roots = roots.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(tlsconf::provider())
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .client_cert(identity)
            .build();
        let config = Agent::config_builder()
            .https_only(true)
            .tls_config(tls)
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_global(Some(API_SERVER_TIMEOUT))
            .user_agent(concat!("cluster-connect/", env!("CARGO_PKG_VERSION")))
            .build();
        let place = Place { authority: url.authority(), default: DefaultResolver::default() };
        let base = Url { tls: true, host: server_name.to_owned(), ..url.clone() };
        let agent = Agent::with_parts(config, DefaultConnector::default(), place);
        Self { base, token, agent }
    }

    /// One call. An empty answer is null.
    ///
    /// # Errors
    ///
    /// [`Failure`]
    pub fn call(
        &self,
        method: &'static str,
        path: &str,
        body: Option<&Json>,
    ) -> Result<Json, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("Accept", "application/json");
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {}", token.expose()));
        }
        let answer = match body {
            Some(body) => {
                let request = request.header("Content-Type", "application/json");
                request.body(body.to_string()).map(|request| self.agent.run(request))
            }
            None => request.body(()).map(|request| self.agent.run(request)),
        };
        // A token with a line break in it is the one thing that cannot be put into a request.
        let answer = answer.map_err(|_| Failure::Answer("the token is not one word".to_owned()))?;
        let mut answer = answer.map_err(why)?;
        let status = answer.status().as_u16();
        let limit = u64::try_from(ANSWER_BYTES).unwrap_or(u64::MAX);
        let body = answer.body_mut().with_config().limit(limit).read_to_vec().map_err(why)?;
        match status {
            200..=299 if body.is_empty() => Ok(Json::Null),
            200..=299 => serde_json::from_slice(&body)
                .map_err(|_| Failure::Answer(format!("{method} {path}: no JSON"))),
            _ => Err(Failure::Refused(status, words(&body))),
        }
    }

    /// Asks until the answer is yes, for so long at most.
    ///
    /// # Errors
    ///
    /// [`Failure`]
    pub fn wait(
        &self,
        patience: Duration,
        mut ask: impl FnMut(&Self) -> Result<bool, Failure>,
    ) -> Result<bool, Failure> {
        let until = Instant::now() + patience;
        loop {
            let yes = ask(self)?;
            if yes || until <= Instant::now() {
                return Ok(yes);
            }
            thread::sleep(BETWEEN);
        }
    }
}

/// Attempts something again while the server is away, for so long at most. A machine starts its
/// processes in any order.
///
/// # Errors
///
/// The last one.
pub fn patiently<T, E>(
    patience: Duration,
    mut is_away: impl FnMut(&E) -> bool,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let until = Instant::now() + patience;
    loop {
        match attempt() {
            Err(why) if is_away(&why) && Instant::now() < until => thread::sleep(BETWEEN),
            result => return result,
        }
    }
}

/// Between two questions of [`ApiServer::wait`], and between two attempts.
const BETWEEN: Duration = Duration::from_millis(200);

/// Connects to where the server is, whatever name its certificate has.
#[derive(Debug)]
struct Place {
    authority: String,
    default: DefaultResolver,
}

impl Resolver for Place {
    fn resolve(
        &self,
        _: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let uri = format!("https://{}/", self.authority).parse::<Uri>();
        self.default.resolve(&uri.map_err(ureq::http::Error::from)?, config, timeout)
    }
}

fn client_certificate(identity: &Identity) -> ClientCert {
    let chain: Vec<_> =
        identity.chain.iter().map(|it| Certificate::from_der(it).to_owned()).collect();
    let label = match &identity.key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        // The other kind, and whatever is invented after it.
        _ => "PRIVATE KEY",
    };
    // The library tells the kinds apart by this text alone.
    let key = STANDARD.encode(identity.key.secret_der());
    let pem = format!("-----BEGIN {label}-----\n{key}\n-----END {label}-----\n");
    let key = PrivateKey::from_pem(pem.as_bytes());
    ClientCert::new_with_certs(&chain, key.expect("a key of a known kind is well-formed PEM"))
}

/// What a `Status` says, as far as it can be printed.
fn words(body: &[u8]) -> String {
    let status: Json = serde_json::from_slice(body).unwrap_or_default();
    let message = status.get("message").and_then(Json::as_str).unwrap_or("no reason given");
    message.chars().filter(|c| !c.is_control()).take(400).collect()
}

fn why(error: ureq::Error) -> Failure {
    match error {
        ureq::Error::Rustls(why) => untrusted(&why),
        ureq::Error::Io(why) => match why.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(inner) => untrusted(inner),
            None if why.kind() == io::ErrorKind::InvalidData => Failure::Answer(why.to_string()),
            None => Failure::Unreachable(why.to_string()),
        },
        ureq::Error::Tls(why) => Failure::Untrusted(why.to_owned()),
        ureq::Error::HostNotFound => Failure::Unreachable("no such host".to_owned()),
        ureq::Error::ConnectionFailed => Failure::Unreachable("connection refused".to_owned()),
        ureq::Error::Timeout(_) => Failure::Unreachable("no answer in time".to_owned()),
        other => Failure::Answer(other.to_string()),
    }
}

fn untrusted(why: &rustls::Error) -> Failure {
    match why {
        rustls::Error::InvalidCertificate(why) => Failure::Untrusted(why.to_string()),
        rustls::Error::NoCertificatesPresented => Failure::Untrusted(why.to_string()),
        other => Failure::Unreachable(format!("TLS: {other}")),
    }
}

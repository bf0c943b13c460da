//! One HTTP client for the relay's API: no redirects, a limit on what comes back, errors told
//! apart by what to do about them.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use serde_json::Value as Json;
use ureq::http::Request;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Proxy};

use crate::engine::tlsconf;
use crate::limits::{OPERATOR_ANSWER_MAX, OPERATOR_TIMEOUT};
use crate::role::egress::Egress;
use crate::secret::Secret;
use crate::wire::arm::Refusal;
use crate::wire::json::Value;
use crate::wire::url::Url;

/// A relay, and who asks.
pub struct Relay {
    url: Url,
    token: Secret<String>,
    agent: Agent,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Why there is no result.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failure {
    /// No connection: the reason.
    Unreachable(String),
    /// The relay's certificate is not to be trusted: the reason.
    Untrusted(String),
    /// The relay says no.
    Refused(Refusal),
    /// What came back is not of the API: the reason.
    Answer(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "the relay cannot be reached: {why}"),
            Self::Untrusted(why) => write!(f, "the relay's certificate is not trusted: {why}"),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Answer(why) => write!(f, "the relay's answer is not understood: {why}"),
        }
    }
}

impl std::error::Error for Failure {}

impl Failure {
    pub(super) fn shape(why: impl fmt::Display) -> Self {
        Self::Answer(why.to_string())
    }
}

impl Relay {
    /// A relay that is trusted by one of `roots`, asked with `token`.
    #[must_use]
    pub fn new(
        url: Url,
        roots: &[CertificateDer<'static>],
        token: Secret<String>,
        egress: &Egress,
    ) -> Self {
        let roots = roots.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(tlsconf::provider())
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .build();
        // The rules of NO_PROXY are ours; the address and the password are read by the library.
        let proxy = egress.via(&url.host).and_then(|_| Proxy::try_from_env());
        let agent = Agent::config_builder()
            .https_only(url.tls)
            .tls_config(tls)
            .proxy(proxy)
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_global(Some(OPERATOR_TIMEOUT))
            .user_agent("cluster-connect")
            .build()
            .new_agent();
        Self { url, token, agent }
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
    ) -> Result<Value, Failure> {
        let mark = if path.contains('?') { '&' } else { '?' };
        let uri = format!("{}{path}{mark}api-version=2021-10-01", self.url);
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header("Authorization", format!("Bearer {}", self.token.expose()))
            .header("Accept", "application/json");
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
        let body = answer.body_mut().with_config().limit(OPERATOR_ANSWER_MAX).read_to_vec();
        let body = body.map_err(why)?;
        match status {
            200..=299 => super::parse(&body),
            _ => Err(Failure::Refused(Refusal::read(status, &body))),
        }
    }
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
        ureq::Error::ConnectProxyFailed(why) => {
            Failure::Unreachable(format!("the HTTP proxy refused: {why}"))
        }
        ureq::Error::InvalidProxyUrl => Failure::Unreachable("HTTPS_PROXY is no URL".to_owned()),
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

//! Where kube-apiserver is, and the auth proxy's own credential there.
//!
//! The bearer goes with every request. A client certificate, where a kubeconfig has nothing else,
//! goes with the connection, and beats any bearer on it: what must run as somebody else's own
//! token therefore has an endpoint without one.

use std::path::PathBuf;
use std::time::Instant;

use log::{info, warn};

use crate::limits::{TOKEN_FILE_MAX, TOKEN_FILE_PERIOD};
use crate::role::{Endpoint, Job, JobId, Net, Outcome};
use crate::secret::Secret;

/// The API server.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// For requests as the auth proxy, with its client certificate if it has one.
    pub endpoint: Endpoint,
    /// For requests with a caller's own token, never with a client certificate.
    pub anonymous: Endpoint,
    /// What goes into `Host`.
    pub host: String,
    /// The auth proxy's own token.
    pub token: TokenSource,
}

/// Where the auth proxy's own token comes from.
#[derive(Clone, Debug)]
pub enum TokenSource {
    /// There is none: the client certificate says who we are.
    Certificate,
    /// From the configuration, for good.
    Fixed(Secret<String>),
    /// From a file that rotates.
    File(PathBuf),
}

/// The token as it is now.
#[derive(Debug)]
pub(super) struct Credential {
    source: TokenSource,
    token: Option<Secret<String>>,
    due: Option<Instant>,
    job: Option<JobId>,
}

impl Credential {
    pub(super) fn new(upstream: &Upstream) -> Self {
        let token = match &upstream.token {
            TokenSource::Fixed(token) => Some(token.clone()),
            TokenSource::Certificate | TokenSource::File(_) => None,
        };
        Self { source: upstream.token.clone(), token, due: None, job: None }
    }

    /// Requests can be sent as the auth proxy.
    pub(super) fn is_usable(&self) -> bool {
        self.token.is_some() || matches!(self.source, TokenSource::Certificate)
    }

    /// The token, where the credential is one.
    pub(super) fn token(&self) -> Option<&Secret<String>> {
        self.token.as_ref()
    }

    pub(super) fn start(&mut self, net: &mut dyn Net) {
        self.read_again(net);
    }

    pub(super) fn read_again(&mut self, net: &mut dyn Net) {
        let TokenSource::File(path) = &self.source else { return };
        self.due = Some(net.now() + TOKEN_FILE_PERIOD);
        if self.job.is_none() {
            let read = Job::Read { path: path.clone(), limit: TOKEN_FILE_MAX };
            // With a full queue the next period comes.
            self.job = net.submit(read).ok();
        }
    }

    pub(super) fn handle_deadline(&mut self, net: &mut dyn Net) {
        if self.due.is_some_and(|due| due <= net.now()) {
            self.read_again(net);
        }
    }

    pub(super) fn handle_done(&mut self, job: JobId, outcome: Outcome, net: &mut dyn Net) {
        if self.job != Some(job) {
            return;
        }
        self.job = None;
        let Outcome::Read(result) = outcome else { return };
        let token = result.and_then(|bytes| {
            let text = std::str::from_utf8(bytes.expose()).map_err(|_| "it is not text")?;
            let text = text.trim();
            let fit = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
            fit.then(|| Secret::new(text.to_owned())).ok_or_else(|| "it holds no token".into())
        });
        match token {
            Ok(token) if self.token.as_ref() != Some(&token) => {
                info!("the token for the API server has been read");
                self.token = Some(token);
            }
            Ok(_) => (),
            Err(why) => {
                // The old one may be good for a while.
                warn!("the token for the API server cannot be read: {why}");
                if self.token.is_none() {
                    self.due = Some(net.now() + std::time::Duration::from_secs(1));
                }
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due
    }
}

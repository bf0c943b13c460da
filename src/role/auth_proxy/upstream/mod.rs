//! Where kube-apiserver is, and the auth proxy's own credential there.
//!
//! The bearer goes with every request. A client certificate, where a kubeconfig has nothing else,
//! goes with the connection, and beats any bearer on it: what must run as somebody else's own
//! token therefore has an endpoint without one.

mod requested;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use log::{info, warn};

use self::requested::Renewing;
pub use self::requested::{AccountToken, Requested, Unusable, token_request};
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
    /// From the API server, for a service account that asks for its own tokens.
    Requested(Box<Requested>),
}

/// The token as it is now.
#[derive(Debug)]
pub(super) struct Credential {
    source: Source,
    token: Option<Secret<String>>,
}

#[derive(Debug)]
enum Source {
    Certificate,
    Fixed,
    File(TokenFile),
    Requested(Box<Renewing>),
}

#[derive(Debug)]
struct TokenFile {
    path: PathBuf,
    due: Option<Instant>,
    job: Option<JobId>,
}

impl Credential {
    pub(super) fn new(upstream: &Upstream) -> Self {
        let (source, token) = match upstream.token.clone() {
            TokenSource::Certificate => (Source::Certificate, None),
            TokenSource::Fixed(token) => (Source::Fixed, Some(token)),
            TokenSource::File(path) => {
                (Source::File(TokenFile { path, due: None, job: None }), None)
            }
            TokenSource::Requested(requested) => {
                let token = requested.token.token.clone();
                (Source::Requested(Box::new(Renewing::new(*requested))), Some(token))
            }
        };
        Self { source, token }
    }

    /// Requests can be sent as the auth proxy.
    pub(super) fn is_usable(&self) -> bool {
        self.token.is_some() || matches!(self.source, Source::Certificate)
    }

    /// The token, where the credential is one.
    pub(super) fn token(&self) -> Option<&Secret<String>> {
        self.token.as_ref()
    }

    pub(super) fn start(&mut self, net: &mut dyn Net) {
        match &mut self.source {
            Source::Certificate | Source::Fixed => (),
            Source::File(file) => file.read(net),
            Source::Requested(renewing) => {
                renewing.start(net);
                self.handle_deadline(net);
            }
        }
    }

    /// The token may be newer at its source: the file has changed, or the API server refuses what
    /// we have.
    pub(super) fn read_again(&mut self, net: &mut dyn Net) {
        match &mut self.source {
            Source::Certificate | Source::Fixed => (),
            Source::File(file) => file.read(net),
            Source::Requested(renewing) => renewing.ask_soon(net),
        }
    }

    /// Its source has been asked, and has not answered yet.
    pub(super) fn is_asked(&self) -> bool {
        match &self.source {
            Source::Certificate | Source::Fixed => false,
            Source::File(file) => file.job.is_some(),
            Source::Requested(renewing) => renewing.is_asked(),
        }
    }

    pub(super) fn handle_deadline(&mut self, net: &mut dyn Net) {
        match &mut self.source {
            Source::Certificate | Source::Fixed => (),
            Source::File(file) => {
                if file.due.is_some_and(|due| due <= net.now()) {
                    file.read(net);
                }
            }
            Source::Requested(renewing) => {
                renewing.handle_deadline(net);
                self.token = renewing.token().cloned();
            }
        }
    }

    pub(super) fn handle_done(&mut self, job: JobId, outcome: Outcome, net: &mut dyn Net) {
        match &mut self.source {
            Source::Certificate | Source::Fixed => (),
            Source::File(file) if file.job == Some(job) => {
                file.job = None;
                if let Outcome::Read(result) = outcome {
                    self.on_read(result, net);
                }
            }
            Source::File(_) => (),
            Source::Requested(renewing) => {
                renewing.handle_done(job, outcome, net);
                self.token = renewing.token().cloned();
            }
        }
    }

    fn on_read(&mut self, result: Result<Secret<Vec<u8>>, String>, net: &mut dyn Net) {
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
                if let (None, Source::File(file)) = (&self.token, &mut self.source) {
                    file.due = Some(net.now() + Duration::from_secs(1));
                }
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.source {
            Source::Certificate | Source::Fixed => None,
            Source::File(file) => file.due,
            Source::Requested(renewing) => renewing.deadline(),
        }
    }
}

impl TokenFile {
    fn read(&mut self, net: &mut dyn Net) {
        self.due = Some(net.now() + TOKEN_FILE_PERIOD);
        if self.job.is_none() {
            let read = Job::Read { path: self.path.clone(), limit: TOKEN_FILE_MAX };
            // With a full queue the next period comes.
            self.job = net.submit(read).ok();
        }
    }
}

#[cfg(test)]
mod tests;

//! A token that a service account asks for itself (TokenRequest), with the one it has, at about
//! four fifths of its life. A request that fails cuts nothing: the old token serves to its end.
//! When that comes, or the API server knows the token no more, the process ends with
//! `API_SERVER_CREDENTIAL`, because only a start with the kubeconfig can help.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};

use crate::engine::renewal::Renewal;
use crate::limits::{
    ACCOUNT_TOKEN_GAP, ACCOUNT_TOKEN_LIFE, ACCOUNT_TOKEN_REFUSALS, API_SERVER_TIMEOUT,
    TOKEN_FILE_MAX,
};
use crate::role::{Fault, HttpCall, Job, JobId, Net, Notice, Outcome, WriteFile, random_u64};
use crate::secret::Secret;

/// A token, and where its successor comes from.
#[derive(Clone, Debug)]
pub struct Requested {
    /// The account's `serviceaccounts/NAME/token`, absolute.
    pub url: String,
    /// The roots to trust there.
    pub roots: Arc<Vec<CertificateDer<'static>>>,
    /// The file that keeps the token for the next start.
    pub path: PathBuf,
    /// The token as it is now.
    pub token: AccountToken,
}

/// A token of a service account.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccountToken {
    /// The token.
    pub token: Secret<String>,
    /// When it came, in seconds since 1970 by the clock of this machine: the API server's may
    /// differ.
    pub issued: u64,
    /// How many seconds it lives from then on.
    pub life: u64,
}

/// Why something is no token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unusable {
    /// It is not the JSON that it should be.
    Shape,
    /// The token is empty, or not one word.
    Token,
    /// It does not say how long the token lives.
    Life,
    /// The file is about another API server or account.
    Place,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shape => "it is not a token of an account",
            Self::Token => "the token in it is not one word",
            Self::Life => "it does not say how long the token lives",
            Self::Place => "it is of another API server or account",
        })
    }
}

impl std::error::Error for Unusable {}

/// The body of a TokenRequest.
#[must_use]
pub fn token_request() -> Value {
    json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": { "expirationSeconds": ACCOUNT_TOKEN_LIFE },
    })
}

impl AccountToken {
    /// Reads the answer to a TokenRequest. How long the token lives is taken from what was
    /// granted, not from when it ends: that would be by another clock.
    ///
    /// # Errors
    ///
    /// [`Unusable`]
    pub fn granted(answer: &Value, unix_now: u64) -> Result<Self, Unusable> {
        let token = answer.pointer("/status/token").and_then(Value::as_str);
        let life = answer.pointer("/spec/expirationSeconds").and_then(Value::as_u64);
        Self::new(token, unix_now, life)
    }

    /// Reads what [`Self::to_file`] has written for the same `url`.
    ///
    /// # Errors
    ///
    /// [`Unusable`]
    pub fn from_file(bytes: &[u8], url: &str) -> Result<Self, Unusable> {
        let file: Value = serde_json::from_slice(bytes).map_err(|_| Unusable::Shape)?;
        let number = |key: &str| file.get(key).and_then(Value::as_u64);
        if file.get("url").and_then(Value::as_str) != Some(url) {
            return Err(Unusable::Place);
        }
        let issued = number("issued").ok_or(Unusable::Life)?;
        Self::new(file.get("token").and_then(Value::as_str), issued, number("life"))
    }

    /// What a file keeps. The token is never shown to another API server than that of `url`.
    #[must_use]
    pub fn to_file(&self, url: &str) -> Secret<Vec<u8>> {
        let token = self.token.expose();
        let file = json!({ "url": url, "token": token, "issued": self.issued, "life": self.life });
        Secret::new(format!("{file}\n").into_bytes())
    }

    /// A good part of its life is over, or this machine's clock has been set since it came.
    #[must_use]
    pub fn is_old(&self, unix_now: u64) -> bool {
        unix_now.checked_sub(self.issued).is_none_or(|age| self.life / 4 * 3 <= age)
    }

    fn new(token: Option<&str>, issued: u64, life: Option<u64>) -> Result<Self, Unusable> {
        let token = token.ok_or(Unusable::Shape)?;
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Unusable::Token);
        }
        // More than was asked for is not relied on.
        let life = life.filter(|life| *life > 0).ok_or(Unusable::Life)?.min(ACCOUNT_TOKEN_LIFE);
        Ok(Self { token: Secret::new(token.to_owned()), issued, life })
    }
}

/// Keeps a token fresh.
#[derive(Debug)]
pub(super) struct Renewing {
    requested: Requested,
    renewal: Option<Renewal>,
    asked: Option<Instant>,
    refusals: u32,
    request: Option<JobId>,
    write: Option<JobId>,
    is_lost: bool,
}

impl Renewing {
    pub(super) const fn new(requested: Requested) -> Self {
        Self {
            requested,
            renewal: None,
            asked: None,
            refusals: 0,
            request: None,
            write: None,
            is_lost: false,
        }
    }

    /// The token, as long as there is one.
    pub(super) fn token(&self) -> Option<&Secret<String>> {
        Some(&self.requested.token.token).filter(|_| !self.is_lost)
    }

    pub(super) const fn is_asked(&self) -> bool {
        self.request.is_some()
    }

    pub(super) fn start(&mut self, net: &mut dyn Net) {
        let AccountToken { issued, life, .. } = self.requested.token;
        let elapsed = Duration::from_secs(net.unix_time().saturating_sub(issued));
        let (now, random) = (net.now(), random_u64(net));
        self.renewal = Some(Renewal::resumed(now, elapsed, Duration::from_secs(life), random));
    }

    /// Asks before it is time, unless that was done a moment ago.
    pub(super) fn ask_soon(&mut self, net: &mut dyn Net) {
        let recently = |asked: Instant| net.now() < asked + ACCOUNT_TOKEN_GAP;
        if !self.asked.is_some_and(recently) {
            self.ask(net);
        }
    }

    pub(super) fn handle_deadline(&mut self, net: &mut dyn Net) {
        let Some(renewal) = &self.renewal else { return };
        if !renewal.is_good(net.now()) {
            self.lose("its time is over", net);
        } else if renewal.due() <= net.now() {
            self.ask(net);
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let renewal = self.renewal.as_ref().filter(|_| !self.is_lost)?;
        match self.request {
            Some(_) => Some(renewal.ends()),
            None => Some(renewal.due().min(renewal.ends())),
        }
    }

    pub(super) fn handle_done(&mut self, job: JobId, outcome: Outcome, net: &mut dyn Net) {
        if self.write == Some(job) {
            self.write = None;
            if let Outcome::Written(Err(why)) = outcome {
                warn!("the account's token is not kept for the next start: {why}");
            }
        } else if self.request == Some(job) {
            self.request = None;
            self.on_answer(outcome, net);
        }
    }

    fn ask(&mut self, net: &mut dyn Net) {
        if self.request.is_some() || self.is_lost {
            return;
        }
        self.asked = Some(net.now());
        match net.submit(Job::Http(self.call())) {
            Ok(job) => self.request = Some(job),
            Err(_) => self.on_failed("too much to do at once", net),
        }
    }

    fn call(&self) -> HttpCall {
        let token = self.requested.token.token.expose();
        let plain = |text: &str| Secret::new(text.to_owned());
        HttpCall {
            method: "POST",
            url: self.requested.url.clone(),
            headers: vec![
                ("Authorization".to_owned(), Secret::new(format!("Bearer {token}"))),
                ("Content-Type".to_owned(), plain("application/json")),
                ("Accept".to_owned(), plain("application/json")),
            ],
            body: token_request().to_string().into_bytes(),
            roots: Some(Arc::clone(&self.requested.roots)),
            limit: 2 * TOKEN_FILE_MAX,
            timeout: API_SERVER_TIMEOUT,
        }
    }

    fn on_answer(&mut self, outcome: Outcome, net: &mut dyn Net) {
        let answer = match outcome {
            Outcome::Http(Ok(answer)) => answer,
            Outcome::Http(Err(why)) => return self.on_failed(&why, net),
            Outcome::Read(_) | Outcome::Written(_) | Outcome::Exec(_) | Outcome::Noted(_) => {
                return self.on_failed("an answer to another question", net);
            }
        };
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        match answer.status {
            200..=299 => match AccountToken::granted(&body, net.unix_time()) {
                Ok(token) => self.on_granted(token, net),
                Err(why) => self.on_failed(&format!("the answer is no token: {why}"), net),
            },
            401 => {
                self.refusals += 1;
                if ACCOUNT_TOKEN_REFUSALS <= self.refusals {
                    self.lose("the API server no longer accepts it", net);
                } else {
                    self.on_failed("401 Unauthorized", net);
                }
            }
            status => {
                let words = body.get("message").and_then(Value::as_str).unwrap_or_default();
                let words: String = words.chars().filter(|c| !c.is_control()).take(300).collect();
                self.on_failed(&format!("{status} {words}"), net);
            }
        }
    }

    fn on_granted(&mut self, token: AccountToken, net: &mut dyn Net) {
        let (now, random) = (net.now(), random_u64(net));
        self.renewal = Some(Renewal::new(now, Duration::from_secs(token.life), random));
        self.refusals = 0;
        info!("the account has a new token for the API server, good for {} s", token.life);
        let file = WriteFile {
            path: self.requested.path.clone(),
            bytes: token.to_file(&self.requested.url),
            mode: 0o600,
        };
        self.requested.token = token;
        self.write = net.submit(Job::Write(file)).ok();
        if self.write.is_none() {
            warn!("the account's token is not kept for the next start: too much to do at once");
        }
    }

    fn on_failed(&mut self, why: &str, net: &mut dyn Net) {
        warn!("the account's token could not be renewed: {why}");
        let (now, random) = (net.now(), random_u64(net));
        if let Some(renewal) = &mut self.renewal {
            renewal.failed(now, random);
        }
    }

    fn lose(&mut self, why: &str, net: &mut dyn Net) {
        if self.is_lost {
            return;
        }
        self.is_lost = true;
        let message = format!("the account's token for the API server is lost: {why}");
        net.tell(Notice::Exit(1, Some(Fault { code: "API_SERVER_CREDENTIAL", message })));
    }
}

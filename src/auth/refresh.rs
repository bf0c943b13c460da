//! When an issuer's keys are fetched: at start, hourly, and when a token names a key that is not
//! known, though the last only once in five minutes, so that made-up key names are no lever
//! against the issuer. One fetch at a time; a failed one is tried again after a growing delay, and
//! the keys in use stay until they are too old.
//!
//! Fetching is somebody else's: [`KeyPolicy::poll`] says what to fetch, [`KeyPolicy::fetched`]
//! takes what came of it.

use std::fmt;
use std::time::{Duration, Instant};

use super::discovery::{self, BadDiscovery};
use super::jwks::BadKeySet;
use super::settings::KeySource;
use super::verifier::Verifier;
use crate::engine::backoff::Backoff;
use crate::limits::{KEYS_ON_DEMAND, KEYS_REFRESH, KEYS_RETRY_FIRST, KEYS_RETRY_MOST};

/// The schedule of one issuer's keys.
#[derive(Debug)]
pub struct KeyPolicy {
    issuer: usize,
    name: String,
    source: KeySource,
    due: Instant,
    stage: Stage,
    on_demand: Option<Instant>,
    /// The entity tag of the keys in use, and where they were.
    etag: Option<(String, String)>,
    backoff: Backoff,
}

#[derive(Debug)]
enum Stage {
    /// The next fetch begins a round.
    Idle,
    /// The document has been read, the keys are next.
    Discovered(String),
    /// A fetch is under way.
    Fetching(Fetch),
}

/// What to fetch: a GET over https, without following redirects.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fetch {
    /// The discovery document.
    Discovery(String),
    /// The key set, unless it still has this entity tag (`If-None-Match`).
    Keys {
        /// Where it is.
        url: String,
        /// What it was when it was fetched last.
        etag: Option<String>,
    },
}

impl Fetch {
    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &str {
        match self {
            Self::Discovery(url) | Self::Keys { url, .. } => url,
        }
    }
}

/// What a fetch came to.
#[derive(Clone, Debug)]
pub enum Answer<'a> {
    /// Status 200.
    Body {
        /// The body.
        bytes: &'a [u8],
        /// Its `ETag`.
        etag: Option<String>,
    },
    /// Status 304.
    Unchanged,
    /// Anything else, in words.
    Failed(String),
}

/// How far a round has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// The document has been read. Poll again for the keys.
    Discovered,
    /// The verifier has the keys.
    Installed,
}

impl KeyPolicy {
    /// A policy for each issuer of `verifier` whose keys are fetched, the first time at once.
    #[must_use]
    pub fn all(verifier: &Verifier, now: Instant) -> Vec<Self> {
        let issuers = verifier.issuers().iter().enumerate();
        let fetched = issuers.filter(|(_, issuer)| *issuer.source() != KeySource::Installed);
        let policies = fetched.map(|(index, issuer)| Self {
            issuer: index,
            name: issuer.name().to_owned(),
            source: issuer.source().clone(),
            due: now,
            stage: Stage::Idle,
            on_demand: None,
            etag: None,
            backoff: Backoff::new(KEYS_RETRY_FIRST, KEYS_RETRY_MOST),
        });
        policies.collect()
    }

    /// The index of the issuer, as the verifier and its refusals name it.
    #[must_use]
    pub const fn issuer(&self) -> usize {
        self.issuer
    }

    /// What to fetch now. Until [`Self::fetched`] is called there is nothing more.
    pub fn poll(&mut self, now: Instant) -> Option<Fetch> {
        if now < self.deadline()? {
            return None;
        }
        let fetch = match (&self.stage, &self.source) {
            (Stage::Fetching(_), _) | (Stage::Idle, KeySource::Installed) => return None,
            (Stage::Idle, KeySource::Discovery { url, .. }) => Fetch::Discovery(url.clone()),
            (Stage::Idle, KeySource::Url(url)) | (Stage::Discovered(url), _) => {
                let known = self.etag.as_ref().filter(|(before, _)| before == url);
                Fetch::Keys { url: url.clone(), etag: known.map(|(_, etag)| etag.clone()) }
            }
        };
        self.stage = Stage::Fetching(fetch.clone());
        Some(fetch)
    }

    /// A fetch has ended. Keys go into `verifier`; `random` spreads the next fetch.
    ///
    /// # Errors
    /// [`RefreshError`] for the log. The next attempt is scheduled and the keys in use stay.
    pub fn fetched(
        &mut self,
        answer: Answer<'_>,
        verifier: &mut Verifier,
        clock: Clock,
        random: u64,
    ) -> Result<Progress, RefreshError> {
        let Stage::Fetching(fetch) = std::mem::replace(&mut self.stage, Stage::Idle) else {
            return Err(RefreshError::NotAsked);
        };
        let taken = self.take(&fetch, answer, verifier, clock.unix);
        self.due = match &taken {
            Ok(Progress::Discovered) => clock.now,
            Ok(Progress::Installed) => {
                self.backoff.succeeded();
                clock.now + jittered(KEYS_REFRESH, random)
            }
            Err(_) => {
                self.stage = Stage::Idle;
                clock.now + self.backoff.failed(random)
            }
        };
        taken
    }

    fn take(
        &mut self,
        fetch: &Fetch,
        answer: Answer<'_>,
        verifier: &mut Verifier,
        unix_now: u64,
    ) -> Result<Progress, RefreshError> {
        match (fetch, answer) {
            (Fetch::Discovery(url), Answer::Body { bytes, .. }) => {
                let hosts = match &self.source {
                    KeySource::Discovery { hosts, .. } => hosts.as_slice(),
                    KeySource::Url(_) | KeySource::Installed => &[],
                };
                let keys = discovery::keys_url(bytes, &self.name, url, hosts);
                self.stage = Stage::Discovered(keys.map_err(RefreshError::Discovery)?);
                Ok(Progress::Discovered)
            }
            (Fetch::Keys { url, .. }, Answer::Body { bytes, etag }) => {
                self.etag = None;
                verifier.install_keys(self.issuer, bytes, unix_now).map_err(RefreshError::Keys)?;
                // One that cannot be sent back would be the end of all fetches.
                let etag = etag.filter(|tag| tag.len() <= ETAG_BYTES && is_printable(tag));
                self.etag = etag.map(|etag| (url.clone(), etag));
                Ok(Progress::Installed)
            }
            (Fetch::Keys { etag: Some(_), .. }, Answer::Unchanged) => {
                verifier.confirm_keys(self.issuer, unix_now);
                Ok(Progress::Installed)
            }
            (Fetch::Discovery(_) | Fetch::Keys { .. }, Answer::Unchanged) => {
                Err(RefreshError::Fetch("304 without having asked for it".to_owned()))
            }
            (_, Answer::Failed(why)) => Err(RefreshError::Fetch(why)),
        }
    }

    /// Somebody wants fresh keys now.
    pub fn hasten(&mut self, now: Instant) {
        self.due = self.due.min(now);
    }

    /// A token names a key that is not known, or the keys are too old. At most once in five minutes
    /// that is worth a fetch.
    pub fn on_unknown_key(&mut self, now: Instant) {
        let allowed = self.on_demand.is_none_or(|last| last + KEYS_ON_DEMAND <= now);
        if allowed && matches!(self.stage, Stage::Idle) {
            self.on_demand = Some(now);
            self.due = self.due.min(now);
        }
    }

    /// When there is something to fetch, unless a fetch is under way.
    #[must_use]
    pub const fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Idle | Stage::Discovered(_) => Some(self.due),
            Stage::Fetching(_) => None,
        }
    }
}

/// The two times: one that never jumps, for schedules, and the wall clock, for the age of keys.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Monotonic.
    pub now: Instant,
    /// Unix seconds.
    pub unix: u64,
}

/// Bytes of an entity tag: a hash in quotes, with room.
const ETAG_BYTES: usize = 256;

fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// `period`, give or take a tenth.
fn jittered(period: Duration, random: u64) -> Duration {
    let period = u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
    let tenth = period / 10;
    Duration::from_millis(period - tenth + random % (2 * tenth + 1))
}

/// Why a round brought no keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RefreshError {
    /// The fetch itself did not succeed.
    Fetch(String),
    /// The discovery document is not believed.
    Discovery(BadDiscovery),
    /// The key set cannot be used.
    Keys(BadKeySet),
    /// No fetch was under way.
    NotAsked,
}

impl fmt::Display for RefreshError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fetch(why) => write!(f, "keys were not fetched: {why}"),
            Self::Discovery(why) => why.fmt(f),
            Self::Keys(why) => why.fmt(f),
            Self::NotAsked => f.write_str("no fetch was under way"),
        }
    }
}

impl std::error::Error for RefreshError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Discovery(why) => Some(why),
            Self::Keys(why) => Some(why),
            Self::Fetch(_) | Self::NotAsked => None,
        }
    }
}

#[cfg(test)]
#[path = "refresh_tests.rs"]
mod tests;

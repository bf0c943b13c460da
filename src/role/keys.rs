//! A verifier whose keys stay fresh: it says what to fetch, through the worker threads, and takes
//! the answers. Auth proxy and relay each have one, with issuers of their own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use log::{info, warn};
use rustls::pki_types::CertificateDer;

use super::{HttpAnswer, HttpCall, Job, JobId, Net, Outcome, random_u64};
use crate::auth::jwks::KeySet;
use crate::auth::refresh::{Answer, Clock, Fetch, KeyPolicy, Progress};
use crate::auth::{Denied, Issuer, Verifier};
use crate::limits::{
    KEY_FETCH_TIMEOUT, KEY_FILE_PERIOD, KEY_SET_BYTES, KEYS_ON_DEMAND, UNKNOWN_KEYS,
};
use crate::secret::Secret;

/// See the module's documentation.
#[derive(Debug)]
pub struct Keys {
    verifier: Verifier,
    sources: BTreeMap<usize, Source>,
    policies: Vec<KeyPolicy>,
    /// Keys of these issuers come from files, which are read again from time to time.
    files_due: Option<Instant>,
    jobs: BTreeMap<JobId, Asked>,
    /// Keys that were asked for in vain, and until when nobody asks for them again.
    unknown: BTreeMap<String, Instant>,
    /// Keys that were left out of their sets, as they were logged last.
    left_out: BTreeMap<usize, String>,
    /// Fetches that gave keys, and that did not.
    fetches: (u64, u64),
}

/// What the configuration says about an issuer's keys beside their address.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// Roots for the issuer's own TLS, instead of the system's.
    pub roots: Option<Arc<Vec<CertificateDer<'static>>>>,
    /// The file with the keys, where nothing is fetched.
    pub file: Option<PathBuf>,
}

#[derive(Debug)]
enum Asked {
    Fetch(usize),
    File(usize),
}

impl Keys {
    /// Keeps the keys of `verifier`; `sources` goes by the index of the issuer.
    #[must_use]
    pub fn new(verifier: Verifier, sources: BTreeMap<usize, Source>) -> Self {
        let (policies, jobs) = (Vec::new(), BTreeMap::new());
        let (unknown, left_out, fetches) = (BTreeMap::new(), BTreeMap::new(), (0, 0));
        Self { verifier, sources, policies, files_due: None, jobs, unknown, left_out, fetches }
    }

    /// The verifier, with the keys it has now.
    #[must_use]
    pub const fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// The keys of some issuer are there, or there is no issuer.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let issuers = self.verifier.issuers();
        issuers.is_empty() || issuers.iter().any(|issuer| issuer.keys_seen().is_some())
    }

    /// Fetches that gave keys, and that did not.
    #[must_use]
    pub const fn fetches(&self) -> (u64, u64) {
        self.fetches
    }

    /// Somebody wants fresh keys now.
    pub fn reload(&mut self, net: &mut dyn Net) {
        let now = net.now();
        self.policies.iter_mut().for_each(|policy| policy.hasten(now));
        self.files_due = self.files_due.map(|_| now);
        self.handle_deadline(net);
    }

    /// Begins: everything is due.
    pub fn start(&mut self, net: &mut dyn Net) {
        self.policies = KeyPolicy::all(&self.verifier, net.now());
        if self.sources.values().any(|source| source.file.is_some()) {
            self.files_due = Some(net.now());
        }
        self.handle_deadline(net);
    }

    /// A token was refused; perhaps because its key is newer than ours. Says which issuer's keys
    /// are on their way then, so that whoever can may wait for them.
    pub fn on_denied(&mut self, denied: &Denied, net: &mut dyn Net) -> Option<usize> {
        let issuer = denied.refresh()?;
        let now = net.now();
        // The first keys are fetched, and fetched again, whether anybody asks for them or not.
        let has_keys =
            self.verifier.issuers().get(issuer).is_some_and(|it| it.keys_seen().is_some());
        if has_keys && !self.was_unknown(denied, now) {
            for policy in self.policies.iter_mut().filter(|policy| policy.issuer() == issuer) {
                policy.on_unknown_key(now);
            }
            self.handle_deadline(net);
        }
        self.is_fetching(issuer).then_some(issuer)
    }

    /// The keys of the issuer of this index are on their way.
    #[must_use]
    pub fn is_fetching(&self, issuer: usize) -> bool {
        let mut asked = self.jobs.values();
        asked.any(|asked| matches!(asked, Asked::Fetch(of) | Asked::File(of) if *of == issuer))
    }

    /// The same key was asked for a moment ago: the budget of its issuer is for other keys.
    fn was_unknown(&mut self, denied: &Denied, now: Instant) -> bool {
        let name = format!("{:?} {denied}", denied.refresh());
        if self.unknown.get(&name).is_some_and(|until| now < *until) {
            return true;
        }
        if UNKNOWN_KEYS <= self.unknown.len() {
            self.unknown.retain(|_, until| now < *until);
        }
        if self.unknown.len() < UNKNOWN_KEYS {
            self.unknown.insert(name, now + KEYS_ON_DEMAND);
        }
        false
    }

    /// Submits what is due.
    pub fn handle_deadline(&mut self, net: &mut dyn Net) {
        let now = net.now();
        for policy in &mut self.policies {
            let issuer = policy.issuer();
            let Some(fetch) = policy.poll(now) else { continue };
            let roots = self.sources.get(&issuer).and_then(|source| source.roots.clone());
            match net.submit(Job::Http(call(&fetch, roots))) {
                Ok(job) => drop(self.jobs.insert(job, Asked::Fetch(issuer))),
                Err(super::Busy) => {
                    let answer = Answer::Failed("the worker threads are busy".into());
                    let (clock, random) = (clock(net), random_u64(net));
                    // It is tried again by itself.
                    let _ = policy.fetched(answer, &mut self.verifier, clock, random);
                }
            }
        }
        if self.files_due.is_some_and(|due| due <= now) {
            self.files_due = Some(now + KEY_FILE_PERIOD);
            self.read_files(net);
        }
    }

    fn read_files(&mut self, net: &mut dyn Net) {
        for (&issuer, source) in &self.sources {
            let Some(path) = source.file.clone() else { continue };
            // A full queue: the next period comes.
            if let Ok(job) = net.submit(Job::Read { path, limit: KEY_SET_BYTES }) {
                self.jobs.insert(job, Asked::File(issuer));
            }
        }
    }

    /// Takes the outcome of a job, if it was one of these. Gives it back if not.
    pub fn handle_done(
        &mut self,
        job: JobId,
        outcome: Outcome,
        net: &mut dyn Net,
    ) -> Option<Outcome> {
        match (self.jobs.remove(&job), outcome) {
            (Some(Asked::Fetch(issuer)), Outcome::Http(result)) => {
                self.on_fetched(issuer, result, net);
            }
            (Some(Asked::File(issuer)), Outcome::Read(result)) => {
                let taken = result.and_then(|bytes| {
                    self.verifier
                        .install_keys(issuer, bytes.expose(), net.unix_time())
                        .map_err(|err| err.to_string())
                });
                match taken {
                    Ok(_) => self.note_left_out(issuer),
                    Err(why) => {
                        warn!("issuer={} keys not read from file: {why}", self.name(issuer));
                    }
                }
            }
            (None, outcome) => return Some(outcome),
            (Some(_), outcome) => unreachable!("another kind of outcome: {outcome:?}"),
        }
        None
    }

    fn on_fetched(&mut self, issuer: usize, result: Result<HttpAnswer, String>, net: &mut dyn Net) {
        let (clock, random) = (clock(net), random_u64(net));
        let answer = match &result {
            Ok(answer) if answer.status == 200 => {
                let etag = answer.headers.iter().find(|(name, _)| name == "etag");
                let etag = etag.map(|(_, value)| value.clone());
                Answer::Body { bytes: &answer.body, etag }
            }
            Ok(answer) if answer.status == 304 => Answer::Unchanged,
            Ok(answer) => Answer::Failed(format!("status {}", answer.status)),
            Err(why) => Answer::Failed(why.clone()),
        };
        let name = self.name(issuer);
        let policy = self.policies.iter_mut().find(|policy| policy.issuer() == issuer);
        let good = !matches!(answer, Answer::Failed(_));
        *(if good { &mut self.fetches.0 } else { &mut self.fetches.1 }) += 1;
        match policy.map(|policy| policy.fetched(answer, &mut self.verifier, clock, random)) {
            Some(Ok(Progress::Installed)) => {
                info!("issuer={name} keys are fresh");
                self.note_left_out(issuer);
            }
            Some(Ok(Progress::Discovered)) => (),
            Some(Err(why)) => warn!("issuer={name} {why}"),
            None => (),
        }
        self.handle_deadline(net);
    }

    /// A key that is not used is worth a line, and not one for each time the set is fetched.
    fn note_left_out(&mut self, issuer: usize) {
        let set = self.verifier.issuers().get(issuer).and_then(Issuer::keys);
        let keys = set.into_iter().flat_map(KeySet::left_out);
        let keys: Vec<String> = keys.map(|(name, why)| format!("{name:?}: {why}")).collect();
        let text = keys.join(", ");
        if self.left_out.get(&issuer).map(String::as_str).unwrap_or_default() != text {
            if !text.is_empty() {
                warn!("issuer={} keys that are not used: {text}", self.name(issuer));
            }
            self.left_out.insert(issuer, text);
        }
    }

    fn name(&self, issuer: usize) -> String {
        self.verifier.issuers().get(issuer).map(|it| it.name().to_owned()).unwrap_or_default()
    }

    /// When [`Self::handle_deadline`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let fetches = self.policies.iter().filter_map(KeyPolicy::deadline);
        fetches.chain(self.files_due).min()
    }
}

fn call(fetch: &Fetch, roots: Option<Arc<Vec<CertificateDer<'static>>>>) -> HttpCall {
    let mut headers = vec![("accept".to_owned(), Secret::new("application/json".to_owned()))];
    if let Fetch::Keys { etag: Some(etag), .. } = fetch {
        headers.push(("if-none-match".to_owned(), Secret::new(etag.clone())));
    }
    HttpCall {
        method: "GET",
        url: fetch.url().to_owned(),
        headers,
        body: Vec::new(),
        roots,
        limit: KEY_SET_BYTES,
        timeout: KEY_FETCH_TIMEOUT,
    }
}

fn clock(net: &dyn Net) -> Clock {
    Clock { now: net.now(), unix: net.unix_time() }
}

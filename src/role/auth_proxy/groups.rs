//! Groups that tokens leave out, from Microsoft Graph: asked for while a request waits, one
//! question for each caller however many of its requests do, and remembered for minutes.
//!
//! The proxy asks as an application of its own, with a token that it fetches when it first needs
//! one. Every address is the configuration's. What cannot be asked now is a 503 and never a caller
//! without groups: to lose groups quietly is for an operator to choose.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::warn;
use rustls::pki_types::CertificateDer;

use super::question::{Unasked, Waiting};
use crate::auth::overage::{read_groups, read_token};
use crate::auth::review::Memory;
use crate::auth::{Denied, GraphOf, Reason, Verifier};
use crate::limits::{
    ANSWER_BYTES, GROUPS_HELD, GROUPS_OPEN, GROUPS_RETRY, QUESTION_TIMEOUT, QUESTION_UNANSWERED,
    TOKEN_FILE_MAX,
};
use crate::role::{HttpAnswer, HttpCall, Job, JobId, Net, Outcome};
use crate::secret::Secret;

/// Roots to trust.
type Roots = Option<Arc<Vec<CertificateDer<'static>>>>;

/// Where the groups of one tenant's callers are asked for.
#[derive(Clone, Debug)]
pub struct Source {
    /// Whom, and as whom.
    pub graph: GraphOf,
    /// The file with the proxy's secret, or with the token that it shows instead.
    pub proof: PathBuf,
    /// The roots to trust where the proxy's own token comes from, instead of the system's.
    pub token_roots: Roots,
    /// The same for Microsoft Graph.
    pub graph_roots: Roots,
}

/// A caller whose groups are not all in its token.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Member {
    /// The issuer, as principals have it.
    pub(super) issuer: String,
    pub(super) oid: String,
    pub(super) is_app: bool,
}

/// What came of a question.
#[derive(Clone, Debug)]
pub(super) enum Found {
    /// These are its groups, as Kubernetes is to know them.
    Groups(Arc<Vec<String>>),
    /// It has some that cannot be carried, or is not known.
    No(Denied),
    /// There was no answer.
    Unanswered,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Groups {
    tenants: BTreeMap<String, Box<Tenant>>,
    memory: Memory<Found>,
    open: BTreeMap<Member, Open>,
    jobs: BTreeMap<JobId, Box<Asked>>,
    /// How often groups were found, were none that can be carried, or were not answered.
    pub(super) results: [u64; 3],
}

#[derive(Debug)]
struct Tenant {
    source: Source,
    access: Access,
    /// Microsoft Graph did not answer at all: nobody asks again before this.
    quiet_until: Option<Instant>,
}

/// The proxy's own token for Microsoft Graph.
#[derive(Debug)]
enum Access {
    None,
    /// It is being fetched.
    Fetching,
    /// It could not be had. Nobody asks again before this.
    Failed(Instant),
    /// It is good until then.
    Held(Secret<String>, Instant),
}

/// A question whose answer is awaited.
#[derive(Debug, Default)]
struct Open {
    waiting: BTreeSet<Waiting>,
    /// It is on its way; else it waits for the proxy's own token.
    is_asked: bool,
}

#[derive(Debug)]
enum Asked {
    /// The file with the proxy's secret, for this tenant.
    Proof(String),
    /// The proxy's own token, for this tenant.
    Token(String),
    Groups(Member),
}

impl Member {
    /// What tells it from every other caller: neither an issuer nor an object id has a line end.
    fn name(&self) -> Vec<u8> {
        format!("{}\n{}\n{}", self.issuer, self.oid, self.is_app).into_bytes()
    }
}

impl Groups {
    pub(super) fn new(sources: Vec<Source>) -> Self {
        let tenants = sources.into_iter().map(|source| {
            let issuer = source.graph.issuer.clone();
            (issuer, Box::new(Tenant { source, access: Access::None, quiet_until: None }))
        });
        Self {
            tenants: tenants.collect(),
            memory: Memory::new(&[0; 32]),
            open: BTreeMap::new(),
            jobs: BTreeMap::new(),
            results: [0; 3],
        }
    }

    /// Begins, with a memory that nobody can aim at.
    pub(super) fn start(&mut self, net: &mut dyn Net) {
        let mut secret = [0; 32];
        net.random(&mut secret);
        self.memory = Memory::new(&secret);
    }

    /// What is known about `member`, if it was asked for some minutes ago.
    pub(super) fn recall(&self, member: &Member, now: Instant) -> Option<Found> {
        self.memory.recall(&member.name(), now)
    }

    /// Asks for `waiting`.
    pub(super) fn ask(
        &mut self,
        member: Member,
        waiting: Waiting,
        net: &mut dyn Net,
    ) -> Result<(), Unasked> {
        let now = net.now();
        let tenant = self.tenants.get(&member.issuer).ok_or(Unasked)?;
        let is_down = matches!(tenant.access, Access::Failed(until) if now < until)
            || tenant.quiet_until.is_some_and(|until| now < until);
        let is_new = !self.open.contains_key(&member);
        if is_down || (is_new && GROUPS_OPEN <= self.open.len()) {
            return Err(Unasked);
        }
        let issuer = member.issuer.clone();
        self.open.entry(member).or_default().waiting.insert(waiting);
        // What was open before is either on its way or waits for a token that is.
        match self.advance(&issuer, net).contains(&waiting) {
            true => Err(Unasked),
            false => Ok(()),
        }
    }

    /// Submits what can be asked now, and says whose wait is over because nothing can.
    fn advance(&mut self, issuer: &str, net: &mut dyn Net) -> Vec<Waiting> {
        let now = net.now();
        let Some(tenant) = self.tenants.get_mut(issuer) else { return Vec::new() };
        let token = match &tenant.access {
            Access::Held(token, until) if now < *until => token.clone(),
            Access::Failed(until) if now < *until => return self.give_up(issuer, now),
            Access::Fetching => return Vec::new(),
            Access::None | Access::Failed(_) | Access::Held(..) => {
                let read = Job::Read { path: tenant.source.proof.clone(), limit: TOKEN_FILE_MAX };
                let Ok(job) = net.submit(read) else {
                    return self.failed(issuer, "the worker threads are busy", now);
                };
                tenant.access = Access::Fetching;
                self.jobs.insert(job, Box::new(Asked::Proof(issuer.to_owned())));
                return Vec::new();
            }
        };
        let mut over = Vec::new();
        let next = |open: &BTreeMap<Member, Open>| {
            let mut of_it = open.iter().filter(|(member, _)| member.issuer == issuer);
            of_it.find(|(_, open)| !open.is_asked).map(|(member, _)| member.clone())
        };
        while let Some(member) = next(&self.open) {
            let call = self.tenants.get(issuer).and_then(|it| it.source.question(&member, &token));
            match call.map(|call| net.submit(Job::Http(call))) {
                Some(Ok(job)) => {
                    if let Some(open) = self.open.get_mut(&member) {
                        open.is_asked = true;
                    }
                    self.jobs.insert(job, Box::new(Asked::Groups(member)));
                }
                Some(Err(_)) | None => over.extend(self.close(&member, Found::Unanswered, now)),
            }
        }
        over
    }

    /// Takes the outcome of a job, if it was one of these, and says whose requests can be decided
    /// now. Gives the outcome back if not.
    pub(super) fn handle_done(
        &mut self,
        job: JobId,
        outcome: Outcome,
        verifier: &Verifier,
        net: &mut dyn Net,
    ) -> Result<Vec<Waiting>, Outcome> {
        match (self.jobs.remove(&job).map(|it| *it), outcome) {
            (None, outcome) => Err(outcome),
            (Some(Asked::Proof(issuer)), Outcome::Read(proof)) => {
                Ok(self.on_proof(&issuer, proof, net))
            }
            (Some(Asked::Token(issuer)), Outcome::Http(answer)) => {
                Ok(self.on_token(&issuer, answer, net))
            }
            (Some(Asked::Groups(member)), Outcome::Http(answer)) => {
                Ok(self.on_groups(&member, answer, verifier, net.now()))
            }
            (Some(asked), outcome) => {
                unreachable!("another kind of outcome for {asked:?}: {outcome:?}")
            }
        }
    }

    fn on_proof(
        &mut self,
        issuer: &str,
        proof: Result<Secret<Vec<u8>>, String>,
        net: &mut dyn Net,
    ) -> Vec<Waiting> {
        let now = net.now();
        let Some(tenant) = self.tenants.get(issuer) else { return Vec::new() };
        let proof = proof.and_then(|bytes| {
            let text = String::from_utf8(bytes.expose().clone()).unwrap_or_default();
            match text.trim() {
                "" => Err("its file is empty or no text".to_owned()),
                text => Ok(Secret::new(text.to_owned())),
            }
        });
        let proof = match proof {
            Ok(proof) => proof,
            Err(why) => return self.failed(issuer, &why, now),
        };
        match net.submit(Job::Http(tenant.source.token_call(&proof))) {
            Ok(job) => {
                self.jobs.insert(job, Box::new(Asked::Token(issuer.to_owned())));
                Vec::new()
            }
            Err(_) => self.failed(issuer, "the worker threads are busy", now),
        }
    }

    fn on_token(
        &mut self,
        issuer: &str,
        answer: Result<HttpAnswer, String>,
        net: &mut dyn Net,
    ) -> Vec<Waiting> {
        // A refusal has a code of its own, which says more than the status.
        let read = answer.and_then(|answer| match (answer.status, read_token(&answer.body)) {
            (200, Ok(read)) => Ok(read),
            (status, Ok(_)) => Err(format!("status {status}")),
            (status, Err(why)) => Err(format!("status {status}, {why}")),
        });
        let now = net.now();
        match read {
            Ok((token, life)) => {
                // What is left of its life is for the clocks to differ, and for the question.
                let good = Duration::from_secs(life.min(DAY) / 5 * 4);
                if let Some(tenant) = self.tenants.get_mut(issuer) {
                    tenant.access = Access::Held(token, now + good.max(QUESTION_TIMEOUT));
                }
                self.advance(issuer, net)
            }
            Err(why) => self.failed(issuer, &why, now),
        }
    }

    fn on_groups(
        &mut self,
        member: &Member,
        answer: Result<HttpAnswer, String>,
        verifier: &Verifier,
        now: Instant,
    ) -> Vec<Waiting> {
        // Each further question would keep a worker thread as long as this one did, from those who
        // need it for something else.
        let is_silent = answer.is_err();
        let found = match answer {
            Ok(answer) if answer.status == 200 => match read_groups(&answer.body) {
                Ok(ids) => match verifier.group_names(&member.issuer, &ids) {
                    Ok(names) => Ok(Found::Groups(Arc::new(names))),
                    Err(denied) => Ok(Found::No(denied)),
                },
                Err(why) => Err(why.to_string()),
            },
            Ok(answer) if answer.status == 404 => {
                let detail = format!("Microsoft Graph does not know {}", member.oid);
                Ok(Found::No(Denied::new(Reason::Overage, detail)))
            }
            Ok(answer) => {
                let why = read_groups(&answer.body).err().map(|why| format!(", {why}"));
                if answer.status == 401
                    && let Some(tenant) = self.tenants.get_mut(&member.issuer)
                    && matches!(tenant.access, Access::Held(..))
                {
                    // Revoked or rotated: the next question comes with another.
                    tenant.access = Access::None;
                }
                Err(format!("status {}{}", answer.status, why.unwrap_or_default()))
            }
            Err(why) => Err(why),
        };
        match found {
            Ok(found) => self.close(member, found, now),
            Err(why) => {
                warn!("issuer={} Microsoft Graph does not give groups: {why}", member.issuer);
                if is_silent && let Some(tenant) = self.tenants.get_mut(&member.issuer) {
                    tenant.quiet_until = Some(now + GROUPS_RETRY);
                }
                self.close(member, Found::Unanswered, now)
            }
        }
    }

    /// The proxy's own token cannot be had, so nobody of this tenant can be asked for.
    fn failed(&mut self, issuer: &str, why: &str, now: Instant) -> Vec<Waiting> {
        warn!("issuer={issuer} no token of our own for Microsoft Graph: {why}");
        if let Some(tenant) = self.tenants.get_mut(issuer) {
            tenant.access = Access::Failed(now + GROUPS_RETRY);
        }
        self.give_up(issuer, now)
    }

    fn give_up(&mut self, issuer: &str, now: Instant) -> Vec<Waiting> {
        let open =
            self.open.iter().filter(|(member, open)| member.issuer == issuer && !open.is_asked);
        let members: Vec<Member> = open.map(|(member, _)| member.clone()).collect();
        members.iter().flat_map(|member| self.close(member, Found::Unanswered, now)).collect()
    }

    fn close(&mut self, member: &Member, found: Found, now: Instant) -> Vec<Waiting> {
        let [groups, no, unanswered] = &mut self.results;
        let (holds, count) = match &found {
            Found::Groups(_) => (GROUPS_HELD, groups),
            Found::No(_) => (GROUPS_RETRY, no),
            Found::Unanswered => (QUESTION_UNANSWERED, unanswered),
        };
        *count += 1;
        self.memory.keep(&member.name(), found, holds, now);
        let open = self.open.remove(member);
        open.map(|open| open.waiting.into_iter().collect()).unwrap_or_default()
    }
}

impl Source {
    fn token_call(&self, proof: &Secret<String>) -> HttpCall {
        let body = self.graph.graph.token_request(proof).expose().clone();
        let kind = "application/x-www-form-urlencoded";
        post(self.graph.token_url.clone(), kind, None, body, &self.token_roots)
    }

    fn question(&self, member: &Member, token: &Secret<String>) -> Option<HttpCall> {
        let request = self.graph.graph.membership(&member.oid, member.is_app)?;
        let kind = "application/json";
        Some(post(request.url, kind, Some(token), request.body, &self.graph_roots))
    }
}

fn post(
    url: String,
    kind: &str,
    token: Option<&Secret<String>>,
    body: Vec<u8>,
    roots: &Roots,
) -> HttpCall {
    let plain = |text: &str| Secret::new(text.to_owned());
    let mut headers = vec![
        ("content-type".to_owned(), plain(kind)),
        ("accept".to_owned(), plain("application/json")),
    ];
    if let Some(token) = token {
        let bearer = Secret::new(format!("Bearer {}", token.expose()));
        headers.push(("authorization".to_owned(), bearer));
    }
    let (limit, timeout) = (ANSWER_BYTES, QUESTION_TIMEOUT);
    HttpCall { method: "POST", url, headers, body, roots: roots.clone(), limit, timeout }
}

/// Seconds. No token is relied on for longer.
const DAY: u64 = 24 * 3600;

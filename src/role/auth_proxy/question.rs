//! Questions that somebody else answers while a request waits: whether a service account's token
//! is good, and whether a caller may act as whom it names. Verdicts are remembered for seconds,
//! so that a request is simply decided anew once its answers are there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::warn;
use rustls::pki_types::CertificateDer;

use crate::auth::Denied;
use crate::auth::review::{Memory, Reviewed, read_access_review, read_token_review};
use crate::limits::{ANSWER_BYTES, QUESTION_TIMEOUT, QUESTION_UNANSWERED, REVIEW_NO, REVIEW_YES};
use crate::role::{ConnId, HttpAnswer, HttpCall, Job, JobId, Net, Outcome};
use crate::secret::Secret;
use crate::wire::mux::StreamId;

/// Where the API server answers questions.
#[derive(Clone, Debug)]
pub struct Api {
    /// `https://host:port`, without a path.
    pub url: String,
    /// What its certificate must come from.
    pub roots: Arc<Vec<CertificateDer<'static>>>,
    /// The audiences that a service account's token must have one of; the API server's own when
    /// there is none.
    pub audiences: Vec<String>,
    /// Questions that may be open at a time.
    pub questions: usize,
}

/// Something to ask the API server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Question {
    /// A TokenReview.
    Token(Secret<Vec<u8>>),
    /// A SubjectAccessReview.
    Access(Secret<Vec<u8>>),
}

/// What came of it.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// The token is this account's.
    Account(Reviewed),
    /// It is allowed.
    Yes,
    /// It is not.
    No(Denied),
    /// There was no answer.
    Unanswered,
}

/// The stream whose request waits.
pub(super) type Waiting = (ConnId, StreamId);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Questions {
    api: Option<Api>,
    memory: Memory<Verdict>,
    open: BTreeMap<JobId, Box<Open>>,
    /// How often TokenReview said yes, no, nothing.
    pub(super) token_reviews: [u64; 3],
}

#[derive(Debug)]
struct Open {
    question: Question,
    waiting: BTreeSet<Waiting>,
}

/// No further question can be asked now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Unasked;

impl Question {
    /// What tells it from every other question.
    fn name(&self) -> Vec<u8> {
        [self.path().as_bytes(), b"\n", self.body()].concat()
    }

    const fn path(&self) -> &'static str {
        match self {
            Self::Token(_) => "/apis/authentication.k8s.io/v1/tokenreviews",
            Self::Access(_) => "/apis/authorization.k8s.io/v1/subjectaccessreviews",
        }
    }

    const fn body(&self) -> &Vec<u8> {
        match self {
            Self::Token(body) | Self::Access(body) => body.expose(),
        }
    }

    fn read(&self, answer: &[u8], audiences: &[String]) -> Verdict {
        let read = match self {
            Self::Token(_) => read_token_review(answer, audiences).map(Verdict::Account),
            Self::Access(_) => read_access_review(answer).map(|()| Verdict::Yes),
        };
        read.unwrap_or_else(Verdict::No)
    }
}

impl Questions {
    pub(super) fn new(api: Option<Api>) -> Self {
        let memory = Memory::new(&[0; 32]);
        Self { api, memory, open: BTreeMap::new(), token_reviews: [0; 3] }
    }

    /// Begins, with a memory that nobody can aim at.
    pub(super) fn start(&mut self, net: &mut dyn Net) {
        let mut secret = [0; 32];
        net.random(&mut secret);
        self.memory = Memory::new(&secret);
    }

    pub(super) fn audiences(&self) -> &[String] {
        self.api.as_ref().map_or(&[], |api| &api.audiences)
    }

    /// The verdict on `question`, if there was one a moment ago.
    pub(super) fn recall(&self, question: &Question, now: Instant) -> Option<Verdict> {
        self.memory.recall(&question.name(), now)
    }

    /// Asks for `waiting`, with the auth proxy's own token.
    pub(super) fn ask(
        &mut self,
        question: Question,
        waiting: Waiting,
        own: &Secret<String>,
        net: &mut dyn Net,
    ) -> Result<(), Unasked> {
        if let Some(open) = self.open.values_mut().find(|open| open.question == question) {
            open.waiting.insert(waiting);
            return Ok(());
        }
        let api = self.api.as_ref().filter(|api| self.open.len() < api.questions).ok_or(Unasked)?;
        let plain = |text: &str| Secret::new(text.to_owned());
        let call = HttpCall {
            method: "POST",
            url: format!("{}{}", api.url, question.path()),
            headers: vec![
                ("authorization".into(), Secret::new(format!("Bearer {}", own.expose()))),
                ("content-type".into(), plain("application/json")),
                ("accept".into(), plain("application/json")),
            ],
            body: question.body().clone(),
            roots: Some(Arc::clone(&api.roots)),
            limit: ANSWER_BYTES,
            timeout: QUESTION_TIMEOUT,
        };
        let job = net.submit(Job::Http(call)).map_err(|_| Unasked)?;
        self.open.insert(job, Box::new(Open { question, waiting: BTreeSet::from([waiting]) }));
        Ok(())
    }

    /// Takes the outcome of a job, if it was one of these, and says whose requests have all their
    /// answers now. Gives the outcome back if not.
    pub(super) fn handle_done(
        &mut self,
        job: JobId,
        outcome: Outcome,
        now: Instant,
    ) -> Result<Vec<Waiting>, Outcome> {
        let Some(open) = self.open.remove(&job) else { return Err(outcome) };
        let answer = match outcome {
            Outcome::Http(answer) => answer,
            other => unreachable!("another kind of outcome: {other:?}"),
        };
        let verdict = self.judge(&open.question, answer);
        if let Question::Token(_) = &open.question {
            let place = match &verdict {
                Verdict::Account(_) | Verdict::Yes => 0,
                Verdict::No(_) => 1,
                Verdict::Unanswered => 2,
            };
            if let Some(count) = self.token_reviews.get_mut(place) {
                *count += 1;
            }
        }
        let holds = holds(&verdict);
        self.memory.keep(&open.question.name(), verdict, holds, now);
        let elsewhere = |one: &Waiting| self.open.values().any(|other| other.waiting.contains(one));
        Ok(open.waiting.into_iter().filter(|one| !elsewhere(one)).collect())
    }

    fn judge(&self, question: &Question, answer: Result<HttpAnswer, String>) -> Verdict {
        let why = match answer {
            Ok(answer) if matches!(answer.status, 200 | 201) => {
                return question.read(&answer.body, self.audiences());
            }
            Ok(answer) => format!("status {}", answer.status),
            Err(why) => why,
        };
        warn!("the API server does not answer at {}: {why}", question.path());
        Verdict::Unanswered
    }
}

const fn holds(verdict: &Verdict) -> Duration {
    match verdict {
        Verdict::Account(_) | Verdict::Yes => REVIEW_YES,
        Verdict::No(_) => REVIEW_NO,
        Verdict::Unanswered => QUESTION_UNANSWERED,
    }
}

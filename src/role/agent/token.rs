//! Where the agent's Listen tokens come from: a shared key, or the relay in exchange for a proof
//! that the agent holds the key it was enrolled with.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use log::warn;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};

use crate::limits::{API_ANSWER_MAX, API_TIMEOUT};
use crate::role::shared_key::SharedKey;
use crate::role::{Fault, HttpAnswer, HttpCall, Job, JobId, Net, Notice, Outcome, WriteFile};
use crate::secret::Secret;

/// Where tokens come from.
#[derive(Debug)]
pub enum Source {
    /// An authorization rule, as in a connection string.
    Key(SharedKey),
    /// The connected-clusters API of our own relay.
    Enrolment(Box<Enrolment>),
}

/// What the agent needs to enrol, and to prove later who it is.
#[derive(Debug)]
pub struct Enrolment {
    /// `https://host[:port]` of the relay.
    pub api: String,
    /// Roots to trust instead of the system's.
    pub roots: Option<Arc<Vec<CertificateDer<'static>>>>,
    /// `/subscriptions/.../connectedClusters/{name}`.
    pub resource: String,
    /// The cluster's id, 64 hex digits.
    pub cluster: String,
    /// The agent's own key.
    pub key: AgentKey,
    /// Needed once.
    pub join_token: Option<Secret<String>>,
    /// The certificate of the auth proxy's authority, in DER.
    pub certificate: Vec<u8>,
    /// Audiences of tokens that the auth proxy takes; the relay must not take them.
    pub audiences: Vec<String>,
    /// Where it is noted that the agent is enrolled.
    pub state: PathBuf,
}

/// A P-256 key: its public half, and the ability to sign.
pub struct AgentKey {
    /// The uncompressed point, 65 bytes.
    pub public: Vec<u8>,
    /// Signs with ECDSA and SHA-256, in ASN.1. `None` when that does not work.
    pub sign: Sign,
}

/// Signs bytes.
pub type Sign = Box<dyn Fn(&[u8]) -> Option<Vec<u8>>>;

/// Leave to listen.
#[derive(Clone, Debug)]
pub(super) struct ListenToken {
    /// `host[:port]`.
    pub(super) relay: String,
    pub(super) entity: String,
    pub(super) token: Secret<String>,
    /// Seconds since 1970.
    pub(super) expires: u64,
}

/// How far the way to a token is.
#[derive(Debug)]
pub(super) enum Progress {
    /// A job is at work.
    Pending,
    /// Here it is.
    Ready(ListenToken),
    /// It did not work this time.
    Failed(String),
    /// It will never work: the sentence says what to do.
    Hopeless(Fault),
}

/// Gets tokens, one at a time.
#[derive(Debug)]
pub(super) struct Tokens {
    source: Source,
    stage: Stage,
    is_enrolled: bool,
    /// Once in a process is enough: the answer would be the same.
    enrols_again: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Idle,
    /// Reads the note that the agent is enrolled, or its connection string.
    Reading(JobId),
    Enrolling(JobId),
    /// Waits for the challenge.
    Asking(JobId),
    /// Waits for the token.
    Proving(JobId),
}

impl Tokens {
    pub(super) const fn new(source: Source) -> Self {
        Self { source, stage: Stage::Idle, is_enrolled: false, enrols_again: false }
    }

    /// Asks for a token.
    pub(super) fn request(&mut self, net: &mut dyn Net) -> Progress {
        match &self.source {
            Source::Key(_) if self.stage != Stage::Idle => Progress::Pending,
            Source::Key(key) => match key.look() {
                Some(job) => self.stage_of(job, Stage::Reading, net),
                None => Progress::Ready(ListenToken::mint(key, net.unix_time())),
            },
            Source::Enrolment(_) if self.stage != Stage::Idle => Progress::Pending,
            Source::Enrolment(enrolment) if self.is_enrolled => {
                self.stage_of(enrolment.challenge(), Stage::Asking, net)
            }
            Source::Enrolment(enrolment) => {
                let job = Job::Read { path: enrolment.state.clone(), limit: API_ANSWER_MAX };
                self.stage_of(job, Stage::Reading, net)
            }
        }
    }

    /// A job has ended; `None` when it was not ours.
    pub(super) fn handle_done(
        &mut self,
        job: JobId,
        outcome: Outcome,
        net: &mut dyn Net,
    ) -> Option<Progress> {
        let stage = self.stage;
        let (Stage::Reading(ours)
        | Stage::Enrolling(ours)
        | Stage::Asking(ours)
        | Stage::Proving(ours)) = stage
        else {
            return None;
        };
        if ours != job {
            return None;
        }
        self.stage = Stage::Idle;
        let enrolment = match &mut self.source {
            Source::Enrolment(enrolment) => enrolment,
            Source::Key(key) => {
                if let Err(why) = key.take(outcome) {
                    warn!("the connection string is used as it was read last: {why}");
                }
                return Some(Progress::Ready(ListenToken::mint(key, net.unix_time())));
            }
        };
        Some(match (stage, outcome) {
            (Stage::Reading(_), Outcome::Read(Ok(note))) if enrolment.is_note(note.expose()) => {
                self.is_enrolled = true;
                self.request(net)
            }
            (Stage::Reading(_), _) => self.enrol(net),
            (Stage::Enrolling(_), outcome) => self.on_enrolled(answer(outcome), net),
            (Stage::Asking(_), outcome) => self.on_challenge(answer(outcome), net),
            (Stage::Proving(_) | Stage::Idle, outcome) => match answer(outcome) {
                Ok(answer) => listen_token(&answer).map_or_else(malformed, Progress::Ready),
                Err(refusal) => self.on_stranger(refusal, net),
            },
        })
    }

    fn enrol(&mut self, net: &mut dyn Net) -> Progress {
        let Source::Enrolment(enrolment) = &self.source else { return Progress::Pending };
        let Some(token) = &enrolment.join_token else {
            let place = enrolment.state.display();
            return Progress::Hopeless(Fault {
                code: "NOT_ENROLLED",
                message: format!("not enrolled: there is no {place}, and no join token was given"),
            });
        };
        let job = enrolment.call(
            "enroll",
            &json!({
                "joinToken": token.expose(),
                "agentPublicKey": STANDARD.encode(&enrolment.key.public),
                "agentPublicKeyCertificate": STANDARD.encode(&enrolment.certificate),
                "audiences": enrolment.audiences,
            }),
        );
        self.stage_of(job, Stage::Enrolling, net)
    }

    fn on_enrolled(&mut self, answer: Answered, net: &mut dyn Net) -> Progress {
        let Source::Enrolment(enrolment) = &self.source else { return Progress::Pending };
        match answer {
            Ok(_) => {
                let note = json!({ "resourceId": enrolment.resource, "relay": enrolment.api });
                let file = WriteFile {
                    path: enrolment.state.clone(),
                    bytes: Secret::new(note.to_string().into_bytes()),
                    mode: 0o600,
                };
                // Without the note the agent enrols again, with the same key, and that succeeds.
                if net.submit(Job::Write(file)).is_err() {
                    net.tell(Notice::Say("cannot note that the agent is enrolled".to_owned()));
                }
                self.is_enrolled = true;
                self.request(net)
            }
            Err((Some(status @ (400..=407 | 409..=428)), why)) => Progress::Hopeless(Fault {
                code: if status == 400 && why.contains("audience") {
                    "AUDIENCE_CONFLICT"
                } else {
                    "JOIN_TOKEN_REFUSED"
                },
                message: format!("the relay refuses to enrol this agent: {why}"),
            }),
            Err((_, why)) => Progress::Failed(why),
        }
    }

    fn on_challenge(&mut self, answer: Answered, net: &mut dyn Net) -> Progress {
        let Source::Enrolment(enrolment) = &self.source else { return Progress::Pending };
        let answer = match answer {
            Ok(answer) => answer,
            Err(refusal) => return self.on_stranger(refusal, net),
        };
        let Some(challenge) = answer.get("challenge").and_then(Value::as_str) else {
            return malformed();
        };
        let text = format!("cluster-connect listen v1\n{}\n{challenge}", enrolment.cluster);
        let Some(signature) = (enrolment.key.sign)(text.as_bytes()) else {
            return Progress::Failed("the agent's key does not sign".to_owned());
        };
        let proof = json!({ "challenge": challenge, "signature": STANDARD.encode(signature) });
        self.stage_of(enrolment.call("listenToken", &proof), Stage::Proving, net)
    }

    /// The relay does not know an agent that was enrolled, or that has the keys of one: the join
    /// token may still be good, and enrolling with the same key twice does no harm.
    fn on_stranger(&mut self, refusal: (Option<u16>, String), net: &mut dyn Net) -> Progress {
        let (status, why) = refusal;
        let Source::Enrolment(enrolment) = &self.source else { return Progress::Failed(why) };
        let unknown = matches!(status, Some(401 | 403 | 404));
        if unknown && enrolment.join_token.is_some() && !self.enrols_again {
            self.enrols_again = true;
            self.is_enrolled = false;
            return self.enrol(net);
        }
        Progress::Failed(why)
    }

    fn stage_of(&mut self, job: Job, stage: fn(JobId) -> Stage, net: &mut dyn Net) -> Progress {
        match net.submit(job) {
            Ok(id) => {
                self.stage = stage(id);
                Progress::Pending
            }
            Err(_) => Progress::Failed("too much to do at once".to_owned()),
        }
    }
}

impl ListenToken {
    fn mint(key: &SharedKey, unix_now: u64) -> Self {
        let (token, expires) = key.mint(unix_now);
        Self { relay: key.relay.clone(), entity: key.entity.clone(), token, expires }
    }
}

impl Enrolment {
    fn call(&self, action: &str, body: &Value) -> Job {
        Job::Http(HttpCall {
            method: "POST",
            url: format!("{}{}/{action}?api-version=2021-10-01", self.api, self.resource),
            headers: vec![("Content-Type".to_owned(), Secret::new("application/json".to_owned()))],
            body: body.to_string().into_bytes(),
            roots: self.roots.clone(),
            limit: API_ANSWER_MAX,
            timeout: API_TIMEOUT,
        })
    }

    fn challenge(&self) -> Job {
        self.call("listenChallenge", &json!({}))
    }

    /// The note is about this cluster at this relay.
    fn is_note(&self, note: &[u8]) -> bool {
        let Ok(note) = serde_json::from_slice::<Value>(note) else { return false };
        note.get("resourceId").and_then(Value::as_str) == Some(&self.resource)
            && note.get("relay").and_then(Value::as_str) == Some(&self.api)
    }
}

impl fmt::Debug for AgentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AgentKey(***)")
    }
}

/// The body of a good answer, or the status and the message of another.
type Answered = Result<Value, (Option<u16>, String)>;

fn answer(outcome: Outcome) -> Answered {
    let answer = match outcome {
        Outcome::Http(Ok(answer)) => answer,
        Outcome::Http(Err(why)) if why.contains("certificate") => {
            let what = format!("RELAY_UNTRUSTED: {why}; --relay-ca names the authority to trust");
            return Err((None, what));
        }
        Outcome::Http(Err(why)) => return Err((None, why)),
        Outcome::Read(_) | Outcome::Written(_) | Outcome::Exec(_) | Outcome::Noted(_) => {
            return Err((None, "an answer to another question".to_owned()));
        }
    };
    let HttpAnswer { status, body, .. } = answer;
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    if (200..300).contains(&status) {
        return Ok(body);
    }
    let message = body.pointer("/error/message").and_then(Value::as_str).unwrap_or_default();
    let message: String = message.chars().filter(|c| !c.is_control()).take(300).collect();
    Err((Some(status), format!("{status} {message}")))
}

fn listen_token(answer: &Value) -> Option<ListenToken> {
    let config = answer.get("hybridConnectionConfig")?;
    let text = |name: &str| config.get(name).and_then(Value::as_str).map(str::to_owned);
    let mut relay = text("relay")?;
    // A bare name is a namespace of Azure.
    if !relay.contains(['.', ':']) && relay != "localhost" {
        relay.push_str(".servicebus.windows.net");
    }
    Some(ListenToken {
        relay,
        entity: text("hybridConnectionName")?,
        token: Secret::new(text("token")?),
        expires: config.get("expirationTime")?.as_u64()?,
    })
}

fn malformed() -> Progress {
    Progress::Failed("the relay's answer cannot be read".to_owned())
}

//! The connected-clusters API: from a request and the registry to an answer, without a socket, a
//! clock or a file. The order of what the caller does with an [`Answer`] matters: write the audit
//! entries, make the changes durable, apply them, carry out the effects, send the reply.

mod answer;
mod challenge;
mod clusters;
mod credential;
mod edge;
mod fault;
mod grants;
mod limit;
mod namespaces;
mod network;
mod page;
mod roles;
mod route;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ring::hmac;

pub use answer::{Answer, Effect, Reply};
pub use challenge::signed_text;
pub use fault::Fault;
pub use limit::{Guess, Guesses};

use self::challenge::Challenges;
use self::route::{Action, Lost, Route, Version};
use super::audit::{Entry, Who};
use super::directory::Principal;
use super::registry::{self, Change, Cluster, Presence, Random, Registry};
use crate::limits::{API_BODY_MAX, CLAIM_MAX};
use crate::secret::Secret;
use crate::wire::json::{self, Object};
use crate::wire::resource::ResourceId;

/// What the operator has settled.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `host[:port]` for answers, instead of the `Host` of the request.
    pub public_name: Option<String>,
    /// Callers come by TLS, here or to something in front.
    pub secure: bool,
    /// The audiences of tokens for the relay.
    pub audiences: Vec<String>,
    /// Whose tokens the relay takes.
    pub issuers: Vec<Issuer>,
    /// Life of a Send token.
    pub send_token_life: Duration,
}

/// An issuer, as far as grants are concerned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Issuer {
    /// Its `iss`.
    pub issuer: String,
    /// For Entra ID: the tenant, with which its subjects begin.
    pub tenant: Option<String>,
    /// The name of a user is the subject: a grant by name needs no look-up.
    pub name_is_subject: bool,
}

/// A request.
#[derive(Clone)]
pub struct Call<'a> {
    /// `GET`, `PUT`, ...
    pub method: &'a str,
    /// As received, without the query.
    pub path: &'a str,
    /// As received, without the `?`; empty if there is none.
    pub query: &'a str,
    /// The `Host` field.
    pub host: &'a str,
    /// All of it.
    pub body: &'a [u8],
    /// From where; `None` for a Unix socket.
    pub peer: Option<IpAddr>,
    /// Who asks.
    pub caller: &'a Caller,
}

/// The body may hold a join token.
impl fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut call = f.debug_struct("Call");
        call.field("method", &self.method).field("path", &self.path).finish_non_exhaustive()
    }
}

/// Who asks, as the bearer token says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Caller {
    /// There is no token.
    Nobody,
    /// The token is no good.
    Denied {
        /// 401, 403 or 503.
        status: u16,
        /// For the audit log, from a closed set.
        reason: &'static str,
        /// What the caller may read.
        message: String,
    },
    /// The admin token.
    Operator,
    /// A token for the relay.
    User(User),
}

/// A principal, as its token describes it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct User {
    /// `iss`
    pub issuer: String,
    /// What the issuer gives to nobody else.
    pub subject: String,
    /// The name that grants use.
    pub user: String,
    /// Exactly as in the token.
    pub groups: Vec<String>,
    /// For people.
    pub display: String,
}

/// What surrounds a request: the state, the time, chance.
pub struct Turn<'a, 'r> {
    /// What is known and durable.
    pub registry: &'a Registry,
    /// How many listeners there are now on the hybrid connection with this name, in lower case.
    pub listeners: &'a dyn Fn(&str) -> usize,
    /// For waiting times.
    pub now: Instant,
    /// For expiry.
    pub unix_now: u64,
    /// Fills a slice.
    pub random: &'a mut Random<'r>,
}

impl Turn<'_, '_> {
    fn presence(&self, cluster: &Cluster) -> Presence {
        Presence::of(cluster, (self.listeners)(&cluster.entity()) > 0)
    }
}

impl fmt::Debug for Turn<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("unix_now", &self.unix_now).finish_non_exhaustive()
    }
}

/// The API: its settings, and the little it remembers between requests.
#[derive(Debug)]
pub struct Api {
    settings: Settings,
    admin_token: Secret<String>,
    challenges: Challenges,
    guesses: Guesses,
}

/// The oldest version of the connected-clusters API that is spoken.
const VERSION: &str = "2021-10-01";

/// The oldest version of Azure Relay's API that is spoken.
const RELAY_VERSION: &str = "2016-07-01";

/// The oldest version of the API of role assignments that is spoken.
const ROLES_VERSION: &str = "2015-07-01";

/// Levels of nesting in a body.
const DEPTH: usize = 8;

impl Api {
    /// `seed` is 256 random bits, the same on all loops and nodes of a relay.
    pub fn new(settings: Settings, admin_token: Secret<String>, seed: &[u8; 32]) -> Self {
        let (challenges, guesses) = (Challenges::new(seed), Guesses::default());
        Self { settings, admin_token, challenges, guesses }
    }

    /// Whether `bearer` is the admin token, compared in constant time.
    pub fn is_operator(&self, bearer: &str) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"compare");
        let expected = hmac::sign(&key, self.admin_token.expose().as_bytes());
        !self.admin_token.expose().is_empty()
            && hmac::verify(&key, bearer.as_bytes(), expected.as_ref()).is_ok()
    }

    /// Answers one request.
    pub fn answer(&mut self, call: &Call<'_>, turn: &mut Turn<'_, '_>) -> Answer {
        let route = match route::parse(call.path) {
            Ok(route) => route,
            Err(lost) => return Answer::from(Fault::from(lost).into_reply()),
        };
        let (event, resource) = describe(call.method, &route);
        let mut answer = match self.judge(call, &route, turn) {
            Ok(answer) => answer,
            Err(fault) => match self.hurries(&fault, call, turn.now) {
                Some(wait) => Fault::too_many(wait).into_reply().into(),
                None => refused(&fault, event, call, resource),
            },
        };
        answer.changes.extend(note_principal(call.caller, turn));
        answer
    }

    fn judge(
        &mut self,
        call: &Call<'_>,
        route: &Route,
        turn: &mut Turn<'_, '_>,
    ) -> Result<Answer, Fault> {
        let oldest = match route {
            Route::Operations | Route::Clusters { .. } | Route::Cluster(_) | Route::Action(..) => {
                VERSION
            }
            Route::Roles(..) => ROLES_VERSION,
            Route::Relay(_)
            | Route::Namespaces { .. }
            | Route::NameAvailable
            | Route::RelayOperations => RELAY_VERSION,
        };
        route::check_version(call.query, oldest)?;
        if call.body.len() > API_BODY_MAX {
            return Err(Fault::new(413, "RequestTooLarge", "the body is too large"));
        }
        self.check_caller(call, route, turn.now)?;
        match route {
            Route::Operations => {
                allow(call, &["GET"])?;
                Ok(clusters::operations())
            }
            Route::Clusters { subscription, group } => {
                allow(call, &["GET"])?;
                clusters::list(self, call, subscription, group.as_deref(), turn)
            }
            Route::Cluster(resource) => match allow(call, &["GET", "PUT", "PATCH", "DELETE"])? {
                "GET" => clusters::get(call.caller, resource, turn),
                "PUT" => clusters::put(call, resource, turn),
                "PATCH" => clusters::patch(call, resource, turn),
                _ => clusters::delete(call, resource, turn),
            },
            Route::Action(resource, action) => {
                allow(call, if *action == Action::RoleAssignments { &["GET"] } else { &["POST"] })?;
                self.act(call, resource, *action, turn)
            }
            Route::Relay(namespace) => namespaces::answer(self, call, namespace, turn),
            Route::Namespaces { prefix } => namespaces::list(self, call, prefix, turn),
            Route::NameAvailable => namespaces::name_available(call),
            Route::RelayOperations => {
                allow(call, &["GET"])?;
                Ok(namespaces::operations())
            }
            Route::Roles(scope, item) => roles::answer(self, call, scope, item, turn),
        }
    }

    fn act(
        &mut self,
        call: &Call<'_>,
        resource: &ResourceId,
        action: Action,
        turn: &mut Turn<'_, '_>,
    ) -> Result<Answer, Fault> {
        match action {
            Action::CreateJoinToken => edge::create_join_token(call, resource, turn),
            Action::Enroll => self.enroll(call, resource, turn),
            Action::ListenChallenge => {
                let challenge =
                    self.challenges.make(&resource.cluster_id(), turn.unix_now, turn.random);
                Ok(Reply::json(200, &serde_json::json!({ "challenge": challenge })).into())
            }
            Action::ListenToken => self.listen_token(call, resource, turn),
            Action::Grant => self.grant(call, resource, turn),
            Action::Revoke => self.revoke(call, resource, turn),
            Action::RoleAssignments => grants::list(call, resource, turn),
            Action::Credential => self.credential(call, resource, turn),
        }
    }

    /// Who may ask at all. An agent shows a join token or its key instead of a bearer token.
    fn check_caller(&mut self, call: &Call<'_>, route: &Route, now: Instant) -> Result<(), Fault> {
        let of_agent = matches!(
            route,
            Route::Action(_, Action::Enroll | Action::ListenChallenge | Action::ListenToken)
        );
        match call.caller {
            _ if of_agent => Ok(()),
            Caller::Operator | Caller::User(_) => Ok(()),
            Caller::Denied { status: 503, message, .. } => {
                Err(Fault::new(503, "ServiceUnavailable", message))
            }
            Caller::Denied { status, message, .. } => {
                self.wrong_bearer(call.peer, now)?;
                match status {
                    403 => Err(Fault::new(403, "AuthorizationFailed", message)),
                    _ => Err(Fault::unauthenticated(message)),
                }
            }
            Caller::Nobody => {
                self.wrong_bearer(call.peer, now)?;
                Err(Fault::unauthenticated("a bearer token is required"))
            }
        }
    }

    /// Each refusal of somebody with a good token is a line of the audit log, so they have only so
    /// many, as guesses have. What they may do is never held back.
    fn hurries(&mut self, fault: &Fault, call: &Call<'_>, now: Instant) -> Option<Duration> {
        if fault.status != 403 || !matches!(call.caller, Caller::User(_)) {
            return None;
        }
        let wait = self.guesses.wait(Guess::Right, call.peer, now);
        self.guesses.note(Guess::Right, call.peer, now);
        wait
    }

    fn wrong_bearer(&mut self, peer: Option<IpAddr>, now: Instant) -> Result<(), Fault> {
        self.guess(Guess::Bearer, peer, now)?;
        self.guesses.note(Guess::Bearer, peer, now);
        Ok(())
    }

    fn guess(&self, guess: Guess, peer: Option<IpAddr>, now: Instant) -> Result<(), Fault> {
        self.guesses.wait(guess, peer, now).map_or(Ok(()), |wait| Err(Fault::too_many(wait)))
    }

    /// `host[:port]` for answers.
    fn relay_name(&self, host: &str) -> Result<String, Fault> {
        if let Some(name) = &self.settings.public_name {
            return Ok(name.clone());
        }
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte);
        if host.is_empty() || host.len() > 255 || !host.bytes().all(letter) {
            return Err(Fault::bad_request("InvalidHost", "the request has no usable Host"));
        }
        Ok(host.to_ascii_lowercase())
    }
}

/// The caller is the operator.
fn operator(call: &Call<'_>) -> Result<(), Fault> {
    match call.caller {
        Caller::Operator => Ok(()),
        Caller::Nobody | Caller::Denied { .. } => {
            Err(Fault::unauthenticated("a bearer token is required"))
        }
        Caller::User(user) => Err(Fault::forbidden(user, "the operator alone may do this")),
    }
}

fn allow<'m>(call: &Call<'_>, methods: &[&'m str]) -> Result<&'m str, Fault> {
    let found = methods.iter().find(|method| **method == call.method);
    found.copied().ok_or_else(|| Fault::method_not_allowed(methods))
}

/// The body as a JSON object; no body is an empty one.
fn body(call: &Call<'_>) -> Result<Object, Fault> {
    match call.body.is_empty() {
        true => Ok(Object::default()),
        false => Ok(json::parse_object(call.body, DEPTH)?),
    }
}

fn known<'a>(turn: &Turn<'a, '_>, resource: &ResourceId) -> Result<&'a Cluster, Fault> {
    let cluster = turn.registry.cluster(&resource.cluster_id());
    cluster.ok_or_else(|| Fault::no_cluster(resource))
}

fn plan(request: registry::Request, turn: &mut Turn<'_, '_>) -> Result<Vec<Change>, Fault> {
    Ok(turn.registry.plan(request, turn.unix_now, turn.random)?)
}

/// Who asks, for people: in `createdBy`, in a role assignment.
fn name_of(caller: &Caller) -> String {
    match caller {
        Caller::Nobody | Caller::Denied { .. } => "agent".to_owned(),
        Caller::Operator => "operator".to_owned(),
        Caller::User(user) => user.user.clone(),
    }
}

fn who(caller: &Caller) -> Who {
    match caller {
        Caller::Nobody | Caller::Denied { .. } => Who::Nobody,
        Caller::Operator => Who::Operator,
        Caller::User(user) => Who::User {
            issuer: user.issuer.clone(),
            subject: user.subject.clone(),
            name: user.user.clone(),
        },
    }
}

/// An audit entry for something that was done.
fn done(
    event: &'static str,
    call: &Call<'_>,
    resource: &ResourceId,
    detail: Vec<(&'static str, String)>,
) -> Entry {
    let (who, peer) = (who(call.caller), call.peer);
    Entry { event, refused: None, who, peer, resource: resource.id(), detail }
}

/// Refusals are written down where somebody wanted what is not theirs. What only hurries (429) is
/// not: its lines would be without bound.
fn refused(fault: &Fault, event: &'static str, call: &Call<'_>, resource: String) -> Answer {
    let mut answer = Answer::from(fault.clone().into_reply());
    if matches!(fault.status, 401 | 403 | 409) {
        let mut detail = vec![("message", fault.message.clone())];
        if let Caller::Denied { reason, .. } = call.caller {
            detail.push(("reason", (*reason).to_owned()));
        }
        let (refused, who, peer) = (Some(fault.code), who(call.caller), call.peer);
        answer.audit.push(Entry { event, refused, who, peer, resource, detail });
    }
    answer
}

fn describe(method: &str, route: &Route) -> (&'static str, String) {
    match route {
        Route::Operations => ("operations", String::new()),
        Route::Clusters { subscription, .. } => ("list", format!("/subscriptions/{subscription}")),
        Route::Cluster(resource) => {
            let event = match method {
                "GET" => "get",
                "PUT" => "put",
                "PATCH" => "patch",
                "DELETE" => "delete",
                _ => "other",
            };
            (event, resource.id())
        }
        Route::Action(resource, action) => (action.word(), resource.id()),
        Route::Relay(namespace) => ("relay", namespace.prefix.clone()),
        Route::Namespaces { prefix } => ("relay", prefix.clone()),
        Route::NameAvailable | Route::RelayOperations => ("relay", String::new()),
        Route::Roles(scope, _) => ("roles", scope.text.clone()),
    }
}

/// Whoever shows a valid token is remembered, so that a grant by name finds them. What an issuer
/// puts there is bounded: an entry may not fill the disk.
fn note_principal(caller: &Caller, turn: &mut Turn<'_, '_>) -> Vec<Change> {
    let Caller::User(user) = caller else { return Vec::new() };
    let texts = [&user.issuer, &user.subject, &user.user, &user.display];
    if texts.iter().any(|text| text.len() > CLAIM_MAX) {
        return Vec::new();
    }
    let seen = Principal {
        issuer: user.issuer.clone(),
        subject: user.subject.clone(),
        user: user.user.clone(),
        display: user.display.clone(),
        seen_at: turn.unix_now,
    };
    let request = registry::Request::SawPrincipal(seen);
    turn.registry.plan(request, turn.unix_now, turn.random).unwrap_or_default()
}

impl From<Lost> for Fault {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Path => Self::bad_request("InvalidPath", "the path has letters that none has"),
            Lost::Unknown => Self::new(404, "NotFound", "there is nothing at this path"),
            Lost::Name(why) => Self::bad_request("InvalidResourceName", &why.to_string()),
        }
    }
}

impl From<Version> for Fault {
    fn from(version: Version) -> Self {
        match version {
            Version::Missing => Self::bad_request(
                "MissingApiVersionParameter",
                "the api-version query parameter (?api-version=) is required for all requests",
            ),
            Version::Unknown => Self::bad_request(
                "InvalidApiVersionParameter",
                "the api-version is a date, 2021-10-01 or later",
            ),
        }
    }
}

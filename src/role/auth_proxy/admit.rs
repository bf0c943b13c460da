//! The decision about one request. Everything here happens before a byte goes upstream: policy,
//! credential, issuer, the issuer's impersonation policy, signature, claims, names, limits, and
//! only then the new head. Where the API server has to be asked first, the answer is a list of
//! questions, and the request is decided anew when they are answered.

use log::error;

use super::AuthProxy;
use super::fault::{Fault, NO_CREDENTIAL, NO_GROUPS, Refusal, UNANSWERED};
use super::groups::{Found, Member};
use super::head::Identity;
use super::question::{Question, Verdict};
use super::request::Undecided;
use crate::auth::impersonate::{self, Road};
use crate::auth::pop::Asked;
use crate::auth::review::{Impersonation, Reviewed, access_reviews, token_review};
use crate::auth::{Authenticator, Denied, GroupState, Issuer, Principal, Reason, Unverified};
use crate::limits::CLOCK_LEEWAY;
use crate::role::{ConnId, Net, Peer};
use crate::secret::Secret;
use crate::wire::h1::policy::{self, Refusal as Rule};
use crate::wire::h1::{Fields, RequestHead};
use crate::wire::kube::RequestInfo;

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Decision {
    /// It goes on, with this head.
    Forward(Box<Admitted>, Box<RequestHead>),
    /// It is answered here.
    Refuse(Refusal),
    /// It waits.
    Ask(Wanted),
}

/// What a request waits for.
#[derive(Debug)]
pub(super) enum Wanted {
    /// The API server's answers to these questions.
    Answers(Vec<Question>),
    /// The groups of its caller.
    Groups(Member),
    /// The keys of the issuer of this index, which are being fetched or read.
    Keys(usize),
}

/// Facts about a request that goes on.
#[derive(Debug)]
pub(super) struct Admitted {
    /// Ties our audit log to the API server's.
    pub(super) audit_id: String,
    pub(super) info: RequestInfo,
    pub(super) target: String,
    pub(super) user_agent: String,
    pub(super) principal: Principal,
    /// Whom it acts as, if its caller asked for that and may.
    pub(super) acts_as: Option<Impersonated>,
    /// It goes over a connection without any credential of ours.
    pub(super) anonymous: bool,
    pub(super) peer: Peer,
    /// When it came, in microseconds since 1970.
    pub(super) received: u64,
    /// When its credential counts no more, in unix seconds.
    pub(super) ends: u64,
}

/// Whom a caller acts as.
#[derive(Clone, Debug)]
pub(super) struct Impersonated {
    pub(super) user: String,
    pub(super) groups: Vec<String>,
}

/// A credential that was accepted.
struct Accepted {
    principal: Principal,
    is_account: bool,
    /// When it counts no more, in unix seconds.
    ends: u64,
}

/// The index of an issuer, and what a credential of its is worth, of a closed set of words.
type Judged = (usize, &'static str);

/// The identity that goes on.
struct Identified<'a> {
    road: Road,
    fields: Vec<impersonate::Field<'a>>,
    acts_as: Option<Impersonated>,
}

impl AuthProxy {
    /// Decides about a request. One that may wait for keys does so if there are none yet or its token
    /// names one that may be among those that are being fetched.
    pub(super) fn admit(
        &mut self,
        conn: ConnId,
        request: &mut Undecided,
        net: &mut dyn Net,
    ) -> Decision {
        let mut judged = None;
        let fault = match self.decide(conn, &request.head, &request.audit_id, &mut judged, net) {
            Ok((admitted, outgoing)) => {
                self.count(request, judged);
                return Decision::Forward(Box::new(admitted), Box::new(outgoing));
            }
            Err(fault) => fault,
        };
        if let Fault::Denied(denied) = &fault {
            let fetching = self.keys.on_denied(denied, net);
            if let Some(issuer) = fetching.filter(|_| request.may_wait) {
                return Decision::Ask(Wanted::Keys(issuer));
            }
        }
        self.count(request, judged);
        match fault {
            Fault::Ask(wanted) => Decision::Ask(wanted),
            fault => Decision::Refuse(self.refuse(conn, fault, &request.audit_id, net)),
        }
    }

    /// A credential counts once, however often its request is decided.
    fn count(&mut self, request: &mut Undecided, judged: Option<Judged>) {
        let Some((issuer, result)) = judged else { return };
        if !std::mem::replace(&mut request.is_counted, true)
            && let Some(issuer) = self.keys.verifier().issuers().get(issuer)
        {
            self.metrics.on_judged(issuer.name(), result);
        }
    }

    fn decide(
        &mut self,
        conn: ConnId,
        head: &RequestHead,
        audit_id: &str,
        judged: &mut Option<Judged>,
        net: &mut dyn Net,
    ) -> Result<(Admitted, RequestHead), Fault> {
        policy::admit(head).map_err(Fault::Rule)?;
        if self.config.deny_browser_origins && head.fields.first("origin").is_some() {
            let text = "requests of browsers are refused";
            return Err(Fault::Own(403, "browser_origin", text));
        }
        let token = policy::credential(&head.fields, true).map_err(Fault::Rule)?;
        let Some(session) = self.sessions.get_mut(&conn) else {
            return Err(Fault::Own(503, "session", "the session has ended"));
        };
        let peer = session.peer;
        if !session.throttle.admits(net.now()) {
            let text = "too many credentials on this session, try again later";
            return Err(Fault::Own(429, "throttled", text));
        }
        let mut accepted = self.authenticate(head, &token, judged, net)?;
        let groups = self.groups_left_out(&accepted.principal, net);
        if let Some(groups) = groups.map_err(|fault| fault.of(&accepted.principal))? {
            accepted.principal.groups = groups;
            accepted.principal.group_state = GroupState::Complete;
        }
        for (key, _) in &mut accepted.principal.extra {
            *key = self.config.verbs.key(key).into_owned();
        }
        let of = |fault: Fault| fault.of(&accepted.principal);
        let identified = self.identify(conn, head, &accepted, net).map_err(of)?;
        let outgoing = self.rewrite(head, &identified, &token, audit_id).map_err(of)?;
        let (road, acts_as) = (identified.road, identified.acts_as);
        let admitted = Admitted {
            audit_id: audit_id.to_owned(),
            info: RequestInfo::of(head.method(), head.target()),
            target: head.target().to_owned(),
            user_agent: head.fields.text("user-agent").unwrap_or_default().to_owned(),
            anonymous: road == Road::Passthrough,
            peer,
            received: net.unix_micros(),
            ends: accepted.ends,
            principal: accepted.principal,
            acts_as,
        };
        let line = super::audit::received(&admitted);
        if net.record(&line).is_err() && !self.config.audit_fail_open {
            let text = "requests cannot be written to the audit log, so none are passed on";
            return Err(Fault::Own(503, "audit", text).of(&admitted.principal));
        }
        Ok((admitted, outgoing))
    }

    fn authenticate(
        &self,
        head: &RequestHead,
        token: &Secret<String>,
        judged: &mut Option<Judged>,
        net: &dyn Net,
    ) -> Result<Accepted, Fault> {
        let verifier = self.keys.verifier();
        let credential = Unverified::parse(token.expose()).map_err(Fault::Denied)?;
        let picked = verifier.pick(&credential).map_err(Fault::Denied)?;
        let index = match picked {
            Authenticator::Issuer(index) => Some(index),
            Authenticator::ServiceAccounts if self.config.sa_passthrough => {
                return self.pass_through(&credential, token, net);
            }
            Authenticator::ServiceAccounts => None,
        };
        // What a caller may do as others is its issuer's affair, and costs no cryptography.
        if policy::impersonates(&head.fields) && !self.config.impersonation {
            return Err(Fault::Rule(Rule::Impersonation));
        }
        let asked = Asked { method: head.method(), path: head.path() };
        let verified = verifier.verify_read(&credential, Some(&asked), net.unix_time());
        let result = verified.as_ref().map_or_else(Denied::reason, |_| "ok");
        *judged = index.map(|index| (index, result));
        let issuer = index.and_then(|index| verifier.issuers().get(index));
        let leeway = issuer.map_or(0, Issuer::leeway);
        let principal = verified.map_err(Fault::Denied)?;
        let ends = principal.expires.saturating_add(leeway);
        Ok(Accepted { principal, is_account: false, ends })
    }

    /// As whom somebody who is known by now may go on.
    fn identify<'a>(
        &self,
        conn: ConnId,
        head: &RequestHead,
        accepted: &'a Accepted,
        net: &dyn Net,
    ) -> Result<Identified<'a>, Fault> {
        let principal = &accepted.principal;
        if self.is_crowded(conn, &caller(principal)) {
            let text = "too many requests in flight, try again";
            return Err(Fault::Own(429, "crowded", text));
        }
        if accepted.is_account {
            return Ok(Identified { road: Road::Passthrough, fields: Vec::new(), acts_as: None });
        }
        let (fields, acts_as) = if policy::impersonates(&head.fields) {
            let (fields, other) = self.act_as(principal, &head.fields, net)?;
            (fields, Some(other))
        } else {
            (impersonate::fields(principal, None).map_err(Fault::Denied)?, None)
        };
        if !self.credential.is_usable() {
            return Err(NO_CREDENTIAL);
        }
        let own = self.credential.token().is_some();
        let road = if own { Road::Bearer } else { Road::Certificate };
        Ok(Identified { road, fields, acts_as })
    }

    /// The groups of a caller whose token leaves them out, where the configuration says whom to ask.
    fn groups_left_out(&self, of: &Principal, net: &dyn Net) -> Result<Option<Vec<String>>, Fault> {
        let oid = match (of.group_state, of.object_id()) {
            (GroupState::Unresolved, Some(oid)) => oid.to_owned(),
            (GroupState::Complete | GroupState::Ignored | GroupState::Unresolved, _) => {
                return Ok(None);
            }
        };
        let member = Member { issuer: of.issuer.clone(), oid, is_app: of.is_app };
        match self.groups.recall(&member, net.now()) {
            None => Err(Fault::Ask(Wanted::Groups(member))),
            Some(Found::No(denied)) => Err(Fault::Denied(denied)),
            Some(Found::Unanswered) => Err(NO_GROUPS),
            Some(Found::Groups(groups)) => Ok(Some(groups.to_vec())),
        }
    }

    /// A service account's own token goes on if the API server says that it is good.
    fn pass_through(
        &self,
        credential: &Unverified,
        token: &Secret<String>,
        net: &dyn Net,
    ) -> Result<Accepted, Fault> {
        let expires = credential.expires().unwrap_or(u64::MAX);
        let ends = expires.saturating_add(CLOCK_LEEWAY);
        if ends <= net.unix_time() {
            let denied = Denied::new(Reason::Expired, "a service account's token, by its own word");
            return Err(Fault::Denied(denied));
        }
        let body = token_review(token.expose(), self.questions.audiences());
        let question = Question::Token(Secret::new(body));
        let Reviewed { user, uid, groups } = match self.questions.recall(&question, net.now()) {
            None => return Err(Fault::Ask(Wanted::Answers(vec![question]))),
            Some(Verdict::Account(reviewed)) => reviewed,
            Some(Verdict::No(denied)) => return Err(Fault::Denied(denied)),
            Some(Verdict::Yes | Verdict::Unanswered) => return Err(UNANSWERED),
        };
        let principal = Principal {
            subject: uid.unwrap_or_else(|| user.clone()),
            display: user.clone(),
            user,
            groups,
            group_state: GroupState::Complete,
            extra: Vec::new(),
            issuer: credential.issuer().to_owned(),
            credential_id: String::new(),
            expires,
            is_app: true,
        };
        Ok(Accepted { principal, is_account: true, ends })
    }

    /// Whom the caller's own impersonation fields name, if the API server allows it in every part.
    fn act_as(
        &self,
        principal: &Principal,
        fields: &Fields,
        net: &dyn Net,
    ) -> Result<(Vec<impersonate::Field<'static>>, Impersonated), Fault> {
        let asked = fields.iter().filter(|field| {
            let start = field.name.get(..11).unwrap_or_default();
            start.eq_ignore_ascii_case("impersonate")
        });
        let asked: Vec<(&str, &str)> = asked
            // What is no text is no name either: an empty one is refused.
            .map(|field| (field.name, std::str::from_utf8(field.value).unwrap_or_default()))
            .collect();
        let other = Impersonation::read(asked).map_err(Fault::Denied)?;
        let mut open = Vec::new();
        for body in access_reviews(principal, &other).map_err(Fault::Denied)? {
            let question = Question::Access(Secret::new(body));
            match self.questions.recall(&question, net.now()) {
                Some(Verdict::Yes) => (),
                Some(Verdict::No(denied)) => return Err(Fault::Denied(denied)),
                Some(Verdict::Account(_) | Verdict::Unanswered) => return Err(UNANSWERED),
                None => open.push(question),
            }
        }
        if !open.is_empty() {
            return Err(Fault::Ask(Wanted::Answers(open)));
        }
        let verbs = self.config.verbs;
        let fields = other.fields(principal, verbs, None).map_err(Fault::Denied)?;
        let fields = fields.into_iter().map(|(name, value)| (name, value.into_owned().into()));
        let fields = fields.collect();
        let (user, groups) = (other.user().to_owned(), other.groups().to_vec());
        Ok((fields, Impersonated { user, groups }))
    }

    /// The head that goes on.
    fn rewrite(
        &self,
        head: &RequestHead,
        identified: &Identified<'_>,
        token: &Secret<String>,
        audit_id: &str,
    ) -> Result<RequestHead, Fault> {
        let identity = Identity {
            road: identified.road,
            fields: &identified.fields,
            bearer: match identified.road {
                Road::Passthrough => Some(token),
                Road::Bearer => self.credential.token(),
                Road::Certificate => None,
            },
            host: &self.config.upstream.host,
            audit_id,
            policy: self.config.header_policy,
        };
        identity.put_on(head).map_err(|why| {
            error!("a head that was to go upstream is not fit to: {why}");
            Fault::Own(500, "unwritable", "the request cannot be passed on")
        })
    }
}

/// Whose requests in flight are counted together.
pub(super) fn caller(principal: &Principal) -> (String, String) {
    (principal.issuer.clone(), principal.subject.clone())
}

/// A random UUID (RFC 9562, 5.4).
pub(super) fn uuid(net: &mut dyn Net) -> String {
    let mut bytes = [0; 16];
    net.random(&mut bytes);
    let random = u128::from_be_bytes(bytes);
    let id = random & !(0xf << 76) & !(0b11 << 62) | 4 << 76 | 0b10 << 62;
    let hex = format!("{id:032x}");
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default().to_owned();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

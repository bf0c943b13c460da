//! The decision about one request, and the head that goes on. Everything here happens before a
//! byte goes upstream: policy, credential, issuer, the issuer's impersonation policy, signature,
//! claims, names, limits, and only then the new head. It is stripped first and added to last, so
//! that nothing of the caller's can take off or double what we put on.

use log::{error, info};

use super::AuthProxy;
use crate::auth::impersonate::{self, Road};
use crate::auth::pop::Asked;
use crate::auth::{Authenticator, Denied, Principal, Unverified};
use crate::engine::exchange::status_response;
use crate::role::{ConnId, Net, Peer};
use crate::secret::Secret;
use crate::wire::h1::policy::{self, Refusal as Rule};
use crate::wire::h1::{Fields, RequestHead, ResponseHead, Unwritable, strip};
use crate::wire::kube::RequestInfo;

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Decision {
    /// It goes on, with this head.
    Forward(Box<Admitted>, Box<RequestHead>),
    /// It is answered here.
    Refuse(Refusal),
}

/// Facts about a request that goes on.
#[derive(Debug)]
pub(super) struct Admitted {
    /// Ties our audit log to the API server's.
    pub(super) audit_id: String,
    pub(super) info: RequestInfo,
    pub(super) target: String,
    pub(super) user_agent: String,
    /// Nobody for a caller whose own token goes on.
    pub(super) principal: Option<Principal>,
    /// Whose requests in flight are counted together.
    pub(super) caller: Option<(String, String)>,
    /// When its token ends, in unix seconds.
    pub(super) expires: Option<u64>,
    /// It goes over a connection without any credential of ours.
    pub(super) anonymous: bool,
    pub(super) peer: Peer,
    /// When it came, in unix seconds.
    pub(super) received: u64,
}

/// Why a request is answered here.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// A word for the audit log.
    pub(super) code: &'static str,
    /// What the caller reads.
    message: String,
    /// What only the log says.
    pub(super) detail: String,
    pub(super) audit_id: String,
}

impl Refusal {
    /// The response head that says so.
    pub(super) fn head(&self) -> ResponseHead {
        let (mut head, _) = status_response(self.status, &self.message);
        let extra = match self.status {
            429 | 503 => Some(("Retry-After", "1")),
            _ => None,
        };
        for (name, value) in extra.into_iter().chain([("Audit-ID", self.audit_id.as_str())]) {
            // Constants and a UUID obey the grammar.
            let _ = head.fields.push(name, value);
        }
        head
    }

    /// The `Status` object that says so.
    pub(super) fn body(&self) -> Vec<u8> {
        status_response(self.status, &self.message).1
    }
}

/// What stands between a caller and a decision, before it has a text.
enum Fault {
    Rule(Rule),
    Denied(Denied),
    Own(u16, &'static str, &'static str),
}

/// A credential that was accepted.
struct Accepted {
    road: Road,
    principal: Option<Principal>,
    identity: Vec<impersonate::Field>,
}

impl AuthProxy {
    pub(super) fn admit(
        &mut self,
        conn: ConnId,
        head: &RequestHead,
        net: &mut dyn Net,
    ) -> Decision {
        let audit_id = uuid(net);
        let peer = self.sessions.get(&conn).map_or(Peer::Local, |session| session.peer);
        match self.decide(conn, head, peer, &audit_id, net) {
            Ok((admitted, outgoing)) => Decision::Forward(Box::new(admitted), Box::new(outgoing)),
            Err(fault) => {
                if let Fault::Denied(denied) = &fault {
                    self.keys.on_denied(denied, net);
                }
                let refusal = fault.into_refusal(audit_id);
                info!(
                    "conn={} refused: status={} reason={} audit={} {}",
                    conn.0, refusal.status, refusal.code, refusal.audit_id, refusal.detail
                );
                Decision::Refuse(refusal)
            }
        }
    }

    fn decide(
        &mut self,
        conn: ConnId,
        head: &RequestHead,
        peer: Peer,
        audit_id: &str,
        net: &mut dyn Net,
    ) -> Result<(Admitted, RequestHead), Fault> {
        policy::admit(head).map_err(Fault::Rule)?;
        let token = policy::credential(&head.fields, true).map_err(Fault::Rule)?;
        let accepted = self.authenticate(head, &token, net.unix_time())?;
        let Accepted { road, principal, .. } = &accepted;
        let caller = principal.as_ref().map(|it| (it.issuer.clone(), it.subject.clone()));
        if self.is_crowded(conn, caller.as_ref()) {
            let text = "too many requests in flight, try again";
            return Err(Fault::Own(429, "crowded", text));
        }
        let admitted = Admitted {
            audit_id: audit_id.to_owned(),
            info: RequestInfo::of(head.method(), head.target()),
            target: head.target().to_owned(),
            user_agent: head.fields.text("user-agent").unwrap_or_default().to_owned(),
            caller,
            expires: principal.as_ref().map(|it| it.expires),
            anonymous: *road == Road::Passthrough,
            peer,
            received: net.unix_time(),
            principal: accepted.principal.clone(),
        };
        let outgoing = self.rewrite(head, &accepted, &token, audit_id).map_err(|why| {
            error!("a head that was to go upstream is not fit to: {why}");
            Fault::Own(500, "unwritable", "the request cannot be passed on")
        })?;
        let line = super::audit::received(&admitted);
        if net.record(&line).is_err() && !self.config.audit_fail_open {
            let text = "requests cannot be written to the audit log, so none are passed on";
            return Err(Fault::Own(503, "audit", text));
        }
        Ok((admitted, outgoing))
    }

    fn authenticate(
        &self,
        head: &RequestHead,
        token: &Secret<String>,
        unix_now: u64,
    ) -> Result<Accepted, Fault> {
        let verifier = self.keys.verifier();
        let impersonates = policy::impersonates(&head.fields);
        let credential = Unverified::parse(token.expose());
        let picked = credential.as_ref().map(|it| verifier.pick(it));
        if let Ok(Ok(Authenticator::ServiceAccounts)) = picked
            && self.config.sa_passthrough
        {
            let road = Road::Passthrough;
            return Ok(Accepted { road, principal: None, identity: Vec::new() });
        }
        if impersonates {
            return Err(Fault::Rule(Rule::Impersonation));
        }
        let credential = credential.map_err(Fault::Denied)?;
        let asked = Asked { method: head.method(), path: head.path() };
        let principal =
            verifier.verify_read(&credential, Some(&asked), unix_now).map_err(Fault::Denied)?;
        let identity = impersonate::fields(&principal, None).map_err(Fault::Denied)?;
        if !self.credential.is_usable() {
            let text = "the proxy's own credential is not available yet, try again";
            return Err(Fault::Own(503, "no_own_credential", text));
        }
        let own = self.credential.token().is_some();
        let road = if own { Road::Bearer } else { Road::Certificate };
        Ok(Accepted { road, principal: Some(principal), identity })
    }

    /// The head that goes on.
    fn rewrite(
        &self,
        head: &RequestHead,
        accepted: &Accepted,
        token: &Secret<String>,
        audit_id: &str,
    ) -> Result<RequestHead, Box<dyn std::error::Error>> {
        let mut outgoing = head.clone();
        let inbound = inbound_impersonation(&head.fields, accepted.road);
        strip(&mut outgoing.fields);
        policy::strip_identity(&mut outgoing.fields);
        outgoing.fields.remove("host");
        outgoing.fields.push("Host", &self.config.upstream.host)?;
        for (name, value) in inbound {
            outgoing.fields.push(&name, value)?;
        }
        for (name, value) in &accepted.identity {
            outgoing.fields.push(name, value)?;
        }
        match accepted.road {
            Road::Passthrough => set_bearer(&mut outgoing, Some(token)),
            Road::Bearer => set_bearer(&mut outgoing, self.credential.token()),
            Road::Certificate => (),
        }
        outgoing.fields.push("Audit-ID", audit_id)?;
        let fields = outgoing.fields.iter().map(|field| (field.name, field.value));
        impersonate::check_finished_head(fields, accepted.road)?;
        Ok(outgoing)
    }
}

impl Fault {
    fn into_refusal(self, audit_id: String) -> Refusal {
        match self {
            Self::Rule(rule) => Refusal {
                status: rule.status(),
                code: rule.code(),
                message: rule.to_string(),
                detail: rule.to_string(),
                audit_id,
            },
            Self::Denied(denied) => Refusal {
                status: denied.status(),
                code: denied.reason(),
                message: denied.public().to_owned(),
                detail: denied.to_string(),
                audit_id,
            },
            Self::Own(status, code, text) => Refusal {
                status,
                code,
                message: text.to_owned(),
                detail: text.to_owned(),
                audit_id,
            },
        }
    }
}

/// Puts `token` in as the one credential of `head`.
pub(super) fn set_bearer(head: &mut RequestHead, token: Option<&Secret<String>>) {
    head.fields.remove("authorization");
    if let Some(token) = token {
        let value = format!("Bearer {}", token.expose());
        // A token has been through the grammar of tokens; the finished head is checked again.
        let _: Result<(), Unwritable> = head.fields.push("Authorization", value);
    }
}

/// Where the caller's own token goes on, so does whom it wants to act as: kube-apiserver decides
/// about that by the rights of that token.
fn inbound_impersonation(fields: &Fields, road: Road) -> Vec<(String, Vec<u8>)> {
    if road != Road::Passthrough {
        return Vec::new();
    }
    let named =
        |name: &str| name.get(..12).is_some_and(|start| start.eq_ignore_ascii_case("impersonate-"));
    let inbound = fields.iter().filter(|field| named(field.name));
    inbound.map(|field| (field.name.to_owned(), field.value.to_vec())).collect()
}

/// A random UUID (RFC 9562, 5.4).
fn uuid(net: &mut dyn Net) -> String {
    let mut bytes = [0; 16];
    net.random(&mut bytes);
    let random = u128::from_be_bytes(bytes);
    let id = random & !(0xf << 76) & !(0b11 << 62) | 4 << 76 | 0b10 << 62;
    let hex = format!("{id:032x}");
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default().to_owned();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

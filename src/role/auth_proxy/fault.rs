//! Why a request is answered here, in words for the caller, for the log and for the counters.

use log::debug;

use super::AuthProxy;
use super::admit::Wanted;
use crate::auth::{Denied, Principal};
use crate::engine::exchange::status_response;
use crate::role::{ConnId, Net};
use crate::wire::h1::ResponseHead;
use crate::wire::h1::policy::Refusal as Rule;

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
    /// Who it was, where that was certain before something else was in the way.
    pub(super) principal: Option<Box<Principal>>,
}

impl Refusal {
    /// The response head that says so.
    pub(super) fn head(&self) -> ResponseHead {
        let (mut head, _) = status_response(self.status, &self.message);
        let may_pass = matches!(self.status, 429 | 503);
        let extra = may_pass.then_some(("Retry-After", "1"));
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
pub(super) enum Fault {
    Rule(Rule),
    Denied(Denied),
    Own(u16, &'static str, &'static str),
    /// Any of these, for somebody who is known by then.
    Of(Box<Principal>, Box<Self>),
    Ask(Wanted),
}

impl AuthProxy {
    pub(super) fn refuse(
        &mut self,
        conn: ConnId,
        fault: Fault,
        audit_id: &str,
        net: &mut dyn Net,
    ) -> Refusal {
        let refusal = fault.into_refusal(audit_id.to_owned());
        self.metrics.on_rejected(refusal.code);
        if refusal.status == 401
            && let Some(session) = self.sessions.get_mut(&conn)
        {
            session.throttle.on_refused(net.now());
        }
        debug!(
            "conn={} refused: status={} reason={} audit={} {}",
            conn.0, refusal.status, refusal.code, refusal.audit_id, refusal.detail
        );
        refusal
    }

    /// A question could not be asked, or was not answered in time.
    pub(super) fn unanswered(
        &mut self,
        conn: ConnId,
        audit_id: &str,
        net: &mut dyn Net,
    ) -> Refusal {
        self.refuse(conn, UNANSWERED, audit_id, net)
    }
}

pub(super) const UNANSWERED: Fault =
    Fault::Own(503, "unanswered", "the API server cannot be asked about you now, try again");

pub(super) const NO_GROUPS: Fault =
    Fault::Own(503, "groups_unanswered", "your groups cannot be looked up now, try again");

pub(super) const NO_CREDENTIAL: Fault = Fault::Own(
    503,
    "no_own_credential",
    "the proxy's own credential is not available yet, try again",
);

impl Fault {
    /// The same, of somebody who is known.
    pub(super) fn of(self, principal: &Principal) -> Self {
        match self {
            Self::Ask(_) | Self::Of(..) => self,
            Self::Rule(_) | Self::Denied(_) | Self::Own(..) => {
                Self::Of(Box::new(principal.clone()), Box::new(self))
            }
        }
    }

    fn into_refusal(self, audit_id: String) -> Refusal {
        match self {
            Self::Of(principal, fault) => {
                Refusal { principal: Some(principal), ..fault.into_refusal(audit_id) }
            }
            Self::Rule(rule) => Refusal {
                status: rule.status(),
                code: rule.code(),
                message: rule.to_string(),
                detail: rule.to_string(),
                audit_id,
                principal: None,
            },
            Self::Denied(denied) => Refusal {
                status: denied.status(),
                code: denied.reason(),
                message: denied.public().to_owned(),
                detail: denied.to_string(),
                audit_id,
                principal: None,
            },
            Self::Own(status, code, text) => Refusal {
                status,
                code,
                message: text.to_owned(),
                detail: text.to_owned(),
                audit_id,
                principal: None,
            },
            Self::Ask(_) => UNANSWERED.into_refusal(audit_id),
        }
    }
}

//! Role assignments: who may fetch a credential for a cluster.

use serde_json::{Value as Json, json};

use super::{
    Answer, Api, Call, Effect, Fault, Reply, Turn, body, done, known, name_of, operator, plan,
};
use crate::auth::assignments::{Grant, Holder, Kind};
use crate::limits::CLAIM_MAX;
use crate::role::relay::audit::rfc3339;
use crate::role::relay::registry::{Cluster, Request};
use crate::wire::json::Object;
use crate::wire::resource::{ResourceId, check_subscription};

pub(super) fn list(
    call: &Call<'_>,
    resource: &ResourceId,
    turn: &Turn<'_, '_>,
) -> Result<Answer, Fault> {
    operator(call)?;
    let cluster = known(turn, resource)?;
    let all: Vec<Json> =
        cluster.assignments.iter().map(|(holder, grant)| assignment_json(holder, grant)).collect();
    Ok(Reply::json(200, &json!({ "value": all })).into())
}

impl Api {
    pub(super) fn grant(
        &self,
        call: &Call<'_>,
        resource: &ResourceId,
        turn: &mut Turn<'_, '_>,
    ) -> Result<Answer, Fault> {
        operator(call)?;
        let cluster = known(turn, resource)?;
        let (holder, display) = self.holder(&body(call)?, turn)?;
        let fresh = Grant {
            display: display.clone(),
            granted_at: turn.unix_now,
            granted_by: name_of(call.caller),
        };
        let grant = cluster.assignments.get(&holder).unwrap_or(&fresh);
        let reply = Reply::json(200, &assignment_json(&holder, grant));
        let audit = vec![done("grant", call, resource, detail(&holder, &display))];
        let by = name_of(call.caller);
        let request = Request::Grant { cluster: resource.cluster_id(), holder, display, by };
        Ok(Answer { audit, changes: plan(request, turn)?, effects: Vec::new(), reply })
    }

    pub(super) fn revoke(
        &self,
        call: &Call<'_>,
        resource: &ResourceId,
        turn: &mut Turn<'_, '_>,
    ) -> Result<Answer, Fault> {
        operator(call)?;
        let cluster = known(turn, resource)?;
        let body = body(call)?;
        // Somebody to be kept out may be gone from the directory: the assignment knows the name.
        let holder = match assigned(cluster, &body)? {
            Some(holder) => holder,
            None => self.holder(&body, turn)?.0,
        };
        let display = cluster.assignments.get(&holder).map(|grant| grant.display.clone());
        let audit =
            vec![done("revoke", call, resource, detail(&holder, &display.unwrap_or_default()))];
        let effects = vec![Effect::Cut { entity: resource.entity(), grant: holder.tag() }];
        let request = Request::Revoke { cluster: resource.cluster_id(), holder };
        Ok(Answer { audit, changes: plan(request, turn)?, effects, reply: Reply::empty(204) })
    }

    /// Whom the body names, and how people call them.
    fn holder(&self, body: &Object, turn: &Turn<'_, '_>) -> Result<(Holder, String), Fault> {
        let issuer = body.optional_text("issuer")?;
        let named = [
            body.optional_text("user")?,
            body.optional_text("group")?,
            body.optional_text("subject")?,
        ];
        if [issuer]
            .iter()
            .chain(&named)
            .flatten()
            .any(|text| !(1..=CLAIM_MAX).contains(&text.len()))
        {
            let message = format!("a name has 1 to {CLAIM_MAX} bytes");
            return Err(Fault::bad_request("InvalidRequestContent", &message));
        }
        if let Some(issuer) = issuer {
            self.check_issuer(issuer)?;
        }
        match (named, issuer) {
            ([Some(user), None, None], issuer) => self.by_name(user, issuer, turn),
            ([None, Some(group), None], issuer) => {
                let issuer = self.issuer_or_only(issuer)?;
                Ok((Holder::group(issuer, group), group.to_owned()))
            }
            ([None, None, Some(subject)], Some(issuer)) => {
                let known = turn.registry.directory().iter();
                let full = self.subject_in(issuer, subject);
                let mut known = known.filter(|it| it.issuer == issuer && it.subject == full);
                let display = known.next().map_or(subject, |known| &known.user);
                Ok((Holder::user(issuer, &full), display.to_owned()))
            }
            _ => Err(Fault::bad_request(
                "InvalidRequestContent",
                "name a \"user\", or a \"group\", or a \"subject\" with its \"issuer\"",
            )),
        }
    }

    fn by_name(
        &self,
        user: &str,
        issuer: Option<&str>,
        turn: &Turn<'_, '_>,
    ) -> Result<(Holder, String), Fault> {
        let chosen = issuer.or_else(|| self.only_issuer());
        let by_subject = self
            .settings
            .issuers
            .iter()
            .find(|known| known.name_is_subject && chosen == Some(known.issuer.as_str()));
        if let Some(known) = by_subject {
            return Ok((Holder::user(&known.issuer, user), user.to_owned()));
        }
        match turn.registry.directory().named(user, issuer)[..] {
            [one] => Ok((Holder::user(&one.issuer, &one.subject), one.user.clone())),
            [] => {
                let message = format!(
                    "{user} has not called the relay yet, so the relay does not know the subject \
                     behind that name: have them run any command once, or grant by issuer and \
                     subject"
                );
                Err(Fault::new(404, "PrincipalNotFound", &message))
            }
            ref several => {
                let each: Vec<String> =
                    several.iter().map(|it| format!("{} of {}", it.subject, it.issuer)).collect();
                let message =
                    format!("{user} names several subjects: {}; grant to one", each.join(", "));
                Err(Fault::new(409, "PrincipalAmbiguous", &message))
            }
        }
    }

    /// The subject as tokens of `issuer` make it: of Entra ID, an object id alone is enough.
    pub(super) fn subject_in(&self, issuer: &str, subject: &str) -> String {
        let known = self.settings.issuers.iter().find(|known| known.issuer == issuer);
        match known.and_then(|known| known.tenant.as_deref()) {
            Some(tenant) if check_subscription(subject).is_ok() => {
                format!("{tenant}/{}", subject.to_ascii_lowercase())
            }
            _ => subject.to_owned(),
        }
    }

    fn only_issuer(&self) -> Option<&str> {
        match &self.settings.issuers[..] {
            [one] => Some(&one.issuer),
            _ => None,
        }
    }

    pub(super) fn issuer_or_only<'a>(&'a self, issuer: Option<&'a str>) -> Result<&'a str, Fault> {
        issuer.or_else(|| self.only_issuer()).ok_or_else(|| {
            let message = "say of which \"issuer\": the relay takes tokens of several, or of none";
            Fault::bad_request("IssuerRequired", message)
        })
    }

    pub(super) fn check_issuer(&self, issuer: &str) -> Result<(), Fault> {
        if self.settings.issuers.iter().any(|known| known.issuer == issuer) {
            return Ok(());
        }
        let message = format!("the relay takes no tokens of the issuer {issuer:?}");
        Err(Fault::bad_request("IssuerUnknown", &message))
    }
}

/// The assignment that is displayed under the name in `body`, if it is just one.
fn assigned(cluster: &Cluster, body: &Object) -> Result<Option<Holder>, Fault> {
    let issuer = body.optional_text("issuer")?;
    let (kind, name, by_subject) = match (
        body.optional_text("user")?,
        body.optional_text("group")?,
        body.optional_text("subject")?,
    ) {
        (Some(user), None, None) => (Kind::User, user, false),
        (None, Some(group), None) => (Kind::Group, group, true),
        (None, None, Some(subject)) => (Kind::User, subject, true),
        _ => return Ok(None),
    };
    let mut all = cluster.assignments.iter().filter(|(holder, grant)| {
        let found = match by_subject {
            true => holder.name == name,
            false => holder.name == name || grant.display.eq_ignore_ascii_case(name),
        };
        found && holder.kind == kind && issuer.is_none_or(|issuer| holder.issuer == issuer)
    });
    let first = all.next().map(|(holder, _)| holder.clone());
    if all.next().is_some() {
        let message = format!("{name} names several role assignments; say issuer and subject");
        return Err(Fault::new(409, "PrincipalAmbiguous", &message));
    }
    Ok(first)
}

fn assignment_json(holder: &Holder, grant: &Grant) -> Json {
    json!({
        "issuer": holder.issuer, "subject": holder.name, "kind": holder.kind.word(),
        "displayName": grant.display, "grantedAt": rfc3339(grant.granted_at),
        "grantedBy": grant.granted_by,
    })
}

fn detail(holder: &Holder, display: &str) -> Vec<(&'static str, String)> {
    vec![
        ("kind", holder.kind.word().to_owned()),
        ("issuer", holder.issuer.clone()),
        ("subject", holder.name.clone()),
        ("name", display.to_owned()),
    ]
}

//! SubjectAccessReview: whether a caller may act as whom its request names. Each user, group, uid
//! and extra value is a question of its own, about the caller with all its attributes, and every
//! answer must be yes: that is what kube-apiserver would ask if the caller were not behind us.

use serde_json::{Value as Json, json};

use super::super::denied::{Denied, Reason};
use super::super::impersonate::{
    AUTHENTICATED, EXTRA_DOMAIN, Field, Verbs, extra_field, group, identity_fields, push_own,
};
use super::super::names::{self, Alphabet};
use super::super::profile::check_group_count;
use super::super::{GroupState, Principal};
use super::token::service_account;
use super::{failed, status};
use crate::limits::REVIEWS;
use crate::wire::json::Mismatch;
use crate::wire::percent;

/// Whom a request asks to act as, from its `Impersonate-*` fields.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Impersonation {
    user: String,
    uid: Option<String>,
    groups: Vec<String>,
    extra: Vec<(String, String)>,
}

impl Impersonation {
    /// Reads the fields, in their exact spelling: a name that only some server would take for one
    /// of them is refused like every other.
    ///
    /// # Errors
    /// [`Reason::ImpersonationDenied`] for fields that are unknown, repeated, empty, or name what
    /// may not be impersonated through us: any `system:` name but a service account's.
    pub fn read<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, Denied> {
        let mut read = Self::default();
        for (name, value) in fields {
            let name = name.to_ascii_lowercase();
            let allowed = names::check(value, Alphabet::Letters);
            let key = name.strip_prefix("impersonate-extra-");
            match (name.as_str(), key) {
                ("impersonate-user", _) if read.user.is_empty() => {
                    if allowed.is_err() && service_account(value).is_none() {
                        return Err(denied(format!("user {value:?}")));
                    }
                    value.clone_into(&mut read.user);
                }
                ("impersonate-group", _) if value == AUTHENTICATED => {}
                _ if allowed.is_err() => return Err(denied(format!("{name:?} is {value:?}"))),
                ("impersonate-group", _) => read.groups.push(value.to_owned()),
                ("impersonate-uid", _) if read.uid.is_none() => read.uid = Some(value.to_owned()),
                (_, Some(key)) => read.extra.push((extra_key(key)?, value.to_owned())),
                _ => return Err(denied(format!("field {name:?}"))),
            }
        }
        if read.user.is_empty() {
            return Err(denied("no user".to_owned()));
        }
        check_group_count(&read.groups)?;
        Ok(read)
    }

    /// The fields to send once every review has said yes: whom the caller acts as, and in extra
    /// attributes that no caller can set, who it is.
    ///
    /// # Errors
    /// [`Denied`] if a name cannot be sent.
    pub fn fields<'a>(
        &'a self,
        by: &'a Principal,
        verbs: Verbs,
        remote_ip: Option<&'a str>,
    ) -> Result<Vec<Field<'a>>, Denied> {
        let mut fields = identity_fields(&self.user, &self.groups);
        if let (true, Some((namespace, _))) = (self.groups.is_empty(), service_account(&self.user))
        {
            // kube-apiserver adds these to a service account only if no group at all is sent.
            fields.push(group("system:serviceaccounts"));
            fields.push(group(format!("system:serviceaccounts:{namespace}")));
        }
        if let Some(uid) = &self.uid {
            fields.push(("Impersonate-Uid".into(), uid.into()));
        }
        for (key, value) in &self.extra {
            fields.push(extra_field(key, value)?);
        }
        let key = percent::encode(&verbs.original_user_info(), |byte| byte != b'/');
        fields.push((format!("Impersonate-Extra-{key}").into(), original_value(by).into()));
        push_own(&mut fields, &by.credential_id, remote_ip)?;
        Ok(fields)
    }

    /// The user.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The groups that were asked for.
    #[must_use]
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    /// What the API server is asked, as resource attributes.
    fn questions(&self) -> Vec<Json> {
        let identity = "authentication.k8s.io";
        let mut questions = vec![match service_account(&self.user) {
            Some((namespace, name)) => {
                json!({"resource": "serviceaccounts", "namespace": namespace, "name": name})
            }
            None => json!({"resource": "users", "name": self.user}),
        }];
        let groups = self.groups.iter();
        questions.extend(groups.map(|group| json!({"resource": "groups", "name": group})));
        if let Some(uid) = &self.uid {
            questions.push(json!({
                "group": identity, "version": "v1", "resource": "uids", "name": uid,
            }));
        }
        questions.extend(self.extra.iter().map(|(key, value)| {
            json!({
                "group": identity, "version": "v1", "resource": "userextras",
                "subresource": key, "name": value,
            })
        }));
        questions
    }
}

/// The bodies of all questions whether `by` may act as `other`, each for POST to
/// `/apis/authorization.k8s.io/v1/subjectaccessreviews`. All must be answered with yes.
///
/// # Errors
/// [`Reason::ImpersonationDenied`] if there are more than the API server should be asked, or the
/// caller's own groups are not known.
pub fn access_reviews(by: &Principal, other: &Impersonation) -> Result<Vec<Vec<u8>>, Denied> {
    let questions = other.questions();
    if REVIEWS < questions.len() {
        return Err(denied(format!("{} questions, more than {REVIEWS}", questions.len())));
    }
    if by.group_state == GroupState::Unresolved {
        return Err(denied("the caller's groups are not known".to_owned()));
    }
    let mut groups = by.groups.clone();
    groups.push(AUTHENTICATED.to_owned());
    let extra = extra_of(by);
    let bodies = questions.into_iter().map(|mut attributes| {
        if let Some(members) = attributes.as_object_mut() {
            members.insert("verb".to_owned(), json!("impersonate"));
        }
        let spec = json!({
            "user": by.user, "groups": groups, "extra": extra, "resourceAttributes": attributes,
        });
        json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec,
        })
        .to_string()
        .into_bytes()
    });
    Ok(bodies.collect())
}

/// Reads the answer to one of [`access_reviews`].
///
/// # Errors
/// [`Reason::ImpersonationDenied`] for a no, [`Reason::Review`] if the answer cannot be read.
pub fn read_access_review(answer: &[u8]) -> Result<(), Denied> {
    let status = status(answer, "SubjectAccessReview")?;
    let mismatch = |why: Mismatch| failed(why.to_string());
    let allowed = status.optional_bool("allowed").map_err(mismatch)?;
    let forbidden = status.optional_bool("denied").map_err(mismatch)?;
    let reason = status.optional_text("reason").map_err(mismatch)?.unwrap_or("");
    match (allowed, forbidden) {
        (Some(true), None | Some(false)) => Ok(()),
        (Some(_) | None, _) => Err(denied(format!("not allowed: {reason:?}"))),
    }
}

/// The key of an extra attribute, as kube-apiserver reads it from the field's name. Ours are
/// nobody else's.
fn extra_key(escaped: &str) -> Result<String, Denied> {
    let key = percent::decode(escaped).map(|key| key.to_lowercase());
    let sendable = |key: &String| names::check(key, Alphabet::Letters).is_ok();
    let ours = |key: &String| {
        let domain = key.split('/').next().unwrap_or("");
        domain == EXTRA_DOMAIN || domain.ends_with(&format!(".{EXTRA_DOMAIN}"))
    };
    match key.filter(sendable) {
        Some(key) if !ours(&key) => Ok(key),
        Some(_) | None => Err(denied(format!("extra {escaped:?}"))),
    }
}

/// Who the caller is, as JSON: no control character survives in it.
fn original_value(by: &Principal) -> String {
    json!({"username": by.user, "groups": by.groups, "extra": extra_of(by)}).to_string()
}

/// A principal's extra attributes in the form of the API: a list of values for each key.
fn extra_of(principal: &Principal) -> Json {
    let mut extra = serde_json::Map::new();
    for (key, value) in &principal.extra {
        let values = extra.entry(key.clone()).or_insert_with(|| json!([]));
        values.as_array_mut().into_iter().for_each(|values| values.push(json!(value)));
    }
    Json::Object(extra)
}

fn denied(detail: String) -> Denied {
    Denied::new(Reason::ImpersonationDenied, detail)
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;

//! TokenReview: the API server says whether a service account's token is good. The token is then
//! sent on as it is, on a connection that carries nothing of ours, so what is read here decides
//! about limits and fills the audit log, and gives no rights.

use serde_json::json;

use super::super::denied::Denied;
use super::{failed, status};
use crate::wire::json::Value;

/// Whom the API server has recognised.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reviewed {
    /// `system:serviceaccount:{namespace}:{name}`
    pub user: String,
    /// The account's uid, if the API server told it.
    pub uid: Option<String>,
    /// The groups.
    pub groups: Vec<String>,
}

/// The body of the question whether `token` is good, for POST to
/// `/apis/authentication.k8s.io/v1/tokenreviews`. Without audiences the API server's own count.
#[must_use]
pub fn token_review(token: &str, audiences: &[String]) -> Vec<u8> {
    let mut spec = json!({ "token": token });
    if let (false, Some(members)) = (audiences.is_empty(), spec.as_object_mut()) {
        members.insert("audiences".to_owned(), json!(audiences));
    }
    json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec})
        .to_string()
        .into_bytes()
}

/// Reads the answer to [`token_review`].
///
/// # Errors
/// [`Denied`] with [`super::Reason::Review`] if the token is not good, is for none of the
/// `audiences`, is no service account's, or the answer cannot be read.
pub fn read_token_review(answer: &[u8], audiences: &[String]) -> Result<Reviewed, Denied> {
    let status = status(answer, "TokenReview")?;
    let mismatch = |why: crate::wire::json::Mismatch| failed(why.to_string());
    let error = status.optional_text("error").map_err(mismatch)?.unwrap_or("");
    let good = status.optional_bool("authenticated").map_err(mismatch)? == Some(true);
    if !good || !error.is_empty() {
        return Err(failed(format!("not authenticated: {error:?}")));
    }
    if !audiences.is_empty() {
        // A server that does not know audiences does not answer with any, and has not checked.
        let confirmed = status.optional_array("audiences").map_err(mismatch)?.unwrap_or(&[]);
        let ours =
            |one: &Value| one.as_text().is_some_and(|one| audiences.iter().any(|own| own == one));
        if !confirmed.iter().any(ours) {
            return Err(failed("for none of the audiences".to_owned()));
        }
    }
    let user = status.optional_object("user").map_err(mismatch)?;
    let user = user.ok_or_else(|| failed("no user".to_owned()))?;
    let name = user.text("username").map_err(mismatch)?;
    if service_account(name).is_none() {
        return Err(failed(format!("{name:?} is no service account")));
    }
    let groups = user.optional_array("groups").map_err(mismatch)?.unwrap_or(&[]);
    let groups = groups.iter().map(|group| group.as_text().map(str::to_owned));
    Ok(Reviewed {
        user: name.to_owned(),
        uid: user.optional_text("uid").map_err(mismatch)?.map(str::to_owned),
        groups: groups.collect::<Option<_>>().ok_or_else(|| failed("a group is no text".into()))?,
    })
}

/// Namespace and name of the service account that is the user `name`.
pub(super) fn service_account(name: &str) -> Option<(&str, &str)> {
    let (namespace, name) = name.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    let label = |text: &str| {
        let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let inner =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        let bytes = text.as_bytes();
        bytes.len() <= 253 && edge(bytes.first()) && edge(bytes.last()) && text.bytes().all(inner)
    };
    (label(namespace) && label(name)).then_some((namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: &str = "system:serviceaccount:build:runner";

    fn read(status: &serde_json::Value, audiences: &[String]) -> Result<Reviewed, Denied> {
        let answer = json!({"kind": "TokenReview", "metadata": {}, "spec": {}, "status": status});
        read_token_review(answer.to_string().as_bytes(), audiences)
    }

    #[test]
    fn the_question_has_the_shape_of_the_api() {
        let asked = |audiences: &[String]| String::from_utf8(token_review("t\"", audiences));
        assert_eq!(
            asked(&[]).expect("UTF-8"),
            r#"{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":"t\""}}"#
        );
        assert!(asked(&["a".to_owned()]).expect("UTF-8").contains(r#""audiences":["a"]"#));
    }

    #[test]
    fn a_service_account_is_recognised() {
        let user = json!({"username": USER, "uid": "u", "groups": ["system:serviceaccounts"]});
        let reviewed = read(&json!({"authenticated": true, "user": user}), &[]).expect("good");
        assert_eq!((reviewed.user.as_str(), reviewed.uid.as_deref()), (USER, Some("u")));
        assert_eq!(reviewed.groups, ["system:serviceaccounts"]);
    }

    #[test]
    fn an_audience_must_be_confirmed() {
        let status = |audiences: serde_json::Value| json!({"authenticated": true, "user": {"username": USER}, "audiences": audiences});
        let wanted = ["edge".to_owned()];
        assert!(read(&status(json!(["x", "edge"])), &wanted).is_ok());
        for audiences in [json!([]), json!(["x"]), json!([1]), json!("edge")] {
            assert!(read(&status(audiences), &wanted).is_err());
        }
        let silent = json!({"authenticated": true, "user": {"username": USER}});
        assert!(read(&silent, &wanted).is_err());
    }

    #[test]
    fn anything_but_a_clear_yes_is_a_no() {
        for status in [
            json!({}),
            json!({"authenticated": false, "user": {"username": USER}}),
            json!({"authenticated": "true", "user": {"username": USER}}),
            json!({"authenticated": true}),
            json!({"authenticated": true, "error": "x", "user": {"username": USER}}),
            json!({"authenticated": true, "user": {"username": "alice"}}),
            json!({"authenticated": true, "user": {"username": "system:node:a"}}),
            json!({"authenticated": true, "user": {"username": "system:serviceaccount:a"}}),
            json!({"authenticated": true, "user": {"username": "system:serviceaccount::b"}}),
            json!({"authenticated": true, "user": {"username": "system:serviceaccount:a:b:c"}}),
            json!({"authenticated": true, "user": {"username": "system:serviceaccount:a:b\n"}}),
            json!({"authenticated": true, "user": {"username": USER, "groups": [1]}}),
            json!(null),
        ] {
            let denied = read(&status, &[]).expect_err("no");
            assert_eq!((denied.reason(), denied.status()), ("review", 401), "{status}");
        }
        let twice =
            br#"{"kind":"TokenReview","status":{"authenticated":false,"authenticated":true}}"#;
        assert!(read_token_review(twice, &[]).is_err());
        assert!(read_token_review(br#"{"kind":"Status","status":"Failure"}"#, &[]).is_err());
        assert!(read_token_review(b"", &[]).is_err());
    }
}

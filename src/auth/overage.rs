//! Groups that a token leaves out because there are too many: what to ask Microsoft Graph, and
//! what it answers. The address comes from the configuration, never from the token: a claim that
//! names an endpoint is a request forgery waiting to be made.

use std::fmt;

use serde_json::json;

use super::discovery::host;
use super::profile::is_guid;
use crate::limits::{ANSWER_BYTES, ANSWER_DEPTH};
use crate::wire::json::{self, Mismatch, Value};

/// Where the groups of callers come from if tokens leave them out.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum GroupSource {
    /// From nowhere: [`super::profile::Overage`] says what happens instead.
    #[default]
    TokenOnly,
    /// From Microsoft Graph at this address, such as `https://graph.microsoft.com`.
    Graph(String),
}

/// A question to Microsoft Graph: a POST with a bearer token of our own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupRequest {
    /// Where to.
    pub url: String,
    /// `application/json`
    pub body: Vec<u8>,
}

impl GroupSource {
    /// The question for the groups of the object `oid`, an application's service principal or a
    /// user. Nothing if there is nobody to ask, or the address or id is not what it should be.
    #[must_use]
    pub fn request(&self, oid: &str, is_app: bool) -> Option<GroupRequest> {
        let Self::Graph(address) = self else { return None };
        let address = address.trim_end_matches('/');
        host(address)?;
        if !is_guid(oid) {
            return None;
        }
        let kind = if is_app { "servicePrincipals" } else { "users" };
        Some(GroupRequest {
            url: format!("{address}/v1.0/{kind}/{oid}/getMemberObjects"),
            body: json!({"securityEnabledOnly": true}).to_string().into_bytes(),
        })
    }
}

/// The object ids in the answer to a [`GroupRequest`].
///
/// # Errors
/// [`BadAnswer`] if it cannot be read, is an error, or holds anything but object ids.
pub fn read_groups(answer: &[u8]) -> Result<Vec<String>, BadAnswer> {
    if ANSWER_BYTES < answer.len() {
        return Err(BadAnswer::TooLong(answer.len()));
    }
    let answer = json::parse_object(answer, ANSWER_DEPTH).map_err(BadAnswer::Json)?;
    if let Some(error) = answer.optional_object("error").map_err(BadAnswer::Field)? {
        let code = error.optional_text("code").ok().flatten().unwrap_or("");
        return Err(BadAnswer::Refused(code.chars().take(64).collect()));
    }
    if answer.has("@odata.nextLink") {
        return Err(BadAnswer::Partial);
    }
    let items = answer.optional_array("value").map_err(BadAnswer::Field)?;
    let items = items.ok_or(BadAnswer::NoValue)?.iter();
    let ids = items.map(|item| match item {
        Value::Text(id) if is_guid(id) => Ok(id.to_ascii_lowercase()),
        _ => Err(BadAnswer::NotAnId),
    });
    ids.collect()
}

/// Why Microsoft Graph's answer does not give the groups.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BadAnswer {
    /// It has this many bytes.
    TooLong(usize),
    /// It is not strict JSON.
    Json(json::Malformed),
    /// A member has the wrong type.
    Field(Mismatch),
    /// It is an error of this code.
    Refused(String),
    /// It is not all there is.
    Partial,
    /// It has no `value`.
    NoValue,
    /// Something in it is no object id.
    NotAnId,
}

impl fmt::Display for BadAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(len) => write!(f, "answer of {len} bytes is too long"),
            Self::Json(why) => write!(f, "answer is {why}"),
            Self::Field(why) => write!(f, "answer member {why}"),
            Self::Refused(code) => write!(f, "Microsoft Graph says {code:?}"),
            Self::Partial => f.write_str("answer is not complete"),
            Self::NoValue => f.write_str("answer has no \"value\""),
            Self::NotAnId => f.write_str("answer holds what is no object id"),
        }
    }
}

impl std::error::Error for BadAnswer {}

#[cfg(test)]
mod tests {
    use super::super::testing::{GROUP, OID};
    use super::*;

    #[test]
    fn the_question_goes_to_the_configured_address_only() {
        let graph = GroupSource::Graph("https://graph.microsoft.us/".to_owned());
        let request = graph.request(OID, false).expect("a question");
        let base = "https://graph.microsoft.us/v1.0";
        assert_eq!(request.url, format!("{base}/users/{OID}/getMemberObjects"));
        assert_eq!(request.body, br#"{"securityEnabledOnly":true}"#);
        let request = graph.request(OID, true).expect("a question");
        assert_eq!(request.url, format!("{base}/servicePrincipals/{OID}/getMemberObjects"));
    }

    #[test]
    fn there_is_no_question_without_a_good_address_and_a_good_id() {
        assert_eq!(GroupSource::TokenOnly.request(OID, false), None);
        for address in ["http://graph.microsoft.com", "https://", "https://a@b", "graph", ""] {
            assert_eq!(GroupSource::Graph(address.to_owned()).request(OID, false), None);
        }
        let graph = GroupSource::Graph("https://graph.microsoft.com".to_owned());
        for oid in ["", "me", "../me", "a/b", &format!("{OID}/x")] {
            assert_eq!(graph.request(oid, false), None, "{oid}");
        }
    }

    #[test]
    fn the_answer_is_object_ids_and_nothing_else() {
        let answer = format!(r#"{{"@odata.context":"x","value":["{GROUP}","{GROUP}"]}}"#);
        assert_eq!(read_groups(answer.as_bytes()), Ok(vec![GROUP.to_owned(); 2]));
        assert_eq!(read_groups(br#"{"value":[]}"#), Ok(vec![]));
        let denied = br#"{"error":{"code":"Authorization_RequestDenied","message":"x"}}"#;
        let refused = BadAnswer::Refused("Authorization_RequestDenied".to_owned());
        assert_eq!(read_groups(denied), Err(refused));
        let partial = br#"{"value":[],"@odata.nextLink":"https://x"}"#;
        assert_eq!(read_groups(partial), Err(BadAnswer::Partial));
        assert_eq!(read_groups(b"{}"), Err(BadAnswer::NoValue));
        for value in [r#"["system:masters"]"#, r#"["Admins"]"#, "[1]", "[[]]", "[null]"] {
            let answer = format!(r#"{{"value":{value}}}"#);
            assert_eq!(read_groups(answer.as_bytes()), Err(BadAnswer::NotAnId), "{value}");
        }
        assert!(matches!(read_groups(br#"{"value":"x"}"#), Err(BadAnswer::Field(_))));
        assert!(matches!(read_groups(b"<html>"), Err(BadAnswer::Json(_))));
        let long = vec![b' '; ANSWER_BYTES + 1];
        assert_eq!(read_groups(&long), Err(BadAnswer::TooLong(ANSWER_BYTES + 1)));
    }
}

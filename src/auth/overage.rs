//! Groups that a token leaves out because there are too many: what to ask Microsoft Graph, as whom,
//! and what it answers. Every address comes from the configuration, never from the token: a claim
//! that names an endpoint is a request forgery waiting to be made.

use std::fmt;

use serde_json::json;

use super::discovery::host;
use super::profile::is_guid;
use crate::limits::{ANSWER_BYTES, ANSWER_DEPTH, TOKEN_BYTES};
use crate::secret::Secret;
use crate::wire::json::{self, Mismatch, Object, Value};
use crate::wire::percent::{encode, is_unreserved};

/// Microsoft Graph, and who the proxy is to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Graph {
    /// Its address, such as `https://graph.microsoft.com`.
    pub address: String,
    /// The proxy's own application in the tenant, a GUID. It needs `GroupMember.Read.All`.
    pub client: String,
    /// How the proxy shows that it is that application.
    pub proof: ClientProof,
}

/// How an application shows who it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientProof {
    /// By a secret of its own (RFC 6749, 4.4).
    Secret,
    /// By another issuer's token that its registration trusts (RFC 7523), such as the one that a
    /// cluster projects into a pod: then nothing secret is kept anywhere.
    Assertion,
}

/// A question to Microsoft Graph: a POST with a bearer token of our own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupRequest {
    /// Where to.
    pub url: String,
    /// `application/json`
    pub body: Vec<u8>,
}

impl Graph {
    /// The question for the groups of the object `oid`, an application's service principal or a
    /// user. Nothing if the id is none.
    #[must_use]
    pub fn membership(&self, oid: &str, is_app: bool) -> Option<GroupRequest> {
        if !is_guid(oid) {
            return None;
        }
        let kind = if is_app { "servicePrincipals" } else { "users" };
        let address = self.address.trim_end_matches('/');
        Some(GroupRequest {
            url: format!("{address}/v1.0/{kind}/{oid}/getMemberObjects"),
            body: json!({"securityEnabledOnly": true}).to_string().into_bytes(),
        })
    }

    /// The form (`application/x-www-form-urlencoded`) that asks for a token for Microsoft Graph;
    /// `proof` is the secret or the other issuer's token.
    #[must_use]
    pub fn token_request(&self, proof: &Secret<String>) -> Secret<Vec<u8>> {
        let scope = format!("{}/.default", self.address.trim_end_matches('/'));
        let mut form = vec![
            ("grant_type", "client_credentials"),
            ("client_id", self.client.as_str()),
            ("scope", scope.as_str()),
        ];
        match self.proof {
            ClientProof::Secret => form.push(("client_secret", proof.expose())),
            ClientProof::Assertion => form.extend([
                ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                ("client_assertion", proof.expose()),
            ]),
        }
        let pairs =
            form.iter().map(|(name, value)| format!("{name}={}", encode(value, is_unreserved)));
        Secret::new(pairs.collect::<Vec<_>>().join("&").into_bytes())
    }

    /// Whether the address and the application are what they should be.
    pub(super) fn is_sound(&self) -> bool {
        host(&self.address).is_some() && !self.address.contains(['?', '#']) && is_guid(&self.client)
    }
}

/// The token in the answer to [`Graph::token_request`], and the seconds that it lives.
///
/// # Errors
/// [`BadAnswer`] if it cannot be read, or is an error.
pub fn read_token(answer: &[u8]) -> Result<(Secret<String>, u64), BadAnswer> {
    let answer = read(answer)?;
    if let Ok(Some(code)) = answer.optional_text("error") {
        return Err(BadAnswer::Refused(code.chars().take(64).collect()));
    }
    let kind = answer.text("token_type").map_err(BadAnswer::Field)?;
    let token = answer.text("access_token").map_err(BadAnswer::Field)?;
    let one_word = token.bytes().all(|byte| byte.is_ascii_graphic()) && !token.is_empty();
    if !kind.eq_ignore_ascii_case("Bearer") || !one_word || TOKEN_BYTES < token.len() {
        return Err(BadAnswer::NotAToken);
    }
    let life = answer.unsigned("expires_in").map_err(BadAnswer::Field)?;
    Ok((Secret::new(token.to_owned()), life))
}

fn read(answer: &[u8]) -> Result<Object, BadAnswer> {
    if ANSWER_BYTES < answer.len() {
        return Err(BadAnswer::TooLong(answer.len()));
    }
    json::parse_object(answer, ANSWER_DEPTH).map_err(BadAnswer::Json)
}

/// The object ids in the answer to a [`GroupRequest`].
///
/// # Errors
/// [`BadAnswer`] if it cannot be read, is an error, or holds anything but object ids.
pub fn read_groups(answer: &[u8]) -> Result<Vec<String>, BadAnswer> {
    let answer = read(answer)?;
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

/// Why an answer does not give what was asked for.
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
    /// It is no bearer token.
    NotAToken,
}

impl fmt::Display for BadAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(len) => write!(f, "answer of {len} bytes is too long"),
            Self::Json(why) => write!(f, "answer is {why}"),
            Self::Field(why) => write!(f, "answer member {why}"),
            Self::Refused(code) => write!(f, "answer is the error {code:?}"),
            Self::Partial => f.write_str("answer is not complete"),
            Self::NoValue => f.write_str("answer has no \"value\""),
            Self::NotAnId => f.write_str("answer holds what is no object id"),
            Self::NotAToken => f.write_str("answer holds no bearer token"),
        }
    }
}

impl std::error::Error for BadAnswer {}

#[cfg(test)]
mod tests {
    use super::super::testing::{GROUP, OID};
    use super::*;

    fn graph(address: &str) -> Graph {
        let (address, client) = (address.to_owned(), GROUP.to_owned());
        Graph { address, client, proof: ClientProof::Secret }
    }

    #[test]
    fn the_question_goes_to_the_configured_address_only() {
        let graph = graph("https://graph.microsoft.us/");
        let request = graph.membership(OID, false).expect("a question");
        let base = "https://graph.microsoft.us/v1.0";
        assert_eq!(request.url, format!("{base}/users/{OID}/getMemberObjects"));
        assert_eq!(request.body, br#"{"securityEnabledOnly":true}"#);
        let request = graph.membership(OID, true).expect("a question");
        assert_eq!(request.url, format!("{base}/servicePrincipals/{OID}/getMemberObjects"));
        for oid in ["", "me", "../me", "a/b", &format!("{OID}/x")] {
            assert_eq!(graph.membership(oid, false), None, "{oid}");
        }
    }

    #[test]
    fn an_address_is_https_and_an_application_is_an_id() {
        assert!(graph("https://graph.microsoft.com").is_sound());
        for address in [
            "http://graph.microsoft.com",
            "https://",
            "https://a@b",
            "graph",
            "",
            "https://g?x",
            "https://g#",
        ] {
            assert!(!graph(address).is_sound(), "{address}");
        }
        let named = Graph { client: "proxy".to_owned(), ..graph("https://graph.microsoft.com") };
        assert!(!named.is_sound());
    }

    #[test]
    fn an_application_asks_for_a_token_in_one_of_two_ways() {
        let by_secret = graph("https://graph.microsoft.com");
        let by_other = Graph { proof: ClientProof::Assertion, ..by_secret.clone() };
        let form = |graph: &Graph, proof: &str| {
            let form = graph.token_request(&Secret::new(proof.to_owned()));
            String::from_utf8(form.expose().clone()).expect("ASCII")
        };
        let start = format!(
            "grant_type=client_credentials&client_id={GROUP}&scope=https%3A%2F%2Fgraph.microsoft.com%2F.default&client_"
        );
        assert_eq!(form(&by_secret, "a&b=c+%"), format!("{start}secret=a%26b%3Dc%2B%25"));
        let kind = "urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";
        let expected = format!("{start}assertion_type={kind}&client_assertion=e.e.e");
        assert_eq!(form(&by_other, "e.e.e"), expected);
    }

    #[test]
    fn the_answer_is_a_bearer_token_with_its_life() {
        let good = br#"{"token_type":"Bearer","expires_in":3599,"ext_expires_in":3599,"access_token":"t.t.t"}"#;
        let (token, life) = read_token(good).expect("a token");
        assert_eq!((token.expose().as_str(), life), ("t.t.t", 3599));
        let refused = br#"{"error":"invalid_client","error_description":"AADSTS7000215"}"#;
        assert_eq!(read_token(refused).err(), Some(BadAnswer::Refused("invalid_client".into())));
        for (text, expected) in [
            (r#"{"token_type":"pop","expires_in":1,"access_token":"t"}"#, BadAnswer::NotAToken),
            (r#"{"token_type":"Bearer","expires_in":1,"access_token":""}"#, BadAnswer::NotAToken),
            (
                r#"{"token_type":"Bearer","expires_in":1,"access_token":"a\r\nb"}"#,
                BadAnswer::NotAToken,
            ),
        ] {
            assert_eq!(read_token(text.as_bytes()).err(), Some(expected), "{text}");
        }
        for text in [
            r#"{"token_type":"Bearer","expires_in":"3599","access_token":"t"}"#,
            r#"{"token_type":"Bearer","access_token":"t"}"#,
            r#"{"token_type":"Bearer","expires_in":1}"#,
            r#"{"expires_in":1,"access_token":"t"}"#,
        ] {
            assert!(matches!(read_token(text.as_bytes()), Err(BadAnswer::Field(_))), "{text}");
        }
        let twice =
            br#"{"token_type":"Bearer","expires_in":1,"access_token":"t","access_token":"u"}"#;
        assert!(matches!(read_token(twice), Err(BadAnswer::Json(_))));
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

//! Discovery documents (OpenID Connect Discovery 1.0): where an issuer's keys are. What a document
//! says is believed within narrow bounds: its issuer is the one that was asked for, and the keys
//! are on the same host or one that is configured.

use std::fmt;

use crate::limits::{KEY_SET_BYTES, KEY_SET_DEPTH};
use crate::wire::json::{self, Mismatch};

/// The URL of the keys, from the document that `url` gave for `issuer`. Beside the document's own
/// host they may be on one of `hosts`.
///
/// # Errors
/// [`BadDiscovery`] if the document is of another issuer, or points elsewhere.
pub fn keys_url(
    document: &[u8],
    issuer: &str,
    url: &str,
    hosts: &[String],
) -> Result<String, BadDiscovery> {
    if KEY_SET_BYTES < document.len() {
        return Err(BadDiscovery::TooLong(document.len()));
    }
    let document = json::parse_object(document, KEY_SET_DEPTH).map_err(BadDiscovery::Json)?;
    let named = document.text("issuer").map_err(BadDiscovery::Field)?;
    if named != issuer {
        return Err(BadDiscovery::Issuer(named.to_owned()));
    }
    let keys = document.text("jwks_uri").map_err(BadDiscovery::Field)?;
    let Some(keys_host) = host(keys) else {
        return Err(BadDiscovery::NotHttps(keys.to_owned()));
    };
    let same = host(url).is_some_and(|own| own == keys_host);
    if !same && !hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(&keys_host)) {
        return Err(BadDiscovery::Host(keys_host));
    }
    Ok(keys.to_owned())
}

/// The host of an `https` URL, with its port unless that is 443, in lower case. Nothing for any
/// other text, user information included.
#[must_use]
pub fn host(url: &str) -> Option<String> {
    let rest = url.strip_prefix("https://")?;
    let authority = rest.split(['/', '?', '#']).next()?.to_ascii_lowercase();
    let authority = authority.strip_suffix(":443").unwrap_or(&authority);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let printable = url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let named = !authority.is_empty() && !authority.starts_with(':');
    (named && printable && authority.bytes().all(allowed)).then(|| authority.to_owned())
}

/// Why a discovery document is not believed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BadDiscovery {
    /// It has this many bytes.
    TooLong(usize),
    /// It is not strict JSON.
    Json(json::Malformed),
    /// A member is missing or has the wrong type.
    Field(Mismatch),
    /// It is the document of this issuer.
    Issuer(String),
    /// This is where it says the keys are.
    NotHttps(String),
    /// This is the host on which it says the keys are.
    Host(String),
}

impl fmt::Display for BadDiscovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(len) => write!(f, "discovery document of {len} bytes is too long"),
            Self::Json(why) => write!(f, "discovery document is {why}"),
            Self::Field(why) => write!(f, "discovery document: {why}"),
            Self::Issuer(named) => write!(f, "discovery document is of issuer {named:?}"),
            Self::NotHttps(url) => write!(f, "keys are at {url:?}, which is no https URL"),
            Self::Host(host) => write!(f, "keys are on host {host:?}, which is not allowed"),
        }
    }
}

impl std::error::Error for BadDiscovery {}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://issuer.example/.well-known/openid-configuration";

    fn read(document: &str, hosts: &[String]) -> Result<String, BadDiscovery> {
        keys_url(document.as_bytes(), "https://issuer.example", URL, hosts)
    }

    fn document(keys: &str) -> String {
        format!(r#"{{"issuer":"https://issuer.example","jwks_uri":"{keys}","x":[1]}}"#)
    }

    #[test]
    fn keys_are_on_the_same_host_or_one_that_is_configured() {
        let same = "https://ISSUER.example:443/keys";
        assert_eq!(read(&document(same), &[]).as_deref(), Ok(same));
        let other = document("https://keys.example/jwks");
        assert_eq!(read(&other, &[]), Err(BadDiscovery::Host("keys.example".to_owned())));
        assert!(read(&other, &["Keys.example".to_owned()]).is_ok());
    }

    #[test]
    fn keys_elsewhere_are_refused_however_they_are_written() {
        for keys in [
            "http://issuer.example/keys",
            "file:///etc/passwd",
            "https://issuer.example@evil/keys",
            "https://evil\\\\@issuer.example/keys",
            "https:///keys",
            "HTTPS://issuer.example/keys",
            "https://issuer.example /keys",
            "https://:8443/",
            "",
        ] {
            let refused = read(&document(keys), &[]);
            assert!(matches!(refused, Err(BadDiscovery::NotHttps(_))), "{keys}: {refused:?}");
        }
        for keys in ["https://issuer.example.evil/", "https://issuer.example:8443/k"] {
            assert!(matches!(read(&document(keys), &[]), Err(BadDiscovery::Host(_))), "{keys}");
        }
    }

    #[test]
    fn a_document_of_another_issuer_is_refused() {
        for issuer in ["https://issuer.example/", "https://ISSUER.example", ""] {
            let text = format!(r#"{{"issuer":"{issuer}","jwks_uri":"https://issuer.example/k"}}"#);
            assert_eq!(read(&text, &[]), Err(BadDiscovery::Issuer(issuer.to_owned())));
        }
        let twice = r#"{"issuer":"https://issuer.example","issuer":"x","jwks_uri":"y"}"#;
        assert!(matches!(read(twice, &[]), Err(BadDiscovery::Json(_))));
        assert!(matches!(read("{}", &[]), Err(BadDiscovery::Field(_))));
        let long = " ".repeat(KEY_SET_BYTES + 1);
        assert_eq!(read(&long, &[]), Err(BadDiscovery::TooLong(KEY_SET_BYTES + 1)));
    }
}

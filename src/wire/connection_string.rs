//! Connection strings of Azure Relay, which relays of our own hand out as well:
//!
//! ```text
//! Endpoint=sb://{host}[:{port}]/;SharedAccessKeyName={rule};SharedAccessKey={key};EntityPath={name}
//! ```
//!
//! Pairs end with `;`, and a pair is split at its first `=`, because keys end with one. The case of
//! names does not matter, and an unknown name is an error, as it is to Microsoft's own readers.

use std::fmt;

use super::url::authority_parts;
use crate::limits::{CONNECTION_STRING_MAX, ENTITY_NAME_MAX, SAS_NAME_CHARS};
use crate::secret::Secret;

/// A connection string, read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConnectionString {
    /// The namespace: a name in lower case or an address, without brackets.
    pub host: String,
    /// 443 unless it says otherwise.
    pub port: u16,
    /// The authorization rule.
    pub rule: String,
    /// One of the rule's keys, as text.
    pub key: Secret<String>,
    /// The hybrid connection; a rule of the namespace names none.
    pub entity: Option<String>,
}

impl ConnectionString {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// [`Malformed`], which tells nothing of the key.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if text.len() > CONNECTION_STRING_MAX {
            return Err(Malformed::TooLong);
        }
        let mut found: [Option<&str>; 4] = [None; 4];
        let mut pairs = text.trim().split(';').map(str::trim).peekable();
        while let Some(pair) = pairs.next() {
            if pair.is_empty() && pairs.peek().is_none() {
                break;
            }
            let (name, value) = pair.split_once('=').ok_or(Malformed::Pair)?;
            let known = |known: &&str| known.eq_ignore_ascii_case(name.trim());
            let Some(at) = NAMES.iter().position(known) else {
                return match OTHERS.iter().find(|name| known(name)) {
                    Some(name) => Err(Malformed::NotSupported(name)),
                    None if name.trim().eq_ignore_ascii_case("OperationTimeout") => continue,
                    None => Err(Malformed::Unknown),
                };
            };
            if found[at].replace(value.trim()).is_some() {
                return Err(Malformed::Twice(NAMES[at]));
            }
        }
        let [endpoint, rule, key, entity] = found;
        let needed = |value: Option<&str>, at: usize| {
            let value = value.filter(|value| !value.is_empty());
            value.map(str::to_owned).ok_or(Malformed::Missing(NAMES[at]))
        };
        let (host, port) = endpoint_parts(&needed(endpoint, 0)?)?;
        let (rule, key) = (needed(rule, 1)?, needed(key, 2)?);
        if [&rule, &key].iter().any(|text| text.chars().count() > SAS_NAME_CHARS) {
            return Err(Malformed::TooLong);
        }
        let entity = entity.map(|entity| entity_name(entity).ok_or(Malformed::Entity));
        Ok(Self { host, port, rule, key: Secret::new(key), entity: entity.transpose()? })
    }

    /// `host[:port]`, as a `Host` field has it.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        if self.port == 443 { host } else { format!("{host}:{}", self.port) }
    }
}

fn endpoint_parts(endpoint: &str) -> Result<(String, u16), Malformed> {
    let (scheme, rest) = endpoint.split_once("://").ok_or(Malformed::Endpoint)?;
    if !["sb", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err(Malformed::Endpoint);
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = authority_parts(authority).map_err(|_| Malformed::Endpoint)?;
    Ok((host, port.unwrap_or(443)))
}

/// A name that can stand in a path as it is.
fn entity_name(name: &str) -> Option<String> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~$()!*'@:".contains(&byte);
    let segment =
        |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(letter);
    let good = name.len() <= ENTITY_NAME_MAX && name.split('/').all(segment);
    good.then(|| name.to_owned())
}

const NAMES: [&str; 4] = ["Endpoint", "SharedAccessKeyName", "SharedAccessKey", "EntityPath"];

/// What only Azure's own SDKs can do something with.
const OTHERS: [&str; 2] = ["SharedAccessSignature", "Authentication"];

/// Why a text is no connection string.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Malformed {
    /// Longer than any.
    TooLong,
    /// A pair without `=`.
    Pair,
    /// A name that no connection string has.
    Unknown,
    /// This name stands for what is not done here.
    NotSupported(&'static str),
    /// This name is there twice.
    Twice(&'static str),
    /// This name is not there, or has no value.
    Missing(&'static str),
    /// Not `sb://host[:port]/`.
    Endpoint,
    /// No name of a hybrid connection.
    Entity,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a connection string: ")?;
        match self {
            Self::TooLong => f.write_str("it is too long"),
            Self::Pair => f.write_str("a part of it has no ="),
            Self::Unknown => f.write_str("a part of it has a name that none has"),
            Self::NotSupported(name) => {
                write!(f, "{name} is not taken, but SharedAccessKeyName and SharedAccessKey are")
            }
            Self::Twice(name) => write!(f, "{name} is there twice"),
            Self::Missing(name) => write!(f, "{name} is missing"),
            Self::Endpoint => f.write_str("Endpoint is not sb://HOST/"),
            Self::Entity => f.write_str("EntityPath is not the name of a hybrid connection"),
        }
    }
}

impl std::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "cm9vdC1wcmltYXJ5LWtleS1mb3ItdGhlLWxhYi1zdHViMDE=";

    fn text(more: &str) -> String {
        format!(
            "Endpoint=sb://contoso.servicebus.windows.net/;SharedAccessKeyName=agent;\
             SharedAccessKey={KEY}{more}"
        )
    }

    #[test]
    fn the_strings_of_azure_are_read() {
        let read = ConnectionString::parse(&text(";EntityPath=clusters/edge-7")).unwrap();
        assert_eq!((read.host.as_str(), read.port), ("contoso.servicebus.windows.net", 443));
        assert_eq!((read.rule.as_str(), read.key.expose().as_str()), ("agent", KEY));
        assert_eq!(read.entity.as_deref(), Some("clusters/edge-7"));
        assert_eq!(read.authority(), "contoso.servicebus.windows.net");
        assert!(!format!("{read:?}").contains("cm9v"));

        let of_namespace = ConnectionString::parse(&text(";OperationTimeout=00:01:00;\n")).unwrap();
        assert_eq!(of_namespace.entity, None);
        let loose = "endpoint=SB://[::1]:8443;sharedaccesskeyname=a ; SHAREDACCESSKEY=k==;";
        let loose = ConnectionString::parse(loose).unwrap();
        assert_eq!(
            (loose.authority().as_str(), loose.key.expose().as_str()),
            ("[::1]:8443", "k==")
        );
    }

    #[test]
    fn every_malformation_has_its_name() {
        let long = "n".repeat(ENTITY_NAME_MAX + 1);
        let huge = "n".repeat(CONNECTION_STRING_MAX);
        let wide = "n".repeat(SAS_NAME_CHARS + 1);
        let cases = [
            (String::new(), Malformed::Missing("Endpoint")),
            ("https://relay.example".to_owned(), Malformed::Pair),
            (text(";;EntityPath=a"), Malformed::Pair),
            (text(";Surprise=1"), Malformed::Unknown),
            (text(";SharedAccessSignature=x"), Malformed::NotSupported("SharedAccessSignature")),
            (text(";Authentication=Managed Identity"), Malformed::NotSupported("Authentication")),
            (text(";endpoint=sb://evil.example/"), Malformed::Twice("Endpoint")),
            (text(";EntityPath=a;EntityPath=b"), Malformed::Twice("EntityPath")),
            (text("").replace("KeyName=agent", "KeyName="), Malformed::Missing(NAMES[1])),
            (text("").replace(KEY, ""), Malformed::Missing(NAMES[2])),
            (text("").replace("sb://", ""), Malformed::Endpoint),
            (text("").replace("sb://", "ftp://"), Malformed::Endpoint),
            (text("").replace("sb://", "sb://user@"), Malformed::Endpoint),
            (text("").replace(".net/", ".net/path"), Malformed::Endpoint),
            (text("").replace(".net/", ".net:0/"), Malformed::Endpoint),
            (text("").replace("contoso", "con toso"), Malformed::Endpoint),
            (text(";EntityPath="), Malformed::Entity),
            (text(";EntityPath=a//b"), Malformed::Entity),
            (text(";EntityPath=../b"), Malformed::Entity),
            (text(";EntityPath=a?b"), Malformed::Entity),
            (text(";EntityPath=a b"), Malformed::Entity),
            (text(";EntityPath=a\r\nX: y"), Malformed::Entity),
            (text(&format!(";EntityPath={long}")), Malformed::Entity),
            (text("").replace("agent", &wide), Malformed::TooLong),
            (text(&huge), Malformed::TooLong),
        ];
        for (text, expected) in cases {
            let why = ConnectionString::parse(&text).unwrap_err();
            assert_eq!(why, expected, "{text}");
            assert!(!why.to_string().contains("cm9v"));
        }
    }
}

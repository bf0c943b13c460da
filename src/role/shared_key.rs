//! A right at one hybrid connection, by the key of an authorization rule: what a connection string
//! gives, of Azure Relay or of a relay of our own. Tokens are made here; no API stands behind them.

use std::fmt;
use std::path::PathBuf;

use super::{Job, Outcome};
use crate::auth::sas;
use crate::limits::{CONNECTION_STRING_MAX, TOKEN_LIFE};
use crate::secret::Secret;
use crate::wire::connection_string::{ConnectionString, Malformed};
use crate::wire::url::authority_parts;

/// An authorization rule and its key.
#[derive(Clone, Debug)]
pub struct SharedKey {
    /// `host[:port]` of the namespace.
    pub relay: String,
    /// The hybrid connection.
    pub entity: String,
    /// The rule's name.
    pub rule: String,
    /// The key, as the text it is handed out as.
    pub key: Secret<String>,
    /// The file that this came from. It is read again for each token, so that a key that was made
    /// anew needs no restart.
    pub file: Option<PathBuf>,
}

/// Why a connection string gives no right at a hybrid connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unusable {
    /// It is none.
    Malformed(Malformed),
    /// It is for a whole namespace.
    NoEntity,
}

impl SharedKey {
    /// Reads a connection string.
    ///
    /// # Errors
    ///
    /// [`Unusable`]
    pub fn parse(text: &str) -> Result<Self, Unusable> {
        let read = ConnectionString::parse(text).map_err(Unusable::Malformed)?;
        let relay = read.authority();
        let ConnectionString { rule, key, entity, .. } = read;
        Ok(Self { relay, entity: entity.ok_or(Unusable::NoEntity)?, rule, key, file: None })
    }

    /// The job that reads it again, where it is in a file.
    #[must_use]
    pub fn look(&self) -> Option<Job> {
        self.file.clone().map(|path| Job::Read { path, limit: CONNECTION_STRING_MAX })
    }

    /// Takes what [`Self::look`] has found. What cannot be used leaves everything as it was.
    ///
    /// # Errors
    ///
    /// Why it cannot be used, which tells nothing of the key.
    pub fn take(&mut self, outcome: Outcome) -> Result<(), String> {
        let Outcome::Read(read) = outcome else { return Err("it was not read".to_owned()) };
        let bytes = read?;
        let text = std::str::from_utf8(bytes.expose()).map_err(|_| "it is not text")?;
        let read = Self::parse(text).map_err(|why| why.to_string())?;
        *self = Self { file: self.file.take(), ..read };
        Ok(())
    }

    /// Host and port of the namespace.
    #[must_use]
    pub fn place(&self) -> (String, u16) {
        let parts = authority_parts(&self.relay).ok();
        parts.map_or_else(|| (self.relay.clone(), 443), |(host, port)| (host, port.unwrap_or(443)))
    }

    /// A fresh token, and when it ends, in seconds since 1970.
    #[must_use]
    pub fn mint(&self, unix_now: u64) -> (Secret<String>, u64) {
        let expires = unix_now.saturating_add(TOKEN_LIFE.as_secs());
        let (host, _) = self.place();
        let resource = format!("http://{host}/{}", self.entity);
        (Secret::new(sas::mint(&resource, &self.rule, &self.key, expires)), expires)
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => why.fmt(f),
            Self::NoEntity => f.write_str("the connection string has no EntityPath"),
        }
    }
}

impl std::error::Error for Unusable {}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(key: &str) -> String {
        format!("Endpoint=sb://n.example/;SharedAccessKeyName=r;SharedAccessKey={key};EntityPath=e")
    }

    #[test]
    fn a_new_key_in_the_file_is_taken_and_rubbish_is_not() {
        let file = Some(PathBuf::from("/c"));
        let mut key = SharedKey { file, ..SharedKey::parse(&text("old")).unwrap() };
        assert!(matches!(key.look(), Some(Job::Read { .. })));
        let found = |text: &str| Outcome::Read(Ok(Secret::new(text.as_bytes().to_vec())));
        assert_eq!(key.take(found(&text("new"))), Ok(()));
        assert_eq!((key.key.expose().as_str(), key.file.is_some()), ("new", true));
        let foreign = text("s3cret").replace(";EntityPath=e", "");
        for outcome in [found(""), found(&foreign), Outcome::Read(Err("no such file".into()))] {
            let why = key.take(outcome).unwrap_err();
            assert!(!why.contains("s3cret"), "{why}");
            assert_eq!(key.key.expose(), "new");
        }
        assert!(SharedKey::parse(&text("k")).unwrap().look().is_none());
    }
}

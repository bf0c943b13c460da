//! A right at one hybrid connection, by the key of an authorization rule: what a connection string
//! gives, of Azure Relay or of a relay of our own. Tokens are made here; no API stands behind them.

use std::fmt;

use crate::auth::sas;
use crate::limits::TOKEN_LIFE;
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
        Ok(Self { relay, entity: entity.ok_or(Unusable::NoEntity)?, rule, key })
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

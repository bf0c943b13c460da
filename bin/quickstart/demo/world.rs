//! All that outlives a connection.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::audit::Audit;
use super::forward::Services;
use super::logs::Logs;
use super::pods::Pods;
use super::store::Store;
use super::tls::Authority;
use super::token::Tokens;

/// The cluster that the server pretends to be.
pub(crate) struct World {
    pub(crate) authority: Authority,
    pub(crate) tokens: Tokens,
    pub(crate) store: Store,
    pub(crate) logs: Logs,
    pub(crate) pods: Pods,
    pub(crate) audit: Audit,
    pub(crate) services: Services,
    /// What each field manager applied last, by object; server-side apply removes what it left out.
    pub(crate) applied: Mutex<BTreeMap<String, serde_json::Value>>,
}

impl World {
    pub(crate) fn new(sink: Option<Box<dyn io::Write + Send>>) -> io::Result<Self> {
        Ok(Self {
            authority: Authority::new()?,
            tokens: Tokens::new()?,
            store: Store::default(),
            logs: Logs::default(),
            pods: Pods::new()?,
            audit: Audit::new(sink),
            services: Services::shared()?,
            applied: Mutex::default(),
        })
    }

    /// Seconds since the epoch.
    pub(crate) fn now(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}

/// The present as the API writes it.
pub(crate) fn now_text() -> String {
    text_of(OffsetDateTime::now_utc())
}

/// A moment as the API writes it.
pub(crate) fn moment_text(unix: u64) -> String {
    let unix = i64::try_from(unix).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(unix).map_or_else(|_| String::new(), text_of)
}

/// Seconds since a moment as the API writes it.
pub(crate) fn age_seconds(text: &str) -> i64 {
    OffsetDateTime::parse(text, &Rfc3339)
        .map_or(0, |then| (OffsetDateTime::now_utc() - then).whole_seconds())
}

/// The address as audit and the kubeconfig print it.
pub(crate) fn url(addr: SocketAddr) -> String {
    format!("https://{addr}")
}

fn text_of(moment: OffsetDateTime) -> String {
    moment.replace_nanosecond(0).unwrap_or(moment).format(&Rfc3339).unwrap_or_default()
}

//! What the relay writes down of who got what: one JSON line for each grant, revocation, credential,
//! enrolment, join token and refusal. Never a secret; of a join token the first digits of its hash.

use std::net::IpAddr;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::role::{Net, Unrecorded};

/// One thing that was done or refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// What was asked for: `grant`, `revoke`, `credential`, `enroll`, ...
    pub event: &'static str,
    /// The code of the refusal; `None` if it was done.
    pub refused: Option<&'static str>,
    /// Who asked.
    pub who: Who,
    /// From where, as far as the socket can tell.
    pub peer: Option<IpAddr>,
    /// The cluster or hybrid connection.
    pub resource: String,
    /// Whatever else makes the line useful.
    pub detail: Vec<(&'static str, String)>,
}

/// Who asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Who {
    /// Somebody who has not said, or could not prove it.
    Nobody,
    /// Whoever has the admin token.
    Operator,
    /// The agent of the cluster, by its key.
    Agent,
    /// A principal.
    User {
        /// The issuer of its token.
        issuer: String,
        /// Its subject.
        subject: String,
        /// Its name.
        name: String,
    },
}

impl Entry {
    /// The line, without an end of line.
    pub fn line(&self, unix_now: u64) -> String {
        let who = match &self.who {
            Who::Nobody => json!({"kind": "nobody"}),
            Who::Operator => json!({"kind": "operator"}),
            Who::Agent => json!({"kind": "agent"}),
            Who::User { issuer, subject, name } => {
                json!({"kind": "user", "issuer": issuer, "subject": subject, "name": name})
            }
        };
        let mut line = Map::new();
        line.insert("time".into(), rfc3339(unix_now).into());
        line.insert("event".into(), self.event.into());
        let outcome = if self.refused.is_none() { "done" } else { "refused" };
        line.insert("outcome".into(), outcome.into());
        if let Some(code) = self.refused {
            line.insert("code".into(), code.into());
        }
        line.insert("caller".into(), who);
        if let Some(peer) = self.peer {
            line.insert("peer".into(), peer.to_string().into());
        }
        line.insert("resource".into(), self.resource.clone().into());
        for (name, value) in &self.detail {
            line.insert((*name).to_owned(), value.clone().into());
        }
        Value::Object(line).to_string()
    }
}

/// Writes all entries.
///
/// # Errors
///
/// [`Unrecorded`]: then what they tell of must not be done, or not be answered.
pub fn record(entries: &[Entry], net: &mut dyn Net) -> Result<(), Unrecorded> {
    let unix_now = net.unix_time();
    entries.iter().try_for_each(|entry| net.record(&entry.line(unix_now)))
}

/// A Unix time as people and Azure write it: `2026-11-23T12:03:00Z`.
pub fn rfc3339(unix: u64) -> String {
    let time = i64::try_from(unix).ok();
    let time = time.and_then(|unix| OffsetDateTime::from_unix_timestamp(unix).ok());
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_line_whatever_a_name_holds() {
        let name = "eve\n{\"event\":\"grant\"}\u{2028}".to_owned();
        let (issuer, subject) = ("https://a".to_owned(), "7".to_owned());
        let entry = Entry {
            event: "grant",
            refused: Some("AuthorizationFailed"),
            who: Who::User { issuer, subject, name: name.clone() },
            peer: Some([10, 0, 0, 4].into()),
            resource: "edge-7".into(),
            detail: vec![("user", "bob".into())],
        };
        let line = entry.line(1_795_435_380);
        assert!(!line.contains('\n'));
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["time"], "2026-11-23T12:03:00Z");
        assert_eq!(read["caller"]["name"], name);
        assert_eq!((&read["outcome"], &read["user"]), (&json!("refused"), &json!("bob")));
    }

    #[test]
    fn a_time_beyond_all_calendars_is_no_panic() {
        assert_eq!(rfc3339(u64::MAX), "");
    }
}

//! What an operator's command found or did, as a table or as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use super::{Name, Whom};
use crate::auth::certify::Fingerprint;
use crate::wire::json::{Object, Value};

/// The result of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// It is done, as a sentence.
    Done(String),
    /// Somebody was let in.
    Granted {
        /// To this cluster.
        cluster: String,
        /// As the relay calls them.
        name: String,
        /// As they were named.
        whom: Whom,
    },
    /// A new join token.
    JoinToken {
        /// For this cluster.
        cluster: String,
        /// The token: the one thing on standard output that is secret.
        token: String,
        /// When it ends, in seconds since 1970.
        expires: u64,
    },
    /// One cluster.
    Cluster {
        /// As the API shows it.
        cluster: Object,
        /// Who may reach it; unknown to whoever is no operator.
        grants: Option<Vec<Value>>,
    },
    /// Several clusters.
    Clusters(Vec<Object>),
}

impl Report {
    /// For people: what goes to standard output, and what to say beside it.
    #[must_use]
    pub fn table(&self) -> (String, Option<String>) {
        match self {
            Self::Done(what) => (String::new(), Some(what.clone())),
            Self::Granted { cluster, name, whom } => {
                let said = format!("{name} may reach {cluster}; what they may do there is RBAC:");
                let (option, subject) = match &whom.name {
                    Name::User(_) | Name::Subject(_) => ("--user", name),
                    Name::Group(_) => ("--group", name),
                };
                let hint = format!(
                    "kubectl create clusterrolebinding NAME --clusterrole view {option} {subject}"
                );
                (String::new(), Some(format!("{said}\n  {hint}")))
            }
            Self::JoinToken { cluster, token, expires } => {
                let said = format!(
                    "this token lets one agent join as {cluster}, once, until {}",
                    moment(*expires)
                );
                (format!("{token}\n"), Some(said))
            }
            Self::Cluster { cluster, grants } => (one(cluster, grants.as_deref()), None),
            Self::Clusters(all) if all.is_empty() => {
                (String::new(), Some("no clusters".to_owned()))
            }
            Self::Clusters(all) => {
                let head = ["NAME", "GROUP", "STATUS", "LAST SEEN", "VERSION"].map(str::to_owned);
                let rows = all.iter().map(row);
                (columns(std::iter::once(head).chain(rows).collect()), None)
            }
        }
    }

    /// For scripts.
    #[must_use]
    pub fn json(&self) -> String {
        let json = match self {
            Self::Done(what) => json!({"message": what}),
            Self::Granted { cluster, name, .. } => json!({"cluster": cluster, "name": name}),
            Self::JoinToken { cluster, token, expires } => {
                json!({"cluster": cluster, "joinToken": token, "expirationTime": expires})
            }
            Self::Cluster { cluster, grants } => {
                let mut shown = plain_object(cluster);
                if let (Json::Object(fields), Some(grants)) = (&mut shown, grants) {
                    let grants = grants.iter().map(plain).collect();
                    fields.insert("roleAssignments".to_owned(), Json::Array(grants));
                    if let Some(print) = fingerprint(cluster) {
                        fields.insert("caFingerprint".to_owned(), Json::String(print));
                    }
                }
                shown
            }
            Self::Clusters(all) => {
                json!({"value": all.iter().map(plain_object).collect::<Vec<_>>()})
            }
        };
        format!("{json:#}\n")
    }
}

fn one(cluster: &Object, grants: Option<&[Value]>) -> String {
    let [name, group, status, seen, version] = row(cluster);
    let print = fingerprint(cluster).unwrap_or_else(|| "none yet: no agent has joined".to_owned());
    let mut rows = vec![
        ["name:".to_owned(), name],
        ["group:".to_owned(), group],
        ["id:".to_owned(), field(cluster, "id")],
        ["status:".to_owned(), status],
        ["last seen:".to_owned(), seen],
        ["version:".to_owned(), version],
        ["CA fingerprint:".to_owned(), print],
    ];
    if grants.is_some_and(<[Value]>::is_empty) {
        rows.push(["may reach it:".to_owned(), "nobody".to_owned()]);
    }
    for (at, grant) in grants.unwrap_or_default().iter().filter_map(Value::as_object).enumerate() {
        let label = if at == 0 { "may reach it:" } else { "" };
        let (kind, name) = (field(grant, "kind"), field(grant, "displayName"));
        let (subject, issuer) = (field(grant, "subject"), field(grant, "issuer"));
        rows.push([label.to_owned(), format!("{kind} {name} ({subject} of {issuer})")]);
    }
    columns(rows)
}

fn row(cluster: &Object) -> [String; 5] {
    let id = field(cluster, "id");
    let mut segments = id.split('/');
    let group = segments.find(|it| it.eq_ignore_ascii_case("resourceGroups"));
    let group = group.and_then(|_| segments.next()).unwrap_or("-").to_owned();
    let properties = cluster.get("properties").and_then(Value::as_object);
    let property = |key: &str| properties.map_or_else(|| "-".to_owned(), |it| field(it, key));
    let name = field(cluster, "name");
    [
        name,
        group,
        property("connectivityStatus"),
        property("lastConnectivityTime"),
        property("kubernetesVersion"),
    ]
}

/// The text of a field, fit for a terminal: the relay is not trusted with control characters.
pub(super) fn field(object: &Object, key: &str) -> String {
    let text = object.get(key).and_then(Value::as_text).unwrap_or_default();
    let text: String = text.chars().filter(|c| !c.is_control()).take(FIELD_MAX).collect();
    if text.is_empty() { "-".to_owned() } else { text }
}

const FIELD_MAX: usize = 300;

fn fingerprint(cluster: &Object) -> Option<String> {
    let properties = cluster.get("properties")?.as_object()?;
    let text = properties.get("agentPublicKeyCertificate")?.as_text()?;
    let der = STANDARD.decode(text).ok().filter(|der| !der.is_empty())?;
    Some(Fingerprint::of(&der).to_string())
}

pub(super) fn columns<const N: usize>(rows: Vec<[String; N]>) -> String {
    let width =
        |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|it| it.chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|at| width(at).unwrap_or_default()).collect();
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn moment(unix: u64) -> String {
    use time::format_description::well_known::Rfc3339;
    let seconds = i64::try_from(unix).unwrap_or_default();
    let moment = time::OffsetDateTime::from_unix_timestamp(seconds).ok();
    moment.and_then(|it| it.format(&Rfc3339).ok()).unwrap_or_else(|| unix.to_string())
}

pub(super) fn plain_object(object: &Object) -> Json {
    Json::Object(object.iter().map(|(key, value)| (key.to_owned(), plain(value))).collect())
}

pub(super) fn plain(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(flag) => json!(flag),
        Value::Unsigned(number) => json!(number),
        Value::Negative(number) => json!(number),
        Value::Float(number) => json!(number),
        Value::Text(text) => json!(text),
        Value::Array(items) => Json::Array(items.iter().map(plain).collect()),
        Value::Object(object) => plain_object(object),
    }
}

//! The operator's commands: what the relay knows of clusters and of who may reach them.
//!
//! Each is one or two calls of the connected-clusters API; what comes back is a [`Report`], which
//! prints as a table or as JSON.

mod client;
pub mod hybrid;
mod report;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::limits::OPERATOR_PAGES_MAX;
use crate::wire::json::{self, Object, Value};
use crate::wire::resource::ResourceId;

pub use client::{Failure, Relay};
pub use report::Report;

/// What to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Make a cluster known, and ask for a join token unless told not to.
    Add {
        /// Which.
        cluster: ResourceId,
        /// For people and policies.
        tags: BTreeMap<String, String>,
        /// How long the join token lasts.
        join: Option<Duration>,
    },
    /// Everything about a cluster.
    Show(ResourceId),
    /// The clusters of a subscription, or of one resource group.
    List {
        /// The subscription.
        subscription: String,
        /// The group.
        group: Option<String>,
    },
    /// Let somebody fetch credentials.
    Grant(ResourceId, Whom),
    /// Let somebody no longer.
    Revoke(ResourceId, Whom),
    /// Ask for another join token.
    JoinToken(ResourceId, Duration),
    /// Forget a cluster; its agent is cut off.
    Remove(ResourceId),
}

/// Somebody, as an operator names them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Whom {
    /// How they are named.
    pub name: Name,
    /// Whose tokens they have; needed where the relay takes those of several.
    pub issuer: Option<String>,
}

/// How somebody is named.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Name {
    /// By the user name or e-mail address, which the relay looks up now and binds to the subject.
    User(String),
    /// By a group's object id or name.
    Group(String),
    /// By the subject itself.
    Subject(String),
}

/// Does what is asked.
///
/// # Errors
///
/// [`Failure`]
pub fn run(relay: &Relay, action: &Action) -> Result<Report, Failure> {
    match action {
        Action::Add { cluster, tags, join } => {
            let body = json!({
                "location": "", "tags": tags, "identity": {"type": "None"},
                "properties": {"agentPublicKeyCertificate": ""},
            });
            relay.call("PUT", &cluster.id(), Some(&body))?;
            match join {
                Some(life) => join_token(relay, cluster, *life),
                None => Ok(Report::Done(format!("{} is added", cluster.name()))),
            }
        }
        Action::Show(cluster) => show(relay, cluster),
        Action::List { subscription, group } => list(relay, subscription, group.as_deref()),
        Action::Grant(cluster, whom) => {
            let answer = relay.call("POST", &action_path(cluster, "grant"), Some(&whom.body()))?;
            let name = object(answer)?;
            let shown = name.optional_text("displayName").ok().flatten();
            let shown = shown.unwrap_or(whom.name.as_str()).to_owned();
            Ok(Report::Granted {
                cluster: cluster.name().to_owned(),
                name: shown,
                whom: whom.clone(),
            })
        }
        Action::Revoke(cluster, whom) => {
            relay.call("POST", &action_path(cluster, "revoke"), Some(&whom.body()))?;
            let (name, cluster) = (whom.name.as_str(), cluster.name());
            Ok(Report::Done(format!("{name} may no longer reach {cluster}")))
        }
        Action::JoinToken(cluster, life) => join_token(relay, cluster, *life),
        Action::Remove(cluster) => {
            relay.call("DELETE", &cluster.id(), None)?;
            Ok(Report::Done(format!("{} is removed", cluster.name())))
        }
    }
}

fn join_token(relay: &Relay, cluster: &ResourceId, life: Duration) -> Result<Report, Failure> {
    let path = action_path(cluster, "createJoinToken");
    let answer =
        object(relay.call("POST", &path, Some(&json!({"expiresInSeconds": life.as_secs()})))?)?;
    let token = answer.text("joinToken").map_err(Failure::shape)?;
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::Answer("the join token is not one".to_owned()));
    }
    let expires = answer.unsigned("expirationTime").map_err(Failure::shape)?;
    Ok(Report::JoinToken { cluster: cluster.name().to_owned(), token: token.to_owned(), expires })
}

fn show(relay: &Relay, cluster: &ResourceId) -> Result<Report, Failure> {
    let answer = relay.call("GET", &cluster.id(), None)?;
    // Whoever is no operator sees the cluster, and not who else does.
    let grants = match relay.call("GET", &action_path(cluster, "roleAssignments"), None) {
        Ok(Value::Object(grants)) => Some(
            grants.optional_array("value").map_err(Failure::shape)?.unwrap_or_default().to_vec(),
        ),
        Ok(_) => return Err(Failure::Answer("role assignments are no object".to_owned())),
        Err(Failure::Refused(_)) => None,
        Err(other) => return Err(other),
    };
    Ok(Report::Cluster { cluster: object(answer)?, grants })
}

fn list(relay: &Relay, subscription: &str, group: Option<&str>) -> Result<Report, Failure> {
    let group = group.map(|group| format!("/resourceGroups/{group}")).unwrap_or_default();
    let path = format!(
        "/subscriptions/{subscription}{group}/providers/{}",
        crate::wire::resource::CLUSTER_TYPE
    );
    let mut all = Vec::new();
    let mut next = path.clone();
    for _ in 0..OPERATOR_PAGES_MAX {
        let answer = object(relay.call("GET", &next, None)?)?;
        let page = answer.optional_array("value").map_err(Failure::shape)?.unwrap_or_default();
        for value in page {
            match value {
                Value::Object(cluster) => all.push(cluster.clone()),
                other => return Err(Failure::Answer(format!("a cluster is {}", other.kind()))),
            }
        }
        let Some(link) = answer.optional_text("nextLink").map_err(Failure::shape)? else {
            return Ok(Report::Clusters(all));
        };
        // Wherever the link points to, the token goes to this relay alone.
        let token = link.rsplit_once("skipToken=").map(|(_, token)| token);
        let sane =
            |token: &&str| token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        let token = token.filter(sane).ok_or_else(|| Failure::shape("nextLink is not one"))?;
        next = format!("{path}?%24skipToken={token}");
    }
    Err(Failure::Answer("the list has no end".to_owned()))
}

fn object(answer: Value) -> Result<Object, Failure> {
    match answer {
        Value::Object(object) => Ok(object),
        other => Err(Failure::Answer(format!("{} where an object belongs", other.kind()))),
    }
}

fn action_path(cluster: &ResourceId, action: &str) -> String {
    format!("{}/{action}", cluster.id())
}

impl Whom {
    fn body(&self) -> Json {
        let key = match &self.name {
            Name::User(_) => "user",
            Name::Group(_) => "group",
            Name::Subject(_) => "subject",
        };
        match &self.issuer {
            Some(issuer) => json!({key: self.name.as_str(), "issuer": issuer}),
            None => json!({key: self.name.as_str()}),
        }
    }
}

impl Name {
    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::User(name) | Self::Group(name) | Self::Subject(name) => name,
        }
    }
}

/// Nested objects and lists of an answer.
const DEPTH: usize = 16;

fn parse(body: &[u8]) -> Result<Value, Failure> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    json::parse(body, DEPTH).map_err(|why| Failure::Answer(why.to_string()))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

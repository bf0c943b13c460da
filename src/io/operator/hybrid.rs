//! The operator's commands for hybrid connections that belong to no cluster: what SDKs of Azure
//! Relay use. Each is one or two calls of the API in Azure's shapes; the namespace has any name.

use std::time::Duration;

use ring::digest::{SHA256, digest};
use serde_json::{Map, Value as Json, json};

use super::report::{columns, field, plain, plain_object};
use super::{Failure, Name, Relay, Whom, object};
use crate::auth::network::Mask;
use crate::auth::roles::Role;
use crate::wire::arm::{Kind, Refusal};
use crate::wire::json::{Object, Value};
use crate::wire::resource::hex;

/// What to do. Where a hybrid connection is `None`, the namespace as a whole is meant.
#[derive(Clone, Debug)]
pub enum Action {
    /// Make a hybrid connection, or change what is said of it.
    Put(String, Wish),
    /// All of them.
    List,
    /// Everything about one: its rules and role assignments, too.
    Show(String),
    /// Remove one, and close what is open there.
    Remove(String),
    /// Make a rule, or change its rights.
    PutRule(Option<String>, String, Vec<&'static str>),
    /// Remove a rule.
    RemoveRule(Option<String>, String),
    /// The keys of a rule, one of them renewed if so wished.
    Keys(Option<String>, String, Option<Key>),
    /// Let somebody listen or send with a token of their own.
    Grant(Option<String>, Role, Whom),
    /// Let them no longer, and close what they have open.
    Revoke(Option<String>, Role, Whom),
    /// From where anybody may come.
    Network(Option<Network>),
}

/// How a hybrid connection is to be; what is `None` stays as it is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Wish {
    /// Senders need a token.
    pub client_authorization: Option<bool>,
    /// HTTP requests are relayed.
    pub http: Option<bool>,
    /// Opaque to the relay.
    pub metadata: Option<String>,
    /// How long a listener has to accept.
    pub accept: Option<Duration>,
    /// How long a listener has to respond.
    pub response: Option<Duration>,
    /// How long a body may pause.
    pub body_gap: Option<Duration>,
}

/// One of the two keys of a rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Key {
    /// The first.
    Primary,
    /// The second.
    Secondary,
}

/// From where anybody may come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Network {
    /// By the network at all; `None` stays as it is.
    pub public: Option<bool>,
    /// From addresses that are not named.
    pub others: bool,
    /// From these.
    pub masks: Vec<Mask>,
}

/// What was found or done.
#[derive(Clone, Debug)]
pub enum Found {
    /// It is done, as a sentence.
    Done(String),
    /// One hybrid connection, its rules, and who may use it.
    Entity(Object, Vec<Object>, Vec<Object>),
    /// Several hybrid connections.
    Entities(Vec<Object>),
    /// The keys of a rule.
    Keys(Object),
    /// The network rules.
    Network(Object),
}

/// Does what is asked.
///
/// # Errors
///
/// [`Failure`]
pub fn run(relay: &Relay, action: &Action) -> Result<Found, Failure> {
    match action {
        Action::Put(name, wish) => {
            relay.call("PUT", &place(Some(name)), Some(&wish.body()))?;
            Ok(Found::Done(format!("{name} is there")))
        }
        Action::List => list(relay, &format!("{NAMESPACE}/hybridConnections")).map(Found::Entities),
        Action::Show(name) => {
            let at = place(Some(name));
            let entity = object(relay.call("GET", &at, None)?)?;
            let rules = list(relay, &format!("{at}/authorizationRules"))?;
            Ok(Found::Entity(entity, rules, list(relay, &format!("{at}/{ASSIGNMENTS}"))?))
        }
        Action::Remove(name) => {
            relay.call("DELETE", &place(Some(name)), None)?;
            Ok(Found::Done(format!("{name} is removed")))
        }
        Action::PutRule(at, rule, rights) => {
            let body = json!({"properties": {"rights": rights}});
            relay.call("PUT", &rule_path(at.as_deref(), rule), Some(&body))?;
            Ok(Found::Done(format!("{rule} may {}", rights.join(", "))))
        }
        Action::RemoveRule(at, rule) => {
            relay.call("DELETE", &rule_path(at.as_deref(), rule), None)?;
            Ok(Found::Done(format!("{rule} is removed: its keys are worth nothing")))
        }
        Action::Keys(at, rule, renew) => {
            let path = rule_path(at.as_deref(), rule);
            let answer = match renew {
                None => relay.call("POST", &format!("{path}/listKeys"), None)?,
                Some(key) => {
                    let word = match key {
                        Key::Primary => "PrimaryKey",
                        Key::Secondary => "SecondaryKey",
                    };
                    let body = json!({"keyType": word});
                    relay.call("POST", &format!("{path}/regenerateKeys"), Some(&body))?
                }
            };
            Ok(Found::Keys(object(answer)?))
        }
        Action::Grant(at, role, whom) => grant(relay, at.as_deref(), *role, whom),
        Action::Revoke(at, role, whom) => revoke(relay, at.as_deref(), *role, whom),
        Action::Network(wish) => {
            let path = format!("{NAMESPACE}/networkRuleSets/default");
            let answer = match wish {
                None => relay.call("GET", &path, None)?,
                Some(wish) => relay.call("PUT", &path, Some(&wish.body()))?,
            };
            Ok(Found::Network(object(answer)?))
        }
    }
}

/// The name of the assignment follows from what it says, so that to grant twice grants once.
fn grant(relay: &Relay, at: Option<&str>, role: Role, whom: &Whom) -> Result<Found, Failure> {
    let (principal, kind) = principal(whom);
    let issuer = whom.issuer.as_deref().unwrap_or_default();
    let text = [at.unwrap_or_default(), role.id(), kind, issuer, principal].join("\n");
    let name = hex(digest(&SHA256, text.as_bytes()).as_ref());
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32];
    let name = parts.map(|part| name.get(part).unwrap_or_default()).join("-");
    let mut properties = Map::new();
    properties.insert("roleDefinitionId".to_owned(), role.id().into());
    properties.insert("principalId".to_owned(), principal.into());
    properties.insert("principalType".to_owned(), kind.into());
    properties
        .extend(whom.issuer.iter().map(|issuer| ("issuer".to_owned(), issuer.clone().into())));
    let body = json!({"properties": properties});
    match relay.call("PUT", &format!("{}/{ASSIGNMENTS}/{name}", place(at)), Some(&body)) {
        Ok(_) => {}
        Err(Failure::Refused(refusal)) if refusal.code == "RoleAssignmentExists" => {}
        Err(other) => return Err(other),
    }
    Ok(Found::Done(format!("{principal} is {} at {}", role.name(), said(at))))
}

fn revoke(relay: &Relay, at: Option<&str>, role: Role, whom: &Whom) -> Result<Found, Failure> {
    let (principal, kind) = principal(whom);
    let scope = place(at);
    let all = list(relay, &format!("{scope}/{ASSIGNMENTS}"))?;
    let is_meant = |of: &Object| {
        let has = |key: &str, value: &str| field(of, key).eq_ignore_ascii_case(value);
        let is_group = has("principalType", "Group");
        // What holds for the whole namespace is listed at each hybrid connection, too.
        let is_own = at.is_some() == field(of, "scope").to_ascii_lowercase().contains(ENTITIES);
        has("principalId", principal)
            && is_group == (kind == "Group")
            && Role::parse(&field(of, "roleDefinitionId")) == Some(role)
            && whom.issuer.as_ref().is_none_or(|issuer| field(of, "issuer") == *issuer)
            && is_own
    };
    let found = all
        .iter()
        .filter(|it| it.optional_object("properties").ok().flatten().is_some_and(is_meant));
    let names: Vec<String> = found.map(|it| field(it, "name")).collect();
    if names.is_empty() {
        let message = format!("{principal} is no {} at {}", role.name(), said(at));
        let code = "RoleAssignmentNotFound".to_owned();
        return Err(Failure::Refused(Refusal {
            kind: Kind::ClusterUnknown,
            status: 404,
            code,
            message,
        }));
    }
    for name in names {
        let is_guid = name.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        if !is_guid {
            return Err(Failure::shape("the name of a role assignment is none"));
        }
        relay.call("DELETE", &format!("{scope}/{ASSIGNMENTS}/{name}"), None)?;
    }
    Ok(Found::Done(format!("{principal} is {} at {} no longer", role.name(), said(at))))
}

fn principal(whom: &Whom) -> (&str, &'static str) {
    match &whom.name {
        Name::Group(id) => (id, "Group"),
        Name::User(id) | Name::Subject(id) => (id, "User"),
    }
}

fn said(at: Option<&str>) -> &str {
    at.unwrap_or("every hybrid connection but those of clusters")
}

fn list(relay: &Relay, path: &str) -> Result<Vec<Object>, Failure> {
    let answer = object(relay.call("GET", path, None)?)?;
    let all = answer.optional_array("value").map_err(Failure::shape)?.unwrap_or_default();
    all.iter().map(|value| object(value.clone())).collect()
}

/// As in Azure's own tools a `~` stands for a slash in the name of a hybrid connection.
fn place(at: Option<&str>) -> String {
    match at {
        None => NAMESPACE.to_owned(),
        Some(name) => format!("{NAMESPACE}/hybridConnections/{}", name.replace('/', "~")),
    }
}

fn rule_path(at: Option<&str>, rule: &str) -> String {
    format!("{}/authorizationRules/{rule}", place(at))
}

const NAMESPACE: &str = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/default/\
                         providers/Microsoft.Relay/namespaces/cluster-connect";
const ENTITIES: &str = "/hybridconnections/";
const ASSIGNMENTS: &str = "providers/Microsoft.Authorization/roleAssignments";

impl Wish {
    fn body(&self) -> Json {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs().into());
        let all: [(&str, Option<Json>); 6] = [
            ("requiresClientAuthorization", self.client_authorization.map(Json::from)),
            ("httpRequests", self.http.map(Json::from)),
            ("userMetadata", self.metadata.clone().map(Json::from)),
            ("acceptTimeoutSeconds", seconds(self.accept)),
            ("responseTimeoutSeconds", seconds(self.response)),
            ("bodyGapTimeoutSeconds", seconds(self.body_gap)),
        ];
        let given = all.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        json!({"properties": given.collect::<Map<_, _>>()})
    }
}

impl Network {
    fn body(&self) -> Json {
        let rule = |mask: &Mask| json!({"ipMask": mask.to_string(), "action": "Allow"});
        let masks: Vec<Json> = self.masks.iter().map(rule).collect();
        let action = if self.others { "Allow" } else { "Deny" };
        let mut properties = Map::new();
        properties.insert("defaultAction".to_owned(), action.into());
        properties.insert("ipRules".to_owned(), masks.into());
        let word = |public| if public { "Enabled" } else { "Disabled" };
        let public =
            self.public.map(|public| ("publicNetworkAccess".to_owned(), word(public).into()));
        properties.extend(public);
        json!({"properties": properties})
    }
}

impl Found {
    /// For people: what goes to standard output, and what to say beside it.
    #[must_use]
    pub fn table(&self) -> (String, Option<String>) {
        match self {
            Self::Done(what) => (String::new(), Some(what.clone())),
            Self::Entities(all) if all.is_empty() => {
                (String::new(), Some("no hybrid connections but those of clusters".to_owned()))
            }
            Self::Entities(all) => {
                let head = ["NAME", "LISTENERS", "TOKEN", "HTTP"].map(str::to_owned);
                let row = |it: &Object| {
                    let of = |key| property(it, key);
                    let (token, http) = (of("requiresClientAuthorization"), of("httpRequests"));
                    [field(it, "name"), of("listenerCount"), token, http]
                };
                (columns(std::iter::once(head).chain(all.iter().map(row)).collect()), None)
            }
            Self::Entity(entity, rules, roles) => (one(entity, rules, roles), None),
            Self::Keys(keys) => (format!("{}\n", field(keys, "primaryConnectionString")), None),
            Self::Network(rules) => {
                let of = |key| property(rules, key);
                let (public, others) = (of("publicNetworkAccess"), of("defaultAction"));
                let mut rows = vec![["public network:".to_owned(), public]];
                rows.push(["other addresses:".to_owned(), others]);
                let properties = rules.optional_object("properties").ok().flatten();
                let masks = properties.and_then(|it| it.optional_array("ipRules").ok().flatten());
                let masks = masks.unwrap_or_default().iter().filter_map(Value::as_object);
                rows.extend(masks.map(|mask| ["allowed:".to_owned(), field(mask, "ipMask")]));
                (columns(rows), None)
            }
        }
    }

    /// For scripts.
    #[must_use]
    pub fn json(&self) -> String {
        let list = |all: &[Object]| Json::Array(all.iter().map(plain_object).collect());
        let json = match self {
            Self::Done(what) => json!({"message": what}),
            Self::Entities(all) => json!({"value": list(all)}),
            Self::Entity(entity, rules, roles) => {
                let mut shown = plain_object(entity);
                if let Json::Object(fields) = &mut shown {
                    fields.insert("authorizationRules".to_owned(), list(rules));
                    fields.insert("roleAssignments".to_owned(), list(roles));
                }
                shown
            }
            Self::Keys(it) | Self::Network(it) => plain_object(it),
        };
        format!("{json:#}\n")
    }
}

fn one(entity: &Object, rules: &[Object], roles: &[Object]) -> String {
    let of = |key: &str, label: &str| [format!("{label}:"), property(entity, key)];
    let mut rows = vec![
        ["name:".to_owned(), field(entity, "name")],
        of("listenerCount", "listeners"),
        of("requiresClientAuthorization", "senders need a token"),
        of("httpRequests", "HTTP requests"),
        of("acceptTimeoutSeconds", "accept within, s"),
        of("responseTimeoutSeconds", "respond within, s"),
        of("bodyGapTimeoutSeconds", "body pauses, s"),
        of("userMetadata", "metadata"),
    ];
    for rule in rules {
        let rights = rule.optional_object("properties").ok().flatten();
        let rights = rights.and_then(|it| it.optional_array("rights").ok().flatten());
        let rights: Vec<&str> =
            rights.unwrap_or_default().iter().filter_map(Value::as_text).collect();
        let shown: String = rights.join(", ").chars().filter(|c| !c.is_control()).collect();
        rows.push(["rule:".to_owned(), format!("{}: {shown}", field(rule, "name"))]);
    }
    for role in roles {
        let name = Role::parse(&property(role, "roleDefinitionId")).map_or("-", Role::name);
        let (who, issuer) = (property(role, "principalId"), property(role, "issuer"));
        rows.push(["may use it:".to_owned(), format!("{who} of {issuer}: {name}")]);
    }
    columns(rows)
}

/// A property, fit for a terminal.
fn property(of: &Object, key: &str) -> String {
    let properties = of.optional_object("properties").ok().flatten();
    match properties.and_then(|it| it.get(key)) {
        Some(Value::Text(_)) => properties.map_or_else(String::new, |it| field(it, key)),
        Some(value) => plain(value).to_string().chars().take(20).collect(),
        None => "-".to_owned(),
    }
}

#[cfg(test)]
#[path = "hybrid_tests.rs"]
mod tests;

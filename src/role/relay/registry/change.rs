//! Changes of the registry, and how they are written down: one record of the journal is a JSON
//! array of changes that happen together or not at all.
//!
//! A reader meets records of older versions, so members may be added with a default and never
//! change their meaning. A record of a newer version is refused: half of it would be a wrong state.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::model::{Agent, Entity, Facts, JoinToken};
use crate::auth::assignments::{Grant, Holder, Kind};
use crate::auth::network::{Mask, NetworkRules};
use crate::auth::roles::{PrincipalKind, Role, RoleAssignment};
use crate::auth::sas::{Right, Rights, Rule};
use crate::limits::DEADLINE_MAX;
use crate::role::relay::authority::Deadlines;
use crate::role::relay::directory::Principal;
use crate::secret::Secret;
use crate::wire::resource::ResourceId;

/// One change. To apply it cannot fail: what it needs was checked when it was planned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// A hybrid connection as it is now, rules aside.
    Entity(Entity),
    /// A hybrid connection is gone, rules and all.
    EntityRemoved(String),
    /// A rule of a hybrid connection, or of the namespace, as it is now.
    Rule(Option<String>, Rule),
    /// A rule is gone.
    RuleRemoved(Option<String>, String),
    /// What is known of a cluster as a whole.
    Cluster(Box<Facts>),
    /// The cluster with this id is gone, and its hybrid connection with it.
    ClusterRemoved(String),
    /// A join token of a cluster, by its hash, as it is now.
    JoinToken(String, String, JoinToken),
    /// A join token is gone.
    JoinTokenRemoved(String, String),
    /// A role assignment on a cluster.
    Granted(String, Holder, Grant),
    /// A role assignment on a cluster is gone.
    Revoked(String, Holder),
    /// A role assignment on the data plane, as it is now.
    Role(Box<RoleAssignment>),
    /// The role assignment of this name is gone.
    RoleRemoved(String),
    /// A listener of a cluster came or went, at this Unix time.
    Seen(String, u64),
    /// Somebody has shown a valid token.
    Principal(Principal),
    /// From where anybody may come at all, as it is now.
    Network(NetworkRules),
}

/// The version of the records written here. The first one had no deadlines and no roles, the second
/// no network rules.
const VERSION: u64 = 3;

/// The oldest version that is read.
const OLDEST: u64 = 1;

/// The words for `rights`, in Azure's order.
pub fn rights_words(rights: Rights) -> Vec<&'static str> {
    let all = [Right::Listen, Right::Manage, Right::Send];
    all.into_iter().filter(|right| rights.allow(*right)).map(Right::as_str).collect()
}

/// The rights with these words; `None` if one of them is no right.
pub fn parse_rights<'a>(words: impl IntoIterator<Item = &'a str>) -> Option<Rights> {
    let mut rights = Rights::default();
    for word in words {
        let right = match word {
            "Listen" => &mut rights.listen,
            "Send" => &mut rights.send,
            "Manage" => &mut rights.manage,
            _ => return None,
        };
        *right = true;
    }
    Some(rights)
}

/// One record for `changes`.
pub fn encode(changes: &[Change]) -> Vec<u8> {
    let all: Vec<Value> = changes.iter().map(to_json).collect();
    json!({ "v": VERSION, "changes": all }).to_string().into_bytes()
}

/// The changes in `record`.
///
/// # Errors
///
/// [`Unreadable`] says what is wrong with it.
pub fn decode(record: &[u8]) -> Result<Vec<Change>, Unreadable> {
    let Ok(Value::Object(record)) = serde_json::from_slice(record) else {
        return Err(Unreadable::NotJson);
    };
    match record.get("v").and_then(Value::as_u64) {
        Some(OLDEST..=VERSION) => {}
        Some(version) => return Err(Unreadable::Newer(version)),
        None => return Err(Unreadable::Member("v")),
    }
    let Some(Value::Array(changes)) = record.get("changes") else {
        return Err(Unreadable::Member("changes"));
    };
    changes.iter().map(from_json).collect()
}

fn to_json(change: &Change) -> Value {
    match change {
        Change::Entity(entity) => entity_json(entity),
        Change::EntityRemoved(name) => json!({"op": "entity-removed", "entity": name}),
        Change::Rule(entity, rule) => json!({
            "op": "rule", "entity": entity, "name": rule.name, "rights": rights_words(rule.rights),
            "primary": rule.primary.expose(), "secondary": rule.secondary.expose(),
        }),
        Change::RuleRemoved(entity, name) => {
            json!({"op": "rule-removed", "entity": entity, "name": name})
        }
        Change::Cluster(facts) => facts_json(facts),
        Change::ClusterRemoved(id) => json!({"op": "cluster-removed", "cluster": id}),
        Change::JoinToken(cluster, hash, token) => json!({
            "op": "join-token", "cluster": cluster, "hash": hash, "expires": token.expires,
            "used_by": token.used_by.as_ref().map(|key| STANDARD.encode(key)),
        }),
        Change::JoinTokenRemoved(cluster, hash) => {
            json!({"op": "join-token-removed", "cluster": cluster, "hash": hash})
        }
        Change::Granted(cluster, holder, grant) => json!({
            "op": "granted", "cluster": cluster, "kind": holder.kind.word(),
            "issuer": holder.issuer, "name": holder.name, "display": grant.display,
            "at": grant.granted_at, "by": grant.granted_by,
        }),
        Change::Revoked(cluster, holder) => json!({
            "op": "revoked", "cluster": cluster, "kind": holder.kind.word(),
            "issuer": holder.issuer, "name": holder.name,
        }),
        Change::Role(of) => json!({
            "op": "role", "name": of.name, "role": of.role.id(), "kind": of.kind.word(),
            "holder": of.holder.kind.word(), "issuer": of.holder.issuer,
            "principal": of.holder.name, "scope": of.scope, "entity": of.entity,
            "display": of.grant.display, "at": of.grant.granted_at, "by": of.grant.granted_by,
        }),
        Change::RoleRemoved(name) => json!({"op": "role-removed", "name": name}),
        Change::Seen(cluster, at) => json!({"op": "seen", "cluster": cluster, "at": at}),
        Change::Principal(seen) => json!({
            "op": "principal", "issuer": seen.issuer, "subject": seen.subject, "user": seen.user,
            "display": seen.display, "at": seen.seen_at,
        }),
        Change::Network(rules) => json!({
            "op": "network", "public": rules.is_public, "others": rules.allows_others,
            "masks": rules.masks().iter().map(Mask::to_string).collect::<Vec<_>>(),
        }),
    }
}

fn entity_json(entity: &Entity) -> Value {
    json!({
        "op": "entity", "entity": entity.name, "cluster": entity.cluster,
        "authorization": entity.requires_client_authorization, "http": entity.http,
        "metadata": entity.user_metadata, "created_at": entity.created_at,
        "updated_at": entity.updated_at, "accept": entity.deadlines.accept.as_secs(),
        "response": entity.deadlines.response.as_secs(),
        "body_gap": entity.deadlines.body_gap.as_secs(),
    })
}

fn facts_json(facts: &Facts) -> Value {
    let agent = facts.agent.as_ref().map(|agent| {
        json!({
            "key": STANDARD.encode(&agent.key), "audiences": agent.audiences,
            "enrolled_at": agent.enrolled_at,
        })
    });
    json!({
        "op": "cluster", "id": facts.resource.id(), "location": facts.location,
        "tags": facts.tags, "distribution": facts.distribution,
        "infrastructure": facts.infrastructure,
        "certificate": STANDARD.encode(&facts.certificate), "agent": agent,
        "created_at": facts.created_at, "created_by": facts.created_by,
        "updated_at": facts.updated_at, "updated_by": facts.updated_by,
    })
}

fn from_json(value: &Value) -> Result<Change, Unreadable> {
    let all = Members(value.as_object().ok_or(Unreadable::Member("changes"))?);
    Ok(match all.text("op")? {
        "entity" => Change::Entity(entity(&all)?),
        "entity-removed" => Change::EntityRemoved(all.owned("entity")?),
        "rule" => Change::Rule(all.optional("entity")?, rule(&all)?),
        "rule-removed" => Change::RuleRemoved(all.optional("entity")?, all.owned("name")?),
        "cluster" => Change::Cluster(Box::new(facts(&all)?)),
        "cluster-removed" => Change::ClusterRemoved(all.owned("cluster")?),
        "join-token" => {
            let used_by = all.optional("used_by")?.map(|text| bytes(&text, "used_by"));
            let token =
                JoinToken { expires: all.number("expires")?, used_by: used_by.transpose()? };
            Change::JoinToken(all.owned("cluster")?, all.owned("hash")?, token)
        }
        "join-token-removed" => Change::JoinTokenRemoved(all.owned("cluster")?, all.owned("hash")?),
        "granted" => {
            let (display, granted_by) = (all.owned("display")?, all.owned("by")?);
            let grant = Grant { display, granted_at: all.number("at")?, granted_by };
            Change::Granted(all.owned("cluster")?, holder(&all)?, grant)
        }
        "revoked" => Change::Revoked(all.owned("cluster")?, holder(&all)?),
        "role" => Change::Role(Box::new(role(&all)?)),
        "role-removed" => Change::RoleRemoved(all.owned("name")?),
        "seen" => Change::Seen(all.owned("cluster")?, all.number("at")?),
        "principal" => Change::Principal(Principal {
            issuer: all.owned("issuer")?,
            subject: all.owned("subject")?,
            user: all.owned("user")?,
            display: all.owned("display")?,
            seen_at: all.number("at")?,
        }),
        "network" => Change::Network(network(&all)?),
        op => return Err(Unreadable::Unknown(op.to_owned())),
    })
}

fn entity(all: &Members<'_>) -> Result<Entity, Unreadable> {
    let usual = Deadlines::default();
    // Records of the first version have none.
    let deadline = |name, usual| match all.0.contains_key(name) {
        true => all.number(name).map(|it| Duration::from_secs(it).min(DEADLINE_MAX)),
        false => Ok(usual),
    };
    let deadlines = Deadlines {
        accept: deadline("accept", usual.accept)?,
        response: deadline("response", usual.response)?,
        body_gap: deadline("body_gap", usual.body_gap)?,
    };
    Ok(Entity {
        name: all.owned("entity")?,
        cluster: all.optional("cluster")?,
        requires_client_authorization: all.flag("authorization")?,
        http: all.flag("http")?,
        deadlines,
        user_metadata: all.owned("metadata")?,
        created_at: all.number("created_at")?,
        updated_at: all.number("updated_at")?,
        rules: BTreeMap::new(),
    })
}

fn rule(all: &Members<'_>) -> Result<Rule, Unreadable> {
    let words = all.texts("rights")?;
    let rights = parse_rights(words.iter().map(String::as_str));
    let rights = rights.ok_or(Unreadable::Member("rights"))?;
    let (primary, secondary) = (all.owned("primary")?, all.owned("secondary")?);
    let (primary, secondary) = (Secret::new(primary), Secret::new(secondary));
    Ok(Rule { name: all.owned("name")?, rights, primary, secondary })
}

fn facts(all: &Members<'_>) -> Result<Facts, Unreadable> {
    let resource = ResourceId::parse(all.text("id")?).map_err(|_| Unreadable::Member("id"))?;
    let tags = all.get("tags")?.as_object().ok_or(Unreadable::Member("tags"))?;
    let tags = tags.iter().map(|(name, value)| {
        let value = value.as_str().ok_or(Unreadable::Member("tags"))?;
        Ok((name.clone(), value.to_owned()))
    });
    let agent = match all.get("agent")? {
        Value::Null => None,
        agent => {
            let of = Members(agent.as_object().ok_or(Unreadable::Member("agent"))?);
            let (key, audiences) = (bytes(of.text("key")?, "key")?, of.texts("audiences")?);
            Some(Agent { key, audiences, enrolled_at: of.number("enrolled_at")? })
        }
    };
    Ok(Facts {
        resource,
        location: all.owned("location")?,
        tags: tags.collect::<Result<_, _>>()?,
        distribution: all.owned("distribution")?,
        infrastructure: all.owned("infrastructure")?,
        certificate: bytes(all.text("certificate")?, "certificate")?,
        agent,
        created_at: all.number("created_at")?,
        created_by: all.owned("created_by")?,
        updated_at: all.number("updated_at")?,
        updated_by: all.owned("updated_by")?,
    })
}

fn role(all: &Members<'_>) -> Result<RoleAssignment, Unreadable> {
    let kind = Kind::parse(all.text("holder")?).ok_or(Unreadable::Member("holder"))?;
    let (display, granted_by) = (all.owned("display")?, all.owned("by")?);
    Ok(RoleAssignment {
        name: all.owned("name")?,
        holder: Holder { issuer: all.owned("issuer")?, kind, name: all.owned("principal")? },
        kind: PrincipalKind::parse(all.text("kind")?).ok_or(Unreadable::Member("kind"))?,
        role: Role::parse(all.text("role")?).ok_or(Unreadable::Member("role"))?,
        scope: all.owned("scope")?,
        entity: all.optional("entity")?,
        grant: Grant { display, granted_at: all.number("at")?, granted_by },
    })
}

fn network(all: &Members<'_>) -> Result<NetworkRules, Unreadable> {
    let masks = all.texts("masks")?;
    let masks = masks.iter().map(|mask| Mask::parse(mask)).collect::<Result<_, _>>().ok();
    let rules = |masks| Ok(NetworkRules::new(all.flag("public")?, all.flag("others")?, masks));
    masks.map(rules).transpose()?.flatten().ok_or(Unreadable::Member("masks"))
}

fn holder(all: &Members<'_>) -> Result<Holder, Unreadable> {
    let kind = Kind::parse(all.text("kind")?).ok_or(Unreadable::Member("kind"))?;
    Ok(Holder { issuer: all.owned("issuer")?, kind, name: all.owned("name")? })
}

fn bytes(text: &str, name: &'static str) -> Result<Vec<u8>, Unreadable> {
    STANDARD.decode(text).map_err(|_| Unreadable::Member(name))
}

/// The members of a JSON object, by name and type.
struct Members<'a>(&'a Map<String, Value>);

impl<'a> Members<'a> {
    fn get(&self, name: &'static str) -> Result<&'a Value, Unreadable> {
        self.0.get(name).ok_or(Unreadable::Member(name))
    }

    fn text(&self, name: &'static str) -> Result<&'a str, Unreadable> {
        self.get(name)?.as_str().ok_or(Unreadable::Member(name))
    }

    fn owned(&self, name: &'static str) -> Result<String, Unreadable> {
        self.text(name).map(str::to_owned)
    }

    fn optional(&self, name: &'static str) -> Result<Option<String>, Unreadable> {
        match self.get(name)? {
            Value::Null => Ok(None),
            _ => self.owned(name).map(Some),
        }
    }

    fn number(&self, name: &'static str) -> Result<u64, Unreadable> {
        self.get(name)?.as_u64().ok_or(Unreadable::Member(name))
    }

    fn flag(&self, name: &'static str) -> Result<bool, Unreadable> {
        self.get(name)?.as_bool().ok_or(Unreadable::Member(name))
    }

    fn texts(&self, name: &'static str) -> Result<Vec<String>, Unreadable> {
        let all = self.get(name)?.as_array().ok_or(Unreadable::Member(name))?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        all.iter().map(|value| text(value).ok_or(Unreadable::Member(name))).collect()
    }
}

/// Why a record cannot be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unreadable {
    /// Not a JSON object.
    NotJson,
    /// Written by a newer version of the relay.
    Newer(u64),
    /// A change that this version does not know.
    Unknown(String),
    /// A member that is missing or of another type.
    Member(&'static str),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson => f.write_str("a record that is no JSON object"),
            Self::Newer(version) => {
                write!(
                    f,
                    "a record of version {version}, and this relay reads versions up to \
                     {VERSION}; start the newer relay again"
                )
            }
            Self::Unknown(op) => write!(f, "a record with the unknown change {op:?}"),
            Self::Member(name) => write!(f, "a record without a good member {name:?}"),
        }
    }
}

impl std::error::Error for Unreadable {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_the_first_version_has_the_usual_deadlines() {
        let record = br#"{"v":1,"changes":[{"op":"entity","entity":"hc","cluster":null,
            "authorization":true,"http":true,"metadata":"","created_at":1,"updated_at":2}]}"#;
        let changes = decode(record).unwrap();
        let [Change::Entity(entity)] = &changes[..] else { panic!("{changes:?}") };
        assert_eq!(entity.deadlines, Deadlines::default());
    }

    #[test]
    fn damaged_and_newer_records_are_refused() {
        for (record, why) in [
            ("", Unreadable::NotJson),
            ("[]", Unreadable::NotJson),
            ("{}", Unreadable::Member("v")),
            (r#"{"v":4,"changes":[]}"#, Unreadable::Newer(4)),
            (r#"{"v":1}"#, Unreadable::Member("changes")),
            (r#"{"v":1,"changes":[7]}"#, Unreadable::Member("changes")),
            (r#"{"v":1,"changes":[{"op":"x"}]}"#, Unreadable::Unknown("x".into())),
            (r#"{"v":1,"changes":[{"op":"seen","cluster":"c"}]}"#, Unreadable::Member("at")),
            (r#"{"v":1,"changes":[{"op":"cluster","id":"%2e"}]}"#, Unreadable::Member("id")),
            (
                r#"{"v":3,"changes":[{"op":"network","public":true,"others":false,"masks":["x"]}]}"#,
                Unreadable::Member("masks"),
            ),
        ] {
            assert_eq!(decode(record.as_bytes()), Err(why), "{record}");
        }
    }
}

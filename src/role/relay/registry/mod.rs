//! What the relay knows: clusters, hybrid connections, rules, join tokens, role assignments.
//!
//! The state changes only by [`Change`]s, which are made durable first and applied then. The same
//! changes in the same order make the same state, in this process, after a restart, on another
//! node. A request is judged against the state by [`Registry::plan`]; to apply what was planned
//! cannot fail.

mod change;
mod entities;
mod ledger;
mod model;
mod plan;
mod roles;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

pub use change::{Change, Unreadable, decode, encode, parse_rights, rights_words};
pub use ledger::{InFlight, Ledger};
pub use model::{Agent, Cluster, Entity, Facts, JoinToken, Presence};
pub use plan::{EntityWish, Random, Refusal, Request};

use super::directory::Directory;
use crate::auth::assignments::TAG_LEN;
use crate::auth::network::NetworkRules;
use crate::auth::roles::RoleAssignments;
use crate::auth::sas::{self, Right, Rule, Target};
use crate::limits::ENTITY_NAME_MAX;
use crate::role::State;
use crate::secret::Secret;
use crate::wire::sas::SasToken;

/// The rule of a cluster's hybrid connection whose key signs the Listen tokens of its agent.
pub const LISTEN_RULE: &str = "cluster-listen";

/// The rule of a cluster's hybrid connection from whose key those of Send tokens are derived.
pub const SEND_RULE: &str = "cluster-send";

/// Stands in a Send token for the operator, who has no role assignment.
pub const OPERATOR_TAG: &str = "00000000000000000000000000000000";

/// All that the relay knows.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Registry {
    namespace: BTreeMap<String, Box<Rule>>,
    entities: BTreeMap<String, Box<Entity>>,
    clusters: BTreeMap<String, Box<Cluster>>,
    directory: Directory,
    roles: RoleAssignments,
    network: NetworkRules,
}

/// A token that was good.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Authorized {
    /// The rule whose key has signed.
    pub rule: String,
    /// Who holds such tokens.
    pub bearer: Bearer,
    /// Whose it is: a user, whatever the token and the cluster, or whoever has one key at one hybrid
    /// connection: its own, or the namespace's of whatever name.
    pub caller: String,
    /// Unix time at which the token ends.
    pub expires: u64,
}

/// Who holds a token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Bearer {
    /// Whoever was given the rule's key.
    Rule,
    /// The agent of a cluster.
    Agent,
    /// Somebody with the role assignment of this name; when that is taken away, what was opened
    /// with it is cut.
    Role(String),
    /// Somebody with a role assignment on a cluster, or its operator.
    User {
        /// Stands for the principal.
        principal: String,
        /// Stands for the role assignment; when that is revoked, what was opened with it is cut.
        grant: String,
    },
}

/// What stands for the bearer where connections are told apart: of a user, the role assignment.
impl fmt::Display for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule => f.write_str("rule"),
            Self::Agent => f.write_str("agent"),
            Self::Role(name) => f.write_str(name),
            Self::User { grant, .. } => f.write_str(grant),
        }
    }
}

impl Registry {
    /// The cluster with this id (64 hexadecimal digits).
    pub fn cluster(&self, id: &str) -> Option<&Cluster> {
        self.clusters.get(id).map(Box::as_ref)
    }

    /// All clusters.
    pub fn clusters(&self) -> impl Iterator<Item = &Cluster> {
        self.clusters.values().map(Box::as_ref)
    }

    /// Principals that have shown a valid token.
    pub const fn directory(&self) -> &Directory {
        &self.directory
    }

    /// From where anybody may come at all.
    pub const fn network(&self) -> &NetworkRules {
        &self.network
    }

    /// The hybrid connection with exactly this name, in any case.
    pub fn entity(&self, name: &str) -> Option<&Entity> {
        self.entities.get(&name.to_ascii_lowercase()).map(Box::as_ref)
    }

    /// All hybrid connections.
    pub fn entities(&self) -> impl Iterator<Item = &Entity> {
        self.entities.values().map(Box::as_ref)
    }

    /// The rules of a hybrid connection, or of the namespace.
    pub fn rules(&self, entity: Option<&str>) -> Option<&BTreeMap<String, Box<Rule>>> {
        match entity {
            None => Some(&self.namespace),
            Some(name) => self.entity(name).map(|entity| &entity.rules),
        }
    }

    /// The hybrid connection that `path` (decoded, without a leading slash) leads to: the longest
    /// name that ends where a segment does. The rest of the path is the suffix.
    pub fn resolve<'p>(&self, path: &'p str) -> Option<(&Entity, &'p str)> {
        // No name is longer, and each look-up costs whoever asks nothing.
        let mut end = match path.as_bytes().get(..=ENTITY_NAME_MAX) {
            Some(front) => front.iter().rposition(|&byte| byte == b'/')?,
            None => path.len(),
        };
        loop {
            let (name, suffix) = path.split_at_checked(end)?;
            if let Some(entity) = self.entity(name) {
                return Some((entity, suffix));
            }
            end = name.rfind('/')?;
        }
    }

    /// Checks a shared access signature for `right` at `path` (decoded, without a leading slash) of
    /// the namespace `host`. Whether there is anything at `path` is another question.
    ///
    /// # Errors
    ///
    /// [`sas::Refusal`], whose text goes to the peer.
    pub fn authorize(
        &self,
        token: Option<&str>,
        host: &str,
        path: &str,
        right: Right,
        unix_now: u64,
    ) -> Result<Authorized, sas::Refusal> {
        let parsed = token.and_then(|text| SasToken::parse(text).ok());
        let rule = parsed.map(|token| token.rule().to_ascii_lowercase()).unwrap_or_default();
        let (own, of_namespace) = self.rules_for(path, &rule);
        let (entity_rules, namespace_rules) = (own.as_slice(), of_namespace.as_slice());
        let target = Target { host, path, entity_rules, namespace_rules };
        let grant = sas::verify(token, &target, right, unix_now)?;
        let entity = self.resolve(path).map(|(entity, _)| entity);
        let of_cluster = entity.is_some_and(|entity| entity.cluster.is_some());
        let bearer = match (of_cluster, send_tags(&rule)) {
            (false, _) => Bearer::Rule,
            (true, None) => Bearer::Agent,
            (true, Some((principal, grant))) => {
                Bearer::User { principal: principal.into(), grant: grant.into() }
            }
        };
        let caller = match &bearer {
            Bearer::User { principal, .. } => caller_of(principal),
            Bearer::Rule | Bearer::Agent | Bearer::Role(_) => {
                let whose = match grant.level {
                    sas::Level::Entity => "key",
                    sas::Level::Namespace => "namespace key",
                };
                format!("{whose} {rule} {}", entity.map_or(path, |entity| &entity.name))
            }
        };
        Ok(Authorized { rule: grant.rule, bearer, caller, expires: grant.expires })
    }

    /// The rules called `rule` (in lower case) that may sign for `path`: of the hybrid connection,
    /// and of the namespace.
    fn rules_for(&self, path: &str, rule: &str) -> (Vec<Rule>, Vec<Rule>) {
        let entity = self.resolve(path).map(|(entity, _)| entity);
        if let Some(entity) = entity
            && let Some(cluster) = &entity.cluster
        {
            // A key of the namespace reaches no cluster: somebody's SDK has it for other purposes.
            return (self.cluster_rule(cluster, entity, rule).into_iter().collect(), Vec::new());
        }
        let copies = |rules: &BTreeMap<String, Box<Rule>>| {
            rules.get(rule).map(|rule| Rule::clone(rule)).into_iter().collect()
        };
        (entity.map_or_else(Vec::new, |entity| copies(&entity.rules)), copies(&self.namespace))
    }

    fn cluster_rule(&self, cluster: &str, entity: &Entity, rule: &str) -> Option<Rule> {
        if rule == LISTEN_RULE {
            return entity.rules.get(LISTEN_RULE).map(|rule| Rule::clone(rule));
        }
        let (_, grant) = send_tags(rule)?;
        let assigned = |cluster: &Cluster| cluster.assignments.has_tag(grant);
        if grant != OPERATOR_TAG && !self.cluster(cluster).is_some_and(assigned) {
            return None;
        }
        let base = entity.rules.get(SEND_RULE)?;
        let (primary, secondary) = (&base.primary, &base.secondary);
        let (primary, secondary) = (send_key(primary, rule), send_key(secondary, rule));
        Some(Rule { name: rule.to_owned(), primary, secondary, rights: base.rights })
    }

    /// Makes a planned and durable change.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Entity(mut entity) => {
                let key = entity.name.to_ascii_lowercase();
                if let Some(old) = self.entities.remove(&key) {
                    entity.rules = old.rules;
                }
                self.entities.insert(key, Box::new(entity));
            }
            Change::EntityRemoved(name) => {
                let key = name.to_ascii_lowercase();
                self.entities.remove(&key);
                self.roles.remove_entity(&key);
            }
            Change::Rule(entity, rule) => {
                if let Some(rules) = self.rules_mut(entity.as_deref()) {
                    rules.insert(rule.name.to_ascii_lowercase(), Box::new(rule));
                }
            }
            Change::RuleRemoved(entity, name) => {
                if let Some(rules) = self.rules_mut(entity.as_deref()) {
                    rules.remove(&name.to_ascii_lowercase());
                }
            }
            Change::Cluster(facts) => self.put_cluster(*facts),
            Change::ClusterRemoved(id) => {
                if let Some(cluster) = self.clusters.remove(&id) {
                    self.entities.remove(&cluster.entity());
                }
            }
            Change::Principal(seen) => self.directory.note(seen),
            Change::JoinToken(id, hash, token) => self.with(&id, |cluster| {
                cluster.join_tokens.insert(hash, Box::new(token));
            }),
            Change::JoinTokenRemoved(id, hash) => self.with(&id, |cluster| {
                cluster.join_tokens.remove(&hash);
            }),
            Change::Granted(id, holder, grant) => self.with(&id, |cluster| {
                cluster.assignments.grant(holder, grant);
            }),
            Change::Revoked(id, holder) => self.with(&id, |cluster| {
                cluster.assignments.revoke(&holder);
            }),
            Change::Role(assignment) => self.roles.put(*assignment),
            Change::RoleRemoved(name) => {
                self.roles.remove(&name);
            }
            Change::Network(rules) => self.network = rules,
            Change::Seen(id, at) => self.with(&id, |cluster| cluster.last_seen = Some(at)),
        }
    }

    /// Changes that make this state from nothing, one record for each item.
    fn snapshot(&self) -> impl Iterator<Item = Vec<Change>> {
        let entities = self.entities.values().map(|entity| {
            let bare = Entity { rules: BTreeMap::new(), ..Entity::clone(entity) };
            let mut changes = vec![Change::Entity(bare)];
            changes.extend(rule_changes(Some(&entity.name), &entity.rules));
            changes
        });
        let clusters = self.clusters.iter().map(|(id, cluster)| cluster_changes(id, cluster));
        let principals = self.directory.iter().map(|seen| vec![Change::Principal(seen.clone())]);
        let roles = self.roles.iter().map(|it| vec![Change::Role(Box::new(it.clone()))]);
        let namespace = std::iter::once_with(|| {
            let mut changes = rule_changes(None, &self.namespace);
            let usual = self.network == NetworkRules::default();
            changes.extend((!usual).then(|| Change::Network(self.network.clone())));
            changes
        });
        let all = namespace.chain(entities);
        all.chain(clusters).chain(principals).chain(roles).filter(|changes| !changes.is_empty())
    }

    fn put_cluster(&mut self, facts: Facts) {
        let id = facts.resource.cluster_id();
        match self.clusters.get_mut(&id) {
            Some(cluster) => cluster.facts = facts,
            None => {
                self.clusters.insert(id, Box::new(Cluster::new(facts)));
            }
        }
    }

    fn with(&mut self, id: &str, change: impl FnOnce(&mut Cluster)) {
        if let Some(cluster) = self.clusters.get_mut(id) {
            change(cluster);
        }
    }

    fn rules_mut(&mut self, entity: Option<&str>) -> Option<&mut BTreeMap<String, Box<Rule>>> {
        match entity {
            None => Some(&mut self.namespace),
            Some(name) => {
                let entity = self.entities.get_mut(&name.to_ascii_lowercase());
                entity.map(|entity| &mut entity.rules)
            }
        }
    }
}

impl State for Registry {
    fn records(&self) -> Box<dyn Iterator<Item = Vec<u8>> + '_> {
        Box::new(self.snapshot().map(|changes| encode(&changes)))
    }
}

/// The user with this [tag](crate::auth::assignments::Holder::tag), as a caller.
fn caller_of(tag: &str) -> String {
    format!("user {tag}")
}

/// The name of the rule in a Send token: who holds it, and by which assignment.
pub fn send_rule(principal: &str, grant: &str) -> String {
    format!("send.{principal}.{grant}")
}

/// The key of a Send token. Each is derived, so the relay can tell whose token it sees without
/// keeping a list of those it has handed out.
pub fn send_key(base: &Secret<String>, rule: &str) -> Secret<String> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, base.expose().as_bytes());
    let tag = hmac::sign(&key, format!("cluster-connect send v1\n{rule}").as_bytes());
    Secret::new(STANDARD.encode(tag))
}

fn send_tags(rule: &str) -> Option<(&str, &str)> {
    let (principal, grant) = rule.strip_prefix("send.")?.split_once('.')?;
    let tag = |text: &str| text.len() == TAG_LEN && text.bytes().all(|b| b.is_ascii_hexdigit());
    (tag(principal) && tag(grant)).then_some((principal, grant))
}

fn rule_changes(entity: Option<&str>, rules: &BTreeMap<String, Box<Rule>>) -> Vec<Change> {
    let change = |rule| Change::Rule(entity.map(str::to_owned), Rule::clone(rule));
    rules.values().map(|rule| change(rule)).collect()
}

fn cluster_changes(id: &str, cluster: &Cluster) -> Vec<Change> {
    let mut changes = vec![Change::Cluster(Box::new(cluster.facts.clone()))];
    changes.extend(cluster.last_seen.map(|at| Change::Seen(id.to_owned(), at)));
    changes.extend(cluster.join_tokens.iter().map(|(hash, token)| {
        Change::JoinToken(id.to_owned(), hash.clone(), JoinToken::clone(token))
    }));
    changes.extend(
        cluster
            .assignments
            .iter()
            .map(|(holder, grant)| Change::Granted(id.to_owned(), holder.clone(), grant.clone())),
    );
    changes
}

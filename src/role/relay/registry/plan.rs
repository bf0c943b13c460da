//! What a request would change. Everything that can be refused is refused here, so that to apply
//! what was planned cannot fail.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::model::{Agent, Cluster, Entity, Facts, JoinToken};
use super::{Change, LISTEN_RULE, Registry, SEND_RULE};
use crate::auth::assignments::{Grant, Holder};
use crate::auth::network::NetworkRules;
use crate::auth::roles::RoleAssignment;
use crate::auth::sas::{Rights, Rule};
use crate::limits::{ASSIGNMENTS_MAX, CLUSTERS_MAX, JOIN_TOKENS_MAX};
use crate::role::relay::authority::Deadlines;
use crate::role::relay::directory::Principal;
use crate::secret::Secret;
use crate::wire::resource::{ResourceId, entity_of};

/// Where randomness comes from: it fills the slice.
pub type Random<'a> = dyn FnMut(&mut [u8]) + 'a;

/// What somebody wants of the registry. Who may ask is settled before.
#[derive(Clone, Debug)]
pub enum Request {
    /// The first start: the namespace gets its rule.
    Initialise,
    /// Make or change a cluster. What is `None` stays as it is.
    PutCluster {
        /// Which.
        resource: ResourceId,
        /// Where it is.
        location: Option<String>,
        /// All its tags.
        tags: Option<BTreeMap<String, String>>,
        /// Kubernetes distribution.
        distribution: Option<String>,
        /// What it runs on.
        infrastructure: Option<String>,
        /// DER of the CA certificate of its auth proxy.
        certificate: Option<Vec<u8>>,
        /// Who asks, for people.
        by: String,
    },
    /// Remove the cluster with this id.
    RemoveCluster(String),
    /// Remember a join token by its hash.
    IssueJoinToken {
        /// The cluster's id.
        cluster: String,
        /// Hexadecimal digits.
        hash: String,
        /// Unix time.
        expires: u64,
    },
    /// An agent joins with a token.
    Enrol {
        /// The cluster's id.
        cluster: String,
        /// The hash of its join token.
        hash: String,
        /// Its public key.
        key: Vec<u8>,
        /// DER of the CA certificate of its auth proxy.
        certificate: Vec<u8>,
        /// The audiences of its auth proxy.
        audiences: Vec<String>,
    },
    /// Let somebody fetch credentials.
    Grant {
        /// The cluster's id.
        cluster: String,
        /// Who.
        holder: Holder,
        /// For people.
        display: String,
        /// Who grants, for people.
        by: String,
    },
    /// Undo a grant.
    Revoke {
        /// The cluster's id.
        cluster: String,
        /// Whose.
        holder: Holder,
    },
    /// The last listener of a cluster went, or the first one came.
    Saw(String),
    /// Somebody has shown a valid token.
    SawPrincipal(Principal),
    /// Make or change a hybrid connection that belongs to no cluster.
    PutEntity {
        /// Its name.
        name: String,
        /// How it is to be.
        wish: EntityWish,
    },
    /// Remove a hybrid connection.
    RemoveEntity(String),
    /// Make a rule, or change its rights.
    PutRule {
        /// Of which hybrid connection; `None` is the namespace.
        entity: Option<String>,
        /// Its name.
        name: String,
        /// What it allows.
        rights: Rights,
    },
    /// Remove a rule.
    RemoveRule {
        /// Of which hybrid connection; `None` is the namespace.
        entity: Option<String>,
        /// Its name.
        name: String,
    },
    /// Give somebody a role on the data plane.
    PutRole(Box<RoleAssignment>),
    /// Take the role assignment of this name away.
    RemoveRole(String),
    /// Say from where anybody may come at all.
    PutNetwork(NetworkRules),
    /// Give a rule a new key.
    RegenerateKey {
        /// Of which hybrid connection; `None` is the namespace.
        entity: Option<String>,
        /// The rule's name.
        name: String,
        /// Which of the two.
        primary: bool,
        /// A key of the caller's choice.
        key: Option<Secret<String>>,
    },
}

/// How a hybrid connection is to be. What is `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct EntityWish {
    /// Whether senders need a token.
    pub requires_client_authorization: Option<bool>,
    /// Opaque to the relay.
    pub user_metadata: Option<String>,
    /// Whether HTTP requests are relayed.
    pub http: Option<bool>,
    /// See [`Deadlines::accept`].
    pub accept: Option<Duration>,
    /// See [`Deadlines::response`].
    pub response: Option<Duration>,
    /// See [`Deadlines::body_gap`].
    pub body_gap: Option<Duration>,
}

/// The rule that every namespace of Azure begins with.
pub(super) const ROOT_RULE: &str = "RootManageSharedAccessKey";

impl Registry {
    /// The changes that `request` asks for; none where everything is already so.
    ///
    /// # Errors
    ///
    /// [`Refusal`] says why not.
    pub fn plan(
        &self,
        request: Request,
        unix_now: u64,
        random: &mut Random<'_>,
    ) -> Result<Vec<Change>, Refusal> {
        match request {
            Request::Initialise => Ok(match self.namespace.is_empty() {
                true => vec![Change::Rule(None, new_rule(ROOT_RULE, Rights::ALL, random))],
                false => Vec::new(),
            }),
            Request::PutCluster { .. } => self.plan_put_cluster(request, unix_now, random),
            Request::RemoveCluster(id) => {
                self.known(&id)?;
                Ok(vec![Change::ClusterRemoved(id)])
            }
            Request::IssueJoinToken { cluster, hash, expires } => {
                self.plan_join_token(cluster, hash, expires, unix_now)
            }
            Request::Enrol { .. } => self.plan_enrol(request, unix_now, random),
            Request::Grant { cluster, holder, display, by } => {
                let known = self.known(&cluster)?;
                if known.assignments.get(&holder).is_some() {
                    return Ok(Vec::new());
                }
                bounded(known.assignments.len(), ASSIGNMENTS_MAX, "role assignments")?;
                let grant = Grant { display, granted_at: unix_now, granted_by: by };
                Ok(vec![Change::Granted(cluster, holder, grant)])
            }
            Request::Revoke { cluster, holder } => {
                let known = self.known(&cluster)?;
                known.assignments.get(&holder).ok_or(Refusal::NotAssigned)?;
                Ok(vec![Change::Revoked(cluster, holder)])
            }
            Request::Saw(cluster) => {
                self.known(&cluster)?;
                Ok(vec![Change::Seen(cluster, unix_now)])
            }
            Request::SawPrincipal(seen) => Ok(match self.directory.is_news(&seen) {
                true => vec![Change::Principal(seen)],
                false => Vec::new(),
            }),
            Request::PutEntity { name, wish } => self.plan_put_entity(name, wish, unix_now),
            Request::RemoveEntity(name) => self.plan_remove_entity(name),
            Request::PutRule { entity, name, rights } => {
                self.plan_put_rule(entity, name, rights, random)
            }
            Request::RemoveRule { entity, name } => self.plan_remove_rule(entity, name),
            Request::PutRole(wish) => self.plan_put_role(*wish),
            Request::RemoveRole(name) => self.plan_remove_role(name),
            Request::PutNetwork(rules) if rules == self.network => Ok(Vec::new()),
            Request::PutNetwork(rules) => Ok(vec![Change::Network(rules)]),
            Request::RegenerateKey { entity, name, primary, key } => {
                let key = key.unwrap_or_else(|| new_key(random));
                self.plan_new_key(entity, &name, primary, key)
            }
        }
    }

    fn plan_put_cluster(
        &self,
        request: Request,
        unix_now: u64,
        random: &mut Random<'_>,
    ) -> Result<Vec<Change>, Refusal> {
        let Request::PutCluster {
            resource,
            location,
            tags,
            distribution,
            infrastructure,
            certificate,
            by,
        } = request
        else {
            return Ok(Vec::new());
        };
        let id = resource.cluster_id();
        let known = self.clusters.get(&id);
        if known.is_none() {
            bounded(self.clusters.len(), CLUSTERS_MAX, "connected clusters")?;
        }
        let mut facts =
            known.map_or_else(|| new_facts(resource, &by, unix_now), |known| known.facts.clone());
        facts.location = location.unwrap_or(facts.location);
        facts.tags = tags.unwrap_or(facts.tags);
        facts.distribution = distribution.unwrap_or(facts.distribution);
        facts.infrastructure = infrastructure.unwrap_or(facts.infrastructure);
        facts.certificate = certificate.unwrap_or(facts.certificate);
        if known.is_some_and(|known| known.facts == facts) {
            return Ok(Vec::new());
        }
        (facts.updated_at, facts.updated_by) = (unix_now, by);
        let mut changes = vec![Change::Cluster(Box::new(facts))];
        if known.is_none() {
            let (entity, name) = (cluster_entity(&id, unix_now), entity_of(&id));
            changes.push(Change::Entity(entity));
            for (rule, rights) in [(LISTEN_RULE, Rights::LISTEN), (SEND_RULE, Rights::SEND)] {
                changes.push(Change::Rule(Some(name.clone()), new_rule(rule, rights, random)));
            }
        }
        Ok(changes)
    }

    fn plan_join_token(
        &self,
        id: String,
        hash: String,
        expires: u64,
        unix_now: u64,
    ) -> Result<Vec<Change>, Refusal> {
        let known = self.known(&id)?;
        let agent = known.facts.agent.as_ref().map(|agent| &agent.key);
        // A used token answers its own agent's repeated question, and no other question, for ever.
        let obsolete = |token: &JoinToken| match &token.used_by {
            Some(key) => Some(key) != agent && token.expires <= unix_now,
            None => token.expires <= unix_now,
        };
        let gone = known.join_tokens.iter().filter(|(_, token)| obsolete(token));
        let mut changes: Vec<Change> =
            gone.map(|(hash, _)| Change::JoinTokenRemoved(id.clone(), hash.clone())).collect();
        let left = known.join_tokens.len().saturating_sub(changes.len());
        bounded(left, JOIN_TOKENS_MAX, "join tokens")?;
        changes.push(Change::JoinToken(id, hash, JoinToken { expires, used_by: None }));
        Ok(changes)
    }

    fn plan_enrol(
        &self,
        request: Request,
        unix_now: u64,
        random: &mut Random<'_>,
    ) -> Result<Vec<Change>, Refusal> {
        let Request::Enrol { cluster: id, hash, key, certificate, audiences } = request else {
            return Ok(Vec::new());
        };
        let known = self.clusters.get(&id).ok_or(Refusal::JoinTokenUnknown)?;
        let token = known.join_tokens.get(&hash).ok_or(Refusal::JoinTokenUnknown)?;
        let agent = known.facts.agent.as_ref();
        match &token.used_by {
            // The answer was lost on its way: give it again.
            Some(used_by) if *used_by == key && agent.is_some_and(|agent| agent.key == key) => {
                return Ok(Vec::new());
            }
            Some(_) => return Err(Refusal::JoinTokenUsed),
            None if token.expires <= unix_now => return Err(Refusal::JoinTokenExpired),
            None => {}
        }
        let mut changes = Vec::new();
        if agent.is_some_and(|agent| agent.key != key) {
            // The Listen tokens of the agent that was here before end with its key.
            let rule = new_rule(LISTEN_RULE, Rights::LISTEN, random);
            changes.push(Change::Rule(Some(entity_of(&id)), rule));
        }
        let mut facts = known.facts.clone();
        facts.certificate = certificate;
        facts.agent = Some(Agent { key: key.clone(), audiences, enrolled_at: unix_now });
        (facts.updated_at, facts.updated_by) = (unix_now, "agent".to_owned());
        changes.push(Change::Cluster(Box::new(facts)));
        let used = JoinToken { expires: token.expires, used_by: Some(key) };
        changes.push(Change::JoinToken(id, hash, used));
        Ok(changes)
    }

    fn known(&self, id: &str) -> Result<&Cluster, Refusal> {
        self.cluster(id).ok_or(Refusal::UnknownCluster)
    }
}

pub(super) fn bounded(have: usize, max: usize, what: &'static str) -> Result<(), Refusal> {
    if have < max { Ok(()) } else { Err(Refusal::TooMany(max, what)) }
}

fn new_facts(resource: ResourceId, by: &str, unix_now: u64) -> Facts {
    Facts {
        resource,
        location: "local".to_owned(),
        tags: BTreeMap::new(),
        distribution: String::new(),
        infrastructure: String::new(),
        certificate: Vec::new(),
        agent: None,
        created_at: unix_now,
        created_by: by.to_owned(),
        updated_at: unix_now,
        updated_by: by.to_owned(),
    }
}

fn cluster_entity(id: &str, unix_now: u64) -> Entity {
    Entity {
        name: entity_of(id),
        cluster: Some(id.to_owned()),
        requires_client_authorization: true,
        http: false,
        deadlines: Deadlines::default(),
        user_metadata: String::new(),
        created_at: unix_now,
        updated_at: unix_now,
        rules: BTreeMap::new(),
    }
}

pub(super) fn new_rule(name: &str, rights: Rights, random: &mut Random<'_>) -> Rule {
    let (primary, secondary) = (new_key(random), new_key(random));
    Rule { name: name.to_owned(), rights, primary, secondary }
}

fn new_key(random: &mut Random<'_>) -> Secret<String> {
    let mut key = [0; 32];
    random(&mut key);
    Secret::new(STANDARD.encode(key))
}

/// Why the registry stays as it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// No such cluster.
    UnknownCluster,
    /// No such hybrid connection.
    UnknownEntity,
    /// No such rule.
    UnknownRule,
    /// The hybrid connection belongs to a cluster and is changed through it alone.
    OfCluster,
    /// So many are the limit.
    TooMany(usize, &'static str),
    /// No such join token for this cluster.
    JoinTokenUnknown,
    /// The join token's time is over.
    JoinTokenExpired,
    /// The join token belongs to another key.
    JoinTokenUsed,
    /// There is no such role assignment.
    NotAssigned,
    /// Somebody has this role there already, under another name.
    RoleExists,
    /// The name is that of another role assignment.
    RoleIsAnother,
    /// The name breaks the rules for names.
    BadName,
    /// No right at all, or Manage without the others.
    BadRights,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCluster => f.write_str("there is no such connected cluster"),
            Self::UnknownEntity => f.write_str("there is no such hybrid connection"),
            Self::UnknownRule => f.write_str("there is no such authorization rule"),
            Self::OfCluster => f.write_str(
                "the hybrid connection belongs to a connected cluster; its rules and keys are \
                 the relay's own",
            ),
            Self::TooMany(max, what) => write!(f, "{max} {what} are the limit"),
            Self::JoinTokenUnknown => {
                f.write_str("the join token is not valid for this cluster; make a new one")
            }
            Self::JoinTokenExpired => f.write_str("the join token has expired; make a new one"),
            Self::JoinTokenUsed => {
                f.write_str("the join token was used by another key; make a new one")
            }
            Self::NotAssigned => f.write_str("there is no such role assignment"),
            Self::RoleExists => f.write_str("the role assignment already exists"),
            Self::RoleIsAnother => f.write_str(
                "the name is that of another role assignment, and none can be changed: remove it \
                 first",
            ),
            Self::BadName => f.write_str(
                "a name has segments of letters, digits, '-', '_' and '.', which begin and end \
                 with a letter or digit, and does not begin with a reserved word",
            ),
            Self::BadRights => f.write_str(
                "a rule has at least one right, and Manage only together with Listen and Send",
            ),
        }
    }
}

impl std::error::Error for Refusal {}

//! What the registry holds: clusters, hybrid connections, rules, join tokens.

use std::collections::BTreeMap;

use crate::auth::assignments::Assignments;
use crate::auth::sas::Rule;
use crate::role::relay::authority::Deadlines;
use crate::wire::resource::{ResourceId, entity_of};

/// A hybrid connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entity {
    /// As written; compared without case.
    pub name: String,
    /// The id of the cluster that it belongs to. Then its rules are the relay's own, their keys
    /// never leave it, and rules of the namespace do not apply.
    pub cluster: Option<String>,
    /// False: senders need no token.
    pub requires_client_authorization: bool,
    /// False: only WebSockets, no relayed HTTP requests.
    pub http: bool,
    /// How long listeners and senders may take.
    pub deadlines: Deadlines,
    /// Opaque to the relay.
    pub user_metadata: String,
    /// Unix time.
    pub created_at: u64,
    /// Unix time.
    pub updated_at: u64,
    /// By lower-case name.
    pub rules: BTreeMap<String, Box<Rule>>,
}

/// What is written down of a cluster as a whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Facts {
    /// Its name.
    pub resource: ResourceId,
    /// Where it is, for people.
    pub location: String,
    /// For people.
    pub tags: BTreeMap<String, String>,
    /// Kubernetes distribution, for people.
    pub distribution: String,
    /// What it runs on, for people.
    pub infrastructure: String,
    /// DER of the CA certificate of its auth proxy; empty until it has enrolled.
    pub certificate: Vec<u8>,
    /// The agent's public key, once it has enrolled.
    pub agent: Option<Agent>,
    /// Unix time.
    pub created_at: u64,
    /// For people.
    pub created_by: String,
    /// Unix time.
    pub updated_at: u64,
    /// For people.
    pub updated_by: String,
}

/// What an agent said of itself when it enrolled.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Agent {
    /// P-256 point, uncompressed.
    pub key: Vec<u8>,
    /// The audiences of its auth proxy; none of them is the relay's.
    pub audiences: Vec<String>,
    /// Unix time.
    pub enrolled_at: u64,
}

/// A connected cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cluster {
    /// What is written down as a whole.
    pub facts: Facts,
    /// Unix time at which its last listener came or went.
    pub last_seen: Option<u64>,
    /// By the hash of the token, in hexadecimal digits.
    pub join_tokens: BTreeMap<String, Box<JoinToken>>,
    /// Who may fetch a credential.
    pub assignments: Assignments,
}

impl Cluster {
    /// One that nobody has joined and nobody may reach.
    pub fn new(facts: Facts) -> Self {
        let (join_tokens, assignments) = (BTreeMap::new(), Assignments::default());
        Self { facts, last_seen: None, join_tokens, assignments }
    }

    /// The id that its hybrid connection is named after.
    pub fn id(&self) -> String {
        self.facts.resource.cluster_id()
    }

    /// Its hybrid connection.
    pub fn entity(&self) -> String {
        entity_of(&self.id())
    }
}

/// A join token; the token itself is known only to whoever got it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JoinToken {
    /// Unix time.
    pub expires: u64,
    /// The key that enrolled with it: the same one may ask again if it missed the answer.
    pub used_by: Option<Vec<u8>>,
}

/// Whether a cluster can be reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Presence {
    /// No listener has ever come.
    Never,
    /// A listener is there.
    Connected,
    /// The last listener went at this Unix time.
    OfflineSince(u64),
}

impl Presence {
    /// From what is written down, and whether a listener is there now.
    pub fn of(cluster: &Cluster, live: bool) -> Self {
        match (live, cluster.last_seen) {
            (true, _) => Self::Connected,
            (false, Some(at)) => Self::OfflineSince(at),
            (false, None) => Self::Never,
        }
    }
}

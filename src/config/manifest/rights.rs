//! What the account of an auth proxy may do: one definition for the manifest and for the account
//! that `edge` makes by itself.
//!
//! It may impersonate users and groups, with the extras that the auth proxy sends. It may do
//! nothing else: not service accounts, not UIDs, nothing by pattern.

use serde_json::{Value as Json, json};

use super::super::auth_proxy::{Gate, Impersonation};
use crate::wire::yaml::Node;

/// What an auth proxy is asked to do decides what it must be allowed to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rights {
    /// Kubernetes tokens are taken, and so TokenReview is asked.
    pub passthrough: bool,
    /// `kubectl --as` is allowed to whom SubjectAccessReview allows it.
    pub sar: bool,
}

/// A rule of RBAC, for one group of the API.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// The group; empty for the core.
    pub group: &'static str,
    /// `resource` or `resource/subresource`.
    pub resources: Vec<String>,
    /// What may be done.
    pub verb: &'static str,
    /// To which objects; to all where none is named.
    pub names: Vec<String>,
}

/// The extras that the auth proxy sends; RBAC has no pattern for them.
const EXTRAS: [&str; 3] =
    ["oid", "cluster-connect.internal/credential-id", "cluster-connect.internal/remote-ip"];

/// Who has impersonated, where that is allowed.
const ORIGINAL: &str = "original-user-info.cluster-connect.internal";

impl Rights {
    /// What the options of an auth proxy take.
    #[must_use]
    pub fn of(gate: &Gate) -> Self {
        Self {
            passthrough: gate.passthrough.is_some(),
            sar: gate.impersonation == Impersonation::Sar,
        }
    }

    /// The rules that hold in the whole cluster.
    #[must_use]
    pub fn rules(self) -> Vec<Rule> {
        let extras = EXTRAS.into_iter().chain(self.sar.then_some(ORIGINAL));
        let extras: Vec<String> = extras.map(|key| format!("userextras/{key}")).collect();
        let mut rules = vec![
            Rule::new("", ["users", "groups"], "impersonate"),
            Rule::new("authentication.k8s.io", extras, "impersonate"),
        ];
        if self.passthrough {
            rules.push(Rule::new("authentication.k8s.io", ["tokenreviews"], "create"));
        }
        if self.sar {
            rules.push(Rule::new("authorization.k8s.io", ["subjectaccessreviews"], "create"));
        }
        rules
    }
}

impl Rule {
    /// A rule for all objects of these kinds.
    pub fn new<T: Into<String>>(
        group: &'static str,
        resources: impl IntoIterator<Item = T>,
        verb: &'static str,
    ) -> Self {
        let resources = resources.into_iter().map(Into::into).collect();
        Self { group, resources, verb, names: Vec::new() }
    }

    /// An account may ask for tokens of its own: that is how it renews the one it has.
    #[must_use]
    pub fn own_token(account: &str) -> Self {
        let names = vec![account.to_owned()];
        Self { names, ..Self::new("", ["serviceaccounts/token"], "create") }
    }

    /// As the API takes it.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let mut rule = json!({
            "apiGroups": [self.group],
            "resources": self.resources,
            "verbs": [self.verb],
        });
        if !self.names.is_empty() {
            rule["resourceNames"] = json!(self.names);
        }
        rule
    }

    /// As a manifest has it.
    pub(super) fn to_node(&self) -> Node {
        let texts = |words: &[String]| Node::List(words.iter().map(Node::text).collect());
        let mut rule = Node::map([
            ("apiGroups", Node::List(vec![Node::text(self.group)])),
            ("resources", texts(&self.resources)),
            ("verbs", Node::List(vec![Node::text(self.verb)])),
        ]);
        if !self.names.is_empty() {
            rule.set("resourceNames", texts(&self.names));
        }
        rule
    }
}

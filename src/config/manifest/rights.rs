//! What the account of an auth proxy may do: one definition for the manifest and for the account
//! that `edge` makes by itself.
//!
//! It may impersonate users and groups, with the extras that the auth proxy sends. It may do
//! nothing else: not service accounts, not UIDs, nothing by pattern. There are two forms: the verb
//! that every Kubernetes knows, and the constrained ones (KEP-5284, on by default from 1.36), with
//! which kube-apiserver itself refuses `system:masters`, service accounts and nodes.

use serde_json::{Value as Json, json};

use super::super::auth_proxy::{Gate, Impersonation};
use crate::auth::impersonate::Verbs;
use crate::wire::yaml::Node;

/// What an auth proxy is asked to do decides what it must be allowed to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rights {
    /// Kubernetes tokens are taken, and so TokenReview is asked.
    pub passthrough: bool,
    /// `kubectl --as` is allowed to whom SubjectAccessReview allows it.
    pub sar: bool,
    /// By the constrained verbs.
    pub constrained: bool,
}

/// A rule of RBAC, for one group of the API or for paths that are no resources.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// The group; empty for the core.
    pub group: &'static str,
    /// `resource` or `resource/subresource`.
    pub resources: Vec<String>,
    /// What may be done.
    pub verbs: Vec<&'static str>,
    /// To which objects; to all where none is named.
    pub names: Vec<String>,
    /// Paths that are no resources. A rule with these has no resources.
    pub paths: Vec<&'static str>,
}

/// The extras that the auth proxy sends; RBAC has no pattern for them.
const OWN_EXTRAS: [&str; 2] =
    ["cluster-connect.internal/credential-id", "cluster-connect.internal/remote-ip"];

/// What may be done as somebody else: everything, but RBAC has no pattern for verbs either.
const ON_RESOURCES: [&str; 8] = [
    "impersonate-on:user-info:get",
    "impersonate-on:user-info:list",
    "impersonate-on:user-info:watch",
    "impersonate-on:user-info:create",
    "impersonate-on:user-info:update",
    "impersonate-on:user-info:patch",
    "impersonate-on:user-info:delete",
    "impersonate-on:user-info:deletecollection",
];

/// The same for discovery, health and whatever else is no resource: there methods are the verbs.
const ON_PATHS: [&str; 7] = [
    "impersonate-on:user-info:get",
    "impersonate-on:user-info:head",
    "impersonate-on:user-info:post",
    "impersonate-on:user-info:put",
    "impersonate-on:user-info:patch",
    "impersonate-on:user-info:delete",
    "impersonate-on:user-info:options",
];

const IDENTITY: &str = "authentication.k8s.io";

impl Rights {
    /// What the options of an auth proxy take.
    #[must_use]
    pub fn of(gate: &Gate) -> Self {
        Self {
            passthrough: gate.passthrough.is_some(),
            sar: gate.impersonation == Impersonation::Sar,
            constrained: gate.verbs == Verbs::Constrained,
        }
    }

    /// The rules that hold in the whole cluster.
    #[must_use]
    pub fn rules(self) -> Vec<Rule> {
        let mut rules = if self.constrained {
            let info = ["impersonate:user-info"];
            vec![
                Rule::new(IDENTITY, ["users", "groups"], info),
                Rule::new(IDENTITY, self.extras(Verbs::Constrained), info),
                Rule::new("*", ["*"], ON_RESOURCES),
                Rule { paths: vec!["*"], ..Rule::new("", [""; 0], ON_PATHS) },
            ]
        } else {
            let verb = ["impersonate"];
            vec![
                Rule::new("", ["users", "groups"], verb),
                Rule::new(IDENTITY, self.extras(Verbs::Legacy), verb),
            ]
        };
        if self.passthrough {
            rules.push(Rule::new(IDENTITY, ["tokenreviews"], ["create"]));
        }
        if self.sar {
            rules.push(Rule::new("authorization.k8s.io", ["subjectaccessreviews"], ["create"]));
        }
        rules
    }

    /// The extras that the auth proxy sends under these verbs.
    fn extras(self, verbs: Verbs) -> Vec<String> {
        let own = OWN_EXTRAS.into_iter().map(str::to_owned);
        let original = self.sar.then(|| verbs.original_user_info());
        let all = [verbs.key("oid").into_owned()].into_iter().chain(own).chain(original);
        all.map(|key| format!("userextras/{key}")).collect()
    }
}

impl Rule {
    /// A rule for all objects of these kinds.
    pub fn new<T: Into<String>>(
        group: &'static str,
        resources: impl IntoIterator<Item = T>,
        verbs: impl IntoIterator<Item = &'static str>,
    ) -> Self {
        let resources = resources.into_iter().map(Into::into).collect();
        let verbs = verbs.into_iter().collect();
        Self { group, resources, verbs, names: Vec::new(), paths: Vec::new() }
    }

    /// An account may ask for tokens of its own: that is how it renews the one it has.
    #[must_use]
    pub fn own_token(account: &str) -> Self {
        let names = vec![account.to_owned()];
        Self { names, ..Self::new("", ["serviceaccounts/token"], ["create"]) }
    }

    /// As the API takes it.
    #[must_use]
    pub fn to_json(&self) -> Json {
        if !self.paths.is_empty() {
            return json!({ "nonResourceURLs": self.paths, "verbs": self.verbs });
        }
        let mut rule = json!({
            "apiGroups": [self.group],
            "resources": self.resources,
            "verbs": self.verbs,
        });
        if !self.names.is_empty() {
            rule["resourceNames"] = json!(self.names);
        }
        rule
    }

    /// As a manifest has it.
    pub(super) fn to_node(&self) -> Node {
        fn texts<T: AsRef<str>>(words: &[T]) -> Node {
            Node::List(words.iter().map(|word| Node::text(word.as_ref())).collect())
        }
        let verbs = texts(&self.verbs);
        if !self.paths.is_empty() {
            return Node::map([("nonResourceURLs", texts(&self.paths)), ("verbs", verbs)]);
        }
        let mut rule = Node::map([
            ("apiGroups", texts(&[self.group])),
            ("resources", texts(&self.resources)),
            ("verbs", verbs),
        ]);
        if !self.names.is_empty() {
            rule.set("resourceNames", texts(&self.names));
        }
        rule
    }
}

//! The resources the server has: one table from which routing, discovery and OpenAPI follow.

/// A resource that is stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resource {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    /// Also the key in the store, so it is unique over all groups.
    pub(crate) plural: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) namespaced: bool,
    pub(crate) short: &'static [&'static str],
    pub(crate) subresources: &'static [Subresource],
}

/// Something below an object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subresource {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    /// Where its kind belongs, if not to the parent's group and version.
    pub(crate) of: Option<(&'static str, &'static str)>,
    pub(crate) verbs: &'static [&'static str],
}

/// A question that is answered and not stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Review {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) namespaced: bool,
}

pub(crate) const VERBS: [&str; 8] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

const STREAM: &[&str] = &["create", "get"];
const EDIT: &[&str] = &["get", "patch", "update"];
const POST: &[&str] = &["create"];
const READ: &[&str] = &["get"];

const fn sub(
    name: &'static str,
    kind: &'static str,
    verbs: &'static [&'static str],
) -> Subresource {
    Subresource { name, kind, of: None, verbs }
}

const POD_SUBRESOURCES: &[Subresource] = &[
    sub("attach", "PodAttachOptions", STREAM),
    sub("ephemeralcontainers", "Pod", EDIT),
    Subresource { of: Some(("policy", "v1")), ..sub("eviction", "Eviction", POST) },
    sub("exec", "PodExecOptions", STREAM),
    sub("log", "Pod", READ),
    sub("portforward", "PodPortForwardOptions", STREAM),
    sub("status", "Pod", EDIT),
];

const ACCOUNT_SUBRESOURCES: &[Subresource] = &[Subresource {
    of: Some(("authentication.k8s.io", "v1")),
    ..sub("token", "TokenRequest", POST)
}];

const fn core(
    plural: &'static str,
    kind: &'static str,
    short: &'static [&'static str],
) -> Resource {
    let subresources = &[];
    Resource { group: "", version: "v1", plural, kind, namespaced: true, short, subresources }
}

const fn rbac(plural: &'static str, kind: &'static str, namespaced: bool) -> Resource {
    Resource { group: "rbac.authorization.k8s.io", namespaced, ..core(plural, kind, &[]) }
}

const fn apps(
    plural: &'static str,
    kind: &'static str,
    short: &'static [&'static str],
) -> Resource {
    Resource { group: "apps", ..core(plural, kind, short) }
}

pub(crate) const RESOURCES: &[Resource] = &[
    core("configmaps", "ConfigMap", &["cm"]),
    core("endpoints", "Endpoints", &["ep"]),
    core("events", "Event", &["ev"]),
    Resource {
        namespaced: false,
        subresources: &[sub("status", "Namespace", EDIT)],
        ..core("namespaces", "Namespace", &["ns"])
    },
    Resource {
        namespaced: false,
        subresources: &[sub("status", "Node", EDIT)],
        ..core("nodes", "Node", &["no"])
    },
    Resource { subresources: POD_SUBRESOURCES, ..core("pods", "Pod", &["po"]) },
    core("secrets", "Secret", &[]),
    Resource {
        subresources: ACCOUNT_SUBRESOURCES,
        ..core("serviceaccounts", "ServiceAccount", &["sa"])
    },
    core("services", "Service", &["svc"]),
    apps("daemonsets", "DaemonSet", &["ds"]),
    apps("deployments", "Deployment", &["deploy"]),
    apps("replicasets", "ReplicaSet", &["rs"]),
    apps("statefulsets", "StatefulSet", &["sts"]),
    Resource { group: "coordination.k8s.io", ..core("leases", "Lease", &[]) },
    Resource { group: "policy", ..core("poddisruptionbudgets", "PodDisruptionBudget", &["pdb"]) },
    rbac("clusterrolebindings", "ClusterRoleBinding", false),
    rbac("clusterroles", "ClusterRole", false),
    rbac("rolebindings", "RoleBinding", true),
    rbac("roles", "Role", true),
];

const fn authn(version: &'static str, plural: &'static str, kind: &'static str) -> Review {
    Review { group: "authentication.k8s.io", version, plural, kind, namespaced: false }
}

const fn authz(plural: &'static str, kind: &'static str, namespaced: bool) -> Review {
    Review { group: "authorization.k8s.io", version: "v1", plural, kind, namespaced }
}

pub(crate) const REVIEWS: &[Review] = &[
    authn("v1", "selfsubjectreviews", "SelfSubjectReview"),
    authn("v1", "tokenreviews", "TokenReview"),
    authn("v1beta1", "selfsubjectreviews", "SelfSubjectReview"),
    authn("v1alpha1", "selfsubjectreviews", "SelfSubjectReview"),
    authz("localsubjectaccessreviews", "LocalSubjectAccessReview", true),
    authz("selfsubjectaccessreviews", "SelfSubjectAccessReview", false),
    authz("selfsubjectrulesreviews", "SelfSubjectRulesReview", false),
    authz("subjectaccessreviews", "SubjectAccessReview", false),
];

impl Resource {
    pub(crate) fn api_version(&self) -> String {
        api_version(self.group, self.version)
    }

    /// What `kubectl` prints in messages: `configmaps`, `roles.rbac.authorization.k8s.io`.
    pub(crate) fn qualified(&self) -> String {
        match self.group {
            "" => self.plural.into(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// What `kubectl get all` shows.
    pub(crate) fn categories(&self) -> &'static [&'static str] {
        match (self.group, self.plural) {
            ("apps", _) | (_, "pods" | "services") => &["all"],
            _ => &[],
        }
    }

    pub(crate) fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|subresource| subresource.name == name)
    }
}

pub(crate) fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    RESOURCES.iter().find(|r| r.group == group && r.version == version && r.plural == plural)
}

pub(crate) fn find_review(group: &str, version: &str, plural: &str) -> Option<&'static Review> {
    REVIEWS.iter().find(|r| r.group == group && r.version == version && r.plural == plural)
}

pub(crate) fn api_version(group: &str, version: &str) -> String {
    match group {
        "" => version.into(),
        group => format!("{group}/{version}"),
    }
}

/// Every group with its versions, preferred first; the core group is not among them.
pub(crate) fn groups() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut groups: Vec<(&'static str, Vec<&'static str>)> = Vec::new();
    let stored = RESOURCES.iter().map(|r| (r.group, r.version));
    for (group, version) in stored.chain(REVIEWS.iter().map(|r| (r.group, r.version))) {
        if group.is_empty() {
            continue;
        }
        match groups.iter_mut().find(|(known, _)| *known == group) {
            Some((_, versions)) if versions.contains(&version) => {}
            Some((_, versions)) => versions.push(version),
            None => groups.push((group, vec![version])),
        }
    }
    groups
}

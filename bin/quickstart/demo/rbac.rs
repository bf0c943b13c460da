//! Authorization: the roles and bindings in the store, evaluated for each request anew.
//! What is left out: the check that nobody grants more than he has (`escalate`, `bind`).

use serde_json::{Value, json};

use super::identity::User;
use super::route::Route;
use super::status::Status;
use super::store::Store;

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) is_resource: bool,
}

/// Decides by what is in the store now.
pub(crate) struct Authorizer<'s> {
    store: &'s Store,
}

impl Attributes {
    pub(crate) fn of(route: &Route) -> Self {
        Self {
            verb: route.verb.clone(),
            group: route.group.clone(),
            resource: route.resource.clone(),
            subresource: route.subresource.clone(),
            namespace: route.namespace.clone(),
            name: route.name.clone(),
            path: route.path.clone(),
            is_resource: route.is_resource,
        }
    }

    /// `resource` or `resource/subresource`, as rules and messages write it.
    pub(crate) fn full_resource(&self) -> String {
        match self.subresource.as_str() {
            "" => self.resource.clone(),
            subresource => format!("{}/{subresource}", self.resource),
        }
    }

    /// The 403 in kube-apiserver's words.
    pub(crate) fn refusal(&self, user: &User) -> Status {
        if !self.is_resource {
            let message = format!(
                "forbidden: User {:?} cannot {} path {:?}",
                user.name, self.verb, self.path
            );
            return Status::forbidden("", "", message);
        }
        let subject = match self.name.as_str() {
            "" => self.resource.clone(),
            name => format!("{} {name:?}", self.resource),
        };
        let scope = match self.namespace.as_str() {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace {namespace:?}"),
        };
        let message = format!(
            "{subject} is forbidden: User {:?} cannot {} resource {:?} in API group {:?} {scope}",
            user.name,
            self.verb,
            self.full_resource(),
            self.group,
        );
        Status::forbidden(&self.resource, &self.name, message)
    }
}

impl<'s> Authorizer<'s> {
    pub(crate) fn new(store: &'s Store) -> Self {
        Self { store }
    }

    pub(crate) fn allows(&self, user: &User, wanted: &Attributes) -> bool {
        user.groups.iter().any(|group| group == "system:masters")
            || self.rules_for(user, &wanted.namespace).iter().any(|rule| covers(rule, wanted))
    }

    /// Every rule that holds for the user in this namespace (none: cluster-wide ones alone).
    pub(crate) fn rules_for(&self, user: &User, namespace: &str) -> Vec<Value> {
        let mut rules = Vec::new();
        for binding in self.store.all("clusterrolebindings") {
            if has_subject(&binding, user, "") {
                rules.extend(self.role_rules(&binding, ""));
            }
        }
        if !namespace.is_empty() {
            for binding in self.store.list("rolebindings", namespace).1 {
                if has_subject(&binding, user, namespace) {
                    rules.extend(self.role_rules(&binding, namespace));
                }
            }
        }
        rules
    }

    fn role_rules(&self, binding: &Value, namespace: &str) -> Vec<Value> {
        let kind = text(binding, "/roleRef/kind");
        let name = text(binding, "/roleRef/name");
        let role = match kind {
            "ClusterRole" => self.store.get("clusterroles", "", name),
            "Role" => self.store.get("roles", namespace, name),
            _ => None,
        };
        role.and_then(|role| role.get("rules").and_then(Value::as_array).cloned())
            .unwrap_or_default()
    }
}

/// The rules of SelfSubjectRulesReview, sorted into its two lists.
pub(crate) fn rules_review(rules: &[Value]) -> Value {
    let is_path_rule = |rule: &&Value| !list(rule, "nonResourceURLs").is_empty();
    let paths: Vec<_> = rules.iter().filter(is_path_rule).collect();
    let resources: Vec<_> = rules.iter().filter(|rule| !is_path_rule(rule)).collect();
    json!({ "resourceRules": resources, "nonResourceRules": paths, "incomplete": false })
}

fn has_subject(binding: &Value, user: &User, namespace: &str) -> bool {
    let subjects = binding.get("subjects").and_then(Value::as_array);
    subjects.into_iter().flatten().any(|subject| {
        let name = text(subject, "/name");
        match text(subject, "/kind") {
            "User" => name == user.name,
            "Group" => user.groups.iter().any(|group| group == name),
            "ServiceAccount" => {
                let own = text(subject, "/namespace");
                let of = if own.is_empty() { namespace } else { own };
                user.service_account_parts() == Some((of, name))
            }
            _ => false,
        }
    })
}

fn covers(rule: &Value, wanted: &Attributes) -> bool {
    if !matches_any(&list(rule, "verbs"), &wanted.verb) {
        return false;
    }
    if !wanted.is_resource {
        return list(rule, "nonResourceURLs").iter().any(|url| match url.strip_suffix('*') {
            Some(prefix) => wanted.path.starts_with(prefix),
            None => *url == wanted.path,
        });
    }
    let names = list(rule, "resourceNames");
    matches_any(&list(rule, "apiGroups"), &wanted.group)
        && list(rule, "resources").iter().any(|resource| covers_resource(resource, wanted))
        && (names.is_empty() || names.contains(&wanted.name.as_str()))
}

fn covers_resource(rule: &str, wanted: &Attributes) -> bool {
    if rule == "*" || rule == wanted.full_resource() {
        return true;
    }
    let of_any_resource = rule.strip_prefix("*/");
    !wanted.subresource.is_empty() && of_any_resource == Some(wanted.subresource.as_str())
}

fn matches_any(allowed: &[&str], wanted: &str) -> bool {
    allowed.iter().any(|value| *value == "*" || *value == wanted)
}

fn list<'v>(rule: &'v Value, field: &str) -> Vec<&'v str> {
    let values = rule.get(field).and_then(Value::as_array);
    values.into_iter().flatten().filter_map(Value::as_str).collect()
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

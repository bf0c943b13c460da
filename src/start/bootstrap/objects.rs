//! The objects that a cluster must have for the account: looked at first, made if they are not
//! there, changed if they are otherwise. What others have added to them stays.

use serde_json::{Map, Value as Json, json};

use super::{Account, refused};
use crate::config::errors::{Code, Error};
use crate::config::manifest::rights::Rule;
use crate::io::apiserver::{ApiServer, Failure};

/// One of them.
struct Object {
    /// For people.
    kind: &'static str,
    /// Where objects of its kind are.
    collection: String,
    name: String,
    version: &'static str,
    namespace: Option<String>,
    /// The fields that must be as they are here.
    fields: Vec<(&'static str, Json)>,
}

const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// What a role binding binds; it cannot be changed.
const ROLE_REF: &str = "roleRef";

/// Between looking and writing somebody else may write, for example another edge.
const ATTEMPTS: usize = 4;

/// Makes everything as it must be.
///
/// # Errors
///
/// Those of the API server, and `BOOTSTRAP_CONFLICT`.
pub(super) fn apply(api: &ApiServer, account: &Account) -> Result<(), Error> {
    all(account).iter().try_for_each(|object| object.apply(api))
}

/// In the order in which they need each other.
fn all(account: &Account) -> [Object; 6] {
    let Account { namespace, name, role, rights } = account;
    let within = format!("/api/v1/namespaces/{namespace}");
    let rbac = format!("/apis/{RBAC}");
    let rbac_within = format!("{rbac}/namespaces/{namespace}");
    let rules = |rules: &[Rule]| ("rules", rules.iter().map(Rule::to_json).collect());
    let subject = json!([{ "kind": "ServiceAccount", "name": name, "namespace": namespace }]);
    let binds = |kind: &str, role: &str| {
        let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role });
        vec![(ROLE_REF, role), ("subjects", subject.clone())]
    };
    let global = |kind, collection: &str, name: &str, version, fields| Object {
        kind,
        collection: collection.to_owned(),
        name: name.to_owned(),
        version,
        namespace: None,
        fields,
    };
    let local = |kind, collection: &str, version, fields| Object {
        namespace: Some(namespace.clone()),
        ..global(kind, collection, name, version, fields)
    };
    let (cluster, own) = (rules(&rights.rules()), rules(&[Rule::own_token(name)]));
    let unmounted = ("automountServiceAccountToken", json!(false));
    [
        global("Namespace", "/api/v1/namespaces", namespace, "v1", Vec::new()),
        local("ServiceAccount", &format!("{within}/serviceaccounts"), "v1", vec![unmounted]),
        global("ClusterRole", &format!("{rbac}/clusterroles"), role, RBAC, vec![cluster]),
        global(
            "ClusterRoleBinding",
            &format!("{rbac}/clusterrolebindings"),
            role,
            RBAC,
            binds("ClusterRole", role),
        ),
        local("Role", &format!("{rbac_within}/roles"), RBAC, vec![own]),
        local("RoleBinding", &format!("{rbac_within}/rolebindings"), RBAC, binds("Role", name)),
    ]
}

impl Object {
    fn apply(&self, api: &ApiServer) -> Result<(), Error> {
        let path = format!("{}/{}", self.collection, self.name);
        let failed = |why| refused(&format!("cannot make the {} {}", self.kind, self.name), why);
        for _ in 0..ATTEMPTS {
            let written = match api.call("GET", &path, None) {
                Ok(found) => match self.merged(&found)? {
                    Some(changed) => api.call("PUT", &path, Some(&changed)),
                    None => return Ok(()),
                },
                Err(Failure::Refused(404, _)) => {
                    api.call("POST", &self.collection, Some(&self.fresh()))
                }
                Err(why) => Err(why),
            };
            match written {
                Ok(_) => {
                    log::info!("the cluster has the {} {} now", self.kind, self.name);
                    return Ok(());
                }
                // Somebody was quicker.
                Err(Failure::Refused(409, _)) => (),
                Err(why) => return Err(failed(why)),
            }
        }
        Err(failed(Failure::Refused(409, "others keep changing it".to_owned())))
    }

    fn fresh(&self) -> Json {
        let mut metadata = json!({
            "name": self.name,
            "labels": { "app.kubernetes.io/managed-by": "cluster-connect" },
        });
        if let Some(namespace) = &self.namespace {
            metadata["namespace"] = json!(namespace);
        }
        let mut object =
            json!({ "apiVersion": self.version, "kind": self.kind, "metadata": metadata });
        for (key, value) in &self.fields {
            object[*key] = value.clone();
        }
        object
    }

    /// What `found` must become; `None` where it is good as it is.
    fn merged(&self, found: &Json) -> Result<Option<Json>, Error> {
        let differs =
            |key: &str, wanted: &Json| found.get(key).map(meaning).as_ref() != Some(wanted);
        let mut merged = match found {
            Json::Object(object) => object.clone(),
            _ => {
                let why = Failure::Answer(format!("no {} in it", self.kind));
                return Err(refused("cannot look at the cluster", why));
            }
        };
        let mut is_changed = false;
        for (key, wanted) in &self.fields {
            if !differs(key, wanted) {
                continue;
            }
            if *key == ROLE_REF {
                let what = format!("the {} {} is for another role", self.kind, self.name);
                let kind = self.kind.to_lowercase();
                let within = self.namespace.iter().map(|name| format!(" -n {name}"));
                let within: String = within.collect();
                return Err(Error::new(Code::BootstrapConflict, what)
                    .hint(format!("kubectl delete {kind}{within} {}", self.name)));
            }
            merged.insert((*key).to_owned(), wanted.clone());
            is_changed = true;
        }
        Ok(is_changed.then_some(Json::Object(merged)))
    }
}

/// A value without the empty fields in it, which servers leave out or put in as they like.
fn meaning(value: &Json) -> Json {
    let says_something = |value: &Json| match value {
        Json::Null => false,
        Json::String(text) => !text.is_empty(),
        Json::Array(items) => !items.is_empty(),
        Json::Object(fields) => !fields.is_empty(),
        Json::Bool(_) | Json::Number(_) => true,
    };
    match value {
        Json::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| (key.clone(), meaning(value)));
            Json::Object(fields.filter(|(_, value)| says_something(value)).collect::<Map<_, _>>())
        }
        Json::Array(items) => items.iter().map(meaning).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: &str) -> Object {
        all(&Account::default()).into_iter().find(|object| object.kind == kind).unwrap()
    }

    #[test]
    fn what_was_made_is_left_alone_also_with_a_servers_defaults() {
        for object in all(&Account::default()) {
            let mut found = object.fresh();
            assert_eq!(object.merged(&found).unwrap(), None, "{}", object.kind);
            found["metadata"]["resourceVersion"] = json!("5");
            found["secrets"] = json!([]);
            if let Some(rules) = found.get_mut("rules").and_then(Json::as_array_mut) {
                rules.iter_mut().for_each(|rule| rule["nonResourceURLs"] = Json::Null);
            }
            if let Some(subject) = found.pointer_mut("/subjects/0") {
                subject["apiGroup"] = json!("");
            }
            assert_eq!(object.merged(&found).unwrap(), None, "{}", object.kind);
        }
    }

    #[test]
    fn rules_and_subjects_are_brought_back_to_the_least() {
        let role = object("ClusterRole");
        let mut found = role.fresh();
        found["metadata"]["labels"]["theirs"] = json!("stays");
        found["rules"]
            .as_array_mut()
            .unwrap()
            .push(json!({ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }));
        let merged = role.merged(&found).unwrap().unwrap();
        assert_eq!(merged["rules"], role.fresh()["rules"]);
        assert_eq!(merged["metadata"]["labels"]["theirs"], "stays");

        let binding = object("ClusterRoleBinding");
        let mut found = binding.fresh();
        found["subjects"].as_array_mut().unwrap().push(json!({ "kind": "User", "name": "eve" }));
        let merged = binding.merged(&found).unwrap().unwrap();
        assert_eq!(merged["subjects"], binding.fresh()["subjects"]);
        found["subjects"] = Json::Null;
        assert!(binding.merged(&found).unwrap().is_some());
    }

    #[test]
    fn a_binding_of_another_role_is_a_conflict() {
        for (kind, hint) in [
            ("ClusterRoleBinding", "clusterrolebinding cluster-connect:kube-aad-proxy"),
            ("RoleBinding", "rolebinding -n cluster-connect kube-aad-proxy"),
        ] {
            let binding = object(kind);
            let mut found = binding.fresh();
            found["roleRef"]["name"] = json!("cluster-admin");
            let error = binding.merged(&found).unwrap_err();
            assert_eq!(error.code, Code::BootstrapConflict);
            assert_eq!(error.hint.unwrap(), format!("kubectl delete {hint}"));
        }
    }

    #[test]
    fn a_rule_for_everything_is_not_taken_for_an_empty_one() {
        let rule = json!({ "apiGroups": [""], "resources": ["pods"] });
        assert_eq!(meaning(&rule), rule, "the empty group is the core group");
        let bare = json!({ "kind": "ServiceAccount", "apiGroup": "", "x": { "y": [] } });
        assert_eq!(meaning(&bare), json!({ "kind": "ServiceAccount" }));
    }

    #[test]
    fn an_answer_that_is_no_object_is_refused() {
        let error = object("Namespace").merged(&json!([])).unwrap_err();
        assert_eq!(error.code, Code::ApiServerAnswer);
    }
}

//! What a credential may do at the API server: enough, and not more.

use serde_json::{Value as Json, json};

use super::{Account, api, refused};
use crate::config::errors::{Code, Error};
use crate::config::kubeconfig::Upstream;
use crate::config::manifest::rights::{Rights, Rule};
use crate::io::apiserver::{ApiServer, Failure};

/// What the API server says of a credential.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Privileges {
    /// It may do everything.
    pub is_administrator: bool,
    /// What it may do and must not, in words.
    pub excess: Vec<&'static str>,
    /// What it may not do and must, as `verb resource`.
    pub missing: Vec<String>,
}

/// Asks what the credential may do. What it may not do although it must is a warning: somebody may
/// have allowed it for certain users and groups only. What it may do although it must not is an
/// error if `require_least`, and otherwise a loud warning.
///
/// # Errors
///
/// `LEAST_PRIVILEGE`, and those of the API server.
pub fn check_privileges(
    access: &Upstream,
    rights: Rights,
    require_least: bool,
) -> Result<Privileges, Error> {
    let found = match ask(&api(access)?, rights) {
        Ok(found) => found,
        Err(why @ (Failure::Answer(_) | Failure::Refused(..))) if !require_least => {
            log::warn!("what the credential for the API server may do is not known: {why}");
            return Ok(Privileges::default());
        }
        Err(why) => return Err(refused("cannot ask what the credential may do", why)),
    };
    for what in &found.missing {
        log::warn!("the credential for the API server may not {what}: requests may fail with 403");
    }
    if let Some(what) = found.words() {
        if require_least {
            return Err(Error::new(Code::LeastPrivilege, what).hint(
                "let edge make an account of its own, or use one with the rights of \
                 cluster-connect manifest; --no-require-least-privilege starts anyway",
            ));
        }
        log::error!("{what}: whoever breaks into this process has these rights");
    }
    Ok(found)
}

fn ask(api: &ApiServer, rights: Rights) -> Result<Privileges, Failure> {
    Ok(Privileges {
        is_administrator: may(api, &Question::all("*", "*", "*"))?,
        excess: excess(api, rights)?,
        missing: missing(api, &rights.rules(), "")?,
    })
}

impl Privileges {
    /// What is too much, as a sentence; `None` where nothing is.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        if self.is_administrator {
            return Some("the credential for the API server is an administrator's".to_owned());
        }
        let all = self.excess.join(", ");
        (!all.is_empty()).then(|| format!("the credential for the API server may {all}"))
    }
}

/// The first thing of these rules that may not be done, if there is one. An account asks for its
/// own token in its own namespace.
pub(super) fn lacks(api: &ApiServer, account: &Account) -> Result<Option<String>, Failure> {
    let cluster = missing(api, &account.rights.rules(), "")?;
    let own = missing(api, &[Rule::own_token(&account.name)], &account.namespace)?;
    Ok(cluster.into_iter().chain(own).next())
}

/// Rights that would make a burglar of the auth proxy one of the cluster.
fn excess(api: &ApiServer, rights: Rights) -> Result<Vec<&'static str>, Failure> {
    let rbac = "rbac.authorization.k8s.io";
    let unconstrained = (
        Question::all("impersonate", "", "users"),
        "impersonate by the old verb too, which the API server does not constrain",
    );
    let mut all = Vec::new();
    for (question, words) in [
        (Question::all("list", "", "secrets"), "list every secret"),
        (Question::all("impersonate", "", "serviceaccounts"), "impersonate service accounts"),
        (Question::all("create", rbac, "clusterrolebindings"), "bind cluster roles"),
    ]
    .into_iter()
    .chain(rights.constrained.then_some(unconstrained))
    {
        if may(api, &question)? {
            all.push(words);
        }
    }
    Ok(all)
}

fn missing(api: &ApiServer, rules: &[Rule], namespace: &str) -> Result<Vec<String>, Failure> {
    let mut all = Vec::new();
    for rule in rules {
        for verb in &rule.verbs {
            for question in questions(rule, verb, namespace) {
                if !may(api, &question)? {
                    all.push(format!("{verb} {}", question.about()));
                }
            }
        }
    }
    Ok(all)
}

fn questions<'a>(rule: &'a Rule, verb: &'a str, namespace: &'a str) -> Vec<Question<'a>> {
    let paths = rule.paths.iter().map(|path| Question { path, ..Question::all(verb, "", "") });
    let mut all: Vec<_> = paths.collect();
    for resource in &rule.resources {
        let names: Vec<&str> = match rule.names.as_slice() {
            [] => vec![""],
            some => some.iter().map(String::as_str).collect(),
        };
        let whole = Question { namespace, ..Question::all(verb, rule.group, resource) };
        all.extend(names.into_iter().map(|name| Question { name, ..whole }));
    }
    all
}

/// May this be done?
#[derive(Clone, Copy, Debug)]
struct Question<'a> {
    verb: &'a str,
    group: &'a str,
    /// `resource` or `resource/subresource`.
    resource: &'a str,
    namespace: &'a str,
    name: &'a str,
    /// Instead of all that: a path that is no resource.
    path: &'a str,
}

impl<'a> Question<'a> {
    /// To every object of the cluster.
    const fn all(verb: &'a str, group: &'a str, resource: &'a str) -> Self {
        Self { verb, group, resource, namespace: "", name: "", path: "" }
    }

    const fn about(&self) -> &'a str {
        if self.path.is_empty() { self.resource } else { self.path }
    }

    fn body(&self) -> Json {
        let (resource, subresource) = self.resource.split_once('/').unwrap_or((self.resource, ""));
        let spec = if self.path.is_empty() {
            json!({ "resourceAttributes": {
                "verb": self.verb,
                "group": self.group,
                "resource": resource,
                "subresource": subresource,
                "namespace": self.namespace,
                "name": self.name,
            }})
        } else {
            json!({ "nonResourceAttributes": { "verb": self.verb, "path": self.path } })
        };
        json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": spec,
        })
    }
}

fn may(api: &ApiServer, question: &Question<'_>) -> Result<bool, Failure> {
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let answer = api.call("POST", path, Some(&question.body()))?;
    let allowed = answer.pointer("/status/allowed").and_then(Json::as_bool);
    allowed.ok_or_else(|| Failure::Answer("a review without a verdict".to_owned()))
}

//! What a path asks for: kube-apiserver's `RequestInfo`, rule by rule.

use super::http::Request;

/// A request as authorization, audit and dispatch see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) is_resource: bool,
    pub(crate) path: String,
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) name: String,
    /// Anything after the subresource, which only proxies may have.
    pub(crate) has_tail: bool,
}

impl Route {
    pub(crate) fn of(request: &Request) -> Self {
        let mut route = Self {
            path: request.path.clone(),
            verb: request.method.to_lowercase(),
            ..Self::default()
        };
        let trimmed = request.path.trim_matches('/');
        let parts: Vec<&str> = trimmed.split('/').collect();
        let after_version = match parts.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => {
                route.version = (*version).into();
                rest
            }
            ["apis", group, version, rest @ ..] if !rest.is_empty() => {
                route.group = (*group).into();
                route.version = (*version).into();
                rest
            }
            _ => return route,
        };
        route.is_resource = true;
        route.verb = match request.method.as_str() {
            "POST" => "create",
            "GET" | "HEAD" => "get",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" => "delete",
            _ => "",
        }
        .into();
        let rest = match after_version {
            ["watch", rest @ ..] => {
                route.verb = "watch".into();
                rest
            }
            ["proxy", rest @ ..] => {
                route.verb = "proxy".into();
                rest
            }
            rest => rest,
        };
        route.take_names(rest);
        route.refine_verb(request);
        route
    }

    fn take_names(&mut self, parts: &[&str]) {
        let parts = match parts {
            ["namespaces", namespace, third, ..] if !matches!(*third, "status" | "finalize") => {
                self.namespace = (*namespace).into();
                parts.get(2..).unwrap_or_default()
            }
            ["namespaces", namespace, ..] => {
                self.namespace = (*namespace).into();
                parts
            }
            parts => parts,
        };
        let part = |at: usize| parts.get(at).copied().unwrap_or_default().to_owned();
        self.resource = part(0);
        self.name = part(1);
        self.subresource = part(2);
        self.has_tail = parts.len() > 3;
    }

    fn refine_verb(&mut self, request: &Request) {
        if !self.name.is_empty() {
            return;
        }
        match self.verb.as_str() {
            "get" => {
                self.verb = if request.query.is_set("watch") { "watch" } else { "list" }.into();
            }
            "delete" => self.verb = "deletecollection".into(),
            _ => {}
        }
        if matches!(self.verb.as_str(), "list" | "watch" | "deletecollection")
            && let Some(name) = request.query.get("fieldSelector").and_then(exact_name)
        {
            self.name = name.into();
        }
    }
}

/// The name that `metadata.name=NAME` pins.
fn exact_name(selector: &str) -> Option<&str> {
    selector.split(',').find_map(|term| {
        let (field, value) = term.split_once('=')?;
        (field == "metadata.name").then(|| value.trim_start_matches('='))
    })
}

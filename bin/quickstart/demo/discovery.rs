//! Paths that are no resources: what there is (legacy and aggregated discovery), health, version.

use serde_json::{Value, json};

use super::accept::{Form, negotiate};
use super::connection::{Answer, Exchange};
use super::http::Response;
use super::openapi;
use super::resources::{RESOURCES, REVIEWS, Resource, Review, VERBS, api_version, groups};
use super::status::{Failure, Status};
use super::token::ISSUER;

pub(crate) const GIT_VERSION: &str = "v1.33.0-cluster-connect-demo";
pub(crate) const ABOUT: &str = "This is the demonstration API server of cluster-connect. It stands in for kube-apiserver in \
     development, tests and the quickstart; nothing behind it is a real cluster, and commands run \
     in its pods run on the machine that serves it.";

pub(crate) fn answer(exchange: &Exchange<'_>) -> Result<Answer, Failure> {
    let path = exchange.request.path.trim_end_matches('/');
    if exchange.request.method != "GET" && exchange.request.method != "HEAD" {
        return Err(Status::method_not_allowed().into());
    }
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let body = match parts.as_slice() {
        [""] => json!({ "about": ABOUT, "paths": paths() }),
        ["version"] => version(),
        ["healthz" | "livez" | "readyz", ..] => return Ok(Response::text(200, "ok").into()),
        ["api"] => match negotiate(&exchange.request.headers)? {
            Form::Discovery(form) => return Ok(aggregated(form, true)),
            _ => json!({ "kind": "APIVersions", "versions": ["v1"],
                         "serverAddressByClientCIDRs": [] }),
        },
        ["apis"] => match negotiate(&exchange.request.headers)? {
            Form::Discovery(form) => return Ok(aggregated(form, false)),
            _ => json!({ "kind": "APIGroupList", "apiVersion": "v1",
                         "groups": groups().iter().map(group).collect::<Vec<_>>() }),
        },
        ["api", "v1"] => resource_list("", "v1"),
        ["apis", name] => {
            let groups = groups();
            let found = groups.iter().find(|(known, _)| known == name);
            let mut found = group(found.ok_or_else(Status::unknown_path)?);
            if let Some(object) = found.as_object_mut() {
                object.insert("kind".into(), json!("APIGroup"));
                object.insert("apiVersion".into(), json!("v1"));
            }
            found
        }
        ["apis", group, version] => {
            let known = groups().iter().any(|(g, v)| g == group && v.contains(version));
            known.then(|| resource_list(group, version)).ok_or_else(Status::unknown_path)?
        }
        ["openapi", rest @ ..] => return openapi::answer(exchange, rest),
        ["openid", "v1", "jwks"] => exchange.world.tokens.jwks(),
        [".well-known", "openid-configuration"] => json!({
            "issuer": ISSUER,
            "jwks_uri": format!("{ISSUER}/openid/v1/jwks"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }),
        _ => return Err(Status::unknown_path().into()),
    };
    Ok(Response::json(200, &body).into())
}

fn version() -> Value {
    json!({
        "major": "1",
        "minor": "33",
        "gitVersion": GIT_VERSION,
        "gitCommit": "0000000000000000000000000000000000000000",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

fn paths() -> Vec<String> {
    let mut paths: Vec<String> = ["/api", "/api/v1", "/apis"].map(String::from).to_vec();
    for (group, versions) in groups() {
        paths.push(format!("/apis/{group}"));
        paths.extend(versions.iter().map(|version| format!("/apis/{group}/{version}")));
    }
    paths.extend(["/healthz", "/livez", "/openapi/v3", "/readyz", "/version"].map(String::from));
    paths
}

fn group((name, versions): &(&'static str, Vec<&'static str>)) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({ "groupVersion": format!("{name}/{version}"), "version": version }))
        .collect();
    json!({ "name": name, "versions": versions, "preferredVersion": versions.first() })
}

fn stored(group: &str, version: &str) -> impl Iterator<Item = &'static Resource> {
    RESOURCES.iter().filter(move |r| r.group == group && r.version == version)
}

fn reviews(group: &str, version: &str) -> impl Iterator<Item = &'static Review> {
    REVIEWS.iter().filter(move |r| r.group == group && r.version == version)
}

fn resource_list(group: &str, version: &str) -> Value {
    let mut list = Vec::new();
    for resource in stored(group, version) {
        list.push(json!({
            "name": resource.plural,
            "singularName": resource.kind.to_lowercase(),
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": VERBS,
            "shortNames": resource.short,
            "categories": resource.categories(),
        }));
        for sub in resource.subresources {
            let mut entry = json!({
                "name": format!("{}/{}", resource.plural, sub.name),
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": sub.kind,
                "verbs": sub.verbs,
            });
            if let (Some((group, version)), Some(entry)) = (sub.of, entry.as_object_mut()) {
                entry.insert("group".into(), json!(group));
                entry.insert("version".into(), json!(version));
            }
            list.push(entry);
        }
    }
    list.extend(reviews(group, version).map(|review| {
        json!({
            "name": review.plural,
            "singularName": review.kind.to_lowercase(),
            "namespaced": review.namespaced,
            "kind": review.kind,
            "verbs": ["create"],
        })
    }));
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": api_version(group, version),
        "resources": list,
    })
}

fn aggregated(form: &str, core: bool) -> Answer {
    let groups = if core { vec![("", vec!["v1"])] } else { groups() };
    let items: Vec<Value> = groups
        .iter()
        .map(|(name, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    json!({ "version": version, "freshness": "Current",
                            "resources": aggregated_resources(name, version) })
                })
                .collect();
            json!({ "metadata": { "name": name, "creationTimestamp": null }, "versions": versions })
        })
        .collect();
    let body = json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{form}"),
        "metadata": {},
        "items": items,
    });
    let mut response = Response::json(200, &body);
    response.content_type =
        format!("application/json;g=apidiscovery.k8s.io;v={form};as=APIGroupDiscoveryList");
    response.into()
}

fn aggregated_resources(group: &str, version: &str) -> Vec<Value> {
    let scope = |namespaced| if namespaced { "Namespaced" } else { "Cluster" };
    let kind = |group: &str, version: &str, kind: &str| json!({ "group": group, "version": version, "kind": kind });
    let mut list: Vec<Value> = stored(group, version)
        .map(|resource| {
            let subresources: Vec<Value> = resource
                .subresources
                .iter()
                .map(|sub| {
                    let (of_group, of_version) = sub.of.unwrap_or((group, version));
                    json!({
                        "subresource": sub.name,
                        "responseKind": kind(of_group, of_version, sub.kind),
                        "verbs": sub.verbs,
                    })
                })
                .collect();
            json!({
                "resource": resource.plural,
                "responseKind": kind(group, version, resource.kind),
                "scope": scope(resource.namespaced),
                "singularResource": resource.kind.to_lowercase(),
                "verbs": VERBS,
                "shortNames": resource.short,
                "categories": resource.categories(),
                "subresources": subresources,
            })
        })
        .collect();
    list.extend(reviews(group, version).map(|review| {
        json!({
            "resource": review.plural,
            "responseKind": kind(group, version, review.kind),
            "scope": scope(review.namespaced),
            "singularResource": review.kind.to_lowercase(),
            "verbs": ["create"],
        })
    }));
    list
}

//! From an authorised request to the code that answers it.

use serde_json::Value;

use super::connection::{Answer, Exchange};
use super::resources::{self, Resource};
use super::status::{Failure, Status};
use super::{attach, discovery, exec, forward, logs, patch, protobuf, rest, reviews, watch, yaml};

pub(crate) fn answer(exchange: &mut Exchange<'_>) -> Result<Answer, Failure> {
    let route = &exchange.route;
    if !route.is_resource {
        return discovery::answer(exchange);
    }
    let (group, version) = (route.group.as_str(), route.version.as_str());
    if let Some(review) = resources::find_review(group, version, &route.resource) {
        if route.verb != "create" {
            return Err(Status::method_not_allowed().into());
        }
        return reviews::answer(exchange, review);
    }
    let resource = resources::find(group, version, &route.resource)
        .filter(|_| !route.has_tail)
        .ok_or_else(Status::unknown_path)?;
    if resource.namespaced
        && route.namespace.is_empty()
        && !matches!(route.verb.as_str(), "list" | "watch")
    {
        return Err(Status::unknown_path().into());
    }
    match route.subresource.as_str() {
        "" | "status" | "ephemeralcontainers" => {}
        other => {
            resource.subresource(other).ok_or_else(Status::unknown_path)?;
            return subresource(exchange, resource);
        }
    }
    match exchange.route.verb.as_str() {
        "get" => rest::get(exchange, resource),
        "list" => rest::list(exchange, resource),
        "watch" => watch::answer(exchange, resource),
        "create" => rest::create(exchange, resource),
        "update" => rest::update(exchange, resource),
        "patch" => patch::answer(exchange, resource),
        "delete" => rest::delete(exchange, resource),
        "deletecollection" => rest::delete_collection(exchange, resource),
        _ => Err(Status::method_not_allowed().into()),
    }
}

fn subresource(
    exchange: &mut Exchange<'_>,
    resource: &'static Resource,
) -> Result<Answer, Failure> {
    let verb = exchange.route.verb.clone();
    match (resource.plural, exchange.route.subresource.as_str(), verb.as_str()) {
        ("pods", "log", "get") => logs::answer(exchange),
        ("pods", "exec", "get" | "create") => exec::answer(exchange),
        ("pods", "attach", "get" | "create") => attach::answer(exchange),
        ("pods", "portforward", "get" | "create") => forward::answer(exchange),
        ("pods", "eviction", "create") => rest::evict(exchange, resource),
        ("serviceaccounts", "token", "create") => reviews::token_request(exchange),
        _ => Err(Status::method_not_allowed().into()),
    }
}

/// The body as an object, whatever it is written in; `Null` when there is none.
pub(crate) fn object(exchange: &mut Exchange<'_>) -> Result<Value, Failure> {
    let body = exchange.body()?;
    if body.is_empty() {
        return Ok(Value::Null);
    }
    let content_type = exchange.request.headers.first("content-type").unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    match media_type {
        "" | "application/json" => serde_json::from_slice(&body).map_err(|error| {
            let message = format!("the object provided is unrecognized: {error}");
            Status::bad_request(message).into()
        }),
        "application/yaml" => Ok(yaml::parse(&body)?),
        "application/vnd.kubernetes.protobuf" => protobuf::decode(&body).ok_or_else(|| {
            let message = "the body of the request is protobuf of a kind this server cannot read";
            Status::unsupported_media_type(message).into()
        }),
        other => {
            let message = format!("the body of the request was in an unknown format: {other}");
            Err(Status::unsupported_media_type(message).into())
        }
    }
}

//! Objects read, made, replaced and removed.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::accept::{Form, negotiate};
use super::api::object;
use super::connection::{Answer, Exchange};
use super::http::Response;
use super::resources::{RESOURCES, Resource};
use super::select::Selector;
use super::status::{Failure, Status};
use super::store::{Refused, text};
use super::token::random_uuid;
use super::world::{World, now_text};
use super::{seed, table};

pub(crate) fn get(exchange: &Exchange<'_>, resource: &'static Resource) -> Result<Answer, Failure> {
    let found = current(exchange, resource)?;
    shown(exchange, 200, resource, &found)
}

pub(crate) fn list(
    exchange: &Exchange<'_>,
    resource: &'static Resource,
) -> Result<Answer, Failure> {
    let query = &exchange.request.query;
    let selector = Selector::parse(query)?;
    let (version, mut items) =
        exchange.world.store.list(resource.plural, &exchange.route.namespace);
    items.retain(|item| selector.matches(item));

    let (version, start) = match query.get("continue").filter(|token| !token.is_empty()) {
        None => (version, 0),
        Some(token) => {
            let (version, after) = read_continue(token)?;
            if exchange.world.store.has_forgotten(version) {
                let message = "The provided continue parameter is too old to display a consistent \
                               list result. You can start a new list without the continue parameter";
                return Err(Status::expired(message).into());
            }
            (version, items.partition_point(|item| key_of(item) <= after))
        }
    };
    let limit = query.get("limit").and_then(|limit| limit.parse::<usize>().ok()).unwrap_or(0);
    let left = items.len().saturating_sub(start);
    let page = if limit == 0 { left } else { left.min(limit) };
    let items = items.get(start..start + page).unwrap_or_default();
    let mut metadata = json!({ "resourceVersion": version.to_string() });
    if page < left
        && let (Some(last), Some(metadata)) = (items.last(), metadata.as_object_mut())
    {
        metadata.insert("continue".into(), json!(continue_token(version, &key_of(last))));
        metadata.insert("remainingItemCount".into(), json!(left - page));
    }
    let body = match negotiate(&exchange.request.headers)? {
        Form::Table(version) => {
            let include = query.get("includeObject").unwrap_or_default();
            table::of(version, resource, items, metadata, include, true)
        }
        Form::Partial(version) => json!({
            "kind": "PartialObjectMetadataList",
            "apiVersion": format!("meta.k8s.io/{version}"),
            "metadata": metadata,
            "items": items.iter().map(|item| table::partial(version, item)).collect::<Vec<_>>(),
        }),
        Form::Json | Form::Discovery(_) => json!({
            "kind": format!("{}List", resource.kind),
            "apiVersion": resource.api_version(),
            "metadata": metadata,
            "items": items.iter().map(AsRef::as_ref).collect::<Vec<&Value>>(),
        }),
    };
    Ok(Response::json(200, &body).into())
}

pub(crate) fn create(
    exchange: &mut Exchange<'_>,
    resource: &'static Resource,
) -> Result<Answer, Failure> {
    if !exchange.route.name.is_empty() {
        return Err(Status::method_not_allowed().into());
    }
    let object = object(exchange)?;
    let made = store_new(exchange, resource, object)?;
    shown(exchange, 201, resource, &made)
}

/// Checks, completes and stores a new object; with a dry run it is not stored.
pub(crate) fn store_new(
    exchange: &Exchange<'_>,
    resource: &'static Resource,
    object: Value,
) -> Result<Arc<Value>, Failure> {
    let world = exchange.world;
    let namespace = exchange.route.namespace.as_str();
    let object = complete(resource, namespace, object)?;
    let name = text(&object, "/metadata/name").to_owned();
    if resource.namespaced && world.store.get("namespaces", "", namespace).is_none() {
        return Err(Status::not_found("namespaces", namespace).into());
    }
    if is_dry_run(exchange) {
        return match world.store.get(resource.plural, namespace, &name) {
            Some(_) => Err(Status::already_exists(&resource.qualified(), &name).into()),
            None => Ok(Arc::new(object)),
        };
    }
    let made = world.store.create(resource.plural, object);
    let made = made.map_err(|refused| refusal(&refused, resource, &name))?;
    seed::created(world, resource.plural, &made);
    Ok(made)
}

pub(crate) fn update(
    exchange: &mut Exchange<'_>,
    resource: &'static Resource,
) -> Result<Answer, Failure> {
    let object = object(exchange)?;
    let before = current(exchange, resource)?;
    let after = replace(exchange, resource, &before, object)?;
    shown(exchange, 200, resource, &after)
}

/// Puts an object in the place of an existing one.
pub(crate) fn replace(
    exchange: &Exchange<'_>,
    resource: &'static Resource,
    before: &Value,
    mut object: Value,
) -> Result<Arc<Value>, Failure> {
    let name = exchange.route.name.as_str();
    check_kind(resource, &object)?;
    let expected = Some(text(&object, "/metadata/resourceVersion").to_owned());
    let expected = expected.filter(|version| !version.is_empty());
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
    let metadata = metadata.ok_or_else(|| Status::bad_request("metadata is missing"))?;
    if metadata.get("name").and_then(Value::as_str) != Some(name) {
        let message = "the name of the object does not match the name on the URL";
        return Err(Status::bad_request(message).into());
    }
    for fixed in ["uid", "creationTimestamp", "namespace"] {
        match before.pointer(&format!("/metadata/{fixed}")) {
            Some(value) => drop(metadata.insert(fixed.into(), value.clone())),
            None => drop(metadata.remove(fixed)),
        }
    }
    seed::defaulted(resource.plural, &mut object);
    if is_dry_run(exchange) {
        return Ok(Arc::new(object));
    }
    let after = exchange.world.store.update(resource.plural, object, expected.as_deref());
    Ok(after.map_err(|refused| refusal(&refused, resource, name))?)
}

pub(crate) fn delete(
    exchange: &mut Exchange<'_>,
    resource: &'static Resource,
) -> Result<Answer, Failure> {
    let options = object(exchange)?;
    let found = current(exchange, resource)?;
    for precondition in ["uid", "resourceVersion"] {
        let wanted = options.pointer(&format!("/preconditions/{precondition}"));
        let actual = found.pointer(&format!("/metadata/{precondition}"));
        if wanted.is_some() && wanted != actual {
            let name = &exchange.route.name;
            return Err(Status::conflict(&resource.qualified(), name).into());
        }
    }
    if !is_dry_run(exchange) && options.get("dryRun").is_none() {
        remove(exchange.world, resource, &found);
    }
    let body = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {
            "name": exchange.route.name,
            "group": resource.group,
            "kind": resource.plural,
            "uid": text(&found, "/metadata/uid"),
        },
    });
    Ok(Response::json(200, &body).into())
}

pub(crate) fn delete_collection(
    exchange: &mut Exchange<'_>,
    resource: &'static Resource,
) -> Result<Answer, Failure> {
    object(exchange)?;
    let selector = Selector::parse(&exchange.request.query)?;
    let (version, mut items) =
        exchange.world.store.list(resource.plural, &exchange.route.namespace);
    items.retain(|item| selector.matches(item));
    if !is_dry_run(exchange) {
        items.iter().for_each(|item| remove(exchange.world, resource, item));
    }
    let body = json!({
        "kind": format!("{}List", resource.kind),
        "apiVersion": resource.api_version(),
        "metadata": { "resourceVersion": version.to_string() },
        "items": items.iter().map(AsRef::as_ref).collect::<Vec<&Value>>(),
    });
    Ok(Response::json(200, &body).into())
}

/// An eviction is a delete: there are no disruption budgets to keep here.
pub(crate) fn evict(
    exchange: &mut Exchange<'_>,
    resource: &'static Resource,
) -> Result<Answer, Failure> {
    let eviction = object(exchange)?;
    let found = current(exchange, resource)?;
    let dry_run = eviction.pointer("/deleteOptions/dryRun").is_some() || is_dry_run(exchange);
    if !dry_run {
        remove(exchange.world, resource, &found);
    }
    let body = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                       "code": 201 });
    Ok(Response::json(201, &body).into())
}

pub(crate) fn current(
    exchange: &Exchange<'_>,
    resource: &'static Resource,
) -> Result<Arc<Value>, Status> {
    let (namespace, name) = (&exchange.route.namespace, &exchange.route.name);
    // A namespace is its own namespace in RequestInfo, but not in the store.
    let namespace = if resource.namespaced { namespace.as_str() } else { "" };
    let found = exchange.world.store.get(resource.plural, namespace, name);
    found.ok_or_else(|| Status::not_found(&resource.qualified(), name))
}

/// One object in the form that the caller accepts.
pub(crate) fn shown(
    exchange: &Exchange<'_>,
    code: u16,
    resource: &'static Resource,
    object: &Arc<Value>,
) -> Result<Answer, Failure> {
    let body = match negotiate(&exchange.request.headers)? {
        Form::Table(version) => {
            let include = exchange.request.query.get("includeObject").unwrap_or_default();
            let metadata = json!({ "resourceVersion": text(object, "/metadata/resourceVersion") });
            table::of(version, resource, std::slice::from_ref(object), metadata, include, true)
        }
        Form::Partial(version) => table::partial(version, object),
        Form::Json | Form::Discovery(_) => Value::clone(object),
    };
    Ok(Response::json(code, &body).into())
}

pub(crate) fn is_dry_run(exchange: &Exchange<'_>) -> bool {
    exchange.request.query.all("dryRun").any(|value| value == "All")
}

pub(crate) fn refusal(refused: &Refused, resource: &Resource, name: &str) -> Status {
    match refused {
        Refused::Exists => Status::already_exists(&resource.qualified(), name),
        Refused::Missing => Status::not_found(&resource.qualified(), name),
        Refused::Changed => Status::conflict(&resource.qualified(), name),
    }
}

fn remove(world: &World, resource: &'static Resource, object: &Value) {
    let namespace = text(object, "/metadata/namespace");
    let name = text(object, "/metadata/name");
    // Somebody else may have been quicker; it is gone either way.
    let _ = world.store.delete(resource.plural, namespace, name);
    match resource.plural {
        "pods" => world.pods.remove(namespace, name),
        "namespaces" => {
            for inner in RESOURCES.iter().filter(|inner| inner.namespaced) {
                for object in world.store.list(inner.plural, name).1 {
                    remove(world, inner, &object);
                }
            }
        }
        _ => {}
    }
}

fn complete(
    resource: &'static Resource,
    namespace: &str,
    mut object: Value,
) -> Result<Value, Status> {
    check_kind(resource, &object)?;
    let root = object.as_object_mut().ok_or_else(|| Status::bad_request("not an object"))?;
    root.insert("kind".into(), json!(resource.kind));
    root.insert("apiVersion".into(), json!(resource.api_version()));
    let metadata = root.entry("metadata").or_insert_with(|| json!({}));
    let metadata =
        metadata.as_object_mut().ok_or_else(|| Status::bad_request("metadata is no object"))?;
    let string = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("").to_owned();
    if !string(metadata.get("resourceVersion")).is_empty() {
        let message = "resourceVersion should not be set on objects to be created";
        return Err(Status::bad_request(message));
    }
    let prefix = string(metadata.get("generateName"));
    if string(metadata.get("name")).is_empty() && !prefix.is_empty() {
        let suffix = random_uuid();
        metadata.insert("name".into(), json!(format!("{prefix}{}", &suffix[..5])));
    }
    if resource.namespaced {
        let said = string(metadata.get("namespace"));
        if !said.is_empty() && said != namespace {
            let message = "the namespace of the provided object does not match the namespace sent \
                           on the request";
            return Err(Status::bad_request(message));
        }
        metadata.insert("namespace".into(), json!(namespace));
    } else {
        metadata.remove("namespace");
    }
    metadata.insert("uid".into(), json!(random_uuid()));
    metadata.insert("creationTimestamp".into(), json!(now_text()));
    let name = string(metadata.get("name"));
    check_name(resource, &name)?;
    seed::defaulted(resource.plural, &mut object);
    Ok(object)
}

fn check_kind(resource: &Resource, object: &Value) -> Result<(), Status> {
    let (kind, version) = (text(object, "/kind"), text(object, "/apiVersion"));
    let wrong = |said: &str, wanted: &str| !said.is_empty() && said != wanted;
    if wrong(kind, resource.kind) || wrong(version, &resource.api_version()) {
        let message = format!(
            "the object provided is unrecognized: {version} {kind} sent to {}",
            resource.qualified()
        );
        return Err(Status::bad_request(message));
    }
    Ok(())
}

fn check_name(resource: &Resource, name: &str) -> Result<(), Status> {
    let free = resource.group == "rbac.authorization.k8s.io";
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let good = if free { !name.contains(['/', '%']) } else { name.chars().all(plain) };
    if name.is_empty() {
        let message = "Required value: name or generateName is required";
        return Err(Status::invalid(resource.kind, name, "metadata.name", message));
    }
    if good && name.len() <= 253 {
        return Ok(());
    }
    let message = format!("Invalid value: {name:?}: a lowercase RFC 1123 subdomain is required");
    Err(Status::invalid(resource.kind, name, "metadata.name", &message))
}

fn key_of(object: &Value) -> (String, String) {
    (text(object, "/metadata/namespace").into(), text(object, "/metadata/name").into())
}

fn continue_token(version: u64, (namespace, name): &(String, String)) -> String {
    URL_SAFE_NO_PAD.encode(json!([version, namespace, name]).to_string())
}

fn read_continue(token: &str) -> Result<(u64, (String, String)), Status> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    let parsed =
        bytes.and_then(|bytes| serde_json::from_slice::<(u64, String, String)>(&bytes).ok());
    let (version, namespace, name) =
        parsed.ok_or_else(|| Status::bad_request("continue key is not valid"))?;
    Ok((version, (namespace, name)))
}

//! PATCH: JSON patch, merge patch, strategic merge patch, and server-side apply as far as it can
//! be had without field ownership: what a manager applied before and leaves out now is removed.

use serde_json::{Map, Value, json};

use super::connection::{Answer, Exchange};
use super::resources::Resource;
use super::rest::{current, is_dry_run, replace, shown, store_new};
use super::status::{Failure, Status};
use super::tls::lock;
use super::yaml;

/// How often a patch is applied anew because the object changed under it.
const ATTEMPTS: usize = 5;

/// Lists of objects that merge by a key; all other lists are replaced.
const MERGE_KEYS: [(&str, &str); 12] = [
    ("conditions", "type"),
    ("containers", "name"),
    ("env", "name"),
    ("ephemeralContainers", "name"),
    ("imagePullSecrets", "name"),
    ("initContainers", "name"),
    ("ownerReferences", "uid"),
    ("ports", "containerPort"),
    ("ports", "port"),
    ("secrets", "name"),
    ("volumeMounts", "mountPath"),
    ("volumes", "name"),
];

pub(crate) fn answer(
    exchange: &mut Exchange<'_>,
    resource: &'static Resource,
) -> Result<Answer, Failure> {
    let content_type = exchange.request.headers.first("content-type").unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_owned();
    let body = exchange.body()?;
    let patch = yaml::parse(&body)?;
    if media_type == "application/apply-patch+yaml" {
        return apply(exchange, resource, &patch);
    }
    for attempt in 1.. {
        let before = current(exchange, resource)?;
        let mut after = Value::clone(&before);
        match media_type.as_str() {
            "application/json-patch+json" => json_patch(&mut after, &patch)?,
            "application/merge-patch+json" => merge(&mut after, &patch),
            "application/strategic-merge-patch+json" => strategic(&mut after, &patch),
            other => {
                let message = format!("the body of the request was in an unknown format: {other}");
                return Err(Status::unsupported_media_type(message).into());
            }
        }
        match replace(exchange, resource, &before, after) {
            Err(Failure::Status(status)) if status.code == 409 && attempt < ATTEMPTS => {}
            stored => return shown(exchange, 200, resource, &stored?),
        }
    }
    Err(Status::internal("the object kept changing").into())
}

fn apply(
    exchange: &mut Exchange<'_>,
    resource: &'static Resource,
    patch: &Value,
) -> Result<Answer, Failure> {
    let manager = exchange.request.query.get("fieldManager").unwrap_or_default().to_owned();
    if manager.is_empty() {
        let message = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is \
                       required for apply patch";
        return Err(Status::bad_request(message).into());
    }
    let path = exchange.request.path.clone();
    let key = format!("{path} {manager}");
    let (code, stored) = match current(exchange, resource) {
        Err(_) => {
            let mut object = patch.clone();
            let name = exchange.route.name.clone();
            let metadata = as_map(&mut object).entry("metadata").or_insert(Value::Null);
            as_map(metadata).entry("name").or_insert_with(|| json!(name));
            (201, store_new(exchange, resource, object)?)
        }
        Ok(before) => {
            let mut after = Value::clone(&before);
            if let Some(last) = lock(&exchange.world.applied).get(&key) {
                remove_left_out(&mut after, last, patch);
            }
            strategic(&mut after, patch);
            (200, replace(exchange, resource, &before, after)?)
        }
    };
    if !is_dry_run(exchange) {
        lock(&exchange.world.applied).insert(key, patch.clone());
    }
    shown(exchange, code, resource, &stored)
}

/// Removes map entries that were applied last time and are not applied now.
fn remove_left_out(object: &mut Value, last: &Value, now: &Value) {
    let (Some(object), Some(last), Some(now)) =
        (object.as_object_mut(), last.as_object(), now.as_object())
    else {
        return;
    };
    for (field, applied) in last {
        match (now.get(field), object.get_mut(field)) {
            (Some(now), Some(inner)) => remove_left_out(inner, applied, now),
            (None, Some(_)) => drop(object.remove(field)),
            (_, None) => {}
        }
    }
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    let target = as_map(target);
    for (field, value) in patch {
        match value {
            Value::Null => drop(target.remove(field)),
            value => merge(target.entry(field).or_insert(Value::Null), value),
        }
    }
}

/// Merge patch that knows keyed lists and the `$` directives.
fn strategic(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    match patch.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            let mut patch = patch.clone();
            patch.remove("$patch");
            *target = patch.into();
            return;
        }
        Some("delete") => {
            *target = json!({});
            return;
        }
        _ => {}
    }
    let target = as_map(target);
    if let Some(kept) = patch.get("$retainKeys").and_then(Value::as_array) {
        target.retain(|field, _| kept.contains(&json!(field)));
    }
    for (field, value) in patch {
        if let Some(list) = field.strip_prefix("$deleteFromPrimitiveList/") {
            let gone = value.as_array().cloned().unwrap_or_default();
            if let Some(list) = target.get_mut(list).and_then(Value::as_array_mut) {
                list.retain(|member| !gone.contains(member));
            }
        } else if !field.starts_with('$') {
            strategic_field(target, field, value);
        }
    }
}

fn strategic_field(target: &mut Map<String, Value>, field: &str, value: &Value) {
    match (value, merge_key(field, value)) {
        (Value::Null, _) => drop(target.remove(field)),
        (Value::Array(members), Some(key)) => {
            let list = target.entry(field).or_insert_with(|| json!([]));
            merge_list(list, members, key);
        }
        (Value::Array(members), None) if field == "finalizers" => {
            let list = target.entry(field).or_insert_with(|| json!([]));
            for member in members {
                if let Some(list) = list.as_array_mut().filter(|list| !list.contains(member)) {
                    list.push(member.clone());
                }
            }
        }
        (value, _) => strategic(target.entry(field).or_insert(Value::Null), value),
    }
}

fn merge_list(list: &mut Value, members: &[Value], key: &str) {
    let Some(list) = list.as_array_mut() else { return };
    for member in members {
        let at = list.iter().position(|known| known.get(key) == member.get(key));
        match (at, member.get("$patch").and_then(Value::as_str)) {
            (Some(at), Some("delete")) => drop(list.remove(at)),
            (None, Some("delete")) => {}
            (_, Some("replace")) => list.clear(),
            (Some(at), _) => {
                if let Some(known) = list.get_mut(at) {
                    strategic(known, member);
                }
            }
            (None, _) => {
                let mut fresh = Value::Null;
                strategic(&mut fresh, member);
                list.push(fresh);
            }
        }
    }
}

/// The key that all members of the list have.
fn merge_key(field: &str, value: &Value) -> Option<&'static str> {
    let members = value.as_array().filter(|members| !members.is_empty())?;
    MERGE_KEYS
        .iter()
        .filter(|(list, _)| *list == field)
        .map(|(_, key)| *key)
        .find(|key| members.iter().all(|member| member.get(key).is_some()))
}

/// RFC 6902.
fn json_patch(target: &mut Value, patch: &Value) -> Result<(), Status> {
    let bad = |operation: &Value| {
        Status::invalid("", "", "patch", &format!("the operation does not apply: {operation}"))
    };
    let operations = patch.as_array().ok_or_else(|| Status::bad_request("no JSON patch"))?;
    for operation in operations {
        let at = |field: &str| operation.get(field).and_then(Value::as_str);
        let path = at("path").ok_or_else(|| bad(operation))?;
        let from = || {
            let from = at("from").and_then(|from| target.pointer(from));
            from.cloned().ok_or_else(|| bad(operation))
        };
        let value = operation.get("value").cloned().unwrap_or_default();
        let done = match at("op").unwrap_or_default() {
            "add" => insert(target, path, value),
            "remove" => take(target, path).is_some(),
            "replace" => target.pointer_mut(path).map(|place| *place = value).is_some(),
            "test" => target.pointer(path) == Some(&value),
            "copy" => {
                let copied = from()?;
                insert(target, path, copied)
            }
            "move" => {
                let moved = from()?;
                take(target, at("from").unwrap_or_default());
                insert(target, path, moved)
            }
            _ => false,
        };
        if !done {
            return Err(bad(operation));
        }
    }
    Ok(())
}

fn insert(target: &mut Value, path: &str, value: Value) -> bool {
    let Some((parent, last)) = path.rsplit_once('/') else {
        *target = value;
        return true;
    };
    let last = last.replace("~1", "/").replace("~0", "~");
    match target.pointer_mut(parent) {
        Some(Value::Object(map)) => {
            map.insert(last, value);
            true
        }
        Some(Value::Array(list)) => {
            let at = if last == "-" { Some(list.len()) } else { last.parse().ok() };
            let at = at.filter(|at| *at <= list.len());
            at.map(|at| list.insert(at, value)).is_some()
        }
        _ => false,
    }
}

fn take(target: &mut Value, path: &str) -> Option<Value> {
    let (parent, last) = path.rsplit_once('/')?;
    let last = last.replace("~1", "/").replace("~0", "~");
    match target.pointer_mut(parent)? {
        Value::Object(map) => map.remove(&last),
        Value::Array(list) => {
            let at = last.parse::<usize>().ok().filter(|at| *at < list.len())?;
            Some(list.remove(at))
        }
        _ => None,
    }
}

fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("it has just been made an object")
}

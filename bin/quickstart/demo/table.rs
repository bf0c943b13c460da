//! `Table`: what `kubectl get` prints.

use std::sync::Arc;

use serde_json::{Value, json};

use super::resources::Resource;
use super::store::text;
use super::world::age_seconds;

/// The objects as rows; `with_columns` is false for all but the first event of a watch.
pub(crate) fn of(
    version: &str,
    resource: &Resource,
    objects: &[Arc<Value>],
    metadata: Value,
    include: &str,
    with_columns: bool,
) -> Value {
    let columns = columns(resource.plural);
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let cells: Vec<Value> =
                columns.iter().map(|(name, _)| cell(resource.plural, name, object)).collect();
            let mut row = json!({ "cells": cells });
            let shown = match include {
                "None" => None,
                "Object" => Some(Value::clone(object)),
                _ => Some(partial(version, object)),
            };
            if let (Some(shown), Some(row)) = (shown, row.as_object_mut()) {
                row.insert("object".into(), shown);
            }
            row
        })
        .collect();
    let definitions: Vec<Value> = columns
        .iter()
        .filter(|_| with_columns)
        .map(|(name, priority)| {
            let format = if *name == "Name" { "name" } else { "" };
            json!({ "name": name, "type": "string", "format": format,
                    "description": "", "priority": priority })
        })
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": metadata,
        "columnDefinitions": definitions,
        "rows": rows,
    })
}

pub(crate) fn partial(version: &str, object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": object.get("metadata"),
    })
}

/// Names, and 1 for those that only `-o wide` shows.
fn columns(plural: &str) -> &'static [(&'static str, u8)] {
    match plural {
        "pods" => &[
            ("Name", 0),
            ("Ready", 0),
            ("Status", 0),
            ("Restarts", 0),
            ("Age", 0),
            ("IP", 1),
            ("Node", 1),
        ],
        "namespaces" => &[("Name", 0), ("Status", 0), ("Age", 0)],
        "nodes" => &[("Name", 0), ("Status", 0), ("Roles", 0), ("Age", 0), ("Version", 0)],
        "configmaps" => &[("Name", 0), ("Data", 0), ("Age", 0)],
        "secrets" => &[("Name", 0), ("Type", 0), ("Data", 0), ("Age", 0)],
        "serviceaccounts" => &[("Name", 0), ("Secrets", 0), ("Age", 0)],
        "services" => &[("Name", 0), ("Type", 0), ("Cluster-IP", 0), ("Age", 0)],
        "clusterroles" | "roles" => &[("Name", 0), ("Created At", 0)],
        "clusterrolebindings" | "rolebindings" => &[("Name", 0), ("Role", 0), ("Age", 0)],
        "events" => &[("Last Seen", 0), ("Type", 0), ("Reason", 0), ("Object", 0), ("Message", 0)],
        _ => &[("Name", 0), ("Age", 0)],
    }
}

fn cell(plural: &str, column: &str, object: &Value) -> Value {
    let at = |pointer: &str| json!(text(object, pointer));
    let count = |pointer: &str| match object.pointer(pointer) {
        Some(Value::Object(map)) => map.len(),
        Some(Value::Array(list)) => list.len(),
        _ => 0,
    };
    match (plural, column) {
        (_, "Name") => at("/metadata/name"),
        (_, "Age") => json!(age(text(object, "/metadata/creationTimestamp"))),
        (_, "Created At") => at("/metadata/creationTimestamp"),
        ("pods", "Ready") => {
            let all = object.pointer("/status/containerStatuses").and_then(Value::as_array);
            let is_ready = |status: &&Value| status.get("ready") == Some(&json!(true));
            let ready = all.map_or(0, |all| all.iter().filter(is_ready).count());
            json!(format!("{ready}/{}", count("/spec/containers")))
        }
        ("pods", "Status") => match text(object, "/status/phase") {
            "Succeeded" => json!("Completed"),
            "Failed" => json!("Error"),
            phase => json!(phase),
        },
        ("pods", "Restarts") => json!("0"),
        ("pods", "IP") => at("/status/podIP"),
        ("pods", "Node") => at("/spec/nodeName"),
        ("namespaces", "Status") => at("/status/phase"),
        ("nodes", "Status") => {
            let cordoned = object.pointer("/spec/unschedulable") == Some(&json!(true));
            json!(if cordoned { "Ready,SchedulingDisabled" } else { "Ready" })
        }
        ("nodes", "Roles") => json!("control-plane"),
        ("nodes", "Version") => at("/status/nodeInfo/kubeletVersion"),
        ("configmaps" | "secrets", "Data") => json!(count("/data") + count("/binaryData")),
        ("secrets", "Type") => at("/type"),
        ("serviceaccounts", "Secrets") => json!(count("/secrets")),
        ("services", "Type") => at("/spec/type"),
        ("services", "Cluster-IP") => at("/spec/clusterIP"),
        ("clusterrolebindings" | "rolebindings", "Role") => {
            json!(format!("{}/{}", text(object, "/roleRef/kind"), text(object, "/roleRef/name")))
        }
        ("events", "Type") => at("/type"),
        ("events", "Reason") => at("/reason"),
        ("events", "Object") => at("/involvedObject/name"),
        ("events", "Message") => at("/message"),
        _ => json!("<unknown>"),
    }
}

/// As kubectl writes it: the largest unit, and the next while it says something.
fn age(created: &str) -> String {
    let seconds = age_seconds(created).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 if seconds % 60 != 0 => format!("{}m{}s", seconds / 60, seconds % 60),
        120..10_800 => format!("{}m", seconds / 60),
        10_800..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

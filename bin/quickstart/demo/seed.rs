//! What is there from the start, and what the controllers of a real cluster would add: a status
//! for a pod, a service account for a namespace.

use serde_json::{Value, json};

use super::discovery::{ABOUT, GIT_VERSION};
use super::store::text;
use super::token::random_uuid;
use super::world::{World, now_text};

pub(crate) const NODE: &str = "demo-node";

/// Fills an empty store.
pub(crate) fn fill(world: &World) {
    for name in ["default", "kube-system", "kube-public", "demo"] {
        let annotations = json!({ "cluster-connect.io/about": ABOUT });
        add(
            world,
            "namespaces",
            json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": { "name": name, "annotations": annotations },
            }),
        );
    }
    add(
        world,
        "nodes",
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": NODE, "labels": { "kubernetes.io/hostname": NODE } },
            "spec": {},
            "status": {
                "conditions": [{ "type": "Ready", "status": "True" }],
                "nodeInfo": { "kubeletVersion": GIT_VERSION },
            },
        }),
    );
    add(
        world,
        "configmaps",
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "about", "namespace": "default" },
            "data": { "about": ABOUT },
        }),
    );
    for (namespace, name, containers) in [
        ("default", "web", &["web"][..]),
        ("default", "pair", &["first", "second"][..]),
        ("demo", "web", &["web"][..]),
    ] {
        let containers: Vec<Value> = containers
            .iter()
            .map(|name| json!({ "name": name, "image": "cluster-connect.io/demo:1" }))
            .collect();
        add(
            world,
            "pods",
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": { "name": name, "namespace": namespace, "labels": { "app": name } },
                "spec": { "containers": containers },
            }),
        );
    }
    roles(world);
}

/// Fills in what the API server and the kubelet would.
pub(crate) fn defaulted(resource: &str, object: &mut Value) {
    match resource {
        "namespaces" => put(object, "/status", "phase", json!("Active")),
        "pods" => pod_defaults(object),
        "secrets" => secret_defaults(object),
        "services" => put(object, "/spec", "type", json!("ClusterIP")),
        _ => {}
    }
}

/// What controllers do once an object is stored.
pub(crate) fn created(world: &World, resource: &str, object: &Value) {
    let name = text(object, "/metadata/name");
    let namespace = text(object, "/metadata/namespace");
    match resource {
        "namespaces" => {
            add(
                world,
                "serviceaccounts",
                json!({
                    "apiVersion": "v1", "kind": "ServiceAccount",
                    "metadata": { "name": "default", "namespace": name },
                }),
            );
            add(
                world,
                "configmaps",
                json!({
                    "apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": { "name": "kube-root-ca.crt", "namespace": name },
                    "data": { "ca.crt": world.authority.pem() },
                }),
            );
        }
        "pods" => {
            let containers = object.pointer("/spec/containers").and_then(Value::as_array);
            for container in containers.into_iter().flatten() {
                let container = text(container, "/name");
                for line in ["starting", "listening on port 8080", "ready"] {
                    world.logs.print(namespace, name, container, &format!("{container}: {line}"));
                }
            }
        }
        _ => {}
    }
}

/// Stores an object of ours; one that is there already stays.
pub(crate) fn add(world: &World, resource: &'static str, mut object: Value) {
    put(&mut object, "/metadata", "uid", json!(random_uuid()));
    put(&mut object, "/metadata", "creationTimestamp", json!(now_text()));
    defaulted(resource, &mut object);
    if let Ok(object) = world.store.create(resource, object) {
        created(world, resource, &object);
    }
}

/// Sets a field unless it is there; makes the object around it if need be.
fn put(object: &mut Value, parent: &str, field: &str, value: Value) {
    if object.pointer(parent).is_none()
        && let (Some(root), Some(name)) = (object.as_object_mut(), parent.strip_prefix('/'))
    {
        root.insert(name.into(), json!({}));
    }
    if let Some(parent) = object.pointer_mut(parent).and_then(Value::as_object_mut) {
        parent.entry(field).or_insert(value);
    }
}

fn pod_defaults(object: &mut Value) {
    put(object, "/spec", "nodeName", json!(NODE));
    put(object, "/spec", "restartPolicy", json!("Always"));
    put(object, "/spec", "serviceAccountName", json!("default"));
    // kubectl debug takes it for granted that this is there.
    put(object, "/spec", "securityContext", json!({}));
    put(object, "/spec", "terminationGracePeriodSeconds", json!(30));
    let started =
        json!({ "running": { "startedAt": text(object, "/metadata/creationTimestamp") } });
    for (field, statuses) in
        [("containers", "containerStatuses"), ("ephemeralContainers", "ephemeralContainerStatuses")]
    {
        let containers = object.pointer(&format!("/spec/{field}")).and_then(Value::as_array);
        let all: Vec<Value> = containers
            .into_iter()
            .flatten()
            .map(|container| {
                json!({
                    "name": text(container, "/name"),
                    "image": text(container, "/image"),
                    "imageID": "",
                    "ready": true,
                    "started": true,
                    "restartCount": 0,
                    "state": started,
                })
            })
            .collect();
        let known = object.pointer(&format!("/status/{statuses}")).and_then(Value::as_array);
        if all.len() > known.map_or(0, Vec::len) {
            put(object, "/status", statuses, json!([]));
            if let Some(list) = object.pointer_mut(&format!("/status/{statuses}")) {
                *list = json!(all);
            }
        }
    }
    let condition = |kind: &str| json!({ "type": kind, "status": "True" });
    let conditions = ["Initialized", "Ready", "ContainersReady", "PodScheduled"].map(condition);
    put(object, "/status", "phase", json!("Running"));
    put(object, "/status", "conditions", json!(conditions));
    put(object, "/status", "podIP", json!("10.42.0.10"));
    put(object, "/status", "hostIP", json!("127.0.0.1"));
}

/// `stringData` is for writing only.
fn secret_defaults(object: &mut Value) {
    use base64::Engine as _;
    let Some(root) = object.as_object_mut() else { return };
    root.entry("type").or_insert_with(|| json!("Opaque"));
    let Some(Value::Object(plain)) = root.remove("stringData") else { return };
    let data = root.entry("data").or_insert_with(|| json!({}));
    for (key, value) in plain {
        let encoded =
            base64::engine::general_purpose::STANDARD.encode(value.as_str().unwrap_or_default());
        if let Some(data) = data.as_object_mut() {
            data.insert(key, json!(encoded));
        }
    }
}

/// The part of kube-apiserver's bootstrap policy that people meet.
fn roles(world: &World) {
    let rule = |verbs: &[&str], groups: &[&str], resources: &[&str]| json!({ "verbs": verbs, "apiGroups": groups, "resources": resources });
    let read = ["get", "list", "watch"];
    let all_verbs =
        ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    let things = [
        "configmaps",
        "endpoints",
        "events",
        "pods",
        "pods/log",
        "pods/status",
        "services",
        "serviceaccounts",
        "deployments",
        "replicasets",
        "statefulsets",
        "daemonsets",
        "namespaces",
        "leases",
        "poddisruptionbudgets",
    ];
    let groups = ["", "apps", "policy", "coordination.k8s.io"];
    let view = rule(&read, &groups, &things);
    let edit = [
        view.clone(),
        rule(&all_verbs, &groups, &things[..12]),
        rule(
            &all_verbs,
            &[""],
            &[
                "secrets",
                "pods/attach",
                "pods/exec",
                "pods/portforward",
                "pods/eviction",
                "serviceaccounts/token",
            ],
        ),
        rule(&["impersonate"], &[""], &["serviceaccounts"]),
    ];
    let mut admin = edit.to_vec();
    admin.push(rule(&all_verbs, &["rbac.authorization.k8s.io"], &["roles", "rolebindings"]));
    let paths = |urls: &[&str]| json!({ "verbs": ["get"], "nonResourceURLs": urls });
    let health = ["/healthz", "/livez", "/readyz", "/version", "/version/"];
    let found = ["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*"];
    for (name, rules) in [
        (
            "cluster-admin",
            json!([
                rule(&["*"], &["*"], &["*"]),
                { "verbs": ["*"], "nonResourceURLs": ["*"] },
            ]),
        ),
        ("admin", json!(admin)),
        ("edit", json!(edit)),
        ("view", json!([view])),
        (
            "system:basic-user",
            json!([
                rule(
                    &["create"],
                    &["authorization.k8s.io"],
                    &["selfsubjectaccessreviews", "selfsubjectrulesreviews"]
                ),
                rule(&["create"], &["authentication.k8s.io"], &["selfsubjectreviews"]),
            ]),
        ),
        ("system:discovery", json!([paths(&[&found[..], &health[..]].concat())])),
        ("system:public-info-viewer", json!([paths(&health)])),
        (
            "system:auth-delegator",
            json!([
                rule(&["create"], &["authentication.k8s.io"], &["tokenreviews"]),
                rule(&["create"], &["authorization.k8s.io"], &["subjectaccessreviews"]),
            ]),
        ),
    ] {
        add(
            world,
            "clusterroles",
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                "metadata": { "name": name }, "rules": rules,
            }),
        );
    }
    for (name, groups) in [
        ("cluster-admin", &["system:masters"][..]),
        ("system:basic-user", &["system:authenticated"][..]),
        ("system:discovery", &["system:authenticated"][..]),
        ("system:public-info-viewer", &["system:authenticated", "system:unauthenticated"][..]),
    ] {
        bind(world, name, name, "Group", groups);
    }
}

/// A cluster-wide binding of users or groups to a cluster role.
pub(crate) fn bind(world: &World, name: &str, role: &str, kind: &str, subjects: &[&str]) {
    let subjects: Vec<Value> = subjects
        .iter()
        .map(|name| json!({ "kind": kind, "name": name, "apiGroup": "rbac.authorization.k8s.io" }))
        .collect();
    add(
        world,
        "clusterrolebindings",
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
            "subjects": subjects,
        }),
    );
}

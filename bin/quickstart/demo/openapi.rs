//! OpenAPI v3, generated from the resource table and a short description of each schema: enough
//! for `kubectl apply`, `edit` and `explain`. The v2 document is made from it.

use serde_json::{Map, Value, json};

use super::connection::{Answer, Exchange};
use super::http::Response;
use super::openapi_v2;
use super::resources::{RESOURCES, Resource, api_version, groups};
use super::status::{Failure, Status};

/// Name, description, fields. A field is `name type`; types are `s` text, `i` integer, `b`
/// boolean, `o` anything, `m` map of text, `*T` list, `*T@key` list that merges by a key,
/// `ref` to another schema by its name.
const SCHEMAS: &[(&str, &str, &str)] = &[
    (
        "ObjectMeta",
        "Metadata that all persisted resources have.",
        "name s,generateName s,namespace s,uid s,resourceVersion s,generation i,creationTimestamp s,\
      deletionTimestamp s,labels m,annotations m,finalizers *s,ownerReferences *o@uid,\
      managedFields *o",
    ),
    (
        "ConfigMap",
        "ConfigMap holds configuration data for pods to consume.",
        "data m,binaryData m,immutable b",
    ),
    ("Endpoints", "Endpoints is a collection of endpoints of a service.", "subsets *o"),
    (
        "Event",
        "Event is a report of an event somewhere in the cluster.",
        "involvedObject o,reason s,message s,type s,count i,source o",
    ),
    ("Namespace", "Namespace provides a scope for names.", "spec o,status o"),
    ("Node", "Node is a worker node.", "spec o,status o"),
    (
        "Secret",
        "Secret holds secret data of a certain type.",
        "data m,stringData m,type s,immutable b",
    ),
    (
        "ServiceAccount",
        "ServiceAccount binds a name to what processes may do.",
        "secrets *o@name,imagePullSecrets *o@name,automountServiceAccountToken b",
    ),
    (
        "Service",
        "Service is a named abstraction of a software service.",
        "spec ServiceSpec,status o",
    ),
    ("ServiceSpec", "What a service is.", "type s,clusterIP s,selector m,ports *o@port"),
    ("Pod", "Pod is a collection of containers that can run on a host.", "spec PodSpec,status o"),
    (
        "PodSpec",
        "What a pod runs.",
        "containers *Container@name,initContainers *Container@name,\
      ephemeralContainers *Container@name,volumes *o@name,nodeName s,nodeSelector m,\
      restartPolicy s,serviceAccountName s,serviceAccount s,hostNetwork b,tolerations *o,\
      imagePullSecrets *o@name,terminationGracePeriodSeconds i,securityContext o,affinity o",
    ),
    (
        "Container",
        "A single application container.",
        "name s,image s,command *s,args *s,env *o@name,ports *o@containerPort,\
      volumeMounts *o@mountPath,workingDir s,resources o,stdin b,stdinOnce b,tty b,\
      imagePullPolicy s,targetContainerName s,securityContext o,livenessProbe o,readinessProbe o,\
      terminationMessagePolicy s,terminationMessagePath s",
    ),
    ("PodTemplate", "The pods that a workload makes.", "metadata ObjectMeta,spec PodSpec"),
    (
        "WorkloadSpec",
        "What a workload runs.",
        "replicas i,selector o,template PodTemplate,strategy o,serviceName s,updateStrategy o",
    ),
    (
        "Deployment",
        "Deployment enables declarative updates for pods.",
        "spec WorkloadSpec,status o",
    ),
    ("ReplicaSet", "ReplicaSet ensures a number of replicas.", "spec WorkloadSpec,status o"),
    ("DaemonSet", "DaemonSet runs a pod on every node.", "spec WorkloadSpec,status o"),
    ("StatefulSet", "StatefulSet gives pods consistent identities.", "spec WorkloadSpec,status o"),
    ("Lease", "Lease defines a lease concept.", "spec o"),
    ("PodDisruptionBudget", "PodDisruptionBudget limits disruptions.", "spec o,status o"),
    (
        "ClusterRole",
        "ClusterRole is a cluster level grouping of rules.",
        "rules *PolicyRule,aggregationRule o",
    ),
    ("Role", "Role is a namespaced grouping of rules.", "rules *PolicyRule"),
    (
        "PolicyRule",
        "What may be done to what.",
        "verbs *s,apiGroups *s,resources *s,resourceNames *s,nonResourceURLs *s",
    ),
    (
        "ClusterRoleBinding",
        "ClusterRoleBinding gives a cluster role to subjects everywhere.",
        "roleRef RoleRef,subjects *Subject",
    ),
    (
        "RoleBinding",
        "RoleBinding gives a role to subjects in a namespace.",
        "roleRef RoleRef,subjects *Subject",
    ),
    ("RoleRef", "The role that is given.", "apiGroup s,kind s,name s"),
    ("Subject", "Who is given it.", "kind s,apiGroup s,name s,namespace s"),
];

/// By these kubectl knows how it may patch.
const PATCH_TYPES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

pub(crate) fn answer(exchange: &Exchange<'_>, rest: &[&str]) -> Result<Answer, Failure> {
    let body = match rest {
        ["v2"] => {
            // Nothing but kubectl reads it, and kubectl wants protobuf.
            let wanted = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
            let mut accepted = exchange.request.headers.list("accept");
            if !accepted.any(|entry| entry == wanted) {
                return Err(Status::not_acceptable().into());
            }
            let mut documents = vec![document("", "v1")];
            for (group, versions) in groups() {
                documents.extend(versions.iter().map(|version| document(group, version)));
            }
            return Ok(openapi_v2::answer(&documents).into());
        }
        ["v3"] => index(),
        ["v3", "api", "v1"] => document("", "v1"),
        ["v3", "apis", group, version] => {
            let known = groups().iter().any(|(g, v)| g == group && v.contains(version));
            known.then(|| document(group, version)).ok_or_else(Status::unknown_path)?
        }
        _ => return Err(Status::unknown_path().into()),
    };
    Ok(Response::json(200, &body).into())
}

fn index() -> Value {
    let mut paths = Map::new();
    let mut add = |path: String| {
        let url = format!("/openapi/v3/{path}?hash=demo");
        paths.insert(path, json!({ "serverRelativeURL": url }));
    };
    add("api/v1".into());
    for (group, versions) in groups() {
        versions.iter().for_each(|version| add(format!("apis/{group}/{version}")));
    }
    json!({ "paths": paths })
}

fn document(group: &str, version: &str) -> Value {
    let resources = || RESOURCES.iter().filter(|r| r.group == group && r.version == version);
    let mut paths = Map::new();
    for resource in resources() {
        let base = match group {
            "" => format!("/api/{version}"),
            group => format!("/apis/{group}/{version}"),
        };
        let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
        let list = format!("{base}{scope}/{}", resource.plural);
        let one = format!("{list}/{{name}}");
        let verbs = [
            ("get", "list", "get"),
            ("post", "post", ""),
            ("delete", "deletecollection", "delete"),
        ];
        let mut of_list = Map::new();
        let mut of_one = Map::new();
        for (method, on_list, on_one) in verbs {
            of_list.insert(method.into(), operation(resource, on_list));
            if !on_one.is_empty() {
                of_one.insert(method.into(), operation(resource, on_one));
            }
        }
        of_one.insert("put".into(), operation(resource, "put"));
        of_one.insert("patch".into(), operation(resource, "patch"));
        paths.insert(list, of_list.into());
        paths.insert(one, of_one.into());
    }
    let mut schemas = Map::new();
    for resource in resources() {
        add_schema(&mut schemas, resource.kind, Some(resource));
    }
    json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": super::discovery::GIT_VERSION },
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

fn gvk(resource: &Resource) -> Value {
    json!({ "group": resource.group, "version": resource.version, "kind": resource.kind })
}

/// An operation with the query parameters by which kubectl knows what the server can do.
fn operation(resource: &Resource, action: &str) -> Value {
    let parameter = |name: &str| json!({ "name": name, "in": "query", "schema": { "type": "string", "uniqueItems": true } });
    let writes = matches!(action, "post" | "put" | "patch");
    let parameters: Vec<Value> = ["pretty", "dryRun", "fieldManager", "fieldValidation"]
        .into_iter()
        .filter(|name| *name == "pretty" || writes || (*name == "dryRun" && action != "get"))
        .map(parameter)
        .collect();
    let schema = json!({ "$ref": reference(resource.kind) });
    let content = json!({ "application/json": { "schema": schema } });
    let mut operation = json!({
        "operationId": format!("{action}{}{}", api_version(resource.group, resource.version), resource.kind),
        "parameters": parameters,
        "responses": { "200": { "description": "OK", "content": content } },
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": gvk(resource),
    });
    if let ("patch", Some(operation)) = (action, operation.as_object_mut()) {
        let bodies = PATCH_TYPES.iter().map(|name| ((*name).to_owned(), json!({ "schema": {} })));
        let content: Map<_, _> = bodies.collect();
        operation.insert("requestBody".into(), json!({ "content": content, "required": true }));
    }
    operation
}

fn reference(name: &str) -> String {
    format!("#/components/schemas/io.cluster-connect.demo.{name}")
}

/// Adds a schema and all that it refers to.
fn add_schema(schemas: &mut Map<String, Value>, name: &str, resource: Option<&Resource>) {
    let key = format!("io.cluster-connect.demo.{name}");
    let Some((_, description, fields)) = SCHEMAS.iter().find(|(known, ..)| *known == name) else {
        return;
    };
    if schemas.contains_key(&key) {
        return;
    }
    // Holds the place, because a schema may refer to itself.
    schemas.insert(key.clone(), Value::Null);
    let mut properties = Map::new();
    if resource.is_some() {
        for (field, kind) in [("apiVersion", "s"), ("kind", "s"), ("metadata", "ObjectMeta")] {
            properties.insert(field.into(), field_schema(schemas, kind));
        }
    }
    for field in fields.split(',') {
        if let Some((field, kind)) = field.split_once(' ') {
            properties.insert(field.into(), field_schema(schemas, kind));
        }
    }
    let mut schema = json!({
        "type": "object",
        "description": description,
        "properties": properties,
    });
    if let (Some(resource), Some(schema)) = (resource, schema.as_object_mut()) {
        schema.insert("x-kubernetes-group-version-kind".into(), json!([gvk(resource)]));
    }
    schemas.insert(key, schema);
}

fn field_schema(schemas: &mut Map<String, Value>, kind: &str) -> Value {
    match kind {
        "s" => json!({ "type": "string" }),
        "i" => json!({ "type": "integer" }),
        "b" => json!({ "type": "boolean" }),
        "o" => json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true }),
        "m" => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        kind => match kind.strip_prefix('*') {
            Some(list) => {
                let (of, key) = list.split_once('@').unwrap_or((list, ""));
                let items = field_schema(schemas, of);
                let mut list = json!({ "type": "array", "items": items });
                if let (false, Some(list)) = (key.is_empty(), list.as_object_mut()) {
                    list.insert("x-kubernetes-patch-merge-key".into(), json!(key));
                    list.insert("x-kubernetes-patch-strategy".into(), json!("merge"));
                }
                list
            }
            None => {
                add_schema(schemas, kind, None);
                json!({ "allOf": [{ "$ref": reference(kind) }], "default": {} })
            }
        },
    }
}

//! Lists, watches, conflicts and rights over raw HTTP.

use serde_json::{Value, json};

use super::raw::Client;
use super::trial::{Trial, trial};
use super::{admin, client, demo, server};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(pages_follow_each_other_without_gap_or_overlap),
        trial(a_watch_goes_on_from_a_version_and_is_told_when_that_is_forgotten),
        trial(a_watch_sees_objects_enter_and_leave_its_selection),
        trial(a_watch_ends_when_its_time_is_over),
        trial(initial_events_end_with_a_bookmark),
        trial(an_update_from_an_old_version_is_a_conflict),
        trial(unknown_paths_and_methods_are_refused_as_a_status),
        trial(roles_are_evaluated_by_name_subresource_namespace_and_path),
        trial(bodies_in_protobuf_are_read_and_damaged_ones_refused),
        trial(server_side_apply_takes_yaml_and_removes_what_its_manager_leaves_out),
    ]
}

const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";

fn configmap(name: &str, value: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": name, "namespace": "default" }, "data": { "key": value } })
}

fn event(client: &mut Client) -> Value {
    serde_json::from_slice(&client.chunk().expect("an event")).expect("an event is JSON")
}

fn watch(server: &demo::Server, query: &str) -> Client {
    let mut client = client(server);
    let fields = admin(server);
    client.send(format!("GET {CONFIGMAPS}?watch=1&{query} HTTP/1.1\r\nHost: k\r\n{fields}\r\n"));
    assert_eq!(client.head().0, 200);
    client
}

fn pages_follow_each_other_without_gap_or_overlap() {
    let server = server();
    for number in 0..7 {
        server.add("", "v1", "configmaps", configmap(&format!("page-{number}"), ""));
    }
    let mut client = client(&server);
    let mut names = Vec::new();
    let mut token = String::new();
    let mut pages = 0;
    loop {
        let path = format!("{CONFIGMAPS}?limit=3&continue={token}");
        let page = client.get(&path, &admin(&server)).json();
        pages += 1;
        for item in page["items"].as_array().expect("items") {
            names.push(item["metadata"]["name"].as_str().expect("a name").to_owned());
        }
        match page.pointer("/metadata/continue").and_then(Value::as_str) {
            Some(next) => token = next.to_owned(),
            None => break,
        }
    }
    assert_eq!((pages, names.len()), (3, 9));
    assert!(names.is_sorted() && names.contains(&"page-6".to_owned()), "{names:?}");

    let page = client.get(&format!("{CONFIGMAPS}?limit=1"), &admin(&server)).json();
    let token = page.pointer("/metadata/continue").and_then(Value::as_str).expect("more");
    server.forget_history();
    let late = client.get(&format!("{CONFIGMAPS}?limit=1&continue={token}"), &admin(&server));
    assert_eq!(late.code, 410);
}

fn a_watch_goes_on_from_a_version_and_is_told_when_that_is_forgotten() {
    let server = server();
    let list = client(&server).get(CONFIGMAPS, &admin(&server)).json();
    let version = list.pointer("/metadata/resourceVersion").and_then(Value::as_str).expect("one");
    server.add("", "v1", "configmaps", configmap("between", ""));
    let mut resumed = watch(&server, &format!("resourceVersion={version}"));
    let first = event(&mut resumed);
    assert_eq!(first["type"], "ADDED");
    assert_eq!(first.pointer("/object/metadata/name"), Some(&json!("between")));

    server.forget_history();
    let told = event(&mut resumed);
    assert_eq!((&told["type"], &told["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(resumed.chunk(), None);
    let mut late = watch(&server, &format!("resourceVersion={version}"));
    assert_eq!(event(&mut late)["object"]["code"], 410);
}

fn a_watch_sees_objects_enter_and_leave_its_selection() {
    let server = server();
    let mut seen = watch(&server, "labelSelector=wanted&fieldSelector=metadata.name!=never");
    let mut client = client(&server);
    let fields = format!("{}Content-Type: application/merge-patch+json\r\n", admin(&server));
    server.add("", "v1", "configmaps", configmap("it", ""));
    let path = format!("{CONFIGMAPS}/it");
    for (labels, kind) in [
        (json!({ "wanted": "yes" }), "ADDED"),
        (json!({ "wanted": "still" }), "MODIFIED"),
        (json!({ "wanted": null }), "DELETED"),
    ] {
        let patch = json!({ "metadata": { "labels": labels } }).to_string();
        assert_eq!(client.call("PATCH", &path, &fields, &patch).code, 200);
        assert_eq!(event(&mut seen)["type"], kind);
    }
}

fn a_watch_ends_when_its_time_is_over() {
    let server = server();
    let mut watch = watch(&server, "timeoutSeconds=0&resourceVersion=1000000");
    assert_eq!(watch.chunk(), None);
}

fn initial_events_end_with_a_bookmark() {
    let server = server();
    let query = "sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan";
    let mut watch = watch(&server, query);
    let marked = loop {
        let event = event(&mut watch);
        if event["type"] == "BOOKMARK" {
            break event;
        }
        assert_eq!(event["type"], "ADDED");
    };
    let mark = marked.pointer("/object/metadata/annotations/k8s.io~1initial-events-end");
    assert_eq!(mark, Some(&json!("true")));
}

fn an_update_from_an_old_version_is_a_conflict() {
    let server = server();
    server.add("", "v1", "configmaps", configmap("it", "one"));
    let mut client = client(&server);
    let path = format!("{CONFIGMAPS}/it");
    let old = client.get(&path, &admin(&server)).json();
    let mut new = old.clone();
    new["data"]["key"] = json!("two");
    assert_eq!(client.call("PUT", &path, &admin(&server), &new.to_string()).code, 200);
    let late = client.call("PUT", &path, &admin(&server), &new.to_string());
    assert_eq!((late.code, late.json()["reason"].as_str()), (409, Some("Conflict")));
}

fn unknown_paths_and_methods_are_refused_as_a_status() {
    let server = server();
    let mut client = client(&server);
    for (method, path, code) in [
        ("GET", "/nothing", 404),
        ("GET", "/api/v2/pods", 404),
        ("GET", "/apis/none.example/v1/things", 404),
        ("GET", "/api/v1/namespaces/default/pods/web/nothing", 404),
        ("GET", "/openapi/v2", 406),
        ("POST", "/version", 405),
        ("DELETE", "/api/v1/namespaces/default/pods/web/log", 405),
    ] {
        let answer = client.call(method, path, &admin(&server), "");
        assert_eq!(answer.code, code, "{method} {path}");
        assert_eq!(answer.json()["kind"], "Status", "{method} {path}");
    }
    let only_protobuf =
        format!("{}Accept: application/vnd.kubernetes.protobuf\r\n", admin(&server));
    assert_eq!(client.get(CONFIGMAPS, &only_protobuf).code, 406);
}

fn roles_are_evaluated_by_name_subresource_namespace_and_path() {
    let server = server();
    let role = |kind: &str, name: &str, rules: Value| {
        let mut metadata = json!({ "name": name });
        if kind == "Role" {
            metadata["namespace"] = json!("demo");
        }
        json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
                "metadata": metadata, "rules": rules })
    };
    let group = "rbac.authorization.k8s.io";
    let cluster = role(
        "ClusterRole",
        "narrow",
        json!([
            { "verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"],
              "resourceNames": ["about"] },
            { "verbs": ["get"], "apiGroups": [""], "resources": ["pods/log"] },
            { "verbs": ["*"], "apiGroups": ["apps"], "resources": ["*"] },
            { "verbs": ["get"], "nonResourceURLs": ["/metrics/*", "/exact"] },
        ]),
    );
    let local = role(
        "Role",
        "local",
        json!([
            { "verbs": ["list"], "apiGroups": [""], "resources": ["secrets"] },
        ]),
    );
    assert!(server.add(group, "v1", "clusterroles", cluster));
    assert!(server.add(group, "v1", "roles", local));
    server.bind("narrow", "narrow", "Group", &["people"]);
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": { "name": "local", "namespace": "demo" },
        "roleRef": { "kind": "Role", "name": "local" },
        "subjects": [{ "kind": "User", "name": "alice" }],
    });
    assert!(server.add(group, "v1", "rolebindings", binding));
    let fields =
        format!("{}Impersonate-User: alice\r\nImpersonate-Group: people\r\n", admin(&server));
    let mut client = client(&server);
    for (path, code) in [
        ("/api/v1/namespaces/default/configmaps/about", 200),
        ("/api/v1/namespaces/default/configmaps/kube-root-ca.crt", 403),
        ("/api/v1/namespaces/default/configmaps", 403),
        ("/api/v1/namespaces/default/pods/web/log", 200),
        ("/api/v1/namespaces/default/pods/web", 403),
        ("/apis/apps/v1/deployments", 200),
        ("/api/v1/namespaces/demo/secrets", 200),
        ("/api/v1/namespaces/default/secrets", 403),
        ("/api/v1/secrets", 403),
        ("/metrics/slis", 404),
        ("/metrics", 403),
        ("/exact", 404),
        ("/exactly", 403),
    ] {
        assert_eq!(client.get(path, &fields).code, code, "{path}");
    }
}

/// A protobuf field of bytes; enough for numbers under 16 and lengths under 128.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let len = u8::try_from(bytes.len()).expect("a short field");
    [&[number << 3 | 2, len], bytes].concat()
}

fn bodies_in_protobuf_are_read_and_damaged_ones_refused() {
    let server = server();
    let entry = [field(1, b"key"), field(2, b"value")].concat();
    let raw = [field(1, &field(1, b"packed")), field(2, &entry)].concat();
    let type_meta = [field(1, b"v1"), field(2, b"ConfigMap")].concat();
    let whole = [b"k8s\0".to_vec(), field(1, &type_meta), field(2, &raw)].concat();
    let post = |body: &[u8]| {
        let mut client = client(&server);
        client.send(format!(
            "POST {CONFIGMAPS} HTTP/1.1\r\nHost: k\r\n{}Content-Length: {}\r\n\
             Content-Type: application/vnd.kubernetes.protobuf\r\n\r\n",
            admin(&server),
            body.len()
        ));
        client.send(body);
        client.response()
    };
    let made = post(&whole);
    assert_eq!(made.code, 201, "{}", made.text());
    assert_eq!(made.json()["data"], json!({ "key": "value" }));
    for end in 1..whole.len() {
        assert_ne!(post(&whole[..end]).code, 201, "cut at {end}");
    }
    let unknown = [field(1, b"v1"), field(2, b"Mystery")].concat();
    let unknown = [b"k8s\0".to_vec(), field(1, &unknown), field(2, &raw)].concat();
    assert_eq!(post(&unknown).code, 415);
}

fn server_side_apply_takes_yaml_and_removes_what_its_manager_leaves_out() {
    let server = server();
    let mut client = client(&server);
    let fields = format!("{}Content-Type: application/apply-patch+yaml\r\n", admin(&server));
    let path = format!("{CONFIGMAPS}/yaml");
    let head = "apiVersion: v1\nkind: ConfigMap\ndata:\n";
    let managed = format!("{path}?fieldManager=me");
    assert_eq!(client.call("PATCH", &path, &fields, head).code, 400);
    let body = format!("{head}  a: 'true'\n  b: two\n");
    assert_eq!(client.call("PATCH", &managed, &fields, &body).code, 201);
    let other = format!("{head}  c: others\n");
    let by_other = format!("{path}?fieldManager=other");
    assert_eq!(client.call("PATCH", &by_other, &fields, &other).code, 200);
    let applied = client.call("PATCH", &managed, &fields, &format!("{head}  a: 'false'\n"));
    assert_eq!(applied.json()["data"], json!({ "a": "false", "c": "others" }));
    for hostile in ["a: &x [1]\nb: *x\n", "a: !!str 1\n", "a: [1\n"] {
        assert_eq!(client.call("PATCH", &managed, &fields, hostile).code, 400, "{hostile}");
    }
}

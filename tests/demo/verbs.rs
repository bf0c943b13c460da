//! The real kubectl, through every verb that does not stream. What lies between it and the
//! demonstration API server is the including program's choice.

use serde_json::json;

use super::demo::Server;
use super::each;
use super::kubectl::Session;
use super::trial::Trial;

pub(crate) fn trials() -> Vec<Trial> {
    let all = [
        each(lists_are_tables_and_single_objects_are_whole),
        each(the_server_says_that_it_is_a_demonstration),
        each(small_objects_are_created_and_deleted),
        each(apply_diff_edit_and_explain_work),
        each(patches_of_three_kinds_change_what_they_name),
        each(a_dry_run_leaves_nothing_behind),
        each(drain_cordons_and_evicts),
        each(a_namespace_takes_its_objects_with_it),
    ];
    all.into_iter().flatten().collect()
}

fn lists_are_tables_and_single_objects_are_whole(_: &Server, kubectl: &mut Session) {
    let pods = kubectl.output(&["get", "pods", "-A"]);
    assert!(pods.starts_with("NAMESPACE   NAME   READY   STATUS    RESTARTS   AGE"), "{pods}");
    assert!(pods.contains("default     pair   2/2     Running"), "{pods}");
    assert!(kubectl.output(&["get", "ns"]).contains("kube-system   Active"));
    assert!(kubectl.output(&["get", "all", "-o", "name"]).contains("pod/web"));
    let pod = kubectl.json(&["get", "pod", "web", "-o", "json"]);
    assert_eq!(pod.pointer("/spec/containers/0/name"), Some(&json!("web")));
    let missing = kubectl.run(&["get", "pod", "nothing"]);
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.contains("pods \"nothing\" not found"), "{missing:?}");
}

fn the_server_says_that_it_is_a_demonstration(_: &Server, kubectl: &mut Session) {
    let version = kubectl.json(&["version", "-o", "json"]);
    let version = version.pointer("/serverVersion/gitVersion").cloned();
    assert_eq!(version, Some(json!("v1.33.0-cluster-connect-demo")));
    assert!(kubectl.output(&["get", "--raw", "/"]).contains("demonstration API server"));
    let namespace = kubectl.output(&["get", "ns", "default", "-o", "yaml"]);
    assert!(namespace.contains("demonstration API server"), "{namespace}");
}

fn small_objects_are_created_and_deleted(_: &Server, kubectl: &mut Session) {
    for create in [
        &["create", "namespace", "made"][..],
        &["create", "configmap", "made", "--from-literal=a=b"],
        &["create", "secret", "generic", "made", "--from-literal=a=b"],
        &["create", "serviceaccount", "made"],
        &["create", "role", "made", "--verb=get", "--resource=pods"],
        &["create", "rolebinding", "made", "--role=made", "--user=alice"],
        &["create", "clusterrole", "made", "--verb=get", "--resource=pods"],
        &["create", "clusterrolebinding", "made", "--clusterrole=made", "--group=people"],
    ] {
        kubectl.output(create);
        let kind = create.get(1).expect("a kind");
        let made = kubectl.json(&["get", kind, "made", "-o", "json"]);
        assert!(made.pointer("/metadata/uid").is_some(), "{made}");
        kubectl.output(&["delete", kind, "made"]);
        assert_eq!(kubectl.run(&["get", kind, "made"]).code, Some(1));
    }
    let twice = ["create", "configmap", "twice"];
    kubectl.output(&twice);
    assert!(kubectl.run(&twice).stderr.contains("already exists"));
}

fn apply_diff_edit_and_explain_work(_: &Server, kubectl: &mut Session) {
    let manifest = |value: &str| {
        json!({ "apiVersion": "v1", "kind": "List", "items": [
            { "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "applied" },
              "data": { "key": value } },
            { "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "applied" },
              "spec": { "selector": { "matchLabels": { "a": "b" } }, "template": {
                  "metadata": { "labels": { "a": "b" } },
                  "spec": { "containers": [{ "name": "c", "image": value }] } } } },
        ] })
        .to_string()
    };
    let file = kubectl.file("manifest.json", manifest("one").as_bytes());
    let apply = ["apply", "-f", file.as_str()];
    assert!(kubectl.output(&apply).contains("configmap/applied created"));
    assert!(kubectl.output(&apply).contains("deployment.apps/applied unchanged"));
    kubectl.file("manifest.json", manifest("two").as_bytes());
    let diff = kubectl.run(&["diff", "-f", &file]);
    assert_eq!(diff.code, Some(1), "{diff:?}");
    assert!(diff.stdout.contains("+  key: two"), "{diff:?}");
    assert!(kubectl.output(&apply).contains("deployment.apps/applied configured"));
    let image = "jsonpath={.spec.template.spec.containers[*].image}";
    assert_eq!(kubectl.output(&["get", "deploy", "applied", "-o", image]), "two");
    let server_side = ["apply", "--server-side", "--force-conflicts", "-f", &file];
    assert!(kubectl.output(&server_side).contains("serverside-applied"));

    kubectl.set("EDITOR", "sed -i s/two/three/");
    kubectl.output(&["edit", "configmap", "applied"]);
    let data = ["get", "configmap", "applied", "-o", "jsonpath={.data.key}"];
    assert_eq!(kubectl.output(&data), "three");
    let explained = kubectl.output(&["explain", "pod.spec.containers"]);
    assert!(explained.contains("A single application container"), "{explained}");
    assert!(kubectl.output(&["delete", "-f", &file]).contains("configmap \"applied\" deleted"));
}

fn patches_of_three_kinds_change_what_they_name(_: &Server, kubectl: &mut Session) {
    kubectl.output(&["create", "configmap", "it", "--from-literal=a=1"]);
    let data = ["get", "configmap", "it", "-o", "jsonpath={.data}"];
    for (kind, patch, after) in [
        ("strategic", r#"{"data":{"b":"2"}}"#, r#"{"a":"1","b":"2"}"#),
        ("merge", r#"{"data":{"a":null}}"#, r#"{"b":"2"}"#),
        ("json", r#"[{"op":"replace","path":"/data/b","value":"3"}]"#, r#"{"b":"3"}"#),
    ] {
        kubectl.output(&["patch", "configmap", "it", "--type", kind, "-p", patch]);
        assert_eq!(kubectl.output(&data), after, "{kind}");
    }
    kubectl.output(&["label", "configmap", "it", "x=y"]);
    let labelled = kubectl.output(&["get", "configmaps", "-l", "x in (y,z)", "-o", "name"]);
    assert_eq!(labelled, "configmap/it\n");
    kubectl.output(&["annotate", "configmap", "it", "why=because"]);
}

fn a_dry_run_leaves_nothing_behind(_: &Server, kubectl: &mut Session) {
    kubectl.output(&["create", "configmap", "ghost", "--dry-run=server"]);
    assert_eq!(kubectl.run(&["get", "configmap", "ghost"]).code, Some(1));
    kubectl.output(&["delete", "pod", "web", "--dry-run=server"]);
    kubectl.output(&["drain", "demo-node", "--force", "--dry-run=server"]);
    assert_eq!(kubectl.output(&["get", "pods", "web", "-o", "name"]), "pod/web\n");
}

fn drain_cordons_and_evicts(_: &Server, kubectl: &mut Session) {
    let drained = kubectl.output(&["drain", "demo-node", "--force"]);
    // Older ones say evicted.
    assert!(
        ["drained", "node/demo-node evicted"].iter().any(|it| drained.contains(it)),
        "{drained}"
    );
    assert_eq!(kubectl.output(&["get", "pods", "-A", "-o", "name"]), "");
    assert!(kubectl.output(&["get", "nodes"]).contains("SchedulingDisabled"));
    kubectl.output(&["uncordon", "demo-node"]);
}

fn a_namespace_takes_its_objects_with_it(_: &Server, kubectl: &mut Session) {
    kubectl.output(&["create", "namespace", "brief"]);
    kubectl.output(&["create", "configmap", "-n", "brief", "inside"]);
    kubectl.output(&["get", "serviceaccount", "-n", "brief", "default"]);
    kubectl.output(&["delete", "namespace", "brief"]);
    kubectl.output(&["create", "namespace", "brief"]);
    assert_eq!(kubectl.run(&["get", "configmap", "-n", "brief", "inside"]).code, Some(1));
}

//! Every version of kubectl, one after the other, at one chain.

use std::io::{self, Write as _};

use serde_json::json;

use super::chain::{ALICE, Chain, Options};
use super::kubectl::{self, Session, all_or_skip};

/// One chain for all versions, so that one cluster serves many clients, as in life.
fn each(test: &str, check: impl Fn(&Chain, &mut Session)) {
    let versions = all_or_skip(test);
    if versions.is_empty() {
        return;
    }
    let chain = Chain::start(Options::default());
    for kubectl in versions {
        check(&chain, &mut kubectl.with(&chain.client.kubeconfig));
    }
}

#[test]
fn the_api_server_sees_the_caller_and_not_the_proxy() {
    each("whoami", |chain, kubectl| {
        let me = kubectl.json(&["auth", "whoami", "-o", "json"]);
        assert_eq!(me.pointer("/status/userInfo/username"), Some(&json!(ALICE)), "{me}");
        let groups = me.pointer("/status/userInfo/groups").expect("groups").to_string();
        assert!(groups.contains("developers") && groups.contains("system:authenticated"), "{me}");
        let audit = chain.cluster.api.audit();
        let last = audit.last().expect("an audit event");
        let account = json!("system:serviceaccount:kube-system:kube-aad-proxy");
        assert_eq!(last.pointer("/user/username"), Some(&account), "{last}");
    });
}

#[test]
fn rbac_holds_for_the_caller() {
    each("can-i", |_, kubectl| {
        assert_eq!(kubectl.output(&["auth", "can-i", "list", "pods"]), "yes\n");
        let refused = kubectl.run(&["auth", "can-i", "create", "clusterrolebindings"]);
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), "no\n"), "{refused:?}");
        let refused = kubectl.run(&["get", "nodes"]);
        assert_eq!(refused.code, Some(1));
        assert!(refused.stderr.contains("Forbidden") && refused.stderr.contains(ALICE));
    });
}

#[test]
fn objects_are_read_written_watched_and_deleted() {
    each("core verbs", |_, kubectl| {
        assert!(kubectl.output(&["get", "pods"]).contains("web"));
        let mut watch = kubectl.start(&["get", "configmaps", "-w", "-o", "name"]);
        watch.line_with("kube-root-ca.crt");
        let manifest = json!({ "apiVersion": "v1", "kind": "ConfigMap",
                               "metadata": { "name": "it" }, "data": { "a": "1" } });
        let file = kubectl.file("it.json", manifest.to_string().as_bytes());
        // The API server has only the second version of OpenAPI that older ones check with.
        let verb = if kubectl.minor() < 30 { "create" } else { "apply" };
        kubectl.output(&[verb, "-f", &file]);
        watch.line_with("configmap/it");
        assert!(kubectl.output(&["get", "configmap", "it", "-o", "yaml"]).contains("a: \"1\""));
        kubectl.output(&["delete", "configmap", "it"]);
        assert_eq!(kubectl.run(&["get", "configmap", "it"]).code, Some(1));
        assert!(kubectl.output(&["logs", "web", "--tail=1"]).contains("web: ready"));
        let ended = kubectl.run_with_input(&["exec", "-i", "web", "--", "cat"], b"through");
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "through"), "{ended:?}");
    });
}

#[test]
fn a_kubectl_that_is_not_here_is_counted() {
    let wanted = 27..=34;
    let here: Vec<u32> = kubectl::all().iter().map(|kubectl| kubectl.minor).collect();
    let missing: Vec<u32> = wanted.filter(|minor| !here.contains(minor)).collect();
    let line = format!("kubectl 1.x: ran with {here:?}; SKIPPED {}: {missing:?}", missing.len());
    let _ = writeln!(io::stderr(), "{line}");
}

//! What every version of kubectl must be able to do, and that the cluster knows who it is.

use serde_json::json;

use super::chain::{ALICE, Chain, Options};
use super::kubectl::{Session, all, since};
use super::trial::{Absent, Trial, name_of, named, trial};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial(the_api_server_sees_the_caller_and_not_the_proxy),
        trial(rbac_holds_for_the_caller),
    ];
    trials.extend(each_version(objects_are_read_written_watched_and_deleted));
    trials
}

/// Those that are here, and those that ought to be.
fn each_version<C: Fn(&mut Session) + Copy + Send + 'static>(check: C) -> Vec<Trial> {
    let mut minors: Vec<u32> = (27..=34).collect();
    minors.extend(all().iter().map(|kubectl| kubectl.minor));
    minors.sort_unstable();
    minors.dedup();
    let version = |minor| {
        let name = format!("{}::kubectl_1_{minor}", name_of::<C>());
        named(name, move || {
            let kubectl = all().iter().find(|kubectl| kubectl.minor == minor);
            let kubectl = kubectl.ok_or_else(|| Absent(format!("kubectl 1.{minor}")))?;
            let chain = Chain::start(Options::default());
            check(&mut kubectl.with(&chain.client.kubeconfig));
            Ok(())
        })
    };
    minors.into_iter().map(version).collect()
}

/// One chain for all versions, so that one cluster serves many clients, as in life.
fn at_one_chain(minor: u32, check: impl Fn(&Chain, &mut Session)) -> Result<(), Absent> {
    let versions = since(minor)?;
    let chain = Chain::start(Options::default());
    for kubectl in versions {
        check(&chain, &mut kubectl.with(&chain.client.kubeconfig));
    }
    Ok(())
}

fn the_api_server_sees_the_caller_and_not_the_proxy() -> Result<(), Absent> {
    // Older ones have no `auth whoami`.
    at_one_chain(27, |chain, kubectl| {
        let me = kubectl.json(&["auth", "whoami", "-o", "json"]);
        assert_eq!(me.pointer("/status/userInfo/username"), Some(&json!(ALICE)), "{me}");
        let groups = me.pointer("/status/userInfo/groups").expect("groups").to_string();
        assert!(groups.contains("developers") && groups.contains("system:authenticated"), "{me}");
        let audit = chain.cluster.api.audit();
        let last = audit.last().expect("an audit event");
        let account = json!("system:serviceaccount:kube-system:kube-aad-proxy");
        assert_eq!(last.pointer("/user/username"), Some(&account), "{last}");
    })
}

fn rbac_holds_for_the_caller() -> Result<(), Absent> {
    at_one_chain(0, |_, kubectl| {
        assert_eq!(kubectl.output(&["auth", "can-i", "list", "pods"]), "yes\n");
        let refused = kubectl.run(&["auth", "can-i", "create", "clusterrolebindings"]);
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), "no\n"), "{refused:?}");
        let refused = kubectl.run(&["get", "nodes"]);
        assert_eq!(refused.code, Some(1));
        assert!(refused.stderr.contains("Forbidden") && refused.stderr.contains(ALICE));
    })
}

fn objects_are_read_written_watched_and_deleted(kubectl: &mut Session) {
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
}

//! Every version of kubectl, through every verb that does not stream.

use serde_json::json;

use super::chain::{ALICE, Chain, Options};
use super::kubectl::{Session, all_or_skip};

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

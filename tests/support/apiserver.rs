//! The API server of a chain, and the auth proxy's account there.

use std::sync::atomic::{AtomicU16, Ordering};

use cluster_connect::config::manifest::rights::{Rights, Rule};

use crate::demo;

/// At an address of its own, at which nobody else is given a port: if it is stopped, it can come back.
pub(super) fn start() -> demo::Server {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let listen = ([127, 14, high, low], 0).into();
    let api = demo::Server::start(demo::Options { listen, ..demo::Options::default() });
    api.expect("the API server starts")
}

/// The auth proxy's account, which may impersonate, ask about tokens, and nothing else.
pub(super) fn account(api: &demo::Server) -> String {
    let rights = Rights { passthrough: true, ..Rights::default() };
    let rules: Vec<_> = rights.rules().iter().map(Rule::to_json).collect();
    let role = serde_json::json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": { "name": "impersonator" },
        "rules": rules,
    });
    api.add("rbac.authorization.k8s.io", "v1", "clusterroles", role);
    let name = "system:serviceaccount:kube-system:kube-aad-proxy";
    api.bind("impersonator", "impersonator", "User", &[name]);
    let token = api.service_account_token("kube-system", "kube-aad-proxy");
    api.kubeconfig_token(&token.expect("a service account's token"))
}

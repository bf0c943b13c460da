#![allow(unreachable_pub, reason = "shared by tests and benches")]
//! The kubeconfig of an API server that is not one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Reaches `host:port`, whose CA this is, with a bearer token.
pub fn kubeconfig(place: &str, ca_pem: &str, token: &str) -> String {
    let ca = STANDARD.encode(ca_pem);
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters:\n- name: c\n  cluster:\n    server: https://{place}\n    \
         certificate-authority-data: {ca}\n\
         users:\n- name: u\n  user:\n    token: {token}\n\
         contexts:\n- name: c\n  context: {{cluster: c, user: u}}\n"
    )
}

//! Who the caller is and what he may, without anybody in between.

use std::fs;

use super::demo::Server;
use super::kubectl::{Session, since};
use super::trial::{Absent, Trial, named};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        named("callers::the_caller_is_told_who_he_is_and_what_he_may", || {
            each(the_caller_is_told_who_he_is_and_what_he_may)
        }),
        named("callers::a_service_account_token_from_kubectl_is_a_credential", || {
            each(a_service_account_token_from_kubectl_is_a_credential)
        }),
    ]
}

/// With each kubectl that has `auth whoami` and `create token`.
fn each(check: impl Fn(&Server, &mut Session)) -> Result<(), Absent> {
    for kubectl in since(27)? {
        let server = super::server();
        let kubeconfig = server.kubeconfig_admin().expect("a kubeconfig");
        check(&server, &mut kubectl.with(&kubeconfig));
    }
    Ok(())
}

fn the_caller_is_told_who_he_is_and_what_he_may(server: &Server, kubectl: &mut Session) {
    let me = kubectl.output(&["auth", "whoami", "-o", "json"]);
    assert!(me.contains("system:admin") && me.contains("system:masters"), "{me}");
    server.bind("alice-views", "view", "User", &["alice"]);
    assert_eq!(kubectl.output(&["auth", "can-i", "list", "pods", "--as", "alice"]), "yes\n");
    let refused = kubectl.run(&["auth", "can-i", "list", "secrets", "--as", "alice"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), "no\n"));
    let list = kubectl.output(&["auth", "can-i", "--list", "--as", "alice"]);
    assert!(list.contains("selfsubjectreviews"), "{list}");
}

fn a_service_account_token_from_kubectl_is_a_credential(_: &Server, kubectl: &mut Session) {
    let token = kubectl.output(&["create", "token", "default"]);
    let config = fs::read_to_string(kubectl.directory().join("kubeconfig")).expect("readable");
    let lines = config.lines().filter(|line| !line.contains("client-"));
    let anonymous = lines.collect::<Vec<_>>().join("\n");
    let file = kubectl.file("anonymous", anonymous.as_bytes());
    let who = ["auth", "whoami", "-o", "json", "--kubeconfig", &file, "--token", token.trim()];
    let me = kubectl.output(&who);
    assert!(me.contains("system:serviceaccount:default:default"), "{me}");
}

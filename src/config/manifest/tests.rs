//! The manifest says what the edge needs and gives the account no right beyond it.

use std::ffi::OsString;

use super::*;
use crate::wire::yaml::Node;

const TENANT: &str = "5c7d0000-1111-2222-3333-444455556666";

fn parse(words: &[&str]) -> Result<Manifest, Error> {
    let entra = ["--relay", "https://relay.example", "--entra-tenant", TENANT];
    let words = entra.iter().chain(&["--entra-audience", "edge"]).chain(words);
    Manifest::parse(Args::new(&PAGE, words.map(OsString::from).collect(), &|_| None))
}

/// Without an issuer of its own.
fn bare(words: &[&str]) -> Result<Manifest, Error> {
    let words = ["--relay", "https://relay.example"].iter().chain(words);
    Manifest::parse(Args::new(&PAGE, words.map(OsString::from).collect(), &|_| None))
}

fn documents(manifest: &Manifest, token: Option<&str>) -> Vec<Node> {
    let token = token.map(|token| Secret::new(token.to_owned()));
    let text = manifest.render(token.as_ref());
    let parts = text.split("---\n").skip(1);
    parts.map(|part| Node::parse(part.as_bytes()).unwrap()).collect()
}

fn find<'a>(all: &'a [Node], kind: &str, name: &str) -> &'a Node {
    let text = |node: &Node, key: &str| match node.get(key) {
        Some(Node::Scalar(scalar)) => scalar.text.clone(),
        _ => String::new(),
    };
    let mut found = all.iter().filter(|node| {
        text(node, "kind") == kind && text(node.get("metadata").unwrap(), "name") == name
    });
    found.next().unwrap_or_else(|| panic!("no {kind} {name}"))
}

#[test]
fn the_account_may_impersonate_and_nothing_else() {
    let all = documents(&parse(&["edge-7"]).unwrap(), None);
    let rules = find(&all, "ClusterRole", "cluster-connect").get("rules").unwrap().to_yaml();
    assert_eq!(
        rules,
        "- apiGroups:\n  - \"\"\n  resources:\n  - \"users\"\n  - \"groups\"\n  verbs:\n  - \"impersonate\"\n\
         - apiGroups:\n  - \"authentication.k8s.io\"\n  resources:\n  - \"userextras/oid\"\n\
         \u{20} - \"userextras/cluster-connect.internal/credential-id\"\n\
         \u{20} - \"userextras/cluster-connect.internal/remote-ip\"\n  verbs:\n  - \"impersonate\"\n"
            .replace("  - ", "    - ")
    );
    let role = find(&all, "Role", "cluster-connect").get("rules").unwrap().to_yaml();
    assert!(role.contains("resourceNames:\n    - \"cluster-connect-state\""), "{role}");
    let text = parse(&["edge-7"]).unwrap().render(None);
    for never in ["\"*\"", "serviceaccounts", "\"uids\"", "cluster-admin", "hostPath", "privileged"]
    {
        assert!(!text.contains(never), "{never}");
    }
}

#[test]
fn reviews_are_asked_for_only_where_they_are_needed() {
    let text = |words: &[&str]| parse(words).unwrap().render(None);
    assert!(!text(&["edge-7"]).contains("reviews"));
    let passthrough = text(&["edge-7", "--sa-passthrough"]);
    assert!(passthrough.contains("tokenreviews") && !passthrough.contains("subjectaccessreviews"));
    assert!(passthrough.contains("\"--sa-passthrough\""));
    let sar = text(&["edge-7", "--impersonation", "sar"]);
    assert!(sar.contains("subjectaccessreviews") && sar.contains("original-user-info"));
    assert!(sar.contains("\"--impersonation=sar\""));
    assert!(!sar.contains("user-info:") && !sar.contains("nonResourceURLs"));
    let constrained = text(&["edge-7", "--constrained-impersonation"]);
    for part in [
        "impersonate-on:user-info:deletecollection",
        "nonResourceURLs",
        "userextras/cluster-connect.internal/oid",
        "\"--constrained-impersonation\"",
        "\"--audit-log=-\"",
    ] {
        assert!(constrained.contains(part), "{part}\n{constrained}");
    }
    for never in ["userextras/oid", "serviceaccounts", "uids", "\"impersonate\"", "- impersonate\n"]
    {
        assert!(!constrained.contains(never), "{never}\n{constrained}");
    }
}

#[test]
fn the_deployment_starts_an_edge_of_this_cluster() {
    let manifest = parse(&["-n", "edge-7", "-g", "berlin", "--replicas", "2"]).unwrap();
    let all = documents(&manifest, Some("ccj_abc"));
    let deployment = find(&all, "Deployment", "cluster-connect").to_yaml();
    let id = manifest.cluster.id();
    for part in [
        "replicas: 2",
        "\"--relay=https://relay.example\"",
        &format!("\"--name={id}\""),
        "\"--state-secret=cluster-connect-state\"",
        &format!("\"--entra-tenant={TENANT}\""),
        "runAsNonRoot: true",
        "readOnlyRootFilesystem: true",
        "expirationSeconds: 600",
    ] {
        assert!(deployment.contains(part), "{part}\n{deployment}");
    }
    assert!(find(&all, "Secret", "cluster-connect-join").to_yaml().contains("ccj_abc"));
    assert!(find(&all, "Secret", "cluster-connect-state").get("data").is_none());
}

#[test]
fn the_options_of_the_deployment_are_ones_that_edge_knows() {
    let manifest = parse(&[
        "edge-7",
        "--sa-passthrough",
        "--impersonation=sar",
        "--oidc-issuer=https://i",
        "--oidc-audience=a",
        "--oidc-username-prefix=x:",
        "--oidc-groups-claim=groups",
        "--entra-username-prefix=e:",
    ]);
    let all = documents(&manifest.unwrap(), None);
    let deployment = find(&all, "Deployment", "cluster-connect");
    let pod = deployment.get("spec").unwrap().get("template").unwrap().get("spec").unwrap();
    let Some(Node::List(containers)) = pod.get("containers") else { panic!() };
    let Some(Node::List(words)) = containers[0].get("args") else { panic!() };
    let words = words.iter().map(|word| match word {
        Node::Scalar(scalar) => OsString::from(&scalar.text),
        _ => panic!(),
    });
    let args = Args::new(&super::super::edge::PAGE, words.skip(1).collect(), &|_| None);
    let edge = super::super::edge::Edge::parse(args).unwrap();
    assert_eq!(edge.gate.issuers.issuers.len(), 2);
}

#[test]
fn files_go_into_a_config_map_and_secrets_do_not() {
    let dir = std::env::temp_dir().join(format!("cc-manifest-{}", std::process::id()));
    files::private_directory(&dir).unwrap();
    let (ca, auth) = (dir.join("ca.pem"), dir.join("auth.json"));
    files::write_atomic(&ca, b"-----BEGIN CERTIFICATE-----\nx: 'y'\n", 0o644).unwrap();
    let issuers = format!(
        r#"{{"issuers":[{{"type":"entra","entra":{{"tenant":"{TENANT}","audiences":["a"]}}}}]}}"#
    );
    files::write_atomic(&auth, issuers.as_bytes(), 0o644).unwrap();
    let (ca, auth) = (ca.to_str().unwrap(), auth.to_str().unwrap());
    let manifest = bare(&["edge-7", "--relay-ca", ca, "--auth-config", auth]).unwrap();
    let all = documents(&manifest, Some("ccj_abc"));
    let map = find(&all, "ConfigMap", "cluster-connect-files");
    let data = map.get("data").unwrap();
    assert_eq!(data.get("auth.json"), Some(&Node::text(&issuers)));
    assert!(!map.to_yaml().contains("ccj_abc"));

    let twice = parse(&["edge-7", "--auth-config", auth]).unwrap_err();
    assert_eq!(twice.code, Code::AuthConfigInvalid, "{twice}");

    let named = issuers.replace("\"audiences\"", "\"jwksFile\":\"k\",\"audiences\"");
    files::write_atomic(Path::new(auth), named.as_bytes(), 0o644).unwrap();
    let error = bare(&["edge-7", "--auth-config", auth]).unwrap_err();
    assert_eq!(error.code, Code::AuthConfigInvalid);
}

#[test]
fn what_makes_no_manifest_is_refused() {
    for words in [
        &[][..],
        &["edge-7", "edge-8"],
        &["edge-7", "--namespace", "Up"],
        &["edge-7", "--image", "a b"],
        &["edge-7", "--replicas", "0"],
        &["edge-7", "--expires", "1h"],
        &["edge-7", "--create-join-token"],
        &["edge-7", "--create-join-token", "--join-token-file", "f"],
        &[
            "edge-7",
            "--oidc-issuer=https://i",
            "--oidc-audience=a",
            "--oidc-username-prefix=-",
            "--oidc-jwks-file=f",
        ],
    ] {
        assert_eq!(parse(words).unwrap_err().code, Code::Usage, "{words:?}");
    }
    let words = ["edge-7", "--relay", "https://r"].map(OsString::from).to_vec();
    let none = Manifest::parse(Args::new(&PAGE, words, &|_| None)).unwrap_err();
    assert!(none.message.contains("issuer"));
    assert!(parse(&["edge-7"]).unwrap().token().unwrap().is_none());
}

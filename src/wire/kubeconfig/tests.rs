//! What a kubeconfig gives, what is refused, and what merging leaves alone.

use std::path::PathBuf;

use super::*;
use crate::secret::Secret;

const K3S: &str = "apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: Q0E=
    server: https://127.0.0.1:6443
  name: default
contexts:
- context:
    cluster: default
    user: default
    namespace: prod
  name: default
current-context: default
kind: Config
preferences: {}
users:
- name: default
  user:
    client-certificate-data: Q0VSVA==
    client-key-data: S0VZ
";

fn read(text: &str) -> Kubeconfig {
    Kubeconfig::parse(text.as_bytes()).unwrap()
}

/// The K3S file with its user's or cluster's fields replaced.
fn with(cluster: &str, user: &str) -> Result<Access, Malformed> {
    let text = format!(
        "clusters: [{{name: c, cluster: {{{cluster}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n\
         contexts: [{{name: x, context: {{cluster: c, user: u}}}}]\ncurrent-context: x\n"
    );
    Kubeconfig::parse(text.as_bytes())?.select(None)
}

fn entry(port: u16) -> Entry {
    Entry {
        name: "edge-7".to_owned(),
        server: format!("https://127.0.0.1:{port}/proxies/abc"),
        authority: b"PEM".to_vec(),
        token: Secret::new("bearer".to_owned()),
        namespace: None,
    }
}

#[test]
fn an_administrators_file_gives_server_roots_and_certificate() {
    let access = read(K3S).select(None).unwrap();
    assert_eq!(access.server.to_string(), "https://127.0.0.1:6443");
    assert_eq!(access.namespace.as_deref(), Some("prod"));
    assert_eq!(access.authority, Some(Material::Inline(Secret::new(b"CA".to_vec()))));
    let (certificate, key) = access.certificate.unwrap();
    assert_eq!(certificate, Material::Inline(Secret::new(b"CERT".to_vec())));
    assert_eq!(key, Material::Inline(Secret::new(b"KEY".to_vec())));
    assert_eq!(access.token, None);
}

#[test]
fn files_and_tokens_are_taken_in_kubectls_order() {
    let access = with(
        "server: https://a, certificate-authority: ca.crt, tls-server-name: kubernetes",
        "token: abc, tokenFile: /run/token",
    )
    .unwrap();
    assert_eq!(access.authority, Some(Material::File(PathBuf::from("ca.crt"))));
    assert_eq!(access.token, Some(Token::File(PathBuf::from("/run/token"))));
    assert_eq!(access.server_name.as_deref(), Some("kubernetes"));
    let access = with(
        "server: https://a, certificate-authority: f, certificate-authority-data: Q0E=",
        "token: abc, username: '', exec: ~",
    )
    .unwrap();
    assert_eq!(access.authority, Some(Material::Inline(Secret::new(b"CA".to_vec()))));
    assert_eq!(access.token, Some(Token::Inline(Secret::new("abc".to_owned()))));
}

#[test]
fn a_context_is_chosen_by_name_or_is_the_current_one() {
    let config = read(K3S);
    assert!(config.select(Some("default")).is_ok());
    assert_eq!(
        config.select(Some("other")),
        Err(Malformed::Unknown("contexts", "other".to_owned()))
    );
    assert_eq!(read("kind: Config\n").select(None), Err(Malformed::NoCurrent));
    assert_eq!(read("").select(None), Err(Malformed::NoCurrent));
    let broken = K3S.replace("cluster: default", "cluster: gone");
    assert_eq!(read(&broken).select(None), Err(Malformed::Unknown("clusters", "gone".to_owned())));
    let broken = K3S.replace("user: default", "user: gone");
    assert_eq!(read(&broken).select(None), Err(Malformed::Unknown("users", "gone".to_owned())));
}

#[test]
fn what_is_not_done_here_is_refused_with_a_sentence() {
    for (cluster, user, word) in [
        ("server: https://a, insecure-skip-tls-verify: true", "", "skips TLS verification"),
        ("server: https://a, insecure-skip-tls-verify: yes", "", "skips TLS verification"),
        ("server: http://a", "", "without TLS"),
        ("server: https://a, proxy-url: http://p", "", "proxy"),
        ("server: https://a", "exec: {command: rm}", "exec plug-ins"),
        ("server: https://a", "auth-provider: {name: oidc}", "auth-provider"),
        ("server: https://a", "username: root, password: x", "password"),
        ("server: https://a", "token: a, as: system:admin", "impersonation"),
        ("server: https://a", "token: a, as-groups: ['system:masters']", "impersonation"),
    ] {
        match with(cluster, user) {
            Err(Malformed::Unsupported(why)) => assert!(why.contains(word), "{why}"),
            other => panic!("{cluster} {user}: {other:?}"),
        }
    }
    assert!(with("server: https://a, insecure-skip-tls-verify: false", "").is_ok());
}

#[test]
fn values_of_the_wrong_type_are_refused_with_their_place() {
    for (cluster, user) in [
        ("server: 12", ""),
        ("server: [https://a]", ""),
        ("server: https://a, insecure-skip-tls-verify: 'true'", ""),
        ("server: https://a, insecure-skip-tls-verify: 1", ""),
        ("server: https://a", "token: 12345"),
        ("server: https://a", "token: true"),
        ("server: https://a", "token: {a: b}"),
        ("server: https://a", "token: \"a\\r\\nb\""),
        ("server: https://a", "token: \"a b\""),
    ] {
        assert!(matches!(with(cluster, user), Err(Malformed::Type(..))), "{cluster} {user}");
    }
    assert!(matches!(with("", ""), Err(Malformed::Missing(_))));
    assert!(matches!(with("server: https://a@b", ""), Err(Malformed::Url(..))));
    assert!(matches!(
        with("server: https://a, certificate-authority-data: '%%'", ""),
        Err(Malformed::Base64(_))
    ));
    assert!(matches!(
        with("server: https://a", "client-certificate: a"),
        Err(Malformed::Missing(_))
    ));
    assert!(matches!(
        with("server: https://a", "client-key-data: YQ=="),
        Err(Malformed::Missing(_))
    ));
}

#[test]
fn a_file_that_is_no_kubeconfig_is_refused() {
    let parse = |text: &str| Kubeconfig::parse(text.as_bytes());
    assert!(matches!(parse("- a\n"), Err(Malformed::Kind(_))));
    assert!(matches!(parse("hello"), Err(Malformed::Kind(_))));
    assert!(matches!(parse("kind: Pod\n"), Err(Malformed::Kind(_))));
    assert!(matches!(parse("apiVersion: v2\n"), Err(Malformed::Kind(_))));
    assert!(matches!(parse("clusters: x\n"), Err(Malformed::Type(..))));
    assert!(matches!(parse("users: {a: b}\n"), Err(Malformed::Type(..))));
    assert!(matches!(parse("users: [a]\n"), Err(Malformed::Missing(_))));
    assert!(matches!(parse("users: [{name: 7}]\n"), Err(Malformed::Type(..))));
    assert_eq!(
        parse("users: [{name: a}, {name: b}, {name: a}]\n"),
        Err(Malformed::Duplicate("users", "a".to_owned()))
    );
    assert!(matches!(parse("a: *b\n"), Err(Malformed::Yaml(_))));
    assert!(parse("{\"kind\":\"Config\",\"clusters\":null}").is_ok(), "JSON is YAML");
}

#[test]
fn no_secret_reaches_debug_output() {
    let access = with("server: https://a", "token: hunter2").unwrap();
    assert!(!format!("{access:?} {:?}", entry(1)).contains("hunter2"));
    assert!(!format!("{:?}", entry(1)).contains("bearer"));
}

#[test]
fn a_kubeconfig_of_its_own_is_readable_and_complete() {
    let text = entry(47011).document().unwrap();
    let access = read(&text).select(None).unwrap();
    assert_eq!(access.context, "edge-7");
    assert_eq!(access.server.path, "/proxies/abc");
    assert_eq!(access.authority, Some(Material::Inline(Secret::new(b"PEM".to_vec()))));
    assert_eq!(access.token, Some(Token::Inline(Secret::new("bearer".to_owned()))));
}

#[test]
fn merging_and_removing_leaves_everything_else_as_it_was() {
    let theirs = format!("{K3S}extensions:\n- name: x\n  extension: {{v: 0x10, w: 'yes'}}\n");
    let before = read(&theirs);
    let mut config = before.clone();
    let merged = config.merge(&entry(1), true).unwrap();
    assert_eq!(merged.before.as_deref(), Some("default"));
    assert_eq!(config.current(), Some("edge-7"));
    let mut again = read(&config.to_yaml().unwrap());
    assert!(again.select(Some("default")).is_ok());
    assert!(again.remove(&entry(1), merged.before.as_deref()).unwrap());
    let quoted = read(&theirs.replace("current-context: default", "current-context: 'default'"));
    assert_eq!(again, quoted);
}

#[test]
fn the_current_context_stays_when_it_is_asked_to() {
    let mut config = read(K3S);
    assert_eq!(config.merge(&entry(1), false).unwrap().before, None);
    assert_eq!(config.current(), Some("default"));
    assert!(config.remove(&entry(1), None).unwrap());
    assert_eq!(config, read(K3S));
}

#[test]
fn a_context_that_the_user_switched_to_meanwhile_stays() {
    let mut config = read(K3S);
    config.merge(&entry(1), true).unwrap();
    let mut config = read(
        &config.to_yaml().unwrap().replace("current-context: \"edge-7\"", "current-context: mine"),
    );
    assert!(config.remove(&entry(1), Some("default")).unwrap());
    assert_eq!(config.current(), Some("mine"));
}

#[test]
fn an_entry_of_ours_is_replaced_and_anybody_elses_is_not() {
    let mut config = read(K3S);
    config.merge(&entry(1), true).unwrap();
    config.merge(&entry(2), true).unwrap();
    assert_eq!(config.select(None).unwrap().server.port, 2);
    assert!(
        !config.remove(&entry(1), None).unwrap(),
        "the second proxy's entry is not the first's"
    );
    assert!(config.remove(&entry(2), None).unwrap());

    for taken in [
        "clusters: [{name: edge-7, cluster: {server: https://prod}}]",
        "clusters: [{name: edge-7, cluster: {server: 'https://127.0.0.1:1/proxies/other'}}]",
        "clusters: [{name: edge-7, cluster: {server: 'https://evil/proxies/abc'}}]",
        "users: [{name: edge-7, user: {token: x}}]",
        "contexts: [{name: edge-7, context: {cluster: prod}}]",
    ] {
        let mut config = read(taken);
        let before = config.clone();
        assert!(matches!(config.merge(&entry(1), true), Err(Malformed::Taken(..))), "{taken}");
        assert_eq!(config, before);
    }
}

#[test]
fn a_null_list_is_an_empty_one() {
    let mut config = read("apiVersion: v1\nclusters: null\nusers:\ncontexts: []\n");
    config.merge(&entry(1), true).unwrap();
    assert!(config.select(None).is_ok());
}

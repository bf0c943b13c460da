//! A file of issuers says what it means, and every misspelling is an error with its place.

use std::ffi::OsString;

use super::super::manual::Page;
use super::*;
use crate::auth::KeySource;
use crate::auth::names::Alphabet;
use crate::auth::overage::ClientProof;
use crate::auth::profile::{EntraGroups, EntraKeys, EntraUser, Overage, Requirement};

static PAGE: Page = Page {
    command: "test",
    parts: &["  --auth-config F\n  --oidc-issuer U\n  --oidc-audience A\n  --oidc-username-claim C
  --oidc-username-prefix P\n  --oidc-groups-claim C\n  --oidc-groups-prefix P\n  --oidc-ca-file F
  --oidc-jwks-file F\n  --entra-tenant T\n  --entra-cloud C\n  --entra-audience A\n  --entra-authority U
  --entra-username-prefix P\n  --entra-groups-prefix P\n  --groups-source S\n  --graph-client C
  --graph-secret-file F\n  --graph-assertion-file F\n  --graph-url U\n  --graph-ca-file F\n"],
};

const TENANT: &str = "5c7d0000-1111-2222-3333-444455556666";

/// Parsed, and found fit for a verifier.
fn parse(text: &str) -> Result<AuthConfig, String> {
    let config = AuthConfig::parse(text.as_bytes(), Path::new("/etc/cc"))?;
    config.verifier(Possession::Off, None).map_err(|why| why.message)?;
    Ok(config)
}

fn oidc(rest: &str) -> Result<AuthConfig, String> {
    parse(&format!(
        r#"{{"issuers":[{{"type":"oidc","issuer":{{"url":"https://i","audiences":["a"]}},
        "claimMappings":{{"username":{{"claim":"sub","prefix":"x:"}}}}{rest}}}]}}"#
    ))
}

fn entra(rest: &str) -> Result<AuthConfig, String> {
    parse(&format!(
        r#"{{"issuers":[{{"type":"entra","entra":{{"tenant":"{TENANT}","audiences":["a"]{rest}}}}}]}}"#
    ))
}

fn options(words: &[&str]) -> Result<AuthConfig, Error> {
    let words = words.iter().map(OsString::from).collect();
    let mut args = Args::new(&PAGE, words, &|_| None);
    let config = AuthConfig::with_graph(&mut args)?;
    args.finish()?;
    Ok(config)
}

#[test]
fn a_whole_file_is_read() {
    let text = format!(
        r#"{{"issuers":[
        {{"type":"oidc",
          "issuer":{{"url":"https://i/","audiences":["a","b"],"discoveryURL":"https://d:8443/x",
                    "keysHosts":["k"],"certificateAuthorityFile":"ca.pem"}},
          "claimMappings":{{"username":{{"claim":"email","prefix":"i:"}},
                           "groups":{{"claim":"roles","prefix":"g:"}}}},
          "requiredClaims":{{"org":"contoso","env":["p","s"],"sub":true}},
          "algorithms":["ES256"],"leewaySeconds":30,"maxLifetimeSeconds":3600,"allowAnyScript":true}},
        {{"type":"entra","entra":{{"tenant":"{TENANT}","cloud":"usgov","audiences":["c"],
          "clients":["app"],"username":"oid",
          "groups":"roles","overage":"ignore","groupNames":{{"{TENANT}":"admins"}},
          "jwksFile":"/keys","usernamePrefix":"e:","groupsPrefix":"e:"}}}}]}}"#
    );
    let config = parse(&text).unwrap();
    let IssuerSettings::Oidc(oidc) = &config.issuers[0].settings else { panic!() };
    let IssuerSettings::Entra(entra) = &config.issuers[1].settings else { panic!() };
    assert_eq!(oidc.issuer, "https://i/", "kept byte for byte");
    let (url, hosts) = ("https://d:8443/x".to_owned(), vec!["k".to_owned()]);
    assert_eq!(oidc.keys, KeySource::Discovery { url, hosts });
    assert_eq!((oidc.user_prefix.as_str(), oidc.group_prefix.as_str()), ("i:", "g:"));
    let stages = Requirement::In(vec!["p".into(), "s".into()]);
    assert!(oidc.required.contains(&("env".to_owned(), stages)));
    assert!(oidc.required.contains(&("sub".to_owned(), Requirement::Exists)));
    assert_eq!((oidc.leeway, oidc.lifetime, oidc.alphabet), (30, 3600, Alphabet::Letters));
    assert_eq!((entra.user, &entra.overage), (EntraUser::Oid, &Overage::Ignore));
    assert_eq!((entra.cloud, entra.groups), (Cloud::UsGovernment, EntraGroups::Roles));
    assert_eq!(
        (&entra.keys, entra.group_names[TENANT].as_str()),
        (&EntraKeys::Installed, "admins")
    );
    let files = config.key_files();
    assert_eq!(files[0].ca_file.as_deref(), Some(Path::new("/etc/cc/ca.pem")));
    assert_eq!(files.len(), 3, "two forms of Entra ID tokens");
    assert_eq!(files[2].jwks_file.as_deref(), Some(Path::new("/keys")));
    let verifier = config.verifier(Possession::Off, None).unwrap();
    assert_eq!(verifier.issuers().len(), files.len());
    assert_eq!(config.audiences(), ["a", "b", "c"]);
}

#[test]
fn a_misspelt_key_is_an_error_at_every_level() {
    for (got, place) in [
        (parse(r#"{"issuers":[],"issuer":1}"#), "issuer "),
        (oidc(r#","requiredClaim":{"a":"b"}"#), "issuers[0].requiredClaim "),
        (oidc(r#","RequiredClaims":{"a":"b"}"#), "issuers[0].RequiredClaims "),
        (oidc(r#","entra":{}"#), "issuers[0].entra "),
        (entra(r#","audience":"x""#), "issuers[0].entra.audience "),
    ] {
        let error = got.unwrap_err();
        assert!(error.starts_with(place) && error.contains("not a key"), "{error}");
    }
}

#[test]
fn what_is_missing_or_of_the_wrong_type_is_an_error_with_its_place() {
    for text in [
        "",
        "[]",
        "{}",
        r#"{"issuers":{}}"#,
        r#"{"issuers":[]}"#,
        r#"{"issuers":[1]}"#,
        r#"{"issuers":[{}]}"#,
        r#"{"issuers":[{"type":"saml"}]}"#,
        r#"{"issuers":[{"type":"oidc"}]}"#,
        r#"{"issuers":[{"type":"entra"}]}"#,
        r#"{"issuers":[{"type":"oidc","issuer":{"url":"https://i","audiences":["a"]}}]}"#,
        r#"{"issuers":[{"type":"oidc","type":"entra"}]}"#,
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
    for rest in [
        r#","algorithms":["HS256"]"#,
        r#","algorithms":["none"]"#,
        r#","algorithms":"RS256""#,
        r#","leewaySeconds":301"#,
        r#","leewaySeconds":-1"#,
        r#","maxLifetimeSeconds":0"#,
        r#","requiredClaims":{"a":1}"#,
        r#","requiredClaims":{"a":false}"#,
        r#","requiredClaims":{"a":[1]}"#,
        r#","requiredClaims":[]"#,
        r#","allowAnyScript":"yes""#,
    ] {
        assert!(oidc(rest).is_err(), "{rest}");
    }
    for rest in [
        r#","cloud":"moon""#,
        r#","username":"email""#,
        r#","overage":"graph""#,
        r#","authority":"http://login""#,
        r#","groupNames":{"x":"admins"}"#,
        r#","clients":"app""#,
    ] {
        assert!(entra(rest).is_err(), "{rest}");
    }
    let masters = entra(&format!(r#","groupNames":{{"{TENANT}":"System:masters"}}"#));
    assert!(masters.unwrap_err().contains("cannot be named"));
}

#[test]
fn an_issuer_must_be_reached_over_tls_and_its_prefix_is_a_decision() {
    for (url, good) in
        [("https://i", true), ("http://localhost:1", false), ("http://i", false), ("i", false)]
    {
        let text = format!(
            r#"{{"issuers":[{{"type":"oidc","issuer":{{"url":"{url}","audiences":["a"]}},
            "claimMappings":{{"username":{{"claim":"sub","prefix":"-"}}}}}}]}}"#
        );
        assert_eq!(parse(&text).is_ok(), good, "{url}");
    }
    let text = r#"{"issuers":[{"type":"oidc","issuer":{"url":"https://i","audiences":["a"]},
        "claimMappings":{"username":{"claim":"sub"}}}]}"#;
    assert!(parse(text).unwrap_err().contains("claimMappings.username.prefix"));
    for tenant in ["common", "organizations", "contoso.com", ""] {
        let text = format!(
            r#"{{"issuers":[{{"type":"entra","entra":{{"tenant":"{tenant}","audiences":["a"]}}}}]}}"#
        );
        assert!(parse(&text).is_err(), "{tenant}");
    }
}

#[test]
fn the_short_options_describe_one_issuer_each() {
    let words = ["--oidc-issuer", "https://i", "--oidc-audience", "a", "--oidc-username-prefix=x:"];
    let config = options(&words).unwrap();
    let IssuerSettings::Oidc(oidc) = &config.issuers[0].settings else { panic!() };
    assert_eq!((oidc.user_claim.as_str(), oidc.group_prefix.as_str()), ("sub", "x:"));
    let words = ["--entra-tenant", TENANT, "--entra-audience", "b", "--entra-cloud", "china"];
    let config = options(&words).unwrap();
    let IssuerSettings::Entra(entra) = &config.issuers[0].settings else { panic!() };
    assert_eq!(entra.cloud, Cloud::China);
    assert!(options(&[]).unwrap().issuers.is_empty());
}

#[test]
fn half_an_issuer_on_the_command_line_is_an_error() {
    for words in [
        &["--oidc-audience", "a"][..],
        &["--oidc-jwks-file", "f"],
        &["--oidc-issuer", "https://i"],
        &["--oidc-issuer", "https://i", "--oidc-audience", "a"],
        &["--oidc-issuer", "http://i", "--oidc-audience", "a", "--oidc-username-prefix", "-"],
        &["--entra-audience", "a"],
        &["--entra-cloud", "public"],
        &["--entra-tenant", TENANT],
        &["--entra-authority", "https://login"],
    ] {
        assert_eq!(options(words).unwrap_err().code, Code::Usage, "{words:?}");
    }
    let common = options(&["--entra-tenant", "common", "--entra-audience", "a"]).unwrap_err();
    assert_eq!(common.code, Code::AuthConfigInvalid);
    let missing = options(&["--auth-config", "/nonexistent"]).unwrap_err();
    assert_eq!(missing.code, Code::FileUnreadable);
}

#[test]
fn groups_are_asked_for_only_where_that_is_said_whole() {
    let config = entra(&format!(
        r#","cloud":"usgov","overage":"graph","onlyNamedGroups":true,
        "graph":{{"client":"{TENANT}","assertionFile":"t","certificateAuthorityFile":"/ca"}}"#
    ));
    let config = config.unwrap();
    let files = GraphFiles { proof: "/etc/cc/t".into(), ca: Some("/ca".into()) };
    assert_eq!(config.issuers[0].graph, Some(files));
    let graphs = config.verifier(Possession::Off, None).unwrap().graphs();
    assert_eq!(graphs[0].graph.address, "https://graph.microsoft.us");
    assert_eq!(graphs[0].graph.proof, ClientProof::Assertion);
    let host = "https://login.microsoftonline.us";
    assert_eq!(graphs[0].token_url, format!("{host}/{TENANT}/oauth2/v2.0/token"));
    let whole = format!(r#""client":"{TENANT}","secretFile":"s""#);
    for rest in [
        format!(r#","graph":{{{whole}}}"#),
        format!(r#","overage":"ignore","graph":{{{whole}}}"#),
        format!(r#","overage":"graph","groups":"roles","graph":{{{whole}}}"#),
        format!(r#","overage":"graph","graph":{{{whole},"assertionFile":"t"}}"#),
        format!(r#","overage":"graph","graph":{{{whole},"url":"http://graph"}}"#),
        format!(r#","overage":"graph","graph":{{{whole},"endpoint":"https://graph"}}"#),
        format!(r#","overage":"graph","graph":{{"client":"{TENANT}"}}"#),
        r#","overage":"graph","graph":{"secretFile":"s"}"#.to_owned(),
        r#","overage":"graph","graph":{"client":"proxy","secretFile":"s"}"#.to_owned(),
    ] {
        assert!(entra(&rest).is_err(), "{rest}");
    }
}

#[test]
fn the_short_options_can_ask_for_groups() {
    let tenant = ["--entra-tenant", TENANT, "--entra-audience", "b"];
    let graph = ["--groups-source", "graph", "--graph-client", TENANT];
    let config = options(&[&tenant[..], &graph, &["--graph-secret-file", "s"]].concat()).unwrap();
    let graphs = config.verifier(Possession::Off, None).unwrap().graphs();
    assert_eq!(graphs[0].graph.address, "https://graph.microsoft.com");
    assert_eq!(graphs[0].graph.proof, ClientProof::Secret);
    assert_eq!(config.issuers[0].graph, Some(GraphFiles { proof: "s".into(), ca: None }));
    let plain = options(&[&tenant[..], &["--groups-source", "token"]].concat()).unwrap();
    assert_eq!(plain.issuers[0].graph, None);
    for words in [
        [&tenant[..], &graph].concat(),
        [&tenant[..], &["--groups-source", "graph", "--graph-secret-file", "s"]].concat(),
        [&tenant[..], &["--graph-client", TENANT]].concat(),
        [&tenant[..], &["--graph-url", "https://g"]].concat(),
        [&graph[..], &["--graph-secret-file", "s"]].concat(),
        [&tenant[..], &graph, &["--graph-secret-file", "s", "--graph-assertion-file", "t"]]
            .concat(),
        [&tenant[..], &["--groups-source", "ldap"]].concat(),
    ] {
        assert_eq!(options(&words).unwrap_err().code, Code::Usage, "{words:?}");
    }
}

#[test]
fn the_relay_asks_nobody_for_groups() {
    let dir = std::env::temp_dir().join(format!("auth-config-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("issuers.json");
    let text = format!(
        r#"{{"issuers":[{{"type":"entra","entra":{{"tenant":"{TENANT}","audiences":["a"],
        "overage":"graph","graph":{{"client":"{TENANT}","secretFile":"s"}}}}}}]}}"#
    );
    std::fs::write(&file, text).unwrap();
    let words = vec![OsString::from("--auth-config"), file.into_os_string()];
    let refused = AuthConfig::from_args(&mut Args::new(&PAGE, words, &|_| None)).unwrap_err();
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(refused.code, Code::AuthConfigInvalid);
    assert!(refused.message.contains("only it asks"), "{refused}");
}

#[test]
fn issuers_that_could_pass_for_each_other_are_refused() {
    let both = |prefix: &str| {
        let entra = ["--entra-tenant", TENANT, "--entra-audience", "b"];
        let oidc = ["--oidc-issuer", "https://i", "--oidc-audience", "a"];
        let words = [&entra[..], &oidc, &["--oidc-username-prefix", prefix]].concat();
        options(&words).unwrap_err()
    };
    assert_eq!(both("-").code, Code::AuthConfigInvalid);
    assert_eq!(both("x:").code, Code::AuthConfigInvalid, "the tenant has none");
    let entra = ["--entra-tenant", TENANT, "--entra-audience", "b", "--entra-username-prefix=e:"];
    let oidc_words =
        ["--oidc-issuer", "https://i", "--oidc-audience", "a", "--oidc-username-prefix=x:"];
    assert_eq!(options(&[entra, oidc_words].concat()).unwrap().issuers.len(), 2);
    let config = oidc("").unwrap();
    let error = config.verifier(Possession::Off, Some("https://i".to_owned())).unwrap_err();
    assert!(error.message.contains("service accounts"), "{error}");
}

#[test]
fn an_audience_in_both_configurations_is_found() {
    let (one, other) = (oidc("").unwrap(), entra("").unwrap());
    assert_eq!(one.common_audience(&other), Some("a"));
    assert_eq!(one.common_audience(&AuthConfig::default()), None);
}

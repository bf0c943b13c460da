//! A file of issuers says what it means, and every misspelling is an error with its place.

use std::ffi::OsString;

use super::super::args::Page;
use super::*;

static PAGE: Page = Page {
    command: "test",
    text: "  --auth-config F\n  --oidc-issuer U\n  --oidc-audience A\n  --oidc-username-claim C
  --oidc-username-prefix P\n  --oidc-groups-claim C\n  --oidc-groups-prefix P\n  --oidc-ca-file F
  --oidc-jwks-file F\n  --entra-tenant T\n  --entra-cloud C\n  --entra-audience A\n",
};

const TENANT: &str = "5c7d0000-1111-2222-3333-444455556666";

fn parse(text: &str) -> Result<AuthConfig, String> {
    AuthConfig::parse(text.as_bytes(), Path::new("/etc/cc"))
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
    let config = AuthConfig::from_args(&mut args)?;
    args.finish()?;
    Ok(config)
}

#[test]
fn a_whole_file_is_read() {
    let text = format!(
        r#"{{"issuers":[
        {{"type":"oidc",
          "issuer":{{"url":"https://i/","audiences":["a","b"],"discoveryURL":"https://d:8443/x",
                    "certificateAuthorityFile":"ca.pem","jwksFile":"/keys"}},
          "claimMappings":{{"username":{{"claim":"email","prefix":"-"}},
                           "groups":{{"claim":"roles","prefix":"g:"}}}},
          "requiredClaims":{{"org":"contoso","env":["p","s"],"sub":true}},
          "algorithms":["ES256"],"leewaySeconds":30,"maxLifetimeSeconds":3600,"allowAnyScript":true}},
        {{"type":"entra","entra":{{"tenant":"{TENANT}","cloud":"usgov","audiences":["c"],
          "authority":"https://login.internal","clients":["app"],"username":"oid",
          "groups":"roles","overage":"ignore","groupNames":{{"{TENANT}":"admins"}},
          "usernamePrefix":"e:","groupsPrefix":"-"}}}}]}}"#
    );
    let config = parse(&text).unwrap();
    let [Issuer::Oidc(oidc), Issuer::Entra(entra)] = &config.issuers[..] else { panic!() };
    assert_eq!(oidc.url, "https://i/", "kept byte for byte");
    assert_eq!(oidc.common.ca_file.as_deref(), Some(Path::new("/etc/cc/ca.pem")));
    assert_eq!(oidc.common.jwks_file.as_deref(), Some(Path::new("/keys")));
    assert_eq!(oidc.common.discovery.as_ref().unwrap().port, 8443);
    assert_eq!((oidc.username_prefix.as_str(), oidc.groups_prefix.as_str()), ("-", "g:"));
    assert_eq!(oidc.required["env"], Requirement::In(vec!["p".into(), "s".into()]));
    assert_eq!(oidc.required["sub"], Requirement::Exists);
    assert_eq!((oidc.common.leeway, oidc.common.max_lifetime), (Some(30), Some(3600)));
    assert!(oidc.any_script && entra.username_is_oid && entra.ignore_overage);
    assert_eq!((entra.cloud, entra.groups), (Cloud::UsGovernment, Groups::Roles));
    assert_eq!(entra.group_names[TENANT], "admins");
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
    assert!(masters.unwrap_err().contains("system:"));
}

#[test]
fn an_issuer_must_be_reached_over_tls_and_its_prefix_is_a_decision() {
    for (url, good) in
        [("https://i", true), ("http://localhost:1", true), ("http://i", false), ("i", false)]
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
    let [Issuer::Oidc(oidc)] = &config.issuers[..] else { panic!() };
    assert_eq!((oidc.username_claim.as_str(), oidc.groups_prefix.as_str()), ("sub", "x:"));
    let words = ["--entra-tenant", TENANT, "--entra-audience", "b", "--entra-cloud", "china"];
    let config = options(&words).unwrap();
    let [Issuer::Entra(entra)] = &config.issuers[..] else { panic!() };
    assert_eq!(entra.cloud, Cloud::China);
    assert_eq!(options(&[]).unwrap(), AuthConfig::default());
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
        &["--entra-tenant", "common", "--entra-audience", "a"],
    ] {
        assert_eq!(options(words).unwrap_err().code, Code::Usage, "{words:?}");
    }
    let missing = options(&["--auth-config", "/nonexistent"]).unwrap_err();
    assert_eq!(missing.code, Code::FileUnreadable);
}

#[test]
fn an_audience_in_both_configurations_is_found() {
    let (one, other) = (oidc("").unwrap(), entra("").unwrap());
    assert_eq!(one.common_audience(&other), Some("a"));
    assert_eq!(one.common_audience(&AuthConfig::default()), None);
}

//! What the manual says about pipelines works: its own configurations, read from its own page, take
//! the tokens that those runners get and no others.

use std::path::Path;
use std::process::Command;

use cluster_connect::auth::pop::Possession;
use cluster_connect::auth::{Denied, Principal, Verifier};
use cluster_connect::config::auth_config::AuthConfig;
use serde_json::{Value, json};

use crate::support::mint::{Keys, now, with, without};

/// The configurations in the manual's section on pipelines, in its order.
fn documented() -> Vec<Value> {
    let printed = Command::new(env!("CARGO_BIN_EXE_cluster-connect"))
        .args(["auth-proxy", "--help"])
        .output()
        .expect("the manual");
    let page = String::from_utf8(printed.stdout).expect("UTF-8");
    let (_, rest) = page.split_once("\nPIPELINES\n").expect("the section");
    let end = rest.find("\n\n  Azure").expect("both runners");
    assert!(rest[end..].contains("AzureCLI@2"), "{rest}");
    let starts = rest.match_indices("{\"issuers\"").map(|(at, _)| &rest[at..]);
    let values = starts.map(|text| {
        let mut values = serde_json::Deserializer::from_str(text).into_iter();
        values.next().expect("a value").expect("JSON")
    });
    values.collect()
}

/// What takes tokens under that configuration, with the test's keys.
fn verifier(mut config: Value, keys: &Keys) -> Verifier {
    config["issuers"][0]["issuer"]["jwksFile"] = json!("keys.json");
    let config = AuthConfig::parse(config.to_string().as_bytes(), Path::new("/"));
    let config = config.expect("the manual's configuration is good");
    let mut verifier = config.verifier(Possession::Off, None).expect("and fit for a verifier");
    let set = json!({"keys": [with(keys.rsa_jwk(false), json!({"kid": "rsa"}))]}).to_string();
    verifier.install_keys(0, set.as_bytes(), now()).expect("keys");
    verifier
}

fn verdict(verifier: &Verifier, keys: &Keys, claims: &Value) -> Result<Principal, Denied> {
    verifier.verify(&keys.rs256(claims), now())
}

/// As GitHub's documentation shows one.
fn github() -> Value {
    let now = now();
    json!({
        "jti": "1c1d6e4c-0d6f-4e8c-9c5b-5d7f9d0c2b11",
        "sub": "repo:contoso/app:environment:prod",
        "aud": "https://edge.contoso.example",
        "ref": "refs/heads/main", "sha": "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "repository": "contoso/app", "repository_owner": "contoso", "repository_id": "74",
        "repository_owner_id": "6154722", "repository_visibility": "private",
        "run_id": "3542", "run_number": "10", "run_attempt": "2", "actor": "octocat",
        "actor_id": "12", "workflow": "deploy", "head_ref": "", "base_ref": "",
        "event_name": "workflow_dispatch", "ref_type": "branch", "environment": "prod",
        "runner_environment": "github-hosted",
        "job_workflow_ref": "contoso/app/.github/workflows/deploy.yml@refs/heads/main",
        "iss": "https://token.actions.githubusercontent.com",
        "nbf": now - 600, "iat": now - 5, "exp": now + 300,
    })
}

#[test]
fn a_job_of_github_actions_is_a_user_without_a_secret() {
    let keys = Keys::new();
    let verifier = verifier(documented().remove(0), &keys);
    let principal = verdict(&verifier, &keys, &github()).expect("the documented token");
    assert_eq!(principal.user, "github:repo:contoso/app:environment:prod");
    assert_eq!(principal.groups, ["github:contoso/app"]);
    assert_eq!(principal.subject, "repo:contoso/app:environment:prod");
    for more in [
        json!({"repository_owner_id": "6154723"}),
        json!({"repository_owner_id": 6_154_722}),
        json!({"repository": "contoso/app2"}),
        json!({"repository": ["contoso/app"]}),
        json!({"environment": "dev"}),
        json!({"environment": "Prod"}),
        json!({"environment": ""}),
        json!({"aud": "https://relay.contoso.example"}),
        json!({"aud": "https://github.com/contoso"}),
        json!({"exp": now() + 7200}),
        json!({"iss": "https://token.actions.githubusercontent.com/contoso"}),
    ] {
        let denied = verdict(&verifier, &keys, &with(github(), more.clone()));
        assert!(denied.is_err(), "{more}: {denied:?}");
    }
    for name in ["repository_owner_id", "repository", "environment", "sub", "aud"] {
        assert!(verdict(&verifier, &keys, &without(github(), name)).is_err(), "without {name}");
    }
}

/// As Azure Pipelines gives one for a service connection.
fn azure() -> Value {
    let now = now();
    json!({
        "jti": "6f9b6a0e-9f63-4b6e-8f5e-0d3a7c1b2e44", "sub": "sc://contoso/edge/deploy",
        "aud": "api://AzureADTokenExchange",
        "iss": "https://vstoken.dev.azure.com/7b0ab1a8-4c2f-4b7d-9c36-1d7f4d0c9e11",
        "nbf": now - 30, "exp": now + 600, "iat": now - 30,
    })
}

#[test]
fn a_service_connection_of_azure_pipelines_is_a_user_without_a_secret() {
    let keys = Keys::new();
    let all = documented();
    assert_eq!(all.len(), 2);
    let verifier = verifier(all[1].clone(), &keys);
    let principal = verdict(&verifier, &keys, &azure()).expect("the documented token");
    assert_eq!(principal.user, "pipelines:sc://contoso/edge/deploy");
    for more in [
        json!({"sub": "sc://contoso/edge/deploy2"}),
        json!({"sub": "sc://other/edge/deploy"}),
        json!({"sub": "SC://contoso/edge/deploy"}),
        json!({"iss": "https://vstoken.dev.azure.com/00000000-4c2f-4b7d-9c36-1d7f4d0c9e11"}),
        json!({"aud": "api://another"}),
    ] {
        assert!(verdict(&verifier, &keys, &with(azure(), more.clone())).is_err(), "{more}");
    }
}

//! Service-account tokens, and the token issuer.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde_json::{Value, json};

use super::issuer::{Algorithm, Issuer};
use super::raw::Client;
use super::trial::{Trial, trial};
use super::{admin, client, demo, server};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(a_requested_token_is_a_jwt_of_the_account_and_can_be_renewed),
        trial(a_token_for_another_audience_is_no_credential_here),
        trial(a_token_ends_with_its_time_its_account_or_by_revocation),
        trial(the_issuers_published_keys_verify_its_tokens),
    ]
}

fn review(server: &demo::Server, token: &str, audiences: &Value) -> Value {
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let body = json!({ "spec": { "token": token, "audiences": audiences } }).to_string();
    let answer = client(server).call("POST", path, &admin(server), &body);
    assert_eq!(answer.code, 201, "{}", answer.text());
    answer.json()["status"].clone()
}

fn code(server: &demo::Server, token: &str) -> u16 {
    client(server).get("/api", &format!("Authorization: Bearer {token}\r\n")).code
}

fn a_requested_token_is_a_jwt_of_the_account_and_can_be_renewed() {
    let server = server();
    let path = "/api/v1/namespaces/demo/serviceaccounts/default/token";
    let ask = |spec: Value| {
        let body = json!({ "spec": spec }).to_string();
        client(&server).call("POST", path, &admin(&server), &body)
    };
    let first = ask(json!({ "expirationSeconds": 600 })).json();
    let second = ask(json!({ "expirationSeconds": 600 })).json();
    let token = |answer: &Value| answer["status"]["token"].as_str().expect("a token").to_owned();
    assert_ne!(token(&first), token(&second));
    assert!(first.pointer("/status/expirationTimestamp").is_some());
    let claims = token(&first).split('.').nth(1).map(str::to_owned).expect("a JWT");
    let claims: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).expect("base64url")).expect("JSON");
    assert_eq!(claims["sub"], "system:serviceaccount:demo:default");
    assert_eq!(claims["iss"], "https://kubernetes.default.svc.cluster.local");
    let status = review(&server, &token(&second), &json!([]));
    assert_eq!(status["authenticated"], true);
    assert_eq!(status["user"]["username"], "system:serviceaccount:demo:default");
    assert_eq!(ask(json!({ "expirationSeconds": 60 })).code, 422);
}

fn a_token_for_another_audience_is_no_credential_here() {
    let server = server();
    let path = "/api/v1/namespaces/demo/serviceaccounts/default/token";
    let body = json!({ "spec": { "audiences": ["elsewhere"] } }).to_string();
    let answer = client(&server).call("POST", path, &admin(&server), &body).json();
    let token = answer["status"]["token"].as_str().expect("a token");
    assert_eq!(code(&server, token), 401);
    assert_eq!(review(&server, token, &json!(["elsewhere"]))["audiences"], json!(["elsewhere"]));
    assert!(review(&server, token, &json!([])).get("authenticated").is_none());
}

fn a_token_ends_with_its_time_its_account_or_by_revocation() {
    let server = server();
    let fresh = || server.service_account_token("demo", "robot").expect("a token");
    assert_eq!(code(&server, &fresh()), 200);
    let expired = server.service_account_token_for("demo", "robot", 0).expect("a token");
    assert_eq!(code(&server, &expired), 401);
    let revoked = fresh();
    server.revoke_token(&revoked);
    assert_eq!(code(&server, &revoked), 401);
    let all = fresh();
    server.revoke_service_account_tokens();
    assert_eq!((code(&server, &all), code(&server, server.admin_token())), (401, 200));
    let orphan = fresh();
    let path = "/api/v1/namespaces/demo/serviceaccounts/robot";
    assert_eq!(client(&server).call("DELETE", path, &admin(&server), "").code, 200);
    assert_eq!(code(&server, &orphan), 401);
}

/// Checks a token's signature with a key set as a verifier would.
fn verifies(token: &str, jwks: &Value) -> bool {
    let (signed, signature) = token.rsplit_once('.').expect("a signature");
    let (header, _) = signed.split_once('.').expect("a header");
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).expect("base64url");
    let header: Value = serde_json::from_slice(&decode(header)).expect("JSON");
    let keys = jwks["keys"].as_array().expect("keys");
    let Some(key) = keys.iter().find(|key| key["kid"] == header["kid"]) else { return false };
    assert_eq!(key["alg"], header["alg"]);
    let part = |name: &str| decode(key[name].as_str().expect("a key part"));
    let signature = decode(signature);
    match header["alg"].as_str() {
        Some("ES256") => {
            let point = [vec![4], part("x"), part("y")].concat();
            let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
            key.verify(signed.as_bytes(), &signature).is_ok()
        }
        _ => {
            let key = RsaPublicKeyComponents { n: part("n"), e: part("e") };
            let algorithm = &RSA_PKCS1_2048_8192_SHA256;
            key.verify(algorithm, signed.as_bytes(), &signature).is_ok()
        }
    }
}

fn the_issuers_published_keys_verify_its_tokens() {
    let issuer = Issuer::start().expect("the issuer starts");
    let addr = issuer.url().strip_prefix("https://").expect("https").parse().expect("an address");
    let mut client = Client::connect(addr, issuer.ca_pem());
    let discovery = client.get("/.well-known/openid-configuration", "").json();
    assert_eq!(discovery["issuer"], issuer.url());
    assert_eq!(discovery["jwks_uri"], format!("{}/keys", issuer.url()));
    let answer = client.get("/keys", "");
    let keys = answer.json();
    assert_eq!(keys.to_string(), issuer.jwks_json());
    let tag = answer.field("etag").expect("an entity tag");
    assert_eq!(client.get("/keys", &format!("If-None-Match: {tag}\r\n")).code, 304);
    assert_eq!(client.get("/other", "").code, 404);
    assert_eq!(issuer.key_fetches(), 2);

    let hour = Duration::from_secs(3600);
    let claims = issuer.user_claims("aud", "alice@contoso.com", &["people"], hour);
    assert_eq!(claims["exp"].as_u64(), claims["iat"].as_u64().map(|iat| iat + 3600));
    let old = issuer.user_token("aud", "alice@contoso.com", &["people"], hour);
    assert!(verifies(&old, &keys));
    assert!(verifies(&issuer.token_with(Algorithm::Rs256, &claims), &keys));
    issuer.rotate().expect("a new key");
    let keys = client.get("/keys", "").json();
    assert!(!verifies(&old, &keys));
    assert!(verifies(&issuer.token(&claims), &keys));
}

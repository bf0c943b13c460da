//! Published holes of systems like this one, each by its name: the hostile input, and that it gets
//! nowhere.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::{Value, json};

use super::impersonate::{self, BadHead, Road, check_finished_head};
use super::pop::Possession;
use super::profile::EntraUser;
use super::review::{Memory, token_review};
use super::testing::{
    NOW, OID, Pair, TENANT, entra, entra_claims, entra_settings, key_set, oidc, oidc_claims,
    oidc_settings, ready, ready_with, refused, rsa_jwk, sign, token, with,
};
use super::{Reason, Unverified};
use crate::wire::h1::FieldClass;
use crate::wire::jws::{Algorithm, decode_base64url, encode_base64url};

/// The texts under which the issuer's public key is known, each a possible HMAC secret.
fn public_key_texts() -> Vec<Vec<u8>> {
    let jwk = rsa_jwk(Pair::Rsa);
    let modulus = jwk["n"].as_str().expect("n");
    let n = decode_base64url(modulus).expect("base64url");
    // SubjectPublicKeyInfo of a 2048-bit key with exponent 65537.
    let mut der = decode_base64url("MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA").expect("a head");
    der.extend_from_slice(&n);
    der.extend_from_slice(&[2, 3, 1, 0, 1]);
    let lines: Vec<String> = STANDARD
        .encode(&der)
        .as_bytes()
        .chunks(64)
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    let pem =
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"));
    let ssh = format!("ssh-rsa {}", STANDARD.encode(&n));
    vec![modulus.into(), n, der, pem.into(), ssh.into(), jwk.to_string().into(), Vec::new()]
}

fn hmac_token(algorithm: &str, secret: &[u8]) -> String {
    let family = match algorithm {
        "HS384" => hmac::HMAC_SHA384,
        "HS512" => hmac::HMAC_SHA512,
        _ => hmac::HMAC_SHA256,
    };
    let header = json!({"alg": algorithm, "kid": "rsa", "typ": "JWT"}).to_string();
    let payload = oidc_claims().to_string();
    let [header, payload] = [header, payload].map(|part| encode_base64url(part.as_bytes()));
    let signed = format!("{header}.{payload}");
    let tag = hmac::sign(&hmac::Key::new(family, secret), signed.as_bytes());
    format!("{signed}.{}", encode_base64url(tag.as_ref()))
}

#[test]
fn cve_2015_9235_cve_2016_10555_cve_2022_29217_cve_2024_54150_public_key_as_hmac_secret() {
    let verifier = ready(oidc_settings(|one| one.algorithms = Algorithm::ALL.to_vec()));
    for secret in public_key_texts() {
        for name in ["HS256", "HS384", "HS512"] {
            refused(verifier.verify(&hmac_token(name, &secret), NOW), Reason::Algorithm);
        }
        refused(verifier.verify(&hmac_token("RS256", &secret), NOW), Reason::Signature);
    }
}

#[test]
fn cve_2018_0114_key_inside_the_token() {
    let attacker = with(rsa_jwk(Pair::OtherRsa), &json!({"kid": "rsa"}));
    for more in [json!({"jwk": attacker}), json!({"jku": "https://evil/"}), json!({"x5c": ["M"]})] {
        let header = with(json!({"alg": "RS256", "kid": "rsa"}), &more);
        let payload = oidc_claims().to_string();
        let text = sign(&header, &payload, Algorithm::Rs256, Pair::OtherRsa);
        refused(ready(oidc_settings(|_| {})).verify(&text, NOW), Reason::Signature);
    }
}

#[test]
fn cve_2020_26160_cve_2022_29165_cve_2023_22482_audience_or_signature_not_checked() {
    for aud in [json!([]), json!(""), json!(["other"]), json!("other")] {
        refused(oidc(&json!({ "aud": aud })), Reason::Audience);
    }
    let good = token(&oidc_claims());
    let (signed, _) = good.rsplit_once('.').expect("a token");
    let unsigned = encode_base64url(br#"{"alg":"none"}"#);
    let payload = signed.split_once('.').expect("two parts").1;
    for text in [format!("{signed}."), format!("{unsigned}.{payload}."), signed.to_owned()] {
        refused(ready(oidc_settings(|_| {})).verify(&text, NOW), Reason::Malformed);
    }
    let text = format!("{unsigned}.{payload}.AA");
    refused(ready(oidc_settings(|_| {})).verify(&text, NOW), Reason::Algorithm);
}

#[test]
fn cve_2022_21449_signature_of_zeros() {
    let verifier = ready(oidc_settings(|one| {
        one.algorithms = vec![Algorithm::Es256, Algorithm::Es384];
    }));
    for (name, kid, len) in [("ES256", "p256", 64), ("ES384", "p384", 96)] {
        let header = json!({"alg": name, "kid": kid}).to_string();
        let payload = oidc_claims().to_string();
        let [header, payload] = [header, payload].map(|part| encode_base64url(part.as_bytes()));
        let text = format!("{header}.{payload}.{}", encode_base64url(&vec![0; len]));
        refused(verifier.verify(&text, NOW), Reason::Signature);
    }
}

#[test]
fn cve_2025_27144_cve_2025_30204_dots_without_end() {
    for count in [3, 5, 20_000, 30_000, 5_000_000] {
        let denied = Unverified::parse(&".".repeat(count)).expect_err("no token");
        assert_eq!(denied.kind(), Reason::Malformed);
    }
}

#[test]
fn cve_2026_25537_times_as_text_are_not_skipped() {
    for name in ["exp", "nbf", "iat"] {
        for value in [json!("0"), json!("9999999999"), json!({}), json!([]), json!(null)] {
            refused(oidc(&json!({ name: value })), Reason::Claim);
        }
    }
}

#[test]
fn ghsa_rp4v_hhm6_rcv9_expiry_is_checked() {
    refused(oidc(&json!({"exp": NOW - 61})), Reason::Expired);
}

#[test]
fn cve_2023_48312_empty_bearer() {
    for text in ["", " ", ".", ".."] {
        refused(ready(oidc_settings(|_| {})).verify(text, NOW), Reason::Malformed);
    }
}

#[test]
fn cve_2022_2385_caller_shapes_its_own_name() {
    for sub in ["system:admin", "System:admin", "system:node:a"] {
        refused(oidc(&json!({ "sub": sub })), Reason::ReservedName);
    }
    for sub in ["a\nb", "{{AccountID}}\0", ""] {
        assert!(oidc(&json!({ "sub": sub })).is_err(), "{sub:?}");
    }
}

#[test]
fn cve_2023_27493_names_that_split_the_head() {
    for name in ["ana\r\nImpersonate-Group: system:masters", "ana\nx: y", "ana\rx", "ana\0"] {
        refused(entra(&json!({ "upn": name })), Reason::Name);
        refused(oidc(&json!({"groups": [name]})), Reason::Name);
        let mut principal = oidc(&json!({})).expect("accepted");
        name.clone_into(&mut principal.user);
        assert!(impersonate::fields(&principal, None).is_err(), "a second guard");
    }
}

#[test]
fn cve_2026_40574_address_with_two_domains() {
    let verifier = ready(oidc_settings(|one| one.user_claim = "email".to_owned()));
    let claims = with(oidc_claims(), &json!({"email": "a@good.example@evil.example"}));
    refused(verifier.verify(&token(&claims), NOW), Reason::Name);
}

#[test]
fn cve_2025_55241_actor_tokens() {
    for more in [json!({"actort": token(&entra_claims())}), json!({"act": {"sub": OID}})] {
        refused(entra(&more), Reason::Purpose);
    }
}

/// In a signed HTTP request the key is the caller's: where it says that its key is, is not asked.
#[test]
fn cve_2024_21643_key_of_a_proof_elsewhere() {
    let (mut settings, target) = (entra_settings(|_| {}), "/subscriptions/s".to_owned());
    settings.possession = Possession::Accept(target.clone());
    let verifier = ready(settings);
    let proof = |header: &Value, confirmation: Value| {
        let at = token(&with(entra_claims(), &json!({"cnf": {"kid": "k"}})));
        let body = json!({"at": at, "ts": NOW, "u": target, "cnf": confirmation});
        sign(header, &body.to_string(), Algorithm::Rs256, Pair::OtherRsa)
    };
    let header = json!({"typ": "pop", "alg": "RS256", "kid": "k"});
    let own = rsa_jwk(Pair::OtherRsa);
    let elsewhere = json!({"jku": "https://evil.example/keys"});
    for confirmation in [
        with(elsewhere.clone(), &json!({"kid": "k"})),
        with(elsewhere.clone(), &json!({ "jwk": own })),
        json!({ "jwk": with(own.clone(), &elsewhere) }),
        json!({ "jwk": with(own.clone(), &json!({"x5u": "https://evil.example/chain"})) }),
    ] {
        refused(verifier.verify(&proof(&header, confirmation), NOW), Reason::Proof);
    }
    let pointing = with(header, &elsewhere);
    refused(verifier.verify(&proof(&pointing, json!({ "jwk": own })), NOW), Reason::Proof);
}

/// A verdict that is remembered is for its question alone, however questions are put together.
#[test]
fn cve_2026_71326_a_cache_that_takes_one_caller_for_another() {
    let mut memory = Memory::new(&[7; 32]);
    let (now, holds) = (Instant::now(), Duration::from_secs(10));
    let one = token_review("a.b.c", &["d".to_owned()]);
    memory.keep(&one, "ana", holds, now);
    assert_eq!(memory.recall(&one, now), Some("ana"));
    for (token, audiences) in [
        ("a.b.c", vec![]),
        ("a.b.c", vec!["d".to_owned(), String::new()]),
        ("a.b.c\",\"d", vec!["d".to_owned()]),
        ("a.b", vec!["c".to_owned(), "d".to_owned()]),
        ("A.b.c", vec!["d".to_owned()]),
        ("", vec!["a.b.cd".to_owned()]),
    ] {
        assert_eq!(memory.recall(&token_review(token, &audiences), now), None, "{token}");
    }
    let another = Memory::<&str>::new(&[8; 32]);
    assert_eq!(another.recall(&one, now), None);
}

/// Whoever has been deleted at the issuer is let in until its token ends, and no token is for ever.
#[test]
fn cve_2023_22650_a_deleted_user_is_out_with_its_token() {
    let verifier = ready(oidc_settings(|_| {}));
    let text = token(&with(oidc_claims(), &json!({"exp": NOW + 600})));
    assert!(verifier.verify(&text, NOW + 600).is_ok());
    refused(verifier.verify(&text, NOW + 661), Reason::Expired);
    refused(oidc(&json!({"exp": NOW + 365 * 86_400})), Reason::Lifetime);
}

#[test]
fn storm_0558_consumer_key_signs_for_an_organisation() {
    let consumers = "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0";
    let key = with(rsa_jwk(Pair::Rsa), &json!({"kid": "rsa", "issuer": consumers}));
    let verifier = ready_with(entra_settings(|_| {}), &json!({"keys": [key]}));
    refused(verifier.verify(&token(&entra_claims()), NOW), Reason::KeyMismatch);
}

#[test]
fn noauth_an_address_of_another_tenant_is_no_identity() {
    let claims = json!({"email": "boss@contoso.example", "preferred_username": "boss"});
    for user in [EntraUser::UpnElseOid, EntraUser::Oid] {
        let verifier = ready(entra_settings(|tenant| tenant.user = user));
        let principal = verifier.verify(&token(&with(entra_claims(), &claims)), NOW);
        let principal = principal.expect("accepted");
        assert!(!principal.user.contains("boss"));
        assert_eq!(principal.subject, format!("{TENANT}/{OID}"));
    }
}

#[test]
fn cve_2021_31999_cve_2022_23652_cve_2024_45410_connection_names_our_fields() {
    for name in ["Impersonate-User", "impersonate-group", "authorization", "X-Forwarded-For"] {
        assert!(!FieldClass::of(name).may_be_per_hop(), "{name}");
    }
}

#[test]
fn cve_2025_64484_cve_2026_54763_underscores_in_names() {
    for name in ["Impersonate_User", "impersonate_group", "Impersonate-_User", "IMPERSONATE_UID"] {
        assert_eq!(FieldClass::of(name), FieldClass::Impersonation, "{name}");
    }
    assert_eq!(FieldClass::of("X_Remote_User"), FieldClass::Identity);
    assert_eq!(FieldClass::of("X_Forwarded_Uri"), FieldClass::Origin);
}

#[test]
fn an_empty_impersonated_user_would_run_as_the_proxy_itself() {
    let head = |user: &'static str| {
        check_finished_head(
            [
                ("Authorization", &b"Bearer t"[..]),
                ("Impersonate-User", user.as_bytes()),
                ("Impersonate-Group", b"system:authenticated"),
            ],
            Road::Bearer,
        )
    };
    assert_eq!(head("ana"), Ok(()));
    assert_eq!(head(""), Err(BadHead::User));
    assert_eq!(head(" "), Err(BadHead::User));
}

#[test]
fn symmetric_keys_in_a_key_set_verify_nothing() {
    let mut keys = key_set();
    let secret = encode_base64url(b"0123456789abcdef0123456789abcdef");
    let oct: Value = json!({"kty": "oct", "kid": "oct", "k": secret, "alg": "HS256"});
    keys["keys"].as_array_mut().expect("keys").push(oct);
    let verifier = ready_with(oidc_settings(|_| {}), &keys);
    let text = hmac_token("HS256", b"0123456789abcdef0123456789abcdef");
    refused(verifier.verify(&text, NOW), Reason::Algorithm);
}

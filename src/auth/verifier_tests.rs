use serde_json::{Value, json};

use super::super::profile::Prefix;
use super::super::testing::{
    NOW, OID, Pair, TENANT, entra_claims, entra_settings, key_set, oidc, oidc_claims,
    oidc_settings, ready, ready_with, refused, rsa_jwk, sign, token, with, without,
};
use super::*;
use crate::limits::TOKEN_LIFETIME;
use crate::wire::jws::Algorithm;

#[test]
fn times_are_integers_within_the_leeway() {
    for exp in [json!(null), json!("1800003600"), json!(true), json!(-1), json!(1e30), json!(1.8e9)]
    {
        refused(oidc(&json!({ "exp": exp })), Reason::Claim);
    }
    refused(
        ready(oidc_settings(|_| {})).verify(&token(&without(oidc_claims(), "exp")), NOW),
        Reason::Claim,
    );
    for name in ["nbf", "iat"] {
        for time in [json!(null), json!("0"), json!(1.5), json!([])] {
            refused(oidc(&json!({ name: time })), Reason::Claim);
        }
        assert!(oidc(&json!({ name: NOW + 60 })).is_ok());
        refused(oidc(&json!({ name: NOW + 61 })), Reason::NotYetValid);
    }
    assert!(oidc(&json!({"exp": NOW - 59})).is_ok());
    refused(oidc(&json!({"exp": NOW - 60})), Reason::Expired);
    refused(oidc(&json!({"exp": 0})), Reason::Expired);
    let longest = NOW - 60 + TOKEN_LIFETIME + 60;
    assert!(oidc(&json!({ "exp": longest })).is_ok());
    refused(oidc(&json!({"exp": longest + 1})), Reason::Lifetime);
    refused(oidc(&json!({"exp": u64::MAX})), Reason::Lifetime);
    let undated = without(with(oidc_claims(), &json!({"exp": NOW + 999_999})), "iat");
    refused(ready(oidc_settings(|_| {})).verify(&token(&undated), NOW), Reason::Lifetime);
}

#[test]
fn an_audience_is_compared_exactly_and_every_member_must_be_text() {
    for aud in ["Cluster", "cluster/", "clusters", "luster", "", " cluster"] {
        refused(oidc(&json!({ "aud": aud })), Reason::Audience);
    }
    assert!(oidc(&json!({"aud": ["x", "cluster"]})).is_ok());
    refused(oidc(&json!({"aud": []})), Reason::Audience);
    for aud in [json!(["cluster", 1]), json!([["cluster"]]), json!({"a": "cluster"}), json!(null)] {
        refused(oidc(&json!({ "aud": aud })), Reason::Claim);
    }
    refused(
        ready(oidc_settings(|_| {})).verify(&token(&without(oidc_claims(), "aud")), NOW),
        Reason::Claim,
    );
}

#[test]
fn every_configured_algorithm_verifies_and_no_other() {
    for algorithm in Algorithm::ALL {
        let id = match algorithm {
            Algorithm::Es256 => "p256",
            Algorithm::Es384 => "p384",
            _ => "rsa",
        };
        let header = json!({"alg": algorithm.as_str(), "kid": id});
        let text = sign(&header, &oidc_claims().to_string(), algorithm, Pair::Rsa);
        let only = ready(oidc_settings(|one| one.algorithms = vec![algorithm]));
        assert!(only.verify(&text, NOW).is_ok(), "{algorithm:?}");
        let others = Algorithm::ALL.into_iter().filter(|other| *other != algorithm).collect();
        let others = ready(oidc_settings(|one| one.algorithms = others));
        refused(others.verify(&text, NOW), Reason::Algorithm);
        let key = ["p256", "rsa"][usize::from(id != "rsa")];
        let header = json!({"alg": algorithm.as_str(), "kid": key});
        let swapped = sign(&header, &oidc_claims().to_string(), algorithm, Pair::Rsa);
        refused(only.verify(&swapped, NOW), Reason::KeyMismatch);
    }
}

#[test]
fn a_signature_by_another_key_or_algorithm_of_the_same_family_is_refused() {
    let all = ready(oidc_settings(|one| one.algorithms = Algorithm::ALL.to_vec()));
    let claims = oidc_claims().to_string();
    let header = json!({"alg": "RS256", "kid": "rsa"});
    let other = sign(&header, &claims, Algorithm::Rs256, Pair::OtherRsa);
    refused(all.verify(&other, NOW), Reason::Signature);
    for algorithm in [Algorithm::Rs384, Algorithm::Ps256] {
        let text = sign(&header, &claims, algorithm, Pair::Rsa);
        refused(all.verify(&text, NOW), Reason::Signature);
    }
}

#[test]
fn elliptic_signatures_of_the_wrong_form_are_refused() {
    let all = ready(oidc_settings(|one| one.algorithms = vec![Algorithm::Es256]));
    let header = json!({"alg": "ES256", "kid": "p256"});
    let text = sign(&header, &oidc_claims().to_string(), Algorithm::Es256, Pair::Rsa);
    let (signed, _) = text.rsplit_once('.').expect("a token");
    let order = [
        0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xBC,
        0xE6, 0xFA, 0xAD, 0xA7, 0x17, 0x9E, 0x84, 0xF3, 0xB9, 0xCA, 0xC2, 0xFC, 0x63, 0x25, 0x51,
    ];
    let cases: [Vec<u8>; 6] = [
        vec![0; 64],
        [order, order].concat(),
        [vec![0; 31], vec![1], order.to_vec()].concat(),
        vec![1; 63],
        vec![1; 65],
        vec![0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01],
    ];
    for signature in cases {
        let signature = crate::wire::jws::encode_base64url(&signature);
        refused(all.verify(&format!("{signed}.{signature}"), NOW), Reason::Signature);
    }
}

#[test]
fn an_unknown_key_asks_for_a_refresh_and_a_missing_name_does_not() {
    let verdict = |verifier: &Verifier, header: &Value, claims: &Value| {
        let text = sign(header, &claims.to_string(), Algorithm::Rs256, Pair::Rsa);
        verifier.verify(&text, NOW)
    };
    let verifier = ready(entra_settings(|_| {}));
    let unknown = verdict(&verifier, &json!({"alg": "RS256", "kid": "k9"}), &entra_claims());
    let unknown = unknown.expect_err("unknown");
    assert_eq!((unknown.kind(), unknown.refresh()), (Reason::KeyUnknown, Some(0)));
    let nameless = verdict(&verifier, &json!({"alg": "RS256"}), &entra_claims());
    let nameless = nameless.expect_err("no name");
    assert_eq!((nameless.kind(), nameless.refresh()), (Reason::Header, None));
    // A generic issuer with one key may leave the name out, one with several may not.
    let many = ready(oidc_settings(|_| {}));
    refused(verdict(&many, &json!({"alg": "RS256"}), &oidc_claims()), Reason::Header);
    let one = ready_with(oidc_settings(|_| {}), &json!({"keys": [rsa_jwk(Pair::Rsa)]}));
    assert!(verdict(&one, &json!({"alg": "RS256"}), &oidc_claims()).is_ok());
}

#[test]
fn without_keys_the_answer_is_not_yet() {
    let verifier = Verifier::new(oidc_settings(|_| {})).expect("settings");
    let denied = verifier.verify(&token(&oidc_claims()), NOW).expect_err("no keys");
    assert_eq!((denied.kind(), denied.status()), (Reason::KeysUnavailable, 503));
    assert_eq!(denied.refresh(), Some(0), "whoever can may wait for them");
    assert!(!verifier.is_ready(NOW));
}

#[test]
fn keys_that_are_too_old_are_worth_a_fetch() {
    let keys = |source| {
        let settings = oidc_settings(|one| one.keys = source);
        let mut verifier = Verifier::new(settings).expect("settings");
        verifier.install_keys(0, key_set().to_string().as_bytes(), NOW).expect("keys");
        verifier
    };
    // The clock was set by two days since the keys came, as on a node that has just found the time.
    let later = NOW + 2 * 86_400;
    let text = token(&with(oidc_claims(), &json!({"iat": later, "nbf": later, "exp": later + 60})));
    let denied = keys(KeySource::discover("https://issuer.example")).verify(&text, later);
    let denied = denied.expect_err("too old");
    assert_eq!((denied.kind(), denied.refresh()), (Reason::KeysUnavailable, Some(0)));
    assert!(keys(KeySource::Installed).verify(&text, later).is_ok(), "keys of a file do not age");
}

#[test]
fn keys_are_replaced_as_a_whole_and_bad_ones_change_nothing() {
    let mut verifier = ready(oidc_settings(|_| {}));
    assert!(verifier.install_keys(0, b"{}", NOW).is_err());
    assert!(verifier.verify(&token(&oidc_claims()), NOW).is_ok());
    let other = with(rsa_jwk(Pair::OtherRsa), &json!({"kid": "other"}));
    let other = json!({"keys": [other]}).to_string();
    verifier.install_keys(0, other.as_bytes(), NOW).expect("keys");
    refused(verifier.verify(&token(&oidc_claims()), NOW), Reason::KeyUnknown);
}

#[test]
fn claims_that_two_readers_may_read_differently_are_refused() {
    let verdict = |payload: &str| {
        let header = json!({"alg": "RS256", "kid": "rsa"});
        let text = sign(&header, payload, Algorithm::Rs256, Pair::Rsa);
        ready(oidc_settings(|_| {})).verify(&text, NOW)
    };
    let claims = oidc_claims().to_string();
    assert!(verdict(&claims).is_ok());
    for more in
        [r#""sub":"root""#, r#""\u0073ub":"root""#, r#""Sub":"root""#, r#""x":{"a":1,"a":2}"#]
    {
        refused(verdict(&claims.replacen('{', &format!("{{{more},"), 1)), Reason::Malformed);
    }
    for payload in ["[]", "null", "\"x\"", "", "{", "{}x", "\u{feff}{}"] {
        refused(verdict(payload), Reason::Malformed);
    }
}

#[test]
fn a_bound_token_is_no_bearer_token_whatever_the_configuration() {
    for possession in
        [Possession::Off, Possession::Accept("u".to_owned()), Possession::Require("u".to_owned())]
    {
        let verifier = ready(VerifierSettings { possession, ..oidc_settings(|_| {}) });
        for cnf in [json!({"kid": "x"}), json!(null), json!({"jkt": "x"})] {
            let claims = token(&with(oidc_claims(), &json!({ "cnf": cnf })));
            refused(verifier.verify(&claims, NOW), Reason::ProofRequired);
        }
    }
}

#[test]
fn exactly_one_authenticator_is_asked() {
    let mut settings = oidc_settings(|one| one.user_prefix = Prefix::Text("a:".to_owned()));
    let mut second =
        OidcIssuer::new("https://b.example", vec!["b".to_owned()], Prefix::Text("b:".to_owned()));
    second.keys = KeySource::Installed;
    settings.issuers.push(IssuerSettings::Oidc(second));
    settings.service_account_issuer = Some("https://kubernetes.default.svc".to_owned());
    let verifier = ready(settings);
    let pick = |issuer: &str| {
        let text = token(&with(oidc_claims(), &json!({ "iss": issuer })));
        (verifier.pick(&Unverified::parse(&text).expect("readable")), text)
    };
    assert_eq!(pick("https://issuer.example").0, Ok(Authenticator::Issuer(0)));
    assert_eq!(pick("https://b.example").0, Ok(Authenticator::Issuer(1)));
    let (picked, text) = pick("https://kubernetes.default.svc");
    assert_eq!(picked, Ok(Authenticator::ServiceAccounts));
    refused(verifier.verify(&text, NOW), Reason::Review);
    assert_eq!(pick("https://c.example").0.expect_err("nobody").kind(), Reason::Issuer);
    // Good for the first issuer but naming the second: the second's audience decides.
    refused(verifier.verify(&pick("https://b.example").1, NOW), Reason::Audience);
    assert_eq!(verifier.audiences(), BTreeSet::from(["b", "cluster"]));
}

#[test]
fn names_that_tell_their_subject_need_no_look_up() {
    let verifier = ready(entra_settings(|_| {}));
    let issuer = &verifier.issuers()[0];
    assert_eq!(issuer.subject_of(OID), Some(format!("{TENANT}/{OID}")));
    assert_eq!(issuer.subject_of("ana@contoso.example"), None);
    assert_eq!(issuer.canonical_name(), verifier.issuers()[1].name());
    let verifier = ready(oidc_settings(|one| one.user_prefix = Prefix::Text("gh:".to_owned())));
    let issuer = verifier.issuer("https://issuer.example").expect("configured");
    assert_eq!(issuer.subject_of("gh:ana").as_deref(), Some("ana"));
    assert_eq!(issuer.subject_of("ana"), None);
    let verifier = ready(oidc_settings(|one| one.user_claim = "email".to_owned()));
    assert_eq!(verifier.issuers()[0].subject_of("ana"), None);
}

use serde_json::{Value, json};

use super::super::super::testing::{
    NOW, oidc, oidc_claims, oidc_settings, ready, refused, token, with, without,
};
use super::*;

#[test]
fn a_prefix_hides_no_reserved_name() {
    let verifier = ready(oidc_settings(|one| one.user_prefix = Prefix::Text("gh:".to_owned())));
    let verdict = |more: &Value| verifier.verify(&token(&with(oidc_claims(), more)), NOW);
    assert_eq!(verdict(&json!({})).expect("accepted").user, "gh:ana");
    refused(verdict(&json!({"sub": "system:admin"})), Reason::ReservedName);
    let partial = ready(oidc_settings(|one| one.user_prefix = Prefix::Text("sys".to_owned())));
    let claims = token(&with(oidc_claims(), &json!({"sub": "tem:admin"})));
    refused(partial.verify(&claims, NOW), Reason::ReservedName);
}

#[test]
fn a_generic_issuer_demands_what_is_configured() {
    let verifier = ready(oidc_settings(|one| {
        one.required = vec![
            ("repository".to_owned(), Requirement::Equals("org/app".to_owned())),
            ("ref".to_owned(), Requirement::In(vec!["main".to_owned(), "next".to_owned()])),
            ("environment".to_owned(), Requirement::Exists),
        ];
    }));
    let good = json!({"repository": "org/app", "ref": "next", "environment": "prod"});
    let verdict =
        |more: &Value| verifier.verify(&token(&with(with(oidc_claims(), &good), more)), NOW);
    assert!(verdict(&json!({})).is_ok());
    for more in [
        json!({"repository": "org/app2"}),
        json!({"repository": "Org/app"}),
        json!({"repository": ["org/app"]}),
        json!({"ref": "main2"}),
        json!({"environment": null}),
    ] {
        refused(verdict(&more), Reason::Claim);
    }
    refused(verifier.verify(&token(&oidc_claims()), NOW), Reason::Claim);
}

#[test]
fn an_address_is_a_name_only_when_it_is_verified() {
    let verifier = ready(oidc_settings(|one| one.user_claim = "email".to_owned()));
    let verdict = |more: &Value| verifier.verify(&token(&with(oidc_claims(), more)), NOW);
    let principal = verdict(&json!({})).expect("accepted");
    assert_eq!(
        (principal.user.as_str(), principal.subject.as_str()),
        ("ana@contoso.example", "ana")
    );
    for verified in [json!(false), json!("true"), json!(1), json!(null)] {
        refused(verdict(&json!({ "email_verified": verified })), Reason::Claim);
    }
    let silent = token(&without(oidc_claims(), "email_verified"));
    refused(verifier.verify(&silent, NOW), Reason::Claim);
    refused(verdict(&json!({"email": "a@good@evil"})), Reason::Name);
    refused(verdict(&json!({"email": "nobody"})), Reason::Name);
}

#[test]
fn groups_of_a_generic_issuer_are_a_text_or_an_array_of_texts() {
    assert_eq!(oidc(&json!({})).expect("accepted").groups, ["dev", "ops"]);
    assert_eq!(oidc(&json!({"groups": "a, b"})).expect("accepted").groups, ["a, b"]);
    let none = token(&without(oidc_claims(), "groups"));
    let none = ready(oidc_settings(|_| {})).verify(&none, NOW).expect("accepted");
    assert!(none.groups.is_empty());
    for groups in [json!([1]), json!([null]), json!([["a"]]), json!({}), json!(true), json!(null)] {
        refused(oidc(&json!({ "groups": groups })), Reason::Claim);
    }
    for groups in [json!(""), json!(["a", ""]), json!(["a\n"]), json!(["\u{202e}a"])] {
        refused(oidc(&json!({ "groups": groups })), Reason::Name);
    }
    refused(oidc(&json!({"groups": ["dev", "system:masters"]})), Reason::ReservedName);
}

#[test]
fn names_beyond_ascii_are_an_option_of_generic_issuers() {
    refused(oidc(&json!({"groups": ["m\u{fc}ller"]})), Reason::Name);
    let verifier = ready(oidc_settings(|one| one.alphabet = Alphabet::Letters));
    let claims = token(&with(oidc_claims(), &json!({"groups": ["m\u{fc}ller"]})));
    assert!(verifier.verify(&claims, NOW).is_ok());
}

#[test]
fn groups_that_are_elsewhere_are_neither_fetched_nor_left_out() {
    let names = json!({"_claim_names": {"groups": "src1"}});
    refused(oidc(&with(names.clone(), &json!({"groups": "src1"}))), Reason::Overage);
    refused(oidc(&names), Reason::Overage);
    refused(oidc(&json!({"_claim_names": "groups"})), Reason::Claim);
    assert!(oidc(&json!({"_claim_names": {"address": "src1"}})).is_ok());
}

use serde_json::{Value, json};

use super::super::super::overage::ClientProof;
use super::super::super::settings::KeySource;
use super::super::super::testing::{
    GROUP, NOW, OID, Pair, TENANT, entra, entra_claims, entra_settings, ready, ready_with, refused,
    rsa_jwk, sign, token, with, without,
};
use super::super::super::verifier::Verifier;
use super::*;
use crate::limits::GROUPS;

#[test]
fn a_user_of_entra_id_is_its_upn_and_bound_to_its_object_id() {
    let principal = entra(&json!({})).expect("accepted");
    assert_eq!(principal.user, "ana@contoso.example");
    assert_eq!(principal.groups, [GROUP]);
    assert_eq!(principal.extra, [("oid".to_owned(), OID.to_owned())]);
    assert_eq!(principal.issuer, format!("https://login.microsoftonline.com/{TENANT}/v2.0"));
    assert_eq!(principal.subject, format!("{TENANT}/{OID}"));
    assert_eq!((principal.expires, principal.is_app), (NOW + 3600, false));
    // SHA-256 of "u1".
    assert_eq!(&principal.credential_id[..16], "bb82030dbc2bcaba");
    assert_eq!(principal.credential_id.len(), 64);
}

#[test]
fn both_forms_of_a_tenants_tokens_are_one_subject() {
    let v2 = json!({
        "iss": format!("https://login.microsoftonline.com/{TENANT}/v2.0"), "ver": "2.0",
    });
    let (one, two) = (entra(&json!({})).expect("v1"), entra(&v2).expect("v2"));
    assert_eq!((one.issuer, one.subject), (two.issuer, two.subject));
}

#[test]
fn an_application_and_a_guest_without_upn_are_their_object_ids() {
    let app = entra(&json!({"idtyp": "app"})).expect("accepted");
    assert_eq!((app.user.as_str(), app.is_app), (OID, true), "whatever upn an application claims");
    let guest = token(&without(entra_claims(), "upn"));
    let guest = ready(entra_settings(|_| {})).verify(&guest, NOW).expect("accepted");
    assert_eq!((guest.user.as_str(), guest.is_app), (OID, false));
    let by_oid = ready(entra_settings(|tenant| tenant.user = EntraUser::Oid));
    assert_eq!(by_oid.verify(&token(&entra_claims()), NOW).expect("accepted").user, OID);
}

#[test]
fn mutable_claims_are_shown_and_never_used() {
    let claims = json!({"preferred_username": "admin@x", "email": "a@b", "unique_name": "root"});
    let principal = entra(&claims).expect("accepted");
    assert_eq!(principal.user, "ana@contoso.example");
    let guest = without(with(entra_claims(), &claims), "upn");
    let guest = ready(entra_settings(|_| {})).verify(&token(&guest), NOW).expect("accepted");
    assert_eq!((guest.user.as_str(), guest.display.as_str()), (OID, "admin@x"));
}

#[test]
fn prefixes_and_names_of_groups_are_applied() {
    let verifier = ready(entra_settings(|tenant| {
        tenant.user_prefix = Prefix::Text("aad:".to_owned());
        tenant.group_prefix = Prefix::Text("aadg:".to_owned());
        tenant.group_names.insert(GROUP.to_owned(), "platform".to_owned());
    }));
    let other = GROUP.replace('1', "2");
    let claims = with(entra_claims(), &json!({"groups": [GROUP, other, GROUP]}));
    let principal = verifier.verify(&token(&claims), NOW).expect("accepted");
    assert_eq!(principal.user, "aad:ana@contoso.example");
    assert_eq!(principal.groups, ["platform".to_owned(), format!("aadg:{other}")]);
}

#[test]
fn app_roles_can_be_the_groups() {
    let verifier = ready(entra_settings(|tenant| tenant.groups = EntraGroups::Roles));
    let claims = json!({"roles": ["Cluster.Admin"], "hasgroups": true});
    let claims = token(&with(entra_claims(), &claims));
    assert_eq!(verifier.verify(&claims, NOW).expect("accepted").groups, ["Cluster.Admin"]);
    let claims = token(&with(entra_claims(), &json!({"roles": ["system:masters"]})));
    refused(verifier.verify(&claims, NOW), Reason::ReservedName);
    let none = ready(entra_settings(|tenant| tenant.groups = EntraGroups::None));
    let claims = token(&with(entra_claims(), &json!({"groups": true})));
    assert!(none.verify(&claims, NOW).expect("accepted").groups.is_empty());
}

#[test]
fn tenant_version_and_issuer_must_agree() {
    for more in [
        json!({"tid": OID}),
        json!({"tid": TENANT.replace('5', "6")}),
        json!({"ver": "2.0"}),
        json!({"ver": "1"}),
        json!({"iss": format!("https://login.microsoftonline.com/{TENANT}/v2.0")}),
    ] {
        refused(entra(&more), Reason::Tenant);
    }
    refused(entra(&json!({"tid": 5})), Reason::Claim);
    refused(entra(&json!({"ver": 1.0})), Reason::Claim);
    for name in ["tid", "ver", "oid"] {
        let claims = token(&without(entra_claims(), name));
        refused(ready(entra_settings(|_| {})).verify(&claims, NOW), Reason::Claim);
    }
}

#[test]
fn an_issuer_is_compared_byte_for_byte() {
    for issuer in [
        format!("https://sts.windows.net/{TENANT}"),
        format!("HTTPS://sts.windows.net/{TENANT}/"),
        format!("http://sts.windows.net/{TENANT}/"),
        format!("https://sts.windows.net@evil/{TENANT}/"),
        format!("https://sts.windows.net/{TENANT}/#"),
        format!("https://sts.windows.net/{TENANT}/\0"),
        format!("https://sts.windows.net/{OID}/"),
        format!("https://st\u{455}.windows.net/{TENANT}/"),
        "https://sts.windows.net/{tenantid}/".to_owned(),
        String::new(),
    ] {
        refused(entra(&json!({ "iss": issuer })), Reason::Issuer);
    }
    let name = format!("https://sts.windows.net/{TENANT}/");
    for issuer in [json!([name]), json!(null), json!({"a": name})] {
        refused(entra(&json!({ "iss": issuer })), Reason::Claim);
    }
}

#[test]
fn a_key_signs_for_the_issuer_and_cloud_that_it_names_only() {
    let verdict = |more: &Value, cloud| {
        let key = with(with(rsa_jwk(Pair::Rsa), &json!({"kid": "rsa"})), more);
        let settings = entra_settings(|tenant| tenant.cloud = cloud);
        let v2 = Verifier::new(settings.clone()).expect("settings").issuers()[1].name().to_owned();
        let verifier = ready_with(settings, &json!({"keys": [key]}));
        let claims = with(entra_claims(), &json!({"iss": v2, "ver": "2.0"}));
        verifier.verify(&token(&claims), NOW)
    };
    let public = "https://login.microsoftonline.com";
    let gov = "https://login.microsoftonline.us";
    for issuer in [format!("{public}/{{tenantid}}/v2.0"), format!("{public}/{TENANT}/v2.0")] {
        let more = json!({"issuer": issuer, "cloud_instance_name": "microsoftonline.com"});
        assert!(verdict(&more, Cloud::Public).is_ok(), "{issuer}");
        refused(verdict(&more, Cloud::UsGovernment), Reason::KeyMismatch);
    }
    let consumers = "9188040d-6c67-4c5b-b112-36a304b66dad";
    for issuer in [
        format!("{public}/{consumers}/v2.0"),
        format!("{public}/{{tenantid}}"),
        format!("{gov}/{{tenantid}}/v2.0"),
        format!("https://sts.windows.net/{TENANT}/"),
        "{tenantid}".to_owned(),
        String::new(),
    ] {
        refused(verdict(&json!({ "issuer": issuer }), Cloud::Public), Reason::KeyMismatch);
    }
    refused(verdict(&json!({"cloud_instance_name": "x"}), Cloud::Public), Reason::KeyMismatch);
}

#[test]
fn clients_are_named_and_can_be_listed() {
    let neither = token(&without(entra_claims(), "appid"));
    refused(ready(entra_settings(|_| {})).verify(&neither, NOW), Reason::Client);
    refused(entra(&json!({"appid": 1})), Reason::Claim);
    let listed = |clients: &[&str], more: &Value| {
        let clients = clients.iter().map(|&id| id.to_owned()).collect();
        let verifier = ready(entra_settings(|tenant| tenant.clients = clients));
        verifier.verify(&token(&with(entra_claims(), more)), NOW)
    };
    let azure_cli = "04b07795-8ddb-461a-bbee-02f9e1bf7b46";
    assert!(listed(&[OID, azure_cli], &json!({})).is_ok());
    refused(listed(&[OID], &json!({})), Reason::Client);
    refused(listed(&[azure_cli], &json!({"azp": OID})), Reason::Client);
}

#[test]
fn what_is_no_access_token_of_a_user_or_an_application_is_refused() {
    for more in [
        json!({"idtyp": "device"}),
        json!({"idtyp": "App"}),
        json!({"idtyp": ""}),
        json!({"nonce": "n"}),
        json!({"at_hash": "h"}),
        json!({"c_hash": "h"}),
        json!({"actort": "x"}),
        json!({"act": {"sub": "x"}}),
    ] {
        refused(entra(&more), Reason::Purpose);
    }
    refused(entra(&json!({"idtyp": 1})), Reason::Claim);
    let header = |more: &Value| {
        let header = with(json!({"alg": "RS256", "kid": "rsa"}), more);
        let text = sign(&header, &entra_claims().to_string(), Algorithm::Rs256, Pair::Rsa);
        ready(entra_settings(|_| {})).verify(&text, NOW)
    };
    assert!(header(&json!({})).is_ok());
    for more in [json!({"nonce": "x"}), json!({"jku": "https://x"}), json!({"x5c": []})] {
        refused(header(&more), Reason::Header);
    }
    refused(header(&json!({"typ": "secevent+jwt"})), Reason::TokenType);
}

#[test]
fn groups_left_out_are_refused_unless_configured_otherwise() {
    let pointer = json!({
        "_claim_names": {"groups": "src1"},
        "_claim_sources": {"src1": {"endpoint": "https://169.254.169.254/"}},
    });
    for more in [pointer.clone(), json!({"hasgroups": true}), json!({"groups": "src1"})] {
        refused(entra(&more), Reason::Overage);
        let verdict = |overage| {
            let verifier = ready(entra_settings(|tenant| tenant.overage = overage));
            verifier.verify(&token(&with(entra_claims(), &more)), NOW).expect("accepted")
        };
        let ignored = verdict(Overage::Ignore);
        assert_eq!((ignored.groups.len(), ignored.group_state), (0, GroupState::Ignored));
        assert_eq!(verdict(Overage::Ask(graph())).group_state, GroupState::Unresolved);
    }
    assert!(entra(&json!({"hasgroups": false, "_claim_names": {"x": "src1"}})).is_ok());
    refused(entra(&json!({"hasgroups": "true"})), Reason::Claim);
    refused(entra(&json!({"_claim_names": "groups"})), Reason::Claim);
}

fn graph() -> Graph {
    let address = Cloud::Public.graph().to_owned();
    Graph { address, client: OID.to_owned(), proof: ClientProof::Secret }
}

#[test]
fn groups_that_were_asked_for_obey_the_rules_of_those_in_tokens() {
    let verifier = ready(entra_settings(|tenant| tenant.overage = Overage::Ask(graph())));
    let claims = token(&with(entra_claims(), &json!({"hasgroups": true})));
    let principal = verifier.verify(&claims, NOW).expect("accepted");
    let names = |issuer: &str, ids: &[&str]| {
        let ids: Vec<_> = ids.iter().map(|&id| id.to_owned()).collect();
        verifier.group_names(issuer, &ids)
    };
    assert_eq!(names(&principal.issuer, &[GROUP, GROUP]), Ok(vec![GROUP.to_owned()]));
    refused(names(&principal.issuer, &["system:masters"]), Reason::ReservedName);
    refused(names(&principal.issuer, &["Administrators"]), Reason::Name);
    refused(names("https://x", &[]), Reason::Overage);
    let asked = verifier.graphs();
    let [asked] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!(asked.issuer, principal.issuer);
    let host = "https://login.microsoftonline.com";
    assert_eq!(asked.token_url, format!("{host}/{TENANT}/oauth2/v2.0/token"));
    assert_eq!(ready(entra_settings(|_| ())).graphs(), []);
}

#[test]
fn groups_without_a_name_can_be_left_out() {
    let others: Vec<_> = (0..2_000).map(|at| format!("00000000-0000-0000-0000-{at:012}")).collect();
    let ids: Vec<_> = others.iter().cloned().chain([GROUP.to_owned()]).collect();
    let verdict = |only: bool| {
        let verifier = ready(entra_settings(|tenant| {
            tenant.group_names.insert(GROUP.to_owned(), "admins".to_owned());
            tenant.only_named_groups = only;
        }));
        let claims = token(&with(entra_claims(), &json!({ "groups": ids.get(1_990..) })));
        let principal = verifier.verify(&claims, NOW).expect("accepted");
        (principal.groups.len(), verifier.group_names(&principal.issuer, &ids))
    };
    assert_eq!(verdict(true), (1, Ok(vec!["admins".to_owned()])));
    let (carried, all) = verdict(false);
    assert_eq!(carried, 11);
    refused(all, Reason::TooManyGroups);
}

#[test]
fn groups_are_object_ids_and_not_too_many() {
    for groups in
        [json!([""]), json!([" a"]), json!(["a\r\nb"]), json!(["Admins"]), json!(["\u{e9}"])]
    {
        refused(entra(&json!({ "groups": groups })), Reason::Name);
    }
    for groups in [json!([1]), json!([null]), json!([[GROUP]]), json!({"a": 1}), json!(true)] {
        refused(entra(&json!({ "groups": groups })), Reason::Claim);
    }
    for group in
        ["system:masters", "system:nodes", "system:unauthenticated", "SYSTEM:authenticated"]
    {
        refused(entra(&json!({"groups": [GROUP, group]})), Reason::ReservedName);
    }
    let many = |count: usize| -> Vec<String> {
        (0..count).map(|n| format!("99999999-0000-0000-0000-{n:012}")).collect()
    };
    assert!(entra(&json!({"groups": many(GROUPS)})).is_ok());
    refused(entra(&json!({"groups": many(GROUPS + 1)})), Reason::TooManyGroups);
    let prefix = Prefix::Text("p".repeat(100));
    let verifier = ready(entra_settings(|tenant| tenant.group_prefix = prefix));
    let heavy = token(&with(entra_claims(), &json!({"groups": many(GROUPS)})));
    refused(verifier.verify(&heavy, NOW), Reason::TooManyGroups);
}

#[test]
fn user_names_are_never_changed_to_fit() {
    for upn in ["", " ", " ana@x", "ana@x ", "\tana", "a\u{0}", "a\u{7f}", "a\r\nb", "m\u{fc}ller"]
    {
        refused(entra(&json!({ "upn": upn })), Reason::Name);
    }
    refused(entra(&json!({"upn": "a".repeat(257)})), Reason::Name);
    for upn in ["system:admin", "System:node:x", "system:serviceaccount:a:b", "\u{ff53}ystem:x"] {
        refused(entra(&json!({ "upn": upn })), Reason::ReservedName);
    }
    refused(entra(&json!({"upn": 1})), Reason::Claim);
    refused(entra(&json!({"upn": null})), Reason::Claim);
    refused(entra(&json!({"oid": 1})), Reason::Claim);
    for oid in ["", "x", &OID[1..], &format!("{OID}-"), "aaaaaaaabbbbccccddddeeeeeeeeeeee"] {
        refused(entra(&json!({ "oid": oid })), Reason::Claim);
    }
}

#[test]
fn entra_documents_are_asked_of_the_configured_cloud() {
    let urls = |change: fn(&mut EntraTenant)| -> Vec<String> {
        let settings = entra_settings(|tenant| {
            tenant.keys = EntraKeys::Discover;
            change(tenant);
        });
        let verifier = Verifier::new(settings).expect("settings");
        let sources = verifier.issuers().iter().map(|one| match one.source() {
            KeySource::Discovery { url, .. } => url.clone(),
            KeySource::Url(_) | KeySource::Installed => panic!("nothing to discover"),
        });
        sources.collect()
    };
    let expected = |base: &str| {
        let end = ".well-known/openid-configuration";
        vec![format!("{base}/{TENANT}/{end}"), format!("{base}/{TENANT}/v2.0/{end}")]
    };
    assert_eq!(urls(|_| {}), expected("https://login.microsoftonline.com"));
    let gov = urls(|tenant| tenant.cloud = Cloud::UsGovernment);
    assert_eq!(gov, expected("https://login.microsoftonline.us"));
    let china = urls(|tenant| tenant.cloud = Cloud::China);
    assert_eq!(china, expected("https://login.partner.microsoftonline.cn"));
    let own = urls(|one| one.keys = EntraKeys::DiscoverAt("https://sts.corp:8443/".to_owned()));
    assert_eq!(own, expected("https://sts.corp:8443"));
    let mapped = urls(|one| one.signing_app = Some(OID.to_owned()));
    assert!(mapped.iter().all(|url| url.ends_with(&format!("configuration?appid={OID}"))));
}

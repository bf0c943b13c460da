use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::auth::assignments::Holder;
use crate::auth::sas::Right;
use crate::limits::{GUESS_REFILL, GUESSES};
use crate::role::Revoked;
use crate::role::relay::registry::Bearer;

const AAD: &str = r#"{"authenticationMethod":"AAD","clientProxy":true}"#;

fn grant(world: &mut World, body: &str) -> Got {
    world.operator("POST", &path("/grant"), body)
}

fn fetch(world: &mut World, caller: &Caller) -> Got {
    world.call(caller, "POST", &path("/listClusterUserCredential"), AAD)
}

/// With a cluster that is enrolled and connected.
fn connected() -> World {
    let mut world = with_cluster();
    let body = r#"{"properties":{"agentPublicKeyCertificate":"MAICAQ=="}}"#;
    assert_eq!(world.operator("PUT", &path(""), body).status, 200);
    world.live.set(true);
    world
}

fn by_subject() -> String {
    format!(r#"{{"issuer":"{ENTRA}","subject":"7a0e"}}"#)
}

/// What the token of a credential is good for.
fn bearer(world: &World, got: &Got) -> Option<Bearer> {
    let config = &got.body["hybridConnectionConfig"];
    let (token, entity) = (config["token"].as_str()?, config["hybridConnectionName"].as_str()?);
    let (registry, now) = (world.ledger.registry(), world.now);
    let good = registry.authorize(Some(token), "relay.contoso.com", entity, Right::Send, now);
    good.ok().map(|good| good.bearer)
}

#[test]
fn a_credential_is_a_send_token_and_a_kubeconfig_with_the_clusters_ca() {
    let mut world = connected();
    grant(&mut world, &by_subject());
    let got = fetch(&mut world, &alice());
    assert_eq!((got.status, got.audit()), (200, vec![("listClusterUserCredential", "")]));
    let config = &got.body["hybridConnectionConfig"];
    assert_eq!(config["relay"], "relay.contoso.com:8443");
    assert_eq!(config["expirationTime"], world.now + 3600);
    assert_eq!((&config["relayTid"], &config["relayType"]), (&"".into(), &"".into()));
    let tag = Holder::user(ENTRA, "7a0e").tag();
    let expected = Bearer::User { principal: tag.clone(), grant: tag };
    assert_eq!(bearer(&world, &got), Some(expected));
    assert_eq!(got.body["kubeconfigs"][0]["name"], "Kubernetes.Config-Internal");
    let yaml = got.body["kubeconfigs"][0]["value"].as_str().unwrap();
    let yaml = String::from_utf8(STANDARD.decode(yaml).unwrap()).unwrap();
    let server = ResourceId::parse("edge-7").unwrap().server_name();
    assert!(yaml.contains(&format!("    server: https://{server}/\n")), "{yaml}");
    let pem = "-----BEGIN CERTIFICATE-----\nMAICAQ==\n-----END CERTIFICATE-----\n";
    let authority = format!("certificate-authority-data: {}\n", STANDARD.encode(pem));
    assert!(yaml.contains(&authority) && yaml.contains("  user: {}\n"), "{yaml}");
    let line = got.answer.audit[0].line(world.now);
    assert!(!line.contains("sig=") && line.contains("\"subject\":\"7a0e\""), "{line}");
}

#[test]
fn without_an_assignment_there_is_no_credential() {
    let mut world = connected();
    let got = fetch(&mut world, &alice());
    assert_eq!(got.code(), (403, "AuthorizationFailed"));
    assert_eq!(got.audit(), [("listClusterUserCredential", "AuthorizationFailed")]);
    assert!(got.body["error"]["message"].as_str().unwrap().contains("cluster grant edge-7"));
    grant(&mut world, &by_subject());
    let impostor = user("other", "alice@contoso.com", &[]);
    assert_eq!(fetch(&mut world, &impostor).status, 403, "a name is never compared");
    let Caller::User(mut foreign) = alice() else { return };
    foreign.issuer = GITHUB.into();
    assert_eq!(fetch(&mut world, &Caller::User(foreign)).status, 403, "nor a subject alone");
    let nowhere = path("/listClusterUserCredential").replace("edge-7", "nowhere");
    let got = world.call(&alice(), "POST", &nowhere, AAD);
    assert_eq!(got.code(), (404, "ResourceNotFound"));
}

#[test]
fn a_cluster_that_is_not_there_says_since_when() {
    let mut world = connected();
    world.live.set(false);
    grant(&mut world, &by_subject());
    let got = fetch(&mut world, &alice());
    assert_eq!(got.code(), (409, "ClusterNeverConnected"));
    assert!(got.body["error"]["message"].as_str().unwrap().contains("edge-7 has never connected"));
    world.saw();
    world.wait(600);
    let got = fetch(&mut world, &alice());
    assert_eq!(got.code(), (409, "ClusterOffline"));
    let message = got.body["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("edge-7 is offline since 2026-11-23T12:03:00Z:"), "{message}");
}

#[test]
fn a_cluster_without_a_certificate_gives_no_kubeconfig() {
    let mut world = with_cluster();
    world.live.set(true);
    assert_eq!(fetch(&mut world, &Caller::Operator).code(), (409, "ClusterNeverConnected"));
}

#[test]
fn what_a_credential_request_may_ask() {
    let mut world = connected();
    let mut ask = |body: &str| {
        let got = world.operator("POST", &path("/listClusterUserCredential"), body);
        (got.status, got.code().1.to_owned())
    };
    assert_eq!(ask(r#"{"authenticationMethod":"Token","clientProxy":true}"#).0, 200);
    assert_eq!(ask(r#"{"authenticationMethod":"AAD"}"#).0, 200);
    for (body, code) in [
        ("{}", "InvalidRequestContent"),
        (r#"{"authenticationMethod":"aad"}"#, "InvalidAuthenticationMethod"),
        (r#"{"authenticationMethod":"AAD","clientProxy":false}"#, "ClientProxyRequired"),
        (r#"{"authenticationMethod":"AAD","clientProxy":"yes"}"#, "InvalidRequestContent"),
    ] {
        assert_eq!(ask(body), (400, code.to_owned()), "{body}");
    }
}

#[test]
fn a_revoked_user_is_cut_off_at_once() {
    let mut world = connected();
    grant(&mut world, &by_subject());
    let credential = fetch(&mut world, &alice());
    let opened = bearer(&world, &credential).map(|bearer| bearer.to_string());
    assert!(opened.is_some());
    let got = world.operator("POST", &path("/revoke"), r#"{"user":"7a0e"}"#);
    assert_eq!((got.status, got.audit()), (204, vec![("revoke", "")]));
    let entity = ResourceId::parse("edge-7").unwrap().entity();
    let cut = Effect::Cut { entity, grant: Holder::user(ENTRA, "7a0e").tag() };
    assert_eq!(got.answer.effects, [cut]);
    let Revoked::At(_, ended) = got.answer.effects[0].clone().revoked() else { panic!() };
    assert_eq!(Some(ended), opened, "the relay finds the connections by it");
    assert_eq!(bearer(&world, &credential), None, "the token in hand is worthless");
    assert_eq!(fetch(&mut world, &alice()).status, 403);
    let got = world.operator("POST", &path("/revoke"), &by_subject());
    assert_eq!(got.code(), (404, "RoleAssignmentNotFound"));
}

#[test]
fn a_revoked_group_is_cut_off_and_who_has_another_way_comes_back() {
    let mut world = connected();
    let group = format!(r#"{{"group":"ops","issuer":"{ENTRA}"}}"#);
    assert_eq!(grant(&mut world, &group).status, 200);
    let credential = fetch(&mut world, &alice());
    let (principal, grant_tag) =
        (Holder::user(ENTRA, "7a0e").tag(), Holder::group(ENTRA, "ops").tag());
    let expected = Bearer::User { principal, grant: grant_tag };
    assert_eq!(bearer(&world, &credential), Some(expected));
    grant(&mut world, &by_subject());
    let got = world.operator("POST", &path("/revoke"), r#"{"group":"ops"}"#);
    assert_eq!(got.status, 204);
    assert_eq!(bearer(&world, &credential), None);
    let again = fetch(&mut world, &alice());
    assert!(bearer(&world, &again).is_some());
}

#[test]
fn a_grant_by_name_is_bound_to_the_subject() {
    let mut world = connected();
    let by_name = r#"{"user":"Alice@Contoso.com"}"#;
    let got = grant(&mut world, by_name);
    assert_eq!(got.code(), (404, "PrincipalNotFound"));
    assert_eq!(fetch(&mut world, &alice()).status, 403, "but now the relay knows the name");
    let got = grant(&mut world, by_name);
    assert_eq!((got.status, got.audit()), (200, vec![("grant", "")]));
    assert_eq!(got.body["subject"], "7a0e");
    assert_eq!(got.body["displayName"], "alice@contoso.com");
    assert_eq!(fetch(&mut world, &alice()).status, 200);
    let renamed = user("7a0e", "alice.smith@contoso.com", &[]);
    assert_eq!(fetch(&mut world, &renamed).status, 200, "whatever the name becomes");
    let heir = user("9999", "alice@contoso.com", &[]);
    assert_eq!(fetch(&mut world, &heir).status, 403, "whoever gets it next");
    let list = world.operator("GET", &path("/roleAssignments"), "");
    let one = &list.body["value"][0];
    assert_eq!((&one["kind"], &one["issuer"]), (&"user".into(), &ENTRA.into()));
    assert_eq!(one["grantedAt"], "2026-11-23T12:03:00Z");
}

#[test]
fn a_name_that_several_have_is_refused_with_their_subjects() {
    let mut world = connected();
    fetch(&mut world, &alice());
    fetch(&mut world, &user("9999", "alice@contoso.com", &[]));
    let got = grant(&mut world, r#"{"user":"alice@contoso.com"}"#);
    assert_eq!(got.code(), (409, "PrincipalAmbiguous"));
    let message = got.body["error"]["message"].as_str().unwrap();
    assert!(message.contains("7a0e") && message.contains("9999"), "{message}");
    assert_eq!(grant(&mut world, &by_subject()).status, 200);
}

#[test]
fn an_issuer_whose_names_are_subjects_needs_no_look_up() {
    let mut world = connected();
    let body = format!(r#"{{"user":"repo:contoso/app","issuer":"{GITHUB}"}}"#);
    let got = grant(&mut world, &body);
    assert_eq!((got.status, &got.body["subject"]), (200, &"repo:contoso/app".into()));
    let revoke = world.operator("POST", &path("/revoke"), r#"{"user":"repo:contoso/app"}"#);
    assert_eq!(revoke.status, 204);
}

#[test]
fn a_grant_that_names_nobody_in_particular_is_refused() {
    let mut world = connected();
    let long = "x".repeat(513);
    for (body, code) in [
        ("{}".to_owned(), "InvalidRequestContent"),
        (r#"{"user":"a","group":"b"}"#.to_owned(), "InvalidRequestContent"),
        (r#"{"subject":"a"}"#.to_owned(), "InvalidRequestContent"),
        (r#"{"user":""}"#.to_owned(), "InvalidRequestContent"),
        (r#"{"user":7}"#.to_owned(), "InvalidRequestContent"),
        (format!(r#"{{"user":"{long}"}}"#), "InvalidRequestContent"),
        (r#"{"group":"ops"}"#.to_owned(), "IssuerRequired"),
        (r#"{"issuer":"https://evil","subject":"a"}"#.to_owned(), "IssuerUnknown"),
    ] {
        let got = grant(&mut world, &body);
        assert_eq!(got.code(), (400, code), "{body}");
        assert!(got.answer.changes.is_empty());
    }
}

#[test]
fn a_host_that_could_rewrite_an_answer_is_refused() {
    let mut world = connected();
    for host in ["", "a b", "a/b", "relay&sig=x", "relay\r\nX: y", "relay@evil", &"a".repeat(256)] {
        let call = Call {
            method: "POST",
            path: &path("/listClusterUserCredential"),
            query: "api-version=2021-10-01",
            host,
            body: AAD.as_bytes(),
            peer: None,
            caller: &Caller::Operator,
        };
        assert_eq!(world.send(&call).code(), (400, "InvalidHost"), "{host:?}");
    }
}

#[test]
fn who_asks_for_too_much_too_often_waits_and_may_still_do_what_is_theirs() {
    let mut world = with_cluster();
    let (eve, ask) = (user("eve", "eve@contoso.com", &[]), path("/grant"));
    for _ in 0..GUESSES {
        let got = world.call(&eve, "POST", &ask, r#"{"user":"eve@contoso.com"}"#);
        assert_eq!((got.status, got.audit().len()), (403, 1));
    }
    let got = world.call(&eve, "POST", &ask, r#"{"user":"eve@contoso.com"}"#);
    assert_eq!((got.code(), got.audit().len()), ((429, "TooManyRequests"), 0), "no line");
    assert_eq!(
        world
            .call(
                &alice(),
                "GET",
                "/subscriptions/00000000-0000-0000-0000-000000000000/\
        providers/Microsoft.Kubernetes/connectedClusters",
                ""
            )
            .status,
        200
    );
    world.start += GUESS_REFILL * 2;
    assert_eq!(world.call(&eve, "POST", &ask, r#"{"user":"eve@contoso.com"}"#).status, 403);
}

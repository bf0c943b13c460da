use std::net::IpAddr;

use super::*;
use crate::limits::NETWORK_MASKS_MAX;
use crate::role::Revoked;

fn at(tail: &str) -> String {
    format!(
        "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/default/providers/\
         Microsoft.Relay/namespaces/contoso-relay{tail}?api-version=2021-11-01"
    )
}

fn put(world: &mut World, properties: &str) -> Got {
    let body = format!(r#"{{"properties":{{{properties}}}}}"#);
    world.operator("PUT", &at("/networkRuleSets/default"), &body)
}

fn admits(world: &World, address: &str) -> bool {
    let address: IpAddr = address.parse().unwrap();
    world.ledger.registry().network().admit(Some(address))
}

const OFFICE: &str = r#""defaultAction":"Deny","ipRules":[
    {"ipMask":"10.0.0.0/8","action":"Allow"},{"ipMask":"2001:db8::/32"},{"ipMask":"192.0.2.7/32"}]"#;

#[test]
fn rules_are_put_shown_written_down_and_carried_out() {
    let mut world = world();
    let got = put(&mut world, OFFICE);
    assert_eq!(got.status, 200, "{}", got.body);
    assert_eq!(got.audit(), [("network-put", "")]);
    let detail = &got.answer.audit[0].detail;
    assert!(detail.contains(&("ipRules", "10.0.0.0/8 2001:db8::/32 192.0.2.7".to_owned())));
    let Revoked::Outside(rules) = got.answer.effects[0].clone().revoked() else { panic!() };
    assert_eq!(*rules, *world.ledger.registry().network(), "and what is open is held against them");
    let shown = world.operator("GET", &at("/networkRuleSets/default"), "");
    assert_eq!(shown.body, got.body);
    let properties = &shown.body["properties"];
    assert_eq!(properties["defaultAction"], "Deny");
    assert_eq!(properties["publicNetworkAccess"], "Enabled");
    let third: Json = serde_json::from_str(r#"{"ipMask":"192.0.2.7","action":"Allow"}"#).unwrap();
    assert_eq!(properties["ipRules"][2], third);
    assert!(admits(&world, "::ffff:10.1.2.3") && !admits(&world, "11.0.0.0"));
    let again = put(&mut world, OFFICE);
    assert!(again.status == 200 && again.audit().is_empty() && again.answer.effects.is_empty());
    let open = put(&mut world, r#""defaultAction":"Allow""#);
    assert_eq!(open.body["properties"]["ipRules"], Json::Array(Vec::new()));
    assert!(admits(&world, "11.0.0.0"));
}

#[test]
fn the_public_network_is_closed_by_the_rules_or_by_the_namespace() {
    let mut world = world();
    let close = r#"{"properties":{"publicNetworkAccess":"Disabled"}}"#;
    for method in ["PUT", "PATCH"] {
        let got = world.operator(method, &at(""), close);
        assert_eq!(got.body["properties"]["publicNetworkAccess"], "Disabled", "{method}");
        assert!(!admits(&world, "10.0.0.4"));
        let stays = world.operator(method, &at(""), "{}");
        assert_eq!(stays.body["properties"]["publicNetworkAccess"], "Disabled", "{method}");
        assert!(stays.answer.effects.is_empty());
        put(&mut world, OFFICE);
        assert!(!admits(&world, "10.0.0.4"), "rules alone do not open it");
        put(&mut world, r#""defaultAction":"Allow","publicNetworkAccess":"enabled""#);
        assert!(admits(&world, "10.0.0.4"));
    }
    let shown = world.operator("GET", &at(""), "");
    assert_eq!(shown.body["properties"]["publicNetworkAccess"], "Enabled");
    for word in ["SecuredByPerimeter", "", "true"] {
        let body = format!(r#"{{"properties":{{"publicNetworkAccess":"{word}"}}}}"#);
        assert_eq!(world.operator("PATCH", &at(""), &body).status, 400, "{word}");
    }
}

#[test]
fn hostile_rules_are_refused_and_change_nothing() {
    let mut world = world();
    put(&mut world, OFFICE);
    let before = world.ledger.registry().network().clone();
    let many = |len: usize| {
        let rules: Vec<String> =
            (0..len).map(|n| format!(r#"{{"ipMask":"10.0.{}.{}"}}"#, n / 256, n % 256)).collect();
        format!(r#""defaultAction":"Deny","ipRules":[{}]"#, rules.join(","))
    };
    for wrong in [
        "",
        r#""defaultAction":"Reject""#,
        r#""defaultAction":7"#,
        r#""ipRules":[]"#,
        r#""ipRules":[{"ipMask":"10.0.0.4"}]"#,
        r#""defaultAction":"Deny","ipRules":{}"#,
        r#""defaultAction":"Deny","ipRules":["10.0.0.4"]"#,
        r#""defaultAction":"Deny","ipRules":[{}]"#,
        r#""defaultAction":"Deny","ipRules":[{"ipMask":7}]"#,
        r#""defaultAction":"Deny","ipRules":[{"ipMask":""}]"#,
        r#""defaultAction":"Deny","ipRules":[{"ipMask":"10.0.0.0/33"}]"#,
        r#""defaultAction":"Deny","ipRules":[{"ipMask":"10.0.0.4/0"}]"#,
        r#""defaultAction":"Deny","ipRules":[{"ipMask":"::ffff:10.0.0.4"}]"#,
        r#""defaultAction":"Deny","ipRules":[{"ipMask":"10.0.0.4","action":"Deny"}]"#,
        r#""defaultAction":"Deny","publicNetworkAccess":"SecuredByPerimeter""#,
        &many(NETWORK_MASKS_MAX + 1),
    ] {
        let got = put(&mut world, wrong);
        assert_eq!(got.code(), (400, "InvalidRequestContent"), "{wrong}");
        assert!(got.answer.changes.is_empty(), "{wrong}");
    }
    assert_eq!(*world.ledger.registry().network(), before);
    let got = world.operator("PUT", &at("/networkRuleSets/default"), "{}");
    assert_eq!(got.status, 400, "no properties are not all of them");
    assert_eq!(put(&mut world, &many(NETWORK_MASKS_MAX)).status, 200);
    let rules = at("/networkRuleSets/default");
    assert_eq!(world.call(&alice(), "GET", &rules, "").code(), (403, "AuthorizationFailed"));
    assert_eq!(world.call(&Caller::Nobody, "PUT", &rules, "{}").status, 401);
}

use super::*;

fn at(tail: &str) -> String {
    format!(
        "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/default/providers/\
         Microsoft.Relay/namespaces/ns{tail}?api-version=2021-11-01"
    )
}

#[test]
fn a_hybrid_connection_with_a_rule_and_its_keys() {
    let mut world = world();
    let body = r#"{"properties":{"requiresClientAuthorization":false,"userMetadata":"x"}}"#;
    let got = world.operator("PUT", &at("/hybridConnections/lab~hc1"), body);
    assert_eq!((got.status, &got.body["name"]), (200, &"lab/hc1".into()));
    assert_eq!(got.body["properties"]["requiresClientAuthorization"], false);
    let rule = "/hybridConnections/lab~hc1/authorizationRules/listener";
    let got = world.operator("PUT", &at(rule), r#"{"properties":{"rights":["Listen"]}}"#);
    assert_eq!((got.status, &got.body["properties"]["rights"][0]), (200, &"Listen".into()));
    let keys = world.operator("POST", &at(&format!("{rule}/listKeys")), "");
    let primary = keys.body["primaryKey"].as_str().unwrap().to_owned();
    assert_eq!(
        keys.body["primaryConnectionString"],
        format!(
            "Endpoint=sb://relay.contoso.com:8443/;SharedAccessKeyName=listener;\
             SharedAccessKey={primary};EntityPath=lab/hc1"
        )
    );
    let body = r#"{"keyType":"PrimaryKey"}"#;
    let new = world.operator("POST", &at(&format!("{rule}/regenerateKeys")), body);
    assert_ne!(new.body["primaryKey"], primary);
    assert_eq!(new.body["secondaryKey"], keys.body["secondaryKey"]);
    let list = world.operator("GET", &at("/hybridConnections"), "");
    assert_eq!(list.body["value"].as_array().unwrap().len(), 1);
    let got = world.operator("DELETE", &at("/hybridConnections/LAB~hc1"), "");
    assert_eq!(got.answer.effects, [Effect::Disconnect("lab/hc1".into())]);
    assert_eq!(world.operator("DELETE", &at("/hybridConnections/lab~hc1"), "").status, 204);
    assert_eq!(world.operator("GET", &at(rule), "").code(), (404, "ResourceNotFound"));
}

#[test]
fn a_hybrid_connection_has_deadlines_and_a_switch_for_http() {
    let mut world = world();
    let put = |world: &mut World, properties: &str| {
        let body = format!(r#"{{"properties":{{{properties}}}}}"#);
        let got = world.operator("PUT", &at("/hybridConnections/hc"), &body);
        (got.status, got.body["properties"].clone())
    };
    let (_, usual) = put(&mut world, "");
    assert_eq!(
        (&usual["responseTimeoutSeconds"], &usual["httpRequests"]),
        (&60.into(), &true.into())
    );
    let (_, own) = put(&mut world, r#""responseTimeoutSeconds":600,"httpRequests":false"#);
    assert_eq!(
        (&own["responseTimeoutSeconds"], &own["httpRequests"]),
        (&600.into(), &false.into())
    );
    let (_, still) = put(&mut world, r#""acceptTimeoutSeconds":5,"bodyGapTimeoutSeconds":86400"#);
    assert_eq!(
        (&still["responseTimeoutSeconds"], &still["acceptTimeoutSeconds"]),
        (&600.into(), &5.into())
    );
    for wrong in ["0", "86401", "-1", "1.5", "\"60\"", "18446744073709551616"] {
        let got = put(&mut world, &format!(r#""responseTimeoutSeconds":{wrong}"#));
        assert_eq!(got.0, 400, "{wrong}");
    }
}

#[test]
fn the_operator_alone_may_ask() {
    let mut world = world();
    for tail in ["", "/hybridConnections", "/authorizationRules", "/hybridConnections/a"] {
        assert_eq!(world.call(&alice(), "GET", &at(tail), "").code(), (403, "AuthorizationFailed"));
        assert_eq!(world.call(&Caller::Nobody, "GET", &at(tail), "").status, 401);
    }
}

#[test]
fn the_keys_of_a_cluster_never_leave_the_relay() {
    let mut world = with_cluster();
    let entity = ResourceId::parse("edge-7").unwrap().entity().replace('/', "~");
    let rules = format!("/hybridConnections/{entity}/authorizationRules");
    for (method, tail, body) in [
        ("GET", rules.clone(), ""),
        ("GET", format!("{rules}/cluster-send"), ""),
        ("POST", format!("{rules}/cluster-send/listKeys"), ""),
        ("POST", format!("{rules}/cluster-listen/regenerateKeys"), r#"{"keyType":"PrimaryKey"}"#),
        ("PUT", format!("{rules}/mine"), r#"{"properties":{"rights":["Send"]}}"#),
        ("DELETE", format!("{rules}/cluster-send"), ""),
        ("DELETE", format!("/hybridConnections/{entity}"), ""),
    ] {
        let got = world.operator(method, &at(&tail), body);
        assert_eq!(got.code(), (403, "AuthorizationFailed"), "{method} {tail}");
        assert!(got.answer.changes.is_empty());
    }
    let keys = world.ledger.registry().entities().flat_map(|it| it.rules.values());
    let keys: Vec<String> = keys.map(|rule| rule.primary.expose().clone()).collect();
    let shown = world.operator("GET", &path(""), "").body.to_string();
    let listed = world.operator("GET", &at("/hybridConnections"), "").body.to_string();
    assert!(
        keys.len() == 2 && keys.iter().all(|key| !shown.contains(key) && !listed.contains(key))
    );
}

#[test]
fn hostile_rules_and_keys_are_refused() {
    let mut world = world();
    let rule = "/authorizationRules/r";
    let put = |world: &mut World, body: &str| {
        let got = world.operator("PUT", &at(rule), body);
        (got.status, got.code().1.to_owned())
    };
    for rights in ["[]", r#"["Manage"]"#, r#"["Root"]"#, "[7]", r#"["listen"]"#] {
        let body = format!(r#"{{"properties":{{"rights":{rights}}}}}"#);
        assert_eq!(put(&mut world, &body), (400, "InvalidRights".into()), "{rights}");
    }
    assert_eq!(put(&mut world, r#"{"properties":{"rights":["Send"]}}"#).0, 200);
    let mut regenerate = |body: &str| {
        let got = world.operator("POST", &at(&format!("{rule}/regenerateKeys")), body);
        (got.status, got.code().1.to_owned())
    };
    let long = "k".repeat(257);
    assert_eq!(regenerate(r#"{"keyType":"Both"}"#), (400, "InvalidKeyType".into()));
    assert_eq!(regenerate("{}"), (400, "InvalidRequestContent".into()));
    for key in ["", "short", &long] {
        let body = format!(r#"{{"keyType":"PrimaryKey","key":"{key}"}}"#);
        assert_eq!(regenerate(&body), (400, "InvalidKey".into()), "{key}");
    }
    let metadata = format!(r#"{{"properties":{{"userMetadata":"{}"}}}}"#, "x".repeat(1025));
    let got = world.operator("PUT", &at("/hybridConnections/hc"), &metadata);
    assert_eq!(got.code(), (400, "InvalidRequestContent"));
}

#[test]
fn the_one_namespace_is_there_under_any_good_name() {
    let mut world = world();
    let sub = "/subscriptions/00000000-0000-0000-0000-000000000000";
    let named = at("").replace("/ns?", "/contoso-relay?");
    let body = r#"{"location":"westeurope","sku":{"name":"Standard"},"tags":{}}"#;
    let got = world.operator("PUT", &named, body);
    assert_eq!((got.status, &got.body["name"]), (200, &"contoso-relay".into()));
    let properties = &got.body["properties"];
    assert_eq!(properties["provisioningState"], "Succeeded");
    assert_eq!(properties["serviceBusEndpoint"], "https://relay.contoso.com:8443/");
    assert_eq!(world.operator("PUT", &at(""), body).code(), (400, "InvalidResourceName"));
    assert_eq!(world.operator("PUT", &named, "[]").status, 400);
    assert_eq!(world.operator("DELETE", &named, "").code(), (409, "Conflict"));
    for tail in ["/resourceGroups/g", ""] {
        let path =
            format!("{sub}{tail}/providers/Microsoft.Relay/namespaces?api-version=2021-11-01");
        let got = world.operator("GET", &path, "");
        assert_eq!(got.body["value"][0]["type"], "Microsoft.Relay/Namespaces", "{path}");
        assert_eq!(world.call(&alice(), "GET", &path, "").status, 403);
    }
    let path =
        format!("{sub}/providers/Microsoft.Relay/checkNameAvailability?api-version=2021-11-01");
    let mut is_free = |name: &str| {
        let got = world.operator("POST", &path, &format!(r#"{{"name":"{name}"}}"#));
        got.body["nameAvailable"].as_bool()
    };
    assert_eq!(is_free("contoso-relay"), Some(true));
    for name in ["", "short", "-contoso", "contoso-", "7contoso", "con.toso", &"c".repeat(51)] {
        assert_eq!(is_free(name), Some(false), "{name}");
    }
    let rules = at("/networkRuleSets/default");
    let got = world.operator("GET", &rules, "");
    assert_eq!(got.body["properties"]["defaultAction"], "Allow");
    assert_eq!(world.operator("DELETE", &rules, "").code(), (405, "MethodNotAllowed"));
    assert_eq!(world.operator("GET", &at("/networkRuleSets/other"), "").status, 404);
}

use super::*;
use crate::limits::LIST_PAGE;

#[test]
fn a_cluster_is_made_once_and_put_again_without_harm() {
    let mut world = world();
    let body = r#"{"location":"berlin","tags":{"site":"7"},"identity":{"type":"None"},
                   "properties":{"agentPublicKeyCertificate":"","distribution":"k3s"}}"#;
    let got = world.operator("PUT", &path(""), body);
    assert_eq!((got.status, got.audit()), (201, vec![("put", "")]));
    assert_eq!(got.body["id"], path(""));
    assert_eq!(got.body["type"], "Microsoft.Kubernetes/connectedClusters");
    assert_eq!(got.body["tags"]["site"], "7");
    assert_eq!(got.body["properties"]["distribution"], "k3s");
    assert_eq!(got.body["properties"]["connectivityStatus"], "Connecting");
    assert_eq!(got.body["systemData"]["createdBy"], "operator");
    let again = world.operator("PUT", &path("").to_uppercase(), body);
    assert_eq!((again.status, again.audit().len()), (200, 0));
    assert_eq!(again.body, got.body, "in the case in which it was made");
    assert!(again.answer.changes.is_empty());
    let read = world.operator("GET", &path(""), "");
    assert_eq!(read.body, got.body);
}

#[test]
fn connectivity_is_what_the_listeners_say() {
    let mut world = with_cluster();
    let status = |world: &mut World| {
        let got = world.operator("GET", &path(""), "");
        let of = |name: &str| got.body["properties"][name].as_str().unwrap_or("").to_owned();
        (of("connectivityStatus"), of("lastConnectivityTime"))
    };
    assert_eq!(status(&mut world), ("Connecting".into(), String::new()));
    world.live.set(true);
    world.saw();
    assert_eq!(status(&mut world), ("Connected".into(), "2026-11-23T12:03:00Z".into()));
    world.live.set(false);
    world.wait(3600);
    assert_eq!(status(&mut world), ("Offline".into(), "2026-11-23T12:03:00Z".into()));
}

#[test]
fn tags_and_distribution_alone_are_patched() {
    let mut world = with_cluster();
    let got = world.operator("PATCH", &path(""), r#"{"tags":{"a":"b"}}"#);
    assert_eq!((got.status, &got.body["tags"]["a"]), (200, &"b".into()));
    let got = world.operator("PATCH", &path(""), r#"{"properties":{"distribution":"k3s"}}"#);
    let shown = (&got.body["tags"]["a"], &got.body["properties"]["distribution"]);
    assert_eq!((got.status, shown), (200, (&"b".into(), &"k3s".into())));
    for body in [r#"{"location":"x"}"#, r#"{"properties":{"connectivityStatus":"Connected"}}"#] {
        let got = world.operator("PATCH", &path(""), body);
        assert_eq!(got.code(), (400, "PropertyChangeNotAllowed"), "{body}");
    }
    let got = world.operator("PATCH", &path("x"), r#"{"tags":{}}"#);
    assert_eq!(got.code(), (404, "ResourceNotFound"));
}

#[test]
fn a_cluster_that_goes_is_disconnected() {
    let mut world = with_cluster();
    let entity = ResourceId::parse("edge-7").unwrap().entity();
    let got = world.operator("DELETE", &path(""), "");
    assert_eq!((got.status, got.audit()), (200, vec![("delete", "")]));
    assert_eq!(got.answer.effects, [Effect::Disconnect(entity.clone())]);
    assert!(world.ledger.registry().entity(&entity).is_none());
    assert_eq!(world.operator("DELETE", &path(""), "").status, 204);
    assert_eq!(world.operator("GET", &path(""), "").code(), (404, "ResourceNotFound"));
}

#[test]
fn lists_are_by_group_and_by_subscription_and_show_a_user_what_is_theirs() {
    let mut world = with_cluster();
    for other in ["edge-8", "berlin/edge-9"] {
        let id = ResourceId::parse(other).unwrap().id();
        assert_eq!(world.operator("PUT", &id, "{}").status, 201);
    }
    let body = format!(r#"{{"issuer":"{ENTRA}","subject":"7a0e"}}"#);
    assert_eq!(world.operator("POST", &path("/grant"), &body).status, 200);
    let group = path("").replace("/edge-7", "");
    let subscription = group.replace("/resourceGroups/default", "");
    let names = |got: &Got| -> Vec<String> {
        let all = got.body["value"].as_array().unwrap();
        all.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&world.operator("GET", &group, "")), ["edge-7", "edge-8"]);
    let all = names(&world.operator("GET", &subscription, ""));
    assert_eq!(all, ["edge-9", "edge-7", "edge-8"], "in the order of their ids");
    assert_eq!(names(&world.call(&alice(), "GET", &subscription, "")), ["edge-7"]);
    let bob = user("b", "bob", &[]);
    assert!(names(&world.call(&bob, "GET", &subscription, "")).is_empty());
}

#[test]
fn a_user_changes_nothing() {
    let mut world = with_cluster();
    let body = format!(r#"{{"issuer":"{ENTRA}","subject":"7a0e"}}"#);
    world.operator("POST", &path("/grant"), &body);
    assert_eq!(world.call(&alice(), "GET", &path(""), "").status, 200);
    let before = world.ledger.registry().clone();
    for (method, action, body) in [
        ("PUT", "", "{}"),
        ("PATCH", "", "{}"),
        ("DELETE", "", ""),
        ("POST", "/grant", &body[..]),
        ("POST", "/revoke", &body),
        ("POST", "/createJoinToken", "{}"),
        ("GET", "/roleAssignments", ""),
    ] {
        let got = world.call(&alice(), method, &path(action), body);
        assert_eq!(got.code(), (403, "AuthorizationFailed"), "{method} {action}");
        assert_eq!(got.audit().len(), 1);
    }
    assert_eq!(*world.ledger.registry(), before);
}

#[test]
fn hostile_properties_are_refused() {
    let mut world = with_cluster();
    let many: Vec<String> = (0..51).map(|n| format!("\"t{n}\":\"x\"")).collect();
    let (many, long) = (many.join(","), "x".repeat(257));
    for (body, code) in [
        (format!(r#"{{"tags":{{{many}}}}}"#), "InvalidTag"),
        (format!(r#"{{"tags":{{"a":"{long}"}}}}"#), "InvalidTag"),
        (r#"{"tags":{"a":7}}"#.to_owned(), "InvalidTag"),
        (r#"{"tags":[]}"#.to_owned(), "InvalidRequestContent"),
        (format!(r#"{{"location":"{long}"}}"#), "InvalidRequestContent"),
        (r#"{"location":"a\nb"}"#.to_owned(), "InvalidRequestContent"),
        (r#"{"properties":7}"#.to_owned(), "InvalidRequestContent"),
        (certificate("AAAA"), "InvalidCertificate"),
        (certificate("not base64"), "InvalidCertificate"),
        (certificate("MAA="), "InvalidCertificate"),
        (certificate("MAUB"), "InvalidCertificate"),
    ] {
        assert_eq!(world.operator("PUT", &path(""), &body).code(), (400, code), "{body}");
    }
    assert_eq!(world.operator("PUT", &path(""), &certificate("MAECAQ==")).status, 400);
    assert_eq!(world.operator("PUT", &path(""), &certificate("MAICAQ==")).status, 200);
}

fn certificate(text: &str) -> String {
    format!(r#"{{"properties":{{"agentPublicKeyCertificate":"{text}"}}}}"#)
}

#[test]
fn a_long_list_comes_in_pages_whatever_comes_and_goes_meanwhile() {
    let mut world = world();
    for n in 0..LIST_PAGE * 2 + 1 {
        let path = ResourceId::parse(&format!("c{n:04}")).unwrap().id();
        assert_eq!(world.operator("PUT", &path, "{}").status, 201);
    }
    let base = path("").rsplit_once('/').unwrap().0.to_owned();
    let mut next = format!("{base}?API-Version=2024-01-01");
    let (mut names, mut pages) = (Vec::new(), 0);
    loop {
        let got = world.operator("GET", &next, "");
        assert_eq!(got.status, 200);
        pages += 1;
        let all = got.body["value"].as_array().unwrap().iter();
        names.extend(all.map(|cluster| cluster["name"].as_str().unwrap().to_owned()));
        if pages == 1 {
            // The last one of this page, which the link names, one before it, and a new one.
            for gone in ["c0499", "c0001"] {
                let path = ResourceId::parse(gone).unwrap().id();
                assert_eq!(world.operator("DELETE", &path, "").status, 200);
            }
            let path = ResourceId::parse("c0000-new").unwrap().id();
            assert_eq!(world.operator("PUT", &path, "{}").status, 201);
        }
        let Some(link) = got.body["nextLink"].as_str() else { break };
        next = link.strip_prefix("https://relay.contoso.com:8443").unwrap().to_owned();
        assert!(next.contains("?api-version=2024-01-01&"), "{next}");
    }
    assert_eq!(pages, 3);
    let expected: Vec<String> = (0..LIST_PAGE * 2 + 1).map(|n| format!("c{n:04}")).collect();
    assert_eq!(names, expected, "each once, and those that were there all along are all there");
    for token in ["!", "AA==", "_w"] {
        let path = format!("{base}?api-version=2024-01-01&$skipToken={token}");
        assert_eq!(world.operator("GET", &path, "").code(), (400, "InvalidSkipToken"), "{token}");
    }
}

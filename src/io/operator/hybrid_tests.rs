use super::super::tests::{answer, relay, serve};
use super::*;

fn play(action: &Action, script: &[(&str, &str)]) -> (Result<Found, Failure>, Vec<String>) {
    let script = script.iter().map(|(status, body)| answer(status, body)).collect();
    let (url, thread) = serve(None, script);
    let result = run(&relay(url, &[]), action);
    (result, thread.join().unwrap())
}

fn whom(name: Name) -> Whom {
    Whom { name, issuer: None }
}

#[test]
fn only_what_was_said_of_a_hybrid_connection_is_sent() {
    let put = |wish| {
        let (found, requests) = play(&Action::Put("lab/hc".to_owned(), wish), &[("200 OK", "{}")]);
        assert!(matches!(found, Ok(Found::Done(_))));
        let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("PUT /subscriptions/00000000-"), "{head}");
        assert!(head.contains("/hybridConnections/lab~hc?api-version="), "{head}");
        body.to_owned()
    };
    assert_eq!(put(Wish::default()), r#"{"properties":{}}"#);
    let wish =
        Wish { http: Some(false), response: Some(Duration::from_secs(600)), ..Wish::default() };
    let expected = r#"{"properties":{"httpRequests":false,"responseTimeoutSeconds":600}}"#;
    assert_eq!(put(wish), expected);
}

#[test]
fn to_grant_twice_asks_for_the_same_assignment() {
    let grant = |at: Option<&str>, who: Name| {
        let action = Action::Grant(at.map(str::to_owned), Role::Sender, whom(who));
        let (_, requests) = play(&action, &[("201 Created", "{}")]);
        requests[0].split_once('?').unwrap().0.to_owned()
    };
    let bob = || Name::Subject("bob".to_owned());
    let first = grant(Some("lab"), bob());
    assert_eq!(first, grant(Some("lab"), bob()));
    let name = first.rsplit('/').next().unwrap();
    let lengths: Vec<usize> = name.split('-').map(str::len).collect();
    assert_eq!(lengths, [8, 4, 4, 4, 12], "{name}");
    assert_ne!(first, grant(Some("lab"), Name::Group("bob".to_owned())));
    assert!(!first.ends_with(grant(None, bob()).rsplit('/').next().unwrap()));
    let exists = r#"{"error":{"code":"RoleAssignmentExists","message":"x"}}"#;
    let action = Action::Grant(None, Role::Sender, whom(bob()));
    assert!(play(&action, &[("409 Conflict", exists)]).0.is_ok(), "made by another tool");
}

/// A role assignment as the relay lists it.
fn assignment(name: &str, principal: &str, kind: &str, role: Role, scope: &str) -> String {
    format!(
        r#"{{"name":"{name}","properties":{{"principalId":"{principal}","principalType":"{kind}",
        "issuer":"https://i","scope":"{scope}",
        "roleDefinitionId":"/subscriptions/x/providers/y/roleDefinitions/{}"}}}}"#,
        role.id()
    )
}

#[test]
fn of_what_a_list_shows_only_what_was_meant_is_revoked() {
    let here = format!("{NAMESPACE}/hybridConnections/lab");
    let all = [
        assignment("a1", "bob", "User", Role::Sender, &here),
        assignment("a2", "bob", "Group", Role::Sender, &here),
        assignment("a3", "bob", "User", Role::Listener, &here),
        assignment("a4", "bob", "User", Role::Sender, NAMESPACE),
        assignment("a5", "eve", "User", Role::Sender, &here),
    ];
    let list = format!(r#"{{"value":[{}]}}"#, all.join(","));
    let revoke = |at: Option<&str>, who: Name, issuer: Option<&str>| {
        let whom = Whom { name: who, issuer: issuer.map(str::to_owned) };
        let action = Action::Revoke(at.map(str::to_owned), Role::Sender, whom);
        play(&action, &[("200 OK", &list), ("200 OK", "{}")])
    };
    let bob = || Name::Subject("bob".to_owned());
    let deleted = |requests: &[String]| {
        assert!(requests[1].starts_with("DELETE "), "{}", requests[1]);
        requests[1].split_once('?').unwrap().0.rsplit('/').next().unwrap().to_owned()
    };
    assert_eq!(deleted(&revoke(Some("lab"), bob(), None).1), "a1");
    assert_eq!(deleted(&revoke(Some("lab"), Name::Group("bob".into()), None).1), "a2");
    assert_eq!(deleted(&revoke(None, bob(), Some("https://i")).1), "a4");
}

#[test]
fn who_has_no_role_and_names_that_are_none_are_refused() {
    let revoke = |list: &str| {
        let action = Action::Revoke(None, Role::Sender, whom(Name::Subject("bob".to_owned())));
        play(&action, &[("200 OK", list)]).0
    };
    let Err(Failure::Refused(refusal)) = revoke(r#"{"value":[]}"#) else { panic!() };
    assert_eq!((refusal.status, refusal.kind), (404, Kind::ClusterUnknown));
    let list = assignment("../../namespaces/x", "bob", "User", Role::Sender, NAMESPACE);
    let hostile = revoke(&format!(r#"{{"value":[{list}]}}"#));
    assert!(matches!(hostile, Err(Failure::Answer(_))), "{hostile:?}");
    for list in [r#"{"value":[1]}"#, r#"{"value":1}"#, "[]", "<html>"] {
        assert!(matches!(revoke(list), Err(Failure::Answer(_))), "{list}");
    }
}

#[test]
fn a_relay_cannot_write_on_the_terminal_here_either() {
    let entity = r#"{"name":"\u001b[2Jlab","properties":{"listenerCount":1,
        "userMetadata":"a\r\n\u001b]0;x\u0007"}}"#;
    let rules = r#"{"value":[{"name":"r\u001b[1m","properties":{"rights":["Lis\u001bten",7]}}]}"#;
    let roles = r#"{"value":[{"name":"n","properties":{"principalId":"\u001bbob"}}]}"#;
    let script = [("200 OK", entity), ("200 OK", rules), ("200 OK", roles)];
    let (found, _) = play(&Action::Show("lab".to_owned()), &script);
    let found = found.unwrap();
    let table = found.table().0;
    assert!(!table.contains(['\u{1b}', '\r', '\u{7}']) && table.contains("[2Jlab"), "{table:?}");
    let json: Json = serde_json::from_str(&found.json()).unwrap();
    assert_eq!(json["authorizationRules"][0]["properties"]["rights"][1], 7);
}

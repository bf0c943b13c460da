use super::*;
use crate::auth::sas::Right;
use crate::auth::{GroupState, Principal};
use crate::role::Revoked;

const NS: &str = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/default/\
                  providers/Microsoft.Relay/namespaces/contoso";
const OID: &str = "11111111-2222-3333-4444-555555555555";
const SENDER: &str = "26baccc8-eea7-41f1-98f4-1762cc7f685d";
const LISTENER: &str = "26e0b698-aa6d-4085-9386-aadae190014d";

fn assignment(scope: &str, n: u8) -> String {
    let kind = "providers/Microsoft.Authorization/roleAssignments";
    format!("{scope}/{kind}/00000000-0000-0000-0000-0000000000{n:02x}?api-version=2022-04-01")
}

fn wish(role: &str, principal: &str, more: &str) -> String {
    let definition = format!("{NS}/providers/Microsoft.Authorization/roleDefinitions/{role}");
    format!(
        r#"{{"properties":{{"roleDefinitionId":"{definition}","principalId":"{principal}"{more}}}}}"#
    )
}

fn of_entra(more: &str) -> String {
    format!(r#","issuer":"{ENTRA}"{more}"#)
}

fn principal(issuer: &str, subject: &str, groups: &[&str]) -> Principal {
    Principal {
        user: "x".into(),
        groups: groups.iter().map(|&group| group.to_owned()).collect(),
        group_state: GroupState::Complete,
        extra: Vec::new(),
        issuer: issuer.into(),
        subject: subject.into(),
        display: "x".into(),
        credential_id: String::new(),
        expires: 7,
        is_app: false,
    }
}

/// With the hybrid connections `hc` and `hc2` and the cluster edge-7.
fn with_entities() -> World {
    let mut world = with_cluster();
    for name in ["hc", "hc2"] {
        let path = format!("{NS}/hybridConnections/{name}?api-version=2021-11-01");
        assert_eq!(world.operator("PUT", &path, "{}").status, 200);
    }
    world
}

fn may(world: &World, who: &Principal, right: Right, path: &str) -> bool {
    world.ledger.registry().authorize_principal(who, path, right).is_ok()
}

#[test]
fn a_role_on_a_hybrid_connection_opens_it_and_nothing_else() {
    let mut world = with_entities();
    let path = assignment(&format!("{NS}/hybridConnections/HC"), 1);
    let got = world.operator("PUT", &path, &wish(SENDER, OID, &of_entra("")));
    assert_eq!(got.status, 201, "{}", got.body);
    assert_eq!(got.body["properties"]["principalId"], OID);
    assert_eq!(got.audit(), [("role-put", "")]);
    let bob = principal(ENTRA, &format!("tenant/{OID}"), &[]);
    assert!(may(&world, &bob, Right::Send, "hc/suffix"));
    assert!(!may(&world, &bob, Right::Listen, "hc"));
    assert!(!may(&world, &bob, Right::Send, "hc2"));
    assert!(!may(&world, &bob, Right::Send, "nowhere"));
    assert!(!may(&world, &principal(GITHUB, &format!("tenant/{OID}"), &[]), Right::Send, "hc"));
    assert!(!may(&world, &principal(ENTRA, OID, &[]), Right::Send, "hc"), "another tenant's");
    let got = world.operator("DELETE", &path, "");
    assert_eq!((got.status, got.audit()), (200, vec![("role-delete", "")]));
    let name = got.body["name"].as_str().unwrap().to_owned();
    assert_eq!(got.answer.effects[0].clone().revoked(), Revoked::Bearer(name));
    assert!(!may(&world, &bob, Right::Send, "hc"));
    assert_eq!(world.operator("DELETE", &path, "").status, 204);
    assert_eq!(world.operator("GET", &path, "").code(), (404, "RoleAssignmentNotFound"));
}

#[test]
fn a_role_on_everything_does_not_reach_clusters() {
    let mut world = with_entities();
    let scope = "/subscriptions/00000000-0000-0000-0000-000000000000";
    let owner = "2787bf04-f1f5-4bfe-8383-c8a24483ee38";
    let more = of_entra(r#","principalType":"Group""#);
    let got = world.operator("PUT", &assignment(scope, 1), &wish(owner, "ops", &more));
    assert_eq!(got.status, 201, "{}", got.body);
    let bob = principal(ENTRA, "7", &["ops"]);
    let cluster = ResourceId::parse("edge-7").unwrap().entity();
    for right in [Right::Listen, Right::Send] {
        assert!(may(&world, &bob, right, "hc") && may(&world, &bob, right, "hc2"));
        assert!(may(&world, &bob, right, "nowhere"), "so that the answer is 404");
        assert!(!may(&world, &bob, right, &cluster));
    }
    let at_cluster = format!("{NS}/hybridConnections/{}", cluster.replace('/', "~"));
    let got =
        world.operator("PUT", &assignment(&at_cluster, 2), &wish(owner, "eve", &of_entra("")));
    assert_eq!(got.code(), (403, "AuthorizationFailed"));
}

#[test]
fn a_hybrid_connection_that_is_removed_takes_its_roles_along() {
    let mut world = with_entities();
    let entity = format!("{NS}/hybridConnections/hc");
    let body = wish(LISTENER, "repo:x", &format!(r#","issuer":"{GITHUB}""#));
    assert_eq!(world.operator("PUT", &assignment(&entity, 1), &body).status, 201);
    let runner = principal(GITHUB, "repo:x", &[]);
    assert!(may(&world, &runner, Right::Listen, "hc"));
    let path = format!("{entity}?api-version=2021-11-01");
    assert_eq!(world.operator("DELETE", &path, "").status, 200);
    assert_eq!(world.operator("PUT", &path, "{}").status, 200);
    assert!(!may(&world, &runner, Right::Listen, "hc"));
    let missing = format!("{NS}/hybridConnections/nowhere");
    let got = world.operator("PUT", &assignment(&missing, 2), &body);
    assert_eq!(got.code(), (404, "ResourceNotFound"));
}

#[test]
fn lists_show_what_was_asked_for() {
    let mut world = with_entities();
    let (hc, hc2) = (format!("{NS}/hybridConnections/hc"), format!("{NS}/hybridConnections/hc2"));
    for (n, scope, who) in [(1, NS, "a"), (2, &hc, "b"), (3, &hc2, "b")] {
        let body = wish(SENDER, who, &of_entra(""));
        assert_eq!(world.operator("PUT", &assignment(scope, n), &body).status, 201);
    }
    let mut names = |scope: &str, filter: &str| {
        let kind = "providers/Microsoft.Authorization/roleAssignments";
        let path = format!("{scope}/{kind}?api-version=2022-04-01{filter}");
        let got = world.operator("GET", &path, "");
        let all = got.body["value"].as_array().map(Vec::len);
        (got.status, all.unwrap_or_default())
    };
    assert_eq!(names(NS, ""), (200, 3));
    assert_eq!(names(NS, "&$filter=atScope()"), (200, 1));
    assert_eq!(names(&hc, ""), (200, 2));
    assert_eq!(names(&hc, "&$filter=principalId+eq+'B'"), (200, 1));
    assert_eq!(names(NS, "&$filter=assignedTo('b')"), (200, 2));
    assert_eq!(names(NS, "&$filter=principalId+gt+'b'"), (400, 0));
    let kind = "providers/Microsoft.Authorization/roleDefinitions";
    let path =
        format!("{NS}/{kind}?api-version=2022-04-01&$filter=roleName+eq+'azure relay sender'");
    let got = world.operator("GET", &path, "");
    assert_eq!(got.body["value"][0]["name"], SENDER);
    assert_eq!(got.body["value"].as_array().unwrap().len(), 1);
}

#[test]
fn hostile_roles_are_refused() {
    let mut world = with_entities();
    let good = wish(SENDER, "a", &of_entra(""));
    let path = assignment(NS, 1);
    for (path, body, code) in [
        (
            path.clone(),
            wish("b24988ac-6180-42a0-ab88-20f7382dd24c", "a", ""),
            "RoleDefinitionDoesNotExist",
        ),
        (path.clone(), wish(SENDER, "a", ""), "IssuerRequired"),
        (path.clone(), wish(SENDER, "a", r#","issuer":"https://evil""#), "IssuerUnknown"),
        (path.clone(), wish(SENDER, "", &of_entra("")), "InvalidRequestContent"),
        (path.clone(), wish(SENDER, &"a".repeat(513), &of_entra("")), "InvalidRequestContent"),
        (
            path.clone(),
            wish(SENDER, "a", &of_entra(r#","principalType":"Everyone""#)),
            "InvalidRequestContent",
        ),
        (
            path.clone(),
            wish(SENDER, "a", &of_entra(r#","condition":"@Resource""#)),
            "UnsupportedCondition",
        ),
        (path.clone(), "{}".into(), "InvalidRequestContent"),
        (
            path.replace("00000000-0000-0000-0000-000000000001", "mine"),
            good.clone(),
            "InvalidRoleAssignmentId",
        ),
        (
            path.replace("namespaces/contoso", "namespaces/contoso/authorizationRules/r"),
            good.clone(),
            "NotFound",
        ),
        (
            path.replace("Microsoft.Relay/namespaces", "Microsoft.Compute/virtualMachines"),
            good.clone(),
            "NotFound",
        ),
        (path.replace("/roleAssignments", "/denyAssignments"), good.clone(), "NotFound"),
        (path.replace("2022-04-01", "2014-01-01"), good.clone(), "InvalidApiVersionParameter"),
    ] {
        let got = world.operator("PUT", &path, &body);
        assert_eq!(got.code().1, code, "{path} {body}");
        assert!(got.answer.changes.is_empty());
    }
    assert_eq!(world.operator("PUT", &path, &good).status, 201);
    let again = world.operator("PUT", &path, &good);
    assert!(again.status == 201 && again.answer.changes.is_empty());
    let twin = world.operator("PUT", &assignment(NS, 2), &good);
    assert_eq!(twin.code(), (409, "RoleAssignmentExists"));
    let other = world.operator("PUT", &path, &wish(LISTENER, "a", &of_entra("")));
    assert_eq!(other.code(), (409, "RoleAssignmentUpdateNotPermitted"));
    for method in ["GET", "PUT", "DELETE"] {
        assert_eq!(world.call(&alice(), method, &path, &good).status, 403);
        assert_eq!(world.call(&Caller::Nobody, method, &path, &good).status, 401);
    }
}

use super::super::super::testing::{GROUP, OID, entra};
use super::*;

fn caller() -> Principal {
    entra(&json!({})).expect("accepted")
}

fn read(fields: &[(&str, &str)]) -> Result<Impersonation, Denied> {
    Impersonation::read(fields.iter().copied())
}

fn bodies(fields: &[(&str, &str)]) -> Vec<Json> {
    let other = read(fields).expect("readable");
    let bodies = access_reviews(&caller(), &other).expect("few");
    bodies.iter().map(|body| serde_json::from_slice(body).expect("JSON")).collect()
}

#[test]
fn each_attribute_is_a_question_about_the_whole_caller() {
    let bodies = bodies(&[
        ("Impersonate-User", "bob"),
        ("Impersonate-Group", "dev, ops"),
        ("Impersonate-Group", AUTHENTICATED),
        ("Impersonate-Uid", "u-1"),
        ("Impersonate-Extra-example.com%2FScopes", "read"),
    ]);
    let attributes: Vec<_> =
        bodies.iter().map(|body| body["spec"]["resourceAttributes"].clone()).collect();
    let group = "authentication.k8s.io";
    assert_eq!(
        attributes,
        [
            json!({"verb": "impersonate", "resource": "users", "name": "bob"}),
            json!({"verb": "impersonate", "resource": "groups", "name": "dev, ops"}),
            json!({"verb": "impersonate", "group": group, "version": "v1", "resource": "uids", "name": "u-1"}),
            json!({
                "verb": "impersonate", "group": group, "version": "v1", "resource": "userextras",
                "subresource": "example.com/scopes", "name": "read",
            }),
        ]
    );
    for body in bodies {
        assert_eq!(body["kind"], "SubjectAccessReview");
        assert_eq!(body["spec"]["user"], "ana@contoso.example");
        assert_eq!(body["spec"]["groups"], json!([GROUP, AUTHENTICATED]));
        assert_eq!(body["spec"]["extra"], json!({"oid": [OID]}));
    }
}

#[test]
fn a_service_account_is_asked_for_in_its_namespace() {
    let bodies = bodies(&[("impersonate-user", "system:serviceaccount:build:runner")]);
    assert_eq!(
        bodies[0]["spec"]["resourceAttributes"],
        json!({
            "verb": "impersonate", "resource": "serviceaccounts", "namespace": "build",
            "name": "runner",
        })
    );
}

#[test]
fn what_is_sent_names_both_and_the_original_cannot_be_forged() {
    let other = read(&[("Impersonate-User", "bob"), ("Impersonate-Group", "dev")]).expect("ok");
    let caller = caller();
    let fields = other.fields(&caller, Verbs::Legacy, None).expect("fields");
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let original = format!(
        r#"{{"extra":{{"oid":["{OID}"]}},"groups":["{GROUP}"],"username":"ana@contoso.example"}}"#
    );
    assert_eq!(
        fields[..4],
        [
            "Impersonate-User: bob".to_owned(),
            "Impersonate-Group: system:authenticated".to_owned(),
            "Impersonate-Group: dev".to_owned(),
            format!("Impersonate-Extra-original-user-info.cluster-connect.internal: {original}"),
        ]
    );
    for key in [
        "original-user-info.cluster-connect.internal",
        "cluster-connect.internal%2Fcredential-id",
        "CLUSTER-connect.internal/x",
        "a.cluster-connect.internal%2fx",
        "cluster-connect.internal",
    ] {
        let name = format!("Impersonate-Extra-{key}");
        assert!(read(&[("Impersonate-User", "bob"), (&name, "x")]).is_err(), "{key}");
    }
}

#[test]
fn a_service_account_without_groups_keeps_those_it_has() {
    let other = read(&[("Impersonate-User", "system:serviceaccount:build:runner")]).expect("ok");
    let caller = caller();
    let fields = other.fields(&caller, Verbs::Legacy, None).expect("fields");
    let groups: Vec<_> = fields
        .iter()
        .filter_map(|(name, value)| (name == "Impersonate-Group").then_some(&**value))
        .collect();
    let expected = [AUTHENTICATED, "system:serviceaccounts", "system:serviceaccounts:build"];
    assert_eq!(groups, expected);
}

#[test]
fn what_may_not_be_impersonated_is_refused_before_anybody_is_asked() {
    let bob = ("Impersonate-User", "bob");
    for fields in [
        vec![],
        vec![("Impersonate-Group", "dev")],
        vec![("Impersonate-User", "")],
        vec![bob, bob],
        vec![bob, ("Impersonate-User", "")],
        vec![("Impersonate-User", "system:admin")],
        vec![("Impersonate-User", "system:anonymous")],
        vec![("Impersonate-User", "system:node:a")],
        vec![("Impersonate-User", "system:serviceaccount:a:b:c")],
        vec![("Impersonate-User", "a\r\nb")],
        vec![bob, ("Impersonate-Group", "system:masters")],
        vec![bob, ("Impersonate-Group", "System:Masters")],
        vec![bob, ("Impersonate-Group", "")],
        vec![bob, ("Impersonate-Uid", "1"), ("Impersonate-Uid", "2")],
        vec![bob, ("Impersonate-Extra-", "x")],
        vec![bob, ("Impersonate-Extra-a%zz", "x")],
        vec![bob, ("Impersonate-Extra-a", "")],
        vec![bob, ("Impersonate_Group", "dev")],
        vec![bob, ("Impersonate-Something", "x")],
        vec![bob, ("Impersonate", "x")],
    ] {
        let denied = read(&fields).expect_err("refused");
        assert_eq!((denied.kind(), denied.status()), (Reason::ImpersonationDenied, 403));
    }
}

#[test]
fn a_request_costs_a_bounded_number_of_questions() {
    let groups: Vec<_> = (0..REVIEWS).map(|n| format!("g{n}")).collect();
    let mut fields = vec![("Impersonate-User", "bob")];
    fields.extend(groups.iter().map(|group| ("Impersonate-Group", group.as_str())));
    let many = read(&fields).expect("readable");
    assert!(access_reviews(&caller(), &many).is_err());
    fields.pop();
    let enough = read(&fields).expect("readable");
    assert_eq!(access_reviews(&caller(), &enough).expect("few").len(), REVIEWS);
    let unknown = Principal { group_state: GroupState::Unresolved, ..caller() };
    assert!(access_reviews(&unknown, &enough).is_err());
}

#[test]
fn only_a_clear_yes_is_a_yes() {
    let answer = |status: Json| {
        let answer = json!({"kind": "SubjectAccessReview", "status": status});
        read_access_review(answer.to_string().as_bytes())
    };
    assert_eq!(answer(json!({"allowed": true, "reason": "RBAC"})), Ok(()));
    for status in [
        json!({}),
        json!({"allowed": false}),
        json!({"allowed": false, "denied": true, "reason": "no"}),
        json!({"allowed": true, "denied": true}),
    ] {
        assert_eq!(answer(status).expect_err("no").kind(), Reason::ImpersonationDenied);
    }
    for status in [json!({"allowed": "true"}), json!({"allowed": 1}), json!(null), json!([])] {
        assert_eq!(answer(status).expect_err("no").kind(), Reason::Review);
    }
    assert!(read_access_review(br#"{"kind":"Status"}"#).is_err());
}

use serde_json::json;

use super::super::testing::{GROUP, OID, entra, oidc};
use super::*;

fn principal() -> Principal {
    entra(&json!({})).expect("accepted")
}

fn texts(fields: &[Field<'_>]) -> Vec<String> {
    fields.iter().map(|(name, value)| format!("{name}: {value}")).collect()
}

#[test]
fn the_fields_come_in_a_fixed_order() {
    let principal = principal();
    let id = &principal.credential_id;
    assert_eq!(
        texts(&fields(&principal, Some("192.0.2.7")).expect("fields")),
        [
            "Impersonate-User: ana@contoso.example".to_owned(),
            "Impersonate-Group: system:authenticated".to_owned(),
            format!("Impersonate-Group: {GROUP}"),
            format!("Impersonate-Extra-oid: {OID}"),
            format!("Impersonate-Extra-cluster-connect.internal%2Fcredential-id: {id}"),
            "Impersonate-Extra-cluster-connect.internal%2Fremote-ip: 192.0.2.7".to_owned(),
        ]
    );
}

#[test]
fn every_group_has_a_field_of_its_own() {
    let principal = oidc(&json!({"groups": ["a, b", "c"]})).expect("accepted");
    let texts = texts(&fields(&principal, None).expect("fields"));
    assert_eq!(
        texts[1..4],
        [
            "Impersonate-Group: system:authenticated",
            "Impersonate-Group: a, b",
            "Impersonate-Group: c",
        ]
    );
    assert_eq!(texts.len(), 5, "no address is sent that is not known");
}

#[test]
fn keys_are_escaped_as_client_go_does_it() {
    let name = |key| extra_field(key, "v").expect("a field").0.into_owned();
    assert_eq!(name("oid"), "Impersonate-Extra-oid");
    assert_eq!(name("example.com/a%b c=d"), "Impersonate-Extra-example.com%2Fa%25b%20c%3Dd");
    assert_eq!(name("a_b~c|d"), "Impersonate-Extra-a_b~c|d");
}

#[test]
fn a_principal_that_cannot_be_sent_refuses_the_whole_request() {
    let denied = |change: &dyn Fn(&mut Principal)| {
        let mut principal = principal();
        change(&mut principal);
        fields(&principal, None).expect_err("refused").kind()
    };
    for user in ["", " ", " a", "a\r\nImpersonate-Group: system:masters", "a\0", "\u{202e}a"] {
        assert_eq!(denied(&|one| one.user = user.to_owned()), Reason::Name, "{user:?}");
        assert_eq!(denied(&|one| one.groups.push(user.to_owned())), Reason::Name, "{user:?}");
        let extra = ("oid".to_owned(), user.to_owned());
        assert_eq!(denied(&|one| one.extra.push(extra.clone())), Reason::Name, "{user:?}");
        let extra = (user.to_owned(), "x".to_owned());
        assert_eq!(denied(&|one| one.extra.push(extra.clone())), Reason::Name, "{user:?}");
    }
    for name in ["system:admin", "System:masters", AUTHENTICATED] {
        assert_eq!(denied(&|one| one.user = name.to_owned()), Reason::ReservedName);
        assert_eq!(denied(&|one| one.groups.push(name.to_owned())), Reason::ReservedName);
    }
    let many = vec!["g".to_owned(); 257];
    assert_eq!(denied(&|one| one.groups.clone_from(&many)), Reason::TooManyGroups);
    assert_eq!(denied(&|one| one.group_state = GroupState::Unresolved), Reason::Overage);
    let upper = ("Oid".to_owned(), "x".to_owned());
    assert_eq!(denied(&|one| one.extra.push(upper.clone())), Reason::Name);
    assert!(fields(&principal(), Some("192.0.2.7\r\nx: y")).is_err());
}

fn check_head(lines: &[(&str, &str)], road: Road) -> Result<(), BadHead> {
    check_finished_head(lines.iter().map(|&(name, value)| (name, value.as_bytes())), road)
}

const TOKEN: (&str, &str) = ("authorization", "Bearer t");
const USER: (&str, &str) = ("Impersonate-User", "ana");
const GROUPS: (&str, &str) = ("impersonate-group", AUTHENTICATED);

#[test]
fn a_finished_head_has_one_credential_one_user_and_the_group() {
    assert_eq!(check_head(&[("Host", "k"), TOKEN, USER, GROUPS], Road::Bearer), Ok(()));
    assert_eq!(check_head(&[USER, GROUPS], Road::Certificate), Ok(()));
    assert_eq!(check_head(&[TOKEN], Road::Passthrough), Ok(()));
    let alice = principal();
    let principal = fields(&alice, None).expect("fields");
    let own = principal.iter().map(|(name, value)| (name.as_ref(), value.as_bytes()));
    let with_token = own.chain([(TOKEN.0, TOKEN.1.as_bytes())]);
    assert_eq!(check_finished_head(with_token, Road::Bearer), Ok(()));
}

#[test]
fn an_unfinished_head_is_noticed() {
    let cases: [(&[(&str, &str)], BadHead); 11] = [
        (&[USER, GROUPS], BadHead::Credentials(0)),
        (&[TOKEN, TOKEN, USER, GROUPS], BadHead::Credentials(2)),
        (&[TOKEN, GROUPS], BadHead::Users(0)),
        (&[TOKEN, USER, USER, GROUPS], BadHead::Users(2)),
        (&[TOKEN, USER, ("IMPERSONATE-USER", "b"), GROUPS], BadHead::Users(2)),
        (&[TOKEN, ("Impersonate_User", "ana"), GROUPS], BadHead::Users(0)),
        (&[TOKEN, ("Impersonate-User", ""), GROUPS], BadHead::User),
        (&[TOKEN, ("Impersonate-User", " "), GROUPS], BadHead::User),
        (&[TOKEN, USER], BadHead::NotAuthenticated),
        (&[TOKEN, USER, GROUPS, ("X-Remote-User", "root")], BadHead::Identity),
        (&[TOKEN, USER, GROUPS, ("Accept", "a\r\nb")], BadHead::Control),
    ];
    for (lines, expected) in cases {
        assert_eq!(check_head(lines, Road::Bearer), Err(expected), "{lines:?}");
    }
    assert_eq!(check_head(&[TOKEN, USER, GROUPS], Road::Certificate), Err(BadHead::Credentials(1)));
    assert_eq!(check_head(&[], Road::Passthrough), Err(BadHead::Credentials(0)));
}

//! Identity exactly as kube-apiserver has it, fail-open faults included.

use std::time::Duration;

use serde_json::{Value, json};

use super::kubectl::since;
use super::raw::Response;
use super::trial::{Absent, Trial, trial};
use super::{admin, client, demo, server};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(a_client_certificate_beats_a_bearer_token),
        trial(a_bearer_token_names_its_user_and_an_unknown_one_is_refused),
        trial(nobody_is_anonymous_and_may_read_the_version_only),
        trial(an_absent_empty_or_blank_user_is_no_impersonation_at_all),
        trial(the_first_of_several_users_wins),
        trial(a_group_extra_or_uid_without_a_user_is_a_bad_request),
        trial(every_group_counts_commas_are_text_and_extra_keys_are_decoded),
        trial(groups_are_completed_as_kube_apiserver_completes_them),
        trial(an_account_impersonates_only_what_it_may),
        trial(an_impersonated_user_has_his_own_rights_and_no_others),
        trial(a_token_may_come_as_a_websocket_subprotocol),
        trial(audit_tells_the_account_the_user_the_claimed_addresses_and_the_id),
    ]
}

const SELF: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

fn whoami(server: &demo::Server, fields: &str) -> Response {
    client(server).call("POST", SELF, fields, "{}")
}

fn user(response: &Response) -> Value {
    assert_eq!(response.code, 201, "{}", response.text());
    response.json().pointer("/status/userInfo").cloned().expect("a user")
}

fn static_token(token: &str, user: &str, groups: &[&str]) -> demo::Server {
    let groups = groups.iter().map(ToString::to_string).collect();
    let tokens = vec![(token.into(), user.into(), groups)];
    demo::Server::start(demo::Options { tokens, ..demo::Options::default() }).expect("starts")
}

fn a_client_certificate_beats_a_bearer_token() -> Result<(), Absent> {
    let kubectl = since(27)?[0];
    let server = static_token("alices-token", "alice", &[]);
    let kubectl = kubectl.with(&server.kubeconfig_admin().expect("a kubeconfig"));
    let me = kubectl.output(&["auth", "whoami", "-o", "json", "--token", "alices-token"]);
    assert!(me.contains("system:admin") && !me.contains("alice"), "{me}");
    let me = kubectl.output(&["auth", "whoami", "-o", "json", "--token", "no-such-token"]);
    assert!(me.contains("system:admin"), "{me}");
    Ok(())
}

fn a_bearer_token_names_its_user_and_an_unknown_one_is_refused() {
    let server = static_token("alices-token", "alice", &["people"]);
    let me = user(&whoami(&server, "Authorization: Bearer alices-token\r\n"));
    assert_eq!(me, json!({ "username": "alice", "groups": ["people", "system:authenticated"] }));
    assert_eq!(whoami(&server, "Authorization: Bearer other\r\n").code, 401);
    // The first field and its second word count, whatever follows.
    let me =
        whoami(&server, "Authorization: bearer alices-token more\r\nAuthorization: Bearer x\r\n");
    assert_eq!(user(&me)["username"], "alice");
}

fn nobody_is_anonymous_and_may_read_the_version_only() {
    let server = server();
    for fields in ["", "Authorization: Basic YTpi\r\n", "Authorization: Bearer\r\n"] {
        assert_eq!(client(&server).get("/version", fields).code, 200);
        let refused = client(&server).get("/api/v1/namespaces", fields);
        assert_eq!(refused.code, 403);
        let message = "namespaces is forbidden: User \"system:anonymous\" cannot list resource \
                       \"namespaces\" in API group \"\" at the cluster scope";
        assert_eq!(refused.json()["message"], message);
    }
}

fn an_absent_empty_or_blank_user_is_no_impersonation_at_all() {
    let server = server();
    for fields in ["", "Impersonate-User:\r\n", "Impersonate-User: \t \r\n"] {
        let me = user(&whoami(&server, &format!("{}{fields}", admin(&server))));
        assert_eq!(me["username"], "demo-admin", "{fields:?}");
    }
}

fn the_first_of_several_users_wins() {
    let server = server();
    let fields = "Impersonate-User: alice\r\nImpersonate-User: bob\r\n";
    let me = user(&whoami(&server, &format!("{}{fields}", admin(&server))));
    assert_eq!(me["username"], "alice");
}

fn a_group_extra_or_uid_without_a_user_is_a_bad_request() {
    let server = server();
    for fields in [
        "Impersonate-Group: people\r\n",
        "Impersonate-User:\r\nImpersonate-Group: system:authenticated\r\n",
        "Impersonate-Extra-Oid: x\r\n",
        "Impersonate-Uid: x\r\n",
    ] {
        let answer = whoami(&server, &format!("{}{fields}", admin(&server)));
        assert_eq!(
            (answer.code, answer.json()["kind"].as_str()),
            (400, Some("Status")),
            "{fields}"
        );
    }
}

fn every_group_counts_commas_are_text_and_extra_keys_are_decoded() {
    let server = server();
    let fields = "impersonate-user: alice\r\nImpersonate-Group: a,b\r\nImpersonate-Group: c\r\n\
                  Impersonate-Extra-OID: 1\r\nImpersonate-Extra-Oid: 2\r\n\
                  Impersonate-Extra-Example.com%2fKey: Value\r\nImpersonate-Uid: u1\r\n";
    let me = user(&whoami(&server, &format!("{}{fields}", admin(&server))));
    assert_eq!(
        me,
        json!({
            "username": "alice",
            "uid": "u1",
            "groups": ["a,b", "c", "system:authenticated"],
            "extra": { "oid": ["1", "2"], "example.com/key": ["Value"] },
        })
    );
}

fn groups_are_completed_as_kube_apiserver_completes_them() {
    let server = server();
    for (fields, groups) in [
        ("Impersonate-User: a\r\n", json!(["system:authenticated"])),
        (
            "Impersonate-User: a\r\nImpersonate-Group: system:authenticated\r\n",
            json!(["system:authenticated"]),
        ),
        (
            "Impersonate-User: a\r\nImpersonate-Group: system:unauthenticated\r\n",
            json!(["system:unauthenticated"]),
        ),
        ("Impersonate-User: system:anonymous\r\n", json!(["system:unauthenticated"])),
        (
            "Impersonate-User: system:serviceaccount:demo:robot\r\n",
            json!([
                "system:serviceaccounts",
                "system:serviceaccounts:demo",
                "system:authenticated"
            ]),
        ),
        (
            "Impersonate-User: system:serviceaccount:demo:robot\r\nImpersonate-Group: g\r\n",
            json!(["g", "system:authenticated"]),
        ),
    ] {
        // Not all of these users may ask who they are, so the audit log is asked.
        let id = format!("groups-{fields}").replace(['\r', '\n', ' ', ':'], "-");
        let extra = format!("{}Audit-ID: {id}\r\n{fields}", admin(&server));
        whoami(&server, &extra);
        let event = server.audit().into_iter().find(|event| event["auditID"] == json!(id));
        let event = event.expect("an audit event");
        assert_eq!(event.pointer("/impersonatedUser/groups"), Some(&groups), "{fields}");
    }
}

fn an_account_impersonates_only_what_it_may() {
    let server = static_token("proxys-token", "proxy", &[]);
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": "impersonator" },
        "rules": [
            { "verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"] },
            { "verbs": ["impersonate"], "apiGroups": [""], "resources": ["groups"],
              "resourceNames": ["people", "system:authenticated"] },
            { "verbs": ["impersonate"], "apiGroups": ["authentication.k8s.io"],
              "resources": ["userextras/oid"] },
        ],
    });
    assert!(server.add("rbac.authorization.k8s.io", "v1", "clusterroles", role));
    server.bind("proxy", "impersonator", "User", &["proxy"]);
    let code = |fields: &str| {
        whoami(&server, &format!("Authorization: Bearer proxys-token\r\n{fields}")).code
    };
    assert_eq!(code("Impersonate-User: alice\r\nImpersonate-Group: people\r\n"), 201);
    assert_eq!(code("Impersonate-User: alice\r\nImpersonate-Extra-Oid: any\r\n"), 201);
    for refused in [
        "Impersonate-User: alice\r\nImpersonate-Group: system:masters\r\n",
        "Impersonate-User: alice\r\nImpersonate-Group: people\r\nImpersonate-Group: others\r\n",
        "Impersonate-User: alice\r\nImpersonate-Extra-Other: any\r\n",
        "Impersonate-User: alice\r\nImpersonate-Uid: any\r\n",
        "Impersonate-User: system:serviceaccount:kube-system:default\r\n",
    ] {
        assert_eq!(code(refused), 403, "{refused}");
    }
    let refused = whoami(
        &server,
        "Authorization: Bearer proxys-token\r\nImpersonate-User: a\r\nImpersonate-Group: no\r\n",
    );
    let message = "groups \"no\" is forbidden: User \"proxy\" cannot impersonate resource \
                   \"groups\" in API group \"\" at the cluster scope";
    assert_eq!(refused.json()["message"], message);
}

fn an_impersonated_user_has_his_own_rights_and_no_others() {
    let server = server();
    server.bind("alice-views", "view", "User", &["alice"]);
    let mut client = client(&server);
    let fields = format!("{}Impersonate-User: alice\r\n", admin(&server));
    assert_eq!(client.get("/api/v1/namespaces/default/pods", &fields).code, 200);
    assert_eq!(client.get("/api/v1/namespaces/default/secrets", &fields).code, 403);
}

fn a_token_may_come_as_a_websocket_subprotocol() {
    let server = server();
    let token = base64::Engine::encode(
        &base64::engine::general_purpose::URL_SAFE_NO_PAD,
        server.admin_token(),
    );
    let upgrade = |protocols: &str| {
        let mut client = client(&server);
        client.send(format!(
            "GET /api/v1/namespaces/default/pods/web/exec?command=true&stdout=1 HTTP/1.1\r\n\
             Host: kubernetes\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: {protocols}\r\n\r\n"
        ));
        client.head()
    };
    let credential = format!("base64url.bearer.authorization.k8s.io.{token}");
    let (code, head) = upgrade(&format!("{credential}, v4.channel.k8s.io"));
    assert_eq!(code, 101);
    assert!(!head.contains("bearer"), "{head}");
    assert_eq!(upgrade(&credential).0, 403);
}

fn audit_tells_the_account_the_user_the_claimed_addresses_and_the_id() {
    let server = server();
    let fields = format!(
        "{}Impersonate-User: alice\r\nAudit-ID: the-callers-own\r\nX-Forwarded-For: 1.2.3.4, 5.6.7.8\r\n\
         X-Remote-User: system:admin\r\n",
        admin(&server)
    );
    let answer = client(&server).get("/api/v1/namespaces/default/secrets/s?x=y", &fields);
    assert_eq!(answer.code, 403);
    assert_eq!(answer.field("audit-id").as_deref(), Some("the-callers-own"));
    let event = server
        .audit_event(Duration::from_secs(30), |event| event["auditID"] == "the-callers-own")
        .expect("an audit event");
    assert_eq!(event.pointer("/user/username"), Some(&json!("demo-admin")));
    assert_eq!(event.pointer("/impersonatedUser/username"), Some(&json!("alice")));
    assert_eq!(event["sourceIPs"], json!(["1.2.3.4", "5.6.7.8", "127.0.0.1"]));
    assert_eq!(event["verb"], "get");
    assert_eq!(event["requestURI"], "/api/v1/namespaces/default/secrets/s?x=y");
    assert_eq!(event.pointer("/objectRef/resource"), Some(&json!("secrets")));
    assert_eq!(event.pointer("/responseStatus/code"), Some(&json!(403)));
}

//! More holes that others have had: spellings, targets, issuers, and paths that the API server sends
//! on.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::Must::{DropFrom, Refuse};
use crate::gate::Gate;
use crate::sim::EPOCH;
use crate::{Hole, check, fields, good, raw};

#[test]
fn cve_2026_33433_traefik_a_name_of_another_spelling_is_not_a_second_identity() {
    let words = &["mallory", "system:masters"];
    check(&[
        fields("x-remote-user: mallory\r\n", DropFrom(words)),
        fields("X-REMOTE-GROUP: system:masters\r\n", DropFrom(words)),
        fields("x-rEMOTE-eXTRA-sCOPES: mallory\r\n", DropFrom(words)),
        fields("aUDIT-iD: mallory\r\n", DropFrom(words)),
        fields("impersonate-user: mallory\r\n", Refuse("403")),
        fields("authorization: Bearer mallory\r\n", Refuse("400")),
    ]);
}

#[test]
fn cve_2026_39858_traefik_an_alias_with_underscores_is_dropped_with_what_it_stands_for() {
    let words = &["mallory", "system:masters", "attacker"];
    check(&[
        fields("X_Forwarded_Proto: attacker\r\n", DropFrom(words)),
        fields("X_Forwarded_For: attacker\r\nX-Forwarded_Host: attacker\r\n", DropFrom(words)),
        fields("X_Forwarded_User: mallory\r\n", DropFrom(words)),
        fields("X_Real_Ip: attacker\r\n", DropFrom(words)),
        fields("X_Remote_User: mallory\r\nX-Remote_Group: system:masters\r\n", DropFrom(words)),
        fields("Impersonate_User: mallory\r\n", Refuse("403")),
        fields("Impersonate-Extra_Scopes: mallory\r\n", Refuse("403")),
        fields("Impersonate.User: mallory\r\n", Refuse("403")),
    ]);
}

#[test]
fn cve_2026_41059_oauth2_proxy_no_part_of_a_target_opens_a_door_without_a_token() {
    let bare =
        |target: &str| raw(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"), Refuse("401"));
    check(&[
        bare("/healthz"),
        bare("/readyz?verbose"),
        bare("/api/v1/secrets?x=/healthz"),
        bare("/healthz/../api/v1/secrets"),
        bare("/api/v1/secrets;/healthz"),
        bare("/api/v1/secrets%3f/healthz"),
        raw("GET /healthz#/api HTTP/1.1\r\nHost: x\r\n\r\n", Refuse("400")),
        raw("GET /api/v1/secrets#/healthz HTTP/1.1\r\nHost: x\r\n\r\n", Refuse("400")),
    ]);
}

#[test]
fn cve_2021_21378_envoy_a_token_of_an_issuer_nobody_named_is_not_as_good_as_none_or_any() {
    // There the requirement "any of these issuers" let a token through that none of them had made.
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let header = part(r#"{"alg":"ES256","kid":"k"}"#);
    let token = |claims: &str| format!("{header}.{}.{}", part(claims), part("signature"));
    let claims = |issuer: &str| {
        format!(
            r#"{{"iss":{issuer},"sub":"mallory","aud":"cluster","iat":{EPOCH},"exp":{}}}"#,
            EPOCH + 60
        )
    };
    let with = |token: &str| {
        let head = "GET /api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ";
        (format!("{head}{token}\r\n\r\n"), Refuse("401"))
    };
    let issuers = [
        r#""https://nobody.test""#,
        r#""""#,
        "null",
        r#"["https://issuer.test"]"#,
        r#""https://issuer.test/""#,
    ];
    let mut holes: Vec<Hole> = issuers.iter().map(|it| with(&token(&claims(it)))).collect();
    let nameless = claims(r#""x""#).replace(r#""iss":"x","#, "");
    holes.push(with(&token(&nameless)));
    check(&holes);
}

#[test]
fn cve_2022_3294_and_cve_2022_3172_kubernetes_a_proxied_path_is_judged_and_written_down_as_it_is() {
    // Where a request ends is the API server's to decide (nodes, aggregated servers). What is ours:
    // it goes as the caller, to the one server there is, with its path untouched, and a redirect
    // that comes back is passed on and not followed.
    for target in [
        "/api/v1/nodes/https:attacker.test:443/proxy/",
        "/api/v1/nodes/edge-7:10250/proxy/exec/default/web/c?command=id",
        "/apis/evil.test/v1/things",
        "/api/v1/namespaces/default/services/https:web:443/proxy/%2e%2e/x",
    ] {
        let mut gate = Gate::new(|_| ());
        let head =
            format!("GET {target} HTTP/1.1\r\nHost: attacker.test\r\nAuthorization: Bearer ");
        let stream = gate.ask(&format!("{head}{}\r\n\r\n", good()));
        let (conn, place, up) = gate.upstream();
        assert_eq!(place, "ours");
        assert!(up.starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{up}");
        assert!(
            up.contains("Host: apiserver.test\r\n") && !up.contains("attacker.test\r\n"),
            "{up}"
        );
        assert!(up.contains("Impersonate-User: alice\r\n"), "{up}");
        let redirect =
            "HTTP/1.1 302 Found\r\nLocation: https://attacker.test/\r\nContent-Length: 0\r\n\r\n";
        gate.reply(conn, redirect);
        let answer = gate.heard(stream);
        assert!(answer.starts_with("HTTP/1.1 302 "), "{answer}");
        assert!(gate.net.dialled.is_empty() && gate.net.jobs.is_empty(), "nobody follows it");
        let path = target.split('?').next().unwrap_or_default();
        let written = gate.net.audit.iter().any(|it| it.contains(path) && it.contains("alice"));
        assert!(written, "{target}: {:?}", gate.net.audit);
    }
}

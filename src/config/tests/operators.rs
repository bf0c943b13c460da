//! What operators type.

use super::*;

/// Commands for hybrid connections with all that they need.
pub(super) fn complete(operator: &str) -> Vec<(&'static str, String)> {
    vec![
        ("hc add", format!("hc add lab/export {operator}")),
        ("hc list", format!("hc list {operator}")),
        ("hc show", format!("hc show lab/export {operator}")),
        ("hc remove", format!("hc remove lab/export {operator}")),
        ("hc rule", format!("hc rule lab/export --rule r --rights send {operator}")),
        ("hc keys", format!("hc keys lab/export --rule r {operator}")),
        ("hc grant", format!("hc grant lab/export --role sender --subject a {operator}")),
        ("hc revoke", format!("hc revoke lab/export --role owner --group a {operator}")),
        ("hc network", format!("hc network --others deny {operator}")),
    ]
}

#[test]
fn operators_name_whom_they_mean_in_one_way() {
    let operator = "--relay r.example --admin-token-file /t";
    let line =
        format!("cluster grant -n edge-7 -g berlin --subject s --issuer https://i {operator}");
    let Ok(Command::Cluster(cluster)) = parse(&line) else { panic!() };
    let Action::Grant(resource, whom) = cluster.action else { panic!() };
    assert_eq!((resource.group(), whom.name), ("berlin", Name::Subject("s".to_owned())));
    for line in [
        "grant edge-7",
        "grant edge-7 --user a --group b",
        "grant edge-7 --subject s",
        "grant --user a",
        "grant edge-7 -n edge-8 --user a",
        "add edge-7 --tag x",
        "add edge-7 --tag =x",
        "add edge-7 --no-join-token --expires 1h",
        "join-token edge-7 --expires never",
        "list edge-7",
        "show",
    ] {
        let error = parse(&format!("cluster {line} {operator}")).unwrap_err();
        assert_eq!(error.code, Code::Usage, "{line}: {error}");
    }
    let error = parse(&format!("cluster list -g a/b {operator}")).unwrap_err();
    assert_eq!(error.code, Code::ResourceInvalid);
    assert!(parse("cluster list --relay r.example").unwrap_err().message.contains("admin-token"));
    let error = parse("cluster list --admin-token-file /t").unwrap_err();
    assert!(error.message.contains("--relay"));
}

#[test]
fn an_operator_who_cannot_read_the_token_or_reach_the_relay_is_told_so() {
    let run = |line: &str, token: &str| {
        let variable =
            |name: &str| (name == "CLUSTER_CONNECT_ADMIN_TOKEN").then(|| token.to_owned());
        let Ok(Command::Cluster(cluster)) = with(line, &variable) else { panic!("{line}") };
        cluster.run().unwrap_err()
    };
    let line = "cluster list --relay http://127.0.0.1:9 --admin-token-file /nonexistent";
    assert_eq!(run(line, "").code, Code::FileUnreadable);
    let line = "cluster list --relay https://127.0.0.1:9 --relay-ca /nonexistent";
    assert_eq!(run(line, "t").code, Code::FileUnreadable);
    let line = "cluster list --relay https://127.0.0.1:9 --relay-ca /dev/null";
    assert_eq!(run(line, "t").code, Code::TlsFileInvalid);
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    let error = run(&format!("cluster list --relay http://{address}"), "t");
    assert_eq!(error.code, Code::RelayUnreachable);
    assert!(error.message.contains(&address.to_string()), "{error}");
}

#[test]
fn commands_for_hybrid_connections_are_read_or_refused() {
    let operator = "--relay r.example --admin-token-file /t";
    for line in [
        "hc rule --namespace --rule r --remove",
        "hc keys -n lab/export --rule r --renew secondary -f k",
        "hc network",
        "hc network --others deny --allow 10.0.0.0/8 --allow ::1 --public on",
        "hc add lab --client-authorization off --http on --response-timeout 10m --metadata x",
    ] {
        assert!(matches!(parse(&format!("{line} {operator}")), Ok(Command::Hybrid(_))), "{line}");
    }
    for line in [
        "hc",
        "hc frobnicate",
        "hc add",
        "hc add lab --http maybe",
        "hc add lab --accept-timeout never",
        "hc show lab -n lab",
        "hc list lab",
        "hc rule lab --rule r",
        "hc rule lab --rights send",
        "hc rule lab --rule r --rights send --remove",
        "hc rule lab --rule r --rights sudo",
        "hc rule lab --rule ../r --rights send",
        "hc rule lab --namespace --rule r --rights send",
        "hc keys lab --rule r --renew both",
        "hc grant lab --subject bob",
        "hc grant lab --role admin --subject bob",
        "hc grant lab --role sender",
        "hc grant lab --role sender --subject bob --group ops",
        "hc network --allow 10.0.0.4/8 --others deny",
        "hc network --allow ::ffff:10.0.0.4 --others deny",
        "hc network --allow 10.0.0.0/8",
        "hc network --public off --others maybe",
    ] {
        let error = parse(&format!("{line} {operator}")).unwrap_err();
        assert_eq!(error.code, Code::Usage, "{line}: {error}");
    }
    for name in ["../x", "a//b", "a/./b", "a?b", "a%2fb", "/a", "a/", "é"] {
        let error = parse(&format!("hc show {name} {operator}")).unwrap_err();
        assert_eq!(error.code, Code::ResourceInvalid, "{name}");
    }
}

#[test]
fn a_relay_with_an_audience_of_everybodys_is_warned_of() {
    let warnings = |audience: &str| {
        let line = format!(
            "relay --state-dir /s --no-tls --oidc-issuer https://i --oidc-username-prefix - \
             --oidc-audience https://relay.example --oidc-audience {audience}"
        );
        let Ok(Command::Relay(relay)) = parse(&line) else { panic!("{line}") };
        relay.warnings().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    for audience in
        ["https://relay.azure.net/", "HTTPS://management.azure.com", "sts.amazonaws.com"]
    {
        let said = warnings(audience);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with("warning[AUDIENCE_SHARED]: tokens for "), "{said:?}");
        assert!(said[0].contains(audience) && said[0].contains("hint: "), "{said:?}");
    }
    for audience in ["https://relay.azure.net.example", "api://contoso-relay", "graph"] {
        assert_eq!(warnings(audience), [""; 0], "{audience}");
    }
    assert!(printed("explain AUDIENCE_SHARED").starts_with("AUDIENCE_SHARED (a warning)"));
}

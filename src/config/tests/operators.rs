//! What operators type.

use super::*;

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

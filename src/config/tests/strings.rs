//! Connection strings on command lines.

use super::*;

#[test]
fn a_connection_string_stands_instead_of_a_relay_and_its_api() {
    let line = "agent --connection-string-file /c -n edge-7 --state-dir /s";
    let Ok(Command::Agent(agent)) = parse(line) else { panic!() };
    assert!(matches!(agent.joining.way, agent::Way::ConnectionString(_)) && agent.enrols.is_none());
    let string = "Endpoint=sb://n/;SharedAccessKeyName=r;SharedAccessKey=s3cret;EntityPath=e";
    let variable = |name: &str| match name {
        "CLUSTER_CONNECT_CONNECTION_STRING" => Some(string.to_owned()),
        // Of another installation on the same machine; what is nearer counts.
        "CLUSTER_CONNECT_RELAY" => Some("https://r.example".to_owned()),
        _ => environment(name),
    };
    let Ok(Command::Agent(agent)) = with("agent -n edge-7 --state-dir /s", &variable) else {
        panic!()
    };
    assert!(!format!("{agent:?}").contains("s3cret"));
    let proxy =
        "proxy --connection-string-file /c --cluster-ca /ca -n edge-7 --identity file:/r,/c";
    let way = proxy_of(proxy).way;
    assert!(matches!(way, proxy::Way::ConnectionString { .. }));
    // No token for the relay is wanted, and with a Kubernetes token no token at all.
    let lone = Source::Files { relay: None, cluster: Some("/c".into()) };
    assert_eq!(proxy_of(&proxy.replace("/r,/c", "/c")).identity, lone);
    let none = proxy.replace("--identity file:/r,/c", "--token-file /t");
    assert_eq!(proxy_of(&none).identity, Source::Fixed { relay: None, cluster: None });
    assert!(parse(&proxy.replace("--identity file:/r,/c", "")).is_err());
    for wrong in [
        format!("{line} --relay r.example"),
        format!("{line} --join-token-file /j"),
        format!("{line} --connection-string-file /d"),
        line.replace("-n edge-7", ""),
        line.replace("-file /c", ""),
        proxy.replace("--cluster-ca /ca", ""),
        proxy.replace("--connection-string-file /c", ""),
        format!("{proxy} -n edge-8"),
        format!("{proxy} --relay r.example"),
        format!("{PROXY} --cluster-ca /ca"),
    ] {
        assert_eq!(parse(&wrong).unwrap_err().code, Code::Usage, "{wrong}");
    }
}

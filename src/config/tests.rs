//! Command lines as people type them, and all the ways to type them wrong.

mod operators;
mod strings;

use std::path::PathBuf;
use std::time::Duration;

use super::args::SecretSource;
use super::auth_limits::Limits;
use super::auth_proxy::{ApiServer, Impersonation};
use super::proxy::Target;
use super::relay::Tls;
use super::values::{Output, Place};
use super::*;
use crate::auth::certify::Fingerprint;
use crate::auth::impersonate::Verbs;
use crate::auth::pop::Possession;
use crate::io::operator::{Action, Name};
use crate::role::client_proxy::identity::Source;

const TENANT: &str = "5c7d0000-1111-2222-3333-444455556666";

fn environment(name: &str) -> Option<String> {
    match name {
        "HOME" => Some("/home/alice".to_owned()),
        _ => None,
    }
}

fn parse(line: &str) -> Result<Command, Error> {
    command(line.split_whitespace().map(OsString::from).collect(), &environment)
}

fn with(line: &str, environment: Environment<'_>) -> Result<Command, Error> {
    command(line.split_whitespace().map(OsString::from).collect(), environment)
}

fn printed(line: &str) -> String {
    match parse(line) {
        Ok(Command::Print(text)) => text,
        other => panic!("{line}: {other:?}"),
    }
}

fn proxy_of(line: &str) -> proxy::Proxy {
    match parse(line) {
        Ok(Command::Proxy(proxy)) => *proxy,
        other => panic!("{line}: {other:?}"),
    }
}

const RELAY: &str = "relay --state-dir /s --tls-cert c --tls-key k";
const AGENT: &str = "agent --relay r.example -n edge-7 --state-dir /s --auth-proxy-ca ca \
                     --auth-proxy-audience a";
const PROXY: &str = "proxy --relay r.example -n edge-7 --identity file:/r,/c";

fn entra(line: &str) -> String {
    format!("{line} --entra-tenant {TENANT} --entra-audience a")
}

fn auth_proxy_line() -> String {
    entra("auth-proxy -n edge-7 --state-dir /s --kubeconfig /k")
}

fn edge_line() -> String {
    entra("edge --relay r.example -n edge-7 --state-dir /s --in-cluster")
}

/// A line for each command that is complete.
fn complete() -> Vec<(&'static str, String)> {
    let operator = "--relay r.example --admin-token-file /t";
    let all = vec![
        ("relay", RELAY.to_owned()),
        ("agent", AGENT.to_owned()),
        ("auth-proxy", auth_proxy_line()),
        ("edge", edge_line()),
        ("proxy", PROXY.to_owned()),
        ("run", format!("{} -- true", PROXY.replace("proxy ", "run "))),
        ("manifest", entra("manifest edge-7 --relay r.example")),
        ("cluster add", format!("cluster add edge-7 {operator}")),
        ("cluster show", format!("cluster show edge-7 {operator}")),
        ("cluster list", format!("cluster list {operator}")),
        ("cluster grant", format!("cluster grant edge-7 --user a {operator}")),
        ("cluster revoke", format!("cluster revoke edge-7 --group a {operator}")),
        ("cluster join-token", format!("cluster join-token edge-7 {operator}")),
        ("cluster remove", format!("cluster remove edge-7 {operator}")),
    ];
    [all, operators::complete(operator)].concat()
}

#[test]
fn every_command_is_read() {
    for (name, line) in complete() {
        assert!(parse(&line).is_ok(), "{name}: {:?}", parse(&line));
    }
}

fn page_of(name: &str) -> &'static Page {
    match name.split_once(' ') {
        Some(("cluster", verb)) => cluster::page(verb).unwrap(),
        Some((_, verb)) => hybrid::page(verb).unwrap(),
        None => page(name).unwrap(),
    }
}

#[test]
fn every_command_has_a_page_with_an_example() {
    for (name, _) in complete() {
        let parts = page_of(name).parts;
        assert!(parts.iter().all(|part| part.ends_with('\n')), "{name}: a line is cut in two");
        let page = printed(&format!("{name} --help"));
        assert!(page.starts_with(&format!("cluster-connect {name}: ")), "{page}");
        assert!(page.contains("\nUSAGE\n") && page.contains("\nEXAMPLE\n"), "{name}");
        assert_eq!(printed(&format!("help {name}")), page);
        assert!(page.lines().all(|line| line.chars().count() <= 100), "{name}");
    }
    for line in ["--help", "-h", "help"] {
        assert!(printed(line).contains("COMMAND"));
    }
    assert!(printed("cluster --help").contains("join-token"));
    assert!(printed("relay --listen x -h").contains("USAGE"), "help beats everything");
}

#[test]
fn every_option_of_a_page_is_read_by_its_command() {
    for (name, line) in complete() {
        for option in page_of(name).options() {
            if matches!(option, "-h" | "--help") {
                continue;
            }
            let (before, behind) = line.split_once(" -- ").unwrap_or((&line, ""));
            let mut line = format!("{before} {option}");
            if !behind.is_empty() {
                line.push_str(" -- true");
            }
            // Whatever else is wrong then, the option is one that is known.
            if let Err(error) = parse(&line) {
                assert!(!error.message.contains("unknown option"), "{name} {option}: {error}");
                assert!(!error.message.contains("is too much"), "{name} {option}: {error}");
            }
        }
    }
}

#[test]
fn every_command_refuses_what_it_does_not_know() {
    for (name, line) in complete() {
        let (before, behind) = line.split_once(" -- ").unwrap_or((&line, ""));
        for stray in ["--nonsense", "--nonsense=1", "-x", "stray", "--relay=a --relay=b"] {
            let mut line = format!("{before} {stray}");
            if !behind.is_empty() {
                line.push_str(" -- true");
            }
            let error = parse(&line).unwrap_err();
            assert_eq!(error.code, Code::Usage, "{line}: {error}");
            assert_eq!(error.code.exit(), 2);
        }
        assert_eq!(parse(name).unwrap_err().code, Code::Usage, "{name} alone");
    }
}

#[test]
fn what_is_no_command_is_said_so() {
    for line in
        ["", "nonsense", "--nonsense", "cluster", "cluster nonsense", "help nonsense", "help a b"]
    {
        assert_eq!(parse(line).unwrap_err().code, Code::Usage, "{line}");
    }
    let long = format!("{}\u{1b}[2J", "x".repeat(1000));
    let error = parse(&long).unwrap_err().to_string();
    assert!(error.len() < 200 && !error.contains('\u{1b}'));
    let line = format!("{RELAY} -- true");
    assert_eq!(parse(&line).unwrap_err().message, "-- is for cluster-connect run");
}

#[test]
fn codes_are_explained() {
    assert!(printed("explain PORT_TAKEN").contains("--port 0"));
    assert!(printed("explain port_taken").starts_with("PORT_TAKEN (exit code 1)"));
    assert!(printed("explain").contains("RELAY_UNTRUSTED"));
    assert_eq!(parse("explain NO_SUCH").unwrap_err().code, Code::Usage);
    assert!(printed("version").starts_with("cluster-connect "));
}

#[test]
fn a_relay_has_one_way_to_be_known() {
    let Ok(Command::Relay(relay)) = parse(&format!("{RELAY} --listen :8443 --listen 127.0.0.1:1"))
    else {
        panic!()
    };
    assert_eq!(relay.listen.len(), 2);
    assert_eq!(relay.send_token_lifetime, Duration::from_secs(3600));
    let Ok(Command::Relay(relay)) =
        parse("relay --state-dir /s --tls-self-signed a.example,10.0.0.1")
    else {
        panic!()
    };
    assert_eq!(relay.tls, Tls::SelfSigned(vec!["a.example".to_owned(), "10.0.0.1".to_owned()]));
    assert_eq!(relay.listen, ["[::]:443".parse().unwrap()]);
    for tls in [
        "",
        "--tls-cert c",
        "--tls-key k",
        "--tls-cert c --tls-key k --no-tls",
        "--no-tls --tls-self-signed a",
        "--tls-self-signed a,,b",
    ] {
        assert_eq!(
            parse(&format!("relay --state-dir /s {tls}")).unwrap_err().code,
            Code::Usage,
            "{tls}"
        );
    }
    for rest in [
        "--public-name a/b",
        "--listen nowhere",
        "--loops 0",
        "--loops 257",
        "--send-token-lifetime 0",
    ] {
        assert_eq!(parse(&format!("{RELAY} {rest}")).unwrap_err().code, Code::Usage, "{rest}");
    }
    let state = |name: &str| (name == "STATE_DIRECTORY").then(|| "/var/lib/x".to_owned());
    let Ok(Command::Relay(relay)) = with("relay --no-tls", &state) else { panic!() };
    assert_eq!((relay.state_dir, relay.loops), (PathBuf::from("/var/lib/x"), None));
    let Ok(Command::Relay(relay)) = parse(&format!("{RELAY} --loops 2")) else { panic!() };
    assert_eq!(relay.loops, Some(2));
}

#[test]
fn an_agent_joins_with_a_secret_from_a_file_or_the_environment() {
    let line = format!("{AGENT} --join-token-file /j --auth-proxy unix:/run/a");
    let Ok(Command::Agent(agent)) = parse(&line) else { panic!() };
    let agent::Way::Enrolment { relay, join_token } = &agent.joining.way else { panic!() };
    assert_eq!(*join_token, Some(SecretSource::File("/j".into())));
    assert_eq!(agent.auth_proxy, Place::Unix("/run/a".into()));
    assert_eq!(relay.to_string(), "https://r.example");
    let secret = |name: &str| (name == "CLUSTER_CONNECT_JOIN_TOKEN").then(|| "ccj_x".to_owned());
    let Ok(Command::Agent(agent)) = with(AGENT, &secret) else { panic!() };
    let agent::Way::Enrolment { join_token, .. } = &agent.joining.way else { panic!() };
    assert!(matches!(join_token, Some(SecretSource::Inline(_))));
    assert!(!format!("{agent:?}").contains("ccj_x"));
    for (from, to) in [
        ("-n edge-7", ""),
        ("--relay r.example", ""),
        ("--relay r.example", "--relay http://r.example"),
        ("--state-dir /s", ""),
        ("--state-dir /s", "--state-dir /s --state-secret x"),
        ("--state-dir /s", "--state-secret Not_a_name"),
        ("--auth-proxy-ca ca", ""),
        ("--auth-proxy-audience a", ""),
    ] {
        assert_eq!(parse(&AGENT.replace(from, to)).unwrap_err().code, Code::Usage, "{to}");
    }
    let error = parse(&AGENT.replace("edge-7", "edge/7/8")).unwrap_err();
    assert_eq!(error.code, Code::ResourceInvalid);
    let proxy = |name: &str| (name == "HTTPS_PROXY").then(|| "socks5://p".to_owned());
    assert_eq!(with(AGENT, &proxy).unwrap_err().code, Code::Usage);
}

#[test]
fn every_limit_of_an_auth_proxy_is_an_option_whose_default_the_manual_tells() {
    let limits = |words: &str| {
        let line = format!("{} {words}", auth_proxy_line());
        parse(&line).map(|command| match command {
            Command::AuthProxy(auth) => auth.gate.limits,
            other => panic!("{other:?}"),
        })
    };
    let page = auth_proxy::PAGE.text();
    for (option, default, other) in [
        ("--max-in-flight-per-user", "200", "7"),
        ("--max-in-flight-per-session", "500", "7"),
        ("--max-in-flight", "2000", "7"),
        ("--max-verifications", "2000", "7"),
        ("--max-refusals", "20", "7"),
        ("--max-sessions", "4096", "7"),
        ("--max-questions", "64", "7"),
        ("--spare-connections", "2", "0"),
        ("--head-timeout", "10s", "7s"),
        ("--stranger-timeout", "30s", "7s"),
        ("--idle-timeout", "90s", "7s"),
        ("--response-timeout", "65s", "7s"),
        ("--min-body-rate", "256", "0"),
        ("--reader-timeout", "120s", "7s"),
        ("--upgraded-timeout", "4h", "7s"),
    ] {
        let line =
            page.lines().position(|line| line.trim_start().starts_with(&format!("{option} ")));
        let at = line.unwrap_or_else(|| panic!("{option} is not in the manual"));
        let told =
            page.lines().skip(at).take(2).any(|line| line.ends_with(&format!("[{default}]")));
        assert!(told, "{option}: {default}");
        assert_eq!(limits(&format!("{option} {default}")).unwrap(), Limits::default(), "{option}");
        assert_ne!(limits(&format!("{option} {other}")).unwrap(), Limits::default(), "{option}");
        assert_eq!(limits(&format!("{option} -1")).unwrap_err().code, Code::Usage, "{option}");
    }
}

#[test]
fn an_auth_proxy_is_strict_by_default() {
    let Ok(Command::AuthProxy(auth)) = parse(&auth_proxy_line()) else { panic!() };
    let gate = &auth.gate;
    assert_eq!(gate.api, ApiServer::Kubeconfig("/k".into(), None));
    assert!(gate.require_least_privilege && gate.passthrough.is_none());
    assert_eq!((gate.impersonation, &gate.possession), (Impersonation::Off, &Possession::Off));
    assert_eq!(gate.session_max, Duration::from_secs(12 * 3600));
    assert_eq!(gate.limits, Limits::default());
    assert_eq!((gate.limits.per_user, gate.limits.per_tunnel, gate.limits.total), (200, 500, 2000));
    assert_eq!(gate.verbs, Verbs::Legacy);
    let line = format!(
        "{} --sa-passthrough --sa-audience x --pop require --pop-u /subscriptions/x \
         --impersonation sar --session-end expiry --no-require-least-privilege --max-in-flight 7",
        auth_proxy_line()
    );
    let Ok(Command::AuthProxy(auth)) = parse(&line) else { panic!() };
    assert_eq!(auth.gate.possession, Possession::Require("/subscriptions/x".to_owned()));
    assert!(auth.gate.session_ends_with_token && !auth.gate.require_least_privilege);
    assert_eq!(auth.gate.passthrough.unwrap().audiences, ["x"]);
    for (rest, place) in [
        ("127.0.0.1:9090", Place::Tcp("127.0.0.1:9090".parse().unwrap())),
        ("[::1]:9090", Place::Tcp("[::1]:9090".parse().unwrap())),
        ("unix:/run/admin", Place::Unix("/run/admin".into())),
        ("0.0.0.0:9090 --admin-listen-anywhere", Place::Tcp("0.0.0.0:9090".parse().unwrap())),
    ] {
        let line = format!("{} --admin-listen {rest}", auth_proxy_line());
        let Ok(Command::AuthProxy(auth)) = parse(&line) else { panic!("{rest}") };
        assert_eq!(auth.admin, Some(place));
    }
    for rest in [
        "--in-cluster",
        "--pop accept",
        "--pop-u x",
        "--pop maybe",
        "--sa-issuer x",
        "--impersonation on",
        "--session-max 0",
        "--max-in-flight 0",
        "--admin-listen 0.0.0.0:9090",
        "--admin-listen :9090",
        "--admin-listen unix:",
        "--admin-listen-anywhere",
        "--require-least-privilege --no-require-least-privilege",
        "--entra-cloud moon",
    ] {
        let line = format!("{} {rest}", auth_proxy_line());
        assert_eq!(parse(&line).unwrap_err().code, Code::Usage, "{rest}");
    }
    let same = format!(
        "{} --sa-passthrough --sa-issuer https://sts.windows.net/{TENANT}/",
        auth_proxy_line()
    );
    assert_eq!(parse(&same).unwrap_err().code, Code::AuthConfigInvalid);
    let nobody = "auth-proxy -n edge-7 --state-dir /s --kubeconfig /k";
    assert!(parse(nobody).unwrap_err().message.contains("an issuer"));
    assert!(parse(&format!("{nobody} --sa-passthrough")).is_ok());
    let nowhere = entra("auth-proxy -n edge-7 --state-dir /s");
    assert_eq!(parse(&nowhere).unwrap_err().code, Code::Usage);
}

#[test]
fn an_edge_has_the_options_of_both_but_no_way_between_them() {
    let Ok(Command::Edge(edge)) = parse(&format!("{} --no-bootstrap", edge_line())) else {
        panic!()
    };
    assert!(edge.no_bootstrap);
    assert_eq!(edge.gate.api, ApiServer::InCluster);
    for rest in ["--listen :1", "--auth-proxy x", "--auth-proxy-ca x", "--auth-proxy-audience x"] {
        let error = parse(&format!("{} {rest}", edge_line())).unwrap_err();
        assert!(error.message.starts_with("unknown option"), "{error}");
    }
}

#[test]
fn a_proxy_writes_a_file_of_its_own_unless_it_is_told_otherwise() {
    let proxy = proxy_of(PROXY);
    let own = "/home/alice/.kube/cluster-connect/edge-7.yaml";
    assert_eq!(proxy.file, Target::Own(own.into()));
    assert_eq!((proxy.port, proxy.set_current, proxy.output), (47011, true, Output::Table));
    assert_eq!(
        proxy.identity,
        Source::Files { relay: Some("/r".into()), cluster: Some("/c".into()) }
    );
    let known = "/home/alice/.config/cluster-connect/known-hosts";
    assert_eq!(proxy.known_hosts, PathBuf::from(known));
    let of = |rest: &str| proxy_of(&format!("{PROXY} {rest}")).file;
    assert_eq!(of("-f -"), Target::Stdout);
    assert_eq!(of("-f /x"), Target::Own("/x".into()));
    assert_eq!(of("--merge"), Target::Merge("/home/alice/.kube/config".into()));
    assert_eq!(of("--merge --file /x"), Target::Merge("/x".into()));
}

#[test]
fn a_proxy_can_have_many_clusters_each_once() {
    let proxy = proxy_of(&format!("{PROXY} --name paris/edge-8 -g berlin"));
    let names: Vec<String> =
        proxy.clusters.iter().map(|c| format!("{}/{}", c.group(), c.name())).collect();
    assert_eq!(names, ["berlin/edge-7", "paris/edge-8"]);
    let print = Fingerprint::of(b"x");
    for rest in [
        "-n edge-7".to_owned(),
        "-n EDGE-7".to_owned(),
        "-n edge-8 --kube-context x".to_owned(),
        format!("-n edge-8 --ca-fingerprint {print}"),
    ] {
        assert_eq!(parse(&format!("{PROXY} {rest}")).unwrap_err().code, Code::Usage, "{rest}");
    }
}

#[test]
fn a_proxy_refuses_what_contradicts_itself() {
    for rest in [
        "--merge -f -",
        "-f - -o json",
        "-o yaml",
        "--port 70000",
        "--ready-fd 1",
        "--ready-fd x",
        "--ca-fingerprint sha256:00",
        "--token a --token-file b",
        "--wait soon",
    ] {
        assert_eq!(parse(&format!("{PROXY} {rest}")).unwrap_err().code, Code::Usage, "{rest}");
    }
    let homeless = with(PROXY, &|_| None).unwrap_err();
    assert!(homeless.message.contains("HOME"), "{homeless}");
}

#[test]
fn a_token_on_the_command_line_is_taken_with_a_warning_and_never_shown() {
    let proxy = proxy_of(&format!("{PROXY} --token s3cret"));
    assert_eq!(proxy.warnings.len(), 1);
    assert!(!format!("{proxy:?}").contains("s3cret"));
    assert!(!proxy.warnings[0].contains("s3cret"));
    let proxy = proxy_of(&format!("{PROXY} --token-file /t"));
    assert_eq!(proxy.kube_token, Some(SecretSource::File("/t".into())));
    assert!(proxy.warnings.is_empty());
}

#[test]
fn tokens_come_from_one_source() {
    let line = "proxy --relay r.example -n edge-7";
    let error = parse(line).unwrap_err();
    assert!(error.message.contains("--identity"), "{error}");
    let set = |name: &str| match name {
        "HOME" => Some("/h".to_owned()),
        "CLUSTER_CONNECT_RELAY_TOKEN" => Some("relay-token".to_owned()),
        _ => None,
    };
    let Ok(Command::Proxy(proxy)) = with(line, &set) else { panic!() };
    assert!(proxy.identity.is_fixed());
    assert!(!format!("{proxy:?}").contains("relay-token"));
    for source in ["az", "login", "github", "azure-pipelines", "imds"] {
        let error = parse(&format!("{line} --identity {source}")).unwrap_err();
        assert_eq!(error.code, Code::NotAvailable, "{source}");
    }
    for source in ["vault", "file:", "exec:"] {
        let error = parse(&format!("{line} --identity {source}")).unwrap_err();
        assert_eq!(error.code, Code::Usage, "{source}");
    }
}

#[test]
fn a_command_behind_two_dashes_is_run_as_it_is() {
    let line = format!("{} -- kubectl get pods --help -n x -- y", PROXY.replace("proxy ", "run "));
    let Ok(Command::Run(run)) = parse(&line) else { panic!() };
    assert_eq!(run.command, ["kubectl", "get", "pods", "--help", "-n", "x", "--", "y"]);
    assert_eq!((run.proxy.port, run.proxy.file), (0, Target::Private));
    for line in [PROXY.replace("proxy ", "run "), format!("{} --", PROXY.replace("proxy ", "run "))]
    {
        assert!(parse(&line).unwrap_err().message.contains("no command"));
    }
    let merged = format!("{} --merge -- true", PROXY.replace("proxy ", "run "));
    assert!(parse(&merged).unwrap_err().message.contains("unknown option --merge"));
}

//! `cluster-connect hc` as a program, against a relay.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;

use cluster_connect::auth::sas;
use cluster_connect::secret::Secret;
use serde_json::Value;

use super::chain::Site;
use super::raw::Client;
use super::trial::{Trial, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial(an_operator_has_commands_for_hybrid_connections_rules_roles_and_addresses)]
}

/// What `hc` prints and says, and its exit code.
fn hc(site: &Site, words: &[&str]) -> (Option<i32>, String, String) {
    let (token, ca) = (site.path("relay/admin-token"), site.path("relay/ca.pem"));
    let rest = ["--relay", &site.url, "--relay-ca", &ca, "--admin-token-file", &token];
    let output = site.command(&[&["hc"], words, &rest].concat()).output().expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn done(site: &Site, words: &[&str]) -> String {
    let (code, out, said) = hc(site, words);
    assert_eq!(code, Some(0), "{words:?}: {said}");
    out
}

fn refused(site: &Site, words: &[&str], code: &str) {
    let (exit, out, said) = hc(site, words);
    assert!(exit == Some(1) && out.is_empty(), "{words:?}: {out}");
    assert!(said.contains(&format!("error[{code}]: ")), "{said}");
}

fn json(site: &Site, words: &[&str]) -> Value {
    serde_json::from_str(&done(site, &[words, &["-o", "json"]].concat())).expect("JSON")
}

/// The status line that a sender of a request to `lab/export` gets.
fn send(site: &Site, token: &str) -> String {
    let address: SocketAddr = site.relay_address().parse().expect("an address");
    let ca = fs::read_to_string(site.path("relay/ca.pem")).expect("the CA");
    let answer = Client::connect(address, &ca)
        .get("/lab/export", &format!("ServiceBusAuthorization: {token}\r\n"));
    answer.head.lines().next().unwrap_or_default().to_owned()
}

fn an_operator_has_commands_for_hybrid_connections_rules_roles_and_addresses() {
    let site = Site::start();
    refused(&site, &["show", "lab/export"], "HYBRID_CONNECTION_UNKNOWN");
    done(&site, &["add", "lab/export", "--response-timeout", "10m", "--metadata", "db:1433"]);
    done(&site, &["add", "lab/export", "--accept-timeout", "5s"]);
    assert!(done(&site, &["list"]).contains("lab/export"));
    let shown = json(&site, &["show", "lab/export"]);
    assert_eq!(shown["properties"]["responseTimeoutSeconds"], 600, "what is not said stays");
    assert_eq!(shown["properties"]["acceptTimeoutSeconds"], 5);

    let at = ["lab/export", "--rule", "robot"];
    refused(&site, &[&["keys"], &at[..]].concat(), "HYBRID_CONNECTION_UNKNOWN");
    done(&site, &[&["rule"], &at[..], &["--rights", "send"]].concat());
    let file = site.path("robot.connection-string");
    let printed = done(&site, &[&["keys"], &at[..], &["-f", &file]].concat());
    let string = fs::read_to_string(&file).expect("a connection string");
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    assert!(printed.is_empty() && string.ends_with(";EntityPath=lab/export\n"), "{string}");
    let key = json(&site, &[&["keys"], &at[..]].concat());
    let key = Secret::new(key["primaryKey"].as_str().expect("a key").to_owned());
    assert!(string.contains(key.expose()));
    // The host that the client of these tests names.
    let token = sas::mint("http://kubernetes/lab/export", "robot", &key, 4_000_000_000);
    assert!(send(&site, &token).contains("404 There are no listeners"), "{}", send(&site, &token));
    done(&site, &[&["keys"], &at[..], &["--renew", "primary"]].concat());
    assert!(send(&site, &token).contains("401 InvalidSignature"), "the old key is over");
    done(&site, &[&["rule"], &at[..], &["--remove"]].concat());
    done(&site, &["rule", "--namespace", "--rule", "all", "--rights", "listen,send"]);
    assert!(done(&site, &["keys", "--namespace", "--rule", "all"]).starts_with("Endpoint=sb://"));

    let who = ["--role", "sender", "--subject", "carol"];
    for _ in 0..2 {
        done(&site, &[&["grant", "lab/export"], &who[..]].concat());
    }
    let shown = json(&site, &["show", "lab/export"]);
    assert_eq!(shown["roleAssignments"].as_array().map(Vec::len), Some(1));
    let carol = site.token(super::chain::RELAY_AUDIENCE, "carol");
    refused(&site, &[&["revoke", "--namespace"], &who[..]].concat(), "HYBRID_CONNECTION_UNKNOWN");
    assert!(send(&site, &carol).contains("404 There are no listeners"), "{}", send(&site, &carol));
    done(&site, &[&["revoke", "lab/export"], &who[..]].concat());
    assert!(send(&site, &carol).contains("401 Unauthorized access"), "{}", send(&site, &carol));

    done(&site, &["network", "--others", "deny", "--allow", "192.0.2.0/24"]);
    assert!(send(&site, &carol).contains("401 Generic: Ip has been prevented"));
    let table = done(&site, &["network"]);
    assert!(table.contains("Deny") && table.contains("192.0.2.0/24"), "{table}");
    done(&site, &["network", "--others", "deny", "--allow", "127.0.0.0/8", "--allow", "::1"]);
    assert!(send(&site, &carol).contains("401 Unauthorized access"));

    done(&site, &["remove", "lab/export"]);
    refused(&site, &["show", "lab/export"], "HYBRID_CONNECTION_UNKNOWN");
}

//! Agent and client by connection strings alone, as they would stand before Azure Relay: no API of
//! ours is asked, no cluster is known to the relay, and the whole chain works.

use std::net::{Ipv4Addr, SocketAddr};

use crate::chain::{self, ALICE, Options, Site};
use crate::lab::Lab;
use crate::raw::Door;
use crate::trial::{Trial, trial};

const ENTITY: &str = "clusters/edge-7";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(a_cluster_is_reached_by_connection_strings_alone),
        trial(a_wrong_connection_string_is_told_apart_from_everything_else),
    ]
}

/// A lab with a hybrid connection for a cluster, and its two connection strings in files.
fn lab() -> Lab {
    let lab = Lab::start();
    lab.arm("PUT", &format!("/hybridConnections/{}", ENTITY.replace('/', "~")), "{}");
    for (rule, right, file) in [("agent", "Listen", "listen"), ("users", "Send", "send")] {
        lab.rule(ENTITY, rule, right);
        let path = lab.site.path(&format!("edge-7.{file}"));
        chain::private(path.as_ref(), &lab.connection_string(ENTITY, rule));
    }
    lab
}

fn client_words(site: &Site, string: &str, ca: &str) -> Vec<String> {
    let mut words = vec!["-n".to_owned(), "edge-7".to_owned()];
    words.extend(["--connection-string-file".to_owned(), site.path(string)]);
    words.extend(["--cluster-ca".to_owned(), site.path(ca)]);
    words.extend(site.relay_ca_words());
    words.extend(["--identity".to_owned(), site.identity(ALICE)]);
    words.extend(["--known-hosts".to_owned(), site.path("known/hosts")]);
    words
}

/// What `run -- true` with these options says, and its exit code.
fn run(site: &Site, words: &[String]) -> (Option<i32>, String) {
    let mut all = vec!["run"];
    all.extend(words.iter().map(String::as_str));
    all.extend(["--", "true"]);
    let output = site.command(&all).output().expect("run starts");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn a_cluster_is_reached_by_connection_strings_alone() {
    let mut lab = lab();
    for edge in [true, false] {
        let options = Options { edge, by_string: true, ..Options::default() };
        let mut cluster = lab.site.cluster("edge-7", options);
        let ca = if edge { "edge-7.edge/ca.pem" } else { "edge-7.auth-proxy/ca.pem" };
        let known = ["--known-hosts".to_owned(), lab.site.path(&format!("known-{edge}"))];
        let mut words = client_words(&lab.site, "edge-7.send", ca);
        words = chain::replaced(words, &known.each_ref().map(String::as_str));
        let client = lab.site.client_of(&format!("by-string-{edge}"), words.clone());
        let way = client.way("edge-7");
        let door = Door {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, way.port)),
            ca_pem: way.ca_pem,
            prefix: way.path,
            token: way.token,
        };
        let mut connection = door.connect();
        connection.send(door.request("/api/v1/namespaces/default/pods", ""));
        let response = connection.response();
        let body = String::from_utf8_lossy(&response.body).into_owned();
        assert_eq!((response.code, body.contains("PodList")), (200, true), "{body}");

        // Without its agent the cluster is said to be away, and what the relay said is kept.
        cluster.kill_agent();
        drop(client);
        let (code, said) = run(&lab.site, &words);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("error[CLUSTER_OFFLINE]: "), "{said}");
        assert!(said.contains("it is offline, no agent of it is connected"), "{said}");
    }
}

fn a_wrong_connection_string_is_told_apart_from_everything_else() {
    let mut lab = lab();
    let options = Options { edge: true, by_string: true, ..Options::default() };
    let _cluster = lab.site.cluster("edge-7", options);
    let good = std::fs::read_to_string(lab.site.path("edge-7.send")).unwrap();
    let listen = std::fs::read_to_string(lab.site.path("edge-7.listen")).unwrap();
    // A rule of the namespace may send everywhere, and so learns what there is.
    let namespace = format!("{};EntityPath=nowhere", lab.connection_string("", "Send"));
    let key = good.split("SharedAccessKey=").nth(1).unwrap().split(';').next().unwrap();
    for (string, code, sentence) in [
        (
            good.replace("SharedAccessKey=", "SharedAccessKey=x"),
            "TOKEN_REFUSED",
            "InvalidSignature",
        ),
        (listen, "TOKEN_REFUSED", "'Send' claim(s) are required"),
        (good.replace("EntityPath=", "EntityPath=x"), "TOKEN_REFUSED", "InvalidSignature"),
        (namespace, "CLUSTER_UNKNOWN", "Endpoint does not exist"),
        (good.replace("EntityPath=clusters/edge-7", ""), "CONNECTION_STRING_INVALID", "EntityPath"),
        (good.replace("Endpoint=", "Endpunkt="), "CONNECTION_STRING_INVALID", "that none has"),
    ] {
        chain::private(lab.site.path("edge-7.wrong").as_ref(), &string);
        let words = client_words(&lab.site, "edge-7.wrong", "edge-7.edge/ca.pem");
        let (exit, said) = run(&lab.site, &words);
        assert_eq!(exit, Some(1), "{said}");
        assert!(said.contains(&format!("error[{code}]: ")), "{said}");
        assert!(said.contains(sentence), "{said}");
        assert!(!said.contains(key), "a key is never shown");
        if code != "CONNECTION_STRING_INVALID" {
            assert!(said.contains("TrackingId:"), "{said}");
        }
    }
    // The CA is pinned: a relay, ours or Azure's, cannot put another cluster in its place.
    let words = client_words(&lab.site, "edge-7.send", "relay/ca.pem");
    let (exit, said) = run(&lab.site, &words);
    assert_eq!(exit, Some(1), "{said}");
    assert!(said.contains("error[CLUSTER_CHANGED]: "), "{said}");
    let fresh = ["--known-hosts".to_owned(), lab.site.path("known-other")];
    let words = chain::replaced(words, &fresh.each_ref().map(String::as_str));
    let (exit, said) = run(&lab.site, &words);
    assert_eq!(exit, Some(1), "{said}");
    assert!(said.contains("error[CLUSTER_UNTRUSTED]: "), "{said}");
}

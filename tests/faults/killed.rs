//! Parts that are killed in the middle of something, and come back.

use std::fs;

use serde_json::json;

use super::answer::{Answer, rest};
use super::chain::{Chain, Options};
use super::trial::{Trial, trial};
use super::{PODS, door, eventually, recovers};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(a_killed_relay_breaks_what_is_under_way_and_nothing_else),
        trial(a_killed_agent_breaks_what_is_under_way_and_nothing_else),
        trial(a_killed_auth_proxy_breaks_what_is_under_way_and_nothing_else),
        trial(a_killed_api_server_breaks_what_is_under_way_and_nothing_else),
    ]
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

const ROUNDS: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Relay,
    Agent,
    AuthProxy,
    ApiServer,
}

fn kill(chain: &mut Chain, victim: Victim) {
    match victim {
        Victim::Relay => chain.site.kill_relay(),
        Victim::Agent => chain.cluster.kill_agent(),
        Victim::AuthProxy => chain.cluster.kill_auth_proxy(),
        Victim::ApiServer => chain.cluster.api.stop(),
    }
}

fn revive(chain: &mut Chain, victim: Victim) {
    match victim {
        Victim::Relay => chain.site.restart_relay(),
        Victim::Agent => chain.cluster.start_agent(&chain.site),
        Victim::AuthProxy => chain.cluster.start_auth_proxy(&chain.site),
        Victim::ApiServer => chain.cluster.api.restart().expect("the API server starts again"),
    }
}

/// Descriptors of those that live through it.
fn descriptors(chain: &Chain, victim: Victim) -> Vec<usize> {
    let parts = [
        (Victim::Relay, chain.site.relay_id()),
        (Victim::Agent, chain.cluster.agent_id()),
        (Victim::AuthProxy, chain.cluster.auth_proxy_id()),
        (Victim::ApiServer, chain.client.process.id()),
    ];
    // The client proxy is never the victim; the API server is in the test's own process.
    let lives = |part: Victim| part != victim || part == Victim::ApiServer;
    let ids = parts.into_iter().filter(|(part, _)| lives(*part)).map(|(_, id)| id);
    ids.map(|id| fs::read_dir(format!("/proc/{id}/fd")).expect("a live process").count()).collect()
}

/// A watch and half an upload are under way when `victim` is killed.
fn strike(chain: &mut Chain, victim: Victim, round: usize) {
    use std::io::Write as _;
    let door = door(&chain.client, "edge-7");
    recovers(&door);
    let mut watch = door.connect();
    watch.send(door.request(&format!("{PODS}?watch=true"), ""));
    assert_eq!(watch.head().0, 200);
    watch.chunk().expect("what is there already");
    let name = format!("half-{round}");
    let data = "x".repeat(900_000);
    let body = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name },
                       "data": { "it": data } })
    .to_string();
    let mut upload = door.connect();
    upload.send(format!(
        "POST {}{MAPS} HTTP/1.1\r\nHost: kubernetes\r\n{}Content-Type: \
         application/json\r\nContent-Length: {}\r\n\r\n",
        door.prefix,
        door.bearer(),
        body.len()
    ));
    upload.send(&body.as_bytes()[..500_000]);
    kill(chain, victim);
    let (mut stream, seen) = watch.into_parts();
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let ended = rest(&mut stream, [head, seen].concat());
    assert!(matches!(ended, Answer::Broken), "{victim:?}: a cut watch looks whole: {ended:?}");
    let (mut stream, _) = upload.into_parts();
    // It may be refused already.
    let _ = stream.write_all(&body.as_bytes()[500_000..]).and_then(|()| stream.flush());
    match rest(&mut stream, Vec::new()) {
        Answer::Broken => (),
        Answer::Whole(code, body) => {
            let body: serde_json::Value = serde_json::from_slice(&body).expect("a Status");
            assert!((500..600).contains(&code), "{victim:?}: {code} {body}");
            assert_eq!(body["kind"], "Status", "{victim:?}");
            assert!(body["message"].as_str().is_some_and(|it| it.contains(' ')), "{body}");
        }
    }
    revive(chain, victim);
    recovers(&door);
    let there = super::get(&door, &format!("{MAPS}/{name}"));
    assert_eq!(there.code, 404, "{victim:?}: half an upload is none");
}

fn struck(victim: Victim) {
    let mut chain = Chain::start(Options::default());
    strike(&mut chain, victim, 0);
    let before = descriptors(&chain, victim);
    for round in 1..=ROUNDS {
        strike(&mut chain, victim, round);
    }
    // Some connections are kept for the next request; a leak is one in each round and more.
    let what = format!("descriptors are given back, of which there were {before:?}");
    eventually(&what, || {
        let now = descriptors(&chain, victim);
        let good = now.iter().zip(&before).all(|(now, before)| *now < before + ROUNDS - 2);
        if !good {
            eprintln!("{victim:?}: now {now:?}");
        }
        good
    });
}

fn a_killed_relay_breaks_what_is_under_way_and_nothing_else() {
    struck(Victim::Relay);
}

fn a_killed_agent_breaks_what_is_under_way_and_nothing_else() {
    struck(Victim::Agent);
}

fn a_killed_auth_proxy_breaks_what_is_under_way_and_nothing_else() {
    struck(Victim::AuthProxy);
}

fn a_killed_api_server_breaks_what_is_under_way_and_nothing_else() {
    struck(Victim::ApiServer);
}

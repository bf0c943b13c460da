//! The real kubectl through the whole chain, each part of it a process of its own.

#[path = "support/chain.rs"]
#[allow(dead_code, reason = "shared with other test programs, each of which uses a part")]
mod chain;
#[path = "../bin/quickstart/demo/mod.rs"]
#[allow(dead_code, reason = "shared with other programs, each of which uses a part")]
mod demo;
#[path = "../bin/quickstart/issuer.rs"]
mod issuer;
#[path = "support/kubectl.rs"]
#[allow(dead_code, reason = "shared with other test programs, each of which uses a part")]
mod kubectl;
#[path = "../bin/quickstart/processes.rs"]
#[allow(dead_code, reason = "shared with other programs, each of which uses a part")]
mod processes;
#[path = "support/raw.rs"]
#[allow(dead_code, reason = "shared with other test programs, each of which uses a part")]
mod raw;

#[path = "e2e/core.rs"]
mod core;
#[path = "e2e/doors.rs"]
mod doors;
#[path = "e2e/programs.rs"]
mod programs;
// The same tests that the API server passes without a chain.
#[path = "demo/streams.rs"]
mod streams;
#[path = "demo/verbs.rs"]
mod verbs;

use std::net::{Ipv4Addr, SocketAddr};

use chain::{ALICE, Chain, Client, Options};
use raw::Door;

/// With the oldest and the newest kubectl, each at a chain of its own, as an administrator.
fn each(test: &str, check: impl Fn(&demo::Server, &mut kubectl::Session)) {
    let versions = kubectl::all_or_skip(test);
    let ends = [versions.first(), versions.get(1..).and_then(|newer| newer.last())];
    for kubectl in ends.into_iter().flatten() {
        let chain = administered();
        check(&chain.cluster.api, &mut kubectl.with(&chain.client.kubeconfig));
    }
}

/// With three versions, over WebSockets and over SPDY, each at a chain of its own.
fn each_streaming(test: &str, check: impl Fn(&demo::Server, &kubectl::Session)) {
    for kubectl in kubectl::some_or_skip(test) {
        for transport in kubectl.transports() {
            let chain = administered();
            let mut session = kubectl.with(&chain.client.kubeconfig);
            session.stream_over(*transport);
            check(&chain.cluster.api, &session);
        }
    }
}

fn with_door(check: impl Fn(&Door)) {
    let chain = administered();
    check(&door(&chain.client, "edge-7"));
}

/// A chain whose caller may do everything.
fn administered() -> Chain {
    let chain = Chain::start(Options::default());
    chain.cluster.api.bind("alice-administers", "cluster-admin", "User", &[ALICE]);
    chain
}

/// The client proxy, as its kubeconfig says how to use it for a cluster.
fn door(client: &Client, cluster: &str) -> Door {
    let way = client.way(cluster);
    Door {
        addr: SocketAddr::from((Ipv4Addr::LOCALHOST, way.port)),
        ca_pem: way.ca_pem,
        prefix: way.path,
        token: way.token,
    }
}

//! The whole chain as its users, its operators and its enemies meet it: every part a process of its
//! own, the real kubectl and curl where there are some, bad input, faults, and a relay that looks.

#![deny(dead_code, reason = "a test that is not listed would not run")]

#[path = "../support/chain.rs"]
mod chain;
#[path = "../../bin/quickstart/demo/mod.rs"]
#[allow(dead_code, reason = "shared with other programs, each of which uses a part")]
mod demo;
#[path = "../../bin/quickstart/issuer.rs"]
#[allow(dead_code, reason = "shared with other programs, each of which uses a part")]
mod issuer;
#[path = "../support/kubectl.rs"]
mod kubectl;
#[path = "../../bin/quickstart/processes.rs"]
#[allow(dead_code, reason = "shared with other programs, each of which uses a part")]
mod processes;
#[path = "../support/raw.rs"]
#[allow(dead_code, reason = "shared with other test programs, each of which uses a part")]
mod raw;
#[path = "../support/tap.rs"]
mod tap;
#[path = "../support/trial.rs"]
mod trial;

mod bench;
mod blind;
mod core;
mod doors;
#[path = "../faults/mod.rs"]
mod faults;
mod garbage;
mod hybrid;
mod programs;
mod quickstart;
// The same tests that the API server passes without a chain.
#[path = "../demo/streams.rs"]
mod streams;
#[path = "../demo/verbs.rs"]
mod verbs;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use chain::{ALICE, Chain, Client, Options};
use kubectl::Session;
use raw::Door;
use trial::{Trial, name_of, named};

fn main() -> ExitCode {
    trial::run([
        faults::trials(),
        streams::trials(),
        verbs::trials(),
        core::trials(),
        doors::trials(),
        programs::trials(),
        quickstart::trials(),
        bench::trials(),
        blind::trials(),
        garbage::trials(),
        hybrid::trials(),
    ])
}

/// With the oldest and the newest kubectl, each at a chain of its own, as an administrator.
fn each<C>(check: C) -> Vec<Trial>
where
    C: Fn(&demo::Server, &mut Session) + Copy + Send + 'static,
{
    kubectl::trials(kubectl::ends(), check, |kubectl, check| {
        let chain = administered();
        check(&chain.cluster.api, &mut kubectl.with(&chain.client.kubeconfig));
    })
}

/// With three versions, over WebSockets and over SPDY, each at a chain of its own.
fn each_streaming<C>(check: C) -> Vec<Trial>
where
    C: Fn(&demo::Server, &Session) + Copy + Send + 'static,
{
    kubectl::streaming_trials(kubectl::some(), check, |(kubectl, transport), check| {
        let chain = administered();
        let mut session = kubectl.with(&chain.client.kubeconfig);
        session.stream_over(transport);
        check(&chain.cluster.api, &session);
    })
}

fn with_door<C: Fn(&Door) + Send + 'static>(check: C) -> Trial {
    named(name_of::<C>(), move || {
        let chain = administered();
        check(&door(&chain.client, "edge-7"));
    })
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

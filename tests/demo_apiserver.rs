//! The demonstration API server and token issuer, with the real kubectl and with raw bytes.

#![deny(dead_code, reason = "a test that is not listed would not run")]

#[path = "../bin/quickstart/demo/mod.rs"]
#[allow(dead_code, reason = "shared with other programs, each of which uses a part")]
mod demo;
#[path = "../bin/quickstart/issuer.rs"]
#[allow(dead_code, reason = "shared with other programs, each of which uses a part")]
mod issuer;
#[allow(dead_code, reason = "shared with other test programs, each of which uses a part")]
#[path = "support/kubectl.rs"]
mod kubectl;
#[allow(dead_code, reason = "shared with other test programs, each of which uses a part")]
#[path = "support/raw.rs"]
mod raw;
#[path = "support/trial.rs"]
mod trial;

#[path = "demo/callers.rs"]
mod callers;
#[path = "demo/http.rs"]
mod http;
#[path = "demo/identity.rs"]
mod identity;
#[path = "demo/objects.rs"]
mod objects;
#[path = "demo/streams.rs"]
mod streams;
#[path = "demo/tokens.rs"]
mod tokens;
#[path = "demo/verbs.rs"]
mod verbs;

use std::process::ExitCode;

use kubectl::Session;
use trial::{Trial, name_of, named};

fn main() -> ExitCode {
    trial::run([
        callers::trials(),
        http::trials(),
        identity::trials(),
        objects::trials(),
        streams::trials(),
        tokens::trials(),
        verbs::trials(),
    ])
}

fn server() -> demo::Server {
    demo::Server::start(demo::Options::default()).expect("the server starts")
}

fn client(server: &demo::Server) -> raw::Client {
    raw::Client::connect(server.addr(), server.ca_pem())
}

/// The field that authenticates as an administrator.
fn admin(server: &demo::Server) -> String {
    format!("Authorization: Bearer {}\r\n", server.admin_token())
}

/// With each kubectl, as an administrator.
fn each<C>(check: C) -> Vec<Trial>
where
    C: Fn(&demo::Server, &mut Session) + Copy + Send + 'static,
{
    kubectl::trials(kubectl::all().iter().collect(), check, |kubectl, check| {
        let server = server();
        let kubeconfig = server.kubeconfig_admin().expect("a kubeconfig");
        check(&server, &mut kubectl.with(&kubeconfig));
    })
}

/// With each kubectl over WebSockets, where it has them, and over SPDY.
fn each_streaming<C>(check: C) -> Vec<Trial>
where
    C: Fn(&demo::Server, &Session) + Copy + Send + 'static,
{
    kubectl::streaming_trials(kubectl::all().iter().collect(), check, |with, check| {
        let ((kubectl, transport), server) = (with, server());
        let mut session = kubectl.with(&server.kubeconfig_admin().expect("a kubeconfig"));
        session.stream_over(transport);
        check(&server, &session);
    })
}

fn with_door<C: Fn(&raw::Door) + Send + 'static>(check: C) -> Trial {
    named(name_of::<C>(), move || {
        let server = server();
        check(&raw::Door {
            addr: server.addr(),
            ca_pem: server.ca_pem().to_owned(),
            prefix: String::new(),
            token: server.admin_token().to_owned(),
        });
    })
}

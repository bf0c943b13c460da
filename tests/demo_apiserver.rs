//! The demonstration API server and token issuer, with the real kubectl and with raw bytes.

#[path = "../bin/quickstart/demo/mod.rs"]
mod demo;
#[path = "../bin/quickstart/issuer.rs"]
mod issuer;
#[allow(dead_code, reason = "shared with other test programs, each of which uses a part")]
#[path = "support/kubectl.rs"]
mod kubectl;
#[allow(dead_code, reason = "shared with other test programs, each of which uses a part")]
#[path = "support/raw.rs"]
mod raw;

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
fn each(test: &str, check: impl Fn(&demo::Server, &mut kubectl::Session)) {
    for kubectl in kubectl::all_or_skip(test) {
        let server = server();
        let kubeconfig = server.kubeconfig_admin().expect("a kubeconfig");
        check(&server, &mut kubectl.with(&kubeconfig));
    }
}

/// With each kubectl over WebSockets, where it has them, and over SPDY.
fn each_streaming(test: &str, check: impl Fn(&demo::Server, &kubectl::Session)) {
    for kubectl in kubectl::all_or_skip(test) {
        for transport in kubectl.transports() {
            let server = server();
            let mut session = kubectl.with(&server.kubeconfig_admin().expect("a kubeconfig"));
            session.stream_over(*transport);
            check(&server, &session);
        }
    }
}

fn with_door(check: impl Fn(&raw::Door)) {
    let server = server();
    check(&raw::Door {
        addr: server.addr(),
        ca_pem: server.ca_pem().to_owned(),
        prefix: String::new(),
        token: server.admin_token().to_owned(),
    });
}

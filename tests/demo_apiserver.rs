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

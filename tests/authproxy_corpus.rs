//! The corpora against the real binary, over real sockets: `kube-aad-proxy` with an upstream that
//! writes down every byte. What must be refused sends nothing upstream.

#[path = "authproxy/callers.rs"]
mod callers;
#[path = "corpora/classes.rs"]
mod classes;
#[path = "corpora/h1.rs"]
mod corpus;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[path = "authproxy/corpus.rs"]
mod corpus_tokens;
#[path = "authproxy/door.rs"]
#[allow(dead_code, reason = "the tests of issuers use more of it")]
mod door;
#[path = "authproxy/order.rs"]
mod order;
#[path = "authproxy/proofs.rs"]
mod proofs;
#[path = "authproxy/requests.rs"]
mod requests;
#[path = "authproxy/tokens.rs"]
mod tokens;
#[path = "authproxy/variants.rs"]
mod variants;
mod support {
    #![allow(dead_code, unreachable_pub, reason = "each test uses its own part of this")]
    pub mod mint;
    pub mod process;
    pub mod recorder;
    pub mod tls;
    pub mod upstream;
}

//! The real binary and the places that it asks, over real TLS: an issuer that publishes its keys,
//! and Microsoft Graph.

#[path = "authproxy/door.rs"]
#[allow(dead_code, reason = "the corpora use more of it")]
mod door;
#[path = "authproxy/groups.rs"]
mod groups;
#[path = "authproxy/issuer.rs"]
mod issuer;
#[path = "authproxy/keys.rs"]
mod keys;
mod support {
    #![allow(dead_code, unreachable_pub, reason = "each test uses its own part of this")]
    pub mod mint;
    pub mod process;
    pub mod recorder;
    pub mod tls;
    pub mod upstream;
}

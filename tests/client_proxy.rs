//! The client proxy between callers and relays that do what the test says, down to the order of
//! frames.
#![deny(dead_code, reason = "a test that is not listed would not run")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[path = "near/beside.rs"]
mod beside;
#[path = "near/keys.rs"]
mod keys;
#[path = "near/leaving.rs"]
mod leaving;
mod near;
#[path = "hc/net.rs"]
#[allow(dead_code, reason = "shared with other test programs, each of which uses a part")]
mod net;

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

#[path = "e2e/verbs.rs"]
mod verbs;

//! The relay: Hybrid Connections, and the API through which clusters are registered and reached.

pub mod directory;
pub mod registry;
pub mod authority;
mod call;
mod connect;
mod fault;
mod listen;
mod open;
mod pump;
mod storm;
pub mod target;

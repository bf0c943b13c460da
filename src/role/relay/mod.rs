//! The relay: Hybrid Connections, and the API through which clusters are registered and reached.

pub mod api;
pub mod audit;
pub mod desk;
pub mod directory;
pub mod registry;

//! cluster-connect: kubectl access to Kubernetes clusters that open no inbound port.
//!
//! A process is one [`role::Role`] (what it decides) on one reactor (what it can do).

pub mod auth;
pub mod buf;
pub mod config;
pub mod engine;
pub mod io;
pub mod limits;
pub mod role;
pub mod secret;
pub mod start;
pub mod wire;

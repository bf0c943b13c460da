//! The only layer with effects: sockets, threads, files, time.
//!
//! Reading order: [`reactor`] is the loop, [`sockets`] what a role sees of it, [`conn`] one
//! connection with its TLS, [`link`] one socket, [`dial`] how a connection comes to be,
//! [`workers`] and [`jobs`] what blocks, [`handoff`] several loops in one process.

pub mod apiserver;
mod audit;
mod child;
mod conn;
mod dial;
pub mod files;
mod handoff;
mod jobs;
pub mod kubeconfig;
mod link;
mod listener;
mod log;
mod notify;
pub mod operator;
mod reactor;
pub mod roots;
mod setup;
mod signals;
mod sockets;
mod workers;

pub use audit::AuditSink;
pub use child::Child;
pub use handoff::Place;
pub use listener::Bind;
pub use log::start as start_log;
pub use notify::{notify_ready, write_ready};
pub use reactor::Reactor;
pub use setup::{Chore, Limits, Setup, Stopper};
pub use workers::Journal;

pub mod environment;
pub mod store;

//! The only layer with effects: sockets, threads, files, time.
//!
//! Reading order: [`reactor`] is the loop, [`sockets`] what a role sees of it, [`conn`] one
//! connection with its TLS, [`link`] one socket, [`dial`] how a connection comes to be,
//! [`workers`] and [`jobs`] what blocks.

pub mod apiserver;
mod audit;
mod child;
mod conn;
mod dial;
pub mod files;
mod jobs;
mod link;
mod log;
mod notify;
mod reactor;
pub mod kubeconfig;
pub mod operator;
pub mod roots;
mod signals;
mod sockets;
mod workers;

pub use audit::AuditSink;
pub use log::start as start_log;
pub use child::Child;
pub use notify::{notify_ready, write_ready};
pub use reactor::{Bind, Limits, Reactor, Setup, Stopper};
pub use workers::Journal;

pub mod store;
pub mod environment;

//! The only layer with effects: sockets, threads, files, time.

pub mod environment;
pub mod files;
pub mod kubeconfig;
pub mod operator;
pub mod roots;

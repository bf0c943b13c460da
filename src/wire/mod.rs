//! Byte layouts: values to bytes and back. Nothing here keeps state between calls.

pub mod arm;
pub mod connection_string;
pub mod control;
pub mod h1;
pub mod json;
pub mod jws;
pub mod kube;
pub mod kubeconfig;
pub mod mux;
pub mod percent;
pub mod probe;
pub mod resource;
pub mod sas;
pub mod url;
pub mod ws;
pub mod yaml;

//! Byte layouts: values to bytes and back. Nothing here keeps state between calls.

pub mod control;
pub mod h1;
pub mod json;
pub mod jws;
pub mod kube;
pub mod mux;
pub mod percent;
pub mod sas;
pub mod ws;

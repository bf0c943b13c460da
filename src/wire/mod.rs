//! Byte layouts: values to bytes and back. Nothing here keeps state between calls.

pub mod h1;
pub mod json;
pub mod kube;
pub mod mux;
pub mod ws;

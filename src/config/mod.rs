//! Command lines, files and help texts.

pub mod args;
pub mod auth_config;
pub mod errors;
pub mod kubeconfig;
pub mod values;

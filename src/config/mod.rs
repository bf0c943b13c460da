//! Command lines, files and help texts.

pub mod args;
pub mod errors;
pub mod values;

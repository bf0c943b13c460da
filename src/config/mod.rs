//! Command lines, files and help texts.

pub mod errors;

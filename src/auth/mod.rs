//! Pure decisions about who may do what.

pub mod sas;

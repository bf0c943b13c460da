//! Pure decisions about who may do what.

pub mod assignments;
pub mod sas;

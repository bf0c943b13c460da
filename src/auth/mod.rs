//! Pure decisions about who may do what.

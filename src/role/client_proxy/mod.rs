//! The client proxy: kubectl's way into connected clusters, by a port on this machine.
//!
//! What follows are its decisions, one to a file and without effects: which cluster a request is
//! for, whether the caller may use the port, where tokens come from, what a credential must say,
//! whom it trusts, and when it asks again.

pub mod admission;
pub mod credential;
pub mod identity;
pub mod known;
pub mod renewal;
pub mod route;

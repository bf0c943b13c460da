#![allow(dead_code, unreachable_pub, reason = "each test uses its own part of this")]
//! What several tests need.

pub mod pair;
pub mod tls;

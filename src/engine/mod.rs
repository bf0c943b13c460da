//! State machines: they take bytes and facts and give bytes and facts. No machine does I/O, reads
//! a clock or draws a random number; time and randomness are arguments.

pub mod backoff;
pub mod exchange;
pub mod lull;
pub mod mux;
pub mod pace;
pub mod probe;
pub mod renewal;
pub mod timers;
pub mod tls;
pub mod tlsconf;
pub mod tunnel;
pub mod upgrade;
pub mod ws;

//! What a process is for. A role decides; it never touches a socket, a thread, a file or a clock.
//!
//! The reactor in [`crate::io`] and the simulator in `tests/sim` drive roles through the same two
//! traits, [`Role`] and [`Net`], so what is tested under simulated time is the code that runs.

pub mod agent;
pub mod auth_proxy;
pub mod client_proxy;
pub mod edge;
pub mod egress;
mod frames;
mod job;
pub mod keys;
mod letter;
mod net;
pub mod relay;
pub mod shared_key;

pub use job::{Exec, HttpAnswer, HttpCall, Job, JobId, Note, Outcome, State, WriteFile};
pub use letter::{Letter, LoopId, Pair, Revoked, Seat, Tally};
pub use net::{
    Busy, Close, ConnId, Endpoint, Event, Fault, ListenerTag, Net, Notice, Peer, Role, Signal, Tls,
    Unrecorded, Via, random_u64,
};

//! Many streams over one tunnel, in yamux framing.
//!
//! Reading order: [`credit`] is the flow control of one stream, [`span`], [`round_trip`],
//! [`company`] and [`trial`] what it goes by, [`flow`] those of a session together, [`stream`] one stream's two directions, [`ping`] what
//! two ends tell each other beside, [`session`] the table of streams and the turns they take.

mod company;
mod credit;
mod flow;
#[cfg(test)]
mod line_tests;
mod ping;
mod round_trip;
mod session;
mod span;
mod stream;
mod trial;

pub use credit::Overdraft;
pub use session::{Ended, Event, Session, Violation};

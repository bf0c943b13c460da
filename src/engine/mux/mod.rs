//! Many streams over one tunnel, in yamux framing.
//!
//! Reading order: [`credit`] is the flow control of one stream, [`span`], [`round_trip`],
//! [`company`] and [`trial`] what it goes by, [`stream`] one stream's two directions, [`session`] the
//! table of streams and the turns they take.

mod company;
mod credit;
#[cfg(test)]
mod line_tests;
mod round_trip;
mod session;
mod span;
mod stream;
mod trial;

pub use credit::Overdraft;
pub use session::{Ended, Event, Session, Violation};

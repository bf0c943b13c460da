//! Many streams over one tunnel, in yamux framing.
//!
//! Reading order: [`credit`] is the flow control of one stream, [`round_trip`] and [`company`] what
//! it goes by, [`stream`] one stream's two directions, [`session`] the table of streams and the
//! turns they take.

mod company;
mod credit;
mod round_trip;
mod session;
mod stream;

pub use credit::Overdraft;
pub use session::{Ended, Event, Session, Violation};

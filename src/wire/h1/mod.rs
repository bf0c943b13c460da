//! HTTP/1.1 heads and bodies, read strictly (RFC 9112) and written strictly.
//!
//! A head is found by its end, checked for stray CR and LF, split by httparse, and then checked
//! again: every name, value and target that leaves this module has been through our own grammar,
//! and the request line is known to be nothing but its three parts. What may stand in a head but
//! is refused by one role alone (methods, credentials, protected names) is in [`policy`].
//!
//! Heads are never spliced through: what goes on is written anew by [`RequestHead::write`] and
//! [`ResponseHead::write`], which refuse every byte that could end a line.

mod body;
mod chunk;
mod class;
mod fields;
mod framing;
mod grammar;
mod hop;
mod malformed;
pub mod policy;
mod request;
mod response;
mod scan;

pub use body::{BodyReader, BodyWriter};
pub use chunk::{ChunkReader, LAST_CHUNK, write_chunk};
pub use class::{FieldClass, begins_as, reads_as};
pub use fields::{Field, Fields, Unwritable};
pub use framing::{Framing, Piece};
pub use hop::{Protocol, is_remade, protected_option, strip};
pub use malformed::Malformed;
pub use request::{RequestHead, Version};
pub use response::{ResponseHead, reason_phrase};
pub use scan::Scan;

//! Bytes that go through as they are: the role passes on the buffer that it has, and nothing is
//! copied. That is most of a large body, and all of an upgraded connection.

use std::time::Instant;

use super::{Answer, Exchange, Phase};
use crate::wire::h1::BodyWriter;

impl Exchange {
    /// Takes note of `len` bytes from the caller, if they go upstream as they are and nothing else
    /// follows from them: the role then sends them on. Otherwise they are for
    /// [`Self::handle_down`].
    #[must_use]
    pub fn pass_down(&mut self, len: usize, now: Instant) -> bool {
        let passes = self.down.inbox.is_empty()
            && match (self.phase, &mut self.flight) {
                (Phase::Raw, _) => true,
                (Phase::Relaying, Some(flight)) => {
                    let passes = flight.writer == BodyWriter::Plain && flight.body.pass(len);
                    flight.body_sent |= passes;
                    if passes {
                        flight.rate = flight.rate.map(|rate| rate.saturating_add(len as u64));
                    }
                    passes
                }
                _ => false,
            };
        if passes {
            self.last_traffic = now;
        }
        passes
    }

    /// The same for bytes from the upstream, which are otherwise for [`Self::handle_up`].
    #[must_use]
    pub fn pass_up(&mut self, len: usize, now: Instant) -> bool {
        let passes = self.up.inbox.is_empty()
            && match (self.phase, &mut self.flight) {
                (Phase::Raw, _) => true,
                (Phase::Relaying, Some(flight)) => match &mut flight.answer {
                    Answer::Flowing { reader, writer: BodyWriter::Plain, .. } => reader.pass(len),
                    _ => false,
                },
                _ => false,
            };
        if passes {
            self.last_traffic = now;
        }
        passes
    }
}

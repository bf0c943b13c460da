//! Durable first, applied then: the registry together with the changes that are on their way to
//! the disk. One batch at a time, so that a request is always judged against a state that stands:
//! two enrolments with one join token cannot both be found good.

use std::sync::Arc;

use super::{Change, Registry, Unreadable, decode, encode};

/// The registry, and what is being made durable.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    registry: Arc<Registry>,
    in_flight: Option<Vec<Change>>,
}

/// Another batch is on its way to the disk: ask again when it is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InFlight;

impl Ledger {
    /// From the records of the store, in their order.
    ///
    /// # Errors
    ///
    /// [`Unreadable`] and the number of the record, counted from 0.
    pub fn replay<'a>(
        records: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, (usize, Unreadable)> {
        let mut registry = Registry::default();
        for (number, record) in records.into_iter().enumerate() {
            let changes = decode(record).map_err(|why| (number, why))?;
            changes.into_iter().for_each(|change| registry.apply(change));
        }
        Ok(Self { registry: Arc::new(registry), in_flight: None })
    }

    /// The state that is durable.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The same, for a journal that is written anew. Whoever still has it when something changes has
    /// a copy from then on.
    pub fn share(&self) -> Arc<Registry> {
        Arc::clone(&self.registry)
    }

    /// Whether a batch is on its way to the disk.
    pub const fn is_busy(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Takes `changes` (where there are none, there is nothing to do), which were planned against [`Self::registry`] in this very turn, and gives
    /// the record to append.
    ///
    /// # Errors
    ///
    /// [`InFlight`]: plan again when the other batch has landed.
    pub fn begin(&mut self, changes: Vec<Change>) -> Result<Vec<u8>, InFlight> {
        if self.is_busy() {
            return Err(InFlight);
        }
        let record = encode(&changes);
        self.in_flight = Some(changes);
        Ok(record)
    }

    /// The record is durable, or it is not: only then do the changes count.
    pub fn finish(&mut self, durable: bool) {
        let changes = self.in_flight.take().filter(|_| durable).unwrap_or_default();
        if !changes.is_empty() {
            let registry = Arc::make_mut(&mut self.registry);
            changes.into_iter().for_each(|change| registry.apply(change));
        }
    }
}

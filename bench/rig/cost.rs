//! What one act costs in memory: time and allocations.

use std::time::Instant;

use allocation_counter::measure;

/// Each of several acts.
pub(crate) struct Cost {
    pub(crate) micros: f64,
    pub(crate) allocations: f64,
    pub(crate) bytes: f64,
}

impl Cost {
    /// Of `act`, after it has been done often enough for buffers to have their size.
    pub(crate) fn of(rounds: usize, mut act: impl FnMut()) -> Self {
        for _ in 0..16 {
            act();
        }
        let mut seconds = 0.0;
        let counted = measure(|| {
            let start = Instant::now();
            (0..rounds).for_each(|_| act());
            seconds = start.elapsed().as_secs_f64();
        });
        let each = |total: f64| total / rounds as f64;
        Self {
            micros: each(seconds * 1e6),
            allocations: each(counted.count_total as f64),
            bytes: each(counted.bytes_total as f64),
        }
    }

    /// A row of a table.
    pub(crate) fn row(self, name: &str) -> (String, Vec<(&'static str, f64, usize)>) {
        let figures = vec![
            ("us each", self.micros, 2),
            ("allocations", self.allocations, 1),
            ("bytes allocated", self.bytes, 0),
        ];
        (name.to_owned(), figures)
    }
}

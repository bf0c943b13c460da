//! A world without delays, in which what is counted is steps.

use std::time::Duration;

use super::World;

impl World {
    /// From here on there are no delays, and `bytes` of each connection move in each step.
    pub fn go_straight(&mut self, bytes: usize) {
        self.straight = Some(bytes);
    }

    /// How many steps it takes until `done`, which must come before any time passes.
    pub fn steps_until(&mut self, mut done: impl FnMut(&Self) -> bool) -> u64 {
        let (began, before) = (self.now, self.steps);
        while !done(self) {
            self.step(began);
            assert_eq!(self.now, began, "it waits for a time");
            assert!(self.steps - before < 10_000, "it never comes");
        }
        self.steps - before
    }

    /// What `node` sends takes up to `millis` from now on.
    pub fn lag(&mut self, node: usize, millis: u64) {
        self.nodes[node].lag = millis;
    }

    pub(super) fn delay(&mut self, node: usize) -> Duration {
        let delay = Duration::from_millis(self.rng.below(self.nodes[node].lag));
        if self.straight.is_some() { Duration::ZERO } else { delay }
    }

    pub(super) fn portion(&mut self) -> usize {
        let portion = self.rng.size(20_000);
        self.straight.unwrap_or(portion)
    }
}

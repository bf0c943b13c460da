//! The other loops of the process, as the one that decides sees them. They carry pairs and nothing
//! else: listeners, meetings, the registry and the API are all here, so nothing of that is shared.
//! A pair is given away once, whole, to the loop with the fewest, and never comes back.

use log::debug;

use super::{Net, Relay};
use crate::role::{Letter, LoopId, Pair, Revoked, Tally};

/// All loops but this one, from number 1 on.
#[derive(Debug)]
pub(super) struct Loops(Vec<Other>);

#[derive(Clone, Debug, Default)]
struct Other {
    /// Pairs given to it.
    given: u64,
    tally: Tally,
}

impl Other {
    /// Pairs it has now, those on their way included.
    const fn pairs(&self) -> u64 {
        self.given.saturating_sub(self.tally.ended)
    }
}

impl Loops {
    /// `loops` is how many the process has, this one included.
    pub(super) fn new(loops: usize) -> Self {
        Self(vec![Other::default(); loops.saturating_sub(1)])
    }

    /// Where the next pair goes when there are `here` on this loop. Where all have as many, it is
    /// not this loop, which has other things to do.
    fn choose(&mut self, here: u64) -> Option<LoopId> {
        let others = self.0.iter_mut().zip(1..);
        let (other, number) = others.min_by_key(|(other, _)| other.pairs())?;
        if other.pairs() <= here {
            other.given += 1;
            return Some(LoopId(number));
        }
        None
    }

    /// Pairs on the other loops.
    pub(super) fn pairs(&self) -> u64 {
        self.0.iter().map(Other::pairs).sum()
    }

    /// Connections on the other loops, as far as known.
    pub(super) fn sockets(&self) -> usize {
        self.tallies().map(|tally| tally.sockets).sum()
    }

    /// Something on another loop is not over.
    pub(super) fn are_busy(&self) -> bool {
        self.pairs() != 0 || self.sockets() != 0
    }

    /// What they have carried.
    pub(super) fn tallies(&self) -> impl Iterator<Item = Tally> + '_ {
        self.0.iter().map(|other| other.tally)
    }

    pub(super) fn revoke(&self, revoked: &Revoked, net: &mut dyn Net) {
        for number in 1..=self.0.len() {
            net.post(LoopId(number), Letter::Revoke(revoked.clone()));
        }
    }

    pub(super) fn on_letter(&mut self, from: LoopId, letter: &Letter) {
        let other = from.0.checked_sub(1).and_then(|index| self.0.get_mut(index));
        if let (Some(other), Letter::Tally(tally)) = (other, letter) {
            other.tally = *tally;
        }
    }
}

impl Relay {
    /// Moves frames between the two from here on, on whichever loop has the least to do.
    pub(super) fn carry(&mut self, pair: Pair, net: &mut dyn Net) {
        match self.loops.choose(self.pump.pairs()) {
            Some(to) => {
                debug!("conn={} and conn={} go to loop {}", pair.conns[0].0, pair.conns[1].0, to.0);
                net.post(to, Letter::Pair(Box::new(pair)));
            }
            None => self.pump.carry(pair, net),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_go_to_the_loop_that_has_the_fewest_and_to_this_one_last() {
        let mut loops = Loops::new(3);
        let mut here = 0;
        let mut went = Vec::new();
        for _ in 0..7 {
            let to = loops.choose(here).map_or(0, |LoopId(number)| number);
            here += u64::from(to == 0);
            went.push(to);
        }
        assert_eq!(went, [1, 2, 0, 1, 2, 0, 1]);
        let tally = Tally { ended: 2, ..Tally::default() };
        loops.on_letter(LoopId(2), &Letter::Tally(tally));
        assert_eq!(loops.choose(here), Some(LoopId(2)));
        assert_eq!((loops.pairs(), loops.are_busy()), (4, true));
        assert_eq!(Loops::new(1).choose(100), None);
    }

    #[test]
    fn a_letter_from_nowhere_changes_nothing() {
        let mut loops = Loops::new(2);
        let tally = Tally { sockets: 9, ..Tally::default() };
        for from in [0, 2, usize::MAX] {
            loops.on_letter(LoopId(from), &Letter::Tally(tally));
        }
        assert_eq!(loops.sockets(), 0);
    }
}

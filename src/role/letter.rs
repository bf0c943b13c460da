//! What the loops of one process send each other. A loop shares nothing with another: connections
//! and counts go from hand to hand in letters, and no lock is ever taken where bytes are carried.

use std::sync::Arc;

use super::{ConnId, Peer};
use crate::auth::network::NetworkRules;

/// Names a loop of this process. The one that listens, and decides, is 0.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct LoopId(pub usize);

/// One message from loop to loop.
#[derive(Debug)]
pub enum Letter {
    /// To a loop that carries: these two are yours.
    Pair(Box<Pair>),
    /// To a loop that carries: close these.
    Revoke(Revoked),
    /// From a loop that carries: what has come of its pairs.
    Tally(Tally),
}

/// Which connections are to be closed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Revoked {
    /// All at this entity (its name in lower case).
    Entity(String),
    /// Those at this entity that tokens of this bearer, in the words of the authority, have opened.
    At(String, String),
    /// Those that tokens of this bearer have opened, wherever.
    Bearer(String),
    /// Those from addresses that these rules do not admit.
    Outside(Arc<NetworkRules>),
}

impl Revoked {
    /// Whether a connection of `peer` at `entity` that `bearer` has opened is among them.
    pub fn covers(&self, entity: &str, bearer: &str, peer: Peer) -> bool {
        match self {
            Self::Entity(of) => of == entity,
            Self::At(of, by) => of == entity && by == bearer,
            Self::Bearer(by) => by == bearer,
            Self::Outside(_) => self.shuts_out(peer),
        }
    }

    /// Whether `peer` may not come any more, whatever it has opened.
    pub fn shuts_out(&self, peer: Peer) -> bool {
        matches!(self, Self::Outside(rules) if !rules.admit(peer.address()))
    }
}

/// A sender's place among those that are served at a time. It is taken for as long as it is
/// somewhere, and free once it was dropped, on whichever loop.
#[derive(Debug)]
pub struct Seat(#[expect(dead_code, reason = "to be there is all they are for")] [Arc<()>; 2]);

impl Seat {
    /// A share of the counters that it counts in.
    pub(super) const fn new(shares: [Arc<()>; 2]) -> Self {
        Self(shares)
    }
}

/// A sender and the listener's connection that it has met, both with their 101 behind them.
#[derive(Debug)]
pub struct Pair {
    /// The sender's connection and the listener's.
    pub conns: [ConnId; 2],
    /// Where they met, in lower case.
    pub entity: String,
    /// Whose token has let the sender in.
    pub bearer: String,
    /// From where the two have come.
    pub peers: [Peer; 2],
    /// The sender's.
    pub seat: Option<Seat>,
    /// What the sender has sent before it was answered.
    pub early: Vec<u8>,
    /// What has come behind the listener's request.
    pub rest: Vec<u8>,
}

/// Counts of a loop since it began, except for the sockets it has now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Bytes carried, in both directions.
    pub bytes: u64,
    /// Pairs that have ended.
    pub ended: u64,
    /// Connections there are now, those included that only say goodbye.
    pub sockets: usize,
}

impl Letter {
    /// The connections that go with the letter: they are the other loop's from then on.
    #[must_use]
    pub fn conns(&self) -> &[ConnId] {
        match self {
            Self::Pair(pair) => &pair.conns,
            Self::Revoke(_) | Self::Tally(_) => &[],
        }
    }
}

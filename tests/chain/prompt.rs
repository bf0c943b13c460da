//! What is said once is heard at once: an event of a watch passes each process in the turn in which
//! it arrives, and waits for no timer, no more data, and no end of anything.

use std::rc::Rc;
use std::time::Duration;

use cluster_connect::limits::{CONN_OUTBOX, QUEUE_MAX};
use cluster_connect::role::{Event, Signal};

use crate::chain::kubectl::Ask;
use crate::chain::{Chain, Shape};

/// Bytes that each connection moves in a step.
const PORTION: usize = 16 * 1024;

/// API server to auth proxy, to agent (in memory where they are one process), to relay, to client
/// proxy, to kubectl.
const HOPS: u64 = 5;

/// A chain with one watch, and `bulk` downloads beside it.
fn watching(is_apart: bool, bulk: usize) -> Chain {
    let mut chain = Chain::new(11, Shape { is_apart, ..Shape::default() });
    chain.world.go_straight(PORTION);
    // What is on its way comes as it was sent off, with delays.
    chain.world.run_for(Duration::from_secs(1));
    let mut lanes = vec![vec![Ask::Tail]];
    let size = 40_000_000;
    lanes.extend((0..bulk).map(|_| vec![Ask::Stall { size }]));
    chain.ask(lanes);
    let seen = Rc::clone(&chain.seen);
    let up = |_: &_| seen.borrow().requests == 1 + bulk;
    assert!(chain.world.run_until(Duration::from_secs(10), up));
    // The head of the watch goes down. Then those who stall read on, all of them at once.
    chain.world.run_for(Duration::from_secs(5));
    chain.read_on();
    chain.world.run_steps(100);
    chain
}

/// Lets the API server say something, and counts the steps until kubectl has heard it.
fn say(chain: &mut Chain) -> u64 {
    let report = Rc::clone(&chain.report);
    let before = report.borrow().events;
    chain.world.poke(chain.apiserver, Event::Signal(Signal::Reload));
    chain.world.steps_until(|_| report.borrow().events == before + 1)
}

#[test]
fn an_event_leaves_each_process_in_the_turn_in_which_it_comes() {
    for is_apart in [false, true] {
        let mut chain = watching(is_apart, 0);
        let all: Vec<u64> = (0..20).map(|_| say(&mut chain)).collect();
        assert_eq!(all, [HOPS; 20], "apart: {is_apart}");
    }
}

#[test]
fn an_event_beside_bulk_waits_for_what_is_queued_for_its_sockets_and_for_no_stream() {
    for is_apart in [false, true] {
        let mut chain = watching(is_apart, 4);
        // A socket's queue in slices of a record, and what the two kernels of a hop hold.
        let queued = (CONN_OUTBOX * PORTION + QUEUE_MAX + 64 * 1024) / PORTION;
        let most = HOPS * (1 + queued as u64);
        let all: Vec<u64> = (0..30).map(|_| say(&mut chain)).collect();
        assert_eq!(chain.report.borrow().left, 5, "they are all under way still");
        assert!(all.iter().all(|steps| *steps <= most), "{all:?}, at most {most}");
        // That is nothing beside what is under way: 160 MB are 10,000 portions.
        assert!(most < 500, "{most}");
    }
}

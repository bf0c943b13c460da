//! kubectl, client proxy, relay, agent, auth proxy and API server in one simulated world.

mod chain;
#[path = "chain/prompt.rs"]
mod prompt;
mod sim;

use std::rc::Rc;
use std::time::Duration;

use chain::kubectl::{Ask, Exit};
use chain::{Chain, Shape};
use sim::Rng;

/// Something for kubectl to do, from a seed.
fn asks(rng: &mut Rng, lanes: usize, each: u64, largest: u64) -> Vec<Vec<Ask>> {
    let protocols = ["SPDY/3.1", "websocket"];
    let ask = |rng: &mut Rng| {
        let size = rng.size(largest);
        match rng.below(10) {
            0..=3 => Ask::Get { salt: rng.next() >> 8, size: size as u64, mode: rng.below(3) },
            4..=6 => Ask::Post {
                body: rng.bytes(size),
                is_chunked: rng.below(2) == 0,
                mode: [0, 0, 1, 1, 2, 5][rng.index(6)],
            },
            7 => Ask::Refused { size: rng.size(100_000) },
            8 => Ask::Watch { events: rng.below(8) },
            _ => Ask::Exec {
                body: rng.bytes(size),
                protocol: protocols[rng.index(2)],
                half_closes: rng.below(2) == 0,
            },
        }
    };
    (0..lanes).map(|_| (0..=rng.below(each)).map(|_| ask(rng)).collect()).collect()
}

#[test]
fn every_byte_comes_back_and_nothing_is_left() {
    for seed in 0..200 {
        let shape = Shape { is_apart: seed % 2 == 1, ..Shape::default() };
        let mut chain = Chain::new(seed, shape);
        let mut rng = Rng(seed);
        let (lanes, largest) = if seed % 20 == 0 { (6, 400_000) } else { (3, 40_000) };
        let plan = asks(&mut rng, lanes, 4, largest);
        let count: usize = plan.iter().map(Vec::len).sum();
        chain.ask(plan);
        let done = chain.run_asks(Duration::from_secs(300));
        let report = chain.report.borrow();
        assert!(done, "seed {seed}: {report:?}, left: {:?}", chain.leftovers());
        assert_eq!(report.wrong, [""; 0], "seed {seed}");
        assert_eq!((report.whole, report.broken), (count, 0), "seed {seed}: {report:?}");
        drop(report);
        chain.rest();
        let seen = chain.seen.borrow();
        assert_eq!(seen.strange, [""; 0], "seed {seed}");
        assert!(seen.users.iter().all(|user| user == "alice"), "seed {seed}: {:?}", seen.users);
        assert_eq!(chain.leftovers(), [""; 0], "seed {seed}");
    }
}

/// Breaks something.
fn break_something(chain: &mut Chain, rng: &mut Rng) {
    match rng.below(12) {
        0 => chain.replace_relay(),
        1 => chain.replace_agent(),
        2 => chain.replace_auth_proxy(),
        3 => chain.world.break_conns(chain.relay),
        4 => chain.world.break_conns(chain.agent),
        5 => chain.world.break_conns(chain.auth_proxy),
        6 => chain.world.break_conns(chain.apiserver),
        _ => chain.world.break_one(),
    }
}

#[test]
fn whatever_breaks_no_answer_is_wrong_and_the_chain_recovers() {
    let (mut whole, mut broken, mut refused) = (0, 0, 0);
    for seed in 0..200 {
        let shape = Shape { is_apart: seed % 2 == 1, ..Shape::default() };
        let mut chain = Chain::new(1_000 + seed, shape);
        let mut rng = Rng(seed);
        chain.ask(asks(&mut rng, 4, 8, 60_000));
        for _ in 0..=rng.below(4) {
            chain.world.run_for(Duration::from_millis(rng.below(3_000)));
            break_something(&mut chain, &mut rng);
        }
        let done = chain.run_asks(Duration::from_secs(600));
        assert!(done, "seed {seed}: {:?}", chain.report.borrow());
        chain.world.run_for(Duration::from_secs(60));
        {
            let mut report = chain.report.borrow_mut();
            assert_eq!(report.wrong, [""; 0], "seed {seed}");
            whole += std::mem::take(&mut report.whole);
            broken += std::mem::take(&mut report.broken);
            refused += std::mem::take(&mut report.refused).len();
        }
        let plan: Vec<Vec<Ask>> = asks(&mut rng, 3, 2, 20_000);
        let count: usize = plan.iter().map(Vec::len).sum();
        chain.ask(plan);
        assert!(chain.run_asks(Duration::from_secs(60)), "seed {seed}");
        assert_eq!(chain.report.borrow().whole, count, "seed {seed}: {:?}", chain.report.borrow());
        chain.rest();
        let seen = chain.seen.borrow();
        assert_eq!(seen.strange, [""; 0], "seed {seed}");
        assert!(seen.users.iter().all(|user| user == "alice"), "seed {seed}: {:?}", seen.users);
        assert_eq!(chain.leftovers(), [""; 0], "seed {seed}");
    }
    assert!(whole > 2_000 && broken > 50 && refused > 50, "{whole} {broken} {refused}");
}

#[test]
fn a_stalled_reader_costs_a_window_and_stops_nobody() {
    for seed in 0..6 {
        let shape = Shape { is_apart: seed % 2 == 1, ..Shape::default() };
        let mut chain = Chain::new(2_000 + seed, shape);
        let mut rng = Rng(seed);
        let stalled = 3;
        let mut plan = asks(&mut rng, 3, 3, 60_000);
        plan.extend((0..stalled).map(|_| vec![Ask::Stall { size: 1_500_000 }]));
        let count: usize = plan.iter().map(Vec::len).sum();
        chain.ask(plan);
        let report = Rc::clone(&chain.report);
        let limit = Duration::from_secs(60);
        let done = chain.world.run_until(limit, |_| report.borrow().left == stalled);
        assert!(done, "seed {seed}: {:?}", report.borrow());
        chain.world.run_for(Duration::from_secs(20));
        let nodes = [chain.client, chain.relay, chain.agent, chain.auth_proxy]
            .map(|n| (n, chain.world.peak(n)));
        // A window of 256 KiB is eight full buffers, or three times as many that are not.
        assert!(nodes.iter().all(|(_, peak)| *peak <= 30 * stalled), "seed {seed}: {nodes:?}");
        chain.read_on();
        assert!(chain.run_asks(Duration::from_secs(300)), "seed {seed}: {:?}", report.borrow());
        assert_eq!(report.borrow().whole, count, "seed {seed}: {:?}", report.borrow());
        chain.rest();
        assert_eq!(chain.leftovers(), [""; 0], "seed {seed}");
    }
}

#[test]
fn whoever_goes_away_leaves_nothing_behind() {
    for seed in 0..150 {
        let shape = Shape { is_apart: seed % 2 == 1, ..Shape::default() };
        let mut chain = Chain::new(3_000 + seed, shape);
        let mut rng = Rng(seed);
        let mut plan = asks(&mut rng, 4, 5, 100_000);
        let mut leaving = 0;
        for ask in plan.iter_mut().flatten() {
            if rng.below(3) > 0 {
                let by = [Exit::Abort, Exit::Close, Exit::Finish][rng.index(3)];
                let inner = match rng.below(4) {
                    0 => Ask::Shell,
                    1 => Ask::Watch { events: 1_000 },
                    _ => ask.clone(),
                };
                *ask = Ask::Leave { ask: Box::new(inner), after: rng.below(1_500), by };
                leaving += 1;
            }
        }
        let count: usize = plan.iter().map(Vec::len).sum();
        chain.ask(plan);
        assert!(
            chain.run_asks(Duration::from_secs(300)),
            "seed {seed}: {:?}",
            chain.report.borrow()
        );
        {
            let report = chain.report.borrow();
            assert_eq!((&report.wrong[..], report.broken), (&[][..], 0), "seed {seed}");
            assert_eq!(
                (report.whole, report.left_alone),
                (count - leaving, leaving),
                "seed {seed}"
            );
        }
        chain.rest();
        assert_eq!(chain.leftovers(), [""; 0], "seed {seed}");
    }
}

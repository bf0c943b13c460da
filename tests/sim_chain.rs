//! kubectl, client proxy, relay, agent, auth proxy and API server in one simulated world.

mod chain;
mod sim;

use std::time::Duration;

use chain::kubectl::Ask;
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
                mode: rng.below(3),
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
        chain.world.run_for(Duration::from_secs(75));
        let seen = chain.seen.borrow();
        assert_eq!(seen.strange, [""; 0], "seed {seed}");
        assert!(seen.users.iter().all(|user| user == "alice"), "seed {seed}: {:?}", seen.users);
        assert_eq!(chain.leftovers(), [""; 0], "seed {seed}");
    }
}

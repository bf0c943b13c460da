//! The tunnel measured on its whole way, as `cluster-connect bench` does it.

use std::time::Duration;

use cluster_connect::engine::probe::{Plan, Report, Stretch};
use cluster_connect::limits::{PROBE_REFILL, PROBES};
use cluster_connect::role::Notice;

use super::{Chain, Shape};
use crate::sim::World;

const PLAN: Plan = Plan { each: Duration::from_secs(1), streams: 2, only: None };

/// How a process that measures has ended.
fn outcome(chain: &Chain, node: usize) -> Result<Report, (&'static str, String)> {
    let mut report = None;
    for notice in chain.world.notices(node) {
        match notice {
            Notice::Measured(it) => report = Some((**it).clone()),
            Notice::Exit(0, None) => return Ok(report.expect("measured before the end")),
            Notice::Exit(_, why) => {
                let why = why.clone().expect("a reason");
                return Err((why.code, why.message));
            }
            Notice::Ready | Notice::Say(_) => (),
        }
    }
    panic!("it has not ended: {:?}", chain.world.notices(node))
}

fn run(chain: &mut Chain) -> usize {
    let node = chain.measure(PLAN);
    let ended =
        |world: &World| world.notices(node).iter().any(|notice| matches!(notice, Notice::Exit(..)));
    assert!(chain.world.run_until(Duration::from_secs(120), ended), "no end");
    node
}

#[test]
fn the_whole_way_is_measured_and_the_api_server_sees_nothing() {
    for seed in 0..4 {
        let shape = Shape { is_apart: seed % 2 == 1, ..Shape::default() };
        let mut chain = Chain::new(seed, shape);
        let node = run(&mut chain);
        let report = outcome(&chain, node).expect("measured");
        assert_eq!((report.streams, report.each), (PLAN.streams, PLAN.each), "seed {seed}");
        let Report { idle: Some(idle), down: Some(down), up: Some(up), .. } = report else {
            panic!("seed {seed}: not all is measured: {report:?}")
        };
        for round_trips in [idle, down.round_trips, up.round_trips] {
            assert!(0 < round_trips.count, "seed {seed}: {report:?}");
            assert!(0 < round_trips.p50 && round_trips.p50 <= round_trips.p99, "seed {seed}");
        }
        for way in [down, up] {
            assert!(10_000 < way.bytes_per_second, "seed {seed}: {report:?}");
            // Three quarters of the time count.
            assert!(way.bytes_per_second / 4 * 3 <= way.bytes, "seed {seed}: {report:?}");
        }
        assert!(Some(0) < report.streams_per_second, "seed {seed}: {report:?}");
        let told = chain.world.notices(node).iter();
        let told = told.filter(|notice| matches!(notice, Notice::Say(_))).count();
        assert!(3 <= told, "seed {seed}: at the end of each stretch at least: {told}");
        assert_eq!(chain.seen.borrow().requests, 0, "seed {seed}");
        chain.rest();
        assert_eq!(chain.world.leftovers(node), (0, 0), "seed {seed}");
        chain.is_served();
        assert_eq!(chain.leftovers(), [""; 0], "seed {seed}");
    }
}

#[test]
fn one_stretch_alone_takes_its_time_and_leaves_the_others_out() {
    for (seed, only) in
        (8..).zip([Stretch::RoundTrip, Stretch::Down, Stretch::Up, Stretch::Streams])
    {
        let mut chain = Chain::new(seed, Shape::default());
        let node = chain.measure(Plan { only: Some(only), ..PLAN });
        chain.world.run_for(PLAN.each);
        let has_ended = |chain: &Chain| {
            chain.world.notices(node).iter().any(|it| matches!(it, Notice::Exit(..)))
        };
        assert!(!has_ended(&chain), "{only:?}: it does not end before its time");
        chain.world.run_for(Duration::from_secs(20));
        let report = outcome(&chain, node).expect("measured");
        let found = [
            (Stretch::RoundTrip, report.idle.is_some_and(|it| 0 < it.count)),
            (Stretch::Down, report.down.is_some_and(|it| 0 < it.bytes)),
            (Stretch::Up, report.up.is_some_and(|it| 0 < it.bytes)),
            (Stretch::Streams, report.streams_per_second.is_some_and(|it| 0 < it)),
        ];
        let found = found.iter().filter(|(_, is_there)| *is_there).map(|(stretch, _)| *stretch);
        assert_eq!(found.collect::<Vec<_>>(), [only]);
        assert_eq!(chain.world.leftovers(node), (0, 0), "{only:?}");
    }
}

#[test]
fn one_measures_at_a_time_and_not_too_often() {
    let mut chain = Chain::new(7, Shape::default());
    let first = chain.measure(PLAN);
    chain.world.run_for(Duration::from_millis(1_500));
    let second = run(&mut chain);
    let (code, why) = outcome(&chain, second).expect_err("somebody measures already");
    assert_eq!(code, "BENCH_REFUSED");
    assert!(why.contains("429: somebody else is measuring"), "{why}");
    chain.world.run_for(Duration::from_secs(20));
    assert!(outcome(&chain, first).is_ok(), "the one who was there is not disturbed");

    for _ in 1..PROBES {
        let node = run(&mut chain);
        assert!(outcome(&chain, node).is_ok());
    }
    let node = run(&mut chain);
    let (_, why) = outcome(&chain, node).expect_err("too often");
    assert!(why.contains("429: you have measured too often"), "{why}");
    chain.world.run_for(PROBE_REFILL);
    let node = run(&mut chain);
    assert!(outcome(&chain, node).is_ok());
}

#[test]
fn a_tunnel_that_breaks_is_an_error_and_no_result() {
    for seed in 0..6 {
        let shape = Shape { is_apart: seed % 2 == 1, ..Shape::default() };
        let mut chain = Chain::new(seed, shape);
        let node = chain.measure(PLAN);
        chain.world.run_for(Duration::from_millis(500 + seed * 400));
        chain.world.break_conns(chain.auth_proxy);
        chain.world.run_for(Duration::from_secs(60));
        let (code, why) = outcome(&chain, node).expect_err("it broke");
        assert_eq!(code, "CLUSTER_UNREACHABLE", "seed {seed}: {why}");
        assert_eq!(chain.world.leftovers(node), (0, 0), "seed {seed}");
    }
}

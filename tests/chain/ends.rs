//! How things end that would go on for ever: tokens, sessions, rights, relays, listeners.

use std::rc::Rc;
use std::time::Duration;

use cluster_connect::limits::RELIEF_KEPT;
use cluster_connect::role::Notice;

use super::kubectl::Ask;
use super::{Chain, Shape};

const ENDLESS: Ask = Ask::Watch { events: 1_000_000 };
const GET: Ask = Ask::Get { salt: 1, size: 5_000, mode: 1 };

impl Chain {
    /// One request of kubectl's, and time for what it leaves open to end.
    pub fn is_served(&mut self) {
        self.ask(vec![vec![GET]]);
        assert!(self.run_asks(Duration::from_secs(60)), "{:?}", self.report.borrow());
        assert_eq!(self.report.borrow().whole, 1, "{:?}", self.report.borrow());
        self.rest();
    }

    /// Time for what is kept for the next request to end, and for a second session that nobody needs.
    pub fn rest(&mut self) {
        self.world.run_for(RELIEF_KEPT + Duration::from_secs(75));
    }
}

/// Runs `ask` until its connection breaks, and says after how many seconds that was.
fn seconds_until_broken(chain: &mut Chain, ask: Ask, limit: u64) -> u64 {
    let start = chain.world.now;
    chain.ask(vec![vec![ask]]);
    let report = Rc::clone(&chain.report);
    let limit = Duration::from_secs(limit);
    assert!(chain.world.run_until(limit, |_| report.borrow().broken > 0), "{:?}", report.borrow());
    assert_eq!(report.borrow().wrong, [""; 0]);
    let end = report.borrow_mut().last_break.take().expect("it broke");
    *report.borrow_mut() = Default::default();
    (end - start).as_secs()
}

/// Nothing but new requests is needed for all to be well.
fn assert_all_is_well(chain: &mut Chain) {
    *chain.report.borrow_mut() = Default::default();
    chain.ask(vec![vec![GET, GET]]);
    assert!(chain.run_asks(Duration::from_secs(60)), "{:?}", chain.report.borrow());
    assert_eq!(chain.report.borrow().whole, 2, "{:?}", chain.report.borrow());
    chain.rest();
    assert_eq!(chain.leftovers(), [""; 0]);
}

#[test]
fn a_watch_ends_with_its_token_and_is_not_taken_for_whole() {
    for seed in 0..4 {
        let shape = Shape { is_apart: seed % 2 == 1, token_life: 200, ..Shape::default() };
        let mut chain = Chain::new(seed, shape);
        let seconds = seconds_until_broken(&mut chain, ENDLESS, 400);
        // Its token is up to a second old, and clocks are given a minute.
        assert!((255..=262).contains(&seconds), "after {seconds} s");
        assert_all_is_well(&mut chain);
    }
}

#[test]
fn an_upgraded_connection_ends_when_its_time_is_up() {
    for seed in 0..4 {
        let session_max = Duration::from_secs(90);
        let shape = Shape { is_apart: seed % 2 == 1, session_max, ..Shape::default() };
        let mut chain = Chain::new(seed, shape);
        let seconds = seconds_until_broken(&mut chain, Ask::Shell, 120);
        assert!((90..=92).contains(&seconds), "after {seconds} s");
        assert_all_is_well(&mut chain);
    }
}

#[test]
fn a_revoked_user_is_cut_off_at_once_and_kept_out() {
    let mut chain = Chain::new(1, Shape::default());
    chain.ask(vec![vec![ENDLESS], vec![Ask::Shell]]);
    chain.world.run_for(Duration::from_secs(5));
    assert_eq!(chain.report.borrow().broken, 0);
    assert_eq!(chain.grant("revoke", "alice"), 204);
    chain.world.run_for(Duration::from_secs(5));
    assert_eq!((chain.report.borrow().broken, chain.seen.borrow().open), (2, 0));
    chain.ask(vec![vec![GET]]);
    assert!(chain.run_asks(Duration::from_secs(60)));
    {
        let report = chain.report.borrow();
        let [(status, why)] = &report.refused[..] else { panic!("{report:?}") };
        assert!(*status == 502 && why.contains("is not authorized"), "{status} {why}");
    }
    chain.rest();
    assert_eq!(chain.world.leftovers(chain.client), (0, 0));
}

#[test]
fn an_agent_finds_its_relay_again_whenever_it_comes_back() {
    for (seed, seconds) in [(1, 5), (2, 120), (3, 1_800)] {
        let mut chain = Chain::new(seed, Shape::default());
        chain.world.set_up(chain.relay, false);
        chain.world.break_conns(chain.relay);
        chain.world.run_for(Duration::from_secs(seconds));
        chain.ask(vec![vec![GET]]);
        assert!(chain.run_asks(Duration::from_secs(60)));
        let refused = std::mem::take(&mut chain.report.borrow_mut().refused);
        assert!(matches!(&refused[..], [(502, why)] if !why.is_empty()), "{refused:?}");
        chain.world.set_up(chain.relay, true);
        // The longest pause between two attempts, and a margin.
        chain.world.run_for(Duration::from_secs(35));
        assert_all_is_well(&mut chain);
    }
}

#[test]
fn without_a_listener_the_caller_reads_why() {
    let mut chain = Chain::new(1, Shape::default());
    chain.remove_agent();
    chain.world.run_for(Duration::from_secs(2));
    chain.ask(vec![vec![GET], vec![GET, Ask::Stranger]]);
    assert!(chain.run_asks(Duration::from_secs(60)));
    {
        let report = chain.report.borrow();
        assert_eq!((report.whole, report.refused.len()), (1, 2), "{report:?}");
        for (status, why) in &report.refused {
            assert_eq!(*status, 502);
            assert!(why.contains("offline"), "{why}");
        }
    }
    chain.replace_agent();
    chain.world.run_for(Duration::from_secs(10));
    assert_all_is_well(&mut chain);
}

#[test]
fn a_caller_that_stops_reading_an_ordinary_answer_is_cut_off_in_the_end() {
    let mut chain = Chain::new(1, Shape::default());
    let seconds = seconds_until_broken(&mut chain, Ask::Stall { size: 2_000_000 }, 200);
    assert!((120..=125).contains(&seconds), "after {seconds} s");
    assert_all_is_well(&mut chain);
}

/// How the client proxy has ended, if it has.
fn exit_code(chain: &Chain) -> Option<&'static str> {
    chain.world.notices(chain.client).iter().find_map(|notice| match notice {
        Notice::Exit(_, why) => Some(why.as_ref().map_or("", |fault| fault.code)),
        Notice::Ready | Notice::Say(_) | Notice::Measured(_) => None,
    })
}

#[test]
fn a_client_that_waits_comes_up_when_the_cluster_does() {
    let mut chain = Chain::without_client(1, Shape { is_apart: true, ..Shape::default() });
    chain.world.set_up(chain.auth_proxy, false);
    chain.start_client();
    chain.world.run_for(Duration::from_secs(30));
    assert_eq!((chain.world.is_ready(chain.client), exit_code(&chain)), (false, None));
    chain.world.set_up(chain.auth_proxy, true);
    chain.world.run_for(Duration::from_secs(5));
    assert!(chain.world.is_ready(chain.client));
    assert_all_is_well(&mut chain);

    let mut chain = Chain::without_client(1, Shape { is_apart: true, ..Shape::default() });
    chain.world.set_up(chain.auth_proxy, false);
    chain.start_client();
    chain.world.run_for(Duration::from_secs(70));
    assert_eq!(exit_code(&chain), Some("CLUSTER_UNREACHABLE"));
}

#[test]
fn a_client_comes_up_whatever_breaks_while_it_starts() {
    for seed in 0..60 {
        let mut chain = Chain::without_client(seed, Shape::default());
        chain.start_client();
        chain.world.run_steps(chain.world.rng.clone().below(80));
        let node = [chain.relay, chain.agent, chain.client][chain.world.rng.index(3)];
        chain.world.break_conns(node);
        let limit = Duration::from_secs(60);
        let client = chain.client;
        assert!(chain.world.run_until(limit, |world| world.is_ready(client)), "seed {seed}");
        assert_all_is_well(&mut chain);
    }
}

#[test]
fn a_cluster_with_another_certificate_is_not_talked_to() {
    let mut chain = Chain::without_client(1, Shape { is_impostor: true, ..Shape::default() });
    chain.start_client();
    chain.world.run_for(Duration::from_secs(10));
    assert_eq!(exit_code(&chain), Some("CLUSTER_UNTRUSTED"));
    assert_eq!(chain.seen.borrow().requests, 0);
}

//! A sender, the relay, the agent and an echo in place of the auth proxy, under simulated time:
//! what goes in comes back, whatever the schedule, and after any accident things work again.
#![allow(clippy::unwrap_used)]

#[path = "hc/handover.rs"]
mod handover;
mod sim;
#[path = "hc/table.rs"]
#[allow(dead_code, reason = "shared with tests/hc")]
mod table;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cluster_connect::auth::network::NetworkRules;
use cluster_connect::buf::Pressure;
use cluster_connect::engine::upgrade::{Dial, Handshake};
use cluster_connect::engine::ws::{self, Side, Splice, Step, push_frame};
use cluster_connect::role::agent::{self, Agent, Source};
use cluster_connect::role::relay::authority::Order;
use cluster_connect::role::relay::pump::Pump;
use cluster_connect::role::relay::{self, Relay};
use cluster_connect::role::shared_key::SharedKey;
use cluster_connect::role::{ConnId, Endpoint, Event, Net, Notice, Revoked, Role, Signal};
use cluster_connect::secret::Secret;
use cluster_connect::wire::ws::{Opcode, close_reason};
use sim::{EPOCH, World, no_jobs};
use table::{Table, token};

/// What became of a session.
#[derive(Clone, Debug, Default)]
struct Fate {
    got: Vec<u8>,
    /// The code of the Close that has come: 1000 is the other end's, and the whole plan is here.
    closed: Option<u16>,
    is_over: bool,
}

/// A sender with sessions that each send their plan, then a Close.
struct Sender {
    plans: Vec<Vec<u8>>,
    fates: Rc<RefCell<Vec<Fate>>>,
    sessions: BTreeMap<ConnId, Session>,
}

struct Session {
    index: usize,
    handshake: Option<Handshake>,
    splice: Splice,
    sent: usize,
    has_closed: bool,
}

impl Sender {
    fn start(&mut self, net: &mut dyn Net) {
        let target = Endpoint::Tcp { host: "relay".into(), port: 80, tls: None, via: None };
        for index in 0..self.plans.len() {
            let conn = net.connect(&target).unwrap();
            let session = Session {
                index,
                handshake: None,
                splice: Splice::payload(Side::Client),
                sent: 0,
                has_closed: false,
            };
            self.sessions.insert(conn, session);
        }
    }

    fn send_on(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let plan = &self.plans[session.index];
        if session.handshake.is_some() || session.has_closed {
            return;
        }
        while session.sent < plan.len() {
            if net.pressure(conn) == Pressure::Full {
                return;
            }
            let mut random = [0; 8];
            net.random(&mut random);
            let size = usize::from(random[0]) * usize::from(random[1]) + 1;
            let piece = &plan[session.sent..(session.sent + size).min(plan.len())];
            let mut frame = Vec::new();
            push_frame(&mut frame, Opcode::Binary, random[2] % 2 == 0, KEY, piece);
            // Half of the messages are of two fragments.
            if random[2] % 2 == 1 {
                push_frame(&mut frame, Opcode::Continuation, true, KEY, &[]);
            }
            session.sent += piece.len();
            send(net, conn, &frame);
        }
        session.has_closed = true;
        send(net, conn, &ws::close(1000, "", KEY));
    }

    fn receive(&mut self, conn: ConnId, bytes: &mut [u8], net: &mut dyn Net) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let mut at = 0;
        if let Some(handshake) = &mut session.handshake {
            let Ok(opened) = handshake.handle(bytes) else {
                self.fates.borrow_mut()[session.index].is_over = true;
                self.sessions.remove(&conn);
                return net.close(conn);
            };
            let Some(taken) = opened else { return };
            at = taken;
            session.handshake = None;
        }
        let mut steps = Vec::new();
        let frames = &mut bytes[at..];
        session.splice.handle(frames, &mut steps).expect("the relay keeps to the rules");
        let fate = &mut self.fates.borrow_mut()[session.index];
        for step in steps {
            match step {
                Step::Bytes(range) => fate.got.extend_from_slice(&frames[range]),
                Step::Close(payload) => {
                    fate.closed = close_reason(&payload).map(|(code, _)| code);
                }
                Step::Ping(payload) if !session.has_closed => {
                    send(net, conn, &ws::frame(Opcode::Pong, KEY, &payload));
                }
                Step::Ping(_) | Step::Head(_) => (),
            }
        }
    }
}

impl Role for Sender {
    fn on_event(&mut self, event: Event, net: &mut dyn Net) {
        match event {
            Event::Started => self.start(net),
            Event::Connected(conn) => {
                let token = Secret::new(token("http://relay/ent", "Send", EPOCH + 360_000));
                let dial = Dial {
                    host: "relay",
                    target: "/$hc/ent?sb-hc-action=connect",
                    nonce: [7; 16],
                    protocol: None,
                    token: Some(&token),
                };
                let (head, handshake) = dial.start();
                self.sessions.get_mut(&conn).unwrap().handshake = Some(handshake);
                send(net, conn, head.expose());
            }
            Event::Data(conn, mut data) => {
                self.receive(conn, data.filled_mut(), net);
                self.send_on(conn, net);
            }
            Event::Drained(conn, _) => self.send_on(conn, net),
            Event::Finished(conn) => net.finish(conn),
            Event::Closed(conn, _) => {
                if let Some(session) = self.sessions.remove(&conn) {
                    self.fates.borrow_mut()[session.index].is_over = true;
                }
            }
            _ => (),
        }
    }
}

fn send(net: &mut dyn Net, conn: ConnId, bytes: &[u8]) {
    let pool = net.pool().clone();
    for slice in pool.slices(bytes) {
        let _ = net.send(conn, slice);
    }
}

/// Sends back what comes, and its end.
struct Echo;

impl Role for Echo {
    fn on_event(&mut self, event: Event, net: &mut dyn Net) {
        match event {
            Event::Data(conn, data) => match net.send(conn, data.freeze()) {
                Pressure::Full => net.pause(conn),
                Pressure::Open => (),
            },
            Event::Drained(conn, _) => match net.pressure(conn) {
                Pressure::Open => net.resume(conn),
                Pressure::Full => (),
            },
            Event::Finished(conn) => net.finish(conn),
            _ => (),
        }
    }
}

const KEY: Option<[u8; 4]> = Some([1, 2, 3, 4]);

fn new_agent() -> Agent {
    let source = Source::Key(SharedKey {
        relay: "relay".to_owned(),
        entity: "ent".to_owned(),
        rule: "Listen".to_owned(),
        key: Secret::new("Listen".to_owned()),
        file: None,
    });
    let echo = Endpoint::Tcp { host: "echo".into(), port: 1, tls: None, via: None };
    Agent::new(agent::Config::new(source, None, echo))
}

fn relay_with(table: Table, loops: usize) -> Relay {
    let config = relay::Config { secure: false, loops, ..relay::Config::default() };
    Relay::new(config, Box::new(table))
}

/// What is left of the relay, on all its loops.
fn relay_leftovers(world: &World, seed: u64) -> (usize, usize) {
    let all = std::iter::once(RELAY).chain(other_loops(seed));
    all.map(|node| world.leftovers(node)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
}

const RELAY: usize = 0;
const AGENT: usize = 1;
const ECHO: usize = 2;

/// The other loops of the relay: none, one or two, as the seed says.
fn other_loops(seed: u64) -> Range<usize> {
    ECHO + 1..ECHO + 1 + usize::try_from(seed % 3).unwrap()
}

fn new_relay(seed: u64) -> Relay {
    relay_with(Table::with(&["ent"]), 1 + other_loops(seed).len())
}

/// A world with a relay, an agent that listens, and an echo.
fn world(seed: u64) -> World {
    world_with(seed, new_relay(seed))
}

fn world_with(seed: u64, relay: Relay) -> World {
    let mut world = World::new(seed);
    assert_eq!(world.add("relay", relay, no_jobs()), RELAY);
    assert_eq!(world.add("agent", new_agent(), no_jobs()), AGENT);
    assert_eq!(world.add("echo", Echo, no_jobs()), ECHO);
    for other in other_loops(seed) {
        assert_eq!(world.add_loop(RELAY, Pump::new()), other);
    }
    let ready = world.run_until(Duration::from_secs(60), |world| {
        world.notices(AGENT).iter().any(|notice| matches!(notice, Notice::Ready))
    });
    assert!(ready, "seed {seed}");
    world
}

/// Adds a sender of `plans`; returns its number and what becomes of them.
fn sender(world: &mut World, plans: &[Vec<u8>]) -> (usize, Rc<RefCell<Vec<Fate>>>) {
    let fates = Rc::new(RefCell::new(vec![Fate::default(); plans.len()]));
    let (plans, sessions) = (plans.to_vec(), BTreeMap::new());
    let role = Sender { plans, fates: fates.clone(), sessions };
    (world.add("sender", role, no_jobs()), fates)
}

fn plan(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = sim::Rng(seed);
    (0..len).map(|_| u8::try_from(rng.below(256)).unwrap()).collect()
}

#[test]
fn every_byte_of_every_session_comes_back_in_order_and_so_does_its_end() {
    for seed in 0..150 {
        let mut world = world(seed);
        let plans: Vec<Vec<u8>> =
            (0..).zip([0, 10, 30_000, 200_000]).map(|(n, len)| plan(seed * 4 + n, len)).collect();
        let (node, fates) = sender(&mut world, &plans);
        let done = |fates: &Rc<RefCell<Vec<Fate>>>| fates.borrow().iter().all(|f| f.is_over);
        assert!(world.run_until(Duration::from_secs(600), |_| done(&fates)), "seed {seed}");
        for (fate, plan) in fates.borrow().iter().zip(&plans) {
            assert!(fate.got == *plan && fate.closed == Some(1000), "seed {seed}");
        }
        world.run_for(Duration::from_secs(20));
        assert_eq!(world.leftovers(node), (0, 0), "seed {seed}");
        assert_eq!(world.leftovers(ECHO), (0, 0), "seed {seed}");
        assert_eq!(
            (relay_leftovers(&world, seed), world.leftovers(AGENT)),
            ((0, 1), (0, 1)),
            "seed {seed}"
        );
        world.poke(AGENT, Event::Signal(Signal::Stop));
        world.run_for(Duration::from_secs(20));
        assert_eq!(
            (relay_leftovers(&world, seed), world.leftovers(AGENT)),
            ((0, 0), (0, 0)),
            "seed {seed}"
        );
    }
}

#[test]
fn after_any_accident_nothing_is_left_and_things_work_again() {
    for seed in 0..150 {
        let mut world = world(seed);
        let plans = [plan(seed, 100_000), plan(seed + 1, 50_000)];
        let (node, fates) = sender(&mut world, &plans);
        let steps = world.rng.below(400);
        world.run_steps(steps);
        match seed / 3 % 3 {
            0 => world.break_one(),
            1 => world.replace(AGENT, new_agent()),
            _ => {
                world.replace(RELAY, new_relay(seed));
                other_loops(seed).for_each(|other| world.replace(other, Pump::new()));
            }
        }
        let over = world.run_until(Duration::from_secs(600), |_| {
            fates.borrow().iter().all(|fate| fate.is_over)
        });
        assert!(over, "seed {seed}");
        for (fate, plan) in fates.borrow().iter().zip(&plans) {
            assert!(plan.starts_with(&fate.got), "seed {seed}: bytes that were not sent");
            let whole = fate.got == *plan;
            assert!(matches!(fate.closed, None | Some(1000)), "seed {seed}");
            assert!(fate.closed.is_none() || whole, "seed {seed}: a cut that looks whole");
        }
        world.run_for(Duration::from_secs(240));
        assert_eq!((world.leftovers(node), world.leftovers(ECHO)), ((0, 0), (0, 0)), "seed {seed}");
        assert_eq!(
            (relay_leftovers(&world, seed), world.leftovers(AGENT)),
            ((0, 1), (0, 1)),
            "seed {seed}"
        );

        world.set_up(node, false);
        let plans = [plan(seed + 2, 20_000)];
        let (_, fates) = sender(&mut world, &plans);
        let done = |fates: &Rc<RefCell<Vec<Fate>>>| fates.borrow()[0].is_over;
        assert!(world.run_until(Duration::from_secs(600), |_| done(&fates)), "seed {seed}");
        assert!(fates.borrow()[0].got == plans[0], "seed {seed}");
    }
}

/// A relay that serves two senders at a time.
fn small_relay(seed: u64) -> Relay {
    let loops = 1 + other_loops(seed).len();
    let config = relay::Config { secure: false, loops, senders_max: 2, ..Default::default() };
    Relay::new(config, Box::new(Table::with(&["ent"])))
}

#[test]
fn one_sender_too_many_is_refused_and_after_any_accident_there_is_room_for_as_many() {
    for seed in 0..45 {
        let mut world = world_with(seed, small_relay(seed));
        let plans: Vec<Vec<u8>> = (0..3).map(|n| plan(seed + n, LONG)).collect();
        let (node, fates) = sender(&mut world, &plans);
        let refused = |fate: &Fate| fate.is_over && fate.got.is_empty() && fate.closed.is_none();
        let settled = |_: &World| {
            let fates = fates.borrow();
            fates.iter().all(|fate| refused(fate) || !fate.got.is_empty())
        };
        assert!(world.run_until(Duration::from_secs(60), settled), "seed {seed}");
        let count = fates.borrow().iter().filter(|fate| refused(fate)).count();
        assert_eq!(count, 1, "seed {seed}");

        let steps = world.rng.below(300);
        world.run_steps(steps);
        match seed / 3 % 5 {
            0 => world.break_one(),
            1 => world.break_conns(node),
            2 => world.break_conns(AGENT),
            3 => world.replace(AGENT, new_agent()),
            _ => (),
        }
        let over = |_: &World| fates.borrow().iter().all(|fate| fate.is_over);
        assert!(world.run_until(Duration::from_secs(600), over), "seed {seed}");
        // The last goodbyes leave, and an agent that was cut off is back.
        world.run_for(Duration::from_secs(240));
        assert_eq!(relay_leftovers(&world, seed), (0, 1), "seed {seed}");

        world.set_up(node, false);
        let plans = [plan(seed + 4, 50_000), plan(seed + 5, 50_000)];
        let (_, fates) = sender(&mut world, &plans);
        let over = |_: &World| fates.borrow().iter().all(|fate| fate.is_over);
        assert!(world.run_until(Duration::from_secs(600), over), "seed {seed}");
        for (fate, plan) in fates.borrow().iter().zip(&plans) {
            assert!(fate.got == *plan, "seed {seed}: a seat was lost");
        }
    }
}

/// Bytes of a session that is not over soon.
const LONG: usize = 600_000;

/// A relay of three loops that carries three long sessions, one on each.
fn spread(seed: u64) -> (World, Table, usize, Rc<RefCell<Vec<Fate>>>) {
    assert_eq!(other_loops(seed).len(), 2);
    let table = Table::with(&["ent"]);
    let mut world = world_with(seed, relay_with(table.clone(), 3));
    let plans: Vec<Vec<u8>> = (0..3).map(|n| plan(seed + n, LONG)).collect();
    let (node, fates) = sender(&mut world, &plans);
    let are_open = |_: &World| fates.borrow().iter().all(|fate| !fate.got.is_empty());
    assert!(world.run_until(Duration::from_secs(60), are_open), "seed {seed}");
    // The relay's first loop has a control channel, too.
    assert_eq!(world.leftovers(RELAY).1, 3, "seed {seed}");
    other_loops(seed).for_each(|other| assert_eq!(world.leftovers(other).1, 2, "seed {seed}"));
    (world, table, node, fates)
}

/// Network rules that admit nobody.
fn nobody() -> NetworkRules {
    NetworkRules::new(false, true, Vec::new()).unwrap()
}

#[test]
fn revoking_cuts_a_sender_on_whichever_loop_it_is() {
    for seed in (2..40).step_by(3) {
        let (mut world, table, node, fates) = spread(seed);
        let revoke = |bearer: &str| Order::Revoke(Revoked::At("ent".to_owned(), bearer.to_owned()));
        table.order(revoke("Nobody"));
        world.poke(RELAY, Event::Deadline);
        world.run_for(Duration::from_millis(50));
        assert!(fates.borrow().iter().all(|fate| !fate.is_over), "seed {seed}");

        table.order(match seed % 2 {
            0 => revoke("Send"),
            _ => Order::Revoke(Revoked::Outside(Arc::new(nobody()))),
        });
        world.poke(RELAY, Event::Deadline);
        let over = |_: &World| fates.borrow().iter().all(|fate| fate.is_over);
        assert!(world.run_until(Duration::from_secs(60), over), "seed {seed}");
        let cut = |fate: &Fate| fate.closed != Some(1000) && fate.got.len() < LONG;
        assert!(fates.borrow().iter().all(cut), "seed {seed}");
        world.run_for(Duration::from_secs(90));
        assert_eq!((world.leftovers(node), relay_leftovers(&world, seed)), ((0, 0), (0, 1)));
    }
}

#[test]
fn a_relay_that_is_told_to_stop_lets_all_its_loops_come_to_an_end() {
    for seed in (2..40).step_by(3) {
        let (mut world, _, _, fates) = spread(seed);
        world.poke(RELAY, Event::Signal(Signal::Stop));
        let exits = |world: &World| {
            world.notices(RELAY).iter().any(|notice| matches!(notice, Notice::Exit(0, None)))
        };
        assert!(!exits(&world), "seed {seed}");
        let began = world.now;
        assert!(world.run_until(Duration::from_secs(60), exits), "seed {seed}");
        let took = world.now - began;
        // What the relay's kernel has taken is still on its way.
        world.run_for(Duration::from_secs(10));
        let is_over = fates.borrow().iter().all(|fate| fate.closed == Some(1000));
        assert!(is_over || Duration::from_secs(20) <= took, "seed {seed}");
    }
}

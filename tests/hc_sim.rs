//! A sender, the relay, the agent and an echo in place of the auth proxy, under simulated time:
//! what goes in comes back, whatever the schedule, and after any accident things work again.
#![allow(clippy::unwrap_used)]

mod sim;
#[path = "hc/table.rs"]
#[allow(dead_code, reason = "shared with tests/hc")]
mod table;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use cluster_connect::buf::Pressure;
use cluster_connect::engine::upgrade::{Dial, Handshake};
use cluster_connect::engine::ws::{self, Side, Splice, Step, push_frame};
use cluster_connect::role::agent::{self, Agent, SharedKey, Source};
use cluster_connect::role::relay::{self, Relay};
use cluster_connect::role::{ConnId, Endpoint, Event, Net, Notice, Role, Signal};
use cluster_connect::secret::Secret;
use cluster_connect::wire::ws::Opcode;
use sim::{EPOCH, World, no_jobs};
use table::{Table, token};

/// What became of a session.
#[derive(Clone, Debug, Default)]
struct Fate {
    got: Vec<u8>,
    /// The other end's Close has come.
    is_closed: bool,
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
                    assert_eq!(*payload, [3, 232]);
                    fate.is_closed = true;
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
    });
    let echo = Endpoint::Tcp { host: "echo".into(), port: 1, tls: None, via: None };
    Agent::new(agent::Config::new(source, None, echo))
}

fn new_relay() -> Relay {
    let config = relay::Config { secure: false, ..relay::Config::default() };
    Relay::new(config, Box::new(Table::with(&["ent"])))
}

const RELAY: usize = 0;
const AGENT: usize = 1;
const ECHO: usize = 2;

/// A world with a relay, an agent that listens, and an echo.
fn world(seed: u64) -> World {
    let mut world = World::new(seed);
    assert_eq!(world.add("relay", new_relay(), no_jobs()), RELAY);
    assert_eq!(world.add("agent", new_agent(), no_jobs()), AGENT);
    assert_eq!(world.add("echo", Echo, no_jobs()), ECHO);
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
            assert!(fate.got == *plan && fate.is_closed, "seed {seed}");
        }
        world.run_for(Duration::from_secs(20));
        assert_eq!(world.leftovers(node), (0, 0), "seed {seed}");
        assert_eq!(world.leftovers(ECHO), (0, 0), "seed {seed}");
        assert_eq!(
            (world.leftovers(RELAY), world.leftovers(AGENT)),
            ((0, 1), (0, 1)),
            "seed {seed}"
        );
        world.poke(AGENT, Event::Signal(Signal::Stop));
        world.run_for(Duration::from_secs(20));
        assert_eq!(
            (world.leftovers(RELAY), world.leftovers(AGENT)),
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
        match seed % 3 {
            0 => world.break_one(),
            1 => world.replace(AGENT, new_agent()),
            _ => world.replace(RELAY, new_relay()),
        }
        let over = world.run_until(Duration::from_secs(600), |_| {
            fates.borrow().iter().all(|fate| fate.is_over)
        });
        assert!(over, "seed {seed}");
        for (fate, plan) in fates.borrow().iter().zip(&plans) {
            assert!(plan.starts_with(&fate.got), "seed {seed}: bytes that were not sent");
            assert!(!fate.is_closed || fate.got == *plan, "seed {seed}: a cut that looks whole");
        }
        world.run_for(Duration::from_secs(240));
        assert_eq!((world.leftovers(node), world.leftovers(ECHO)), ((0, 0), (0, 0)), "seed {seed}");
        assert_eq!(
            (world.leftovers(RELAY), world.leftovers(AGENT)),
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

use std::time::{Duration, Instant};

use super::*;
use crate::buf::{Lease, Pool, Pressure, Slice};
use crate::role::relay::api::Settings;
use crate::role::relay::registry::{Presence, decode};
use crate::role::{Busy, ConnId, Endpoint, Notice, Unrecorded};
use crate::secret::Secret;
use crate::wire::resource::ResourceId;

/// A network of which the desk uses a disk and a log.
struct Desktop {
    start: Instant,
    jobs: Vec<Vec<u8>>,
    rewritten: Vec<Vec<Vec<u8>>>,
    lines: Vec<String>,
    busy: bool,
    log_is_full: bool,
}

impl Net for Desktop {
    fn now(&self) -> Instant {
        self.start
    }
    fn unix_time(&self) -> u64 {
        1_795_435_380
    }
    fn random(&mut self, into: &mut [u8]) {
        into.fill(7);
    }
    fn connect(&mut self, _: &Endpoint) -> Option<ConnId> {
        None
    }
    fn send(&mut self, _: ConnId, _: Slice) -> Pressure {
        Pressure::Full
    }
    fn pressure(&self, _: ConnId) -> Pressure {
        Pressure::Full
    }
    fn pause(&mut self, _: ConnId) {}
    fn resume(&mut self, _: ConnId) {}
    fn pool(&self) -> &Pool {
        unreachable!("the desk sends nothing itself")
    }
    fn finish(&mut self, _: ConnId) {}
    fn close(&mut self, _: ConnId) {}
    fn abort(&mut self, _: ConnId) {}
    fn lease(&mut self) -> Option<Lease> {
        None
    }
    fn submit(&mut self, job: Job) -> Result<JobId, Busy> {
        let Job::Journal(note) = job else { return Err(Busy) };
        if self.busy {
            return Err(Busy);
        }
        self.jobs.push(match note {
            Note::Append(record) => record,
            Note::Rewrite(state) => {
                self.rewritten.push(state.records().collect());
                Vec::new()
            }
        });
        Ok(JobId(self.jobs.len() as u64))
    }
    fn record(&mut self, line: &str) -> Result<(), Unrecorded> {
        if self.log_is_full {
            return Err(Unrecorded);
        }
        self.lines.push(line.to_owned());
        Ok(())
    }
    fn tell(&mut self, _: Notice) {}
}

fn desk() -> (Desk, Desktop) {
    let settings = Settings { send_token_life: Duration::from_secs(60), ..Settings::default() };
    let api = Api::new(settings, Secret::new("x".repeat(40)), &[9; 32]);
    let (start, jobs, lines) = (Instant::now(), Vec::new(), Vec::new());
    let rewritten = Vec::new();
    let net = Desktop { start, jobs, rewritten, lines, busy: false, log_is_full: false };
    (Desk::new(api, Ledger::default()), net)
}

fn query(method: &str, name: &str) -> Query {
    Query {
        method: method.into(),
        path: ResourceId::parse(name).unwrap().id(),
        query: "api-version=2021-10-01".into(),
        host: "relay".into(),
        body: b"{}".to_vec(),
        peer: None,
        caller: Caller::Operator,
    }
}

fn full() -> Result<bool, String> {
    Err("no space left".to_owned())
}

fn replies(desk: &mut Desk) -> Vec<(u64, u16)> {
    std::iter::from_fn(|| desk.poll_done())
        .filter_map(|done| match done {
            Done::Reply(ticket, reply) => Some((ticket, reply.status)),
            Done::Effect(_) => None,
        })
        .collect()
}

#[test]
fn an_answer_waits_for_the_disk_and_so_does_everything_behind_it() {
    let (mut desk, mut net) = desk();
    desk.handle_call(1, query("PUT", "a"), &mut net);
    desk.handle_call(2, query("PUT", "a"), &mut net);
    desk.handle_call(3, query("GET", "a"), &mut net);
    assert_eq!((replies(&mut desk), net.jobs.len()), (vec![], 1));
    assert!(!desk.handle_noted(JobId(9), Ok(false), &mut net));
    assert!(desk.handle_noted(JobId(1), Ok(false), &mut net));
    let expected = [(1, 201), (2, 200), (3, 200)];
    assert_eq!(replies(&mut desk), expected, "the second finds the cluster made by the first");
    assert_eq!(net.jobs.len(), 1);
}

#[test]
fn what_the_disk_did_not_take_was_not_done() {
    let (mut desk, mut net) = desk();
    desk.handle_call(1, query("PUT", "a"), &mut net);
    desk.handle_call(2, query("GET", "a"), &mut net);
    desk.handle_noted(JobId(1), full(), &mut net);
    assert_eq!(replies(&mut desk), [(1, 503), (2, 404)]);
    assert!(net.lines[0].contains("\"done\"") && net.lines[1].contains("ServiceUnavailable"));
    net.busy = true;
    desk.handle_call(3, query("PUT", "a"), &mut net);
    assert_eq!(replies(&mut desk), [(3, 503)]);
    net.busy = false;
    desk.handle_call(4, query("PUT", "a"), &mut net);
    desk.handle_noted(JobId(2), Ok(false), &mut net);
    assert_eq!(replies(&mut desk), [(4, 201)]);
}

#[test]
fn what_the_audit_log_did_not_take_is_not_done() {
    let (mut desk, mut net) = desk();
    net.log_is_full = true;
    desk.handle_call(1, query("PUT", "a"), &mut net);
    assert_eq!((replies(&mut desk), net.jobs.len()), (vec![(1, 503)], 0));
    desk.handle_call(2, query("GET", "a"), &mut net);
    assert_eq!(replies(&mut desk), [(2, 404)]);
}

#[test]
fn a_queue_that_is_full_says_so() {
    let (mut desk, mut net) = desk();
    for ticket in 0..=CALLS_WAITING_MAX as u64 + 1 {
        desk.handle_call(ticket, query("PUT", "a"), &mut net);
    }
    assert_eq!(replies(&mut desk), [(CALLS_WAITING_MAX as u64 + 1, 503)]);
}

#[test]
fn a_cluster_removed_while_it_goes_is_forgotten() {
    let (mut desk, mut net) = desk();
    desk.handle_call(1, query("PUT", "a"), &mut net);
    desk.handle_noted(JobId(1), Ok(false), &mut net);
    desk.handle_call(2, query("DELETE", "a"), &mut net);
    desk.handle_listeners(&ResourceId::parse("a").unwrap().entity(), 1, &mut net);
    desk.handle_noted(JobId(2), Ok(false), &mut net);
    let done: Vec<Done> = std::iter::from_fn(|| desk.poll_done()).collect();
    assert!(matches!(done[1], Done::Effect(Effect::Disconnect(_))), "{done:?}");
    assert!(desk.seen.is_empty() && net.jobs.len() == 2);
}

#[test]
fn clusters_that_come_and_go_are_written_down_together() {
    let (mut desk, mut net) = desk();
    for (ticket, name) in [(1, "a"), (2, "b")] {
        desk.handle_call(ticket, query("PUT", name), &mut net);
        desk.handle_noted(JobId(ticket), Ok(false), &mut net);
    }
    let id = |name: &str| ResourceId::parse(name).unwrap();
    desk.handle_call(3, query("PUT", "c"), &mut net);
    desk.handle_listeners(&id("a").entity(), 1, &mut net);
    desk.handle_listeners(&id("a").entity(), 2, &mut net);
    desk.handle_listeners(&id("b").entity(), 1, &mut net);
    desk.handle_listeners(&id("b").entity(), 0, &mut net);
    desk.handle_listeners("of no cluster", 1, &mut net);
    net.busy = true;
    desk.handle_noted(JobId(3), Ok(false), &mut net);
    assert_eq!(net.jobs.len(), 3, "what the workers do not take now goes with the next");
    net.busy = false;
    desk.handle_call(4, query("GET", "a"), &mut net);
    assert_eq!(decode(&net.jobs[3]).unwrap().len(), 2);
    desk.handle_noted(JobId(4), Ok(false), &mut net);
    let presence = |name: &str, live| {
        Presence::of(desk.registry().cluster(&id(name).cluster_id()).unwrap(), live)
    };
    assert_eq!(presence("b", false), Presence::OfflineSince(1_795_435_380));
    assert_eq!(presence("c", false), Presence::Never);
    assert_eq!(net.jobs.len(), 4);
}

#[test]
fn a_long_journal_is_rewritten_from_the_state_itself_before_anything_changes() {
    let (mut desk, mut net) = desk();
    desk.handle_call(1, query("PUT", "a"), &mut net);
    desk.handle_call(2, query("PUT", "b"), &mut net);
    desk.handle_noted(JobId(1), Ok(true), &mut net);
    assert_eq!((replies(&mut desk), net.jobs.len()), (vec![(1, 201)], 2));
    let made = Ledger::replay(net.rewritten[0].iter().map(Vec::as_slice)).unwrap();
    assert_eq!(made.registry(), desk.registry());
    assert!(desk.registry().cluster(&ResourceId::parse("b").unwrap().cluster_id()).is_none());
    desk.handle_noted(JobId(2), Ok(false), &mut net);
    desk.handle_noted(JobId(3), Ok(true), &mut net);
    assert_eq!((replies(&mut desk), net.rewritten.len()), (vec![(2, 201)], 2));

    // Where that fails, the journal goes on as it was, and so does everything else.
    desk.handle_call(3, query("PUT", "c"), &mut net);
    desk.handle_noted(JobId(4), full(), &mut net);
    desk.handle_noted(JobId(5), Ok(false), &mut net);
    assert_eq!((replies(&mut desk), net.rewritten.len()), (vec![(3, 201)], 2));
}

#[test]
fn a_state_that_is_written_down_is_not_copied_for_the_next_change() {
    let (mut desk, mut net) = desk();
    desk.handle_call(1, query("PUT", "a"), &mut net);
    desk.handle_noted(JobId(1), Ok(true), &mut net);
    let before = std::ptr::from_ref(desk.registry());
    desk.handle_noted(JobId(2), Ok(false), &mut net);
    desk.handle_call(2, query("PUT", "b"), &mut net);
    desk.handle_noted(JobId(3), Ok(false), &mut net);
    assert_eq!(std::ptr::from_ref(desk.registry()), before);
}

#[test]
fn what_a_full_disk_did_not_take_of_comings_and_goings_goes_with_the_next_record() {
    let (mut desk, mut net) = desk();
    let edge = ResourceId::parse("a").unwrap();
    desk.handle_call(1, query("PUT", "a"), &mut net);
    desk.handle_noted(JobId(1), Ok(false), &mut net);
    desk.handle_listeners(&edge.entity(), 1, &mut net);
    desk.handle_noted(JobId(2), full(), &mut net);
    assert_eq!(net.jobs.len(), 2, "a full disk is not asked again and again");
    desk.handle_call(2, query("PUT", "b"), &mut net);
    desk.handle_noted(JobId(3), Ok(false), &mut net);
    assert_eq!(decode(&net.jobs[3]).unwrap().len(), 1);
    desk.handle_noted(JobId(4), Ok(false), &mut net);
    let cluster = desk.registry().cluster(&edge.cluster_id()).unwrap();
    assert_eq!(Presence::of(cluster, false), Presence::OfflineSince(1_795_435_380));
}

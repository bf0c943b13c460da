//! Where calls of the API are dealt with one after another: judged, written to the audit log, made
//! durable, applied, answered, in this order. While a record is on its way to the disk the calls
//! behind it wait, so each is judged by a state that stands.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use super::api::{Answer, Api, Call, Caller, Effect, Reply, Turn};
use super::audit::{self, Entry};
use super::registry::{Change, Ledger, Registry, Request};
use crate::limits::{CALLS_WAITING_MAX, SEEN_BATCH};
use crate::role::{Job, JobId, Net};

/// A call that can wait.
#[derive(Clone)]
pub struct Query {
    /// `GET`, `PUT`, ...
    pub method: String,
    /// As received, without the query.
    pub path: String,
    /// As received, without the `?`; empty if there is none.
    pub query: String,
    /// The `Host` field.
    pub host: String,
    /// All of it.
    pub body: Vec<u8>,
    /// From where; `None` for a Unix socket.
    pub peer: Option<IpAddr>,
    /// Who asks.
    pub caller: Caller,
}

/// What is to be done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Done {
    /// Answer the call with this ticket.
    Reply(u64, Reply),
    /// Close connections.
    Effect(Effect),
}

/// The API with its state and its queue.
#[derive(Debug)]
pub struct Desk {
    api: Api,
    ledger: Ledger,
    /// How many listeners each hybrid connection has now, where there are any.
    listeners: BTreeMap<String, usize>,
    /// Clusters whose coming or going is not written down yet.
    seen: BTreeSet<String>,
    waiting: VecDeque<(u64, Query)>,
    in_flight: Option<InFlight>,
    done: VecDeque<Done>,
}

/// What happens when the record is durable.
#[derive(Debug)]
struct InFlight {
    job: JobId,
    ticket: Option<u64>,
    audit: Vec<Entry>,
    effects: Vec<Effect>,
    reply: Reply,
}

impl Desk {
    /// With the state that was read from the store.
    pub const fn new(api: Api, ledger: Ledger) -> Self {
        Self {
            api,
            ledger,
            listeners: BTreeMap::new(),
            seen: BTreeSet::new(),
            waiting: VecDeque::new(),
            in_flight: None,
            done: VecDeque::new(),
        }
    }

    /// The state that is durable.
    pub const fn registry(&self) -> &Registry {
        self.ledger.registry()
    }

    /// Whether `bearer` is the admin token.
    pub fn is_operator(&self, bearer: &str) -> bool {
        self.api.is_operator(bearer)
    }

    /// Takes a call; [`Done::Reply`] follows, now or when the disk is done.
    pub fn handle_call(&mut self, ticket: u64, query: Query, net: &mut dyn Net) {
        if self.waiting.len() >= CALLS_WAITING_MAX {
            self.done.push_back(Done::Reply(ticket, Reply::unavailable()));
            return;
        }
        self.waiting.push_back((ticket, query));
        self.go_on(net);
    }

    /// So many listeners are connected to `entity` (its name in lower case) now.
    pub fn handle_listeners(&mut self, entity: &str, count: usize, net: &mut dyn Net) {
        let before = match count {
            0 => self.listeners.remove(entity),
            _ => self.listeners.insert(entity.to_owned(), count),
        };
        let came_or_went = (before.unwrap_or(0) == 0) != (count == 0);
        let cluster = self.registry().entity(entity).and_then(|entity| entity.cluster.clone());
        if came_or_went && let Some(cluster) = cluster {
            self.seen.insert(cluster);
            self.go_on(net);
        }
    }

    /// The job is done; false if it is none of the desk's.
    pub fn handle_appended(&mut self, job: JobId, durable: bool, net: &mut dyn Net) -> bool {
        let Some(landed) = self.in_flight.take_if(|in_flight| in_flight.job == job) else {
            return false;
        };
        self.ledger.finish(durable);
        match durable {
            true => {
                self.done.extend(landed.effects.into_iter().map(Done::Effect));
                let reply = landed.ticket.map(|ticket| Done::Reply(ticket, landed.reply));
                self.done.extend(reply);
            }
            false => self.regret(landed.ticket, landed.audit, net),
        }
        self.go_on(net);
        true
    }

    /// What is to be done, until there is nothing.
    pub fn poll_done(&mut self) -> Option<Done> {
        self.done.pop_front()
    }

    fn go_on(&mut self, net: &mut dyn Net) {
        while self.in_flight.is_none() {
            if let Some((ticket, query)) = self.waiting.pop_front() {
                let answer = self.judge(&query, net);
                self.carry_out(Some(ticket), answer, net);
            } else if !self.write_seen(net) {
                return;
            }
        }
    }

    fn judge(&mut self, query: &Query, net: &mut dyn Net) -> Answer {
        let (now, unix_now) = (net.now(), net.unix_time());
        let call = Call {
            method: &query.method,
            path: &query.path,
            query: &query.query,
            host: &query.host,
            body: &query.body,
            peer: query.peer,
            caller: &query.caller,
        };
        let listeners = |entity: &str| self.listeners.get(entity).copied().unwrap_or(0);
        let mut turn = Turn {
            registry: self.ledger.registry(),
            listeners: &listeners,
            now,
            unix_now,
            random: &mut |into| net.random(into),
        };
        self.api.answer(&call, &mut turn)
    }

    fn carry_out(&mut self, ticket: Option<u64>, answer: Answer, net: &mut dyn Net) {
        let Answer { audit, changes, effects, reply } = answer;
        if audit::record(&audit, net).is_err() {
            let reply = ticket.map(|ticket| Done::Reply(ticket, Reply::unavailable()));
            self.done.extend(reply);
            return;
        }
        if changes.is_empty() {
            self.done.extend(effects.into_iter().map(Done::Effect));
            self.done.extend(ticket.map(|ticket| Done::Reply(ticket, reply)));
            return;
        }
        let job = self.ledger.begin(changes).ok();
        match job.and_then(|record| net.submit(Job::Append(record)).ok()) {
            Some(job) => {
                self.in_flight = Some(InFlight { job, ticket, audit, effects, reply });
            }
            None => {
                self.ledger.finish(false);
                self.regret(ticket, audit, net);
            }
        }
    }

    /// What the audit log says was done was not.
    fn regret(&mut self, ticket: Option<u64>, mut audit: Vec<Entry>, net: &mut dyn Net) {
        audit.retain(|entry| entry.refused.is_none());
        audit.iter_mut().for_each(|entry| entry.refused = Some("ServiceUnavailable"));
        // If this line cannot be written either, the log is known to be incomplete already.
        let _ = audit::record(&audit, net);
        let reply = ticket.map(|ticket| Done::Reply(ticket, Reply::unavailable()));
        self.done.extend(reply);
    }

    /// Writes down which clusters came and went; false if nothing is on its way then.
    fn write_seen(&mut self, net: &mut dyn Net) -> bool {
        // One that was removed in between has no connectivity.
        self.seen.retain(|cluster| self.ledger.registry().cluster(cluster).is_some());
        let batch: Vec<String> = self.seen.iter().take(SEEN_BATCH).cloned().collect();
        let plan = |cluster: &String| {
            let request = Request::Saw(cluster.clone());
            self.registry().plan(request, net.unix_time(), &mut |_| ()).unwrap_or_default()
        };
        let changes: Vec<Change> = batch.iter().flat_map(plan).collect();
        self.carry_out(None, Answer { changes, ..Answer::default() }, net);
        let is_under_way = self.in_flight.is_some();
        if is_under_way {
            batch.iter().for_each(|cluster| {
                self.seen.remove(cluster);
            });
        }
        is_under_way
    }
}

/// The body may hold a join token.
impl std::fmt::Debug for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut query = f.debug_struct("Query");
        query.field("method", &self.method).field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
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
            let Job::Append(record) = job else { return Err(Busy) };
            if self.busy {
                return Err(Busy);
            }
            self.jobs.push(record);
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
        let net = Desktop { start, jobs, lines, busy: false, log_is_full: false };
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
        assert!(!desk.handle_appended(JobId(9), true, &mut net));
        assert!(desk.handle_appended(JobId(1), true, &mut net));
        let expected = [(1, 201), (2, 200), (3, 200)];
        assert_eq!(replies(&mut desk), expected, "the second finds the cluster made by the first");
        assert_eq!(net.jobs.len(), 1);
    }

    #[test]
    fn what_the_disk_did_not_take_was_not_done() {
        let (mut desk, mut net) = desk();
        desk.handle_call(1, query("PUT", "a"), &mut net);
        desk.handle_call(2, query("GET", "a"), &mut net);
        desk.handle_appended(JobId(1), false, &mut net);
        assert_eq!(replies(&mut desk), [(1, 503), (2, 404)]);
        assert!(net.lines[0].contains("\"done\"") && net.lines[1].contains("ServiceUnavailable"));
        net.busy = true;
        desk.handle_call(3, query("PUT", "a"), &mut net);
        assert_eq!(replies(&mut desk), [(3, 503)]);
        net.busy = false;
        desk.handle_call(4, query("PUT", "a"), &mut net);
        desk.handle_appended(JobId(2), true, &mut net);
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
        desk.handle_appended(JobId(1), true, &mut net);
        desk.handle_call(2, query("DELETE", "a"), &mut net);
        desk.handle_listeners(&ResourceId::parse("a").unwrap().entity(), 1, &mut net);
        desk.handle_appended(JobId(2), true, &mut net);
        let done: Vec<Done> = std::iter::from_fn(|| desk.poll_done()).collect();
        assert!(matches!(done[1], Done::Effect(Effect::Disconnect(_))), "{done:?}");
        assert!(desk.seen.is_empty() && net.jobs.len() == 2);
    }

    #[test]
    fn clusters_that_come_and_go_are_written_down_together() {
        let (mut desk, mut net) = desk();
        for (ticket, name) in [(1, "a"), (2, "b")] {
            desk.handle_call(ticket, query("PUT", name), &mut net);
            desk.handle_appended(JobId(ticket), true, &mut net);
        }
        let id = |name: &str| ResourceId::parse(name).unwrap();
        desk.handle_call(3, query("PUT", "c"), &mut net);
        desk.handle_listeners(&id("a").entity(), 1, &mut net);
        desk.handle_listeners(&id("a").entity(), 2, &mut net);
        desk.handle_listeners(&id("b").entity(), 1, &mut net);
        desk.handle_listeners(&id("b").entity(), 0, &mut net);
        desk.handle_listeners("of no cluster", 1, &mut net);
        net.busy = true;
        desk.handle_appended(JobId(3), true, &mut net);
        assert_eq!(net.jobs.len(), 3, "what the workers do not take now goes with the next");
        net.busy = false;
        desk.handle_call(4, query("GET", "a"), &mut net);
        assert_eq!(decode(&net.jobs[3]).unwrap().len(), 2);
        desk.handle_appended(JobId(4), true, &mut net);
        let presence = |name: &str, live| {
            Presence::of(desk.registry().cluster(&id(name).cluster_id()).unwrap(), live)
        };
        assert_eq!(presence("b", false), Presence::OfflineSince(1_795_435_380));
        assert_eq!(presence("c", false), Presence::Never);
        assert_eq!(net.jobs.len(), 4);
    }
}

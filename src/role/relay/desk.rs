//! Where calls of the API are dealt with one after another: judged, written to the audit log, made
//! durable, applied, answered, in this order. While a record is on its way to the disk the calls
//! behind it wait, so each is judged by a state that stands.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use super::api::{Answer, Api, Call, Caller, Effect, Reply, Turn};
use super::audit::{self, Entry};
use super::registry::{Change, Ledger, Registry, Request};
use crate::limits::{CALLS_WAITING_MAX, SEEN_BATCH};
use crate::role::{Job, JobId, Net, Note};

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
    /// Those whose coming or going the disk did not take: they are tried again when it takes
    /// something.
    missed: BTreeSet<String>,
    /// The journal is to be written anew.
    is_long: bool,
    waiting: VecDeque<(u64, Query)>,
    in_flight: Option<InFlight>,
    done: VecDeque<Done>,
}

/// What the disk is busy with.
#[derive(Debug)]
struct InFlight {
    job: JobId,
    work: Work,
}

#[derive(Debug)]
enum Work {
    /// A record; this happens when it is durable.
    Record(Pending),
    /// Which clusters came and went.
    Seen(BTreeSet<String>),
    /// The journal is written anew. Nothing changes meanwhile, so the state needs no copy.
    Rewriting,
}

#[derive(Debug)]
struct Pending {
    ticket: u64,
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
            missed: BTreeSet::new(),
            is_long: false,
            waiting: VecDeque::new(),
            in_flight: None,
            done: VecDeque::new(),
        }
    }

    /// The state that is durable.
    pub fn registry(&self) -> &Registry {
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

    /// The job is done, well or for this reason not; false if it is none of the desk's.
    pub fn handle_noted(
        &mut self,
        job: JobId,
        outcome: Result<bool, String>,
        net: &mut dyn Net,
    ) -> bool {
        let Some(landed) = self.in_flight.take_if(|in_flight| in_flight.job == job) else {
            return false;
        };
        match (landed.work, outcome) {
            (Work::Rewriting, Ok(_)) => {}
            (Work::Rewriting, Err(why)) => {
                log::warn!("the journal was not rewritten, and goes on as it is: {why}");
            }
            (work, Ok(is_long)) => {
                self.is_long = is_long;
                self.ledger.finish(true);
                self.seen.append(&mut self.missed);
                if let Work::Record(Pending { ticket, effects, reply, .. }) = work {
                    self.done.extend(effects.into_iter().map(Done::Effect));
                    self.done.push_back(Done::Reply(ticket, reply));
                }
            }
            (work, Err(why)) => {
                log::error!("the registry cannot be written: {why}");
                self.ledger.finish(false);
                match work {
                    Work::Record(pending) => self.regret(pending.ticket, pending.audit, net),
                    Work::Seen(mut clusters) => self.missed.append(&mut clusters),
                    Work::Rewriting => {}
                }
            }
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
            if std::mem::take(&mut self.is_long) {
                self.rewrite(net);
            } else if let Some((ticket, query)) = self.waiting.pop_front() {
                let answer = self.judge(&query, net);
                self.carry_out(ticket, answer, net);
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

    fn carry_out(&mut self, ticket: u64, answer: Answer, net: &mut dyn Net) {
        let Answer { audit, changes, effects, reply } = answer;
        if audit::record(&audit, net).is_err() {
            self.done.push_back(Done::Reply(ticket, Reply::unavailable()));
            return;
        }
        if changes.is_empty() {
            self.done.extend(effects.into_iter().map(Done::Effect));
            self.done.push_back(Done::Reply(ticket, reply));
            return;
        }
        match self.append(changes, net) {
            Some(job) => {
                let work = Work::Record(Pending { ticket, audit, effects, reply });
                self.in_flight = Some(InFlight { job, work });
            }
            None => self.regret(ticket, audit, net),
        }
    }

    /// Puts `changes` on their way to the disk, if it takes anything now.
    fn append(&mut self, changes: Vec<Change>, net: &mut dyn Net) -> Option<JobId> {
        let record = self.ledger.begin(changes).ok();
        let job = record.and_then(|record| net.submit(Job::Journal(Note::Append(record))).ok());
        if job.is_none() {
            self.ledger.finish(false);
        }
        job
    }

    /// Has the journal written anew. If the workers do not take that now, the next record asks for
    /// it again.
    fn rewrite(&mut self, net: &mut dyn Net) {
        let job = net.submit(Job::Journal(Note::Rewrite(self.ledger.share()))).ok();
        self.in_flight = job.map(|job| InFlight { job, work: Work::Rewriting });
    }

    /// What the audit log says was done was not.
    fn regret(&mut self, ticket: u64, mut audit: Vec<Entry>, net: &mut dyn Net) {
        audit.retain(|entry| entry.refused.is_none());
        audit.iter_mut().for_each(|entry| entry.refused = Some("ServiceUnavailable"));
        // If this line cannot be written either, the log is known to be incomplete already.
        let _ = audit::record(&audit, net);
        self.done.push_back(Done::Reply(ticket, Reply::unavailable()));
    }

    /// Writes down which clusters came and went; false if nothing is on its way then.
    fn write_seen(&mut self, net: &mut dyn Net) -> bool {
        // One that was removed in between has no connectivity.
        self.seen.retain(|cluster| self.ledger.registry().cluster(cluster).is_some());
        let batch: BTreeSet<String> = self.seen.iter().take(SEEN_BATCH).cloned().collect();
        if batch.is_empty() {
            return false;
        }
        let plan = |cluster: &String| {
            let request = Request::Saw(cluster.clone());
            self.registry().plan(request, net.unix_time(), &mut |_| ()).unwrap_or_default()
        };
        let changes: Vec<Change> = batch.iter().flat_map(plan).collect();
        let Some(job) = self.append(changes, net) else { return false };
        self.seen.retain(|cluster| !batch.contains(cluster));
        self.in_flight = Some(InFlight { job, work: Work::Seen(batch) });
        true
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
#[path = "desk_tests.rs"]
mod tests;

//! Agent and auth proxy in one process, on one event loop. They are joined by a pipe in memory
//! ([`super::Endpoint::Local`]) and know nothing of each other: the session through the agent is
//! TLS from end to end here, too.

use std::collections::BTreeMap;
use std::time::Instant;

use super::agent::Agent;
use super::auth_proxy::AuthProxy;
use super::{
    Busy, ConnId, Endpoint, Event, Job, JobId, ListenerTag, Net, Notice, Role, Unrecorded,
};
use crate::buf::{Pool, Pressure, Slice};

/// See the module's documentation.
#[derive(Debug)]
pub struct Edge {
    agent: Agent,
    auth_proxy: AuthProxy,
    owners: Owners,
    ready: [bool; 2],
    exited: [bool; 2],
}

/// Whose connections and jobs are whose.
#[derive(Debug, Default)]
struct Owners {
    conns: BTreeMap<ConnId, Part>,
    jobs: BTreeMap<JobId, Part>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Part {
    Agent,
    AuthProxy,
}

/// The network as one part sees it: what it starts is noted as its own.
struct Share<'a> {
    net: &'a mut dyn Net,
    owners: &'a mut Owners,
    part: Part,
    notices: Vec<Notice>,
}

impl Edge {
    /// Joins the two. The agent's auth proxy must be [`ListenerTag::AuthProxy`] of this process.
    #[must_use]
    pub fn new(agent: Agent, auth_proxy: AuthProxy) -> Self {
        let owners = Owners::default();
        Self { agent, auth_proxy, owners, ready: [false; 2], exited: [false; 2] }
    }

    /// What both parts have left, and the connections that are somebody's: a test that ends with
    /// more than what is open has found a leak.
    #[must_use]
    pub fn leftovers(&self) -> (usize, (usize, usize, usize), usize) {
        (self.agent.leftovers(), self.auth_proxy.leftovers(), self.owners.conns.len())
    }

    fn pass(&mut self, part: Part, event: Event, net: &mut dyn Net) {
        if let Event::Closed(conn, _) = &event {
            self.owners.conns.remove(conn);
        }
        let mut share = Share { net, owners: &mut self.owners, part, notices: Vec::new() };
        match part {
            Part::Agent => self.agent.on_event(event, &mut share),
            Part::AuthProxy => self.auth_proxy.on_event(event, &mut share),
        }
        for notice in share.notices {
            self.hear(part, notice, net);
        }
    }

    /// The process is ready when both parts are, and ends when both have, or one has failed.
    fn hear(&mut self, part: Part, notice: Notice, net: &mut dyn Net) {
        let place = usize::from(part == Part::AuthProxy);
        match notice {
            Notice::Ready => {
                let before = self.ready;
                self.ready[place] = true;
                if self.ready == [true; 2] && before != self.ready {
                    net.tell(Notice::Ready);
                }
            }
            Notice::Exit(0, _) => {
                self.exited[place] = true;
                if self.exited == [true; 2] {
                    net.tell(Notice::Exit(0, None));
                }
            }
            Notice::Say(_) | Notice::Measured(_) | Notice::Exit(..) => net.tell(notice),
        }
    }

    fn both(&mut self, events: [Event; 2], net: &mut dyn Net) {
        let [first, second] = events;
        self.pass(Part::Agent, first, net);
        self.pass(Part::AuthProxy, second, net);
    }

    fn owner(&self, conn: ConnId) -> Option<Part> {
        self.owners.conns.get(&conn).copied()
    }
}

impl Role for Edge {
    fn on_event(&mut self, event: Event, net: &mut dyn Net) {
        let part = match &event {
            Event::Started => return self.both([Event::Started, Event::Started], net),
            Event::Deadline => {
                let due = |at: Option<Instant>| at.is_some_and(|at| at <= net.now());
                let (agent, auth_proxy) =
                    (due(self.agent.deadline()), due(self.auth_proxy.deadline()));
                if agent {
                    self.pass(Part::Agent, Event::Deadline, net);
                }
                if auth_proxy {
                    self.pass(Part::AuthProxy, Event::Deadline, net);
                }
                return;
            }
            Event::Signal(signal) => {
                let signal = *signal;
                return self.both([Event::Signal(signal), Event::Signal(signal)], net);
            }
            Event::Accepted(
                conn,
                ListenerTag::Main | ListenerTag::AuthProxy | ListenerTag::Admin,
                _,
            ) => {
                self.owners.conns.insert(*conn, Part::AuthProxy);
                Some(Part::AuthProxy)
            }
            Event::Connected(conn)
            | Event::Data(conn, _)
            | Event::Finished(conn)
            | Event::Drained(conn, _)
            | Event::Closed(conn, _) => self.owner(*conn),
            Event::Done(job, _) => self.owners.jobs.remove(job),
            // There is one loop.
            Event::Letter(..) => None,
        };
        if let Some(part) = part {
            self.pass(part, event, net);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        [self.agent.deadline(), self.auth_proxy.deadline()].into_iter().flatten().min()
    }
}

impl Net for Share<'_> {
    fn now(&self) -> Instant {
        self.net.now()
    }

    fn unix_time(&self) -> u64 {
        self.net.unix_time()
    }

    fn unix_micros(&self) -> u64 {
        self.net.unix_micros()
    }

    fn random(&mut self, into: &mut [u8]) {
        self.net.random(into);
    }

    fn connect(&mut self, to: &Endpoint) -> Option<ConnId> {
        let conn = self.net.connect(to)?;
        self.owners.conns.insert(conn, self.part);
        Some(conn)
    }

    fn send(&mut self, conn: ConnId, data: Slice) -> Pressure {
        self.net.send(conn, data)
    }

    fn pressure(&self, conn: ConnId) -> Pressure {
        self.net.pressure(conn)
    }

    fn pause(&mut self, conn: ConnId) {
        self.net.pause(conn);
    }

    fn resume(&mut self, conn: ConnId) {
        self.net.resume(conn);
    }

    fn finish(&mut self, conn: ConnId) {
        self.net.finish(conn);
    }

    fn close(&mut self, conn: ConnId) {
        self.owners.conns.remove(&conn);
        self.net.close(conn);
    }

    fn abort(&mut self, conn: ConnId) {
        self.owners.conns.remove(&conn);
        self.net.abort(conn);
    }

    fn pool(&self) -> &Pool {
        self.net.pool()
    }

    fn submit(&mut self, job: Job) -> Result<JobId, Busy> {
        let job = self.net.submit(job)?;
        self.owners.jobs.insert(job, self.part);
        Ok(job)
    }

    fn record(&mut self, line: &str) -> Result<(), Unrecorded> {
        self.net.record(line)
    }

    fn tell(&mut self, notice: Notice) {
        self.notices.push(notice);
    }
}

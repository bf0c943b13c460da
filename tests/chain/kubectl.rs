//! kubectl as a role: several connections to the client proxy, each with a list of requests.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use cluster_connect::buf::Pressure;
use cluster_connect::role::{ConnId, Endpoint, Event, Net, Role};

use super::apiserver::pattern;
use crate::sim::Rng;
use crate::sim::http::{Head, Item, LAST_CHUNK, Reader, chunk};

/// One request, and with it what has to come back.
#[derive(Clone, Debug)]
pub enum Ask {
    Get {
        salt: u64,
        size: u64,
        mode: u64,
    },
    Post {
        body: Vec<u8>,
        is_chunked: bool,
        mode: u64,
    },
    /// A body that the API server refuses before it is there.
    Refused {
        size: usize,
    },
    /// Ends after so many events.
    Watch {
        events: u64,
    },
    /// Goes on for ever, with an event for each signal that the API server gets.
    Tail,
    /// Bytes both ways over a connection that is upgraded.
    Exec {
        body: Vec<u8>,
        protocol: &'static str,
        half_closes: bool,
    },
    /// A response of which nothing is read after its head, until it is told to.
    Stall {
        size: u64,
    },
    /// Without the bearer of the kubeconfig.
    Stranger,
    /// Upgraded, and then nothing, until somebody else ends it.
    Shell,
    /// Goes away after so many milliseconds, whatever has come by then.
    Leave {
        ask: Box<Self>,
        after: u64,
        by: Exit,
    },
}

/// How somebody goes away.
#[derive(Clone, Copy, Debug)]
pub enum Exit {
    Abort,
    Close,
    /// Half, and then waits for the other half.
    Finish,
}

/// What came of it all.
#[derive(Debug, Default)]
pub struct Report {
    /// Complete, and what was to come.
    pub whole: usize,
    /// Complete, and an error with a `Status` that says why.
    pub refused: Vec<(u16, String)>,
    /// Connections that broke before the response was complete.
    pub broken: usize,
    /// When one last did.
    pub last_break: Option<Instant>,
    /// Asks that were given up, or had ended before that.
    pub left_alone: usize,
    /// Looked complete, and was not what was to come.
    pub wrong: Vec<String>,
    /// Events that watches have brought.
    pub events: u64,
    /// Bytes that upgraded connections have brought.
    pub raw: usize,
    /// Asks that have not ended.
    pub left: usize,
    pub open: usize,
}

/// What is to be done, handed in from outside.
#[derive(Debug, Default)]
pub struct Plans {
    /// For each connection.
    pub lanes: Vec<Vec<Ask>>,
    /// Those that stall read on.
    pub read_on: bool,
}

/// See the module's documentation.
pub struct Kubectl {
    proxy: Endpoint,
    prefix: String,
    bearer: String,
    plans: Rc<RefCell<Plans>>,
    lanes: Vec<Lane>,
    report: Rc<RefCell<Report>>,
    by_conn: BTreeMap<ConnId, usize>,
    rng: Rng,
}

#[derive(Default)]
struct Lane {
    plan: VecDeque<Ask>,
    conn: Option<ConnId>,
    is_up: bool,
    next: Option<Instant>,
    leave: Option<(Instant, Exit)>,
    run: Option<Run>,
}

struct Run {
    ask: Ask,
    out: Vec<u8>,
    sent: usize,
    reader: Reader,
    head: Option<Head>,
    body: Vec<u8>,
    has_finished: bool,
}

impl Kubectl {
    pub fn new(
        host: &str,
        prefix: String,
        bearer: String,
        plans: Rc<RefCell<Plans>>,
        report: Rc<RefCell<Report>>,
        seed: u64,
    ) -> Self {
        let proxy = Endpoint::Tcp { host: host.into(), port: 47011, tls: None, via: None };
        let (lanes, by_conn, rng) = (Vec::new(), BTreeMap::new(), Rng(seed));
        Self { proxy, prefix, bearer, plans, lanes, report, by_conn, rng }
    }

    /// Takes up what has been handed in.
    fn begin(&mut self, net: &mut dyn Net) {
        let plans = std::mem::take(&mut self.plans.borrow_mut().lanes);
        for (number, plan) in plans.into_iter().enumerate() {
            if self.lanes.len() <= number {
                self.lanes.push(Lane::default());
            }
            let lane = &mut self.lanes[number];
            self.report.borrow_mut().left += plan.len();
            lane.plan.extend(plan);
            if lane.run.is_none() && lane.next.is_none() {
                lane.next = Some(net.now() + Duration::from_millis(self.rng.below(300)));
            }
        }
        if self.plans.borrow().read_on {
            self.by_conn.keys().for_each(|conn| net.resume(*conn));
        }
    }

    fn take_up(&mut self, number: usize, net: &mut dyn Net) {
        let lane = &mut self.lanes[number];
        lane.next = None;
        let Some(ask) = lane.plan.pop_front() else {
            if let Some(conn) = lane.conn.take() {
                net.close(conn);
                self.forget(conn);
            }
            return;
        };
        let (ask, leave) = match ask {
            Ask::Leave { ask, after, by } => {
                (*ask, Some((net.now() + Duration::from_millis(after), by)))
            }
            ask => (ask, None),
        };
        lane.leave = leave;
        let mut out = Vec::new();
        ask.write(&self.prefix, &self.bearer, &mut self.rng, &mut out);
        let reader = Reader::client();
        lane.run = Some(Run {
            ask,
            out,
            sent: 0,
            reader,
            head: None,
            body: Vec::new(),
            has_finished: false,
        });
        match lane.conn {
            Some(conn) => self.send(conn, net),
            None => {
                let conn = net.connect(&self.proxy).expect("a connection");
                lane.conn = Some(conn);
                lane.is_up = false;
                self.by_conn.insert(conn, number);
                self.report.borrow_mut().open = self.by_conn.len();
            }
        }
    }

    fn forget(&mut self, conn: ConnId) {
        self.by_conn.remove(&conn);
        self.report.borrow_mut().open = self.by_conn.len();
    }

    fn send(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(lane) = self.by_conn.get(&conn).and_then(|n| self.lanes.get_mut(*n)) else {
            return;
        };
        let Some(run) = lane.run.as_mut().filter(|_| lane.is_up) else { return };
        while run.sent < run.out.len() && net.pressure(conn) == Pressure::Open {
            let mut lease = net.pool().lease_beyond();
            run.sent += lease.fill(&run.out[run.sent..]);
            let _ = net.send(conn, lease.freeze());
        }
        let is_raw = run.head.is_some();
        if let Ask::Exec { half_closes: true, .. } = run.ask
            && is_raw
            && run.sent == run.out.len()
            && !std::mem::replace(&mut run.has_finished, true)
        {
            net.finish(conn);
        }
    }

    fn on_data(&mut self, conn: ConnId, data: &[u8], net: &mut dyn Net) {
        let Some(&number) = self.by_conn.get(&conn) else { return };
        let Some(run) = &mut self.lanes[number].run else {
            return self.report.borrow_mut().wrong.push("bytes that nobody asked for".into());
        };
        run.reader.feed(data);
        loop {
            let Some(run) = &mut self.lanes[number].run else { return };
            match run.reader.poll() {
                None => return,
                Some(Item::Head(head)) if head.status() < 200 && head.status() != 101 => (),
                Some(Item::Head(head)) => self.on_head(number, conn, head, net),
                Some(Item::Body(data)) => self.on_body(number, conn, &data, net),
                Some(Item::End) if run.head.as_ref().is_some_and(|head| head.status() == 101) => {
                    run.reader.go_raw();
                }
                Some(Item::End) => return self.on_end(number, net),
            }
        }
    }

    fn on_head(&mut self, number: usize, conn: ConnId, head: Head, net: &mut dyn Net) {
        let Some(run) = &mut self.lanes[number].run else { return };
        let status = head.status();
        run.head = Some(head);
        match &run.ask {
            Ask::Stall { .. } if !self.plans.borrow().read_on => net.pause(conn),
            Ask::Exec { body, .. } if status == 101 => {
                run.out = body.clone();
                run.sent = 0;
                self.send(conn, net);
            }
            _ => (),
        }
    }

    fn on_body(&mut self, number: usize, conn: ConnId, data: &[u8], net: &mut dyn Net) {
        let Some(run) = &mut self.lanes[number].run else { return };
        run.body.extend_from_slice(data);
        match &run.ask {
            Ask::Watch { .. } | Ask::Tail => {
                let lines = data.iter().filter(|byte| **byte == b'\n').count();
                self.report.borrow_mut().events += lines as u64;
            }
            Ask::Exec { body, half_closes, .. }
                if run.head.as_ref().is_some_and(|h| h.status() == 101) =>
            {
                self.report.borrow_mut().raw += data.len();
                if !half_closes && body.len() <= run.body.len() {
                    net.close(conn);
                    self.lanes[number].conn = None;
                    self.forget(conn);
                    self.on_end(number, net);
                }
            }
            _ => (),
        }
    }

    /// The response is complete.
    fn on_end(&mut self, number: usize, net: &mut dyn Net) {
        let lane = &mut self.lanes[number];
        let Some(run) = lane.run.take() else { return };
        let head = run.head.unwrap_or_default();
        let closes = head.closes() || lane.leave.is_some();
        match lane.leave.take() {
            Some(_) => self.report.borrow_mut().left_alone += 1,
            None => run.ask.judge(&head, &run.body, &mut self.report.borrow_mut()),
        }
        if closes && let Some(conn) = lane.conn.take() {
            net.close(conn);
            self.forget(conn);
        }
        self.after(number, net);
    }

    fn after(&mut self, number: usize, net: &mut dyn Net) {
        self.report.borrow_mut().left -= 1;
        self.lanes[number].next = Some(net.now() + Duration::from_millis(self.rng.below(200)));
    }

    /// The connection is gone, or will bring nothing more.
    fn on_gone(&mut self, conn: ConnId, by_fin: bool, net: &mut dyn Net) {
        let Some(&number) = self.by_conn.get(&conn) else { return };
        self.forget(conn);
        net.close(conn);
        let lane = &mut self.lanes[number];
        lane.conn = None;
        let Some(run) = lane.run.take() else { return };
        let is_raw = run.head.as_ref().is_some_and(|head| head.status() == 101);
        let mut report = self.report.borrow_mut();
        if lane.leave.take().is_some() {
            report.left_alone += 1;
        } else if by_fin && (is_raw && run.has_finished || run.reader.ends_here()) {
            run.ask.judge(&run.head.unwrap_or_default(), &run.body, &mut report);
        } else {
            report.broken += 1;
            report.last_break = Some(net.now());
        }
        drop(report);
        self.after(number, net);
    }

    fn leave(&mut self, number: usize, by: Exit, net: &mut dyn Net) {
        let Some(conn) = self.lanes[number].conn.filter(|_| self.lanes[number].is_up) else {
            return self.lanes[number].leave = Some((net.now() + Duration::from_millis(10), by));
        };
        match by {
            Exit::Abort => net.abort(conn),
            Exit::Close => net.close(conn),
            // The end of the other half is waited for, or that of the answer.
            Exit::Finish => {
                let never = net.now() + Duration::from_secs(86_400);
                self.lanes[number].leave = Some((never, by));
                return net.finish(conn);
            }
        }
        self.on_gone(conn, false, net);
    }
}

impl Ask {
    fn write(&self, prefix: &str, bearer: &str, rng: &mut Rng, out: &mut Vec<u8>) {
        let namespace = "/api/v1/namespaces/default";
        let (method, path, more) = match self {
            Self::Get { salt, size, mode } => {
                ("GET", format!("/configmaps?salt={salt}&size={size}&mode={mode}"), String::new())
            }
            Self::Stall { size } => {
                ("GET", format!("/configmaps?salt=1&size={size}&mode=0"), String::new())
            }
            Self::Stranger => ("GET", "/configmaps".to_owned(), String::new()),
            Self::Post { body, is_chunked, mode } => {
                let framing = match is_chunked {
                    true => "Transfer-Encoding: chunked\r\n".to_owned(),
                    false => format!("Content-Length: {}\r\n", body.len()),
                };
                ("POST", format!("/configmaps?mode={}&slow={}", mode % 4, mode / 4), framing)
            }
            Self::Refused { size } => {
                ("POST", "/secrets".to_owned(), format!("Content-Length: {size}\r\n"))
            }
            Self::Watch { events } => {
                ("GET", format!("/pods?watch=1&count={events}"), String::new())
            }
            Self::Tail => ("GET", "/pods?watch=1&hand=1".to_owned(), String::new()),
            Self::Leave { .. } => unreachable!("taken apart before"),
            Self::Exec { .. } | Self::Shell => {
                let protocol =
                    if let Self::Exec { protocol, .. } = self { protocol } else { "SPDY/3.1" };
                let fields = format!("Connection: Upgrade\r\nUpgrade: {protocol}\r\n");
                ("POST", "/pods/p/exec?command=cat".to_owned(), fields)
            }
        };
        let bearer = if matches!(self, Self::Stranger) { "nothing" } else { bearer };
        let head = format!(
            "{method} {prefix}{namespace}{path} HTTP/1.1\r\nHost: 127.0.0.1:47011\r\n\
             Authorization: Bearer {bearer}\r\nUser-Agent: kubectl\r\n{more}\r\n"
        );
        out.extend_from_slice(head.as_bytes());
        match self {
            Self::Post { body, is_chunked: true, .. } => {
                let mut rest = body.as_slice();
                while !rest.is_empty() {
                    let (piece, after) = rest.split_at(rng.size(40_000).min(rest.len()));
                    chunk(out, piece);
                    rest = after;
                }
                out.extend_from_slice(LAST_CHUNK);
            }
            Self::Post { body, .. } => out.extend_from_slice(body),
            Self::Refused { size } => out.resize(out.len() + size, b'r'),
            _ => (),
        }
    }

    fn judge(&self, head: &Head, body: &[u8], report: &mut Report) {
        let status = head.status();
        let expected = match self {
            Self::Get { salt, size, .. } => Some((200, pattern(*salt, *size))),
            Self::Stall { size } => Some((200, pattern(1, *size))),
            Self::Post { body, .. } => Some((200, body.clone())),
            Self::Refused { .. } => Some((413, b"large".to_vec())),
            Self::Exec { body, .. } => Some((101, body.clone())),
            Self::Watch { .. } | Self::Tail | Self::Stranger | Self::Shell | Self::Leave { .. } => {
                None
            }
        };
        let is_good = match (&expected, self) {
            (Some((code, bytes)), _) => status == *code && body == bytes,
            (None, Self::Watch { events }) => {
                status == 200 && body.split(|byte| *byte == b'\n').count() as u64 == events + 1
            }
            (None, _) => status == 401,
        };
        let reason = || {
            let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
            let is_status = answer["kind"] == "Status" && answer["code"] == status;
            answer["message"].as_str().filter(|_| is_status && 400 <= status).map(str::to_owned)
        };
        if is_good {
            report.whole += 1;
        } else if let Some(message) = reason() {
            report.refused.push((status, message));
        } else {
            let what = format!("{self:?}").chars().take(60).collect::<String>();
            let text: String = String::from_utf8_lossy(body).chars().take(800).collect();
            report.wrong.push(format!("{what}: {status} with {} bytes: {text}", body.len()));
        }
    }
}

impl Role for Kubectl {
    fn on_event(&mut self, event: Event, net: &mut dyn Net) {
        match event {
            Event::Signal(_) => self.begin(net),
            Event::Connected(conn) => {
                if let Some(lane) = self.by_conn.get(&conn).and_then(|n| self.lanes.get_mut(*n)) {
                    lane.is_up = true;
                }
                self.send(conn, net);
            }
            Event::Data(conn, data) => self.on_data(conn, &data, net),
            Event::Drained(conn, _) => self.send(conn, net),
            Event::Finished(conn) => self.on_gone(conn, true, net),
            Event::Closed(conn, _) => self.on_gone(conn, false, net),
            Event::Deadline => {
                let now = net.now();
                for number in 0..self.lanes.len() {
                    if self.lanes[number].next.is_some_and(|at| at <= now) {
                        self.take_up(number, net);
                    }
                    if let Some((_, by)) = self.lanes[number].leave.filter(|(at, _)| *at <= now) {
                        self.leave(number, by, net);
                    }
                }
            }
            _ => (),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let leaves = |lane: &Lane| lane.leave.map(|(at, _)| at);
        self.lanes.iter().flat_map(|lane| [lane.next, leaves(lane)]).flatten().min()
    }
}

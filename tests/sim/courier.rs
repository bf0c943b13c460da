//! Takes HTTP calls that roles have asked the worker threads for to the nodes that they are for,
//! over the simulated network.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Instant;

use cluster_connect::role::{ConnId, Endpoint, Event, HttpAnswer, HttpCall, JobId, Net, Role};

use super::http::{Item, Reader};

/// Who waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sender {
    /// The test itself.
    Test,
    /// The process of this number on a node.
    Node { node: usize, process: u64, job: JobId },
}

/// An answer and where it goes: node, process, job.
pub type Delivery = (usize, u64, JobId, Result<HttpAnswer, String>);

/// What goes in and out of the courier's house.
#[derive(Default)]
pub struct Errands {
    pub asked: VecDeque<(Sender, HttpCall)>,
    done: VecDeque<(Sender, Result<HttpAnswer, String>)>,
}

impl Errands {
    pub fn has_answer_for_test(&self) -> bool {
        self.done.iter().any(|(sender, _)| *sender == Sender::Test)
    }

    pub fn take_for_test(&mut self) -> Option<Result<HttpAnswer, String>> {
        let place = self.done.iter().position(|(sender, _)| *sender == Sender::Test)?;
        self.done.remove(place).map(|(_, answer)| answer)
    }

    pub fn take_for_node(&mut self) -> Option<Delivery> {
        let place = self.done.iter().position(|(sender, _)| *sender != Sender::Test)?;
        let (sender, answer) = self.done.remove(place)?;
        match sender {
            Sender::Node { node, process, job } => Some((node, process, job, answer)),
            Sender::Test => None,
        }
    }
}

/// See the module's documentation.
pub struct Courier {
    errands: Rc<RefCell<Errands>>,
    calls: BTreeMap<ConnId, Call>,
}

struct Call {
    sender: Sender,
    until: Instant,
    request: Vec<u8>,
    reader: Reader,
    answer: HttpAnswer,
}

impl Courier {
    pub fn new(errands: Rc<RefCell<Errands>>) -> Self {
        Self { errands, calls: BTreeMap::new() }
    }

    fn set_out(&mut self, net: &mut dyn Net) {
        loop {
            let Some((sender, call)) = self.errands.borrow_mut().asked.pop_front() else { return };
            let (_, rest) = call.url.split_once("://").expect("an absolute URL");
            let (authority, path) = rest.split_at(rest.find('/').expect("a path"));
            let host = authority.split(':').next().unwrap_or_default().to_owned();
            let to = Endpoint::Tcp { host, port: 80, tls: None, via: None };
            let conn = net.connect(&to).expect("a connection");
            let mut request = format!("{} {path} HTTP/1.1\r\nHost: {authority}\r\n", call.method);
            for (name, value) in &call.headers {
                request.push_str(&format!("{name}: {}\r\n", value.expose()));
            }
            request.push_str(&format!("Content-Length: {}\r\n\r\n", call.body.len()));
            let request = [request.into_bytes(), call.body].concat();
            let until = net.now() + call.timeout;
            let (reader, answer) = (Reader::client(), HttpAnswer::default());
            self.calls.insert(conn, Call { sender, until, request, reader, answer });
        }
    }

    fn come_back(&mut self, conn: ConnId, result: Result<(), &str>) {
        let Some(call) = self.calls.remove(&conn) else { return };
        let answer = result.map(|()| call.answer).map_err(str::to_owned);
        self.errands.borrow_mut().done.push_back((call.sender, answer));
    }

    fn on_data(&mut self, conn: ConnId, data: &[u8], net: &mut dyn Net) {
        let Some(call) = self.calls.get_mut(&conn) else { return };
        call.reader.feed(data);
        while let Some(item) = call.reader.poll() {
            match item {
                Item::Head(head) => {
                    call.answer.status = head.status();
                    call.answer.headers = head.fields;
                }
                Item::Body(data) => call.answer.body.extend_from_slice(&data),
                Item::End => {
                    net.close(conn);
                    return self.come_back(conn, Ok(()));
                }
            }
        }
    }
}

impl Role for Courier {
    fn on_event(&mut self, event: Event, net: &mut dyn Net) {
        match event {
            Event::Signal(_) => self.set_out(net),
            Event::Connected(conn) => {
                if let Some(call) = self.calls.get(&conn) {
                    for slice in net.pool().clone().slices(&call.request) {
                        let _ = net.send(conn, slice);
                    }
                }
            }
            Event::Data(conn, data) => self.on_data(conn, &data, net),
            Event::Finished(conn) => {
                net.close(conn);
                self.come_back(conn, Err("it closed the connection"));
            }
            Event::Closed(conn, _) => self.come_back(conn, Err("the connection broke")),
            Event::Deadline => {
                let now = net.now();
                let late = self.calls.iter().filter(|(_, call)| call.until <= now);
                let late: Vec<ConnId> = late.map(|(conn, _)| *conn).collect();
                for conn in late {
                    net.abort(conn);
                    self.come_back(conn, Err("it did not answer in time"));
                }
            }
            _ => (),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.calls.values().map(|call| call.until).min()
    }
}

//! An API server that gives back what it gets, and remembers as whom.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use cluster_connect::buf::Pressure;
use cluster_connect::role::{ConnId, Event, Net, Role};

use crate::sim::Rng;
use crate::sim::http::{Head, Item, LAST_CHUNK, Reader, chunk};

/// The token by which the auth proxy is known to the API server.
pub const OWN_TOKEN: &str = "the-auth-proxys-own-token";

/// What the API server has seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub requests: usize,
    pub upgrades: usize,
    /// `Impersonate-User` of every request.
    pub users: BTreeSet<String>,
    /// Requests without it, or with what they must not have.
    pub strange: Vec<String>,
    pub open: usize,
}

/// See the module's documentation.
pub struct ApiServer {
    conns: BTreeMap<ConnId, Conn>,
    seen: Rc<RefCell<Seen>>,
    rng: Rng,
}

struct Conn {
    reader: Reader,
    head: Option<Head>,
    body: Vec<u8>,
    out: Vec<u8>,
    sent: usize,
    raw: bool,
    /// After `out` nothing more comes.
    ends: bool,
    /// It is drained before it is closed, like a server that has refused a body.
    deaf: bool,
    watch: Option<Watch>,
    /// It does not read until then.
    sleeps: Option<Instant>,
}

struct Watch {
    left: u64,
    number: u64,
    /// `None` for one that goes on when it is told to.
    next: Option<Instant>,
}

impl ApiServer {
    pub fn new(seen: Rc<RefCell<Seen>>, seed: u64) -> Self {
        Self { conns: BTreeMap::new(), seen, rng: Rng(seed) }
    }

    fn on_data(&mut self, id: ConnId, data: &[u8], net: &mut dyn Net) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.deaf {
            return;
        }
        if conn.raw {
            conn.out.extend_from_slice(data);
            return self.send(id, net);
        }
        conn.reader.feed(data);
        self.read(id, net);
    }

    fn read(&mut self, id: ConnId, net: &mut dyn Net) {
        loop {
            let Some(conn) = self.conns.get_mut(&id) else { return };
            if conn.raw || conn.ends || conn.watch.is_some() || conn.sleeps.is_some() {
                break;
            }
            match conn.reader.poll() {
                None => break,
                Some(Item::Head(head)) => self.on_head(id, head, net),
                Some(Item::Body(data)) => conn.body.extend_from_slice(&data),
                Some(Item::End) => self.on_request(id, net),
            }
        }
        self.send(id, net);
    }

    fn on_head(&mut self, id: ConnId, head: Head, net: &mut dyn Net) {
        self.note(&head);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if let Some(protocol) = head.get("upgrade") {
            self.seen.borrow_mut().upgrades += 1;
            assert_eq!(
                head.get("connection").map(str::to_ascii_lowercase).as_deref(),
                Some("upgrade")
            );
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
            );
            conn.out.extend_from_slice(answer.as_bytes());
            conn.raw = true;
            conn.reader.go_raw();
            while let Some(Item::Body(data)) = conn.reader.poll() {
                conn.out.extend_from_slice(&data);
            }
        } else if head.target().contains("/secrets") {
            let answer = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge";
            conn.out.extend_from_slice(answer);
            (conn.ends, conn.deaf) = (true, true);
        } else if head.target().contains("watch=1") {
            let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            conn.out.extend_from_slice(answer);
            let left = parameter(&head, "count");
            let next = (parameter(&head, "hand") == 0).then(|| net.now());
            conn.watch = Some(Watch { left, number: 0, next });
        }
        if parameter(&head, "slow") == 1 {
            conn.sleeps = Some(net.now() + Duration::from_secs(10));
        }
        conn.head = Some(head);
    }

    /// Nobody gets here but as somebody, by the auth proxy's own token and nothing of the caller's.
    fn note(&mut self, head: &Head) {
        let mut seen = self.seen.borrow_mut();
        seen.requests += 1;
        match head.all("impersonate-user")[..] {
            [user] => drop(seen.users.insert(user.to_owned())),
            _ => seen.strange.push(format!("{} {:?}", head.start, head.fields)),
        }
        let own = format!("Bearer {OWN_TOKEN}");
        if head.all("authorization") != [own.as_str()] || head.get("audit-id").is_none() {
            seen.strange.push(format!("{} {:?}", head.start, head.fields));
        }
    }

    fn on_request(&mut self, id: ConnId, net: &mut dyn Net) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let Some(head) = conn.head.take() else { return };
        let sent = std::mem::take(&mut conn.body);
        let body = match head.method() {
            "POST" => sent,
            _ => pattern(parameter(&head, "salt"), parameter(&head, "size")),
        };
        let about = format!("X-Method: {}\r\nX-Target: {}\r\n", head.method(), head.target());
        match parameter(&head, "mode") {
            0 => {
                let head =
                    format!("HTTP/1.1 200 OK\r\n{about}Content-Length: {}\r\n\r\n", body.len());
                conn.out.extend_from_slice(head.as_bytes());
                conn.out.extend_from_slice(&body);
            }
            1 => {
                let head = format!("HTTP/1.1 200 OK\r\n{about}Transfer-Encoding: chunked\r\n\r\n");
                conn.out.extend_from_slice(head.as_bytes());
                let mut rest = body.as_slice();
                while !rest.is_empty() {
                    let (piece, after) = rest.split_at(self.rng.size(60_000).min(rest.len()));
                    chunk(&mut conn.out, piece);
                    rest = after;
                }
                conn.out.extend_from_slice(LAST_CHUNK);
            }
            _ => {
                let head = format!("HTTP/1.1 200 OK\r\n{about}Connection: close\r\n\r\n");
                conn.out.extend_from_slice(head.as_bytes());
                conn.out.extend_from_slice(&body);
                conn.ends = true;
            }
        }
        let _ = net;
    }

    fn send(&mut self, id: ConnId, net: &mut dyn Net) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        while conn.sent < conn.out.len() && net.pressure(id) == Pressure::Open {
            let mut lease = net.pool().lease_beyond();
            conn.sent += lease.fill(&conn.out[conn.sent..]);
            let _ = net.send(id, lease.freeze());
        }
        // An echo that nobody reads stops listening.
        let is_full = conn.raw && 64 * 1024 < conn.out.len() - conn.sent;
        if is_full || conn.sleeps.is_some() {
            net.pause(id);
        } else {
            net.resume(id);
        }
        if conn.sent == conn.out.len() {
            conn.out.clear();
            conn.sent = 0;
            if conn.ends {
                if conn.deaf { net.finish(id) } else { self.close(id, net) }
            }
        }
    }

    fn close(&mut self, id: ConnId, net: &mut dyn Net) {
        net.close(id);
        self.forget(id);
    }

    fn forget(&mut self, id: ConnId) {
        self.conns.remove(&id);
        self.seen.borrow_mut().open = self.conns.len();
    }

    fn on_finished(&mut self, id: ConnId, net: &mut dyn Net) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.raw {
            conn.ends = true;
            self.send(id, net);
        } else {
            assert!(
                conn.watch.is_some() || conn.deaf || conn.reader.is_between(),
                "a request is cut"
            );
            self.close(id, net);
        }
    }

    fn wake_up(&mut self, id: ConnId, net: &mut dyn Net) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.sleeps.take_if(|until| *until <= net.now()).is_some() {
            self.read(id, net);
        }
    }

    fn go_on_watching(&mut self, id: ConnId, net: &mut dyn Net) {
        let (size, wait) = (self.rng.size(3_000), self.rng.below(400));
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let is_due = |watch: &&mut Watch| watch.next.is_some_and(|next| next <= net.now());
        let Some(watch) = conn.watch.as_mut().filter(is_due) else { return };
        watch.next = Some(net.now() + Duration::from_millis(1 + wait));
        if net.pressure(id) == Pressure::Open {
            if watch.left == 0 {
                conn.watch = None;
                conn.out.extend_from_slice(LAST_CHUNK);
            } else {
                chunk(&mut conn.out, event(watch.number, size).as_bytes());
                watch.number += 1;
                watch.left -= 1;
            }
        }
        self.read(id, net);
    }
}

impl ApiServer {
    /// One event for whoever watches by hand.
    fn tell(&mut self, net: &mut dyn Net) {
        let by_hand = |conn: &Conn| conn.watch.as_ref().is_some_and(|watch| watch.next.is_none());
        let ids = self.conns.iter().filter(|(_, conn)| by_hand(conn)).map(|(id, _)| *id);
        for id in ids.collect::<Vec<_>>() {
            let Some(conn) = self.conns.get_mut(&id) else { continue };
            let Some(watch) = &mut conn.watch else { continue };
            chunk(&mut conn.out, event(watch.number, 300).as_bytes());
            watch.number += 1;
            self.send(id, net);
        }
    }
}

impl Role for ApiServer {
    fn on_event(&mut self, event: Event, net: &mut dyn Net) {
        match event {
            Event::Accepted(id, ..) => {
                let conn = Conn {
                    reader: Reader::server(),
                    head: None,
                    body: Vec::new(),
                    out: Vec::new(),
                    sent: 0,
                    raw: false,
                    ends: false,
                    deaf: false,
                    watch: None,
                    sleeps: None,
                };
                self.conns.insert(id, conn);
                self.seen.borrow_mut().open = self.conns.len();
            }
            Event::Data(id, data) => self.on_data(id, &data, net),
            Event::Drained(id, _) => self.send(id, net),
            Event::Finished(id) => self.on_finished(id, net),
            Event::Closed(id, _) => self.forget(id),
            Event::Signal(_) => self.tell(net),
            Event::Deadline => {
                let ids: Vec<ConnId> = self.conns.keys().copied().collect();
                for id in ids {
                    self.go_on_watching(id, net);
                    self.wake_up(id, net);
                }
            }
            _ => (),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let next = |conn: &Conn| [conn.watch.as_ref().and_then(|watch| watch.next), conn.sleeps];
        self.conns.values().flat_map(next).flatten().min()
    }
}

/// The event of this number in a watch.
pub fn event(number: u64, size: usize) -> String {
    format!("{{\"number\":{number},\"fill\":\"{}\"}}\n", "x".repeat(size))
}

/// Bytes that do not repeat, from a number.
pub fn pattern(salt: u64, size: u64) -> Vec<u8> {
    Rng(salt).bytes(usize::try_from(size).expect("small"))
}

fn parameter(head: &Head, name: &str) -> u64 {
    let (_, query) = head.target().split_once('?').unwrap_or_default();
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}

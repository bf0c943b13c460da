//! An authority that is a table of entities and keys, with shared-access signatures.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cluster_connect::role::relay::authority::{
    Answer, Authority, Call, Entity, Grant, Order, Refusal, Request, Right, Ticket,
};
use cluster_connect::role::{Event, Net};
use ring::hmac;

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) loading: bool,
    pub(crate) entities: Vec<Entity>,
    pub(crate) counts: BTreeMap<String, usize>,
    pub(crate) calls: Vec<(Ticket, Call)>,
    pub(crate) orders: VecDeque<Order>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Table(pub(crate) Rc<RefCell<State>>);

impl Table {
    pub(crate) fn with(names: &[&str]) -> Self {
        let table = Self::default();
        for name in names {
            let entity = Entity { name: (*name).to_owned(), needs_token: true, http: false };
            table.0.borrow_mut().entities.push(entity);
        }
        table
    }

    pub(crate) fn order(&self, order: Order) {
        self.0.borrow_mut().orders.push_back(order);
    }
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// A token of the rule `rule`, whose key is the same word, for `resource`.
pub(crate) fn token(resource: &str, rule: &str, expires: u64) -> String {
    let resource = encoded(resource);
    let key = hmac::Key::new(hmac::HMAC_SHA256, rule.as_bytes());
    let signature = hmac::sign(&key, format!("{resource}\n{expires}").as_bytes());
    let signature = encoded(&STANDARD.encode(signature.as_ref()));
    format!("SharedAccessSignature sr={resource}&sig={signature}&se={expires}&skn={rule}")
}

fn refusal(text: &str) -> Refusal {
    Refusal { status: 401, text: text.to_owned() }
}

impl Authority for Table {
    fn is_ready(&self) -> bool {
        !self.0.borrow().loading
    }

    fn entity(&self, path: &str) -> Option<Entity> {
        let state = self.0.borrow();
        let covers = |e: &&Entity| {
            path.strip_prefix(e.name.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('/'))
        };
        state.entities.iter().filter(covers).max_by_key(|e| e.name.len()).cloned()
    }

    fn authorize(&mut self, request: &Request<'_>, unix_now: u64) -> Result<Grant, Refusal> {
        let token = request.token.ok_or_else(|| refusal("MissingToken: token is required."))?;
        let malformed = || refusal("MalformedToken: it cannot be read.");
        let body = token.strip_prefix("SharedAccessSignature ").ok_or_else(malformed)?;
        let field = |name: &str| {
            body.split('&').filter_map(|pair| pair.split_once('=')).find(|pair| pair.0 == name)
        };
        let [Some(sr), Some(se), Some(skn), Some(_)] = ["sr", "se", "skn", "sig"].map(field) else {
            return Err(malformed());
        };
        let expires: u64 = se.1.parse().map_err(|_| malformed())?;
        if token != token_raw(sr.1, skn.1, expires) {
            return Err(refusal("InvalidSignature: The token has an invalid signature."));
        }
        if expires < unix_now {
            return Err(refusal("ExpiredToken: The token is expired."));
        }
        let resource = sr.1.replace("%3A", ":").replace("%2F", "/").to_lowercase();
        let asked = format!("http://{}/{}/", request.host, request.path).to_lowercase();
        if !asked.starts_with(&format!("{}/", resource.trim_end_matches('/'))) {
            return Err(refusal("InvalidAudience: The token has a wrong audience."));
        }
        let claim = match request.right {
            Right::Listen => "Listen",
            Right::Send => "Send",
        };
        if skn.1 != "root" && skn.1 != claim {
            return Err(refusal(&format!("Unauthorized access. '{claim}' claim(s) are required.")));
        }
        Ok(Grant { expires, bearer: skn.1.to_owned() })
    }

    fn note_listeners(&mut self, entity: &str, count: usize, _: &mut dyn Net) {
        self.0.borrow_mut().counts.insert(entity.to_owned(), count);
    }

    fn handle_call(&mut self, ticket: Ticket, call: Call, _: &mut dyn Net) {
        let mut state = self.0.borrow_mut();
        if call.target == "/status" {
            let answer = Answer { status: 200, fields: Vec::new(), body: call.body.clone() };
            state.orders.push_back(Order::Answer(ticket, answer));
        }
        state.calls.push((ticket, call));
    }

    fn handle_event(&mut self, _: Event, _: &mut dyn Net) {}

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn poll_order(&mut self) -> Option<Order> {
        self.0.borrow_mut().orders.pop_front()
    }
}

fn token_raw(resource: &str, rule: &str, expires: u64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, rule.as_bytes());
    let signature = hmac::sign(&key, format!("{resource}\n{expires}").as_bytes());
    let signature = encoded(&STANDARD.encode(signature.as_ref()));
    format!("SharedAccessSignature sr={resource}&sig={signature}&se={expires}&skn={rule}")
}

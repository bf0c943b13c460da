//! An authority that is a table of entities and keys, with shared-access signatures.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Instant;

use cluster_connect::auth::network::NetworkRules;
use cluster_connect::auth::sas::{self, Rights, Rule};
use cluster_connect::role::relay::authority::{
    Answer, Authority, Call, Deadlines, Description, Entity, Grant, Order, Refusal, Request, Right,
    Ticket,
};
use cluster_connect::role::{Event, Net, Peer};
use cluster_connect::secret::Secret;

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) loading: bool,
    pub(crate) network: NetworkRules,
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
            let entity = Entity {
                name: (*name).to_owned(),
                needs_token: true,
                http: false,
                deadlines: Deadlines::default(),
            };
            table.0.borrow_mut().entities.push(entity);
        }
        table
    }

    pub(crate) fn order(&self, order: Order) {
        self.0.borrow_mut().orders.push_back(order);
    }
}

/// A token of the rule `rule`, whose key is the same word, for `resource`.
pub(crate) fn token(resource: &str, rule: &str, expires: u64) -> String {
    sas::mint(resource, rule, &Secret::new(rule.to_owned()), expires)
}

fn rules() -> [Rule; 3] {
    [("root", Rights::ALL), ("Listen", Rights::LISTEN), ("Send", Rights::SEND)].map(
        |(name, rights)| Rule {
            name: name.to_owned(),
            primary: Secret::new(name.to_owned()),
            secondary: Secret::new(String::new()),
            rights,
        },
    )
}

impl Authority for Table {
    fn is_ready(&self) -> bool {
        !self.0.borrow().loading
    }

    fn admits(&self, peer: Peer) -> bool {
        self.0.borrow().network.admit(peer.address())
    }

    fn entity(&self, path: &str) -> Option<Entity> {
        let state = self.0.borrow();
        let covers = |e: &&Entity| {
            path.strip_prefix(e.name.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('/'))
        };
        state.entities.iter().filter(covers).max_by_key(|e| e.name.len()).cloned()
    }

    fn describe(&self, path: &str) -> Option<Description> {
        let state = self.0.borrow();
        let entity = state.entities.iter().find(|entity| entity.name == path)?;
        Some(Description {
            name: entity.name.clone(),
            needs_token: entity.needs_token,
            user_metadata: "<&>\u{1}".to_owned(),
            created_at: 1_795_435_380,
            updated_at: 1_795_435_381,
        })
    }

    fn authorize(&mut self, request: &Request<'_>, net: &mut dyn Net) -> Result<Grant, Refusal> {
        let target = sas::Target {
            host: request.host,
            path: request.path,
            entity_rules: &[],
            namespace_rules: &rules(),
        };
        let right = match request.right {
            Right::Listen => sas::Right::Listen,
            Right::Send => sas::Right::Send,
        };
        match sas::verify(request.token, &target, right, net.unix_time()) {
            Ok(grant) => {
                let caller = format!("key {}", grant.rule);
                Ok(Grant { expires: grant.expires, bearer: grant.rule, caller })
            }
            Err(why) => Err(Refusal { status: why.status(), text: why.to_string() }),
        }
    }

    fn note_listeners(&mut self, entity: &str, count: usize, _: &mut dyn Net) {
        self.0.borrow_mut().counts.insert(entity.to_owned(), count);
    }

    fn handle_call(&mut self, ticket: Ticket, call: Call, _: &mut dyn Net) {
        let mut state = self.0.borrow_mut();
        if call.target.starts_with("/status") {
            let body = match call.target.as_str() {
                "/status?long" => vec![b'x'; 300_000],
                _ => call.body.clone(),
            };
            let answer = Answer { status: 200, fields: Vec::new(), body: body.into() };
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

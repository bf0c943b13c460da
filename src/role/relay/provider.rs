//! The authority of a relay with connected clusters: its registry decides about SAS tokens, its
//! verifier about callers of the API, and its desk answers them, durably.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::api::{Caller, User};
use super::authority::{
    Answer, Authority, Call, Description, Entity, Grant, Order, Refusal, Request, Right, Ticket,
};
use super::desk::{Desk, Done, Query};
use super::registry::Authorized;
use crate::auth::{Denied, Reason, sas};
use crate::engine::upgrade::Fields;
use crate::role::keys::Keys;
use crate::role::{Event, Net, Outcome, Peer};

/// See the module's documentation.
#[derive(Debug)]
pub struct Provider {
    desk: Desk,
    keys: Keys,
    orders: VecDeque<Order>,
    download: Option<Download>,
}

/// The executable that the relay hands out, so that a site without any other network has it.
#[derive(Clone, Debug)]
pub struct Download {
    /// `linux/amd64`, as in the path.
    pub platform: String,
    /// The file's bytes.
    pub bytes: Arc<Vec<u8>>,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
}

impl Provider {
    /// With the state that was read from the store, and the issuers of the relay's own audience.
    #[must_use]
    pub const fn new(desk: Desk, keys: Keys, download: Option<Download>) -> Self {
        Self { desk, keys, orders: VecDeque::new(), download }
    }

    fn caller(&mut self, fields: &Fields, net: &mut dyn Net) -> Caller {
        let mut values = fields.all("Authorization");
        let (Some(value), None) = (values.next(), values.next()) else {
            return match fields.get("Authorization") {
                None => Caller::Nobody,
                Some(_) => denied(401, "two_credentials", "more than one Authorization field"),
            };
        };
        let token = match crate::auth::credential::bearer(value.as_bytes()) {
            Ok(token) => token.to_owned(),
            Err(_) => return denied(401, "not_bearer", "Authorization is not one bearer token"),
        };
        if self.desk.is_operator(&token) {
            return Caller::Operator;
        }
        match self.keys.verifier().verify(&token, net.unix_time()) {
            Ok(principal) => Caller::User(User {
                issuer: principal.issuer,
                subject: principal.subject,
                user: principal.user,
                groups: principal.groups,
                display: principal.display,
            }),
            Err(why) => {
                self.keys.on_denied(&why, net);
                log::info!("a token for the relay was refused: {why}");
                refused(&why)
            }
        }
    }

    fn answer(&mut self, ticket: Ticket, status: u16, content_type: &str, body: Vec<u8>) {
        self.answer_shared(ticket, status, content_type, Arc::new(body));
    }

    fn answer_shared(
        &mut self,
        ticket: Ticket,
        status: u16,
        content_type: &str,
        body: Arc<Vec<u8>>,
    ) {
        let fields = vec![("Content-Type".to_owned(), content_type.to_owned())];
        self.orders.push_back(Order::Answer(ticket, Answer { status, fields, body }));
    }

    /// Paths that are not the API's. `false` if it is none of them.
    fn serve_plain(&mut self, ticket: Ticket, call: &Call, path: &str) -> bool {
        let first = path.split('/').nth(1).unwrap_or_default();
        match first {
            "healthz" => self.answer(ticket, 200, "text/plain", b"ok\n".to_vec()),
            "download" if call.method == "GET" => {
                let file = path.strip_prefix("/download/").unwrap_or_default();
                let found = self.download.as_ref().and_then(|it| it.find(file));
                match found {
                    Some((kind, body)) => self.answer_shared(ticket, 200, kind, body),
                    None => self.answer(ticket, 404, "text/plain", b"no such file\n".to_vec()),
                }
            }
            "subscriptions" | "providers" => return false,
            _ => self.answer(ticket, 404, "text/plain", b"no such path\n".to_vec()),
        }
        true
    }

    fn collect(&mut self) {
        while let Some(done) = self.desk.poll_done() {
            let order = match done {
                Done::Reply(ticket, reply) => {
                    let fields = reply.headers.into_iter();
                    let fields = fields.map(|(name, value)| (name.to_owned(), value)).collect();
                    let answer =
                        Answer { status: reply.status, fields, body: Arc::new(reply.body) };
                    Order::Answer(Ticket(ticket), answer)
                }
                Done::Effect(effect) => Order::Revoke(effect.revoked()),
            };
            self.orders.push_back(order);
        }
    }
}

impl Authority for Provider {
    fn is_ready(&self) -> bool {
        true
    }

    fn admits(&self, peer: Peer) -> bool {
        self.desk.registry().network().admit(peer.address())
    }

    fn entity(&self, path: &str) -> Option<Entity> {
        let (entity, _) = self.desk.registry().resolve(path)?;
        Some(Entity {
            name: entity.name.to_ascii_lowercase(),
            needs_token: entity.requires_client_authorization,
            http: entity.http,
            deadlines: entity.deadlines,
        })
    }

    fn describe(&self, path: &str) -> Option<Description> {
        let entity = self.desk.registry().entity(path)?;
        Some(Description {
            name: entity.name.clone(),
            needs_token: entity.requires_client_authorization,
            user_metadata: entity.user_metadata.clone(),
            created_at: entity.created_at,
            updated_at: entity.updated_at,
        })
    }

    fn authorize(&mut self, request: &Request<'_>, net: &mut dyn Net) -> Result<Grant, Refusal> {
        let right = match request.right {
            Right::Listen => sas::Right::Listen,
            Right::Send => sas::Right::Send,
        };
        let authorized = match request.token.and_then(bearer_token) {
            Some(token) if !self.keys.verifier().issuers().is_empty() => {
                let who = self.keys.verifier().verify(token, net.unix_time());
                let who = who.map_err(|why| {
                    self.keys.on_denied(&why, net);
                    log::debug!("a token for {} was refused: {why}", request.path);
                    refusal(&why)
                })?;
                self.desk.registry().authorize_principal(&who, request.path, right)
            }
            _ => {
                let (registry, now) = (self.desk.registry(), net.unix_time());
                registry.authorize(request.token, request.host, request.path, right, now)
            }
        };
        match authorized {
            Ok(Authorized { expires, bearer, caller, .. }) => {
                Ok(Grant { expires, bearer: bearer.to_string(), caller })
            }
            Err(why) => Err(Refusal { status: why.status(), text: why.to_string() }),
        }
    }

    fn note_listeners(&mut self, entity: &str, count: usize, net: &mut dyn Net) {
        self.desk.handle_listeners(entity, count, net);
        self.collect();
    }

    fn handle_call(&mut self, ticket: Ticket, call: Call, net: &mut dyn Net) {
        let (path, query) = call.target.split_once('?').unwrap_or((&call.target, ""));
        let (path, query) = (path.to_owned(), query.to_owned());
        if self.serve_plain(ticket, &call, &path) {
            return;
        }
        let caller = self.caller(&call.fields, net);
        let query = Query {
            method: call.method,
            path,
            query,
            host: call.fields.get("Host").unwrap_or_default().to_owned(),
            body: call.body,
            peer: call.peer.address(),
            caller,
        };
        self.desk.handle_call(ticket.0, query, net);
        self.collect();
    }

    fn handle_event(&mut self, event: Event, net: &mut dyn Net) {
        match event {
            Event::Started => self.keys.start(net),
            Event::Deadline => self.keys.handle_deadline(net),
            Event::Done(job, outcome) => {
                if let Some(Outcome::Noted(result)) = self.keys.handle_done(job, outcome, net) {
                    self.desk.handle_noted(job, result, net);
                }
            }
            _ => (),
        }
        self.collect();
    }

    fn deadline(&self) -> Option<Instant> {
        self.keys.deadline()
    }

    fn poll_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }
}

impl Download {
    fn find(&self, file: &str) -> Option<(&'static str, Arc<Vec<u8>>)> {
        let name = file.strip_prefix(self.platform.as_str())?;
        match name {
            "/cluster-connect" => Some(("application/octet-stream", Arc::clone(&self.bytes))),
            "/cluster-connect.sha256" => {
                let line = format!("{}  cluster-connect\n", self.sha256);
                Some(("text/plain", Arc::new(line.into_bytes())))
            }
            _ => None,
        }
    }
}

/// A token that is no shared access signature, perhaps behind the word that HTTP has for it.
fn bearer_token(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once(' ').unwrap_or(("", text));
    match scheme {
        "" => Some(rest).filter(|rest| !rest.is_empty()),
        scheme if scheme.eq_ignore_ascii_case("Bearer") => Some(rest.trim_start_matches(' ')),
        _ => None,
    }
}

/// In the words that the relay has for shared access signatures. SDKs understand no status but 401.
fn refusal(why: &Denied) -> Refusal {
    let text = match why.kind() {
        Reason::KeysUnavailable => {
            return Refusal { status: 503, text: why.public().to_owned() };
        }
        Reason::Expired => "ExpiredToken: The token is expired.".to_owned(),
        Reason::Audience => sas::Refusal::Audience.to_string(),
        Reason::Signature | Reason::KeyUnknown | Reason::KeyMismatch | Reason::Algorithm => {
            sas::Refusal::Signature.to_string()
        }
        Reason::Malformed | Reason::Header | Reason::TokenType => {
            "MalformedToken: The token cannot be read.".to_owned()
        }
        _ => format!("InvalidToken: {}.", why.public()),
    };
    Refusal { status: 401, text }
}

fn refused(why: &Denied) -> Caller {
    denied(why.status(), why.reason(), why.public())
}

fn denied(status: u16, reason: &'static str, message: &str) -> Caller {
    Caller::Denied { status, reason, message: message.to_owned() }
}

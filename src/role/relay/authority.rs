//! What the relay asks of whoever knows the entities, the keys and the connected clusters.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::upgrade::Fields;
use crate::limits::{ACCEPT_TIMEOUT, BODY_GAP_TIMEOUT, RESPONSE_TIMEOUT};
use crate::role::{Event, Net, Peer, Revoked};

/// Decides who may listen and send, and answers the relay's own API. It is asked once for each
/// connection, never for a frame.
pub trait Authority: std::fmt::Debug {
    /// Whether the entities are known already. Until then everything is answered with 503: a
    /// 404 would stop some listeners for good.
    fn is_ready(&self) -> bool;

    /// Whether anybody may use an entity from where `peer` is, whatever their token.
    fn admits(&self, peer: Peer) -> bool;

    /// The entity whose name is the longest whole-segment prefix of `path`, which is decoded and
    /// in lower case.
    fn entity(&self, path: &str) -> Option<Entity>;

    /// What there is to tell about the entity whose name is `path`, in lower case.
    fn describe(&self, path: &str) -> Option<Description>;

    /// Whether `token` gives `right` at `path` on `host`. Must not tell an unknown entity from one
    /// that the token does not open.
    ///
    /// # Errors
    ///
    /// Why not.
    fn authorize(&mut self, request: &Request<'_>, net: &mut dyn Net) -> Result<Grant, Refusal>;

    /// So many listeners are connected to `entity` now.
    fn note_listeners(&mut self, entity: &str, count: usize, net: &mut dyn Net);

    /// A request to the relay's own API. The answer is an [`Order::Answer`], now or later.
    fn handle_call(&mut self, ticket: Ticket, call: Call, net: &mut dyn Net);

    /// [`Event::Started`], [`Event::Done`], [`Event::Signal`] and [`Event::Deadline`].
    fn handle_event(&mut self, event: Event, net: &mut dyn Net);

    /// When to send [`Event::Deadline`].
    fn deadline(&self) -> Option<Instant>;

    /// What the relay has to do. Asked after each of the calls above, until there is nothing.
    fn poll_order(&mut self) -> Option<Order>;
}

/// A hybrid connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entity {
    /// Its name, in lower case.
    pub name: String,
    /// Senders need a token.
    pub needs_token: bool,
    /// HTTP requests are relayed.
    pub http: bool,
    /// How long the others may take.
    pub deadlines: Deadlines,
}

/// How long the parties of a hybrid connection may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Deadlines {
    /// A listener, to meet a sender.
    pub accept: Duration,
    /// A listener, to begin its response to an HTTP request that it has.
    pub response: Duration,
    /// Whoever sends the body of an HTTP request or response, between two pieces of it.
    pub body_gap: Duration,
}

/// Those of Azure.
impl Default for Deadlines {
    fn default() -> Self {
        let (accept, response) = (ACCEPT_TIMEOUT, RESPONSE_TIMEOUT);
        Self { accept, response, body_gap: BODY_GAP_TIMEOUT }
    }
}

/// What whoever may use a hybrid connection may know of it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Description {
    /// Its name, as written.
    pub name: String,
    /// Senders need a token.
    pub needs_token: bool,
    /// Opaque to the relay.
    pub user_metadata: String,
    /// In seconds since 1970.
    pub created_at: u64,
    /// In seconds since 1970.
    pub updated_at: u64,
}

/// What may be done at an entity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Right {
    /// Hold a control channel.
    Listen,
    /// Connect.
    Send,
}

/// What a caller wants.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// To do what.
    pub right: Right,
    /// The host it asked for, without the port.
    pub host: &'a str,
    /// The path it asked for, decoded, in lower case.
    pub path: &'a str,
    /// With which token.
    pub token: Option<&'a str>,
}

/// A token was good.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Grant {
    /// When it expires, in seconds since 1970.
    pub expires: u64,
    /// Whom it was made for, in the authority's own words; [`Order::Revoke`] names the same.
    pub bearer: String,
    /// Whose senders are counted together, in the authority's own words.
    pub caller: String,
}

/// A token was not good.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// 401, usually.
    pub status: u16,
    /// A sentence that the caller may read.
    pub text: String,
}

/// Names a call until it is answered.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Ticket(pub u64);

/// A request to the relay's own API.
#[derive(Clone, Debug)]
pub struct Call {
    /// As sent.
    pub method: String,
    /// Path and query, as sent.
    pub target: String,
    /// The fields.
    pub fields: Fields,
    /// The body, whole.
    pub body: Vec<u8>,
    /// Where it came from.
    pub peer: Peer,
}

/// The answer to a [`Call`].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Fields, without those for framing.
    pub fields: Vec<(String, String)>,
    /// The body, shared with everybody who is given the same.
    pub body: Arc<Vec<u8>>,
}

/// What the relay has to do for the authority.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Order {
    /// Answer this call.
    Answer(Ticket, Answer),
    /// Close what is open at an entity, or what somebody has opened.
    Revoke(Revoked),
}

//! What comes of a request.

use std::fmt;
use std::sync::Arc;

use serde_json::Value as Json;

use super::Fault;
use crate::auth::network::NetworkRules;
use crate::role::Revoked;
use crate::role::relay::audit::Entry;
use crate::role::relay::registry::{Bearer, Change};

/// What is to be done, in this order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Answer {
    /// To be written to the audit log. Where that fails, answer [`Reply::unavailable`] instead.
    pub audit: Vec<Entry>,
    /// To be made durable and applied before the reply goes out. Where that fails, nothing of
    /// the rest happens, and the answer is [`Reply::unavailable`].
    pub changes: Vec<Change>,
    /// What happens to live connections.
    pub effects: Vec<Effect>,
    /// What the caller reads.
    pub reply: Reply,
}

/// What a change means for live connections.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Close the listeners and all relayed connections of this hybrid connection.
    Disconnect(String),
    /// Close the listeners of this hybrid connection: their agent was replaced.
    DropListeners(String),
    /// Close what was opened on this hybrid connection by a token with this
    /// [`Bearer::User`] grant.
    Cut {
        /// The hybrid connection.
        entity: String,
        /// The role assignment that was revoked.
        grant: String,
    },
    /// Close what was opened by tokens with the data-plane role assignment of this name.
    CutRole(String),
    /// Close what has come from addresses that these rules do not admit.
    ShutOut(Arc<NetworkRules>),
}

impl Effect {
    /// The connections that end.
    pub fn revoked(self) -> Revoked {
        match self {
            Self::Disconnect(entity) => Revoked::Entity(entity.to_ascii_lowercase()),
            Self::DropListeners(entity) => {
                Revoked::At(entity.to_ascii_lowercase(), Bearer::Agent.to_string())
            }
            Self::Cut { entity, grant } => Revoked::At(entity.to_ascii_lowercase(), grant),
            Self::ShutOut(rules) => Revoked::Outside(rules),
            Self::CutRole(name) => Revoked::Bearer(Bearer::Role(name).to_string()),
        }
    }
}

/// An HTTP response.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Without those that frame the body.
    pub headers: Vec<(&'static str, String)>,
    /// JSON, or empty.
    pub body: Vec<u8>,
}

impl Reply {
    pub(super) fn json(status: u16, body: &Json) -> Self {
        let headers = vec![
            ("Content-Type", "application/json; charset=utf-8".to_owned()),
            ("Cache-Control", "no-store".to_owned()),
        ];
        Self { status, headers, body: body.to_string().into_bytes() }
    }

    pub(super) const fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// What was asked for could not be written down, so it was not done.
    pub fn unavailable() -> Self {
        let message = "the relay cannot write its state or its audit log; nothing was changed";
        Fault::new(503, "ServiceUnavailable", message).into_reply()
    }
}

/// The body may hold a token or a key.
impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut reply = f.debug_struct("Reply");
        reply.field("status", &self.status).field("len", &self.body.len()).finish_non_exhaustive()
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self { reply, ..Self::default() }
    }
}

//! The head that goes on. It is stripped first and added to last, so that nothing of the caller's
//! can take off or double what we put on; then it is looked at once more.

use std::error::Error;
use std::fmt;

use crate::auth::fields::HeaderPolicy;
use crate::auth::impersonate::{BadHead, Field, Road, check_finished_head};
use crate::secret::Secret;
use crate::wire::h1::{Fields, RequestHead, Unwritable, policy, strip};

/// What we put on a request.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// By what the API server knows who is asking.
    pub road: Road,
    /// The impersonation fields.
    pub fields: &'a [Field<'a>],
    /// The one credential, unless a client certificate is it.
    pub bearer: Option<&'a Secret<String>>,
    /// The API server's name.
    pub host: &'a str,
    /// Ties our audit log to the API server's.
    pub audit_id: &'a str,
    /// Which of the caller's ordinary fields go on.
    pub policy: HeaderPolicy,
}

impl Identity<'_> {
    /// What goes on of the request `head`: the caller's ordinary fields and our identity.
    ///
    /// # Errors
    ///
    /// [`Unfit`]. Nothing may be sent for this request then.
    pub fn put_on(&self, head: &RequestHead) -> Result<RequestHead, Unfit> {
        let ours: usize = self.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        let bearer = self.bearer.map_or(0, |token| token.expose().len());
        let mut outgoing = head
            .with_room(self.fields.len() + ADDED, ours + bearer + self.host.len() + ADDED_BYTES);
        let inbound = inbound_impersonation(&head.fields, self.road);
        strip(&mut outgoing.fields);
        policy::strip_identity(&mut outgoing.fields);
        outgoing.fields.retain(|field| self.policy.forwards(field.name));
        outgoing.fields.push("Host", self.host)?;
        for (name, value) in inbound {
            outgoing.fields.push(&name, value)?;
        }
        for (name, value) in self.fields {
            outgoing.fields.push(name, value.as_bytes())?;
        }
        set_bearer(&mut outgoing, self.bearer);
        outgoing.fields.push("Audit-ID", self.audit_id)?;
        let fields = outgoing.fields.iter().map(|field| (field.name, field.value));
        check_finished_head(fields, self.road)?;
        Ok(outgoing)
    }
}

/// Fields beside the impersonation, and the bytes of their names and of an audit id.
const ADDED: usize = 3;
const ADDED_BYTES: usize = 96;

/// Puts `token` in as the one credential of `head`.
pub(super) fn set_bearer(head: &mut RequestHead, token: Option<&Secret<String>>) {
    head.fields.remove("authorization");
    if let Some(token) = token {
        let value = ["Bearer ", token.expose()].concat();
        // A token has been through the grammar of tokens; the finished head is checked again.
        let _: Result<(), Unwritable> = head.fields.push("Authorization", value);
    }
}

/// Where the caller's own token goes on, so does whom it wants to act as: kube-apiserver decides
/// about that by the rights of that token.
fn inbound_impersonation(fields: &Fields, road: Road) -> Vec<(String, Vec<u8>)> {
    if road != Road::Passthrough {
        return Vec::new();
    }
    let named =
        |name: &str| name.get(..12).is_some_and(|start| start.eq_ignore_ascii_case("impersonate-"));
    let inbound = fields.iter().filter(|field| named(field.name));
    inbound.map(|field| (field.name.to_owned(), field.value.to_vec())).collect()
}

/// Why a head cannot go on. The fault is ours.
#[derive(Debug)]
pub enum Unfit {
    /// A field cannot be written.
    Unwritable(Unwritable),
    /// The finished head is not what it must be.
    Finished(BadHead),
}

impl From<Unwritable> for Unfit {
    fn from(why: Unwritable) -> Self {
        Self::Unwritable(why)
    }
}

impl From<BadHead> for Unfit {
    fn from(why: BadHead) -> Self {
        Self::Finished(why)
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unwritable(why) => write!(f, "{why}"),
            Self::Finished(why) => write!(f, "{why}"),
        }
    }
}

impl Error for Unfit {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unwritable(why) => Some(why),
            Self::Finished(why) => Some(why),
        }
    }
}

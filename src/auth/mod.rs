//! Pure decisions about who may do what: nothing here reads a clock, a file or a socket. Time in
//! unix seconds is an argument.
//!
//! A caller's token goes through [`Verifier`]: the text is taken apart strictly ([`token`]), its
//! `iss` picks exactly one issuer, that issuer's keys ([`jwks`]) verify the signature, and its
//! [`profile`] checks the claims and says who the caller is, a [`Principal`]. [`impersonate`]
//! turns that into header fields. There is no second way for a token that fails: a chain of
//! authenticators would let one's failure be another's success.

mod alphabet;
pub mod assignments;
pub mod certify;
pub mod credential;
mod denied;
pub mod discovery;
pub mod fields;
pub mod impersonate;
pub mod jwks;
pub mod names;
pub mod network;
pub mod overage;
pub mod pop;
pub mod profile;
pub mod refresh;
pub mod review;
pub mod roles;
pub mod sas;
pub mod settings;
pub mod token;
mod verifier;

#[cfg(test)]
mod cve_tests;
#[cfg(test)]
mod testing;

pub use denied::{Denied, Reason};
pub use settings::{IssuerSettings, KeySource, Misconfigured, VerifierSettings};
pub use token::Unverified;
pub use verifier::{Authenticator, GraphOf, Issuer, Verifier};

/// Who a caller is, from a token that has been verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Principal {
    /// The Kubernetes user.
    pub user: String,
    /// The Kubernetes groups, without `system:authenticated`.
    pub groups: Vec<String>,
    /// Whether [`Self::groups`] is all of them.
    pub group_state: GroupState,
    /// Extra attributes, key and value. Keys are lower case.
    pub extra: Vec<(String, String)>,
    /// The issuer, in one form for all forms that it has: for Entra ID that of v2 tokens.
    pub issuer: String,
    /// What never changes about the caller, within the issuer: `sub`, for Entra ID tenant and
    /// object id with a slash between them. Rights are bound to this.
    pub subject: String,
    /// For people. Never compared.
    pub display: String,
    /// A hash that names the credential in audit logs.
    pub credential_id: String,
    /// When the token ends, in unix seconds.
    pub expires: u64,
    /// Whether the caller is an application.
    pub is_app: bool,
}

impl Principal {
    /// The object id of a caller of Entra ID.
    #[must_use]
    pub fn object_id(&self) -> Option<&str> {
        self.extra.iter().find(|(key, _)| key == "oid").map(|(_, oid)| oid.as_str())
    }
}

/// Whether a principal's groups are all of its groups.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GroupState {
    /// They are.
    Complete,
    /// There are too many for a token, and the configuration says to go on without any. Worth an
    /// annotation in the audit log.
    Ignored,
    /// There are too many for a token, and they must be asked for before the principal may do
    /// anything.
    Unresolved,
}

/// Whether two secrets are equal, in a time that tells nothing but whether their lengths are.
#[must_use]
pub fn same_secret(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b));
    one.len() == other.len() && std::hint::black_box(differences) == 0
}

//! What a verifier is configured with, and the mistakes that are refused at start: whatever would
//! let one issuer's caller pass for another's.

use std::collections::BTreeSet;
use std::fmt;

use super::names;
use super::pop::Possession;
use super::profile::{EntraForm, EntraGroups, EntraKeys, EntraTenant, OidcIssuer, Overage, Prefix};
use super::profile::{check_group_name, is_guid};
use super::token::Terms;
use crate::limits::CLOCK_LEEWAY_MAX;

/// Everything that a verifier is made of.
#[derive(Clone, Debug, Default)]
pub struct VerifierSettings {
    /// The issuers. None at all is allowed where only service accounts may call.
    pub issuers: Vec<IssuerSettings>,
    /// What is done with proofs of possession.
    pub possession: Possession,
    /// The issuer of the cluster's own service-account tokens, if those are passed through.
    pub service_account_issuer: Option<String>,
}

/// One issuer, by its kind.
#[derive(Clone, Debug)]
pub enum IssuerSettings {
    /// A tenant of Entra ID.
    Entra(EntraTenant),
    /// Any other OpenID Connect issuer.
    Oidc(OidcIssuer),
}

/// Where an issuer's keys come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KeySource {
    /// From where a discovery document says.
    Discovery {
        /// Where the document is.
        url: String,
        /// Hosts, beside the document's own, on which the keys may be.
        hosts: Vec<String>,
    },
    /// From this URL.
    Url(String),
    /// From a file: nothing is fetched, and the keys do not age.
    Installed,
}

impl KeySource {
    /// Discovery at the usual place below `issuer`.
    #[must_use]
    pub fn discover(issuer: &str) -> Self {
        let issuer = issuer.trim_end_matches('/');
        let url = format!("{issuer}/.well-known/openid-configuration");
        Self::Discovery { url, hosts: Vec::new() }
    }

    fn url(&self) -> Option<&str> {
        match self {
            Self::Discovery { url, .. } | Self::Url(url) => Some(url),
            Self::Installed => None,
        }
    }
}

impl IssuerSettings {
    /// Every `iss` that this entry stands for.
    pub(super) fn names(&self) -> Vec<String> {
        match self {
            Self::Entra(tenant) => vec![tenant.issuer(EntraForm::V1), tenant.issuer(EntraForm::V2)],
            Self::Oidc(oidc) => vec![oidc.issuer.clone()],
        }
    }

    fn terms(&self) -> Terms {
        match self {
            Self::Entra(tenant) => tenant.terms(),
            Self::Oidc(oidc) => oidc.terms(),
        }
    }

    /// The prefixes of users and, if there are groups, of groups.
    fn prefixes(&self) -> (&Prefix, Option<&Prefix>) {
        match self {
            Self::Entra(tenant) => {
                let groups = (tenant.groups != EntraGroups::None).then_some(&tenant.group_prefix);
                (&tenant.user_prefix, groups)
            }
            Self::Oidc(oidc) => {
                (&oidc.user_prefix, oidc.groups_claim.is_some().then_some(&oidc.group_prefix))
            }
        }
    }

    fn check(&self) -> Result<(), Misconfigured> {
        let Terms { audiences, algorithms, leeway, .. } = self.terms();
        let name = self.names().pop().unwrap_or_default();
        if audiences.is_empty() || audiences.iter().any(String::is_empty) {
            return Err(Misconfigured::NoAudience(name));
        }
        if algorithms.is_empty() {
            return Err(Misconfigured::NoAlgorithm(name));
        }
        if CLOCK_LEEWAY_MAX < leeway {
            return Err(Misconfigured::Leeway(leeway));
        }
        let (user, groups) = self.prefixes();
        for prefix in [Some(user), groups].into_iter().flatten().map(Prefix::as_str) {
            let blank =
                prefix.starts_with(' ') || !prefix.bytes().all(|b| matches!(b, b' '..=b'~'));
            if blank || names::is_reserved(prefix) {
                return Err(Misconfigured::BadPrefix(prefix.to_owned()));
            }
        }
        match self {
            Self::Entra(tenant) => check_tenant(tenant),
            Self::Oidc(oidc) => check_oidc(oidc),
        }
    }
}

impl VerifierSettings {
    /// Checks each entry, and all of them against each other.
    pub(super) fn check(&self) -> Result<(), Misconfigured> {
        let mut names = BTreeSet::new();
        for entry in &self.issuers {
            entry.check()?;
            for name in entry.names() {
                if self.service_account_issuer.as_ref() == Some(&name) {
                    return Err(Misconfigured::ServiceAccountIssuer(name));
                }
                if !names.insert(name.clone()) {
                    return Err(Misconfigured::IssuerTwice(name));
                }
            }
        }
        let (users, groups): (Vec<_>, Vec<_>) =
            self.issuers.iter().map(IssuerSettings::prefixes).unzip();
        check_prefixes(&users)?;
        check_prefixes(&groups.into_iter().flatten().collect::<Vec<_>>())?;
        match self.possession.target() {
            Some("") => Err(Misconfigured::NoProofTarget),
            Some(_) | None => Ok(()),
        }
    }
}

/// With several issuers each needs a prefix, and none may begin with another: else one could give
/// out names of the other.
fn check_prefixes(prefixes: &[&Prefix]) -> Result<(), Misconfigured> {
    for (at, one) in prefixes.iter().enumerate() {
        for (other_at, other) in prefixes.iter().enumerate() {
            if at != other_at && one.as_str().starts_with(other.as_str()) {
                return Err(Misconfigured::Prefixes(one.to_string(), other.to_string()));
            }
        }
    }
    Ok(())
}

fn check_tenant(tenant: &EntraTenant) -> Result<(), Misconfigured> {
    let id = &tenant.tenant;
    if !is_guid(id) || *id != id.to_ascii_lowercase() {
        return Err(Misconfigured::Tenant(id.clone()));
    }
    if let EntraKeys::DiscoverAt(authority) = &tenant.keys {
        check_https(authority)?;
    }
    if let Some(app) = tenant.signing_app.as_ref().filter(|app| !is_guid(app)) {
        return Err(Misconfigured::SigningApp(app.clone()));
    }
    if let Overage::Ask(graph) = &tenant.overage
        && (!graph.is_sound() || tenant.groups != EntraGroups::Groups)
    {
        return Err(Misconfigured::Graph(graph.address.clone(), graph.client.clone()));
    }
    for (group, name) in &tenant.group_names {
        if !check_group_name(group, name) {
            return Err(Misconfigured::GroupName(group.clone(), name.clone()));
        }
    }
    Ok(())
}

fn check_oidc(oidc: &OidcIssuer) -> Result<(), Misconfigured> {
    check_https(&oidc.issuer)?;
    if let Some(url) = oidc.keys.url() {
        check_https(url)?;
    }
    if oidc.user_claim.is_empty() {
        return Err(Misconfigured::NoUserClaim(oidc.issuer.clone()));
    }
    Ok(())
}

fn check_https(url: &str) -> Result<(), Misconfigured> {
    match super::discovery::host(url) {
        Some(_) => Ok(()),
        None => Err(Misconfigured::NotHttps(url.to_owned())),
    }
}

/// A configuration under which callers could pass for one another, or none could pass at all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Misconfigured {
    /// Two entries stand for this issuer.
    IssuerTwice(String),
    /// This issuer is that of service accounts, too.
    ServiceAccountIssuer(String),
    /// This issuer has no audience.
    NoAudience(String),
    /// This issuer has no algorithm.
    NoAlgorithm(String),
    /// This issuer has no claim for the user name.
    NoUserClaim(String),
    /// This is no `https` URL of a host.
    NotHttps(String),
    /// This is no tenant's id.
    Tenant(String),
    /// This is no application's id.
    SigningApp(String),
    /// So much leeway is too much.
    Leeway(u64),
    /// This prefix could make reserved names, or cannot be sent.
    BadPrefix(String),
    /// Names under the first prefix could be names under the second.
    Prefixes(String, String),
    /// This group cannot have this name.
    GroupName(String, String),
    /// Groups are asked for at this address by this application, and that cannot be.
    Graph(String, String),
    /// Proofs are taken and there is no name that they must be for.
    NoProofTarget,
}

impl fmt::Display for Misconfigured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IssuerTwice(name) => write!(f, "issuer {name:?} is configured twice"),
            Self::ServiceAccountIssuer(name) => {
                write!(f, "issuer {name:?} is also the issuer of service accounts")
            }
            Self::NoAudience(name) => write!(f, "issuer {name:?} has no audience"),
            Self::NoAlgorithm(name) => write!(f, "issuer {name:?} has no algorithm"),
            Self::NoUserClaim(name) => write!(f, "issuer {name:?} has no username claim"),
            Self::NotHttps(url) => write!(f, "{url:?} is not an https URL"),
            Self::Tenant(id) => write!(f, "{id:?} is not a tenant's id in lower case"),
            Self::SigningApp(id) => write!(f, "{id:?} is not an application's id"),
            Self::Leeway(seconds) => {
                write!(f, "leeway of {seconds} seconds is over {CLOCK_LEEWAY_MAX}")
            }
            Self::BadPrefix(prefix) => write!(f, "prefix {prefix:?} is not allowed"),
            Self::Prefixes(one, other) => write!(
                f,
                "several issuers need prefixes of which none begins with another: {one:?} begins with {other:?}"
            ),
            Self::GroupName(id, name) => write!(f, "group {id:?} cannot be named {name:?}"),
            Self::Graph(address, client) => write!(
                f,
                "{address:?} cannot be asked for groups by {client:?}: it takes an https address, an application's id, and groups that are asked for"
            ),
            Self::NoProofTarget => {
                f.write_str("proofs of possession need the name that they are for")
            }
        }
    }
}

impl std::error::Error for Misconfigured {}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;

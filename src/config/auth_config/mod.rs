//! Whose tokens are taken: the file of issuers that relay and auth proxy share, and the short
//! options for the common cases. Names follow Kubernetes' own structured authentication
//! configuration where the meaning is the same.
//!
//! ```json
//! {"issuers": [
//!   {"type": "oidc",
//!    "issuer": {"url": "https://token.actions.githubusercontent.com", "audiences": ["edge"]},
//!    "claimMappings": {"username": {"claim": "sub", "prefix": "github:"}},
//!    "requiredClaims": {"repository_owner": "contoso", "environment": ["prod", "stage"]}},
//!   {"type": "entra", "entra": {"tenant": "5c7d…", "cloud": "public", "audiences": ["6256…"]}}
//! ]}
//! ```
//!
//! Unknown keys are errors at every level: a rule that is misspelt must not be a rule that is
//! missing.

mod read;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::args::Args;
use super::errors::{Code, Error};
use super::values::one_of;
use crate::io::files;
use crate::limits::AUTH_CONFIG_MAX;
use crate::wire::url::Url;

/// Whose tokens are taken.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AuthConfig {
    /// In the order of the file.
    pub issuers: Vec<Issuer>,
}

/// One issuer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Issuer {
    /// Any OpenID Connect issuer.
    Oidc(Oidc),
    /// A tenant of Entra ID.
    Entra(Entra),
}

/// Where keys come from, and what is the same for every kind of issuer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Common {
    /// Audiences, any of which will do.
    pub audiences: Vec<String>,
    /// Another place for the discovery document (OIDC), or for all of the authority (Entra ID).
    pub discovery: Option<Url>,
    /// The roots to trust when fetching, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Keys from a file; nothing is fetched then.
    pub jwks_file: Option<PathBuf>,
    /// Signature algorithms by name; empty for RS256 alone.
    pub algorithms: Vec<String>,
    /// Seconds by which clocks may differ, up to 300.
    pub leeway: Option<u64>,
    /// Longest life of a token, in seconds.
    pub max_lifetime: Option<u64>,
}

/// An OpenID Connect issuer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Oidc {
    /// `iss`, byte for byte.
    pub url: String,
    /// What is the same for every kind.
    pub common: Common,
    /// The claim that becomes the user name.
    pub username_claim: String,
    /// What user names begin with; `-` for nothing.
    pub username_prefix: String,
    /// The claim that becomes the groups.
    pub groups_claim: Option<String>,
    /// What group names begin with; `-` for nothing.
    pub groups_prefix: String,
    /// Claims that must be there.
    pub required: BTreeMap<String, Requirement>,
    /// Names may have letters of any script.
    pub any_script: bool,
}

/// What a required claim must be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Requirement {
    /// This text.
    Equals(String),
    /// One of these.
    In(Vec<String>),
    /// Anything.
    Exists,
}

/// A tenant of Entra ID.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entra {
    /// Its id.
    pub tenant: String,
    /// Which cloud it lives in.
    pub cloud: Cloud,
    /// What is the same for every kind.
    pub common: Common,
    /// Client applications that may call; empty for all.
    pub clients: Vec<String>,
    /// User names are object ids, never UPNs.
    pub username_is_oid: bool,
    /// Where groups come from.
    pub groups: Groups,
    /// A token that leaves its groups out is taken without groups.
    pub ignore_overage: bool,
    /// Names for group object ids.
    pub group_names: BTreeMap<String, String>,
    /// What user names begin with; `-` for nothing.
    pub username_prefix: String,
    /// What group names begin with; `-` for nothing.
    pub groups_prefix: String,
}

/// The clouds of Entra ID.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Cloud {
    /// Everybody's.
    #[default]
    Public,
    /// Azure US Government.
    UsGovernment,
    /// Azure operated by 21Vianet.
    China,
}

/// Where the groups of an Entra ID token are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Groups {
    /// In `groups`, as object ids.
    #[default]
    Groups,
    /// In `roles`.
    Roles,
    /// Nowhere.
    None,
}

const CLOUDS: [(&str, Cloud); 3] =
    [("public", Cloud::Public), ("usgov", Cloud::UsGovernment), ("china", Cloud::China)];

impl Issuer {
    /// Its audiences.
    #[must_use]
    pub fn audiences(&self) -> &[String] {
        match self {
            Self::Oidc(oidc) => &oidc.common.audiences,
            Self::Entra(entra) => &entra.common.audiences,
        }
    }
}

impl AuthConfig {
    /// Reads the file of issuers. Files that it names are relative to it.
    ///
    /// # Errors
    ///
    /// `AUTH_CONFIG_INVALID`, or what hinders reading.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let bytes = files::read_limited(path, AUTH_CONFIG_MAX)?;
        let directory = path.parent().unwrap_or_else(|| Path::new("."));
        Self::parse(&bytes, directory).map_err(|why| {
            let place = path.display();
            Error::new(Code::AuthConfigInvalid, format!("{place}: {why}"))
                .hint("cluster-connect explain AUTH_CONFIG_INVALID")
        })
    }

    /// Reads the text of a file of issuers that lies in `directory`.
    ///
    /// # Errors
    ///
    /// A sentence with the place of what is wrong.
    pub fn parse(bytes: &[u8], directory: &Path) -> Result<Self, String> {
        read::issuers(bytes, directory).map(|issuers| Self { issuers })
    }

    /// Reads `--auth-config`, `--oidc-…` and `--entra-…`. The short options describe one issuer and
    /// add it to those of the file.
    ///
    /// # Errors
    ///
    /// `USAGE`, `AUTH_CONFIG_INVALID`.
    pub fn from_args(args: &mut Args<'_>) -> Result<Self, Error> {
        let mut config = match args.path("--auth-config")? {
            Some(path) => Self::load(&path)?,
            None => Self::default(),
        };
        config.issuers.extend(oidc_options(args)?.map(Issuer::Oidc));
        config.issuers.extend(entra_options(args)?.map(Issuer::Entra));
        Ok(config)
    }

    /// An audience that both configurations take tokens for.
    #[must_use]
    pub fn common_audience<'a>(&'a self, other: &Self) -> Option<&'a str> {
        let theirs: Vec<&String> = other.issuers.iter().flat_map(Issuer::audiences).collect();
        let mut ours = self.issuers.iter().flat_map(Issuer::audiences);
        ours.find(|audience| theirs.contains(audience)).map(String::as_str)
    }

    /// Every audience, each once.
    #[must_use]
    pub fn audiences(&self) -> Vec<String> {
        let mut all: Vec<String> =
            self.issuers.iter().flat_map(Issuer::audiences).cloned().collect();
        all.sort();
        all.dedup();
        all
    }
}

pub(super) fn oidc_options(args: &mut Args<'_>) -> Result<Option<Oidc>, Error> {
    let url = args.value("--oidc-issuer", issuer_url)?;
    let audiences = args.values("--oidc-audience", |text| Ok(text.to_owned()))?;
    let username_claim = args.text("--oidc-username-claim")?;
    let username_prefix = args.text("--oidc-username-prefix")?;
    let groups_claim = args.text("--oidc-groups-claim")?;
    let groups_prefix = args.text("--oidc-groups-prefix")?;
    let ca_file = args.path("--oidc-ca-file")?;
    let jwks_file = args.path("--oidc-jwks-file")?;
    let Some(url) = url else {
        let stray = !audiences.is_empty()
            || [&username_claim, &username_prefix, &groups_claim, &groups_prefix]
                .iter()
                .any(|option| option.is_some())
            || ca_file.is_some()
            || jwks_file.is_some();
        return if stray { Err(args.missing("--oidc-issuer")) } else { Ok(None) };
    };
    if audiences.is_empty() {
        return Err(args.missing("--oidc-audience"));
    }
    let username_prefix =
        username_prefix.ok_or_else(|| args.missing("--oidc-username-prefix (- for none)"))?;
    let common = Common { audiences, ca_file, jwks_file, ..Common::default() };
    Ok(Some(Oidc {
        url,
        common,
        username_claim: username_claim.unwrap_or_else(|| "sub".to_owned()),
        groups_prefix: groups_prefix.unwrap_or_else(|| username_prefix.clone()),
        username_prefix,
        groups_claim,
        required: BTreeMap::new(),
        any_script: false,
    }))
}

pub(super) fn entra_options(args: &mut Args<'_>) -> Result<Option<Entra>, Error> {
    let tenant = args.value("--entra-tenant", |text| tenant(text).ok_or_else(not_a_tenant))?;
    let cloud = args.value("--entra-cloud", |text| one_of(text, &CLOUDS))?;
    let audiences = args.values("--entra-audience", |text| Ok(text.to_owned()))?;
    let Some(tenant) = tenant else {
        return if cloud.is_some() || !audiences.is_empty() {
            Err(args.missing("--entra-tenant"))
        } else {
            Ok(None)
        };
    };
    if audiences.is_empty() {
        return Err(args.missing("--entra-audience"));
    }
    Ok(Some(Entra {
        tenant,
        cloud: cloud.unwrap_or_default(),
        common: Common { audiences, ..Common::default() },
        clients: Vec::new(),
        username_is_oid: false,
        groups: Groups::Groups,
        ignore_overage: false,
        group_names: BTreeMap::new(),
        username_prefix: "-".to_owned(),
        groups_prefix: "-".to_owned(),
    }))
}

fn not_a_tenant() -> String {
    "a tenant is named by its id (a GUID); common and organizations are not taken".to_owned()
}

fn tenant(text: &str) -> Option<String> {
    let dashes = [8, 13, 18, 23];
    let good = text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match dashes.contains(&at) {
            true => byte == b'-',
            false => byte.is_ascii_hexdigit(),
        });
    good.then(|| text.to_ascii_lowercase())
}

/// An issuer is compared byte for byte, so it is kept as it was written.
fn issuer_url(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|why| why.to_string())?;
    if url.tls || url.is_loopback() { Ok(text.to_owned()) } else { Err(NOT_HTTPS.to_owned()) }
}

const NOT_HTTPS: &str = "must begin with https://";

#[cfg(test)]
mod tests;

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

mod options;
mod read;

use std::path::{Path, PathBuf};

use self::options::GraphOptions;
pub(super) use self::options::{entra_options, oidc_options};
use super::args::{Args, Parsed};
use super::errors::{Code, Error};
use crate::auth::pop::Possession;
use crate::auth::profile::{Cloud, Prefix};
use crate::auth::{IssuerSettings, Verifier, VerifierSettings};
use crate::io::files;
use crate::limits::AUTH_CONFIG_MAX;
use crate::wire::url::Url;

/// Whose tokens are taken.
#[derive(Clone, Debug, Default)]
pub struct AuthConfig {
    /// In the order of the file, those of the short options behind them.
    pub issuers: Vec<Issuer>,
}

/// One issuer, and the files that belong to it.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// The rules.
    pub settings: IssuerSettings,
    /// Keys from a file; nothing is fetched then.
    pub jwks_file: Option<PathBuf>,
    /// The roots to trust when fetching, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Groups that tokens leave out are asked for.
    pub graph: Option<GraphFiles>,
}

/// The files that asking Microsoft Graph takes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GraphFiles {
    /// The proxy's secret, or the token that it shows instead.
    pub proof: PathBuf,
    /// The roots to trust there, instead of the issuer's own.
    pub ca: Option<PathBuf>,
}

/// Where the keys of one issuer of a [`Verifier`] come from, as far as files are concerned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyFiles {
    /// The verifier's index of the issuer.
    pub index: usize,
    /// As in [`Issuer::jwks_file`].
    pub jwks_file: Option<PathBuf>,
    /// As in [`Issuer::ca_file`].
    pub ca_file: Option<PathBuf>,
}

const CLOUDS: [(&str, Cloud); 3] =
    [("public", Cloud::Public), ("usgov", Cloud::UsGovernment), ("china", Cloud::China)];

impl Issuer {
    /// Its audiences.
    #[must_use]
    pub fn audiences(&self) -> &[String] {
        match &self.settings {
            IssuerSettings::Oidc(oidc) => &oidc.audiences,
            IssuerSettings::Entra(entra) => &entra.audiences,
        }
    }

    /// It names files.
    #[must_use]
    pub const fn names_files(&self) -> bool {
        self.jwks_file.is_some() || self.ca_file.is_some() || self.graph.is_some()
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
        Self::parse(&bytes, directory).map_err(|why| invalid(&format!("{}: {why}", path.display())))
    }

    /// Reads the text of a file of issuers that lies in `directory`.
    ///
    /// # Errors
    ///
    /// A sentence with the place of what is wrong.
    pub fn parse(bytes: &[u8], directory: &Path) -> Parsed<Self> {
        read::issuers(bytes, directory).map(|issuers| Self { issuers })
    }

    /// Reads `--auth-config`, `--oidc-…` and `--entra-…`. The short options describe one issuer and
    /// add it to those of the file. Nobody is asked for groups.
    ///
    /// # Errors
    ///
    /// `USAGE`, `AUTH_CONFIG_INVALID`.
    pub fn from_args(args: &mut Args<'_>) -> Result<Self, Error> {
        let config = Self::read(args, None)?;
        match config.issuers.iter().any(|issuer| issuer.graph.is_some()) {
            true => {
                Err(invalid("overage \"graph\" is for the auth proxy: only it asks for groups"))
            }
            false => Ok(config),
        }
    }

    /// The same with `--groups-source` and `--graph-…`.
    ///
    /// # Errors
    ///
    /// `USAGE`, `AUTH_CONFIG_INVALID`.
    pub fn with_graph(args: &mut Args<'_>) -> Result<Self, Error> {
        let graph = GraphOptions::parse(args)?;
        Self::read(args, graph)
    }

    fn read(args: &mut Args<'_>, graph: Option<GraphOptions>) -> Result<Self, Error> {
        let mut config = match args.path("--auth-config")? {
            Some(path) => Self::load(&path)?,
            None => Self::default(),
        };
        config.issuers.extend(oidc_options(args)?);
        config.issuers.extend(entra_options(args, graph)?);
        config.verifier(Possession::Off, None)?;
        Ok(config)
    }

    /// A verifier for these issuers, without keys yet.
    ///
    /// # Errors
    ///
    /// `AUTH_CONFIG_INVALID` where one issuer's caller could pass for another's.
    pub fn verifier(
        &self,
        possession: Possession,
        service_account_issuer: Option<String>,
    ) -> Result<Verifier, Error> {
        let issuers = self.issuers.iter().map(|issuer| issuer.settings.clone()).collect();
        let settings = VerifierSettings { issuers, possession, service_account_issuer };
        Verifier::new(settings).map_err(|why| invalid(&why.to_string()))
    }

    /// The files for the issuers of [`Self::verifier`], in its own order.
    #[must_use]
    pub fn key_files(&self) -> Vec<KeyFiles> {
        let mut all = Vec::new();
        for issuer in &self.issuers {
            let forms = match issuer.settings {
                IssuerSettings::Oidc(_) => 1,
                // Tokens of v1 and of v2 have an issuer each.
                IssuerSettings::Entra(_) => 2,
            };
            for _ in 0..forms {
                let (jwks_file, ca_file) = (issuer.jwks_file.clone(), issuer.ca_file.clone());
                all.push(KeyFiles { index: all.len(), jwks_file, ca_file });
            }
        }
        all
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

fn invalid(what: &str) -> Error {
    Error::new(Code::AuthConfigInvalid, what).hint("cluster-connect explain AUTH_CONFIG_INVALID")
}

/// An issuer is compared byte for byte, so it is kept as it was written.
fn issuer_url(text: &str) -> Parsed<String> {
    match Url::parse(text) {
        Ok(url) if url.tls => Ok(text.to_owned()),
        Ok(_) => Err("must begin with https://".to_owned()),
        Err(why) => Err(why.to_string()),
    }
}

fn prefix(text: &str) -> Parsed<Prefix> {
    Prefix::parse(text).ok_or_else(|| "must not be empty; - is for no prefix".to_owned())
}

#[cfg(test)]
mod tests;

//! From the issuers of a configuration to a verifier with its keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::auth::names::Alphabet;
use crate::auth::pop::Possession;
use crate::auth::profile::{
    self, EntraGroups, EntraKeys, EntraTenant, EntraUser, OidcIssuer, Overage, Prefix,
};
use crate::auth::{IssuerSettings, KeySource, Verifier, VerifierSettings};
use crate::config::auth_config::{self, AuthConfig, Common, Issuer};
use crate::config::errors::{Code, Error};
use crate::io::roots;
use crate::role::keys::{Keys, Source};
use crate::wire::jws::Algorithm;
use crate::wire::url::Url;

/// What decides about tokens beside the issuers.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) possession: Possession,
    pub(super) service_account_issuer: Option<String>,
}

/// A verifier for `config`.
pub(super) fn keys(config: &AuthConfig, rules: Rules) -> Result<Keys, Error> {
    let issuers = config.issuers.iter().map(settings).collect::<Result<Vec<_>, _>>()?;
    let settings = VerifierSettings {
        issuers,
        possession: rules.possession,
        service_account_issuer: rules.service_account_issuer,
    };
    let verifier = Verifier::new(settings)
        .map_err(|why| Error::new(Code::AuthConfigInvalid, why.to_string()))?;
    let sources = sources(config, &verifier)?;
    Ok(Keys::new(verifier, sources))
}

/// Where the keys of each issuer of the verifier come from; an Entra ID tenant has two.
fn sources(config: &AuthConfig, verifier: &Verifier) -> Result<BTreeMap<usize, Source>, Error> {
    let mut sources = BTreeMap::new();
    let mut index = 0;
    for issuer in &config.issuers {
        let (common, forms) = match issuer {
            Issuer::Oidc(oidc) => (&oidc.common, 1),
            Issuer::Entra(entra) => (&entra.common, 2),
        };
        let roots = match &common.ca_file {
            Some(path) => Some(Arc::new(
                roots::load(Some(path))
                    .map_err(|why| Error::from_roots(why, Code::TlsFileInvalid))?,
            )),
            None => None,
        };
        for _ in 0..forms {
            sources.insert(index, Source { roots: roots.clone(), file: common.jwks_file.clone() });
            index += 1;
        }
    }
    assert_eq!(index, verifier.issuers().len(), "every issuer has its place");
    Ok(sources)
}

fn settings(issuer: &Issuer) -> Result<IssuerSettings, Error> {
    match issuer {
        Issuer::Oidc(oidc) => self::oidc(oidc).map(IssuerSettings::Oidc),
        Issuer::Entra(entra) => self::entra(entra).map(IssuerSettings::Entra),
    }
}

fn oidc(config: &auth_config::Oidc) -> Result<OidcIssuer, Error> {
    let common = &config.common;
    let user_prefix = prefix(&config.username_prefix)?;
    let mut issuer = OidcIssuer::new(&config.url, common.audiences.clone(), user_prefix);
    issuer.keys = match (&common.jwks_file, &common.discovery) {
        (Some(_), _) => KeySource::Installed,
        (None, Some(url)) => KeySource::Discovery { url: text(url), hosts: Vec::new() },
        (None, None) => KeySource::discover(&config.url),
    };
    issuer.user_claim.clone_from(&config.username_claim);
    issuer.groups_claim.clone_from(&config.groups_claim);
    if config.groups_claim.is_some() {
        issuer.group_prefix = prefix(&config.groups_prefix)?;
    }
    issuer.required = config
        .required
        .iter()
        .map(|(claim, requirement)| (claim.clone(), required(requirement)))
        .collect();
    if config.any_script {
        issuer.alphabet = Alphabet::Letters;
    }
    (issuer.leeway, issuer.lifetime) =
        (common.leeway.unwrap_or(issuer.leeway), common.max_lifetime.unwrap_or(issuer.lifetime));
    issuer.algorithms = algorithms(common, issuer.algorithms)?;
    Ok(issuer)
}

fn entra(config: &auth_config::Entra) -> Result<EntraTenant, Error> {
    let common = &config.common;
    let mut tenant = EntraTenant::new(&config.tenant, common.audiences.clone());
    tenant.cloud = match config.cloud {
        auth_config::Cloud::Public => profile::Cloud::Public,
        auth_config::Cloud::UsGovernment => profile::Cloud::UsGovernment,
        auth_config::Cloud::China => profile::Cloud::China,
    };
    tenant.keys = match (&common.jwks_file, &common.discovery) {
        (Some(_), _) => EntraKeys::Installed,
        (None, Some(url)) => EntraKeys::DiscoverAt(text(url)),
        (None, None) => EntraKeys::Discover,
    };
    tenant.clients.clone_from(&config.clients);
    if config.username_is_oid {
        tenant.user = EntraUser::Oid;
    }
    tenant.groups = match config.groups {
        auth_config::Groups::Groups => EntraGroups::Groups,
        auth_config::Groups::Roles => EntraGroups::Roles,
        auth_config::Groups::None => EntraGroups::None,
    };
    if config.ignore_overage {
        tenant.overage = Overage::Ignore;
    }
    tenant.group_names.clone_from(&config.group_names);
    tenant.user_prefix = prefix(&config.username_prefix)?;
    tenant.group_prefix = prefix(&config.groups_prefix)?;
    (tenant.leeway, tenant.lifetime) =
        (common.leeway.unwrap_or(tenant.leeway), common.max_lifetime.unwrap_or(tenant.lifetime));
    tenant.algorithms = algorithms(common, tenant.algorithms)?;
    Ok(tenant)
}

fn required(requirement: &auth_config::Requirement) -> profile::Requirement {
    match requirement {
        auth_config::Requirement::Equals(text) => profile::Requirement::Equals(text.clone()),
        auth_config::Requirement::In(texts) => profile::Requirement::In(texts.clone()),
        auth_config::Requirement::Exists => profile::Requirement::Exists,
    }
}

fn prefix(text: &str) -> Result<Prefix, Error> {
    Prefix::parse(text)
        .ok_or_else(|| Error::new(Code::AuthConfigInvalid, "a prefix is empty: - means none"))
}

fn algorithms(common: &Common, default: Vec<Algorithm>) -> Result<Vec<Algorithm>, Error> {
    if common.algorithms.is_empty() {
        return Ok(default);
    }
    let parse = |name: &String| {
        Algorithm::parse(name).ok_or_else(|| {
            Error::new(Code::AuthConfigInvalid, format!("no signature algorithm {name:?}"))
        })
    };
    common.algorithms.iter().map(parse).collect()
}

fn text(url: &Url) -> String {
    let scheme = if url.tls { "https" } else { "http" };
    format!("{scheme}://{}{}", url.authority(), url.path)
}

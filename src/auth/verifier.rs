//! The one way from a bearer token to a principal, for auth proxy and relay alike. The code is
//! shared; the configuration must not be, least of all the audiences.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Principal;
use super::denied::{Denied, Reason};
use super::jwks::{BadKeySet, Key, KeySet};
use super::overage::Graph;
use super::pop::{self, Asked, Possession};
use super::profile::{EntraForm, EntraTenant, OidcIssuer, Overage};
use super::settings::{IssuerSettings, KeySource, Misconfigured, VerifierSettings};
use super::token::{Terms, Token, Unverified};
use crate::limits::KEYS_STALE;

/// Issuers and their keys. Cheap to clone: what is large is shared.
#[derive(Clone, Debug)]
pub struct Verifier {
    issuers: Vec<Issuer>,
    by_name: BTreeMap<String, usize>,
    possession: Possession,
    service_accounts: Option<String>,
}

/// One `iss` and what belongs to it. A tenant of Entra ID is two of them.
#[derive(Clone, Debug)]
pub struct Issuer {
    name: String,
    profile: Profile,
    terms: Arc<Terms>,
    source: KeySource,
    keys: Option<Installed>,
}

#[derive(Clone, Debug)]
enum Profile {
    Entra(Arc<EntraTenant>, EntraForm),
    Oidc(Arc<OidcIssuer>),
}

#[derive(Clone, Debug)]
struct Installed {
    set: Arc<KeySet>,
    seen: u64,
}

/// Who decides about a token, by the `iss` that it names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Authenticator {
    /// The issuer of this index.
    Issuer(usize),
    /// The API server, by TokenReview: it is a service account's token.
    ServiceAccounts,
}

/// Microsoft Graph as it knows one tenant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GraphOf {
    /// The tenant, as [`Principal::issuer`] has it.
    pub issuer: String,
    /// Where the proxy asks for a token for itself.
    pub token_url: String,
    /// Whom to ask, and as whom.
    pub graph: Graph,
}

impl Verifier {
    /// A verifier without any keys yet.
    ///
    /// # Errors
    /// [`Misconfigured`] if two issuers could be taken for each other, or one could never work.
    pub fn new(settings: VerifierSettings) -> Result<Self, Misconfigured> {
        settings.check()?;
        let mut issuers = Vec::new();
        for entry in settings.issuers {
            match entry {
                IssuerSettings::Entra(tenant) => {
                    let tenant = Arc::new(tenant);
                    issuers.push(Issuer::entra(&tenant, EntraForm::V1));
                    issuers.push(Issuer::entra(&tenant, EntraForm::V2));
                }
                IssuerSettings::Oidc(oidc) => issuers.push(Issuer::oidc(oidc)),
            }
        }
        let names = issuers.iter().enumerate();
        let by_name = names.map(|(index, issuer)| (issuer.name.clone(), index)).collect();
        Ok(Self {
            issuers,
            by_name,
            possession: settings.possession,
            service_accounts: settings.service_account_issuer,
        })
    }

    /// Who decides about `credential`. There is exactly one, and no other is asked if it says no.
    ///
    /// # Errors
    /// [`Reason::Issuer`] if nobody does.
    pub fn pick(&self, credential: &Unverified) -> Result<Authenticator, Denied> {
        let name = credential.issuer();
        if self.service_accounts.as_deref() == Some(name) {
            return Ok(Authenticator::ServiceAccounts);
        }
        match self.by_name.get(name) {
            Some(&index) => Ok(Authenticator::Issuer(index)),
            None => Err(Denied::new(Reason::Issuer, format!("{name:?} is not configured"))),
        }
    }

    /// Says who holds the token `bearer` at `unix_now`.
    ///
    /// # Errors
    /// [`Denied`], with the first rule that the token breaks.
    pub fn verify(&self, bearer: &str, unix_now: u64) -> Result<Principal, Denied> {
        self.verify_read(&Unverified::parse(bearer)?, None, unix_now)
    }

    /// Says who holds `credential`. A proof of possession that is bound to a method or path is
    /// held against the request `asked`, and fails without one.
    ///
    /// # Errors
    /// [`Denied`], with the first rule that the token breaks. A service account's token is denied
    /// with [`Reason::Review`]: the API server decides about it.
    pub fn verify_read(
        &self,
        credential: &Unverified,
        asked: Option<&Asked<'_>>,
        unix_now: u64,
    ) -> Result<Principal, Denied> {
        let index = match self.pick(credential)? {
            Authenticator::Issuer(index) => index,
            Authenticator::ServiceAccounts => {
                return Err(Denied::new(Reason::Review, "a service account's token"));
            }
        };
        let proof = pop::admit(&self.possession, credential)?;
        let issuer = self.issuers.get(index);
        let issuer = issuer.ok_or_else(|| Denied::new(Reason::Issuer, "no such issuer"))?;
        let principal = issuer.verify(index, &credential.token, unix_now)?;
        if let Some(proof) = proof {
            proof.check(&credential.token.claims, asked, unix_now)?;
        }
        Ok(principal)
    }

    /// Replaces the keys of an issuer as a whole.
    ///
    /// # Errors
    /// [`BadKeySet`] if the document cannot be used. The keys in use stay.
    pub fn install_keys(
        &mut self,
        issuer: usize,
        jwks: &[u8],
        unix_now: u64,
    ) -> Result<Arc<KeySet>, BadKeySet> {
        let set = Arc::new(KeySet::parse(jwks)?);
        if let Some(issuer) = self.issuers.get_mut(issuer) {
            issuer.keys = Some(Installed { set: Arc::clone(&set), seen: unix_now });
        }
        Ok(set)
    }

    /// The issuer has confirmed that its keys are still the same.
    pub fn confirm_keys(&mut self, issuer: usize, unix_now: u64) {
        if let Some(keys) = self.issuers.get_mut(issuer).and_then(|issuer| issuer.keys.as_mut()) {
            keys.seen = unix_now;
        }
    }

    /// The names of groups that a token of `issuer` (see [`Principal::issuer`]) left out, by their
    /// object ids.
    ///
    /// # Errors
    /// [`Denied`] if a group cannot be carried to Kubernetes, there are too many of them, or the
    /// issuer is no tenant of Entra ID.
    pub fn group_names(&self, issuer: &str, ids: &[String]) -> Result<Vec<String>, Denied> {
        let issuer = self.by_name.get(issuer).and_then(|&at| self.issuers.get(at));
        let Some(Profile::Entra(tenant, _)) = issuer.map(|issuer| &issuer.profile) else {
            return Err(Denied::new(Reason::Overage, "the issuer has no groups to ask for"));
        };
        tenant.group_names_of(ids.iter().map(String::as_str))
    }

    /// Whom to ask for groups that tokens leave out: one entry for each tenant that is configured
    /// so, in their order.
    #[must_use]
    pub fn graphs(&self) -> Vec<GraphOf> {
        let tenants = self.issuers.iter().filter_map(|issuer| match &issuer.profile {
            Profile::Entra(tenant, EntraForm::V2) => Some(tenant),
            Profile::Entra(_, EntraForm::V1) | Profile::Oidc(_) => None,
        });
        let asking = tenants.filter_map(|tenant| match &tenant.overage {
            Overage::Ask(graph) => Some(GraphOf {
                issuer: tenant.issuer(EntraForm::V2),
                token_url: tenant.token_url(),
                graph: graph.clone(),
            }),
            Overage::Refuse | Overage::Ignore => None,
        });
        asking.collect()
    }

    /// The issuers. Their place is the index that other functions take.
    #[must_use]
    pub fn issuers(&self) -> &[Issuer] {
        &self.issuers
    }

    /// The issuer of that `iss`.
    #[must_use]
    pub fn issuer(&self, name: &str) -> Option<&Issuer> {
        self.by_name.get(name).and_then(|&index| self.issuers.get(index))
    }

    /// Every audience that some token may have. Relay and auth proxy must not share one.
    #[must_use]
    pub fn audiences(&self) -> BTreeSet<&str> {
        let audiences = self.issuers.iter().flat_map(|issuer| &issuer.terms.audiences);
        audiences.map(String::as_str).collect()
    }

    /// Whether every issuer has keys that may be used at `unix_now`.
    #[must_use]
    pub fn is_ready(&self, unix_now: u64) -> bool {
        self.issuers.iter().enumerate().all(|(at, issuer)| issuer.key_set(at, unix_now).is_ok())
    }
}

impl Issuer {
    fn entra(tenant: &Arc<EntraTenant>, form: EntraForm) -> Self {
        let source = match tenant.discovery(form) {
            Some(url) => KeySource::Discovery { url, hosts: Vec::new() },
            None => KeySource::Installed,
        };
        Self {
            name: tenant.issuer(form),
            terms: Arc::new(tenant.terms()),
            profile: Profile::Entra(Arc::clone(tenant), form),
            source,
            keys: None,
        }
    }

    fn oidc(oidc: OidcIssuer) -> Self {
        Self {
            name: oidc.issuer.clone(),
            terms: Arc::new(oidc.terms()),
            source: oidc.keys.clone(),
            profile: Profile::Oidc(Arc::new(oidc)),
            keys: None,
        }
    }

    /// The `iss` of its tokens.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its keys come from.
    #[must_use]
    pub const fn source(&self) -> &KeySource {
        &self.source
    }

    /// For how many seconds a token counts beyond its end.
    #[must_use]
    pub fn leeway(&self) -> u64 {
        self.terms.leeway
    }

    /// Its keys as they were seen last, however long ago.
    #[must_use]
    pub fn keys(&self) -> Option<&KeySet> {
        self.keys.as_ref().map(|keys| keys.set.as_ref())
    }

    /// When its keys were last seen at the issuer, in unix seconds.
    #[must_use]
    pub fn keys_seen(&self) -> Option<u64> {
        self.keys.as_ref().map(|keys| keys.seen)
    }

    /// The subject that stands for a user's name where the name tells it: an object id of Entra
    /// ID, or any name if the issuer's user names are its subjects. Other names must be looked up
    /// among principals that have been seen.
    #[must_use]
    pub fn subject_of(&self, user: &str) -> Option<String> {
        match &self.profile {
            Profile::Entra(tenant, _) => tenant.subject_of(user),
            Profile::Oidc(oidc) => oidc.subject_of(user),
        }
    }

    /// The tenant, for Entra ID: its subjects begin with that and a slash.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        match &self.profile {
            Profile::Entra(tenant, _) => Some(&tenant.tenant),
            Profile::Oidc(_) => None,
        }
    }

    /// The issuer as principals carry it: one name for all forms of an Entra ID tenant.
    #[must_use]
    pub fn canonical_name(&self) -> String {
        match &self.profile {
            Profile::Entra(tenant, _) => tenant.issuer(EntraForm::V2),
            Profile::Oidc(oidc) => oidc.issuer.clone(),
        }
    }

    fn verify(&self, index: usize, token: &Token, now: u64) -> Result<Principal, Denied> {
        let key = self.signer(index, token, now)?;
        let expires = self.terms.check_times(&token.claims, now)?;
        self.terms.check_audience(&token.claims)?;
        match &self.profile {
            Profile::Entra(tenant, form) => tenant.principal(*form, token, key, expires),
            Profile::Oidc(oidc) => oidc.principal(token, key, expires),
        }
    }

    /// The key that has signed the token.
    fn signer(&self, index: usize, token: &Token, now: u64) -> Result<&Key, Denied> {
        let jws = &token.jws;
        let algorithm = self.terms.algorithm(jws)?;
        let set = self.key_set(index, now)?;
        let id = jws.header.key_id.as_deref();
        let must_name = matches!(self.profile, Profile::Entra(..));
        let key = match (id, set.find(id)) {
            (None, _) if must_name => Err(Denied::new(Reason::Header, "\"kid\" is missing")),
            (None, None) => Err(Denied::new(Reason::Header, "\"kid\" is missing among many keys")),
            (Some(id), None) => Err(Denied::unknown_key(index, format!("no key {id:?}"))),
            (_, Some(key)) => Ok(key),
        }?;
        if !key.fits(algorithm) {
            let detail = format!("the key is not for {}", algorithm.as_str());
            return Err(Denied::new(Reason::KeyMismatch, detail));
        }
        if !key.verifies(algorithm, jws.signed.as_bytes(), &jws.signature) {
            return Err(Denied::new(Reason::Signature, "the signature does not verify"));
        }
        Ok(key)
    }

    fn key_set(&self, index: usize, now: u64) -> Result<&KeySet, Denied> {
        let Some(keys) = &self.keys else {
            let detail = format!("no keys of {:?} yet", self.name);
            return Err(Denied::no_keys(index, detail));
        };
        let ages = self.source != KeySource::Installed;
        if ages && KEYS_STALE < now.saturating_sub(keys.seen) {
            let detail = format!("keys of {:?} were last seen at {}", self.name, keys.seen);
            return Err(Denied::no_keys(index, detail));
        }
        Ok(&keys.set)
    }
}

#[cfg(test)]
#[path = "verifier_tests.rs"]
mod tests;

//! Entra ID: one tenant in one cloud, in the two forms that its tokens have.
//!
//! Several tenants are several entries; there is no multi-tenant form, because a templated issuer
//! is where most published bypasses of such validators lie. The public and the US Government
//! cloud share the issuer of v1 tokens, so the host of the keys follows from the configuration and
//! never from a token.

use std::collections::BTreeMap;

use super::super::jwks::Key;
use super::super::names;
use super::super::overage::Graph;
use super::super::token::{Terms, claim, claim_kind, texts};
use super::{
    Alphabet, Denied, GroupList, GroupState, Prefix, Principal, Reason, Token, credential_id,
    display, group_names, user_name,
};
use crate::limits::{CLOCK_LEEWAY, TOKEN_LIFETIME};
use crate::wire::json::Value;
use crate::wire::jws::Algorithm;

/// A tenant whose users and applications may call, and what becomes of their names.
#[derive(Clone, Debug)]
pub struct EntraTenant {
    /// The tenant's id, a GUID. Names, and `common` and its like, are not taken.
    pub tenant: String,
    /// Where the tenant lives.
    pub cloud: Cloud,
    /// Where its keys come from.
    pub keys: EntraKeys,
    /// The application whose own signing keys are used, where claims mapping gives it some.
    pub signing_app: Option<String>,
    /// Every form of the audience that a token may have: v1 tokens have the one the client asked
    /// with, a client id or an App ID URI with or without its slash.
    pub audiences: Vec<String>,
    /// Client applications that may call, by id. Empty: all.
    pub clients: Vec<String>,
    /// What the user name is.
    pub user: EntraUser,
    /// What the groups are.
    pub groups: EntraGroups,
    /// What to do with a token that leaves its groups out because there are too many.
    pub overage: Overage,
    /// Group object ids that get a name of their own.
    pub group_names: BTreeMap<String, String>,
    /// Groups without a name of their own are left out. RBAC has no rules that deny, so this only
    /// takes rights away, and it lets people in who are in more groups than a request can carry.
    pub only_named_groups: bool,
    /// What user names begin with.
    pub user_prefix: Prefix,
    /// What group names begin with; names from [`Self::group_names`] are used as they are.
    pub group_prefix: Prefix,
    /// Algorithms that its tokens may be signed with.
    pub algorithms: Vec<Algorithm>,
    /// Seconds by which clocks may differ.
    pub leeway: u64,
    /// Seconds that a token may live.
    pub lifetime: u64,
}

impl EntraTenant {
    /// A tenant with the defaults that Azure Arc has.
    #[must_use]
    pub fn new(tenant: &str, audiences: Vec<String>) -> Self {
        Self {
            tenant: tenant.to_ascii_lowercase(),
            cloud: Cloud::Public,
            keys: EntraKeys::Discover,
            signing_app: None,
            audiences,
            clients: Vec::new(),
            user: EntraUser::UpnElseOid,
            groups: EntraGroups::Groups,
            overage: Overage::Refuse,
            group_names: BTreeMap::new(),
            only_named_groups: false,
            user_prefix: Prefix::None,
            group_prefix: Prefix::None,
            algorithms: vec![Algorithm::Rs256],
            leeway: CLOCK_LEEWAY,
            lifetime: TOKEN_LIFETIME,
        }
    }

    pub(in super::super) fn terms(&self) -> Terms {
        Terms {
            audiences: self.audiences.clone(),
            algorithms: self.algorithms.clone(),
            leeway: self.leeway,
            lifetime: self.lifetime,
        }
    }

    /// The `iss` of tokens in `form`.
    pub(in super::super) fn issuer(&self, form: EntraForm) -> String {
        let tenant = &self.tenant;
        match form {
            EntraForm::V1 => format!("https://{}/{tenant}/", self.cloud.v1_host()),
            EntraForm::V2 => format!("https://{}/{tenant}/v2.0", self.cloud.v2_host()),
        }
    }

    /// Where tokens are asked for.
    fn authority(&self) -> String {
        match &self.keys {
            EntraKeys::DiscoverAt(authority) => authority.trim_end_matches('/').to_owned(),
            EntraKeys::Discover | EntraKeys::Installed => {
                format!("https://{}", self.cloud.v2_host())
            }
        }
    }

    /// Where an application asks for a token for itself.
    pub(in super::super) fn token_url(&self) -> String {
        format!("{}/{}/oauth2/v2.0/token", self.authority(), self.tenant)
    }

    /// Where the discovery document for tokens in `form` is, if it is asked for at all.
    pub(in super::super) fn discovery(&self, form: EntraForm) -> Option<String> {
        if self.keys == EntraKeys::Installed {
            return None;
        }
        let authority = self.authority();
        let version = match form {
            EntraForm::V1 => "",
            EntraForm::V2 => "/v2.0",
        };
        let tenant = &self.tenant;
        let query = self.signing_app.as_ref().map(|id| format!("?appid={id}"));
        let query = query.unwrap_or_default();
        Some(format!("{authority}/{tenant}{version}/.well-known/openid-configuration{query}"))
    }

    /// The subject that stands for `name`, where a name tells it without a look-up: an object id.
    pub(in super::super) fn subject_of(&self, name: &str) -> Option<String> {
        let oid = name.strip_prefix(self.user_prefix.as_str())?;
        is_guid(oid).then(|| self.subject(oid))
    }

    fn subject(&self, oid: &str) -> String {
        format!("{}/{}", self.tenant, oid.to_ascii_lowercase())
    }

    /// Checks the claims of a token in `form` that `key` has signed, and says who the caller is.
    pub(in super::super) fn principal(
        &self,
        form: EntraForm,
        token: &Token,
        key: &Key,
        expires: u64,
    ) -> Result<Principal, Denied> {
        check_header(token)?;
        self.check_tenant(form, token)?;
        self.check_key_issuer(form, key)?;
        self.check_client(token)?;
        let is_app = check_purpose(token)?;
        let claims = &token.claims;
        let oid = claims.text("oid").map_err(claim)?;
        if !is_guid(oid) {
            return Err(Denied::new(Reason::Claim, "claim \"oid\" is no GUID"));
        }
        let upn = claims.optional_text("upn").map_err(claim)?.filter(|_| !is_app);
        let raw = match self.user {
            EntraUser::UpnElseOid => upn.unwrap_or(oid),
            EntraUser::Oid => oid,
        };
        let user = user_name(raw, &self.user_prefix, Alphabet::Ascii)?;
        let (groups, group_state) = self.groups(token)?;
        let shown = upn.or_else(|| claims.get("preferred_username")?.as_text());
        Ok(Principal {
            display: display(shown, &user),
            user,
            groups,
            group_state,
            extra: vec![("oid".to_owned(), oid.to_owned())],
            issuer: self.issuer(EntraForm::V2),
            subject: self.subject(oid),
            credential_id: credential_id(token, ["uti", "jti"])?,
            expires,
            is_app,
        })
    }

    fn check_tenant(&self, form: EntraForm, token: &Token) -> Result<(), Denied> {
        let tid = token.claims.text("tid").map_err(claim)?;
        if tid != self.tenant {
            return Err(Denied::new(Reason::Tenant, format!("\"tid\" is {tid:?}")));
        }
        let version = token.claims.text("ver").map_err(claim)?;
        let expected = match form {
            EntraForm::V1 => "1.0",
            EntraForm::V2 => "2.0",
        };
        if version != expected {
            return Err(Denied::new(Reason::Tenant, format!("\"ver\" is {version:?}")));
        }
        Ok(())
    }

    /// Keys of the shared documents say whose tokens they sign. Not to ask was the flaw behind
    /// Storm-0558: a key for consumer accounts signed tokens of organisations.
    fn check_key_issuer(&self, form: EntraForm, key: &Key) -> Result<(), Denied> {
        if let Some(template) = &key.issuer {
            let issuer = template.replace("{tenantid}", &self.tenant);
            if issuer != self.issuer(EntraForm::V2) && issuer != self.issuer(form) {
                let detail = format!("the key is for issuer {template:?}");
                return Err(Denied::new(Reason::KeyMismatch, detail));
            }
        }
        match &key.cloud {
            Some(cloud) if cloud != self.cloud.instance() => {
                Err(Denied::new(Reason::KeyMismatch, format!("the key is for cloud {cloud:?}")))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn check_client(&self, token: &Token) -> Result<(), Denied> {
        let mut named = false;
        for name in ["appid", "azp"] {
            let Some(client) = token.claims.optional_text(name).map_err(claim)? else { continue };
            if !self.clients.is_empty() && !self.clients.iter().any(|own| own == client) {
                return Err(Denied::new(Reason::Client, format!("{name:?} is {client:?}")));
            }
            named = true;
        }
        match named {
            true => Ok(()),
            false => Err(Denied::new(Reason::Client, "neither \"appid\" nor \"azp\" is there")),
        }
    }

    fn groups(&self, token: &Token) -> Result<(Vec<String>, GroupState), Denied> {
        let name = match self.groups {
            EntraGroups::Groups => "groups",
            EntraGroups::Roles => "roles",
            EntraGroups::None => return Ok((Vec::new(), GroupState::Complete)),
        };
        if self.groups == EntraGroups::Groups && is_overage(token)? {
            return match &self.overage {
                Overage::Refuse => {
                    Err(Denied::new(Reason::Overage, "the token leaves its groups out"))
                }
                Overage::Ignore => Ok((Vec::new(), GroupState::Ignored)),
                Overage::Ask(_) => Ok((Vec::new(), GroupState::Unresolved)),
            };
        }
        let raw = match token.claims.get(name) {
            None => return Ok((Vec::new(), GroupState::Complete)),
            Some(Value::Array(items)) => texts(name, items)?,
            Some(other) => return Err(claim_kind(name, other)),
        };
        let groups = match self.groups {
            EntraGroups::Roles => group_names(raw, &self.group_prefix, Alphabet::Ascii)?,
            EntraGroups::Groups | EntraGroups::None => self.group_names_of(raw)?,
        };
        Ok((groups, GroupState::Complete))
    }

    /// Names of groups by their object ids. Anything else is refused: a display name is whatever
    /// somebody called a group.
    pub(in super::super) fn group_names_of<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<String>, Denied> {
        let mut groups = GroupList::default();
        for id in ids {
            let plain = super::checked_name("group", id, &self.group_prefix, Alphabet::Ascii)?;
            if !is_guid(id) {
                let shown: String = id.chars().take(64).collect();
                let detail = format!("group {shown:?} is no object id");
                return Err(Denied::new(Reason::Name, detail));
            }
            match self.group_names.get(id) {
                Some(name) => groups.push(name.clone())?,
                None if self.only_named_groups => {}
                None => groups.push(plain)?,
            }
        }
        Ok(groups.names)
    }
}

/// Access tokens of Entra ID have a key name, bring no key, and are not for Microsoft Graph.
fn check_header(token: &Token) -> Result<(), Denied> {
    let header = &token.jws.header;
    if header.brings_key {
        return Err(Denied::new(Reason::Header, "the header brings a key of its own"));
    }
    if header.has_nonce {
        return Err(Denied::new(Reason::Header, "the token is for Microsoft Graph"));
    }
    Ok(())
}

/// Refuses ID tokens, devices and actor tokens. Says whether the caller is an application.
fn check_purpose(token: &Token) -> Result<bool, Denied> {
    for name in ["nonce", "at_hash", "c_hash"] {
        if token.claims.has(name) {
            return Err(Denied::new(Reason::Purpose, format!("{name:?} marks an ID token")));
        }
    }
    for name in ["act", "actort"] {
        if token.claims.has(name) {
            return Err(Denied::new(Reason::Purpose, format!("{name:?} marks an actor token")));
        }
    }
    match token.claims.optional_text("idtyp").map_err(claim)? {
        None | Some("user") => Ok(false),
        Some("app") => Ok(true),
        Some(other) => Err(Denied::new(Reason::Purpose, format!("\"idtyp\" is {other:?}"))),
    }
}

/// Whether the token says that it leaves groups out. The place where it says one could ask is
/// never contacted: it is a URL from a token.
fn is_overage(token: &Token) -> Result<bool, Denied> {
    let claims = &token.claims;
    let distributed = claims.optional_object("_claim_names").map_err(claim)?;
    let implicit = claims.optional_bool("hasgroups").map_err(claim)?;
    let pointer = matches!(claims.get("groups"), Some(Value::Text(_)));
    Ok(pointer || implicit == Some(true) || distributed.is_some_and(|names| names.has("groups")))
}

/// Whether `text` is a GUID: 32 hexadecimal digits in groups of 8, 4, 4, 4 and 12.
pub(in super::super) fn is_guid(text: &str) -> bool {
    let mut groups = text.split('-');
    let shaped = [8, 4, 4, 4, 12].into_iter().all(|len| {
        groups.next().is_some_and(|group| {
            group.len() == len && group.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    });
    shaped && groups.next().is_none()
}

/// Whether a group's own name may stand in [`EntraTenant::group_names`].
pub(in super::super) fn check_group_name(id: &str, name: &str) -> bool {
    is_guid(id) && names::check(name, Alphabet::Ascii).is_ok()
}

/// Which of the two forms a token has. The application that it is for chooses, not the caller.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in super::super) enum EntraForm {
    /// `https://sts.windows.net/{tenant}/`
    V1,
    /// `https://login.microsoftonline.com/{tenant}/v2.0`
    V2,
}

/// A cloud of Microsoft's.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Cloud {
    /// The public one.
    #[default]
    Public,
    /// Azure US Government.
    UsGovernment,
    /// Azure operated by 21Vianet.
    China,
}

impl Cloud {
    const fn v1_host(self) -> &'static str {
        match self {
            Self::Public | Self::UsGovernment => "sts.windows.net",
            Self::China => "sts.chinacloudapi.cn",
        }
    }

    const fn v2_host(self) -> &'static str {
        match self {
            Self::Public => "login.microsoftonline.com",
            Self::UsGovernment => "login.microsoftonline.us",
            Self::China => "login.partner.microsoftonline.cn",
        }
    }

    /// Microsoft Graph.
    #[must_use]
    pub const fn graph(self) -> &'static str {
        match self {
            Self::Public => "https://graph.microsoft.com",
            Self::UsGovernment => "https://graph.microsoft.us",
            Self::China => "https://microsoftgraph.chinacloudapi.cn",
        }
    }

    /// `cloud_instance_name` of keys and discovery documents.
    const fn instance(self) -> &'static str {
        match self {
            Self::Public => "microsoftonline.com",
            Self::UsGovernment => "microsoftonline.us",
            Self::China => "partner.microsoftonline.cn",
        }
    }
}

/// Where a tenant's keys come from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum EntraKeys {
    /// From the cloud's own host.
    #[default]
    Discover,
    /// From another authority that serves the same documents: `https://host[:port]`.
    DiscoverAt(String),
    /// From a file: nothing is fetched, and the keys do not age.
    Installed,
}

/// What the user name is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum EntraUser {
    /// `upn` for users, the object id for applications and for guests without a UPN: what Azure
    /// Arc does. UPNs can be given to somebody else.
    #[default]
    UpnElseOid,
    /// The object id for all.
    Oid,
}

/// What the groups are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum EntraGroups {
    /// The object ids in `groups`.
    #[default]
    Groups,
    /// The app roles in `roles`: the official way round the limit of 200 groups.
    Roles,
    /// There are none.
    None,
}

/// What to do with a token that leaves its groups out because there are too many.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Overage {
    /// Refuse it, and say how to get round it.
    #[default]
    Refuse,
    /// Go on without groups. RBAC has no rules that deny, so this only takes rights away.
    Ignore,
    /// Ask Microsoft Graph: the principal is not complete until its groups are.
    Ask(Graph),
}

#[cfg(test)]
#[path = "entra_tests.rs"]
mod tests;

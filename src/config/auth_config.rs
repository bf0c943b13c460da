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

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::args::Args;
use super::errors::{Code, Error};
use super::values::one_of;
use crate::io::files;
use crate::limits::{AUTH_CONFIG_DEPTH, AUTH_CONFIG_MAX};
use crate::wire::json::{self, Object, Value};
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

const GROUPS: [(&str, Groups); 3] =
    [("groups", Groups::Groups), ("roles", Groups::Roles), ("none", Groups::None)];

const ALGORITHMS: [&str; 8] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384"];

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
        let top = json::parse_object(bytes, AUTH_CONFIG_DEPTH).map_err(|why| why.to_string())?;
        let top = Reader { object: &top, place: String::new(), directory };
        top.only(&["issuers"])?;
        let list = top.object.optional_array("issuers").map_err(|why| why.to_string())?;
        let list = list.filter(|list| !list.is_empty()).ok_or("\"issuers\" is missing or empty")?;
        let issuers = list.iter().enumerate().map(|(at, value)| {
            let place = format!("issuers[{at}]");
            let object = value.as_object().ok_or_else(|| format!("{place} must be an object"))?;
            Reader { object, place, directory }.issuer()
        });
        Ok(Self { issuers: issuers.collect::<Result<_, String>>()? })
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

fn oidc_options(args: &mut Args<'_>) -> Result<Option<Oidc>, Error> {
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

fn entra_options(args: &mut Args<'_>) -> Result<Option<Entra>, Error> {
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

/// An object of the file, with its place for errors.
struct Reader<'a> {
    object: &'a Object,
    place: String,
    directory: &'a Path,
}

impl<'a> Reader<'a> {
    fn issuer(&self) -> Result<Issuer, String> {
        match self.text("type")?.as_deref() {
            Some("oidc") => self.oidc().map(Issuer::Oidc),
            Some("entra") => self.entra().map(Issuer::Entra),
            Some(_) | None => Err(self.says("type", "must be \"oidc\" or \"entra\"")),
        }
    }

    fn oidc(&self) -> Result<Oidc, String> {
        let keys = ["type", "issuer", "claimMappings", "requiredClaims", "allowAnyScript"];
        self.only(&[&keys[..], &RULES].concat())?;
        let issuer = self.child("issuer")?.ok_or_else(|| self.says("issuer", "is missing"))?;
        issuer.only(&[
            "url",
            "discoveryURL",
            "audiences",
            "certificateAuthorityFile",
            "jwksFile",
        ])?;
        let url = issuer.text("url")?.ok_or_else(|| issuer.says("url", "is missing"))?;
        let url = issuer_url(&url).map_err(|why| issuer.says("url", &why))?;
        let mappings = self.child("claimMappings")?;
        let mapping = |name: &str| match &mappings {
            Some(mappings) => mappings.mapping(name),
            None => Ok(None),
        };
        if let Some(mappings) = &mappings {
            mappings.only(&["username", "groups"])?;
        }
        let (username_claim, username_prefix) = mapping("username")?.ok_or_else(|| {
            self.says("claimMappings.username", "is missing (claim and prefix, \"-\" for none)")
        })?;
        let (groups_claim, groups_prefix) = match mapping("groups")? {
            Some((claim, prefix)) => (Some(claim), prefix),
            None => (None, username_prefix.clone()),
        };
        Ok(Oidc {
            url,
            common: self.common(&issuer, "discoveryURL")?,
            username_claim,
            username_prefix,
            groups_claim,
            groups_prefix,
            required: self.required()?,
            any_script: self.flag("allowAnyScript")?,
        })
    }

    fn entra(&self) -> Result<Entra, String> {
        self.only(&[&["type", "entra"][..], &RULES].concat())?;
        let entra = self.child("entra")?.ok_or_else(|| self.says("entra", "is missing"))?;
        entra.only(&ENTRA)?;
        let id = entra.text("tenant")?.ok_or_else(|| entra.says("tenant", "is missing"))?;
        let prefix =
            |key: &str| Ok::<_, String>(entra.text(key)?.unwrap_or_else(|| "-".to_owned()));
        let username_is_oid =
            entra.word("username", &[("upn", false), ("oid", true)])?.unwrap_or_default();
        let ignore_overage =
            entra.word("overage", &[("refuse", false), ("ignore", true)])?.unwrap_or_default();
        Ok(Entra {
            tenant: tenant(&id).ok_or_else(|| entra.says("tenant", &not_a_tenant()))?,
            cloud: entra.word("cloud", &CLOUDS)?.unwrap_or_default(),
            common: self.common(&entra, "authority")?,
            clients: entra.texts("clients")?,
            username_is_oid,
            groups: entra.word("groups", &GROUPS)?.unwrap_or_default(),
            ignore_overage,
            group_names: entra.group_names()?,
            username_prefix: prefix("usernamePrefix")?,
            groups_prefix: prefix("groupsPrefix")?,
        })
    }

    /// What every kind has: of the issuer's own object, and of the entry around it.
    fn common(&self, issuer: &Self, discovery: &str) -> Result<Common, String> {
        let audiences = issuer.texts("audiences")?;
        if audiences.is_empty() {
            return Err(issuer.says("audiences", "is missing or empty"));
        }
        let discovery = match issuer.text(discovery)? {
            None => None,
            Some(text) => {
                issuer_url(&text).map_err(|why| issuer.says(discovery, &why))?;
                Some(Url::parse(&text).map_err(|why| issuer.says(discovery, &why.to_string()))?)
            }
        };
        let algorithms = self.texts("algorithms")?;
        if let Some(unknown) = algorithms.iter().find(|name| !ALGORITHMS.contains(&name.as_str())) {
            return Err(self.says("algorithms", &format!("has {unknown:?}, which is not known")));
        }
        let leeway = self.number("leewaySeconds")?;
        if leeway.is_some_and(|leeway| 300 < leeway) {
            return Err(self.says("leewaySeconds", "must be at most 300"));
        }
        let max_lifetime = self.number("maxLifetimeSeconds")?;
        if max_lifetime == Some(0) {
            return Err(self.says("maxLifetimeSeconds", "must be more than 0"));
        }
        let file =
            |key: &str| Ok::<_, String>(issuer.text(key)?.map(|path| self.directory.join(path)));
        let ca_file = file("certificateAuthorityFile")?;
        let jwks_file = file("jwksFile")?;
        Ok(Common { audiences, discovery, ca_file, jwks_file, algorithms, leeway, max_lifetime })
    }

    fn mapping(&self, name: &str) -> Result<Option<(String, String)>, String> {
        let Some(mapping) = self.child(name)? else { return Ok(None) };
        mapping.only(&["claim", "prefix"])?;
        let claim = mapping.text("claim")?.ok_or_else(|| mapping.says("claim", "is missing"))?;
        let prefix = mapping.text("prefix")?;
        let prefix = prefix.ok_or_else(|| mapping.says("prefix", "is missing (\"-\" for none)"))?;
        Ok(Some((claim, prefix)))
    }

    fn required(&self) -> Result<BTreeMap<String, Requirement>, String> {
        let Some(claims) = self.child("requiredClaims")? else { return Ok(BTreeMap::new()) };
        let rules = claims.object.iter().map(|(claim, value)| {
            let rule = match value {
                Value::Text(text) => Requirement::Equals(text.clone()),
                Value::Bool(true) => Requirement::Exists,
                Value::Array(_) => Requirement::In(claims.texts(claim)?),
                _ => return Err(claims.says(claim, "must be text, a list of texts, or true")),
            };
            Ok((claim.to_owned(), rule))
        });
        rules.collect()
    }

    fn group_names(&self) -> Result<BTreeMap<String, String>, String> {
        let Some(names) = self.child("groupNames")? else { return Ok(BTreeMap::new()) };
        let pairs = names.object.iter().map(|(id, name)| {
            let id_ok = tenant(id).ok_or_else(|| names.says(id, "is no object id (a GUID)"))?;
            let name = name.as_text().filter(|name| !name.is_empty());
            let name = name.ok_or_else(|| names.says(id, "must be a name"))?;
            if name.to_ascii_lowercase().starts_with("system:") {
                return Err(names.says(id, "must not be a name that begins with system:"));
            }
            Ok((id_ok, name.to_owned()))
        });
        pairs.collect()
    }

    fn only(&self, keys: &[&str]) -> Result<(), String> {
        match self.object.iter().find(|(key, _)| !keys.contains(key)) {
            Some((key, _)) => Err(self.says(key, "is not a key that is known here")),
            None => Ok(()),
        }
    }

    fn says(&self, key: &str, what: &str) -> String {
        let dot = if self.place.is_empty() { "" } else { "." };
        format!("{}{dot}{key} {what}", self.place)
    }

    fn child(&self, key: &str) -> Result<Option<Self>, String> {
        let object =
            self.object.optional_object(key).map_err(|_| self.says(key, "must be an object"))?;
        let place = self.says(key, "").trim_end().to_owned();
        Ok(object.map(|object| Self { object, place, directory: self.directory }))
    }

    fn text(&self, key: &str) -> Result<Option<String>, String> {
        match self.object.optional_text(key) {
            Ok(Some("")) => Err(self.says(key, "is empty")),
            Ok(text) => Ok(text.map(str::to_owned)),
            Err(_) => Err(self.says(key, "must be text")),
        }
    }

    fn texts(&self, key: &str) -> Result<Vec<String>, String> {
        let wrong = || self.says(key, "must be a list of texts");
        let items = self.object.optional_array(key).map_err(|_| wrong())?.unwrap_or_default();
        let texts = items.iter().map(|item| match item.as_text() {
            Some("") | None => Err(wrong()),
            Some(text) => Ok(text.to_owned()),
        });
        texts.collect()
    }

    fn number(&self, key: &str) -> Result<Option<u64>, String> {
        let number = self.object.optional_unsigned(key);
        number.map_err(|_| self.says(key, "must be a whole number of seconds"))
    }

    fn flag(&self, key: &str) -> Result<bool, String> {
        let flag = self.object.optional_bool(key);
        Ok(flag.map_err(|_| self.says(key, "must be true or false"))?.unwrap_or_default())
    }

    fn word<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Result<Option<T>, String> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        one_of(&text, words).map(Some).map_err(|why| self.says(key, &format!("is {why}")))
    }
}

/// Keys of an entry that are the same for every type.
const RULES: [&str; 3] = ["algorithms", "leewaySeconds", "maxLifetimeSeconds"];

/// Keys of `entra`.
const ENTRA: [&str; 13] = [
    "tenant",
    "cloud",
    "authority",
    "audiences",
    "certificateAuthorityFile",
    "jwksFile",
    "clients",
    "username",
    "groups",
    "overage",
    "groupNames",
    "usernamePrefix",
    "groupsPrefix",
];

#[cfg(test)]
#[path = "auth_config_tests.rs"]
mod tests;

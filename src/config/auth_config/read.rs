//! The file of issuers, from JSON to values. Every object is read through the list of its keys.

use std::collections::BTreeMap;
use std::path::Path;

use super::{
    CLOUDS, Common, Entra, Groups, Issuer, Oidc, Requirement, issuer_url, not_a_tenant, tenant,
};
use crate::config::values::one_of;
use crate::limits::AUTH_CONFIG_DEPTH;
use crate::wire::json::{self, Object, Value};
use crate::wire::url::Url;

/// Reads the text of a file that lies in `directory`.
pub(super) fn issuers(bytes: &[u8], directory: &Path) -> Result<Vec<Issuer>, String> {
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
    issuers.collect()
}

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

const GROUPS: [(&str, Groups); 3] =
    [("groups", Groups::Groups), ("roles", Groups::Roles), ("none", Groups::None)];

const ALGORITHMS: [&str; 8] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384"];

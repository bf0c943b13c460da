//! The file of issuers, from JSON to values. Every object is read through the list of its keys.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{CLOUDS, GraphFiles, Issuer, issuer_url, prefix};
use crate::auth::names::Alphabet;
use crate::auth::overage::{ClientProof, Graph};
use crate::auth::profile::{
    Cloud, EntraGroups, EntraKeys, EntraTenant, EntraUser, OidcIssuer, Overage, Prefix, Requirement,
};
use crate::auth::{IssuerSettings, KeySource};
use crate::config::values::one_of;
use crate::limits::AUTH_CONFIG_DEPTH;
use crate::wire::json::{self, Object, Value};
use crate::wire::jws::Algorithm;

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
            Some("oidc") => self.oidc(),
            Some("entra") => self.entra(),
            Some(_) | None => Err(self.says("type", "must be \"oidc\" or \"entra\"")),
        }
    }

    fn oidc(&self) -> Result<Issuer, String> {
        let keys = ["type", "issuer", "claimMappings", "requiredClaims", "allowAnyScript"];
        self.only(&[&keys[..], &RULES].concat())?;
        let issuer = self.child("issuer")?.ok_or_else(|| self.says("issuer", "is missing"))?;
        issuer.only(&ISSUER)?;
        let mappings =
            self.child("claimMappings")?.ok_or_else(|| self.says("claimMappings", "is missing"))?;
        mappings.only(&["username", "groups"])?;
        let (user_claim, user_prefix) = mappings.mapping("username")?.ok_or_else(|| {
            mappings.says("username", "is missing (claim and prefix, \"-\" for none)")
        })?;
        let url = issuer.url("url")?.ok_or_else(|| issuer.says("url", "is missing"))?;
        let mut oidc = OidcIssuer::new(&url, issuer.audiences()?, user_prefix.clone());
        oidc.user_claim = user_claim;
        oidc.group_prefix = user_prefix;
        if let Some((claim, prefix)) = mappings.mapping("groups")? {
            (oidc.groups_claim, oidc.group_prefix) = (Some(claim), prefix);
        }
        oidc.required = self.required()?;
        if self.flag("allowAnyScript")? {
            oidc.alphabet = Alphabet::Letters;
        }
        self.rules(&mut oidc.algorithms, &mut oidc.leeway, &mut oidc.lifetime)?;
        oidc.keys = issuer.key_source(&oidc.issuer)?;
        issuer.with_files(IssuerSettings::Oidc(oidc))
    }

    fn entra(&self) -> Result<Issuer, String> {
        self.only(&[&["type", "entra"][..], &RULES].concat())?;
        let entra = self.child("entra")?.ok_or_else(|| self.says("entra", "is missing"))?;
        entra.only(&ENTRA)?;
        let id = entra.text("tenant")?.ok_or_else(|| entra.says("tenant", "is missing"))?;
        let mut tenant = EntraTenant::new(&id, entra.audiences()?);
        tenant.cloud = entra.word("cloud", &CLOUDS)?.unwrap_or_default();
        tenant.signing_app = entra.text("signingApp")?;
        tenant.clients = entra.texts("clients")?;
        let users = [("upn", EntraUser::UpnElseOid), ("oid", EntraUser::Oid)];
        tenant.user = entra.word("username", &users)?.unwrap_or_default();
        tenant.groups = entra.word("groups", &GROUPS)?.unwrap_or_default();
        let graph = entra.graph(tenant.cloud)?;
        let overages = [("refuse", 0), ("ignore", 1), ("graph", 2)];
        let graph_files = match (entra.word("overage", &overages)?.unwrap_or_default(), graph) {
            (0, None) => None,
            (1, None) => {
                tenant.overage = Overage::Ignore;
                None
            }
            (2, Some((graph, files))) => {
                tenant.overage = Overage::Ask(graph);
                Some(files)
            }
            (2, None) => return Err(entra.says("graph", "is missing")),
            (_, _) => return Err(entra.says("graph", "is of use with overage \"graph\" alone")),
        };
        tenant.group_names = entra.group_names()?;
        tenant.only_named_groups = entra.flag("onlyNamedGroups")?;
        tenant.user_prefix = entra.prefix("usernamePrefix")?.unwrap_or_default();
        tenant.group_prefix = entra.prefix("groupsPrefix")?.unwrap_or_default();
        self.rules(&mut tenant.algorithms, &mut tenant.leeway, &mut tenant.lifetime)?;
        tenant.keys = match (entra.text("jwksFile")?, entra.url("authority")?) {
            (Some(_), None) => EntraKeys::Installed,
            (None, Some(authority)) => EntraKeys::DiscoverAt(authority),
            (None, None) => EntraKeys::Discover,
            (Some(_), Some(_)) => return Err(entra.says("jwksFile", "leaves authority no use")),
        };
        let issuer = entra.with_files(IssuerSettings::Entra(tenant))?;
        Ok(Issuer { graph: graph_files, ..issuer })
    }

    fn graph(&self, cloud: Cloud) -> Result<Option<(Graph, GraphFiles)>, String> {
        let Some(graph) = self.child("graph")? else { return Ok(None) };
        graph.only(&[
            "client",
            "secretFile",
            "assertionFile",
            "url",
            "certificateAuthorityFile",
        ])?;
        let client = graph.text("client")?.ok_or_else(|| graph.says("client", "is missing"))?;
        let address = graph.url("url")?.unwrap_or_else(|| cloud.graph().to_owned());
        let (proof, kind) = match (graph.file("secretFile")?, graph.file("assertionFile")?) {
            (Some(path), None) => (path, ClientProof::Secret),
            (None, Some(path)) => (path, ClientProof::Assertion),
            (None, None) | (Some(_), Some(_)) => {
                return Err(graph.says("secretFile", "or assertionFile: exactly one must be there"));
            }
        };
        let files = GraphFiles { proof, ca: graph.file("certificateAuthorityFile")? };
        Ok(Some((Graph { address, client, proof: kind }, files)))
    }

    fn audiences(&self) -> Result<Vec<String>, String> {
        let audiences = self.texts("audiences")?;
        if audiences.is_empty() {
            Err(self.says("audiences", "is missing or empty"))
        } else {
            Ok(audiences)
        }
    }

    fn key_source(&self, issuer: &str) -> Result<KeySource, String> {
        let hosts = self.texts("keysHosts")?;
        match (self.text("jwksFile")?, self.url("jwksURL")?, self.url("discoveryURL")?) {
            (Some(_), None, None) if hosts.is_empty() => Ok(KeySource::Installed),
            (None, Some(url), None) if hosts.is_empty() => Ok(KeySource::Url(url)),
            (None, None, Some(url)) => Ok(KeySource::Discovery { url, hosts }),
            (None, None, None) => Ok(match KeySource::discover(issuer) {
                KeySource::Discovery { url, .. } => KeySource::Discovery { url, hosts },
                other @ (KeySource::Url(_) | KeySource::Installed) => other,
            }),
            _ => Err(self.says("jwksFile", "jwksURL and discoveryURL exclude each other")),
        }
    }

    fn with_files(&self, settings: IssuerSettings) -> Result<Issuer, String> {
        let ca_file = self.file("certificateAuthorityFile")?;
        Ok(Issuer { settings, jwks_file: self.file("jwksFile")?, ca_file, graph: None })
    }

    fn file(&self, key: &str) -> Result<Option<PathBuf>, String> {
        Ok(self.text(key)?.map(|path| self.directory.join(path)))
    }

    /// The rules that every kind has.
    fn rules(
        &self,
        algorithms: &mut Vec<Algorithm>,
        leeway: &mut u64,
        lifetime: &mut u64,
    ) -> Result<(), String> {
        let names = self.texts("algorithms")?;
        if !names.is_empty() {
            let known = names.iter().map(|name| {
                let unknown =
                    || self.says("algorithms", &format!("has {name:?}, which is not known"));
                Algorithm::parse(name).ok_or_else(unknown)
            });
            *algorithms = known.collect::<Result<_, _>>()?;
        }
        *leeway = self.number("leewaySeconds")?.unwrap_or(*leeway);
        *lifetime = self.number("maxLifetimeSeconds")?.unwrap_or(*lifetime);
        if *lifetime == 0 {
            return Err(self.says("maxLifetimeSeconds", "must be more than 0"));
        }
        Ok(())
    }

    fn mapping(&self, name: &str) -> Result<Option<(String, Prefix)>, String> {
        let Some(mapping) = self.child(name)? else { return Ok(None) };
        mapping.only(&["claim", "prefix"])?;
        let claim = mapping.text("claim")?.ok_or_else(|| mapping.says("claim", "is missing"))?;
        let prefix = mapping.prefix("prefix")?;
        let prefix = prefix.ok_or_else(|| mapping.says("prefix", "is missing (\"-\" for none)"))?;
        Ok(Some((claim, prefix)))
    }

    fn prefix(&self, key: &str) -> Result<Option<Prefix>, String> {
        let text = self.text(key)?;
        text.map(|text| prefix(&text).map_err(|why| self.says(key, &why))).transpose()
    }

    fn url(&self, key: &str) -> Result<Option<String>, String> {
        let text = self.text(key)?;
        text.map(|text| issuer_url(&text).map_err(|why| self.says(key, &why))).transpose()
    }

    fn required(&self) -> Result<Vec<(String, Requirement)>, String> {
        let Some(claims) = self.child("requiredClaims")? else { return Ok(Vec::new()) };
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
        let pairs = names.object.iter().map(|(id, name)| match name.as_text() {
            Some(name) => Ok((id.to_ascii_lowercase(), name.to_owned())),
            None => Err(names.says(id, "must be a name")),
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

/// Keys of `issuer`.
const ISSUER: [&str; 7] = [
    "url",
    "audiences",
    "discoveryURL",
    "keysHosts",
    "jwksURL",
    "jwksFile",
    "certificateAuthorityFile",
];

/// Keys of `entra`.
const ENTRA: [&str; 16] = [
    "tenant",
    "cloud",
    "authority",
    "audiences",
    "certificateAuthorityFile",
    "jwksFile",
    "signingApp",
    "clients",
    "username",
    "groups",
    "overage",
    "graph",
    "groupNames",
    "onlyNamedGroups",
    "usernamePrefix",
    "groupsPrefix",
];

const GROUPS: [(&str, EntraGroups); 3] =
    [("groups", EntraGroups::Groups), ("roles", EntraGroups::Roles), ("none", EntraGroups::None)];

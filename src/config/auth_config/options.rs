//! The short options, which describe one issuer each.

use std::path::PathBuf;

use super::super::args::Args;
use super::super::errors::Error;
use super::super::values::one_of;
use super::{CLOUDS, GraphFiles, Issuer, issuer_url, prefix};
use crate::auth::overage::{ClientProof, Graph};
use crate::auth::profile::{Cloud, EntraKeys, EntraTenant, OidcIssuer, Overage};
use crate::auth::{IssuerSettings, KeySource};

/// `--oidc-…`
pub(in crate::config) fn oidc_options(args: &mut Args<'_>) -> Result<Option<Issuer>, Error> {
    let url = args.value("--oidc-issuer", issuer_url)?;
    let audiences = args.values("--oidc-audience", |text| Ok(text.to_owned()))?;
    let user_claim = args.text("--oidc-username-claim")?;
    let user_prefix = args.value("--oidc-username-prefix", prefix)?;
    let groups_claim = args.text("--oidc-groups-claim")?;
    let group_prefix = args.value("--oidc-groups-prefix", prefix)?;
    let ca_file = args.path("--oidc-ca-file")?;
    let jwks_file = args.path("--oidc-jwks-file")?;
    let Some(url) = url else {
        let stray = !audiences.is_empty()
            || [user_claim.is_some(), user_prefix.is_some(), groups_claim.is_some()]
                .contains(&true)
            || [group_prefix.is_some(), ca_file.is_some(), jwks_file.is_some()].contains(&true);
        return if stray { Err(args.missing("--oidc-issuer")) } else { Ok(None) };
    };
    if audiences.is_empty() {
        return Err(args.missing("--oidc-audience"));
    }
    let user_prefix =
        user_prefix.ok_or_else(|| args.missing("--oidc-username-prefix (- for none)"))?;
    let mut oidc = OidcIssuer::new(&url, audiences, user_prefix.clone());
    oidc.user_claim = user_claim.unwrap_or(oidc.user_claim);
    oidc.groups_claim = groups_claim;
    oidc.group_prefix = group_prefix.unwrap_or(user_prefix);
    if jwks_file.is_some() {
        oidc.keys = KeySource::Installed;
    }
    Ok(Some(Issuer { settings: IssuerSettings::Oidc(oidc), jwks_file, ca_file, graph: None }))
}

/// `--entra-…`; groups that its tokens leave out are asked for as `graph` says.
pub(in crate::config) fn entra_options(
    args: &mut Args<'_>,
    graph: Option<GraphOptions>,
) -> Result<Option<Issuer>, Error> {
    let tenant = args.text("--entra-tenant")?;
    let cloud = args.value("--entra-cloud", |text| one_of(text, &CLOUDS))?;
    let authority = args.value("--entra-authority", issuer_url)?;
    let audiences = args.values("--entra-audience", |text| Ok(text.to_owned()))?;
    let user_prefix = args.value("--entra-username-prefix", prefix)?;
    let group_prefix = args.value("--entra-groups-prefix", prefix)?;
    let Some(tenant) = tenant else {
        let stray = !audiences.is_empty()
            || [cloud.is_some(), authority.is_some(), graph.is_some()].contains(&true)
            || [user_prefix.is_some(), group_prefix.is_some()].contains(&true);
        return if stray { Err(args.missing("--entra-tenant")) } else { Ok(None) };
    };
    if audiences.is_empty() {
        return Err(args.missing("--entra-audience"));
    }
    let mut entra = EntraTenant::new(&tenant, audiences);
    entra.cloud = cloud.unwrap_or_default();
    entra.keys = authority.map_or(EntraKeys::Discover, EntraKeys::DiscoverAt);
    entra.user_prefix = user_prefix.unwrap_or_default();
    entra.group_prefix = group_prefix.unwrap_or_else(|| entra.user_prefix.clone());
    let graph = graph.map(|asked| {
        let (graph, files) = asked.at(entra.cloud);
        entra.overage = Overage::Ask(graph);
        files
    });
    let settings = IssuerSettings::Entra(entra);
    Ok(Some(Issuer { settings, jwks_file: None, ca_file: None, graph }))
}

/// `--groups-source graph`, and what it takes.
pub(in crate::config) struct GraphOptions {
    client: String,
    proof: PathBuf,
    kind: ClientProof,
    address: Option<String>,
    ca: Option<PathBuf>,
}

impl GraphOptions {
    pub(super) fn parse(args: &mut Args<'_>) -> Result<Option<Self>, Error> {
        let sources = [("token", false), ("graph", true)];
        let on = args.value("--groups-source", |text| one_of(text, &sources))?.unwrap_or_default();
        let client = args.text("--graph-client")?;
        let secret = args.path("--graph-secret-file")?;
        let assertion = args.path("--graph-assertion-file")?;
        let address = args.value("--graph-url", issuer_url)?;
        let ca = args.path("--graph-ca-file")?;
        if !on {
            let stray = [client.is_some(), secret.is_some(), assertion.is_some()].contains(&true)
                || [address.is_some(), ca.is_some()].contains(&true);
            return if stray { Err(args.missing("--groups-source graph")) } else { Ok(None) };
        }
        let client = client.ok_or_else(|| args.missing("--graph-client"))?;
        let (proof, kind) = match (secret, assertion) {
            (Some(path), None) => (path, ClientProof::Secret),
            (None, Some(path)) => (path, ClientProof::Assertion),
            (None, None) | (Some(_), Some(_)) => {
                return Err(args.missing("one of --graph-secret-file and --graph-assertion-file"));
            }
        };
        Ok(Some(Self { client, proof, kind, address, ca }))
    }

    fn at(self, cloud: Cloud) -> (Graph, GraphFiles) {
        let address = self.address.unwrap_or_else(|| cloud.graph().to_owned());
        let graph = Graph { address, client: self.client, proof: self.kind };
        (graph, GraphFiles { proof: self.proof, ca: self.ca })
    }
}

//! `cluster-connect manifest`: what `kubectl apply` needs to run an edge in a cluster.

mod documents;
pub mod rights;

use std::path::Path;
use std::time::Duration;

use self::rights::Rights;
use super::args::{Args, SecretSource};
use super::auth_config::{self, AuthConfig, Issuer};
use super::auth_proxy::verbs;
use super::cluster::Operator;
use super::errors::{Code, Error};
use super::manual::{self, Page};
use super::values::{duration, number, one_of};
use crate::auth::IssuerSettings;
use crate::auth::impersonate::Verbs;
use crate::auth::pop::Possession;
use crate::auth::profile::{Cloud, EntraKeys, Prefix};
use crate::io::files;
use crate::io::operator::{Action, Report};
use crate::limits::{AUTH_CONFIG_MAX, CERTIFICATES_MAX};
use crate::secret::Secret;
use crate::wire::resource::ResourceId;
use crate::wire::url::Url;

/// What to write.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The relay.
    pub relay: Url,
    /// Its CA, PEM.
    pub relay_ca: Option<String>,
    /// The cluster.
    pub cluster: ResourceId,
    /// The namespace to live in.
    pub namespace: String,
    /// The image to run.
    pub image: String,
    /// How many of it.
    pub replicas: usize,
    /// The file of issuers, as it is.
    pub auth_config: Option<String>,
    /// Options for issuers without a file, and for the rest.
    pub options: Vec<String>,
    /// What the account must be able to do.
    pub rights: Rights,
    /// Where the join token comes from.
    pub join_token: JoinToken,
}

/// Where the join token comes from.
#[derive(Clone, Debug)]
pub enum JoinToken {
    /// It is to be put in by hand.
    Placeholder,
    /// It is here.
    Given(SecretSource),
    /// The relay is asked for one.
    Ask(Box<Operator>, Duration),
}

const IMAGE: &str = "cluster-connect:latest";
const NAMESPACE: &str = "cluster-connect";

impl Manifest {
    /// Reads the command line.
    ///
    /// # Errors
    ///
    /// `USAGE` and those of the files that are read.
    pub fn parse(mut args: Args<'_>) -> Result<Self, Error> {
        let namespace = args.value("--namespace", label)?.unwrap_or_else(|| NAMESPACE.to_owned());
        let image = args.value("--image", image)?.unwrap_or_else(|| IMAGE.to_owned());
        let replicas = args.value("--replicas", |text| number(text, 1, 9))?.unwrap_or(1);
        let (auth_config, mut options) = issuers(&mut args)?;
        let rights = rights(&mut args)?;
        if rights.passthrough {
            options.push("--sa-passthrough".to_owned());
        }
        if auth_config.is_none() && options.is_empty() {
            return Err(args.missing("an issuer (--auth-config, --entra-tenant or --oidc-issuer)"));
        }
        if rights.sar {
            options.push("--impersonation=sar".to_owned());
        }
        if rights.constrained {
            options.push("--constrained-impersonation".to_owned());
        }
        let join_token = join_token(&mut args)?;
        let relay = args.relay()?;
        let relay_ca = match args.relay_ca()? {
            Some(path) => Some(text(&path, CERTIFICATES_MAX)?),
            None => None,
        };
        let group = args.text_either(["-g", "--resource-group"])?;
        let name = match args.text_either(["-n", "--name"])? {
            Some(name) => Some(name),
            None => args.free()?,
        };
        let name = name.ok_or_else(|| args.missing("the name of the cluster"))?;
        let cluster = super::values::cluster(&name, group.as_deref())?;
        args.finish()?;
        Ok(Self {
            relay,
            relay_ca,
            cluster,
            namespace,
            image,
            replicas,
            auth_config,
            options,
            rights,
            join_token,
        })
    }

    /// Gets the join token, from the relay if that is what was asked for.
    ///
    /// # Errors
    ///
    /// Those of the file or of the relay.
    pub fn token(&self) -> Result<Option<Secret<String>>, Error> {
        match &self.join_token {
            JoinToken::Placeholder => Ok(None),
            JoinToken::Given(source) => source.read().map(Some),
            JoinToken::Ask(operator, life) => {
                match operator.run(&Action::JoinToken(self.cluster.clone(), *life))? {
                    Report::JoinToken { token, .. } => Ok(Some(Secret::new(token))),
                    Report::Done(_)
                    | Report::Granted { .. }
                    | Report::Cluster { .. }
                    | Report::Clusters(_) => {
                        Err(Error::new(Code::Internal, "the relay gave no join token"))
                    }
                }
            }
        }
    }
}

fn rights(args: &mut Args<'_>) -> Result<Rights, Error> {
    let modes = [("off", false), ("sar", true)];
    Ok(Rights {
        passthrough: args.switch("--sa-passthrough"),
        sar: args.value("--impersonation", |text| one_of(text, &modes))?.unwrap_or_default(),
        constrained: verbs(args) == Verbs::Constrained,
    })
}

/// `--auth-config` goes into a ConfigMap as it is; the short options stay options.
fn issuers(args: &mut Args<'_>) -> Result<(Option<String>, Vec<String>), Error> {
    let mut config = AuthConfig::default();
    let file = match args.path("--auth-config")? {
        Some(path) => {
            config = AuthConfig::load(&path)?;
            if config.issuers.iter().any(Issuer::names_files) {
                let what = format!("{} names files, which a pod does not have", path.display());
                return Err(Error::new(Code::AuthConfigInvalid, what)
                    .hint("edit the ConfigMap and the volumes by hand"));
            }
            Some(text(&path, AUTH_CONFIG_MAX)?)
        }
        None => None,
    };
    let short = [auth_config::oidc_options(args)?, auth_config::entra_options(args, None)?];
    let mut options = Vec::new();
    for issuer in short.into_iter().flatten() {
        if issuer.names_files() {
            return Err(
                args.wrong("--oidc-ca-file and --oidc-jwks-file name files that a pod has not")
            );
        }
        options.extend(short_options(&issuer.settings));
        config.issuers.push(issuer);
    }
    config.verifier(Possession::Off, None)?;
    Ok((file, options))
}

/// The options that describe an issuer which came from options.
fn short_options(settings: &IssuerSettings) -> Vec<String> {
    let prefix = |prefix: &Prefix| match prefix {
        Prefix::None => "-".to_owned(),
        Prefix::Text(text) => text.clone(),
    };
    match settings {
        IssuerSettings::Oidc(oidc) => {
            let mut options = vec![
                format!("--oidc-issuer={}", oidc.issuer),
                format!("--oidc-username-claim={}", oidc.user_claim),
                format!("--oidc-username-prefix={}", prefix(&oidc.user_prefix)),
                format!("--oidc-groups-prefix={}", prefix(&oidc.group_prefix)),
            ];
            let claim =
                oidc.groups_claim.iter().map(|claim| format!("--oidc-groups-claim={claim}"));
            options.extend(claim);
            options.extend(oidc.audiences.iter().map(|it| format!("--oidc-audience={it}")));
            options
        }
        IssuerSettings::Entra(entra) => {
            let cloud = match entra.cloud {
                Cloud::Public => "public",
                Cloud::UsGovernment => "usgov",
                Cloud::China => "china",
            };
            let mut options = vec![
                format!("--entra-tenant={}", entra.tenant),
                format!("--entra-cloud={cloud}"),
                format!("--entra-username-prefix={}", prefix(&entra.user_prefix)),
                format!("--entra-groups-prefix={}", prefix(&entra.group_prefix)),
            ];
            if let EntraKeys::DiscoverAt(authority) = &entra.keys {
                options.push(format!("--entra-authority={authority}"));
            }
            options.extend(entra.audiences.iter().map(|it| format!("--entra-audience={it}")));
            options
        }
    }
}

fn join_token(args: &mut Args<'_>) -> Result<JoinToken, Error> {
    let ask = args.switch("--create-join-token");
    let life = args.value("--expires", duration)?;
    let given = args.secret("--join-token-file", "CLUSTER_CONNECT_JOIN_TOKEN")?;
    match (ask, given) {
        (false, _) if life.is_some() => Err(args.missing("--create-join-token")),
        (false, Some(source)) => Ok(JoinToken::Given(source)),
        (false, None) => Ok(JoinToken::Placeholder),
        (true, Some(SecretSource::File(_))) => {
            Err(args.wrong("--create-join-token and --join-token-file exclude each other"))
        }
        (true, _) => {
            let operator = Operator::parse(args)?;
            Ok(JoinToken::Ask(Box::new(operator), life.unwrap_or(JOIN_TOKEN_LIFE)))
        }
    }
}

/// Long enough for an image to be pulled.
const JOIN_TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);

fn text(path: &Path, limit: usize) -> Result<String, Error> {
    let bytes = files::read_limited(path, limit)?;
    String::from_utf8(bytes)
        .map_err(|_| Error::new(Code::FileUnreadable, format!("{} is not UTF-8", path.display())))
}

/// A namespace (RFC 1123 label).
fn label(text: &str) -> Result<String, String> {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let good = (1..=63).contains(&text.len())
        && text.bytes().all(letter)
        && !text.starts_with('-')
        && !text.ends_with('-');
    if good { Ok(text.to_owned()) } else { Err("not the name of a namespace".to_owned()) }
}

fn image(text: &str) -> Result<String, String> {
    let good = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._/:@".contains(&b));
    if good { Ok(text.to_owned()) } else { Err("not the name of an image".to_owned()) }
}

/// The manual page.
pub static PAGE: Page = Page { command: "manifest", parts: HELP };

const HELP: &[&str] = &[
    "\
cluster-connect manifest: what kubectl apply needs to run an edge in a cluster

  Namespace, service account, the rights to impersonate and nothing else, the Secret for its keys,
  the Secret with the join token, and a Deployment without root, capabilities or a writable disk.

USAGE
  cluster-connect manifest NAME --relay URL (--auth-config FILE | --entra-tenant ID ... |
    --oidc-issuer URL ...) [OPTIONS] | kubectl apply -f -

OPTIONS
",
    manual::CLUSTER,
    "  --relay URL                  the relay                               [$CLUSTER_CONNECT_RELAY]
  --relay-ca FILE              its CA, PEM; goes into a ConfigMap    [$CLUSTER_CONNECT_RELAY_CA]
  --namespace NAME             where to live                                    [cluster-connect]
  --image IMAGE                what to run                              [cluster-connect:latest]
  --replicas N                 how many; they share one Secret                  [1]
  --join-token-file FILE       the join token                [$CLUSTER_CONNECT_JOIN_TOKEN]
  --create-join-token          instead: ask the relay for one, as an operator
  --expires TIME               life of that one                                 [24h]
",
    manual::OPERATOR,
    "  --auth-config FILE           whose tokens are taken; goes into a ConfigMap
                               (see cluster-connect auth-proxy --help)
",
    manual::OIDC,
    manual::OIDC_AUDIENCE,
    manual::OIDC_CLAIMS,
    "  --oidc-ca-file FILE          not here: a pod does not have the file
  --oidc-jwks-file FILE        not here: a pod does not have the file
",
    manual::ENTRA,
    manual::ENTRA_AUDIENCE,
    manual::ENTRA_PREFIXES,
    "  --sa-passthrough             take Kubernetes tokens; adds the right to TokenReview
  --impersonation MODE         off, sar: kubectl --as; sar adds the right to SubjectAccessReview
  --constrained-impersonation  the constrained verbs of Kubernetes 1.36 instead of impersonate; see
                               RIGHTS in cluster-connect auth-proxy --help
",
    manual::THIS_PAGE,
    "
EXAMPLE
  cluster-connect manifest edge-7 --relay https://relay.example --create-join-token \\
    --admin-token-file admin-token --entra-tenant 5c7d… --entra-audience api://contoso-edge \\
    | kubectl apply -f -
",
];

#[cfg(test)]
mod tests;

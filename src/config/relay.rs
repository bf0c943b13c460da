//! `cluster-connect relay`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::args::Args;
use super::auth_config::AuthConfig;
use super::auth_proxy::admin;
use super::errors::{Code, Error};
use super::manual::{self, Page};
use super::values::{Level, Place, duration, listen_address, number};
use crate::limits::{CALLER_SENDERS_MAX, CONNS_MAX, LOOPS_MAX, SENDERS_MAX};
use crate::wire::url::authority_parts;

/// What a relay was started with.
#[derive(Clone, Debug)]
pub struct Relay {
    /// Where to listen.
    pub listen: Vec<SocketAddr>,
    /// How to be known.
    pub tls: Tls,
    /// Registry, keys and admin token.
    pub state_dir: PathBuf,
    /// `host[:port]` to give to agents and clients, instead of the one they used.
    pub public_name: Option<String>,
    /// Whose tokens the API takes, beside the admin token.
    pub issuers: AuthConfig,
    /// Where the audit log goes.
    pub audit_log: Option<PathBuf>,
    /// Health and metrics.
    pub admin: Option<Place>,
    /// Threads that carry traffic, if it was said.
    pub loops: Option<usize>,
    /// Senders of one hybrid connection at a time.
    pub senders_max: usize,
    /// Senders of one caller at a time.
    pub caller_senders_max: usize,
    /// Life of the tokens that let a client send.
    pub send_token_lifetime: Duration,
    /// How much to log.
    pub log: Level,
}

/// Certificate and key of a relay.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Tls {
    /// From files, read again on SIGHUP.
    Files {
        /// The chain.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// From a CA of its own in the state directory, for these names.
    SelfSigned(Vec<String>),
    /// None: something in front of it speaks TLS.
    Off,
}

impl Relay {
    /// Reads the command line.
    ///
    /// # Errors
    ///
    /// `USAGE` and those of the files that are read.
    pub fn parse(mut args: Args<'_>) -> Result<Self, Error> {
        let mut listen = args.values("--listen", listen_address)?;
        if listen.is_empty() {
            listen.push(SocketAddr::from(([0; 16], 443)));
        }
        let parsed = Self {
            listen,
            tls: tls(&mut args)?,
            state_dir: args.state_dir()?.ok_or_else(|| args.missing("--state-dir"))?,
            public_name: args.value("--public-name", |text| {
                authority_parts(text).map(|_| text.to_ascii_lowercase()).map_err(|e| e.to_string())
            })?,
            issuers: AuthConfig::from_args(&mut args)?,
            audit_log: args.path("--audit-log")?,
            admin: admin(&mut args)?,
            loops: args.value("--loops", |text| number(text, 1, LOOPS_MAX))?,
            senders_max: args
                .value("--max-senders", |text| number(text, 1, CONNS_MAX))?
                .unwrap_or(SENDERS_MAX),
            caller_senders_max: args
                .value("--max-senders-per-caller", |text| number(text, 1, CONNS_MAX))?
                .unwrap_or(CALLER_SENDERS_MAX),
            send_token_lifetime: args.value("--send-token-lifetime", duration)?.unwrap_or(HOUR),
            log: args.log_level()?,
        };
        args.finish()?;
        Ok(parsed)
    }

    /// What is worth a warning at the start, as errors are written.
    #[must_use]
    pub fn warnings(&self) -> Vec<Error> {
        let is_shared = |audience: &&String| {
            let own = audience.trim_end_matches('/');
            SHARED.iter().any(|shared| shared.eq_ignore_ascii_case(own))
        };
        let all = self.issuers.audiences();
        let shared = all.iter().filter(is_shared).map(|audience| {
            let message = format!("tokens for {audience} are accepted by others than this relay");
            Error::new(Code::AudienceShared, message)
                .hint("give the relay an audience of its own, such as https:// and its name")
        });
        shared.collect()
    }
}

/// Audiences of services that everybody uses: whoever is given a token for one of them is somebody
/// else's user there.
const SHARED: [&str; 9] = [
    "https://relay.azure.net",
    "https://management.azure.com",
    "https://management.core.windows.net",
    "https://graph.microsoft.com",
    "https://servicebus.azure.net",
    "https://vault.azure.net",
    "api://AzureADTokenExchange",
    "sts.amazonaws.com",
    "https://kubernetes.default.svc",
];

const HOUR: Duration = Duration::from_secs(3600);

fn tls(args: &mut Args<'_>) -> Result<Tls, Error> {
    let certificate = args.path("--tls-cert")?;
    let key = args.path("--tls-key")?;
    let names = args.value("--tls-self-signed", |text| {
        let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
        if names.iter().any(String::is_empty) { Err("an empty name".to_owned()) } else { Ok(names) }
    })?;
    let off = args.switch("--no-tls");
    match (certificate, key, names, off) {
        (Some(certificate), Some(key), None, false) => Ok(Tls::Files { certificate, key }),
        (None, None, Some(names), false) => Ok(Tls::SelfSigned(names)),
        (None, None, None, true) => Ok(Tls::Off),
        (Some(_), None, None, false) => Err(args.missing("--tls-key")),
        (None, Some(_), None, false) => Err(args.missing("--tls-cert")),
        (None, None, None, false) => {
            Err(args.missing("--tls-cert and --tls-key, --tls-self-signed, or --no-tls"))
        }
        _ => Err(args.wrong("--tls-cert, --tls-self-signed and --no-tls exclude each other")),
    }
}

/// The manual page.
pub static PAGE: Page = Page { command: "relay", parts: HELP };

const HELP: &[&str] = &[
    "\
cluster-connect relay: the host that agents and clients both can reach

  It speaks the Hybrid Connections protocol, keeps the registry of connected clusters, and hands
  out credentials. It sees ciphertext only: sessions are TLS from the client to the cluster.

USAGE
  cluster-connect relay --state-dir DIR --tls-cert FILE --tls-key FILE [OPTIONS]

OPTIONS
  --listen ADDR:PORT           where to listen; may come several times          [:443]
  --tls-cert FILE              certificate chain, PEM; read again on SIGHUP
  --tls-key FILE               its key, PEM, mode 0600
  --tls-self-signed NAME,...   instead: a CA of its own in the state directory, for these names;
                               give DIR/ca.pem to agents and clients as --relay-ca
  --no-tls                     instead: none; only behind something that speaks TLS
  --state-dir DIR              registry, keys, admin token                      [$STATE_DIRECTORY]
  --public-name HOST[:PORT]    the name to give out             [the one that the caller used]
  --auth-config FILE           whose tokens the API takes (see cluster-connect auth-proxy --help);
                               without any issuer, only the admin token
",
    manual::OIDC,
    "  --oidc-audience AUD          audience of this relay and of nothing else, such as https:// and its
                               name: another relay that takes it could act here as a caller of
                               its own, as could any cluster's. May come several times
",
    manual::OIDC_CLAIMS,
    manual::OIDC_FILES,
    manual::ENTRA,
    "  --entra-audience AUD         audience of this relay and of nothing else; may come several times
",
    manual::ENTRA_PREFIXES,
    "  --loops N                    threads that carry traffic                       [one per core]
  --max-senders N              senders of one hybrid connection at a time, each relayed socket and
                               each HTTP request; one more is answered 429      [10000]
  --max-senders-per-caller N   the same of one user, of one key of a hybrid connection, or where
                               no token is needed of one address                [1000]
  --send-token-lifetime TIME   life of a client's right to send                 [1h]
  --audit-log FILE             one JSON line for each grant, credential and refusal
  --admin-listen PLACE         health and metrics: ADDR:PORT of this machine, or unix:PATH  [none]
  --admin-listen-anywhere      an address that others reach is meant
",
    manual::LOG_LEVEL,
    manual::THIS_PAGE,
    "
FILES
  DIR/admin-token   made at first start, mode 0600: the operator's key to the API
  DIR/ca.pem        with --tls-self-signed: the CA to give to agents and clients

MANAGEMENT
  The paths and shapes of Azure Resource Manager, with the admin token as a bearer token:
  Microsoft's clients for Python azure-mgmt-hybridkubernetes, azure-mgmt-relay and
  azure-mgmt-authorization work when they are pointed here. Below
  /subscriptions/GUID/resourceGroups/GROUP/providers/:
  Microsoft.Kubernetes/connectedClusters/NAME
      the clusters: cluster-connect cluster
  Microsoft.Relay/namespaces/ANY/hybridConnections/NAME
      for the SDKs of Azure Relay: cluster-connect hc; authorizationRules with listKeys and
      regenerateKeys below it or ANY
  Microsoft.Relay/namespaces/ANY/networkRuleSets/default
      from which addresses anybody may listen and send, clusters included: the socket's own, so
      behind a proxy the proxy's. A change ends what is open from elsewhere
  Microsoft.Authorization/roleAssignments/GUID
      behind one of these paths: who may listen and send there with a token of an issuer, as Azure
      Relay Owner, Listener or Sender. There is one namespace: a role at a subscription, a resource
      group or a namespace, whatever its name, is one for every hybrid connection but the clusters'

ENVIRONMENT
  STATE_DIRECTORY, CLUSTER_CONNECT_LOG, HTTPS_PROXY, NO_PROXY
",
    manual::STOPPED,
    "
EXAMPLE
  cluster-connect relay --state-dir /var/lib/relay --tls-cert relay.pem --tls-key relay.key \\
    --entra-tenant 5c7d… --entra-audience api://contoso-relay
",
];

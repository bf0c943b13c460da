//! `cluster-connect edge`: agent and auth proxy in one process.

use super::agent::Joining;
use super::args::Args;
use super::auth_proxy::{Gate, admin};
use super::errors::Error;
use super::manual::{self, Page};
use super::values::{Level, Place};

/// What an edge was started with.
#[derive(Clone, Debug)]
pub struct Edge {
    /// How it joins.
    pub joining: Joining,
    /// What it lets in and as whom.
    pub gate: Gate,
    /// A kubeconfig is used as it is, and makes no service account.
    pub no_bootstrap: bool,
    /// Health, metrics and sessions.
    pub admin: Option<Place>,
    /// How much to log.
    pub log: Level,
}

impl Edge {
    /// Reads the command line.
    ///
    /// # Errors
    ///
    /// `USAGE` and those of the files that are read.
    pub fn parse(mut args: Args<'_>) -> Result<Self, Error> {
        let parsed = Self {
            joining: Joining::parse(&mut args)?,
            gate: Gate::parse(&mut args)?,
            no_bootstrap: args.switch("--no-bootstrap"),
            admin: admin(&mut args)?,
            log: args.log_level()?,
        };
        args.finish()?;
        Ok(parsed)
    }
}

/// The manual page.
pub static PAGE: Page = Page { command: "edge", parts: HELP };

const HELP: &[&str] = &[
    "\
cluster-connect edge: connects a cluster, in one process

  Agent and auth proxy on one event loop. On a node, give it the administrator's kubeconfig: it
  makes a namespace, a service account that may impersonate and nothing else, and a token for it,
  and works with that token from then on. In a cluster, see cluster-connect manifest.

USAGE
  cluster-connect edge --relay URL -n NAME --state-dir DIR (--kubeconfig FILE | --in-cluster)
    (--auth-config FILE | --entra-tenant ID ... | --oidc-issuer URL ...) [OPTIONS]

OPTIONS
",
    manual::RELAY,
    manual::CLUSTER,
    manual::JOINING,
    "  --state-dir DIR              where keys are kept                              [$STATE_DIRECTORY]
",
    manual::STATE_SECRET,
    manual::API_SERVER,
    "  --no-bootstrap               use the kubeconfig as it is, and make nothing in the cluster
  --auth-config FILE           whose tokens are taken (see cluster-connect auth-proxy --help)
",
    manual::OIDC,
    manual::OIDC_AUDIENCE,
    manual::OIDC_CLAIMS,
    manual::OIDC_FILES,
    manual::ENTRA,
    manual::ENTRA_AUDIENCE,
    manual::ENTRA_PREFIXES,
    manual::GATE,
    manual::LOG_LEVEL,
    manual::THIS_PAGE,
    manual::LIMITS,
    "
  ADMIN, GROUPS, RIGHTS and TIME as in cluster-connect auth-proxy --help.

FILES
  DIR/agent-key.pem, DIR/auth-proxy.pem   made at first start, mode 0600; they stay here
  DIR/api-server-token.json               the account's token; the kubeconfig is for getting it

ENVIRONMENT
  CLUSTER_CONNECT_RELAY, CLUSTER_CONNECT_RELAY_CA, CLUSTER_CONNECT_JOIN_TOKEN, STATE_DIRECTORY,
  CLUSTER_CONNECT_CONNECTION_STRING, CLUSTER_CONNECT_LOG, HTTPS_PROXY, NO_PROXY,
  KUBERNETES_SERVICE_HOST, _PORT
",
    manual::STOPPED,
    "
EXAMPLE
  cluster-connect edge --relay https://relay.example -n edge-7 --join-token-file t \\
    --state-dir /var/lib/cc --kubeconfig /etc/rancher/k3s/k3s.yaml \\
    --entra-tenant 5c7d… --entra-audience api://contoso-edge
",
];

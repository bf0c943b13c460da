//! `cluster-connect edge`: agent and auth proxy in one process.

use super::agent::Joining;
use super::args::{Args, Page};
use super::auth_proxy::{Gate, admin};
use super::errors::Error;
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
pub static PAGE: Page = Page { command: "edge", text: HELP };

const HELP: &str = "\
cluster-connect edge: connects a cluster, in one process

  Agent and auth proxy on one event loop. On a node, give it the administrator's kubeconfig: it
  makes a namespace, a service account that may impersonate and nothing else, and a token for it,
  and works with that token from then on. In a cluster, see cluster-connect manifest.

USAGE
  cluster-connect edge --relay URL -n NAME --state-dir DIR (--kubeconfig FILE | --in-cluster)
    (--auth-config FILE | --entra-tenant ID ... | --oidc-issuer URL ...) [OPTIONS]

OPTIONS
  --relay URL                  the relay                               [$CLUSTER_CONNECT_RELAY]
  --relay-ca FILE              its CA, PEM         [$CLUSTER_CONNECT_RELAY_CA, or the system's]
  -n, --name NAME              the cluster: name, group/name, or resource id
  -g, --resource-group GROUP   the group of a bare name                         [default]
  --join-token-file FILE       needed at the first start     [$CLUSTER_CONNECT_JOIN_TOKEN]
  --connection-string-file FILE  instead of --relay and a join token: the connection string of a
                               hybrid connection with the right to listen, of Azure Relay or of a
                               relay of ours; read again for each attempt to connect, so that a new
                               key needs no restart       [$CLUSTER_CONNECT_CONNECTION_STRING]
  --state-dir DIR              where keys are kept                              [$STATE_DIRECTORY]
  --state-secret NAME          instead: a Secret of the pod's own namespace
  --kubeconfig FILE            how to reach the API server
  --kube-context NAME          the context to use                               [the current one]
  --in-cluster                 instead: as a pod, with its service account
  --no-bootstrap               use the kubeconfig as it is, and make nothing in the cluster
  --auth-config FILE           whose tokens are taken (see cluster-connect auth-proxy --help)
  --oidc-issuer URL            short form for one OpenID Connect issuer
  --oidc-audience AUD          audience of this cluster; may come several times. It must not be
                               an audience of the relay
  --oidc-username-claim CLAIM  the claim that is the user name                  [sub]
  --oidc-username-prefix TEXT  what user names begin with; - for nothing
  --oidc-groups-claim CLAIM    the claim that has the groups                    [none]
  --oidc-groups-prefix TEXT    what group names begin with      [that of user names]
  --oidc-ca-file FILE          roots for fetching its keys                      [the system's]
  --oidc-jwks-file FILE        its keys from a file; nothing is fetched
  --entra-tenant ID            short form for one tenant of Entra ID
  --entra-cloud CLOUD          public, usgov, china                             [public]
  --entra-authority URL        another host with its keys                       [the cloud's]
  --entra-audience AUD         audience of this cluster; may come several times
  --entra-username-prefix TEXT what user names begin with; needed beside another issuer  [-]
  --entra-groups-prefix TEXT   what group names begin with      [that of user names]
  --groups-source SOURCE       token, graph: who is asked for groups that a token leaves out;
                               see GROUPS                                       [token]
  --graph-client ID            the proxy's own application in the tenant
  --graph-secret-file FILE     its secret
  --graph-assertion-file FILE  instead: a token that its registration trusts
  --graph-url URL              another Microsoft Graph                          [the cloud's]
  --graph-ca-file FILE         roots for Microsoft Graph                        [the system's]
  --sa-passthrough             take Kubernetes tokens, and pass them on as they are once
                               TokenReview has said that they are good
  --sa-issuer URL              their issuer                             [that of the own token]
  --sa-audience AUD            their audience; may come several times           [the API server's]
  --pop MODE                   off, accept, require: tokens bound to a key      [off]
  --pop-u ID                   the resource id that such tokens must name
  --impersonation MODE         off, sar: kubectl --as, for whom SubjectAccessReview allows it  [off]
  --constrained-impersonation  the account has the constrained verbs of Kubernetes 1.36; see RIGHTS
  --session-max TIME           longest exec, attach or port-forward             [12h]
  --session-end WHEN           cap (--session-max), expiry (with the token)     [cap]
  --header-policy POLICY       denylist, allowlist (kubectl's fields alone)     [denylist]
  --deny-browser-origins       refuse requests with an Origin
  --audit-log FILE             audit.k8s.io/v1 events, one JSON line each; - is standard output
                                                                                [none]
  --bench-rate MB                megabytes per second that cluster-connect bench may move, in
                                 all; 0 turns it off. Everybody who is authenticated may measure,
                                 one at a time, a minute, three times in a row: the default of
                                 about 100 Mbit/s leaves lines and cores to others  [12]
  --require-least-privilege      refuse to start when the account may do more   [on]
  --no-require-least-privilege   say it loudly instead
  --audit-fail-open            go on although the audit log cannot be written; without it
                               requests are refused with 503 then
  --admin-listen PLACE         health, metrics and sessions: ADDR:PORT of this machine, or
                               unix:PATH; see ADMIN                             [none]
  --admin-listen-anywhere      another address is meant: who comes from another machine gets
                               health and metrics only
  --log-level LEVEL            off, error, warn, info, debug, trace             [info]
  -h, --help                   this page

LIMITS
  Whoever is over one of the first four gets 429 with Retry-After.
  --max-in-flight-per-user N     requests of one user at a time                 [200]
  --max-in-flight-per-session N  requests of one session at a time              [500]
  --max-in-flight N              requests at a time                             [2000]
  --max-verifications N          credentials of a session verified in a second  [2000]
  --max-refusals N               credentials of a session refused in a row; one more is looked at
                                 every 3 s                                      [20]
  --max-sessions N               sessions at a time                             [4096]
  --max-questions N              TokenReview and SubjectAccessReview at a time; 503 over it  [64]
  --spare-connections N          to the API server, made before they are needed [2]
  --head-timeout TIME            for a request head                             [10s]
  --stranger-timeout TIME        between requests, before one was let through   [30s]
  --idle-timeout TIME            between requests                               [90s]
  --response-timeout TIME        for a response head, but for watches and logs  [65s]
  --min-body-rate N              bytes of a request body in a second, over 30 s [256]
  --reader-timeout TIME          for a caller to read on, but for watches and logs  [120s]
  --upgraded-timeout TIME        exec, attach, port-forward without traffic     [4h]

  ADMIN, RIGHTS and TIME as in cluster-connect auth-proxy --help.

FILES
  DIR/agent-key.pem, DIR/auth-proxy.pem   made at first start, mode 0600; they stay here
  DIR/api-server-token.json               the account's token; the kubeconfig is for getting it

ENVIRONMENT
  CLUSTER_CONNECT_RELAY, CLUSTER_CONNECT_RELAY_CA, CLUSTER_CONNECT_JOIN_TOKEN, STATE_DIRECTORY,
  CLUSTER_CONNECT_CONNECTION_STRING, CLUSTER_CONNECT_LOG, HTTPS_PROXY, NO_PROXY,
  KUBERNETES_SERVICE_HOST, _PORT

EXIT CODES
  0 stopped by a signal, 1 cannot run, 2 wrong command line; see cluster-connect explain

EXAMPLE
  cluster-connect edge --relay https://relay.example -n edge-7 --join-token-file t \\
    --state-dir /var/lib/cc --kubeconfig /etc/rancher/k3s/k3s.yaml \\
    --entra-tenant 5c7d… --entra-audience api://contoso-edge
";

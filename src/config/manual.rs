//! Manual pages, and the words that several of them have in common.

use super::errors::Error;

/// The manual page of a command.
#[derive(Debug)]
pub struct Page {
    /// The words after `cluster-connect`.
    pub command: &'static str,
    /// What `--help` prints, in pieces that each end with a line.
    pub parts: &'static [&'static str],
}

impl Page {
    /// What `--help` prints.
    #[must_use]
    pub fn text(&self) -> String {
        self.parts.concat()
    }

    /// The options that it lists: the words at the beginning of its indented lines.
    pub(super) fn options(&self) -> impl Iterator<Item = &'static str> {
        let lines = self.parts.iter().flat_map(|part| part.lines());
        lines.filter(|line| line.starts_with("  -")).flat_map(|line| {
            let head = line.trim_start().split("  ").next().unwrap_or_default();
            head.split([' ', ',']).filter(|word| word.starts_with('-'))
        })
    }
}

/// The page of `verb` among those of `group`.
///
/// # Errors
///
/// `USAGE` for a word that is none.
pub(super) fn of_verb(
    pages: &'static [Page],
    group: &'static str,
    verb: &str,
) -> Result<&'static Page, Error> {
    let found = pages.iter().find(|page| page.command.strip_prefix(group) == Some(verb));
    found.ok_or_else(|| {
        let group = group.trim_end();
        Error::usage(group, format!("{group} {verb}: no such command"))
    })
}

/// Where the relay is, and its CA.
pub(super) const RELAY: &str = "  --relay URL                  the relay                               [$CLUSTER_CONNECT_RELAY]
  --relay-ca FILE              its CA, PEM         [$CLUSTER_CONNECT_RELAY_CA, or the system's]
";

/// One cluster.
pub(super) const CLUSTER: &str =
    "  -n, --name NAME              the cluster: name, group/name, or resource id
  -g, --resource-group GROUP   the group of a bare name                         [default]
";

/// What lets an agent join.
pub(super) const JOINING: &str =
    "  --join-token-file FILE       needed at the first start     [$CLUSTER_CONNECT_JOIN_TOKEN]
  --connection-string-file FILE  instead of --relay and a join token: the connection string of a
                               hybrid connection with the right to listen, of Azure Relay or of a
                               relay of ours; read again for each attempt to connect, so that a new
                               key needs no restart       [$CLUSTER_CONNECT_CONNECTION_STRING]
";

/// Beside `--state-dir`.
pub(super) const STATE_SECRET: &str =
    "  --state-secret NAME          instead: a Secret of the pod's own namespace\n";

/// The API server behind an auth proxy.
pub(super) const API_SERVER: &str = "  --kubeconfig FILE            how to reach the API server
  --kube-context NAME          the context to use                               [the current one]
  --in-cluster                 instead: as a pod, with its service account
";

/// The issuer of the short form.
pub(super) const OIDC: &str =
    "  --oidc-issuer URL            short form for one OpenID Connect issuer\n";

/// Its audience, where that is a cluster.
pub(super) const OIDC_AUDIENCE: &str = "  --oidc-audience AUD          audience of this cluster; may come several times. It must not be
                               an audience of the relay
";

/// What its claims mean.
pub(super) const OIDC_CLAIMS: &str =
    "  --oidc-username-claim CLAIM  the claim that is the user name                  [sub]
  --oidc-username-prefix TEXT  what user names begin with; - for nothing
  --oidc-groups-claim CLAIM    the claim that has the groups                    [none]
  --oidc-groups-prefix TEXT    what group names begin with      [that of user names]
";

/// Where its keys come from.
pub(super) const OIDC_FILES: &str =
    "  --oidc-ca-file FILE          roots for fetching its keys                      [the system's]
  --oidc-jwks-file FILE        its keys from a file; nothing is fetched
";

/// The tenant of the short form.
pub(super) const ENTRA: &str =
    "  --entra-tenant ID            short form for one tenant of Entra ID
  --entra-cloud CLOUD          public, usgov, china                             [public]
  --entra-authority URL        another host with its keys                       [the cloud's]
";

/// Its audience, where that is a cluster.
pub(super) const ENTRA_AUDIENCE: &str =
    "  --entra-audience AUD         audience of this cluster; may come several times\n";

/// What its names begin with.
pub(super) const ENTRA_PREFIXES: &str =
    "  --entra-username-prefix TEXT what user names begin with; needed beside another issuer  [-]
  --entra-groups-prefix TEXT   what group names begin with      [that of user names]
";

/// What an auth proxy lets in, as whom, and what it says about that.
pub(super) const GATE: &str =
    "  --groups-source SOURCE       token, graph: who is asked for groups that a token leaves out;
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
";

/// The limits of an auth proxy.
pub(super) const LIMITS: &str = "
LIMITS
  Whoever is over one of the first four gets 429 with Retry-After.
  --max-in-flight-per-user N     requests of one user at a time                 [200]
  --max-in-flight-per-session N  requests of one session at a time              [500]
  --max-in-flight N              requests at a time                             [2000]
  --max-verifications N          credentials of a session verified in a second  [2000]
  --max-refusals N               credentials of a session refused in a row; one more is looked at
                                 every 3 s                                      [20]
  --max-sessions N               sessions at a time, up to two of each client   [4096]
  --max-questions N              TokenReview and SubjectAccessReview at a time; 503 over it  [64]
  --spare-connections N          to the API server, made before they are needed [2]
  --head-timeout TIME            for a request head                             [10s]
  --stranger-timeout TIME        between requests, before one was let through   [30s]
  --idle-timeout TIME            between requests                               [90s]
  --response-timeout TIME        for a response head, but for watches and logs  [65s]
  --min-body-rate N              bytes of a request body in a second, over 30 s [256]
  --reader-timeout TIME          for a caller to read on, but for watches and logs  [120s]
  --upgraded-timeout TIME        exec, attach, port-forward without traffic     [4h]
";

/// A connection string with the right to send.
pub(super) const CONNECTION: &str = "  --connection-string-file FILE  instead of --relay: the connection string of one cluster's hybrid
                               connection with the right to send, of Azure Relay or of a relay of
                               ours; read again for each token. No API is asked, and no token for
                               the relay wanted           [$CLUSTER_CONNECT_CONNECTION_STRING]
  --cluster-ca FILE            beside it: the CA of the cluster, ca.pem in the state directory of
                               its edge or auth proxy
";

/// Where tokens come from, for those who do not explain it.
pub(super) const IDENTITY: &str =
    "  --identity SOURCE            where tokens come from (see cluster-connect proxy --help)
                                                                  [$CLUSTER_CONNECT_IDENTITY]
";

/// What the tokens are for, or one that there is already.
pub(super) const TOKENS: &str =
    "  --relay-audience AUD         audience of the token for the relay     [cluster-connect-relay]
  --cluster-audience AUD       audience of the token for the cluster            [cluster-connect]
  --token TOKEN                a Kubernetes token to use at the cluster, as in az; every user of
                               this machine can read it, so rather use:
  --token-file FILE            a file with it                [$CLUSTER_CONNECT_KUBE_TOKEN]
";

/// Which CA of a cluster is taken.
pub(super) const TRUST: &str = "  --ca-fingerprint SHA256      the CA that the cluster must have; edge and cluster show print it
  --accept-new-ca              take a CA that has changed, and remember it
  --known-hosts FILE           CAs seen before            [~/.config/cluster-connect/known-hosts]
  --wait TIME                  wait that long for a cluster that is offline
";

/// What a client reads of its environment.
pub(super) const ENVIRONMENT: &str = "
ENVIRONMENT
  HOME, CLUSTER_CONNECT_RELAY, CLUSTER_CONNECT_RELAY_CA, CLUSTER_CONNECT_IDENTITY,
  CLUSTER_CONNECT_RELAY_TOKEN, CLUSTER_CONNECT_CLUSTER_TOKEN, CLUSTER_CONNECT_KUBE_TOKEN,
  CLUSTER_CONNECT_CONNECTION_STRING, CLUSTER_CONNECT_LOG, HTTPS_PROXY, NO_PROXY
";

/// The token of an operator.
pub(super) const OPERATOR: &str =
    "  --admin-token-file FILE      the admin token       [$CLUSTER_CONNECT_ADMIN_TOKEN, or an
                               operator's own token in $CLUSTER_CONNECT_RELAY_TOKEN]
";

/// Beside a subject or a group.
pub(super) const WHOSE: &str =
    "  --issuer URL                 whose tokens they have; needed where the relay takes several\n";

/// Where a secret goes.
pub(super) const FILE: &str = "  -f, --file FILE              where it goes, for nobody else to read; - for standard output [-]\n";

/// How to print.
pub(super) const OUTPUT: &str =
    "  -o, --output FORMAT          table, json                                      [table]\n";

/// How much to log.
pub(super) const LOG_LEVEL: &str =
    "  --log-level LEVEL            off, error, warn, info, debug, trace             [info]\n";

/// The last option.
pub(super) const THIS_PAGE: &str = "  -h, --help                   this page\n";

/// The exit codes of what runs until it is stopped.
pub(super) const STOPPED: &str = "
EXIT CODES
  0 stopped by a signal, 1 cannot run, 2 wrong command line; see cluster-connect explain
";

//! `cluster-connect auth-proxy`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::agent::{AUTH_PROXY_PORT, State};
use super::args::Args;
use super::auth_config::AuthConfig;
use super::auth_limits::Limits;
use super::errors::Error;
use super::manual::{self, Page};
use super::values::{Level, Place, duration, number, one_of, place};
use crate::auth::Verifier;
use crate::auth::impersonate::Verbs;
use crate::auth::pop::Possession;
use crate::limits::{PROBE_RATE, SESSION_MAX};
use crate::wire::resource::ResourceId;

/// What an auth proxy was started with.
#[derive(Clone, Debug)]
pub struct AuthProxy {
    /// Where to listen.
    pub listen: Place,
    /// The cluster, whose name the certificate has.
    pub cluster: ResourceId,
    /// Where its CA is kept.
    pub state: State,
    /// What it lets in and as whom.
    pub gate: Gate,
    /// Health, metrics and sessions.
    pub admin: Option<Place>,
    /// How much to log.
    pub log: Level,
}

/// What auth proxy and edge have in common.
#[derive(Clone, Debug)]
pub struct Gate {
    /// How to reach the API server.
    pub api: ApiServer,
    /// Whose tokens are taken.
    pub issuers: AuthConfig,
    /// Kubernetes tokens go through as they are.
    pub passthrough: Option<Passthrough>,
    /// Tokens that are bound to a key.
    pub possession: Possession,
    /// What becomes of a caller's own impersonation headers.
    pub impersonation: Impersonation,
    /// By which verbs the own account may impersonate.
    pub verbs: Verbs,
    /// How long an exec, attach or port-forward may last.
    pub session_max: Duration,
    /// They end with the token instead.
    pub session_ends_with_token: bool,
    /// Only known headers go through.
    pub header_allowlist: bool,
    /// Requests of browsers are refused.
    pub deny_browser_origins: bool,
    /// Where the audit log goes.
    pub audit_log: Option<PathBuf>,
    /// Requests go on although the audit log cannot be written.
    pub audit_fail_open: bool,
    /// An account that may do more than it must is an error, not a warning.
    pub require_least_privilege: bool,
    /// How much it takes, of whom, and how long it waits.
    pub limits: Limits,
    /// Bytes per second that `cluster-connect bench` may move; 0 turns it off.
    pub bench_rate: u64,
}

/// How to reach the API server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ApiServer {
    /// As a pod of the cluster.
    InCluster,
    /// By a kubeconfig and one of its contexts.
    Kubeconfig(PathBuf, Option<String>),
}

/// Whose Kubernetes tokens go through.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Passthrough {
    /// The cluster's service-account issuer; read from the own token when it is not said.
    pub issuer: Option<String>,
    /// Audiences to ask TokenReview for; the API server's own when there is none.
    pub audiences: Vec<String>,
}

/// What becomes of a caller's own `Impersonate-…`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Impersonation {
    /// Refused.
    #[default]
    Off,
    /// Allowed to whom the API server allows it.
    Sar,
}

impl AuthProxy {
    /// Reads the command line.
    ///
    /// # Errors
    ///
    /// `USAGE` and those of the files that are read.
    pub fn parse(mut args: Args<'_>) -> Result<Self, Error> {
        let cluster = args.cluster()?;
        let parsed = Self {
            listen: args
                .value("--listen", place)?
                .unwrap_or_else(|| Place::Tcp(SocketAddr::from(([127, 0, 0, 1], AUTH_PROXY_PORT)))),
            cluster: cluster.ok_or_else(|| args.missing("-n/--name"))?,
            state: State::parse(&mut args)?,
            gate: Gate::parse(&mut args)?,
            admin: admin(&mut args)?,
            log: args.log_level()?,
        };
        args.finish()?;
        Ok(parsed)
    }
}

impl Gate {
    /// Reads its options.
    ///
    /// # Errors
    ///
    /// `USAGE` and those of the files that are read.
    pub fn parse(args: &mut Args<'_>) -> Result<Self, Error> {
        let ends = [("cap", false), ("expiry", true)];
        let policies = [("denylist", false), ("allowlist", true)];
        let gate = Self {
            api: ApiServer::parse(args)?,
            issuers: AuthConfig::with_graph(args)?,
            passthrough: Passthrough::parse(args)?,
            possession: possession(args)?,
            impersonation: args
                .value("--impersonation", |text| {
                    one_of(text, &[("off", Impersonation::Off), ("sar", Impersonation::Sar)])
                })?
                .unwrap_or_default(),
            verbs: verbs(args),
            session_max: args.value("--session-max", duration)?.unwrap_or(SESSION_MAX),
            session_ends_with_token: args
                .value("--session-end", |text| one_of(text, &ends))?
                .unwrap_or_default(),
            header_allowlist: args
                .value("--header-policy", |text| one_of(text, &policies))?
                .unwrap_or_default(),
            deny_browser_origins: args.switch("--deny-browser-origins"),
            audit_log: args.path("--audit-log")?,
            audit_fail_open: args.switch("--audit-fail-open"),
            require_least_privilege: least_privilege(args)?,
            limits: Limits::parse(args)?,
            bench_rate: args.value("--bench-rate", bench_rate)?.unwrap_or(PROBE_RATE),
        };
        if gate.issuers.issuers.is_empty() && gate.passthrough.is_none() {
            return Err(args.missing(
                "an issuer (--auth-config, --entra-tenant, --oidc-issuer) or --sa-passthrough",
            ));
        }
        gate.verifier()?;
        Ok(gate)
    }

    /// A verifier for what may come in, without keys yet.
    ///
    /// # Errors
    ///
    /// `AUTH_CONFIG_INVALID`
    pub fn verifier(&self) -> Result<Verifier, Error> {
        let service_accounts = self.passthrough.as_ref().and_then(|it| it.issuer.clone());
        self.issuers.verifier(self.possession.clone(), service_accounts)
    }
}

/// Where the listener for operators is: on this machine, unless it is said that another place is
/// meant.
///
/// # Errors
///
/// `USAGE`
pub fn admin(args: &mut Args<'_>) -> Result<Option<Place>, Error> {
    let at = args.value("--admin-listen", place)?;
    let anywhere = args.switch("--admin-listen-anywhere");
    match &at {
        Some(Place::Tcp(address)) if !anywhere && !address.ip().is_loopback() => Err(args.wrong(
            "--admin-listen is for an address of this machine alone, such as 127.0.0.1:9090; \
             --admin-listen-anywhere allows another",
        )),
        None if anywhere => Err(args.missing("--admin-listen")),
        Some(_) | None => Ok(at),
    }
}

/// By which verbs the account of an auth proxy may impersonate.
pub(super) fn verbs(args: &mut Args<'_>) -> Verbs {
    if args.switch("--constrained-impersonation") { Verbs::Constrained } else { Verbs::Legacy }
}

fn least_privilege(args: &mut Args<'_>) -> Result<bool, Error> {
    match (args.switch("--require-least-privilege"), args.switch("--no-require-least-privilege")) {
        (true, true) => Err(args.wrong("--require-least-privilege is asked for and refused")),
        (_, refused) => Ok(!refused),
    }
}

impl ApiServer {
    fn parse(args: &mut Args<'_>) -> Result<Self, Error> {
        let kubeconfig = args.path("--kubeconfig")?;
        let context = args.text("--kube-context")?;
        match (kubeconfig, args.switch("--in-cluster")) {
            (Some(_), true) => Err(args.wrong("--kubeconfig and --in-cluster exclude each other")),
            (Some(path), false) => Ok(Self::Kubeconfig(path, context)),
            (None, _) if context.is_some() => Err(args.missing("--kubeconfig")),
            (None, true) => Ok(Self::InCluster),
            (None, false) => Err(args.missing("--kubeconfig or --in-cluster")),
        }
    }
}

impl Passthrough {
    fn parse(args: &mut Args<'_>) -> Result<Option<Self>, Error> {
        let on = args.switch("--sa-passthrough");
        let issuer = args.text("--sa-issuer")?;
        let audiences = args.values("--sa-audience", |text| Ok(text.to_owned()))?;
        match on {
            true => Ok(Some(Self { issuer, audiences })),
            false if issuer.is_some() || !audiences.is_empty() => {
                Err(args.missing("--sa-passthrough"))
            }
            false => Ok(None),
        }
    }
}

/// Megabytes per second.
fn bench_rate(text: &str) -> Result<u64, String> {
    number(text, 0, 100_000_u64).map(|count| count * 1_000_000)
}

fn possession(args: &mut Args<'_>) -> Result<Possession, Error> {
    let words = [("off", 0), ("accept", 1), ("require", 2)];
    let mode = args.value("--pop", |text| one_of(text, &words))?.unwrap_or_default();
    let target = args.text("--pop-u")?;
    match (mode, target) {
        (0, None) => Ok(Possession::Off),
        (0, Some(_)) => Err(args.missing("--pop accept or require")),
        (_, None) => Err(args.missing("--pop-u")),
        (1, Some(target)) => Ok(Possession::Accept(target)),
        (_, Some(target)) => Ok(Possession::Require(target)),
    }
}

/// The manual page.
pub static PAGE: Page = Page { command: "auth-proxy", parts: HELP };

const HELP: &[&str] = &[
    "\
cluster-connect auth-proxy: the cluster's door

  It ends the callers' TLS sessions, checks their Entra ID or OpenID Connect tokens, and passes
  requests to the API server as that user, by impersonation. It may impersonate and nothing else.

USAGE
  cluster-connect auth-proxy -n NAME --state-dir DIR (--kubeconfig FILE | --in-cluster)
    (--auth-config FILE | --entra-tenant ID ... | --oidc-issuer URL ...) [OPTIONS]

OPTIONS
  --listen PLACE               ADDR:PORT or unix:PATH, for the agent            [127.0.0.1:8443]
",
    manual::CLUSTER,
    "  --state-dir DIR              where its CA is kept                             [$STATE_DIRECTORY]
",
    manual::STATE_SECRET,
    manual::API_SERVER,
    "  --auth-config FILE           whose tokens are taken; see ISSUERS
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
    "  Fixed: head 64 KiB, 128 fields, response head 256 KiB, 8 interim responses, 32 questions for one
  request, 128 streams before a request was let through, 256 KiB or 1 s of a refused body.

ISSUERS
  {\"issuers\": [
    {\"type\": \"oidc\",
     \"issuer\": {\"url\": \"https://token.actions.githubusercontent.com\", \"audiences\": [\"edge\"],
                \"discoveryURL\": ..., \"keysHosts\": [...], \"jwksURL\": ..., \"jwksFile\": ...,
                \"certificateAuthorityFile\": ...},
     \"claimMappings\": {\"username\": {\"claim\": \"sub\", \"prefix\": \"github:\"},
                       \"groups\": {\"claim\": \"groups\", \"prefix\": \"github:\"}},
     \"requiredClaims\": {\"repository_owner\": \"contoso\", \"environment\": [\"prod\", \"stage\"],
                        \"sub\": true},
     \"algorithms\": [\"RS256\"], \"leewaySeconds\": 60, \"maxLifetimeSeconds\": 100800,
     \"allowAnyScript\": false},
    {\"type\": \"entra\",
     \"entra\": {\"tenant\": ID, \"cloud\": \"public\", \"audiences\": [...], \"clients\": [...],
               \"username\": \"upn\" or \"oid\", \"groups\": \"groups\", \"roles\" or \"none\",
               \"overage\": \"refuse\", \"ignore\" or \"graph\",
               \"graph\": {\"client\": ID, \"secretFile\" or \"assertionFile\": ..., \"url\": ...,
                         \"certificateAuthorityFile\": ...},
               \"groupNames\": {ID: NAME}, \"onlyNamedGroups\": false,
               \"usernamePrefix\": \"-\", \"groupsPrefix\": \"-\", \"authority\": ...,
               \"jwksFile\": ..., \"certificateAuthorityFile\": ..., \"signingApp\": ID}}]}
  Unknown keys are errors. UPNs are given to new people; \"username\": \"oid\" is the safer choice.
  In requiredClaims a text must be equal, a list must have the claim's text, true is any value.

GROUPS
  Entra ID leaves the groups of whoever is in more than 200 out of the token. Such a caller is
  refused with \"group overage\" and never let in with fewer groups by itself. What helps:
    app roles                  give groups roles of the application; \"groups\": \"roles\"
    group assignment           let the token have \"groups assigned to the application\" alone
    --groups-source graph      the proxy asks Microsoft Graph (getMemberObjects), as an application
                               with GroupMember.Read.All; the answer holds for 5 minutes. It never
                               asks where a token says that one could. An assertion file, such as a
                               projected service-account token for api://AzureADTokenExchange,
                               spares the secret. Unanswered is a 503
    \"overage\": \"ignore\"      go on without groups: RBAC cannot deny, so rights are only lost
  A request carries 256 groups at most; \"onlyNamedGroups\": true leaves out all but groupNames.

PIPELINES
  A runner's own OpenID Connect token is an identity like any other, and no secret is kept. Say
  which repository or service connection is meant: every customer of the issuer has good tokens.

  GitHub Actions, with permissions: id-token: write. A user is
  github:repo:contoso/app:environment:prod
    {\"issuers\": [{\"type\": \"oidc\",
      \"issuer\": {\"url\": \"https://token.actions.githubusercontent.com\",
                 \"audiences\": [\"https://edge.contoso.example\"]},
      \"claimMappings\": {\"username\": {\"claim\": \"sub\", \"prefix\": \"github:\"},
                        \"groups\": {\"claim\": \"repository\", \"prefix\": \"github:\"}},
      \"requiredClaims\": {\"repository_owner_id\": \"6154722\", \"repository\": \"contoso/app\",
                         \"environment\": [\"prod\", \"stage\"]},
      \"maxLifetimeSeconds\": 3600}]}
    --identity 'exec:curl -sSf -H \"Authorization: bearer $ACTIONS_ID_TOKEN_REQUEST_TOKEN\"
      \"$ACTIONS_ID_TOKEN_REQUEST_URL&audience=$CLUSTER_CONNECT_AUDIENCE\" | jq -r .value'

  Azure Pipelines (a service connection with workload identity federation). Its tokens all have one
  audience and Entra ID trades them in, so relay and auth proxy cannot both take them. Let the task
  AzureCLI@2 trade: then both take Entra ID's tokens (--entra-tenant), each with an audience of its
  own, and the user is the object id of the connection's service principal
    --identity 'exec:az account get-access-token --resource $CLUSTER_CONNECT_AUDIENCE
      --query accessToken -o tsv'
  Or let the auth proxy alone take them as they are. The user is pipelines:sc://contoso/edge/deploy
    {\"issuers\": [{\"type\": \"oidc\",
      \"issuer\": {\"url\": \"https://vstoken.dev.azure.com/7b0ab1a8-4c2f-4b7d-9c36-1d7f4d0c9e11\",
                 \"audiences\": [\"api://AzureADTokenExchange\"]},
      \"claimMappings\": {\"username\": {\"claim\": \"sub\", \"prefix\": \"pipelines:\"}},
      \"requiredClaims\": {\"sub\": [\"sc://contoso/edge/deploy\"]},
      \"maxLifetimeSeconds\": 3600}]}

QUESTIONS
  --sa-passthrough and --impersonation sar ask the API server with the own token: TokenReview and
  SubjectAccessReview. edge and cluster-connect manifest give the account the right to ask; another
  account needs the cluster role system:auth-delegator. A client certificate cannot ask. A yes
  counts for 10 s, a no for 5 s. system:masters is never allowed, and whom the own account may not
  impersonate (service accounts, uids) the API server refuses even then.

ADMIN
  GET /healthz, /livez     the process runs
  GET /readyz              200 once keys of an issuer and the own credential are there
  GET /metrics             for Prometheus
  GET /sessions            live sessions and their requests, as JSON: ids, users, targets, bytes
  DELETE /sessions/ID      cuts a session, or one request of it (17 or 17.3)
  DELETE /sessions?user=NAME   cuts what is in flight for a user
  A user that was cut can come back for as long as its token is good. For example:
    curl --unix-socket /run/cc/admin http://localhost/sessions
    curl -X DELETE 'http://127.0.0.1:9090/sessions?user=alice@contoso.com'

RIGHTS
  The account may impersonate users and groups, with extra attributes that are named one by one;
  not service accounts, nodes or UIDs, and nothing else at all. cluster-connect manifest writes the
  ClusterRole. With --constrained-impersonation, there and here, it has impersonate:user-info and
  impersonate-on:user-info:... instead (KEP-5284): the API server itself then refuses
  system:masters, service accounts and nodes. The extra attribute oid, which must have a domain
  there, is sent as cluster-connect.internal/oid; an authorizer that asks for oid does not find it.

TIME
  watch and logs -f end when the token ends that they were opened with, and the client opens them
  anew with a fresh one; exec, attach and port-forward end at --session-max, or with their token if
  that is earlier and --session-end is expiry.

FILES
  DIR/ca.pem           the CA, for the agent; its fingerprint is printed at start
  DIR/auth-proxy.pem   the CA with its key, mode 0600

ENVIRONMENT
  STATE_DIRECTORY, CLUSTER_CONNECT_LOG, HTTPS_PROXY, NO_PROXY, KUBERNETES_SERVICE_HOST, _PORT
",
    manual::STOPPED,
    "
EXAMPLE
  cluster-connect auth-proxy -n edge-7 --state-dir /var/lib/cc --kubeconfig /etc/cc/kubeconfig \\
    --entra-tenant 5c7d… --entra-audience api://contoso-edge
",
];

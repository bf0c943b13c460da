//! `cluster-connect proxy` and `cluster-connect run`

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::args::{Args, SecretSource};
use super::errors::{Code, Error};
use super::kubeconfig::{default_file, own_file};
use super::manual::{self, Page};
use super::values::{Level, Output, cluster, duration};
use crate::auth::certify::Fingerprint;
use crate::role::client_proxy::identity::{self, Source};
use crate::role::egress::Egress;
use crate::secret::Secret;
use crate::wire::resource::ResourceId;
use crate::wire::url::Url;

/// What a client proxy was started with.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// The way to the clusters.
    pub way: Way,
    /// Roots for it, instead of the system's.
    pub relay_ca: Option<PathBuf>,
    /// The clusters, at least one, each once.
    pub clusters: Vec<ResourceId>,
    /// Where tokens come from.
    pub identity: Source,
    /// The audience of the token for the relay.
    pub relay_audience: String,
    /// The audience of the token for the cluster.
    pub cluster_audience: String,
    /// A Kubernetes token to use instead of an identity at the cluster.
    pub kube_token: Option<SecretSource>,
    /// The local port; 0 for any.
    pub port: u16,
    /// Where the kubeconfig goes.
    pub file: Target,
    /// The name of the context, where it is not the cluster's.
    pub context: Option<String>,
    /// The context becomes the current one.
    pub set_current: bool,
    /// The CA that the cluster must have.
    pub ca_fingerprint: Option<Fingerprint>,
    /// A changed CA is accepted.
    pub accept_new_ca: bool,
    /// The file of known clusters.
    pub known_hosts: PathBuf,
    /// Written to when ready.
    pub ready_fd: Option<u32>,
    /// How long to wait for a cluster that is offline.
    pub wait: Option<Duration>,
    /// How to say that it is ready.
    pub output: Output,
    /// The way out.
    pub egress: Egress,
    /// How much to log.
    pub log: Level,
    /// What to say to the user before anything else.
    pub warnings: Vec<String>,
}

/// The way to the clusters.
#[derive(Clone, Debug)]
pub enum Way {
    /// The API of a relay of ours gives credentials.
    Api(Url),
    /// One cluster by the key of its hybrid connection, at a relay of ours or at Azure Relay.
    ConnectionString {
        /// The connection string.
        source: SecretSource,
        /// The CA of the cluster's auth proxy.
        cluster_ca: PathBuf,
    },
}

/// Where the kubeconfig goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// A file of its own, removed at the end.
    Own(PathBuf),
    /// Entries in somebody's file, taken out at the end.
    Merge(PathBuf),
    /// Standard output, and nothing else there.
    Stdout,
    /// A file for one command alone, in a private directory.
    Private,
}

/// A command to run behind a client proxy.
#[derive(Clone, Debug)]
pub struct Run {
    /// The proxy.
    pub proxy: Proxy,
    /// The program and its arguments.
    pub command: Vec<OsString>,
}

/// The port that `az connectedk8s proxy` uses.
pub const PORT: u16 = 47011;

/// The audience for the relay when nothing is said.
pub const RELAY_AUDIENCE: &str = "cluster-connect-relay";

/// The audience for clusters when nothing is said.
pub const CLUSTER_AUDIENCE: &str = "cluster-connect";

impl Proxy {
    /// Reads the command line.
    ///
    /// # Errors
    ///
    /// `USAGE`, `RESOURCE_INVALID`, `IDENTITY_FAILED`, `NOT_AVAILABLE`.
    pub fn parse(mut args: Args<'_>) -> Result<Self, Error> {
        let port = args.value("--port", port)?.unwrap_or(PORT);
        let output = args.output()?;
        let merge = args.switch("--merge");
        let file = args.text_either(["-f", "--file"])?;
        let context = args.text("--kube-context")?;
        let set_current = !args.switch("--no-set-current");
        let mut parsed = Self::common(&mut args)?;
        let home = || home(&args);
        parsed.file = match (merge, file.as_deref()) {
            (true, Some("-")) => return Err(args.wrong("--merge needs a file, not -")),
            (false, Some("-")) => Target::Stdout,
            (true, Some(path)) => Target::Merge(PathBuf::from(path)),
            (false, Some(path)) => Target::Own(PathBuf::from(path)),
            (true, None) => Target::Merge(default_file(&|name| args.variable(name), &home()?)),
            (false, None) => Target::Own(own_file(&home()?, &parsed.file_name())),
        };
        if context.is_some() && 1 < parsed.clusters.len() {
            return Err(
                args.wrong("--kube-context names one context, and there are several clusters")
            );
        }
        if parsed.file == Target::Stdout && output == Output::Json {
            return Err(args.wrong("-f - and -o json would both write to standard output"));
        }
        parsed.ready_fd = args.value("--ready-fd", descriptor)?;
        parsed.port = port;
        parsed.output = output;
        parsed.context = context;
        parsed.set_current = set_current;
        args.finish()?;
        Ok(parsed)
    }

    /// What `proxy`, `run` and `bench` have in common.
    pub(super) fn common(args: &mut Args<'_>) -> Result<Self, Error> {
        let group = args.text_either(["-g", "--resource-group"])?;
        let mut names = args.values("-n", |text| Ok(text.to_owned()))?;
        names.extend(args.values("--name", |text| Ok(text.to_owned()))?);
        let clusters = names.iter().map(|name| cluster(name, group.as_deref()));
        let clusters = clusters.collect::<Result<Vec<_>, _>>()?;
        if clusters.is_empty() {
            return Err(args.missing("-n/--name"));
        }
        let twice =
            |(at, cluster): (usize, &ResourceId)| clusters.iter().take(at).any(|c| c == cluster);
        if clusters.iter().enumerate().any(twice) {
            return Err(args.wrong("-n names one cluster twice"));
        }
        let (kube_token, warnings) = kube_token(args)?;
        let way = Way::parse(clusters.len(), args)?;
        let asks_relay = matches!(way, Way::Api(_));
        let identity = identity(asks_relay, kube_token.is_some(), args)?;
        let known_hosts = match args.path("--known-hosts")? {
            Some(path) => path,
            None => home(args)?.join(".config").join("cluster-connect").join("known-hosts"),
        };
        let ca_fingerprint = args.value("--ca-fingerprint", |text| {
            Fingerprint::parse(text).ok_or_else(|| "not sha256: and 64 digits".to_owned())
        })?;
        if ca_fingerprint.is_some() && 1 < clusters.len() {
            return Err(args.wrong("--ca-fingerprint is for one cluster, and there are several"));
        }
        let audience =
            |given: Option<String>, default: &str| given.unwrap_or_else(|| default.to_owned());
        Ok(Self {
            way,
            relay_ca: args.relay_ca()?,
            clusters,
            identity,
            relay_audience: audience(args.text("--relay-audience")?, RELAY_AUDIENCE),
            cluster_audience: audience(args.text("--cluster-audience")?, CLUSTER_AUDIENCE),
            kube_token,
            port: 0,
            file: Target::Private,
            context: None,
            set_current: true,
            ca_fingerprint,
            accept_new_ca: args.switch("--accept-new-ca"),
            known_hosts,
            ready_fd: None,
            wait: args.value("--wait", duration)?,
            output: Output::Table,
            egress: Egress::from_variables(&|name| args.variable(name))
                .map_err(|why| args.wrong(&why.to_string()))?,
            log: args.log_level()?,
            warnings,
        })
    }

    fn file_name(&self) -> String {
        let names: Vec<&str> = self.clusters.iter().map(ResourceId::name).collect();
        names.join("+").to_ascii_lowercase()
    }
}

impl Way {
    fn parse(clusters: usize, args: &mut Args<'_>) -> Result<Self, Error> {
        let cluster_ca = args.path("--cluster-ca")?;
        match (args.connection_string()?, cluster_ca) {
            (None, None) => Ok(Self::Api(args.relay()?)),
            (None, Some(_)) => {
                Err(args.wrong("--cluster-ca goes with a connection string; see --ca-fingerprint"))
            }
            (Some(_), None) => Err(args.missing("--cluster-ca, beside a connection string,")),
            (Some(_), Some(_)) if clusters != 1 => {
                Err(args.wrong("a connection string is for one cluster"))
            }
            (Some(source), Some(cluster_ca)) => Ok(Self::ConnectionString { source, cluster_ca }),
        }
    }
}

impl Run {
    /// Reads the command line; `command` is what stands behind `--`.
    ///
    /// # Errors
    ///
    /// Those of [`Proxy::parse`].
    pub fn parse(mut args: Args<'_>, command: Option<Vec<OsString>>) -> Result<Self, Error> {
        let command = command.filter(|command| !command.is_empty());
        let command = command.ok_or_else(|| args.wrong("no command: put it behind --"))?;
        let mut proxy = Proxy::common(&mut args)?;
        proxy.ready_fd = args.value("--ready-fd", descriptor)?;
        proxy.port = args.value("--port", port)?.unwrap_or(0);
        args.finish()?;
        Ok(Self { proxy, command })
    }
}

fn descriptor(text: &str) -> Result<u32, String> {
    let fd = text.parse().ok().filter(|fd| 2 < *fd);
    fd.ok_or_else(|| "not a number above 2".to_owned())
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "not a port".to_owned())
}

fn home(args: &Args<'_>) -> Result<PathBuf, Error> {
    let home = args.variable("HOME").map(PathBuf::from);
    home.ok_or_else(|| args.wrong("HOME is not set: give --file and --known-hosts"))
}

/// `--token` as az has it: a Kubernetes token. In argv every user of the machine can read it.
fn kube_token(args: &mut Args<'_>) -> Result<(Option<SecretSource>, Vec<String>), Error> {
    let mut warnings = Vec::new();
    let inline = args.text("--token")?;
    let file = args.secret("--token-file", "CLUSTER_CONNECT_KUBE_TOKEN")?;
    match (inline, file) {
        (Some(_), Some(_)) => Err(args.wrong("--token and --token-file exclude each other")),
        (None, file) => Ok((file, warnings)),
        (Some(token), None) => {
            if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(args.wrong("--token is not one word"));
            }
            warnings.push(
                "--token can be read by every user of this machine; use --token-file".to_owned(),
            );
            Ok((Some(SecretSource::Inline(Secret::new(token))), warnings))
        }
    }
}

fn identity(asks_relay: bool, has_kube_token: bool, args: &mut Args<'_>) -> Result<Source, Error> {
    let variable = if asks_relay { identity::RELAY_TOKEN } else { identity::CLUSTER_TOKEN };
    let text = match args.text("--identity")? {
        Some(text) => text,
        None => match args.variable("CLUSTER_CONNECT_IDENTITY") {
            Some(text) => text,
            None if args.variable(variable).is_some() => "env".to_owned(),
            // Neither end wants a token from it.
            None if has_kube_token && !asks_relay => {
                return Ok(Source::Fixed { relay: None, cluster: None });
            }
            None => return Err(args.missing("--identity (or CLUSTER_CONNECT_IDENTITY)")),
        },
    };
    Source::parse(&text, asks_relay, &|name| args.variable(name)).map_err(Error::from)
}

impl From<identity::Failure> for Error {
    fn from(why: identity::Failure) -> Self {
        let hint = "file:RELAY_TOKEN,CLUSTER_TOKEN, env and exec:COMMAND give tokens";
        match &why {
            identity::Failure::NotAvailable(_) => {
                Self::new(Code::NotAvailable, why.to_string()).hint(hint)
            }
            identity::Failure::Unknown(_) | identity::Failure::Incomplete(_) => {
                Self::usage("proxy", why.to_string())
            }
            identity::Failure::Nothing(_)
            | identity::Failure::Broken(_)
            | identity::Failure::NotAToken => Self::new(Code::IdentityFailed, why.to_string()),
        }
    }
}

/// The manual page of `proxy`.
pub static PROXY_PAGE: Page = Page { command: "proxy", parts: PROXY_HELP };

/// The manual page of `run`.
pub static RUN_PAGE: Page = Page { command: "run", parts: RUN_HELP };

const CLUSTERS: &str = "  -n, --name NAME              the cluster: name, group/name, or resource id; may come several times
  -g, --resource-group GROUP   the group of bare names                          [default]
";

const READY: &str = "  --ready-fd FD                write a line there when ready\n";

const PROXY_HELP: &[&str] = &[
    "\
cluster-connect proxy: kubectl's way into a connected cluster

  It fetches a credential, listens on 127.0.0.1, and writes a kubeconfig for kubectl. Only who can
  read that kubeconfig can use the port. At the end the kubeconfig is taken away again.

USAGE
  cluster-connect proxy --relay URL -n NAME --identity SOURCE [OPTIONS]

OPTIONS
",
    manual::RELAY,
    manual::CONNECTION,
    CLUSTERS,
    "  --identity SOURCE            where tokens come from; see IDENTITY  [$CLUSTER_CONNECT_IDENTITY]
",
    manual::TOKENS,
    "  --port PORT                  the local port; 0 for any                        [47011]
  -f, --file FILE              where the kubeconfig goes; - for standard output
                                                      [~/.kube/cluster-connect/NAME.yaml]
  --merge                      put it into that file, beside what is there
                                                      [first of $KUBECONFIG, or ~/.kube/config]
  --kube-context NAME          the name of the context                          [the cluster's]
  --no-set-current             leave the current context alone
",
    manual::TRUST,
    READY,
    "  -o, --output FORMAT          table, json: how to say that it is ready         [table]
",
    manual::LOG_LEVEL,
    manual::THIS_PAGE,
    "
IDENTITY
  Two tokens are wanted: one for the relay, one for the cluster, which the relay never sees. With a
  connection string it is the cluster's alone, and with a Kubernetes token beside it none.
  file:RELAY_TOKEN,CLUSTER_TOKEN   two files, read anew each time; the second may be left out
                                   beside a Kubernetes token
  file:CLUSTER_TOKEN               the same with a connection string
  env                              CLUSTER_CONNECT_RELAY_TOKEN and CLUSTER_CONNECT_CLUSTER_TOKEN
  exec:COMMAND                     a command that prints a token, or JSON with one, for the
                                   audience in CLUSTER_CONNECT_AUDIENCE

TIME
  watch and logs -f end when the token ends that they were opened with, and the client opens them
  anew with a fresh one; exec, attach and port-forward end at the cluster's session cap; a failing
  refresh cuts nothing before that.

ENVIRONMENT
  HOME, KUBECONFIG, CLUSTER_CONNECT_RELAY, CLUSTER_CONNECT_RELAY_CA, CLUSTER_CONNECT_IDENTITY,
  CLUSTER_CONNECT_RELAY_TOKEN, CLUSTER_CONNECT_CLUSTER_TOKEN, CLUSTER_CONNECT_KUBE_TOKEN,
  CLUSTER_CONNECT_CONNECTION_STRING, CLUSTER_CONNECT_LOG, HTTPS_PROXY, NO_PROXY
",
    manual::STOPPED,
    "
EXAMPLE
  cluster-connect proxy --relay https://relay.example -n edge-7 --identity 'exec:az account \\
    get-access-token --resource $CLUSTER_CONNECT_AUDIENCE' &
  kubectl --kubeconfig ~/.kube/cluster-connect/edge-7.yaml get pods
",
];

const RUN_HELP: &[&str] = &[
    "\
cluster-connect run: one command with a connected cluster

  It brings a proxy up, sets KUBECONFIG for the command alone, runs it, takes the proxy down, and
  exits as the command did.

USAGE
  cluster-connect run --relay URL -n NAME --identity SOURCE [OPTIONS] -- COMMAND [ARGUMENT...]

OPTIONS
",
    manual::RELAY,
    manual::CONNECTION,
    CLUSTERS,
    manual::IDENTITY,
    manual::TOKENS,
    "  --port PORT                  the local port; 0 for any                        [0]
",
    manual::TRUST,
    READY,
    manual::LOG_LEVEL,
    manual::THIS_PAGE,
    manual::ENVIRONMENT,
    "
EXIT CODES
  those of the command; 1 cannot run, 2 wrong command line; see cluster-connect explain

EXAMPLE
  cluster-connect run --relay https://relay.example -n edge-7 --identity env -- kubectl apply -f .
",
];

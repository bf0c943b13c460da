//! `cluster-connect agent`

use std::net::SocketAddr;
use std::path::PathBuf;

use super::args::{Args, SecretSource};
use super::errors::Error;
use super::manual::{self, Page};
use super::values::{Level, Place, place};
use crate::role::egress::Egress;
use crate::wire::resource::ResourceId;
use crate::wire::url::Url;

/// What an agent was started with.
#[derive(Clone, Debug)]
pub struct Agent {
    /// How it joins.
    pub joining: Joining,
    /// Where the auth proxy listens.
    pub auth_proxy: Place,
    /// What the agent says of the auth proxy when it enrols.
    pub enrols: Option<AuthProxy>,
    /// How much to log.
    pub log: Level,
}

/// An auth proxy, as a relay is to know it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuthProxy {
    /// Its CA.
    pub ca: PathBuf,
    /// Its audiences, which the relay must not have.
    pub audiences: Vec<String>,
}

/// What agent and edge have in common: which cluster they are, and how the relay knows.
#[derive(Clone, Debug)]
pub struct Joining {
    /// The way to the relay.
    pub way: Way,
    /// Roots for it, instead of the system's.
    pub relay_ca: Option<PathBuf>,
    /// The cluster.
    pub cluster: ResourceId,
    /// Where keys are kept.
    pub state: State,
    /// The way out.
    pub egress: Egress,
}

/// The way to the relay.
#[derive(Clone, Debug)]
pub enum Way {
    /// The agent enrols at a relay of ours.
    Enrolment {
        /// The relay.
        relay: Url,
        /// Needed until the agent has enrolled.
        join_token: Option<SecretSource>,
    },
    /// By the key of a hybrid connection, at a relay of ours or at Azure Relay.
    ConnectionString(SecretSource),
}

/// Where keys are kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum State {
    /// In a directory.
    Directory(PathBuf),
    /// In one named Secret of the pod's own namespace, which all replicas share.
    Secret(String),
}

impl Agent {
    /// Reads the command line.
    ///
    /// # Errors
    ///
    /// `USAGE` and those of the files that are read.
    pub fn parse(mut args: Args<'_>) -> Result<Self, Error> {
        let joining = Joining::parse(&mut args)?;
        let parsed = Self {
            enrols: AuthProxy::parse(&joining.way, &mut args)?,
            joining,
            auth_proxy: args
                .value("--auth-proxy", place)?
                .unwrap_or_else(|| Place::Tcp(SocketAddr::from(([127, 0, 0, 1], AUTH_PROXY_PORT)))),
            log: args.log_level()?,
        };
        args.finish()?;
        Ok(parsed)
    }
}

/// Where the auth proxy listens when nothing is said.
pub const AUTH_PROXY_PORT: u16 = 8443;

impl AuthProxy {
    fn parse(way: &Way, args: &mut Args<'_>) -> Result<Option<Self>, Error> {
        let ca = args.path("--auth-proxy-ca")?;
        let audiences = args.values("--auth-proxy-audience", |text| Ok(text.to_owned()))?;
        if matches!(way, Way::ConnectionString(_)) {
            // Nobody is told of either of them.
            return Ok(None);
        }
        let ca = ca.ok_or_else(|| args.missing("--auth-proxy-ca"))?;
        if audiences.is_empty() {
            return Err(args.missing("--auth-proxy-audience"));
        }
        Ok(Some(Self { ca, audiences }))
    }
}

impl Way {
    fn parse(args: &mut Args<'_>) -> Result<Self, Error> {
        let join_token = args.secret("--join-token-file", "CLUSTER_CONNECT_JOIN_TOKEN")?;
        match args.connection_string()? {
            Some(_) if join_token.is_some() => {
                Err(args
                    .wrong("a join token is for a relay's API, and a connection string has none"))
            }
            Some(source) => Ok(Self::ConnectionString(source)),
            None => Ok(Self::Enrolment { relay: args.relay()?, join_token }),
        }
    }
}

impl Joining {
    /// Reads its options.
    ///
    /// # Errors
    ///
    /// `USAGE`, `RESOURCE_INVALID`.
    pub fn parse(args: &mut Args<'_>) -> Result<Self, Error> {
        let cluster = args.cluster()?;
        let (way, relay_ca) = (Way::parse(args)?, args.relay_ca()?);
        let state = State::parse(args)?;
        let egress = Egress::from_variables(&|name| args.variable(name))
            .map_err(|why| args.wrong(&why.to_string()))?;
        let cluster = cluster.ok_or_else(|| args.missing("-n/--name"))?;
        Ok(Self { way, relay_ca, cluster, state, egress })
    }
}

impl State {
    /// Reads `--state-dir` or `--state-secret`.
    ///
    /// # Errors
    ///
    /// `USAGE` when there is neither or both.
    pub fn parse(args: &mut Args<'_>) -> Result<Self, Error> {
        let secret = args.value("--state-secret", secret_name)?;
        let explicit = args.path("--state-dir")?;
        match (explicit, secret) {
            (Some(_), Some(_)) => {
                Err(args.wrong("--state-dir and --state-secret exclude each other"))
            }
            (Some(path), None) => Ok(Self::Directory(path)),
            (None, Some(name)) => Ok(Self::Secret(name)),
            (None, None) => match args.variable("STATE_DIRECTORY") {
                Some(path) => Ok(Self::Directory(PathBuf::from(path))),
                None => Err(args.missing("--state-dir or --state-secret")),
            },
        }
    }
}

/// A name of a Kubernetes object (RFC 1123).
fn secret_name(text: &str) -> Result<String, String> {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let good = text.len() <= 253
        && text.bytes().all(letter)
        && !text.starts_with(['-', '.'])
        && !text.ends_with(['-', '.']);
    if good { Ok(text.to_owned()) } else { Err("not the name of a Secret".to_owned()) }
}

/// The manual page.
pub static PAGE: Page = Page { command: "agent", parts: HELP };

const HELP: &[&str] = &[
    "\
cluster-connect agent: dials out from the cluster and carries sessions to the auth proxy

  It holds a control channel to the relay, accepts rendezvous connections, and moves ciphertext.
  For both roles in one process, see cluster-connect edge.

USAGE
  cluster-connect agent --relay URL -n NAME --state-dir DIR --auth-proxy-ca FILE
    --auth-proxy-audience AUD [OPTIONS]

OPTIONS
",
    manual::RELAY,
    manual::CLUSTER,
    manual::JOINING,
    "  --state-dir DIR              where the agent's key is kept                    [$STATE_DIRECTORY]
",
    manual::STATE_SECRET,
    "  --auth-proxy PLACE           ADDR:PORT or unix:PATH of the auth proxy         [127.0.0.1:8443]
  --auth-proxy-ca FILE         its CA, PEM: the agent enrols it at the relay
  --auth-proxy-audience AUD    its audience; may come several times. The relay refuses an agent
                               whose auth proxy has an audience of the relay's own
",
    manual::LOG_LEVEL,
    manual::THIS_PAGE,
    "
FILES
  DIR/agent-key.pem   made at first start, mode 0600; it never leaves this machine

ENVIRONMENT
  CLUSTER_CONNECT_RELAY, CLUSTER_CONNECT_RELAY_CA, CLUSTER_CONNECT_JOIN_TOKEN, STATE_DIRECTORY,
  CLUSTER_CONNECT_CONNECTION_STRING, CLUSTER_CONNECT_LOG, HTTPS_PROXY, NO_PROXY
",
    manual::STOPPED,
    "
EXAMPLE
  cluster-connect agent --relay https://relay.example -n edge-7 --join-token-file /etc/cc/join \\
    --state-dir /var/lib/cc --auth-proxy unix:/run/cc/auth.sock --auth-proxy-ca /var/lib/cc/ca.pem \\
    --auth-proxy-audience api://contoso-edge
",
];

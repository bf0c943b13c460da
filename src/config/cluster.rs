//! `cluster-connect cluster …`: the operator's commands.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::args::{Args, Environment, SecretSource};
use super::errors::{Code, Error};
use super::manual::{self, Page};
use super::values::{Output, cluster, duration};
use crate::io::files;
use crate::io::operator::{self, Action, Name, Report, Whom};
use crate::io::roots;
use crate::role::client_proxy::identity::RELAY_TOKEN;
use crate::role::egress::Egress;
use crate::wire::arm::{Kind, Refusal};
use crate::wire::resource::{DEFAULT_SUBSCRIPTION, ResourceId, check_group};
use crate::wire::url::Url;

/// A command for a relay.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Which relay, and who asks.
    pub operator: Operator,
    /// What to do.
    pub action: Action,
    /// How to print it.
    pub output: Output,
    /// Where a join token goes, instead of standard output.
    pub file: Option<PathBuf>,
}

/// A relay, and the token to ask it with.
#[derive(Clone, Debug)]
pub struct Operator {
    /// The relay.
    pub relay: Url,
    /// Roots for it, instead of the system's.
    pub relay_ca: Option<PathBuf>,
    /// The admin token, or one of an operator.
    pub token: SecretSource,
    /// The way out.
    pub egress: Egress,
}

impl Operator {
    /// Reads its options.
    ///
    /// # Errors
    ///
    /// `USAGE`
    pub fn parse(args: &mut Args<'_>) -> Result<Self, Error> {
        let admin = args.secret("--admin-token-file", "CLUSTER_CONNECT_ADMIN_TOKEN")?;
        let token = admin.or_else(|| {
            let token = args.variable(RELAY_TOKEN)?;
            Some(SecretSource::Inline(crate::secret::Secret::new(token.trim().to_owned())))
        });
        let token = token.ok_or_else(|| args.missing("--admin-token-file"))?;
        let (relay, relay_ca) = (args.relay()?, args.relay_ca()?);
        let egress = Egress::from_variables(&|name| args.variable(name))
            .map_err(|why| args.wrong(&why.to_string()))?;
        Ok(Self { relay, relay_ca, token, egress })
    }

    /// Does what is asked, over the network.
    ///
    /// # Errors
    ///
    /// Those of the files, and those of the relay.
    pub fn run(&self, action: &Action) -> Result<Report, Error> {
        operator::run(&self.connect()?, action).map_err(|why| self.explain(why))
    }

    /// The relay, to be asked with this token.
    ///
    /// # Errors
    ///
    /// Those of the files.
    pub(super) fn connect(&self) -> Result<operator::Relay, Error> {
        let token = self.token.read()?;
        let roots = if self.relay.tls {
            roots::load(self.relay_ca.as_deref())
                .map_err(|why| Error::from_roots(why, Code::TlsFileInvalid))?
        } else {
            Vec::new()
        };
        Ok(operator::Relay::new(self.relay.clone(), &roots, token, &self.egress))
    }

    pub(super) fn explain(&self, why: operator::Failure) -> Error {
        match why {
            operator::Failure::Unreachable(why) => {
                Error::new(Code::RelayUnreachable, format!("{}: {why}", self.relay))
            }
            operator::Failure::Untrusted(why) => {
                Error::new(Code::RelayUntrusted, format!("{}: {why}", self.relay))
                    .hint("for a CA of your own, give --relay-ca")
            }
            operator::Failure::Answer(why) => {
                Error::new(Code::RelayAnswer, format!("{}: {why}", self.relay))
            }
            operator::Failure::Refused(refusal) => Error::from(refusal),
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        let (code, hint) = match refusal.kind {
            Kind::TokenRefused => (Code::TokenRefused, "is the token expired, or another relay's?"),
            Kind::Forbidden => (Code::Forbidden, "ask an operator of the relay"),
            Kind::ClusterUnknown => {
                (Code::ClusterUnknown, "cluster-connect cluster list shows what there is")
            }
            Kind::NeverConnected => {
                (Code::ClusterNeverConnected, "start cluster-connect edge at the cluster")
            }
            Kind::Offline => (Code::ClusterOffline, "look at the agent's log at the cluster"),
            Kind::AudienceConflict => {
                (Code::AudienceConflict, "give the auth proxy an audience of its own")
            }
            Kind::PrincipalUnknown => (Code::PrincipalUnknown, "or name --issuer and --subject"),
            Kind::JoinTokenRefused => {
                (Code::JoinTokenRefused, "ask for a new one: cluster-connect cluster join-token")
            }
            Kind::Passing => (Code::RelayAnswer, "try again in a moment"),
            Kind::Wrong => (Code::RelayAnswer, "the relay's log has more"),
            Kind::Foreign => (Code::RelayAnswer, "is this the URL of a relay?"),
        };
        Self::new(code, message).hint(hint)
    }
}

impl Cluster {
    /// Reads the command line behind `cluster`.
    ///
    /// # Errors
    ///
    /// `USAGE`, `RESOURCE_INVALID`.
    pub fn parse(
        verb: &str,
        rest: Vec<OsString>,
        environment: Environment<'_>,
    ) -> Result<Self, Error> {
        let page = page(verb)?;
        let mut args = Args::new(page, rest, environment);
        let operator = Operator::parse(&mut args)?;
        let output = args.output()?;
        let file = match verb {
            "add" | "join-token" => args.text_either(["-f", "--file"])?,
            _ => None,
        };
        let file = file.filter(|file| file != "-").map(PathBuf::from);
        let action = action(verb, &mut args)?;
        args.finish()?;
        Ok(Self { operator, action, output, file })
    }

    /// Does it, and gives what to print: on standard output, and beside it.
    ///
    /// # Errors
    ///
    /// Those of [`Operator::run`], and `FILE_UNWRITABLE`: then a token was made and is lost, and
    /// another one can be asked for.
    pub fn run(&self) -> Result<(String, Option<String>), Error> {
        let report = self.operator.run(&self.action)?;
        let (text, remark) = match self.output {
            Output::Table => report.table(),
            Output::Json => (report.json(), None),
        };
        let Some(file) = self.file.as_ref().filter(|_| !text.is_empty()) else {
            return Ok((text, remark));
        };
        files::write_atomic(file, text.as_bytes(), 0o600).map_err(Error::from)?;
        Ok((String::new(), remark))
    }
}

/// The manual page of a verb.
///
/// # Errors
///
/// `USAGE` for a word that is none.
pub fn page(verb: &str) -> Result<&'static Page, Error> {
    manual::of_verb(&PAGES, "cluster ", verb)
}

fn action(verb: &str, args: &mut Args<'_>) -> Result<Action, Error> {
    match verb {
        "list" => {
            let group = args.text_either(["-g", "--resource-group"])?;
            if let Some(group) = &group {
                check_group(group)
                    .map_err(|why| Error::new(Code::ResourceInvalid, why.to_string()))?;
            }
            Ok(Action::List { subscription: DEFAULT_SUBSCRIPTION.to_owned(), group })
        }
        "add" => {
            let tags = tags(args)?;
            let expires = args.value("--expires", duration)?;
            let join = match (args.switch("--no-join-token"), expires) {
                (true, Some(_)) => {
                    return Err(args.wrong("--no-join-token and --expires exclude each other"));
                }
                (true, None) => None,
                (false, expires) => Some(expires.unwrap_or(JOIN_TOKEN_LIFE)),
            };
            Ok(Action::Add { cluster: named(args)?, tags, join })
        }
        "grant" => {
            let whom = whom(args)?;
            Ok(Action::Grant(named(args)?, whom))
        }
        "revoke" => {
            let whom = whom(args)?;
            Ok(Action::Revoke(named(args)?, whom))
        }
        "join-token" => {
            let life = args.value("--expires", duration)?.unwrap_or(JOIN_TOKEN_LIFE);
            Ok(Action::JoinToken(named(args)?, life))
        }
        "remove" => Ok(Action::Remove(named(args)?)),
        _ => Ok(Action::Show(named(args)?)),
    }
}

/// Long enough to walk to the machine.
const JOIN_TOKEN_LIFE: Duration = Duration::from_secs(3600);

/// The cluster, by `-n` or as the one free word.
fn named(args: &mut Args<'_>) -> Result<ResourceId, Error> {
    let group = args.text_either(["-g", "--resource-group"])?;
    let option = args.text_either(["-n", "--name"])?;
    let free = args.free()?;
    match (option, free) {
        (Some(_), Some(_)) => Err(args.wrong("the cluster is named twice")),
        (Some(name), None) | (None, Some(name)) => cluster(&name, group.as_deref()),
        (None, None) => Err(args.missing("the name of the cluster")),
    }
}

fn whom(args: &mut Args<'_>) -> Result<Whom, Error> {
    let issuer = args.text("--issuer")?;
    let names = [
        args.text("--user")?.map(Name::User),
        args.text("--group")?.map(Name::Group),
        args.text("--subject")?.map(Name::Subject),
    ];
    let mut names = names.into_iter().flatten();
    match (names.next(), names.next()) {
        (None, _) => Err(args.missing("--user, --group or --subject")),
        (Some(_), Some(_)) => Err(args.wrong("--user, --group and --subject exclude each other")),
        (Some(Name::Subject(_)), None) if issuer.is_none() => Err(args.missing("--issuer")),
        (Some(name), None) => Ok(Whom { name, issuer }),
    }
}

fn tags(args: &mut Args<'_>) -> Result<BTreeMap<String, String>, Error> {
    let tags = args.values("--tag", |text| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err("not KEY=VALUE".to_owned()),
    })?;
    Ok(tags.into_iter().collect())
}

/// The manual page of `cluster` itself.
pub static PAGE: Page = Page { command: "cluster", parts: HELP };

const EXPIRES: &str =
    "  --expires TIME               life of the join token                           [1h]\n";

const HELP: &[&str] = &["\
cluster-connect cluster: what the relay knows of clusters, and who may reach them

USAGE
  cluster-connect cluster add NAME          make a cluster known; prints a join token
  cluster-connect cluster show NAME         its state, its CA's fingerprint, who may reach it
  cluster-connect cluster list              all of them
  cluster-connect cluster grant NAME        let somebody fetch credentials for it
  cluster-connect cluster revoke NAME       let them no longer, and cut them off
  cluster-connect cluster join-token NAME   ask for another join token
  cluster-connect cluster remove NAME       forget it, and cut its agent off

  Each has a page of its own: cluster-connect cluster add --help
"];

static PAGES: [Page; 7] = [
    Page { command: "cluster add", parts: ADD },
    Page { command: "cluster show", parts: SHOW },
    Page { command: "cluster list", parts: LIST },
    Page { command: "cluster grant", parts: GRANT },
    Page { command: "cluster revoke", parts: REVOKE },
    Page { command: "cluster join-token", parts: JOIN_TOKEN },
    Page { command: "cluster remove", parts: REMOVE },
];

const ADD: &[&str] = &[
    "\
cluster-connect cluster add: make a cluster known

  Prints a join token, with which one agent can join, once. To add a cluster again changes its
  tags and gives another token.

USAGE
  cluster-connect cluster add NAME [OPTIONS]

OPTIONS
",
    manual::CLUSTER,
    "  --tag KEY=VALUE              for people and policies; may come several times
",
    EXPIRES,
    "  --no-join-token              none
",
    manual::FILE,
    manual::RELAY,
    manual::OPERATOR,
    manual::OUTPUT,
    manual::THIS_PAGE,
    "
EXAMPLE
  cluster-connect cluster add edge-7 --relay https://relay.example \\
    --admin-token-file /var/lib/relay/admin-token -f join-token
",
];

const SHOW: &[&str] = &[
    "\
cluster-connect cluster show: everything about one cluster

USAGE
  cluster-connect cluster show NAME [OPTIONS]

OPTIONS
",
    manual::CLUSTER,
    manual::RELAY,
    manual::OPERATOR,
    manual::OUTPUT,
    manual::THIS_PAGE,
    "
EXAMPLE
  cluster-connect cluster show edge-7 -o json
",
];

const LIST: &[&str] = &[
    "\
cluster-connect cluster list: all clusters, or those of one group

USAGE
  cluster-connect cluster list [OPTIONS]

OPTIONS
  -g, --resource-group GROUP   those of one group                               [all]
",
    manual::RELAY,
    manual::OPERATOR,
    manual::OUTPUT,
    manual::THIS_PAGE,
    "
EXAMPLE
  cluster-connect cluster list
",
];

const GRANT: &[&str] = &[
    "\
cluster-connect cluster grant: let somebody fetch credentials for a cluster

  The relay binds the grant to the identity behind the name, as it has seen it, and never looks at
  the name again. What they may do in the cluster is RBAC there.

USAGE
  cluster-connect cluster grant NAME (--user WHO | --group WHO | --subject ID --issuer URL)

OPTIONS
",
    manual::CLUSTER,
    "  --user NAME                  somebody who has called the relay before, by user name or e-mail
  --group NAME                 a group, by object id or name
  --subject ID                 somebody by subject; for Entra ID, TENANT/OBJECT_ID
",
    manual::WHOSE,
    manual::RELAY,
    manual::OPERATOR,
    manual::OUTPUT,
    manual::THIS_PAGE,
    "
EXAMPLE
  cluster-connect cluster grant edge-7 --user alice@contoso.com
  kubectl create clusterrolebinding alice --clusterrole view --user alice@contoso.com
",
];

const REVOKE: &[&str] = &[
    "\
cluster-connect cluster revoke: let somebody no longer fetch credentials, and cut them off

USAGE
  cluster-connect cluster revoke NAME (--user WHO | --group WHO | --subject ID --issuer URL)

OPTIONS
",
    manual::CLUSTER,
    "  --user NAME                  somebody, as cluster show has them
  --group NAME                 a group, by object id or name
  --subject ID                 somebody by subject
",
    manual::WHOSE,
    manual::RELAY,
    manual::OPERATOR,
    manual::OUTPUT,
    manual::THIS_PAGE,
    "
EXAMPLE
  cluster-connect cluster revoke edge-7 --user alice@contoso.com
",
];

const JOIN_TOKEN: &[&str] = &[
    "\
cluster-connect cluster join-token: ask for another join token

  It lets one agent join as this cluster, once.

USAGE
  cluster-connect cluster join-token NAME [OPTIONS]

OPTIONS
",
    manual::CLUSTER,
    EXPIRES,
    manual::FILE,
    manual::RELAY,
    manual::OPERATOR,
    manual::OUTPUT,
    manual::THIS_PAGE,
    "
EXAMPLE
  cluster-connect cluster join-token edge-7 --expires 10m -f join-token
",
];

const REMOVE: &[&str] = &[
    "\
cluster-connect cluster remove: forget a cluster, and cut its agent off

USAGE
  cluster-connect cluster remove NAME [OPTIONS]

OPTIONS
",
    manual::CLUSTER,
    manual::RELAY,
    manual::OPERATOR,
    manual::OUTPUT,
    manual::THIS_PAGE,
    "
EXAMPLE
  cluster-connect cluster remove edge-7
",
];

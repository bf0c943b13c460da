//! The manual pages of `cluster-connect hc`.

use crate::config::errors::Error;
use crate::config::manual::{self, Page};

/// The manual page of a verb.
///
/// # Errors
///
/// `USAGE` for a word that is none.
pub fn page(verb: &str) -> Result<&'static Page, Error> {
    manual::of_verb(&PAGES, "hc ", verb)
}

/// The manual page of `hc` itself.
pub static PAGE: Page = Page { command: "hc", parts: HELP };

const NAME: &str = "  -n, --name NAME              the hybrid connection; NAME may have slashes\n";

const NAMESPACE: &str =
    "  --namespace                  instead: every hybrid connection but those of clusters\n";

const ADMIN: &str = "  --admin-token-file FILE      the admin token                [$CLUSTER_CONNECT_ADMIN_TOKEN]\n";

const RULE_NAME: &str = "  --rule RULE                  the rule\n";

const PERSON: &str =
    "  --subject ID                 somebody by subject; for Entra ID the object id
  --group ID                   a group, by object id or name
";

const HELP: &[&str] = &["\
cluster-connect hc: hybrid connections for SDKs of Azure Relay, and who may use them

USAGE
  cluster-connect hc add NAME             make a hybrid connection, or change one
  cluster-connect hc list                 all hybrid connections but those of clusters
  cluster-connect hc show NAME            everything about one hybrid connection
  cluster-connect hc remove NAME          remove a hybrid connection, and close what is open there
  cluster-connect hc rule NAME            make a rule with two keys, change its rights, or remove it
  cluster-connect hc keys NAME            the connection string of a rule, which is a secret
  cluster-connect hc grant NAME           let somebody listen or send with a token of their own
  cluster-connect hc revoke NAME          let somebody listen or send no longer, and cut them off
  cluster-connect hc network              from which addresses anybody may listen and send

  Each has a page of its own: cluster-connect hc add --help
"];

static PAGES: [Page; 9] = [
    Page { command: "hc add", parts: ADD },
    Page { command: "hc list", parts: LIST },
    Page { command: "hc show", parts: SHOW },
    Page { command: "hc remove", parts: REMOVE },
    Page { command: "hc rule", parts: RULE },
    Page { command: "hc keys", parts: KEYS },
    Page { command: "hc grant", parts: GRANT },
    Page { command: "hc revoke", parts: REVOKE },
    Page { command: "hc network", parts: NETWORK },
];

const ADD: &[&str] = &[
    "\
cluster-connect hc add: make a hybrid connection, or change one

  To add one again changes what is said of it and leaves the rest as it is.

USAGE
  cluster-connect hc add NAME [OPTIONS]

OPTIONS
",
    NAME,
    "  --client-authorization on|off  senders need a token                           [on]
  --http on|off                HTTP requests are relayed, too                   [on]
  --metadata TEXT              for whoever asks; up to 1024 bytes
  --accept-timeout TIME        how long a listener has to accept                [30s]
  --response-timeout TIME      how long it has to answer a request              [60s]
  --body-gap-timeout TIME      how long the body of a request or answer may pause  [60s]
",
    manual::RELAY,
    ADMIN,
    manual::OUTPUT,
    manual::THIS_PAGE,
    "
EXAMPLE
  cluster-connect hc add lab/export --response-timeout 10m
",
];

const LIST: &[&str] = &[
    "\
cluster-connect hc list: all hybrid connections but those of clusters

USAGE
  cluster-connect hc list [OPTIONS]

OPTIONS
",
    manual::RELAY,
    ADMIN,
    manual::OUTPUT,
    manual::THIS_PAGE,
    "
EXAMPLE
  cluster-connect hc list
",
];

const SHOW: &[&str] = &[
    "\
cluster-connect hc show: everything about one hybrid connection

USAGE
  cluster-connect hc show NAME [OPTIONS]

OPTIONS
",
    NAME,
    manual::RELAY,
    ADMIN,
    manual::OUTPUT,
    manual::THIS_PAGE,
    "
EXAMPLE
  cluster-connect hc show lab/export -o json
",
];

const REMOVE: &[&str] = &[
    "\
cluster-connect hc remove: remove a hybrid connection, and close what is open there

USAGE
  cluster-connect hc remove NAME [OPTIONS]

OPTIONS
",
    NAME,
    manual::RELAY,
    ADMIN,
    manual::OUTPUT,
    manual::THIS_PAGE,
    "
EXAMPLE
  cluster-connect hc remove lab/export
",
];

const RULE: &[&str] = &[
    "\
cluster-connect hc rule: make a rule with two keys, change its rights, or remove it

USAGE
  cluster-connect hc rule (NAME | --namespace) --rule RULE (--rights WORDS | --remove)

OPTIONS
",
    NAME,
    NAMESPACE,
    RULE_NAME,
    "  --rights WORDS               what its keys allow: listen, send; manage only with both
  --remove                     its keys are worth nothing from then on
",
    manual::RELAY,
    ADMIN,
    manual::OUTPUT,
    manual::THIS_PAGE,
    "
EXAMPLE
  cluster-connect hc rule lab/export --rule robot --rights listen
",
];

const KEYS: &[&str] = &[
    "\
cluster-connect hc keys: the connection string of a rule, which is a secret

  Prints that with the primary key; as JSON all keys and strings.

USAGE
  cluster-connect hc keys (NAME | --namespace) --rule RULE [OPTIONS]

OPTIONS
",
    NAME,
    NAMESPACE,
    RULE_NAME,
    "  --renew KEY                  make a new primary or secondary key first: the old one is worth
                               nothing from then on
",
    manual::FILE,
    manual::RELAY,
    ADMIN,
    manual::OUTPUT,
    manual::THIS_PAGE,
    "
EXAMPLE
  cluster-connect hc keys lab/export --rule robot -f robot.connection-string
",
];

const GRANT: &[&str] = &[
    "\
cluster-connect hc grant: let somebody listen or send with a token of their own

  There is one namespace, and roles never reach clusters: for these, cluster-connect cluster grant.

USAGE
  cluster-connect hc grant (NAME | --namespace) --role ROLE (--subject ID | --group ID)

OPTIONS
",
    NAME,
    NAMESPACE,
    "  --role ROLE                  listener, sender, or owner: Azure Relay Listener, Sender, Owner
",
    PERSON,
    manual::WHOSE,
    manual::RELAY,
    ADMIN,
    manual::OUTPUT,
    manual::THIS_PAGE,
    "
EXAMPLE
  cluster-connect hc grant lab/export --role sender --subject repo:contoso/app:ref:refs/heads/main
",
];

const REVOKE: &[&str] = &[
    "\
cluster-connect hc revoke: let somebody listen or send no longer, and cut them off

USAGE
  cluster-connect hc revoke (NAME | --namespace) --role ROLE (--subject ID | --group ID)

OPTIONS
",
    NAME,
    NAMESPACE,
    "  --role ROLE                  listener, sender, or owner
",
    PERSON,
    manual::WHOSE,
    manual::RELAY,
    ADMIN,
    manual::OUTPUT,
    manual::THIS_PAGE,
    "
EXAMPLE
  cluster-connect hc revoke lab/export --role sender --group robots
",
];

const NETWORK: &[&str] = &[
    "\
cluster-connect hc network: from which addresses anybody may listen and send

  Holds for all hybrid connections, those of clusters included, and not for these commands. An
  address is that of the socket: behind a proxy, the proxy's. A change ends what is open from
  elsewhere. Without options it shows what holds; with them it replaces all of it.

USAGE
  cluster-connect hc network [OPTIONS]

OPTIONS
  --others WORD                what becomes of addresses that are not named: allow, deny
  --allow ADDR[/BITS]          may come; may come several times, up to 128
  --public on|off              off: nobody comes at all                         [as it is]
",
    manual::RELAY,
    ADMIN,
    manual::OUTPUT,
    manual::THIS_PAGE,
    "
EXAMPLE
  cluster-connect hc network --others deny --allow 10.0.0.0/8 --allow 2001:db8::/32
",
];

//! The one mechanism for errors on the command line: `error[CODE]: sentence`, then `hint: ...`.
//!
//! A code never changes its meaning and is never taken away, so scripts may look for it.
//! `cluster-connect explain CODE` prints what stands here.

use std::fmt;

use crate::io::{files, kubeconfig, roots};

/// What went wrong, as a word that scripts and manuals can name.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Code {
    /// The command line is not one of ours.
    Usage,
    /// A file is missing or cannot be read.
    FileUnreadable,
    /// A file cannot be written.
    FileUnwritable,
    /// A file with a secret can be read by others.
    FileExposed,
    /// A file is larger than what it can sensibly be.
    FileTooLarge,
    /// Another process holds the lock.
    FileBusy,
    /// Not a kubeconfig.
    KubeconfigInvalid,
    /// A kubeconfig that asks for what is not done here.
    KubeconfigUnsupported,
    /// The kubeconfig has no such context.
    ContextUnknown,
    /// The kubeconfig has a context of that name, of somebody else.
    ContextTaken,
    /// A certificate or key file does not hold one.
    TlsFileInvalid,
    /// The file of issuers is wrong.
    AuthConfigInvalid,
    /// Relay and auth proxy would accept the same tokens.
    AudienceConflict,
    /// The name of a cluster is not one.
    ResourceInvalid,
    /// No token could be had.
    IdentityFailed,
    /// This build or machine cannot do that.
    NotAvailable,
    /// The local port is in use.
    PortTaken,
    /// The relay cannot be reached.
    RelayUnreachable,
    /// The relay's certificate is not to be trusted.
    RelayUntrusted,
    /// The relay answered what a relay does not answer.
    RelayAnswer,
    /// The relay does not accept the token.
    TokenRefused,
    /// The relay knows who asks, and says no.
    Forbidden,
    /// The relay knows no such cluster.
    ClusterUnknown,
    /// The cluster was added, but its agent has never connected.
    ClusterNeverConnected,
    /// The cluster's agent is not connected now.
    ClusterOffline,
    /// The cluster's certificate is not the one this machine has seen before.
    ClusterChanged,
    /// The file of known clusters is damaged.
    KnownHostsInvalid,
    /// The join token is used, expired or of another cluster.
    JoinTokenRefused,
    /// Nobody of that name has been seen by the relay.
    PrincipalUnknown,
    /// The service account may do more than it must.
    LeastPrivilege,
    /// The state directory is damaged, in use, or of a newer version.
    StateUnusable,
    /// The cluster cannot be reached through the relay.
    ClusterUnreachable,
    /// The end-to-end session with the cluster is not what it should be.
    ClusterUntrusted,
    /// The API server cannot be reached.
    ApiServerUnreachable,
    /// The API server's certificate is not to be trusted.
    ApiServerUntrusted,
    /// The API server answered what an API server does not answer.
    ApiServerAnswer,
    /// The API server does not accept the credential.
    ApiServerCredential,
    /// The API server knows who asks, and says no.
    ApiServerForbidden,
    /// The cluster has an object that is in the way.
    BootstrapConflict,
    /// A fault of ours.
    Internal,
}

impl Code {
    /// Every code, in the order of the manual.
    pub fn all() -> impl Iterator<Item = Self> {
        CATALOGUE.iter().map(|&(code, _, _)| code)
    }

    /// The word on the screen.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.entry().0
    }

    /// The code of that name, in any case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::all().find(|code| code.name().eq_ignore_ascii_case(name))
    }

    /// What the process exits with.
    #[must_use]
    pub fn exit(self) -> u8 {
        if self == Self::Usage { 2 } else { 1 }
    }

    /// What it means, why it happens and what to do.
    #[must_use]
    pub fn explanation(self) -> &'static str {
        self.entry().1
    }

    fn entry(self) -> (&'static str, &'static str) {
        let found = CATALOGUE.iter().find(|(code, _, _)| *code == self);
        found.map_or(("INTERNAL", ""), |&(_, name, explanation)| (name, explanation))
    }
}

/// Why a command cannot run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Error {
    /// For scripts.
    pub code: Code,
    /// One sentence, lower case, no full stop, no secret.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Error {
    /// An error without a hint.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A wrong command line; the hint names the manual page of `command`.
    #[must_use]
    pub fn usage(command: &str, message: impl Into<String>) -> Self {
        let page = if command.is_empty() { String::new() } else { format!(" {command}") };
        Self::new(Code::Usage, message).hint(format!("see cluster-connect{page} --help"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: {}", self.code.name(), self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl From<files::Failure> for Error {
    fn from(failure: files::Failure) -> Self {
        let message = failure.to_string();
        let path = failure.path().display().to_string();
        match failure {
            files::Failure::Read(..) => Self::new(Code::FileUnreadable, message),
            files::Failure::Write(..) => Self::new(Code::FileUnwritable, message),
            files::Failure::TooLarge(..) => Self::new(Code::FileTooLarge, message),
            files::Failure::Exposed(..) => {
                Self::new(Code::FileExposed, message).hint(format!("chmod 600 {path}"))
            }
            files::Failure::Busy(..) => {
                Self::new(Code::FileBusy, message).hint("wait for the other process, or end it")
            }
        }
    }
}

impl From<kubeconfig::Failure> for Error {
    fn from(failure: kubeconfig::Failure) -> Self {
        match failure {
            kubeconfig::Failure::File(why) => Self::from(why),
            kubeconfig::Failure::Content(path, why) => super::kubeconfig::refused(&path, &why),
        }
    }
}

impl Error {
    /// There are no roots to trust; `content` is the code for a file that holds none.
    #[must_use]
    pub fn from_roots(why: roots::NoRoots, content: Code) -> Self {
        match why {
            roots::NoRoots::File(why) => Self::from(why),
            why @ roots::NoRoots::Content(..) => Self::new(content, why.to_string()),
            why @ roots::NoRoots::System => Self::new(Code::NotAvailable, why.to_string())
                .hint("install ca-certificates, or name a CA file with --relay-ca"),
        }
    }
}

/// What `cluster-connect explain CODE` prints.
#[must_use]
pub fn explain(code: Code) -> String {
    format!("{} (exit code {})\n\n{}\n", code.name(), code.exit(), code.explanation())
}

/// What `cluster-connect explain` prints without a code.
#[must_use]
pub fn catalogue() -> String {
    let mut text = String::from("Codes, explained by cluster-connect explain CODE:\n\n");
    for code in Code::all() {
        let first =
            code.explanation().split_once(". ").map_or_else(|| code.explanation(), |(s, _)| s);
        text.push_str(&format!("  {:<24} {}\n", code.name(), first.replace('\n', " ")));
    }
    text
}

/// Code, name, explanation. A test holds it against the enum.
const CATALOGUE: [(Code, &str, &str); 40] = [
    (
        Code::Usage,
        "USAGE",
        "The command line is not understood. Unknown options are errors, so that a misspelt \
             one is not\na missing one.",
    ),
    (
        Code::FileUnreadable,
        "FILE_UNREADABLE",
        "A file that was named does not exist or may not be read. The sentence names the \
             file\nand what the system said. Check the path and the owner.",
    ),
    (
        Code::FileUnwritable,
        "FILE_UNWRITABLE",
        "A file could not be written. Files are written beside their place and renamed, \
             so the\ndirectory must be writable too. Nothing was changed.",
    ),
    (
        Code::FileExposed,
        "FILE_EXPOSED",
        "A file with a secret in it can be read by others. Whoever can read it can act as \
             you.\nTake the rights of group and others away: chmod 600 FILE. In a container, mount \
             Secrets\nwith defaultMode 0400.",
    ),
    (
        Code::FileTooLarge,
        "FILE_TOO_LARGE",
        "A file is larger than anything of its kind. It is probably not the file that was \
             meant.",
    ),
    (
        Code::FileBusy,
        "FILE_BUSY",
        "Another process holds the lock of this file or state directory. Two processes with \
             one\nstate directory would overwrite each other.",
    ),
    (
        Code::KubeconfigInvalid,
        "KUBECONFIG_INVALID",
        "The file is not a kubeconfig, or a broken one. The sentence says where. Tabs, \
             duplicate\nkeys, aliases and values of the wrong type are refused, because readers \
             disagree about them.\nkubectl config view --raw --flatten often writes a clean copy.",
    ),
    (
        Code::KubeconfigUnsupported,
        "KUBECONFIG_UNSUPPORTED",
        "The kubeconfig asks for something that is not done here: an exec plug-in, an \
             auth-provider,\na password, impersonation, a proxy, or TLS without verification. Use \
             a kubeconfig with a\ntoken or a client certificate, and with the cluster's CA.",
    ),
    (
        Code::ContextUnknown,
        "CONTEXT_UNKNOWN",
        "The kubeconfig has no context of that name, or the context names a cluster or user \
             that\nis not there. kubectl config get-contexts lists what it has.",
    ),
    (
        Code::ContextTaken,
        "CONTEXT_TAKEN",
        "The kubeconfig to merge into has a context, cluster or user of that name that does \
             not\nbelong to this cluster. It is left alone. Choose another name with \
             --kube-context, or leave\n--merge away and use the file that the proxy writes for \
             itself.",
    ),
    (
        Code::TlsFileInvalid,
        "TLS_FILE_INVALID",
        "A certificate or key file holds no usable certificate or key. Both are PEM. The key \
             must be\nPKCS#8, PKCS#1 or SEC1, without a password, and belong to the first \
             certificate.",
    ),
    (
        Code::AuthConfigInvalid,
        "AUTH_CONFIG_INVALID",
        "The file of issuers (--auth-config) is wrong; the sentence names the place. Unknown \
             keys are\nrefused, so that a misspelt rule is not a missing rule. See \
             cluster-connect auth-proxy --help\nfor the format.",
    ),
    (
        Code::AudienceConflict,
        "AUDIENCE_CONFLICT",
        "The relay and the auth proxy of a cluster accept tokens of the same audience. Then \
             the relay\nwould be given tokens that open the cluster. Give each an audience of its \
             own.",
    ),
    (
        Code::ResourceInvalid,
        "RESOURCE_INVALID",
        "The name of the cluster is not one. It is a name, group/name, or a whole resource \
             id:\n/subscriptions/S/resourceGroups/G/providers/Microsoft.Kubernetes/\
             connectedClusters/NAME.",
    ),
    (
        Code::IdentityFailed,
        "IDENTITY_FAILED",
        "No token could be had from the source that --identity names. The sentence says why. \
             Two tokens\nare wanted, one for the relay and one for the cluster, each for an \
             audience of its own.",
    ),
    (Code::NotAvailable, "NOT_AVAILABLE", "This build or this machine cannot do what was asked."),
    (
        Code::PortTaken,
        "PORT_TAKEN",
        "The local port is in use, by another proxy or by an outgoing connection: 47011 lies \
             in the\nrange that Linux gives to those. Choose another with --port, or --port 0 for \
             any.",
    ),
    (
        Code::RelayUnreachable,
        "RELAY_UNREACHABLE",
        "No connection to the relay could be made. Check the name, the port, and whether a \
             proxy is\nneeded (HTTPS_PROXY, NO_PROXY).",
    ),
    (
        Code::RelayUntrusted,
        "RELAY_UNTRUSTED",
        "The relay's certificate was not issued by a CA that this machine trusts, or names \
             another\nhost, or its time is over. For a CA of your own, give its certificate with \
             --relay-ca.",
    ),
    (
        Code::RelayAnswer,
        "RELAY_ANSWER",
        "Something answered that does not speak as a relay does, or the relay reported a \
             fault of its\nown. Check the URL; the relay's log has more.",
    ),
    (
        Code::TokenRefused,
        "TOKEN_REFUSED",
        "The relay does not accept the token: expired, of an issuer that the relay does not \
             know, or\nfor another audience. The relay's audience and the cluster's are two \
             different ones. The\nrelay's log says which rule refused it.",
    ),
    (
        Code::Forbidden,
        "FORBIDDEN",
        "The relay knows who asks, and that is not enough. An operator grants access to a \
             cluster with\ncluster-connect cluster grant NAME --user WHO.",
    ),
    (
        Code::ClusterUnknown,
        "CLUSTER_UNKNOWN",
        "The relay has no cluster of that name, in that resource group and subscription. \
             cluster-connect\ncluster list shows what there is.",
    ),
    (
        Code::ClusterNeverConnected,
        "CLUSTER_NEVER_CONNECTED",
        "The cluster was added, but no agent has ever connected for it. Start one at the \
             cluster:\ncluster-connect edge, with a join token.",
    ),
    (
        Code::ClusterOffline,
        "CLUSTER_OFFLINE",
        "The cluster's agent is not connected now. The sentence says since when. Look at the \
             agent's log\nand at the way out of the cluster's network.",
    ),
    (
        Code::ClusterChanged,
        "CLUSTER_CHANGED",
        "The cluster's CA certificate is not the one that this machine has seen before. \
             Either the\ncluster was set up anew, or somebody between you and the cluster \
             pretends to be it. Ask whoever\nruns the cluster for its fingerprint; \
             --ca-fingerprint checks it, --accept-new-ca replaces\nwhat was known.",
    ),
    (
        Code::KnownHostsInvalid,
        "KNOWN_HOSTS_INVALID",
        "The file of known clusters has a line that cannot be read. Each line is: the \
             cluster's id, the\nfingerprint of its CA, and when it was first seen. Correct or \
             delete that line; the cluster\nis then trusted on first use again.",
    ),
    (
        Code::JoinTokenRefused,
        "JOIN_TOKEN_REFUSED",
        "The join token was used by another agent, has expired, or is for another cluster. \
             Ask for a\nnew one: cluster-connect cluster join-token NAME.",
    ),
    (
        Code::PrincipalUnknown,
        "PRINCIPAL_UNKNOWN",
        "Nobody of that name has presented a token to the relay yet, so the name cannot be \
             bound to an\nidentity. Let the user run cluster-connect proxy once, which will be \
             refused, or grant by\n--issuer and --subject.",
    ),
    (
        Code::LeastPrivilege,
        "LEAST_PRIVILEGE",
        "The auth proxy's service account may do more than impersonate users and groups. \
             Whoever breaks\ninto it would have those rights. Apply the ClusterRole of \
             cluster-connect manifest, or start with\n--no-require-least-privilege.",
    ),
    (
        Code::StateUnusable,
        "STATE_UNUSABLE",
        "The state directory cannot be used: another process has it, its version is newer than \
             this\nprogram, or it is damaged. The sentence names the file. Nothing was changed in \
             it.",
    ),
    (
        Code::ClusterUnreachable,
        "CLUSTER_UNREACHABLE",
        "The relay was reached, but no session with the cluster came about: its agent did not \
             accept\nin time, or its auth proxy does not run. cluster-connect cluster show NAME \
             tells since when.",
    ),
    (
        Code::ClusterUntrusted,
        "CLUSTER_UNTRUSTED",
        "The other end of the session does not have the certificate that is pinned for the \
             cluster, or\nthe session was tampered with. Somebody may be in the middle: compare \
             the CA with what the\ncluster's own log says at its start.",
    ),
    (
        Code::ApiServerUnreachable,
        "API_SERVER_UNREACHABLE",
        "No connection to the cluster's API server could be made. Check the server address in \
             the\nkubeconfig, and that the API server runs.",
    ),
    (
        Code::ApiServerUntrusted,
        "API_SERVER_UNTRUSTED",
        "The API server's certificate was not issued by the CA in the kubeconfig, or names \
             another host,\nor its time is over. Take the kubeconfig anew from the cluster; \
             verification cannot be turned\noff.",
    ),
    (
        Code::ApiServerAnswer,
        "API_SERVER_ANSWER",
        "Something answered that does not speak as an API server does, or the API server \
             reported a\nfault of its own. The sentence has its words.",
    ),
    (
        Code::ApiServerCredential,
        "API_SERVER_CREDENTIAL",
        "The API server does not accept the credential: a token or a client certificate that \
             has expired,\nor of another cluster. A running edge that says this has lost its \
             token: started again, it asks\nfor a new one with the kubeconfig.",
    ),
    (
        Code::ApiServerForbidden,
        "API_SERVER_FORBIDDEN",
        "The credential may not do what is needed. At its first start an edge makes a \
             namespace, a service\naccount and its rights, for which it needs an \
             administrator's kubeconfig once. Or apply the\nmanifest that cluster-connect \
             manifest writes, and give a kubeconfig of that account with\n--no-bootstrap.",
    ),
    (
        Code::BootstrapConflict,
        "BOOTSTRAP_CONFLICT",
        "The cluster has a role binding of the name that the edge uses, for another role; \
             that cannot be\nchanged, only deleted. The sentence names it. Delete it if nobody \
             needs it, and start again.",
    ),
    (
        Code::Internal,
        "INTERNAL",
        "A fault in cluster-connect. Please report it with the whole line.",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_error_is_one_line_and_a_hint() {
        let error = Error::new(Code::PortTaken, "127.0.0.1:47011 is in use").hint("use --port 0");
        assert_eq!(
            error.to_string(),
            "error[PORT_TAKEN]: 127.0.0.1:47011 is in use\nhint: use --port 0"
        );
        assert_eq!(
            Error::usage("proxy", "unknown option --porr").to_string(),
            "error[USAGE]: unknown option --porr\nhint: see cluster-connect proxy --help"
        );
    }

    #[test]
    fn every_code_has_a_name_and_an_explanation_of_its_own() {
        let names: BTreeSet<_> = Code::all().map(|code| code.name()).collect();
        let texts: BTreeSet<_> = Code::all().map(|code| code.explanation()).collect();
        assert_eq!(names.len(), CATALOGUE.len());
        assert_eq!(texts.len(), CATALOGUE.len());
        for code in Code::all() {
            assert!(code.name().bytes().all(|b| b.is_ascii_uppercase() || b == b'_'));
            assert_eq!(Code::parse(&code.name().to_lowercase()), Some(code));
            assert!(catalogue().contains(code.name()));
            assert!(code.explanation().lines().all(|line| line.len() <= 104), "{}", code.name());
        }
        assert_eq!(Code::parse("NO_SUCH_CODE"), None);
        // The last variant's number says how many there are.
        assert_eq!(CATALOGUE.len(), Code::Internal as usize + 1);
    }

    #[test]
    fn only_a_wrong_command_line_exits_with_2() {
        for code in Code::all() {
            assert_eq!(code.exit(), if code == Code::Usage { 2 } else { 1 });
        }
    }
}

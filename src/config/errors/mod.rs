//! The one mechanism for errors on the command line: `error[CODE]: sentence`, then `hint: ...`.
//!
//! A code never changes its meaning and is never taken away, so scripts may look for it.
//! `cluster-connect explain CODE` prints what stands here.

mod catalogue;

use std::fmt;

use self::catalogue::CATALOGUE;
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
    /// The relay's audience is one of a service that everybody uses.
    AudienceShared,
    /// The name of a cluster is not one.
    ResourceInvalid,
    /// No token could be had.
    IdentityFailed,
    /// This build or machine cannot do that.
    NotAvailable,
    /// The local port is in use.
    PortTaken,
    /// A connection string is not one.
    ConnectionStringInvalid,
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
    /// The relay knows no such hybrid connection, rule or role assignment.
    HybridConnectionUnknown,
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
    /// There is neither a note of an enrolment nor a join token.
    NotEnrolled,
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
    /// The auth proxy does not let the tunnel be measured.
    BenchRefused,
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

    /// The process goes on: it is no reason to end.
    #[must_use]
    pub fn is_warning(self) -> bool {
        self == Self::AudienceShared
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
        let kind = if self.code.is_warning() { "warning" } else { "error" };
        write!(f, "{kind}[{}]: {}", self.code.name(), self.message)?;
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
    let kind = match code.is_warning() {
        true => "a warning".to_owned(),
        false => format!("exit code {}", code.exit()),
    };
    format!("{} ({kind})\n\n{}\n", code.name(), code.explanation())
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

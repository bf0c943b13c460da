//! Files, command lines and operator commands.

use std::time::Duration;

/// Nested collections of a YAML text. A kubeconfig has five; extensions may have a few more.
pub const YAML_DEPTH_MAX: usize = 32;

/// Values of a YAML text. A kubeconfig has about ten for each cluster.
pub const YAML_NODES_MAX: usize = 65_536;

/// Bytes of a key; YAML itself allows a key on one line 1,024 characters.
pub const YAML_KEY_MAX: usize = 512;

/// Bytes of a kubeconfig: a thousand clusters with their certificates.
pub const KUBECONFIG_MAX: usize = 4 * 1024 * 1024;

/// Bytes of a certificate bundle: what a distribution trusts is about 250 KiB.
pub const CERTIFICATES_MAX: usize = 1024 * 1024;

/// Bytes of a file with a token or a key.
pub const SECRET_FILE_MAX: usize = 64 * 1024;

/// Bytes of a file of issuers.
pub const AUTH_CONFIG_MAX: usize = 256 * 1024;

/// Nested objects and lists in it: file, issuers, issuer, mapping, claim, and one to spare.
pub const AUTH_CONFIG_DEPTH: usize = 6;

/// Bytes of a credential: a token and a kubeconfig with one certificate.
pub const CREDENTIAL_MAX: usize = 256 * 1024;

/// How long a command may take to print a token; a person may have to press a button meanwhile.
pub const IDENTITY_TIMEOUT: Duration = Duration::from_secs(120);

/// Bytes of an answer to an operator: a list of ten thousand clusters.
pub const OPERATOR_ANSWER_MAX: u64 = 32 * 1024 * 1024;

/// Pages of a list that a command reads.
pub const OPERATOR_PAGES_MAX: usize = 1000;

/// How long a command waits for the relay, names and proxies included.
pub const OPERATOR_TIMEOUT: Duration = Duration::from_secs(30);

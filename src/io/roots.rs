//! Which certificate authorities to trust: those of a file, or the operating system's.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;

use super::files;
use crate::engine::tlsconf::{self, Unusable};
use crate::limits::CERTIFICATES_MAX;

/// Why there are none.
#[derive(Debug)]
pub enum NoRoots {
    /// The file cannot be read.
    File(files::Failure),
    /// The file holds no certificate that can be a root.
    Content(PathBuf, Unusable),
    /// The operating system has none.
    System,
}

impl fmt::Display for NoRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(why) => why.fmt(f),
            Self::Content(path, why) => write!(f, "{}: {why}", path.display()),
            Self::System => f.write_str("this machine has no list of certificate authorities"),
        }
    }
}

impl std::error::Error for NoRoots {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File(why) => Some(why),
            Self::Content(_, why) => Some(why),
            Self::System => None,
        }
    }
}

/// The roots in `file`, or else the system's.
///
/// # Errors
///
/// [`NoRoots`]
pub fn load(file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, NoRoots> {
    let Some(path) = file else {
        let system = tlsconf::usable_roots(rustls_native_certs::load_native_certs().certs);
        return if system.is_empty() { Err(NoRoots::System) } else { Ok(system) };
    };
    let pem = files::read_limited(path, CERTIFICATES_MAX).map_err(NoRoots::File)?;
    let content = |why| NoRoots::Content(path.to_owned(), why);
    let usable = tlsconf::usable_roots(tlsconf::certificates(&pem).map_err(content)?);
    if usable.is_empty() { Err(content(Unusable::NoCertificate)) } else { Ok(usable) }
}

/// The system's roots, read once. Empty where the system has none, as in an empty container: every
/// server is then untrusted until the operator names a file.
pub(super) fn system() -> Arc<Vec<CertificateDer<'static>>> {
    static ROOTS: OnceLock<Arc<Vec<CertificateDer<'static>>>> = OnceLock::new();
    Arc::clone(ROOTS.get_or_init(|| Arc::new(load(None).unwrap_or_default())))
}

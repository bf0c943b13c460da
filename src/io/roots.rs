//! The certificates that the operating system trusts, read once.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;

/// The system's roots. Empty where the system has none, as in an empty container: every server
/// is then untrusted until the operator names a file.
#[must_use]
pub fn system_roots() -> Arc<Vec<CertificateDer<'static>>> {
    static ROOTS: OnceLock<Arc<Vec<CertificateDer<'static>>>> = OnceLock::new();
    Arc::clone(ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for err in found.errors {
            log::warn!("some certificates of the system cannot be read: {err}");
        }
        Arc::new(found.certs)
    }))
}

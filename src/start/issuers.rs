//! From the issuers of a configuration to a verifier whose keys stay fresh.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::auth::pop::Possession;
use crate::config::auth_config::AuthConfig;
use crate::config::errors::{Code, Error};
use crate::io::roots;
use crate::role::keys::{Keys, Source};

/// A verifier for `config`.
pub(super) fn keys(
    config: &AuthConfig,
    possession: Possession,
    service_account_issuer: Option<String>,
) -> Result<Keys, Error> {
    let verifier = config.verifier(possession, service_account_issuer)?;
    let mut sources = BTreeMap::new();
    for files in config.key_files() {
        let roots = match &files.ca_file {
            Some(path) => {
                let loaded = roots::load(Some(path))
                    .map_err(|why| Error::from_roots(why, Code::TlsFileInvalid))?;
                Some(Arc::new(loaded))
            }
            None => None,
        };
        sources.insert(files.index, Source { roots, file: files.jwks_file });
    }
    Ok(Keys::new(verifier, sources))
}

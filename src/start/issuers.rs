//! From the issuers of a configuration to a verifier whose keys stay fresh.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;

use crate::auth::Verifier;
use crate::auth::overage::ClientProof;
use crate::auth::pop::Possession;
use crate::config::auth_config::AuthConfig;
use crate::config::errors::{Code, Error};
use crate::io::{files, roots};
use crate::limits::TOKEN_FILE_MAX;
use crate::role::auth_proxy::groups;
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
        let roots = loaded(files.ca_file.as_deref())?;
        sources.insert(files.index, Source { roots, file: files.jwks_file });
    }
    Ok(Keys::new(verifier, sources))
}

/// Where groups are asked for that the tokens of `config`'s issuers leave out.
pub(super) fn groups(
    config: &AuthConfig,
    verifier: &Verifier,
) -> Result<Vec<groups::Source>, Error> {
    let issuers = config.issuers.iter();
    let asked = issuers.filter_map(|it| it.graph.as_ref().map(|asked| (asked, &it.ca_file)));
    let sources = verifier.graphs().into_iter().zip(asked).map(|(graph, (asked, ca_file))| {
        let token_roots = loaded(ca_file.as_deref())?;
        let graph_roots = match &asked.ca {
            Some(path) => loaded(Some(path))?,
            None => token_roots.clone(),
        };
        let proof = asked.proof.clone();
        // It is read again for each token. One that others can read is no secret.
        match graph.graph.proof {
            ClientProof::Secret => drop(files::read_secret_text(&proof, TOKEN_FILE_MAX)?),
            ClientProof::Assertion => drop(files::read_limited(&proof, TOKEN_FILE_MAX)?),
        }
        Ok(groups::Source { graph, proof, token_roots, graph_roots })
    });
    sources.collect()
}

type Roots = Option<Arc<Vec<CertificateDer<'static>>>>;

fn loaded(path: Option<&Path>) -> Result<Roots, Error> {
    let Some(path) = path else { return Ok(None) };
    let loaded =
        roots::load(Some(path)).map_err(|why| Error::from_roots(why, Code::TlsFileInvalid))?;
    Ok(Some(Arc::new(loaded)))
}

//! From a kubeconfig to what the auth proxy connects to.

use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls::time_provider::DefaultTimeProvider;

use super::bootstrap::{self, Account, check_privileges};
use crate::config::auth_proxy::{ApiServer, Gate, Impersonation};
use crate::config::errors::{Code, Error};
use crate::config::kubeconfig::{self, Upstream as Access};
use crate::config::manifest::rights::Rights;
use crate::engine::tlsconf::{self, Identity, Versions};
use crate::io::environment;
use crate::role::auth_proxy::upstream::{TokenSource, Upstream};
use crate::role::{Endpoint, Tls};
use crate::wire::kubeconfig::Token;

/// The API server with the credential as it is given, which is looked at first.
pub(super) fn as_given(gate: &Gate) -> Result<Upstream, Error> {
    let access = access(gate)?;
    let found = check_privileges(&access, rights(gate), gate.require_least_privilege)?;
    if let Some(words) = found.words() {
        super::say(&format!("warning: {words}"));
    }
    let token = match (&access.token, &access.identity) {
        (Some(Token::Inline(token)), _) => TokenSource::Fixed(token.clone()),
        (Some(Token::File(path)), _) => TokenSource::File(path.clone()),
        (None, _) => TokenSource::Certificate,
    };
    upstream(access, token)
}

/// The API server with an account of the auth proxy's own, which is made with the administrator's
/// kubeconfig if it is not there; what it needs is kept in `dir`.
pub(super) fn with_own_account(gate: &Gate, dir: &Path) -> Result<Upstream, Error> {
    let account = Account { rights: rights(gate), ..Account::default() };
    let prepared = bootstrap::prepare(&access(gate)?, dir, &account)?;
    upstream(prepared.access, prepared.token)
}

/// What the auth proxy is asked to do decides what it must be allowed to.
fn rights(gate: &Gate) -> Rights {
    Rights {
        passthrough: gate.passthrough.is_some(),
        sar: gate.impersonation == Impersonation::Sar,
    }
}

/// What the configuration says about the API server.
fn access(gate: &Gate) -> Result<Access, Error> {
    match &gate.api {
        ApiServer::InCluster => kubeconfig::in_cluster(&environment::variable),
        ApiServer::Kubeconfig(path, context) => kubeconfig::load(path, context.as_deref()),
    }
}

/// How the auth proxy uses it: with its own credential, and without any.
fn upstream(access: Access, token: TokenSource) -> Result<Upstream, Error> {
    if !access.url.path.is_empty() {
        let what = "an API server below a path is not supported";
        return Err(Error::new(Code::KubeconfigUnsupported, what));
    }
    // A certificate beats a bearer token: beside a token of ours it would be in the way.
    let identity = access.identity.clone().filter(|_| matches!(token, TokenSource::Certificate));
    if identity.is_some() {
        log::warn!(
            "the API server is reached with a client certificate alone: a token would bind each \
             request to its own identity"
        );
    }
    Ok(Upstream {
        endpoint: endpoint(&access, identity)?,
        anonymous: endpoint(&access, None)?,
        host: access.url.authority(),
        token,
    })
}

fn endpoint(access: &Access, identity: Option<Identity>) -> Result<Endpoint, Error> {
    let invalid = |why: String| Error::new(Code::KubeconfigInvalid, why);
    let name = ServerName::try_from(access.server_name.clone())
        .map_err(|_| invalid(format!("{} is no server name", access.server_name)))?;
    let config: Arc<ClientConfig> = tlsconf::client(
        &access.roots,
        identity,
        &[b"http/1.1"],
        Versions::Both,
        Arc::new(DefaultTimeProvider),
    )
    .map_err(|why| invalid(why.to_string()))?;
    Ok(Endpoint::Tcp {
        host: access.url.host.clone(),
        port: access.url.port,
        tls: Some(Tls { config, name }),
        via: None,
    })
}

//! From a kubeconfig to what the auth proxy connects to.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls::time_provider::DefaultTimeProvider;

use crate::config::auth_proxy::{ApiServer, Gate};
use crate::config::errors::{Code, Error};
use crate::config::kubeconfig::{self, Upstream as Access};
use crate::engine::tlsconf::{self, Identity, Versions};
use crate::io::environment;
use crate::role::auth_proxy::question::Api;
use crate::role::auth_proxy::upstream::{TokenSource, Upstream};
use crate::role::{Endpoint, Tls};
use crate::wire::kubeconfig::Token;

/// What the configuration says about the API server.
pub(super) fn access(gate: &Gate) -> Result<Access, Error> {
    match &gate.api {
        ApiServer::InCluster => kubeconfig::in_cluster(&environment::variable),
        ApiServer::Kubeconfig(path, context) => kubeconfig::load(path, context.as_deref()),
    }
}

/// Where questions go that the API server answers. They are asked by the worker threads, which take
/// the server's name from its address.
pub(super) fn api(access: &Access) -> Result<Api, Error> {
    if access.server_name != access.url.host {
        let what = "--sa-passthrough and --impersonation sar do not go with tls-server-name";
        return Err(Error::new(Code::KubeconfigUnsupported, what));
    }
    Ok(Api {
        url: format!("https://{}", access.url.authority()),
        roots: Arc::new(access.roots.clone()),
        audiences: Vec::new(),
    })
}

/// How the auth proxy uses it: with its own credential, and without any.
pub(super) fn upstream(access: Access) -> Result<Upstream, Error> {
    if !access.url.path.is_empty() {
        let what = "an API server below a path is not supported";
        return Err(Error::new(Code::KubeconfigUnsupported, what));
    }
    let token = match (&access.token, &access.identity) {
        (Some(Token::Inline(token)), _) => TokenSource::Fixed(token.clone()),
        (Some(Token::File(path)), _) => TokenSource::File(path.clone()),
        (None, _) => TokenSource::Certificate,
    };
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

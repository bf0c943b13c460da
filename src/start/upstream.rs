//! From a kubeconfig to what the auth proxy connects to.

use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls::time_provider::DefaultTimeProvider;

use super::bootstrap::{self, Account};
use super::say;
use crate::config::auth_proxy::{ApiServer, Gate};
use crate::config::errors::{Code, Error};
use crate::config::kubeconfig::{self, Upstream as Access};
use crate::config::manifest::rights::Rights;
use crate::engine::tlsconf::{self, Identity, Versions};
use crate::io::apiserver::patiently;
use crate::io::environment;
use crate::limits::{API_SERVER_PATIENCE, QUESTIONS_OPEN};
use crate::role::auth_proxy::question::Api;
use crate::role::auth_proxy::upstream::{TokenSource, Upstream};
use crate::role::{Endpoint, Tls};
use crate::wire::kubeconfig::Token;

/// The API server, and where it answers questions, if it can be asked any.
type Reached = (Upstream, Result<Api, Error>);

/// The API server with what the configuration gives, as it is, after a look at what that may do.
pub(super) fn as_given(gate: &Gate) -> Result<Reached, Error> {
    let access = access(gate)?;
    checked(gate, &access)?;
    let api = api(&access);
    Ok((upstream(access)?, api))
}

/// The API server with an account of the edge's own, whose token is kept in `dir`.
pub(super) fn as_account(gate: &Gate, dir: &Path) -> Result<Reached, Error> {
    let account = Account { rights: Rights::of(gate), ..Account::default() };
    let given = access(gate)?;
    let prepared = when_up(|| bootstrap::prepare(&given, dir, &account))?;
    checked(gate, &prepared.access)?;
    let api = api(&prepared.access);
    Ok((Upstream { token: prepared.token, ..upstream(prepared.access)? }, api))
}

fn checked(gate: &Gate, access: &Access) -> Result<(), Error> {
    let (rights, require) = (Rights::of(gate), gate.require_least_privilege);
    when_up(|| bootstrap::check_privileges(access, rights, require)).map(drop)
}

/// Waits for an API server that is away, and says so.
fn when_up<T>(attempt: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    let mut is_said = false;
    let is_away = |why: &Error| {
        let is_away = why.code == Code::ApiServerUnreachable;
        if is_away && !is_said {
            is_said = true;
            say(&format!("waiting for the API server: {}", why.message));
        }
        is_away
    };
    patiently(API_SERVER_PATIENCE, is_away, attempt)
}

/// What the configuration says about the API server.
fn access(gate: &Gate) -> Result<Access, Error> {
    match &gate.api {
        ApiServer::InCluster => kubeconfig::in_cluster(&environment::variable),
        ApiServer::Kubeconfig(path, context) => kubeconfig::load(path, context.as_deref()),
    }
}

/// Where questions go that the API server answers. They are asked by the worker threads, which take
/// the server's name from its address.
fn api(access: &Access) -> Result<Api, Error> {
    if access.server_name != access.url.host {
        let what = "--sa-passthrough and --impersonation sar do not go with tls-server-name";
        return Err(Error::new(Code::KubeconfigUnsupported, what));
    }
    Ok(Api {
        url: format!("https://{}", access.url.authority()),
        roots: Arc::new(access.roots.clone()),
        audiences: Vec::new(),
        questions: QUESTIONS_OPEN,
    })
}

/// How the auth proxy uses it: with its own credential, and without any.
fn upstream(access: Access) -> Result<Upstream, Error> {
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

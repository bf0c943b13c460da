//! An account of its own for an edge that was given an administrator's kubeconfig: namespace,
//! service account, rights to impersonate, and a token. From then on the edge uses that token
//! alone, and comes back to the kubeconfig only when the token is lost or lacks a right.

mod objects;
mod privileges;

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::state::unix_now;
use crate::config::errors::{Code, Error};
use crate::config::kubeconfig::Upstream;
use crate::config::manifest::rights::Rights;
use crate::io::apiserver::{ApiServer, Credential, Failure};
use crate::io::files;
use crate::limits::{ACCOUNT_RIGHTS_WAIT, TOKEN_FILE_MAX};
use crate::role::auth_proxy::upstream::{AccountToken, Requested, TokenSource, token_request};
use crate::secret::Secret;
use crate::wire::kubeconfig::Token;
use crate::wire::url::Url;

pub use privileges::{Privileges, check_privileges};

/// The account to have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Account {
    /// Where it lives.
    pub namespace: String,
    /// The service account, its role and the binding of that.
    pub name: String,
    /// The cluster role and the binding of that.
    pub role: String,
    /// What it must be able to do.
    pub rights: Rights,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            namespace: "cluster-connect".to_owned(),
            name: "kube-aad-proxy".to_owned(),
            role: "cluster-connect:kube-aad-proxy".to_owned(),
            rights: Rights::default(),
        }
    }
}

/// The API server as the account reaches it.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The same server without the administrator's credential, with the account's token.
    pub access: Upstream,
    /// That token, and where the next one comes from.
    pub token: TokenSource,
}

/// The file in the state directory that keeps the token.
pub const TOKEN_FILE: &str = "api-server-token.json";

/// Gets the account's token: out of `state_dir`, or else with what the kubeconfig gives, for which
/// everything that is not there is made.
///
/// # Errors
///
/// `API_SERVER_...`, `BOOTSTRAP_CONFLICT`, `KUBECONFIG_UNSUPPORTED`, and those of the file.
pub fn prepare(access: &Upstream, state_dir: &Path, account: &Account) -> Result<Prepared, Error> {
    if access.server_name != access.url.host {
        let what = "tls-server-name goes with a kubeconfig that is used as it is";
        return Err(Error::new(Code::KubeconfigUnsupported, what).hint(
            "name the host of the server in the kubeconfig, or use --no-bootstrap with an account",
        ));
    }
    let path = state_dir.join(TOKEN_FILE);
    let url = format!("{}{}", access.url, account.token_path());
    let token = match kept(access, account, &path, &url)? {
        Some(token) => token,
        None => make(access, account, &path, &url)?,
    };
    let with_token = Some(Token::Inline(token.token.clone()));
    let requested = Requested { url, roots: Arc::new(access.roots.clone()), path, token };
    Ok(Prepared {
        access: Upstream { identity: None, token: with_token, ..access.clone() },
        token: TokenSource::Requested(Box::new(requested)),
    })
}

/// The token of an earlier start, if it is still good for everything.
fn kept(
    access: &Upstream,
    account: &Account,
    path: &Path,
    url: &str,
) -> Result<Option<AccountToken>, Error> {
    let bytes = match files::read_secret(path, TOKEN_FILE_MAX) {
        Ok(bytes) => bytes,
        Err(why) if why.is_not_found() => return Ok(None),
        Err(why) => return Err(why.into()),
    };
    let token = match AccountToken::from_file(bytes.expose(), url) {
        Ok(token) => token,
        Err(why) => {
            log::warn!("{} is not used: {why}", path.display());
            return Ok(None);
        }
    };
    let api = with_token(access, &token);
    let lost = match account.recognised(&api) {
        Ok(None) if token.is_old(unix_now()) => match account.ask(&api) {
            Ok(token) => {
                keep(path, url, &token)?;
                return Ok(Some(token));
            }
            Err(why) => why.to_string(),
        },
        Ok(None) => return Ok(Some(token)),
        Ok(Some(why)) => why,
        Err(Failure::Refused(401, _)) => "the API server no longer accepts it".to_owned(),
        Err(why) => return Err(refused("cannot look at the account", why)),
    };
    log::warn!("the account's token is lost, so the kubeconfig is used once more: {lost}");
    Ok(None)
}

/// A new token, after making the account as it must be.
fn make(
    access: &Upstream,
    account: &Account,
    path: &Path,
    url: &str,
) -> Result<AccountToken, Error> {
    let administrator = api(access)?;
    objects::apply(&administrator, account)?;
    let failed = |why| refused("cannot get a token for the account", why);
    let token = account.ask(&administrator).map_err(failed)?;
    let own = with_token(access, &token);
    let mut lacks = None;
    let works = own.wait(ACCOUNT_RIGHTS_WAIT, |own| {
        lacks = account.recognised(own)?;
        Ok(lacks.is_none())
    });
    if !works.map_err(failed)? {
        let what = format!("the account was made, but {}", lacks.unwrap_or_default());
        return Err(Error::new(Code::ApiServerForbidden, what)
            .hint("something beside RBAC decides in this cluster; allow it there"));
    }
    keep(path, url, &token)?;
    log::info!("the account {} has a token for the API server", account.user());
    Ok(token)
}

fn keep(path: &Path, url: &str, token: &AccountToken) -> Result<(), Error> {
    Ok(files::write_atomic(path, token.to_file(url).expose(), 0o600)?)
}

impl Account {
    /// What Kubernetes calls it.
    #[must_use]
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }

    fn token_path(&self) -> String {
        format!("/api/v1/namespaces/{}/serviceaccounts/{}/token", self.namespace, self.name)
    }

    fn ask(&self, api: &ApiServer) -> Result<AccountToken, Failure> {
        let answer = api.call("POST", &self.token_path(), Some(&token_request()))?;
        AccountToken::granted(&answer, unix_now())
            .map_err(|why| Failure::Answer(format!("the answer to a TokenRequest: {why}")))
    }

    /// Why who asks is not this account, or not good enough; `None` where all is well.
    fn recognised(&self, api: &ApiServer) -> Result<Option<String>, Failure> {
        match who(api)? {
            Some(user) if user != self.user() => return Ok(Some(format!("it is {user:?}"))),
            _ => (),
        }
        let lacks = privileges::lacks(api, self)?;
        Ok(lacks.map(|what| format!("it may not {what}")))
    }
}

/// Who asks, where the API server is new enough (1.27) to say so.
fn who(api: &ApiServer) -> Result<Option<String>, Failure> {
    for version in ["v1", "v1beta1"] {
        let group = format!("authentication.k8s.io/{version}");
        let review = json!({ "apiVersion": group, "kind": "SelfSubjectReview" });
        match api.call("POST", &format!("/apis/{group}/selfsubjectreviews"), Some(&review)) {
            Ok(answer) => {
                let user = answer.pointer("/status/userInfo/username").and_then(Json::as_str);
                let user = user.ok_or_else(|| Failure::Answer("a review of nobody".to_owned()))?;
                return Ok(Some(user.to_owned()));
            }
            Err(Failure::Refused(404, _)) => (),
            Err(why) => return Err(why),
        }
    }
    Ok(None)
}

/// The server with what `access` has. A token goes before a certificate, as in the data path.
pub(super) fn api(access: &Upstream) -> Result<ApiServer, Error> {
    let credential = match (&access.token, &access.identity) {
        (Some(Token::Inline(token)), _) => Credential::Token(token.clone()),
        (Some(Token::File(path)), _) => Credential::Token(read_token(path)?),
        (None, Some(identity)) => Credential::Certificate(identity.clone()),
        (None, None) => {
            let what = "neither a token nor a client certificate for the API server";
            return Err(Error::new(Code::KubeconfigInvalid, what));
        }
    };
    Ok(server(access, &access.url, credential))
}

fn read_token(path: &Path) -> Result<Secret<String>, Error> {
    let bytes = files::read_limited(path, TOKEN_FILE_MAX)?;
    Ok(Secret::new(String::from_utf8_lossy(&bytes).trim().to_owned()))
}

fn with_token(access: &Upstream, token: &AccountToken) -> ApiServer {
    server(access, &access.url, Credential::Token(token.token.clone()))
}

fn server(access: &Upstream, url: &Url, credential: Credential) -> ApiServer {
    ApiServer::new(url, &access.server_name, &access.roots, credential)
}

/// What the API server did not do, as an error with a code.
pub(super) fn refused(what: &str, why: Failure) -> Error {
    let (code, hint) = match &why {
        Failure::Unreachable(_) => {
            (Code::ApiServerUnreachable, "is it the server of the kubeconfig, and does it run?")
        }
        Failure::Untrusted(_) => (
            Code::ApiServerUntrusted,
            "the certificate authority in the kubeconfig must be that of the API server",
        ),
        Failure::Refused(401, _) => {
            (Code::ApiServerCredential, "take a new kubeconfig from the cluster")
        }
        Failure::Refused(403, _) => (
            Code::ApiServerForbidden,
            "give an administrator's kubeconfig for the first start, or an account and \
             --no-bootstrap",
        ),
        // It starts, or has too much to do.
        Failure::Refused(429 | 502..=504, _) => {
            (Code::ApiServerUnreachable, "the API server is there, but does not serve")
        }
        Failure::Refused(..) | Failure::Answer(_) => {
            (Code::ApiServerAnswer, "the API server's log has more")
        }
    };
    Error::new(code, format!("{what}: {why}")).hint(hint)
}

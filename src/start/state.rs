//! Keys that are made where they are used, and stay there: the auth proxy's CA, the agent's key.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ring::rand::{SecureRandom, SystemRandom};
use rustls::ServerConfig;
use rustls::time_provider::DefaultTimeProvider;

use super::shared;
use crate::auth::certify::{AgentKey, Authority, Unfit};
use crate::config::agent::State;
use crate::config::errors::{Code, Error};
use crate::engine::tlsconf::{self, Identity, Versions};
use crate::engine::tunnel::{ALPN_BENCH, ALPN_HTTP, ALPN_MUX};
use crate::io::{Chore, files};
use crate::limits::SECRET_FILE_MAX;
use crate::secret::Secret;
use crate::wire::resource::ResourceId;

/// Something that is made at the first start: the name of its file, and how it is made for a
/// cluster. A process names those that it uses, so that it holds the makers of no others.
pub(super) type Made = (&'static str, fn(&ResourceId) -> Result<Secret<String>, Unfit>);

/// The auth proxy's CA.
pub(super) const AUTHORITY: Made = ("authority.pem", |cluster| {
    Authority::create(&[&cluster.server_name()]).map(|authority| authority.to_pem())
});

/// The agent's key.
pub(super) const AGENT_KEY: Made =
    ("agent-key.pem", |_| AgentKey::create(&SystemRandom::new()).map(|key| key.to_pem()));

/// The directory of `state`, made if it is not there; for a Secret, the one that `keys` of it were
/// copied to.
pub(super) fn directory(
    state: &State,
    cluster: &ResourceId,
    keys: &[Made],
) -> Result<PathBuf, Error> {
    match state {
        State::Directory(path) => {
            files::private_directory(path)?;
            Ok(path.clone())
        }
        State::Secret(name) => shared::fetch(name, cluster, keys),
    }
}

/// The authority for `names`, made at the first start: its key in `dir/authority.pem`, and its
/// certificate, which is for others, in `dir/ca.pem`.
pub(super) fn authority(dir: &Path, names: &[&str]) -> Result<Authority, Error> {
    let path = dir.join(AUTHORITY.0);
    let bytes = kept(&path, || Ok(Authority::create(names)?.to_pem()))?;
    let authority = Authority::from_pem(names, bytes.expose(), unix_now())
        .map_err(|why| broken(&path, &why))?;
    let public = authority.certificate_pem();
    files::write_atomic(&dir.join("ca.pem"), public.as_bytes(), 0o644)?;
    Ok(authority)
}

/// The agent's key in `dir/agent-key.pem`, made at the first start.
pub(super) fn agent_key(dir: &Path) -> Result<AgentKey, Error> {
    let path = dir.join(AGENT_KEY.0);
    let bytes = kept(&path, || Ok(AgentKey::create(&SystemRandom::new())?.to_pem()))?;
    AgentKey::from_pem(bytes.expose(), &SystemRandom::new()).map_err(|why| broken(&path, &why))
}

/// The end-to-end session's side of the auth proxy, under certificates of `authority`.
pub(super) fn session_tls(
    authority: Authority,
    measures: bool,
) -> Result<(Arc<ServerConfig>, Chore), Error> {
    let protocols: &[&[u8]] = &[ALPN_MUX, ALPN_HTTP, ALPN_BENCH];
    let offered = if measures { protocols } else { &protocols[..2] };
    server(authority, offered, Versions::Newest)
}

/// A TLS server under a new certificate of `authority`, and the chore that makes the next ones.
pub(super) fn server(
    authority: Authority,
    alpn: &[&[u8]],
    versions: Versions,
) -> Result<(Arc<ServerConfig>, Chore), Error> {
    let server = tlsconf::server(leaf(&authority)?, alpn, versions, Arc::new(DefaultTimeProvider))
        .map_err(|why| Error::new(Code::Internal, why.to_string()))?;
    let current = server.current;
    let act = Box::new(move || {
        let renewed = leaf(&authority).and_then(|leaf| {
            current.replace(leaf).map_err(|why| Error::new(Code::Internal, why.to_string()))
        });
        match renewed {
            Ok(()) => log::info!("a new certificate is in use"),
            Err(why) => log::error!("the certificate cannot be renewed: {}", why.message),
        }
    });
    Ok((server.config, Chore { every: Authority::renew_after(), act }))
}

fn leaf(authority: &Authority) -> Result<Identity, Error> {
    let mut serial = [0; 16];
    SystemRandom::new()
        .fill(&mut serial)
        .map_err(|_| Error::new(Code::Internal, "the system gives no random bytes"))?;
    authority.leaf(unix_now(), serial).map_err(internal)
}

pub(super) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What is in a file, or what `make` gives and the file has from then on.
fn kept(
    path: &Path,
    make: impl FnOnce() -> Result<Secret<String>, Unfit>,
) -> Result<Secret<Vec<u8>>, Error> {
    match files::read_secret(path, SECRET_FILE_MAX) {
        Ok(bytes) => Ok(bytes),
        Err(why) if why.is_not_found() => {
            let text = make().map_err(internal)?;
            files::write_atomic(path, text.expose().as_bytes(), 0o600)?;
            Ok(Secret::new(text.expose().clone().into_bytes()))
        }
        Err(why) => Err(why.into()),
    }
}

fn internal(why: Unfit) -> Error {
    Error::new(Code::Internal, why.to_string())
}

fn broken(path: &Path, why: &Unfit) -> Error {
    Error::new(Code::TlsFileInvalid, format!("{}: {why}", path.display()))
        .hint("the file was made by this program; a damaged one is best replaced from a copy")
}

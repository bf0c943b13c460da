//! An agent from its configuration.

use std::path::Path;
use std::sync::Arc;

use ring::rand::SystemRandom;
use rustls::pki_types::CertificateDer;
use rustls::time_provider::DefaultTimeProvider;

use super::{announce, audit, drive, log, reactor, say, state};
use crate::config::agent::{Agent as Config, Joining, Way};
use crate::config::args::SecretSource;
use crate::config::errors::{Code, Error};
use crate::config::values::Place;
use crate::engine::tlsconf::{self, Versions};
use crate::io::{files, roots};
use crate::limits::CERTIFICATES_MAX;
use crate::role::agent::{self, Agent, AgentKey, Enrolment, Source};
use crate::role::shared_key::SharedKey;
use crate::role::{Endpoint, Notice};
use crate::wire::url::{Url, authority_parts};

/// Runs until it is told to stop.
pub(super) fn run(config: &Config) -> Result<u8, Error> {
    log(config.log)?;
    let dir =
        state::directory(&config.joining.state, &config.joining.cluster, &[state::AGENT_KEY])?;
    let enrols = match &config.enrols {
        Some(auth_proxy) => (certificate(&auth_proxy.ca)?, auth_proxy.audiences.clone()),
        None => (CertificateDer::from(Vec::new()), Vec::new()),
    };
    let to = match &config.auth_proxy {
        Place::Tcp(address) => Endpoint::Tcp {
            host: address.ip().to_string(),
            port: address.port(),
            tls: None,
            via: None,
        },
        Place::Unix(path) => Endpoint::Unix(path.clone()),
    };
    let (role, text) = role(&config.joining, &dir, enrols, to)?;
    drive(reactor(role, audit(None)?, None, None)?, |notice| match notice {
        Notice::Ready => announce(&text),
        Notice::Say(text) => say(&text),
        Notice::Exit(..) | Notice::Measured(_) => (),
    })
}

/// The one certificate in a file.
pub(super) fn certificate(path: &Path) -> Result<CertificateDer<'static>, Error> {
    let place = path.display();
    let pem = files::read_limited(path, CERTIFICATES_MAX)?;
    let mut all = tlsconf::certificates(&pem)
        .map_err(|why| Error::new(Code::TlsFileInvalid, format!("{place}: {why}")))?;
    match (all.pop(), all.is_empty()) {
        (Some(certificate), true) => Ok(certificate),
        (Some(_) | None, _) => {
            let what = format!("{place}: the CA of an auth proxy is one certificate");
            Err(Error::new(Code::TlsFileInvalid, what))
        }
    }
}

/// The role, and what is said when it is connected. Its key is in `dir`; it enrols an auth proxy
/// with a CA and audiences.
pub(super) fn role(
    joining: &Joining,
    dir: &Path,
    enrols: (CertificateDer<'static>, Vec<String>),
    auth_proxy: Endpoint,
) -> Result<(Agent, String), Error> {
    let trusted = roots::load(joining.relay_ca.as_deref())
        .map_err(|why| Error::from_roots(why, Code::TlsFileInvalid))?;
    let tls = tlsconf::client(
        &trusted,
        None,
        &[b"http/1.1"],
        Versions::Both,
        Arc::new(DefaultTimeProvider),
    )
    .map_err(|why| Error::new(Code::TlsFileInvalid, why.to_string()))?;
    let (source, relay, secure) = match &joining.way {
        Way::Enrolment { relay, join_token } => {
            let mut enrolment = enrolment(joining, relay, join_token.as_ref(), dir, enrols)?;
            enrolment.roots = joining.relay_ca.is_some().then(|| Arc::new(trusted));
            (Source::Enrolment(Box::new(enrolment)), relay.authority(), relay.tls)
        }
        Way::ConnectionString(source) => {
            let key = shared_key(source)?;
            let relay = key.relay.clone();
            (Source::Key(key), relay, true)
        }
    };
    let host = authority_parts(&relay).map_or_else(|_| relay.clone(), |(host, _)| host);
    let mut config = agent::Config::new(source, secure.then_some(tls), auth_proxy);
    config.via = joining.egress.via(&host);
    let text = format!("cluster {} is connected to {relay}", joining.cluster.name());
    Ok((Agent::new(config), text))
}

/// What a connection string gives. One in a file is read again later.
pub(super) fn shared_key(source: &SecretSource) -> Result<SharedKey, Error> {
    let key = SharedKey::parse(source.read()?.expose()).map_err(|why| {
        Error::new(Code::ConnectionStringInvalid, why.to_string())
            .hint("az relay hyco authorization-rule keys list shows one with its EntityPath")
    })?;
    let file = match source {
        SecretSource::File(path) => Some(path.clone()),
        SecretSource::Inline(_) => None,
    };
    Ok(SharedKey { file, ..key })
}

fn enrolment(
    joining: &Joining,
    relay: &Url,
    join_token: Option<&SecretSource>,
    dir: &Path,
    (certificate, audiences): (CertificateDer<'static>, Vec<String>),
) -> Result<Enrolment, Error> {
    let key = state::agent_key(dir)?;
    let public = key.public_point().to_vec();
    let join_token = match join_token {
        Some(source) => match source.read() {
            Ok(token) => Some(token),
            // A token is needed once; the file may be gone after that.
            Err(why) if dir.join(NOTE).exists() => {
                log::info!("enrolled already, the join token is not needed: {why}");
                None
            }
            Err(why) => return Err(why),
        },
        None => None,
    };
    let scheme = if relay.tls { "https" } else { "http" };
    Ok(Enrolment {
        api: format!("{scheme}://{}", relay.authority()),
        roots: None,
        resource: joining.cluster.id(),
        cluster: joining.cluster.cluster_id(),
        key: AgentKey {
            public,
            sign: Box::new(move |bytes| key.sign_bytes(bytes, &SystemRandom::new()).ok()),
        },
        join_token,
        certificate: certificate.to_vec(),
        audiences,
        state: dir.join(NOTE),
    })
}

/// Where it is noted that the agent is enrolled.
const NOTE: &str = "enrolled.json";

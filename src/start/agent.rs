//! An agent from its configuration.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::time_provider::DefaultTimeProvider;

use super::{announce, audit, drive, log, reactor, say, state};
use crate::config::agent::{Agent as Config, Joining};
use crate::config::errors::{Code, Error};
use crate::config::values::Place;
use crate::engine::tlsconf::{self, Versions};
use crate::io::{files, roots};
use crate::limits::CERTIFICATES_MAX;
use crate::role::agent::{self, Agent, AgentKey, Enrolment, Source};
use crate::role::{Endpoint, Notice};

/// Runs until it is told to stop.
pub(super) fn run(config: &Config) -> Result<u8, Error> {
    log(config.log)?;
    let dir = state::directory(&config.joining.state, &config.joining.cluster)?;
    let pem = files::read_limited(&config.auth_proxy_ca, CERTIFICATES_MAX)?;
    let certificate = tlsconf::certificates(&pem).map_err(|why| {
        let place = config.auth_proxy_ca.display();
        Error::new(Code::TlsFileInvalid, format!("{place}: {why}"))
    })?;
    let [certificate] = certificate.as_slice() else {
        let place = config.auth_proxy_ca.display();
        let what = format!("{place}: the CA of the auth proxy is one certificate");
        return Err(Error::new(Code::TlsFileInvalid, what));
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
    let role = role(&config.joining, &dir, certificate, config.auth_proxy_audiences.clone(), to)?;
    let text = connected(&config.joining);
    drive(reactor(role, audit(None)?, None, None)?, |notice| match notice {
        Notice::Ready => announce(&text),
        Notice::Say(text) => say(&text),
        Notice::Exit(..) | Notice::Measured(_) => (),
    })
}

/// What is said when the control channel is up.
pub(super) fn connected(joining: &Joining) -> String {
    format!("cluster {} is connected to {}", joining.cluster.name(), joining.relay.authority())
}

/// The role, whose key is in `dir`. It enrols the auth proxy with the CA `certificate`.
pub(super) fn role(
    joining: &Joining,
    dir: &Path,
    certificate: &CertificateDer<'static>,
    audiences: Vec<String>,
    auth_proxy: Endpoint,
) -> Result<Agent, Error> {
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
    let key = state::agent_key(dir)?;
    let public = key.public_point().to_vec();
    let join_token = match &joining.join_token {
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
    let relay = &joining.relay;
    let scheme = if relay.tls { "https" } else { "http" };
    let enrolment = Enrolment {
        api: format!("{scheme}://{}", relay.authority()),
        roots: joining.relay_ca.is_some().then(|| Arc::new(trusted)),
        resource: joining.cluster.id(),
        cluster: joining.cluster.cluster_id(),
        key: AgentKey { public, sign: Box::new(move |bytes| key.sign_bytes(bytes).ok()) },
        join_token,
        certificate: certificate.to_vec(),
        audiences,
        state: dir.join(NOTE),
    };
    let mut config = agent::Config::new(
        Source::Enrolment(Box::new(enrolment)),
        relay.tls.then_some(tls),
        auth_proxy,
    );
    config.via = joining.egress.via(&relay.host);
    Ok(Agent::new(config))
}

/// Where it is noted that the agent is enrolled.
const NOTE: &str = "enrolled.json";

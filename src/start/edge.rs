//! An edge from its configuration: agent and auth proxy on one loop.

use super::{agent, announce, audit, auth_proxy, drive, log, reactor, say, state, upstream};
use crate::config::auth_proxy::ApiServer;
use crate::config::edge::Edge as Config;
use crate::config::errors::Error;
use crate::role::edge::Edge;
use crate::role::{Endpoint, ListenerTag, Notice};

/// Runs until it is told to stop.
pub(super) fn run(config: &Config) -> Result<u8, Error> {
    log(config.log)?;
    let joining = &config.joining;
    let dir =
        state::directory(&joining.state, &joining.cluster, &[state::AUTHORITY, state::AGENT_KEY])?;
    let authority = state::authority(&dir, &[&joining.cluster.server_name()])?;
    auth_proxy::tell_fingerprint(&authority);
    let (upstream, api) = match (&config.gate.api, config.no_bootstrap) {
        (ApiServer::Kubeconfig(..), false) => upstream::as_account(&config.gate, &dir)?,
        (ApiServer::Kubeconfig(..), true) | (ApiServer::InCluster, _) => {
            upstream::as_given(&config.gate)?
        }
    };
    let certificate = authority.certificate().clone();
    let (inner, chore) = auth_proxy::role(&config.gate, authority, upstream, api)?;
    let enrols = (certificate, config.gate.issuers.audiences());
    let (outer, text) =
        agent::role(joining, &dir, enrols, Endpoint::Local(ListenerTag::AuthProxy))?;
    let audit = audit(config.gate.audit_log.as_deref())?;
    let mut reactor = reactor(Edge::new(outer, inner), audit, None, Some(chore))?;
    auth_proxy::listen_admin(&mut reactor, config.admin.as_ref())?;
    drive(reactor, |notice| match notice {
        Notice::Ready => announce(&text),
        Notice::Say(text) => say(&text),
        Notice::Exit(..) | Notice::Measured(_) => (),
    })
}

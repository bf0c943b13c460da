//! An auth proxy from its configuration.

use super::{announce, audit, drive, issuers, log, reactor, relay, say, state, upstream};
use crate::auth::certify::{Authority, Fingerprint};
use crate::config::auth_proxy::{AuthProxy as Config, Gate, Impersonation};
use crate::config::errors::{Code, Error};
use crate::config::values::Place;
use crate::io::{Bind, Chore};
use crate::role::auth_proxy::{self, AuthProxy};
use crate::role::{ListenerTag, Notice};

/// Runs until it is told to stop.
pub(super) fn run(config: &Config) -> Result<u8, Error> {
    log(config.log)?;
    let dir = state::directory(&config.state, &config.cluster)?;
    let authority = state::authority(&dir, &[&config.cluster.server_name()])?;
    tell_fingerprint(&authority);
    let upstream = upstream::as_given(&config.gate)?;
    let (role, chore) = role(&config.gate, authority, upstream)?;
    let audit = audit(config.gate.audit_log.as_deref())?;
    let mut reactor = reactor(role, audit, None, Some(chore))?;
    let (bind, place) = match &config.listen {
        Place::Tcp(address) => (Bind::Tcp(*address), address.to_string()),
        Place::Unix(path) => (Bind::Unix(path.clone()), path.display().to_string()),
    };
    let bound = reactor
        .listen(ListenerTag::Main, &bind, None)
        .map_err(|err| relay::port_taken(&place, &err))?;
    let place = bound.map_or(place, |address| address.to_string());
    let text = format!("auth proxy of {} listens on {place}", config.cluster.name());
    drive(reactor, |notice| match notice {
        Notice::Ready => announce(&text),
        Notice::Say(text) => say(&text),
        Notice::Exit(..) => (),
    })
}

/// Says what users may compare.
pub(super) fn tell_fingerprint(authority: &Authority) {
    say(&format!("the cluster's CA: {}", Fingerprint::of(authority.certificate())));
}

/// The role, and the chore that renews its certificate.
pub(super) fn role(
    gate: &Gate,
    authority: Authority,
    upstream: auth_proxy::upstream::Upstream,
) -> Result<(AuthProxy, Chore), Error> {
    if gate.impersonation == Impersonation::Sar {
        let what = "--impersonation=sar is not in this build";
        return Err(Error::new(Code::NotAvailable, what));
    }
    let passthrough = match &gate.passthrough {
        Some(passthrough) => Some(passthrough.issuer.clone().ok_or_else(|| {
            Error::new(Code::Usage, "--sa-passthrough needs the cluster's service-account issuer")
                .hint("kubectl get --raw /.well-known/openid-configuration shows it")
        })?),
        None => None,
    };
    let keys = issuers::keys(&gate.issuers, gate.possession.clone(), passthrough.clone())?;
    let (tls, chore) = state::session_tls(authority)?;
    let config = auth_proxy::Config {
        tls,
        upstream,
        sa_passthrough: passthrough.is_some(),
        session_max: gate.session_max,
        audit_fail_open: false,
    };
    Ok((AuthProxy::new(config, keys), chore))
}

//! An auth proxy from its configuration.

use std::sync::Arc;

use super::{announce, audit, drive, issuers, log, reactor, relay, say, state, upstream};
use crate::auth::Unverified;
use crate::auth::certify::{Authority, Fingerprint};
use crate::auth::fields::HeaderPolicy;
use crate::config::auth_limits::Limits;
use crate::config::auth_proxy::{AuthProxy as Config, Gate, Impersonation};
use crate::config::errors::{Code, Error};
use crate::config::values::Place;
use crate::io::{Bind, Chore, Reactor, files};
use crate::limits::{BUILT_AFTER, TOKEN_FILE_MAX};
use crate::role::auth_proxy::question::Api;
use crate::role::auth_proxy::upstream::TokenSource;
use crate::role::auth_proxy::{self, AuthProxy, Guesses, InFlight};
use crate::role::{ListenerTag, Notice, Role};
use crate::secret::Secret;

/// Runs until it is told to stop.
pub(super) fn run(config: &Config) -> Result<u8, Error> {
    log(config.log)?;
    let dir = state::directory(&config.state, &config.cluster, &[state::AUTHORITY])?;
    let authority = state::authority(&dir, &[&config.cluster.server_name()])?;
    tell_fingerprint(&authority);
    let (upstream, api) = upstream::as_given(&config.gate)?;
    let (role, chore) = role(&config.gate, authority, upstream, api)?;
    let audit = audit(config.gate.audit_log.as_deref())?;
    let mut reactor = reactor(role, audit, None, Some(chore))?;
    let (bind, place) = match &config.listen {
        Place::Tcp(address) => (Bind::Tcp(*address), address.to_string()),
        Place::Unix(path) => (Bind::Unix(path.clone()), path.display().to_string()),
    };
    let bound = reactor
        .listen(ListenerTag::Main, &bind, None)
        .map_err(|err| relay::port_taken(&place, &err))?;
    listen_admin(&mut reactor, config.admin.as_ref())?;
    let place = bound.map_or(place, |address| address.to_string());
    let text = format!("auth proxy of {} listens on {place}", config.cluster.name());
    drive(reactor, |notice| match notice {
        Notice::Ready => announce(&text),
        Notice::Say(text) => say(&text),
        Notice::Exit(..) | Notice::Measured(_) => (),
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
    api: Result<Api, Error>,
) -> Result<(AuthProxy, Chore), Error> {
    check_clock(state::unix_now())?;
    let own = own_token(&upstream.token)?;
    let is_asked = gate.passthrough.is_some() || gate.impersonation == Impersonation::Sar;
    if is_asked && own.is_none() {
        let what = "--sa-passthrough and --impersonation sar need a token for the API server: a \
                    client certificate cannot ask on behalf of callers";
        return Err(Error::new(Code::Usage, what));
    }
    let passthrough = match (&gate.passthrough, own) {
        (Some(passthrough), Some(own)) => Some(match &passthrough.issuer {
            Some(issuer) => issuer.clone(),
            None => issuer_of(&own)?,
        }),
        (Some(_) | None, _) => None,
    };
    let keys = issuers::keys(&gate.issuers, gate.possession.clone(), passthrough.clone())?;
    let groups = issuers::groups(&gate.issuers, keys.verifier())?;
    let (tls, chore) = state::session_tls(authority, 0 < gate.bench_rate)?;
    let mut config = auth_proxy::Config::new(tls, upstream);
    config.groups = groups;
    if is_asked {
        let audiences = gate.passthrough.as_ref().map(|it| it.audiences.clone());
        config.api = Some(Api { audiences: audiences.unwrap_or_default(), ..api? });
    }
    config.sa_passthrough = passthrough.is_some();
    config.impersonation = gate.impersonation == Impersonation::Sar;
    config.verbs = gate.verbs;
    config.session_max = gate.session_max;
    config.session_ends_with_token = gate.session_ends_with_token;
    if gate.header_allowlist {
        config.header_policy = HeaderPolicy::AllowList;
    }
    config.deny_browser_origins = gate.deny_browser_origins;
    limit(&mut config, &gate.limits);
    config.audit_fail_open = gate.audit_fail_open;
    config.probe_rate = gate.bench_rate;
    Ok((AuthProxy::new(config, keys), chore))
}

fn limit(config: &mut auth_proxy::Config, limits: &Limits) {
    config.in_flight =
        InFlight { caller: limits.per_user, session: limits.per_tunnel, all: limits.total };
    let Limits { refusals, verifications, .. } = *limits;
    config.guesses = Guesses { refusals, verifications };
    config.sessions = limits.sessions;
    config.spares = limits.spares;
    config.times = Arc::new(limits.times);
    if let Some(api) = &mut config.api {
        api.questions = limits.questions;
    }
}

/// Binds the listener for operators, if there is to be one.
pub(super) fn listen_admin<R: Role>(
    reactor: &mut Reactor<R>,
    place: Option<&Place>,
) -> Result<(), Error> {
    let (bind, text) = match place {
        None => return Ok(()),
        Some(Place::Tcp(address)) => (Bind::Tcp(*address), address.to_string()),
        Some(Place::Unix(path)) => (Bind::Unix(path.clone()), path.display().to_string()),
    };
    let bound = reactor
        .listen(ListenerTag::Admin, &bind, None)
        .map_err(|err| relay::port_taken(&text, &err))?;
    say(&format!("health and metrics are on {}", bound.map_or(text, |it| it.to_string())));
    Ok(())
}

/// Tokens cannot be judged by a clock that is behind the making of this version.
fn check_clock(unix_now: u64) -> Result<(), Error> {
    if BUILT_AFTER <= unix_now {
        return Ok(());
    }
    let what = format!("the clock is wrong: it shows {unix_now} seconds since 1970");
    Err(Error::new(Code::NotAvailable, what).hint("set the clock, and start again"))
}

/// The auth proxy's own token as it is at the start.
fn own_token(source: &TokenSource) -> Result<Option<Secret<String>>, Error> {
    match source {
        TokenSource::Certificate => Ok(None),
        TokenSource::Fixed(token) => Ok(Some(token.clone())),
        TokenSource::Requested(requested) => Ok(Some(requested.token.token.clone())),
        TokenSource::File(path) => {
            let bytes = files::read_limited(path, TOKEN_FILE_MAX)?;
            let text = String::from_utf8_lossy(&bytes).trim().to_owned();
            Ok(Some(Secret::new(text)))
        }
    }
}

/// The issuer of service accounts is whoever has issued our own token.
fn issuer_of(own: &Secret<String>) -> Result<String, Error> {
    let read = Unverified::parse(own.expose()).map(|token| token.issuer().to_owned());
    read.map_err(|_| {
        let what = "the own token does not tell the issuer of service accounts";
        Error::new(Code::Usage, what)
            .hint("give --sa-issuer; kubectl get --raw /.well-known/openid-configuration shows it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_from_before_this_version_is_refused() {
        assert!(check_clock(BUILT_AFTER).is_ok());
        for behind in [0, 1_000_000_000, BUILT_AFTER - 1] {
            assert_eq!(check_clock(behind).map_err(|why| why.code), Err(Code::NotAvailable));
        }
    }

    #[test]
    fn the_issuer_of_service_accounts_is_read_from_the_own_token() {
        let part = |text: &str| crate::wire::jws::encode_base64url(text.as_bytes());
        let claims = part(r#"{"iss":"https://kubernetes.default.svc","exp":1}"#);
        let token = format!("{}.{claims}.{}", part(r#"{"alg":"RS256","kid":"k"}"#), part("s"));
        let issuer = issuer_of(&Secret::new(token));
        assert_eq!(issuer.ok().as_deref(), Some("https://kubernetes.default.svc"));
        for opaque in ["", "s3cret", "a.b.c"] {
            let why = issuer_of(&Secret::new(opaque.to_owned())).map_err(|why| why.code);
            assert_eq!(why, Err(Code::Usage), "{opaque}");
        }
    }
}

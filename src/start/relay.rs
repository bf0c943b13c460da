//! A relay from its configuration.

use std::path::Path;
use std::sync::Arc;

use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::ServerConfig;
use rustls::time_provider::DefaultTimeProvider;

use super::auth_proxy::listen_admin;
use super::{announce, audit, buffers, cannot_start, drive, issuers, log, say, state};
use crate::auth::Verifier;
use crate::auth::certify::Fingerprint;
use crate::auth::pop::Possession;
use crate::config::errors::{Code, Error};
use crate::config::relay::{Relay as Config, Tls};
use crate::engine::tlsconf::{self, Current, Identity, Versions};
use crate::io::files;
use crate::io::store::Store;
use crate::io::{Bind, Chore, Journal, Limits, Place, Reactor, Setup, environment};
use crate::limits::{
    BUFFERS, BUFFERS_KEPT, BUFFERS_LEAST, CERTIFICATE_CHECK, CERTIFICATES_MAX, CONNS_MAX,
    LOOP_BUFFERS_MIN, LOOPS_MAX, SECRET_FILE_MAX,
};
use crate::role::relay::api::{Api, Issuer, Settings};
use crate::role::relay::desk::Desk;
use crate::role::relay::provider::{Download, Provider};
use crate::role::relay::pump::Pump;
use crate::role::relay::registry::{Ledger, Request, encode};
use crate::role::relay::{self, Relay};
use crate::role::{ListenerTag, Note, Notice, State as _};

/// Runs until it is told to stop.
pub(super) fn run(config: &Config) -> Result<u8, Error> {
    log(config.log)?;
    for warning in config.warnings() {
        say(&warning.to_string());
    }
    let (mut store, mut ledger) = open(&config.state_dir)?;
    initialise(&mut store, &mut ledger)?;
    let admin_token = store.admin_token().map_err(|why| unusable(&why))?;
    let token_path = store.admin_token_path();
    let keys = issuers::keys(&config.issuers, Possession::Off, None)?;
    let mut seed = [0; 32];
    SystemRandom::new()
        .fill(&mut seed)
        .map_err(|_| Error::new(Code::Internal, "the system gives no random bytes"))?;
    let api = Api::new(settings(config, keys.verifier()), admin_token, &seed);
    let provider = Provider::new(Desk::new(api, ledger), keys, own_executable());
    let (tls, chore) = tls(config)?.unzip();
    let loops = config.loops.unwrap_or_else(|| environment::cores().min(LOOPS_MAX));
    let role = Relay::new(
        relay::Config {
            public_host: config.public_name.clone(),
            secure: tls.is_some(),
            senders_max: config.senders_max,
            caller_senders_max: config.caller_senders_max,
            loops,
            ..relay::Config::default()
        },
        Box::new(provider),
    );
    let audit = audit(config.audit_log.as_deref())?;
    let buffers = share(buffers(environment::memory_limit()), loops);
    let limits = Limits { conns: CONNS_MAX, buffers, keep: BUFFERS_KEPT };
    let (place, others) = Place::first(loops).map_err(|err| cannot_start(&err))?;
    for other in others {
        other.spawn(Pump::new, limits).map_err(|err| cannot_start(&err))?;
    }
    let setup = Setup { limits, audit, journal: Some(journal(store)), chore };
    let mut reactor = Reactor::at(place, role, setup).map_err(|err| cannot_start(&err))?;
    let mut places = Vec::new();
    for address in &config.listen {
        let bound = reactor
            .listen(ListenerTag::Main, &Bind::Tcp(*address), tls.clone())
            .map_err(|err| port_taken(&address.to_string(), &err))?;
        places.extend(bound.map(|address| address.to_string()));
    }
    listen_admin(&mut reactor, config.admin.as_ref())?;
    let text = format!(
        "relay listens on {}; the admin token is in {}",
        places.join(", "),
        token_path.display()
    );
    drive(reactor, |notice| match notice {
        Notice::Ready => announce(&text),
        Notice::Say(text) => say(&text),
        Notice::Exit(..) | Notice::Measured(_) => (),
    })
}

/// A listening address that cannot be had.
pub(super) fn port_taken(address: &str, err: &std::io::Error) -> Error {
    Error::new(Code::PortTaken, format!("cannot listen on {address}: {err}"))
        .hint("another process may have the port: choose another one with --listen")
}

fn open(dir: &Path) -> Result<(Store, Ledger), Error> {
    let (mut store, records) = Store::open(dir).map_err(|why| unusable(&why))?;
    let ledger = Ledger::replay(records.iter()).map_err(|(number, why)| {
        Error::new(Code::StateUnusable, format!("{}: record {number}: {why}", dir.display()))
    })?;
    if store.wants_compaction() {
        store.compact(ledger.registry().records()).map_err(|why| unusable(&why))?;
    }
    Ok((store, ledger))
}

fn journal(mut store: Store) -> Journal {
    Box::new(move |note| {
        let written = match &note {
            Note::Append(record) => store.append(record),
            Note::Rewrite(state) => store.compact(state.records()),
        };
        written.map_err(|why| why.to_string())?;
        Ok(store.wants_compaction())
    })
}

fn initialise(store: &mut Store, ledger: &mut Ledger) -> Result<(), Error> {
    let random = SystemRandom::new();
    let changes = ledger
        .registry()
        .plan(Request::Initialise, state::unix_now(), &mut |into| {
            random.fill(into).expect("the system gives random bytes");
        })
        .unwrap_or_default();
    if changes.is_empty() {
        return Ok(());
    }
    store.append(&encode(&changes)).map_err(|why| unusable(&why))?;
    if ledger.begin(changes).is_ok() {
        ledger.finish(true);
    }
    Ok(())
}

fn unusable(why: &dyn std::fmt::Display) -> Error {
    Error::new(Code::StateUnusable, why.to_string())
}

fn settings(config: &Config, verifier: &Verifier) -> Settings {
    let mut issuers: Vec<Issuer> = verifier
        .issuers()
        .iter()
        .map(|issuer| Issuer {
            issuer: issuer.canonical_name(),
            tenant: issuer.tenant().map(str::to_owned),
            name_is_subject: issuer.subject_of("alice").is_some(),
        })
        .collect();
    // The two forms of an Entra ID tenant have one name.
    issuers.dedup();
    Settings {
        public_name: config.public_name.clone(),
        // With a name to give out and no TLS, something in front has it.
        secure: config.tls != Tls::Off || config.public_name.is_some(),
        audiences: config.issuers.audiences(),
        issuers,
        send_token_life: config.send_token_lifetime,
    }
}

fn tls(config: &Config) -> Result<Option<(Arc<ServerConfig>, Chore)>, Error> {
    match &config.tls {
        Tls::Off => Ok(None),
        Tls::Files { certificate, key } => {
            let identity = identity(certificate, key)?;
            let time = Arc::new(DefaultTimeProvider);
            let server = tlsconf::server(identity, &[b"http/1.1"], Versions::Both, time)
                .map_err(|why| Error::new(Code::TlsFileInvalid, why.to_string()))?;
            let (certificate, key) = (certificate.clone(), key.clone());
            let act = Box::new(move || reload(&certificate, &key, &server.current));
            Ok(Some((server.config, Chore { every: CERTIFICATE_CHECK, act })))
        }
        Tls::SelfSigned(names) => {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let authority = state::authority(&config.state_dir, &names)?;
            let path = config.state_dir.join("ca.pem");
            say(&format!(
                "agents and clients need --relay-ca {} ({})",
                path.display(),
                Fingerprint::of(authority.certificate())
            ));
            state::server(authority, &[b"http/1.1"], Versions::Both).map(Some)
        }
    }
}

fn identity(certificate: &Path, key: &Path) -> Result<Identity, Error> {
    let chain = files::read_limited(certificate, CERTIFICATES_MAX)?;
    let secret = files::read_secret(key, SECRET_FILE_MAX)?;
    Identity::from_pem(&chain, secret.expose()).map_err(|why| {
        let place = format!("{} and {}", certificate.display(), key.display());
        Error::new(Code::TlsFileInvalid, format!("{place}: {why}"))
    })
}

/// Shows what the files hold now; files that are being written are read again the next time.
fn reload(certificate: &Path, key: &Path, current: &Current) {
    let replaced = identity(certificate, key).and_then(|identity| {
        current.replace(identity).map_err(|why| Error::new(Code::TlsFileInvalid, why.to_string()))
    });
    if let Err(why) = replaced {
        ::log::warn!("the certificate in use stays: {}", why.message);
    }
}

/// This executable, for `/download`. One that cannot be read is not handed out.
fn own_executable() -> Option<Download> {
    let bytes = environment::own_executable()?;
    let sum = digest::digest(&digest::SHA256, &bytes);
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    Some(Download {
        platform: format!("{}/{arch}", std::env::consts::OS),
        sha256: crate::wire::resource::hex(sum.as_ref()),
        bytes: Arc::new(bytes),
    })
}

/// Buffers of each loop. Those of a machine without a limit are for many loops too few to serve
/// each well, and it may have more; where memory is limited it must not.
fn share(all: usize, loops: usize) -> usize {
    let least = if all == BUFFERS { LOOP_BUFFERS_MIN } else { BUFFERS_LEAST };
    (all / loops).max(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_has_its_share_of_the_buffers_and_never_too_few() {
        assert_eq!(share(BUFFERS, 1), BUFFERS);
        assert_eq!(share(BUFFERS, 2), (BUFFERS / 2).max(LOOP_BUFFERS_MIN));
        for loops in 1..=LOOPS_MAX {
            let unlimited = share(BUFFERS, loops);
            assert!(LOOP_BUFFERS_MIN <= unlimited && BUFFERS / loops <= unlimited, "{loops}");
            // Under a limit all of them together stay below it, but for the least that works.
            let all = BUFFERS / 4;
            let limited = share(all, loops);
            assert!(BUFFERS_LEAST <= limited, "{loops}");
            assert!(limited == BUFFERS_LEAST || limited * loops <= all, "{loops}: {limited}");
        }
    }
}

//! A client proxy from its configuration: the local listener, the kubeconfig that leads to it, and
//! for `run` the command behind it.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use rustls::time_provider::DefaultTimeProvider;

use super::{agent, audit, drive, log, print, reactor, relay, say, state};
use crate::auth::certify::{Authority, LOOPBACK_NAMES};
use crate::config::errors::{Code, Error};
use crate::config::proxy::{Proxy as Config, Target, Way};
use crate::config::values::Output;
use crate::engine::probe::Plan;
use crate::engine::tlsconf::{self, Versions};
use crate::io::kubeconfig::{self, Installed};
use crate::io::{Bind, Child, Stopper, files, roots};
use crate::limits::KNOWN_HOSTS_MAX;
use crate::role::client_proxy::admission::Bearer;
use crate::role::client_proxy::known::Known;
use crate::role::client_proxy::{self, ClientProxy, Shared, route};
use crate::role::{ListenerTag, Notice};
use crate::wire::kubeconfig::{Entry, Kubeconfig, Malformed};
use crate::wire::url::Url;

/// Runs until it is told to stop, or until `command` has ended, whose exit code it passes on.
pub(super) fn run(config: Config, command: Option<Vec<OsString>>) -> Result<u8, Error> {
    log(config.log)?;
    for warning in &config.warnings {
        say(&format!("warning: {warning}"));
    }
    let bearer = Bearer::new(random()?);
    let authority = Authority::create(&LOOPBACK_NAMES)
        .map_err(|why| Error::new(Code::Internal, why.to_string()))?;
    let role = role(&config, bearer.clone(), None)?;
    let authority_pem = authority.certificate_pem();
    let (tls, chore) = state::server(authority, &[b"http/1.1"], Versions::Both)?;
    let mut reactor = reactor(role, audit(None)?, None, Some(chore))?;
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, config.port));
    let bound =
        reactor.listen(ListenerTag::Main, &Bind::Tcp(wanted), Some(tls)).map_err(|err| {
            relay::port_taken(&wanted.to_string(), &err).hint("--port 0 takes any that is free")
        })?;
    let port = bound.map_or(config.port, |address| address.port());
    let entries = entries(&config, port, &authority_pem, &bearer);
    let stop = reactor.stopper();
    let mut file = None;
    let mut child: Option<Child> = None;
    let mut trouble = None;
    let ended = drive(reactor, |notice| match notice {
        Notice::Say(text) => say(&text),
        Notice::Exit(..) | Notice::Measured(_) => (),
        Notice::Ready => {
            let started = write(&config, &entries).and_then(|kept| {
                let path = kept.as_ref().map(|kept| kept.path().to_path_buf());
                file = kept;
                match &command {
                    None => tell_ready(&config, &entries, path.as_deref(), port),
                    Some(words) => {
                        let path = path.unwrap_or_default();
                        child = Some(spawn(words, &path, stop.clone())?);
                        Ok(())
                    }
                }
            });
            if let Err(why) = started {
                trouble = Some(why);
                stop.stop();
            }
        }
    });
    let code = child.map(Child::finish);
    if let Some(Err(why)) = file.map(|file| file.remove()) {
        ::log::warn!("the kubeconfig was not taken away: {why}");
    }
    match (trouble, ended, code) {
        (Some(why), _, _) | (None, Err(why), _) => Err(why),
        (None, Ok(_), Some(code)) => Ok(code),
        (None, Ok(code), None) => Ok(code),
    }
}

pub(super) fn role(
    config: &Config,
    bearer: Bearer,
    measure: Option<Plan>,
) -> Result<ClientProxy, Error> {
    let trusted = roots::load(config.relay_ca.as_deref())
        .map_err(|why| Error::from_roots(why, Code::TlsFileInvalid))?;
    let time = Arc::new(DefaultTimeProvider);
    let tls = tlsconf::client(&trusted, None, &[b"http/1.1"], Versions::Both, time.clone())
        .map_err(|why| Error::new(Code::TlsFileInvalid, why.to_string()))?;
    let known = match files::read_limited(&config.known_hosts, KNOWN_HOSTS_MAX) {
        Ok(bytes) => Known::parse(&String::from_utf8_lossy(&bytes)).map_err(|why| {
            let place = config.known_hosts.display();
            Error::new(Code::KnownHostsInvalid, format!("{place}: {why}"))
        })?,
        Err(why) if why.is_not_found() => Known::default(),
        Err(why) => return Err(why.into()),
    };
    if let Some(dir) = config.known_hosts.parent() {
        files::private_directory(dir)?;
    }
    let kubernetes_token = match &config.kube_token {
        Some(source) => Some(source.read()?),
        None => None,
    };
    let (relay, shared) = match &config.way {
        Way::Api(relay) => (relay.clone(), None),
        Way::ConnectionString { source, cluster_ca } => {
            let key = agent::shared_key(source)?;
            let ((host, port), path) = (key.place(), String::new());
            let shared = Shared { key, authority: agent::certificate(cluster_ca)? };
            (Url { tls: true, host, port, path }, Some(shared))
        }
    };
    Ok(ClientProxy::new(client_proxy::Config {
        relay,
        shared,
        roots: config.relay_ca.is_some().then(|| Arc::new(trusted)),
        tls,
        egress: config.egress.clone(),
        clusters: config.clusters.clone(),
        identity: config.identity.clone(),
        audiences: [config.relay_audience.clone(), config.cluster_audience.clone()],
        kubernetes_token,
        bearer,
        known,
        known_path: config.known_hosts.clone(),
        fingerprint: config.ca_fingerprint,
        accept_new_ca: config.accept_new_ca,
        patience: config.wait.unwrap_or(Duration::ZERO),
        measure,
        time,
    }))
}

fn entries(config: &Config, port: u16, authority: &str, bearer: &Bearer) -> Vec<Entry> {
    let single = config.clusters.len() == 1;
    let entry = |cluster: &crate::wire::resource::ResourceId| Entry {
        name: config.context.clone().filter(|_| single).unwrap_or_else(|| cluster.name().into()),
        server: format!("https://127.0.0.1:{port}{}", route::path_of(&cluster.cluster_id())),
        authority: authority.as_bytes().to_vec(),
        token: bearer.text().clone(),
        namespace: None,
    };
    config.clusters.iter().map(entry).collect()
}

/// Puts the kubeconfig where it is to go; what is returned takes it away again.
fn write(config: &Config, entries: &[Entry]) -> Result<Option<Installed>, Error> {
    let list = entries.to_vec();
    let kept = match &config.file {
        Target::Own(path) => kubeconfig::write(path, list),
        Target::Merge(path) => kubeconfig::merge(path, list, config.set_current),
        Target::Private => kubeconfig::write_alone(&private_file()?, list),
        Target::Stdout => {
            print(&document(entries)?)?;
            return Ok(None);
        }
    };
    kept.map(Some).map_err(Error::from)
}

/// A file for one command alone.
fn private_file() -> Result<PathBuf, Error> {
    let name = crate::wire::resource::hex(&random()?[..8]);
    Ok(std::env::temp_dir().join(format!("cluster-connect-{name}")).join("kubeconfig"))
}

fn document(entries: &[Entry]) -> Result<String, Error> {
    let invalid = |why: Malformed| Error::new(Code::KubeconfigInvalid, why.to_string());
    let mut config = Kubeconfig::parse(b"").map_err(invalid)?;
    for (at, entry) in entries.iter().enumerate() {
        config.merge(entry, at == 0).map_err(invalid)?;
    }
    config.to_yaml().map_err(invalid)
}

fn tell_ready(
    config: &Config,
    entries: &[Entry],
    path: Option<&std::path::Path>,
    port: u16,
) -> Result<(), Error> {
    let file = path.map(|path| path.display().to_string());
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let text = match (&file, config.output) {
        (None, _) => None,
        (Some(file), Output::Json) => {
            let json = serde_json::json!({ "kubeconfig": file, "contexts": names, "port": port });
            Some(format!("{json}\n"))
        }
        (Some(file), Output::Table) => Some(format!(
            "ready: {} at https://127.0.0.1:{port}\n\nkubectl --kubeconfig {file} get namespaces\n",
            names.join(", ")
        )),
    };
    if let Some(text) = text {
        print(&text)?;
    }
    if let Some(fd) = config.ready_fd {
        crate::io::write_ready(fd).map_err(|err| {
            Error::new(Code::FileUnwritable, format!("descriptor {fd} of --ready-fd: {err}"))
        })?;
    }
    if let Err(err) = crate::io::notify_ready() {
        ::log::warn!("systemd was not told that the process is ready: {err}");
    }
    Ok(())
}

fn spawn(words: &[OsString], kubeconfig: &std::path::Path, stop: Stopper) -> Result<Child, Error> {
    let program = words.first().map(|word| word.to_string_lossy().into_owned());
    Child::start(words, &[("KUBECONFIG", kubeconfig.as_os_str())], stop).map_err(|err| {
        let program = program.unwrap_or_default();
        Error::new(Code::NotAvailable, format!("cannot run {program}: {err}"))
    })
}

pub(super) fn random() -> Result<[u8; 32], Error> {
    let mut bytes = [0; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::new(Code::Internal, "the system gives no random bytes"))?;
    Ok(bytes)
}

//! From a configuration to a running process: what each role is made of, and its way into the
//! reactor. The mains in `bin/` call [`main`] or
//! [`Alone::main`] and nothing else.

mod agent;
mod auth_proxy;
mod bench;
pub mod bootstrap;
mod edge;
mod issuers;
mod proxy;
mod relay;
mod shared;
mod state;
mod upstream;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use crate::config::args::Args;
use crate::config::errors::{Code, Error};
use crate::config::manual::Page;
use crate::config::{self, Command, Opened};
use crate::io::{self, AuditSink, Chore, Journal, Limits, Reactor, Setup, environment};
use crate::limits::{BUFFER_SIZE, BUFFERS, BUFFERS_KEPT, BUFFERS_LEAST, CONNS_MAX};
use crate::role::{Fault, Notice, Role};

/// Runs `cluster-connect`, whose first argument says what to do.
#[must_use]
pub fn main() -> ExitCode {
    run(environment::arguments())
}

/// The same with the arguments given.
#[must_use]
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    exit(config::command(arguments, &environment::variable).and_then(obey))
}

/// A binary with one role. It is linked from here alone, so that it holds no other role's code.
#[derive(Clone, Copy, Debug)]
pub struct Alone {
    page: &'static Page,
    run: fn(Args<'_>) -> Result<u8, Error>,
}

impl Alone {
    /// The relay.
    pub const RELAY: Self = Self {
        page: &config::relay::PAGE,
        run: |args| relay::run(&config::relay::Relay::parse(args)?),
    };
    /// The agent.
    pub const AGENT: Self = Self {
        page: &config::agent::PAGE,
        run: |args| agent::run(&config::agent::Agent::parse(args)?),
    };
    /// The auth proxy.
    pub const AUTH_PROXY: Self = Self {
        page: &config::auth_proxy::PAGE,
        run: |args| auth_proxy::run(&config::auth_proxy::AuthProxy::parse(args)?),
    };
    /// The client proxy.
    pub const PROXY: Self = Self {
        page: &config::proxy::PROXY_PAGE,
        run: |args| proxy::run(config::proxy::Proxy::parse(args)?, None),
    };

    /// Runs the process.
    #[must_use]
    pub fn main(self) -> ExitCode {
        let opened = config::open(self.page, environment::arguments(), &environment::variable);
        exit(opened.and_then(|opened| match opened {
            Opened::Print(text) => print(&text),
            Opened::Options(args, _) => (self.run)(args),
        }))
    }
}

fn exit(result: Result<u8, Error>) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code),
        Err(err) => {
            // Without standard error there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "{err}");
            ExitCode::from(err.code.exit())
        }
    }
}

fn obey(command: Command) -> Result<u8, Error> {
    match command {
        Command::Print(text) => print(&text),
        Command::Relay(config) => relay::run(&config),
        Command::Agent(config) => agent::run(&config),
        Command::AuthProxy(config) => auth_proxy::run(&config),
        Command::Edge(config) => edge::run(&config),
        Command::Proxy(config) => proxy::run(*config, None),
        Command::Bench(config) => bench::run(&config),
        Command::Run(config) => proxy::run(config.proxy, Some(config.command)),
        Command::Cluster(config) => show(config.run()?),
        Command::Hybrid(config) => show(config.run()?),
        Command::Manifest(config) => {
            let token = config.token()?;
            print(&config.render(token.as_ref()))
        }
    }
}

/// What goes to standard output, and what is said beside it.
fn show((text, remark): (String, Option<String>)) -> Result<u8, Error> {
    if let Some(remark) = remark {
        say(&remark);
    }
    print(&text)
}

fn print(text: &str) -> Result<u8, Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(0),
        // A reader that has seen enough, as `head` has, is no fault.
        Err(err) if err.kind() == std::io::ErrorKind::BrokenPipe => Ok(0),
        Err(err) => Err(Error::new(Code::FileUnwritable, format!("standard output: {err}"))),
    }
}

/// A line for the person at the terminal.
fn say(text: &str) {
    // Without standard error there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn log(level: log::LevelFilter) -> Result<(), Error> {
    io::start_log(level.as_str()).map_err(|why| Error::new(Code::Usage, why))
}

/// A reactor for `role` with the limits of a process.
fn reactor<R: Role>(
    role: R,
    audit: AuditSink,
    journal: Option<Journal>,
    chore: Option<Chore>,
) -> Result<Reactor<R>, Error> {
    let buffers = buffers(environment::memory_limit());
    let limits = Limits { conns: CONNS_MAX, buffers, keep: BUFFERS_KEPT };
    Reactor::new(role, Setup { limits, audit, journal, chore }).map_err(|err| cannot_start(&err))
}

/// Buffers for a process that may use `limit` bytes of memory: half of them. The other half is for
/// what connections are, and for the kernel's buffers, which count, too. With few buffers it reads
/// later, and lives.
fn buffers(limit: Option<u64>) -> usize {
    let half = limit.map_or(u64::MAX, |limit| limit / 2 / BUFFER_SIZE as u64);
    usize::try_from(half).unwrap_or(BUFFERS).clamp(BUFFERS_LEAST, BUFFERS)
}

fn cannot_start(err: &std::io::Error) -> Error {
    Error::new(Code::Internal, format!("the event loop cannot start: {err}"))
}

/// Runs the loop to its end.
fn drive<R: Role>(reactor: Reactor<R>, hear: impl FnMut(Notice)) -> Result<u8, Error> {
    let ended = reactor
        .run(hear)
        .map_err(|err| Error::new(Code::Internal, format!("the event loop has failed: {err}")))?;
    match ended {
        (0, _) => Ok(0),
        (_, Some(fault)) => Err(from_fault(fault)),
        (code, None) => Ok(code),
    }
}

fn from_fault(Fault { code, message }: Fault) -> Error {
    let known = Code::parse(code);
    let hint = match known {
        Some(Code::Forbidden) => Some("ask for: cluster-connect cluster grant NAME --user YOU"),
        Some(Code::ClusterOffline | Code::ClusterNeverConnected) => Some("--wait 5m waits for it"),
        Some(Code::ClusterChanged) => {
            Some("if the cluster was set up anew, --accept-new-ca accepts its new CA")
        }
        Some(Code::JoinTokenRefused) => {
            Some("ask for a new one: cluster-connect cluster join-token NAME")
        }
        Some(Code::NotEnrolled) => {
            Some("give --join-token-file; ask for a token: cluster-connect cluster join-token NAME")
        }
        Some(Code::AudienceConflict) => Some("give the auth proxy an audience of its own"),
        Some(Code::ClusterUnknown) => Some("ask for: cluster-connect cluster add NAME"),
        Some(Code::TokenRefused) => Some("is the token expired, or for another audience?"),
        Some(Code::RelayUntrusted) => Some("--relay-ca FILE names the authority to trust"),
        _ => None,
    };
    let error = Error::new(known.unwrap_or(Code::Internal), message);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn audit(path: Option<&std::path::Path>) -> Result<AuditSink, Error> {
    let Some(path) = path else { return Ok(AuditSink::nowhere()) };
    AuditSink::open(path).map_err(|err| {
        Error::new(Code::FileUnwritable, format!("the audit log {}: {err}", path.display()))
    })
}

/// Tells systemd, where it waits to be told, and says so to the terminal.
fn announce(text: &str) {
    say(text);
    if let Some(err) = io::notify_ready().err() {
        log::warn!("systemd was not told that the process is ready: {err}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_take_half_of_the_memory_and_never_too_little_to_go_on() {
        assert_eq!(buffers(None), BUFFERS);
        assert_eq!(buffers(Some(u64::MAX)), BUFFERS);
        assert_eq!(buffers(Some(16 << 20)), 256);
        assert_eq!(buffers(Some(1 << 20)), BUFFERS_LEAST);
        assert_eq!(buffers(Some(0)), BUFFERS_LEAST);
    }
}

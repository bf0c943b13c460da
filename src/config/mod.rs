//! Command lines, files and help texts: what a process was asked to do, as one value.
//!
//! A command line is read once, by [`command`], into a struct for the role. Everything that can be
//! wrong with it is an [`errors::Error`] before anything has begun.

pub mod agent;
pub mod args;
pub mod auth_config;
pub mod auth_limits;
pub mod auth_proxy;
pub mod bench;
pub mod cluster;
pub mod edge;
pub mod errors;
pub mod hybrid;
pub mod kubeconfig;
pub mod manifest;
pub mod manual;
pub mod proxy;
pub mod relay;
pub mod values;

use std::ffi::OsString;

use args::{Args, Environment};
use errors::{Code, Error};
use manual::Page;

/// What a process was asked to do.
#[derive(Debug)]
pub enum Command {
    /// Be a relay.
    Relay(Box<relay::Relay>),
    /// Be an agent.
    Agent(Box<agent::Agent>),
    /// Be an auth proxy.
    AuthProxy(Box<auth_proxy::AuthProxy>),
    /// Be an agent and an auth proxy.
    Edge(Box<edge::Edge>),
    /// Be a client proxy.
    Proxy(Box<proxy::Proxy>),
    /// Be a client proxy for one command.
    Run(Box<proxy::Run>),
    /// Measure the tunnel to a cluster.
    Bench(Box<bench::Bench>),
    /// Ask a relay for something.
    Cluster(Box<cluster::Cluster>),
    /// Ask a relay for something to do with hybrid connections.
    Hybrid(Box<hybrid::Hybrid>),
    /// Write a manifest.
    Manifest(Box<manifest::Manifest>),
    /// Print this and exit with 0.
    Print(String),
}

/// Reads the command line of `cluster-connect`, without the program's own name.
///
/// # Errors
///
/// `USAGE`, and what is wrong with the files that the command line names.
pub fn command(arguments: Vec<OsString>, environment: Environment<'_>) -> Result<Command, Error> {
    let mut words = arguments.into_iter();
    let Some(first) = words.next() else {
        return Err(Error::usage("", "no command"));
    };
    let rest: Vec<OsString> = words.collect();
    match first.to_str() {
        Some("-h" | "--help" | "help") => help(&rest),
        Some("-V" | "--version" | "version") => Ok(Command::Print(VERSION.to_owned())),
        Some("explain") => explain(&rest),
        Some("cluster") => cluster_command(rest, environment),
        Some("hc") => hybrid_command(rest, environment),
        Some(name) => role(name, rest, environment),
        None => Err(Error::usage("", "the command is not UTF-8")),
    }
}

/// Reads the command line of the command `name`.
///
/// # Errors
///
/// Those of [`command`].
pub fn role(
    name: &str,
    rest: Vec<OsString>,
    environment: Environment<'_>,
) -> Result<Command, Error> {
    let (args, behind) = match open(page(name)?, rest, environment)? {
        Opened::Print(text) => return Ok(Command::Print(text)),
        Opened::Options(args, behind) => (args, behind),
    };
    Ok(match name {
        "relay" => Command::Relay(Box::new(relay::Relay::parse(args)?)),
        "agent" => Command::Agent(Box::new(agent::Agent::parse(args)?)),
        "auth-proxy" => Command::AuthProxy(Box::new(auth_proxy::AuthProxy::parse(args)?)),
        "edge" => Command::Edge(Box::new(edge::Edge::parse(args)?)),
        "proxy" => Command::Proxy(Box::new(proxy::Proxy::parse(args)?)),
        "run" => Command::Run(Box::new(proxy::Run::parse(args, behind)?)),
        "bench" => Command::Bench(Box::new(bench::Bench::parse(args)?)),
        _ => Command::Manifest(Box::new(manifest::Manifest::parse(args)?)),
    })
}

/// A command line of one command, before its options are read.
#[derive(Debug)]
pub enum Opened<'a> {
    /// The manual page is wanted, or the version.
    Print(String),
    /// Options, and what stands behind `--`.
    Options(Args<'a>, Option<Vec<OsString>>),
}

/// Takes apart the command line of the command that `page` describes.
///
/// # Errors
///
/// `USAGE`: the command runs no other command.
pub fn open<'a>(
    page: &'static Page,
    rest: Vec<OsString>,
    environment: Environment<'a>,
) -> Result<Opened<'a>, Error> {
    let (rest, behind) = split(rest);
    if wants_help(&rest) {
        return Ok(Opened::Print(page.text()));
    }
    if matches!(rest.first().and_then(|word| word.to_str()), Some("-V" | "--version")) {
        return Ok(Opened::Print(VERSION.to_owned()));
    }
    if behind.is_some() && page.command != "run" {
        return Err(Error::usage(page.command, "-- is for cluster-connect run"));
    }
    Ok(Opened::Options(Args::new(page, rest, environment), behind))
}

fn page(name: &str) -> Result<&'static Page, Error> {
    Ok(match name {
        "relay" => &relay::PAGE,
        "agent" => &agent::PAGE,
        "auth-proxy" => &auth_proxy::PAGE,
        "edge" => &edge::PAGE,
        "proxy" => &proxy::PROXY_PAGE,
        "run" => &proxy::RUN_PAGE,
        "bench" => &bench::PAGE,
        "manifest" => &manifest::PAGE,
        other => {
            let shown: String = other.chars().filter(|c| !c.is_control()).take(40).collect();
            return Err(Error::usage("", format!("{shown:?} is no command")));
        }
    })
}

fn cluster_command(
    mut rest: Vec<OsString>,
    environment: Environment<'_>,
) -> Result<Command, Error> {
    if rest.is_empty() {
        return Err(Error::usage("cluster", "no command behind cluster"));
    }
    let verb = rest.remove(0).to_string_lossy().into_owned();
    if verb == "-h" || verb == "--help" {
        return Ok(Command::Print(cluster::PAGE.text()));
    }
    if wants_help(&rest) {
        return Ok(Command::Print(cluster::page(&verb)?.text()));
    }
    Ok(Command::Cluster(Box::new(cluster::Cluster::parse(&verb, rest, environment)?)))
}

fn hybrid_command(mut rest: Vec<OsString>, environment: Environment<'_>) -> Result<Command, Error> {
    if rest.is_empty() {
        return Err(Error::usage("hc", "no command behind hc"));
    }
    let verb = rest.remove(0).to_string_lossy().into_owned();
    if verb == "-h" || verb == "--help" {
        return Ok(Command::Print(hybrid::PAGE.text()));
    }
    if wants_help(&rest) {
        return Ok(Command::Print(hybrid::page(&verb)?.text()));
    }
    Ok(Command::Hybrid(Box::new(hybrid::Hybrid::parse(&verb, rest, environment)?)))
}

fn help(rest: &[OsString]) -> Result<Command, Error> {
    let words: Vec<String> = rest.iter().map(|w| w.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let text = match words[..] {
        [] => HELP.to_owned(),
        ["cluster"] => cluster::PAGE.text(),
        ["cluster", verb] => cluster::page(verb)?.text(),
        ["hc"] => hybrid::PAGE.text(),
        ["hc", verb] => hybrid::page(verb)?.text(),
        [name] => page(name)?.text(),
        [..] => return Err(Error::usage("", "help takes one command")),
    };
    Ok(Command::Print(text))
}

fn explain(rest: &[OsString]) -> Result<Command, Error> {
    let words: Vec<String> = rest.iter().map(|w| w.to_string_lossy().into_owned()).collect();
    match &words[..] {
        [] => Ok(Command::Print(errors::catalogue())),
        [word] if word == "-h" || word == "--help" => Ok(Command::Print(errors::catalogue())),
        [word] => match Code::parse(word) {
            Some(code) => Ok(Command::Print(errors::explain(code))),
            None => Err(Error::new(Code::Usage, format!("no code {word:?}"))
                .hint("cluster-connect explain lists all codes")),
        },
        [..] => Err(Error::new(Code::Usage, "explain takes one code")),
    }
}

const VERSION: &str = concat!("cluster-connect ", env!("CARGO_PKG_VERSION"), "\n");

fn wants_help(rest: &[OsString]) -> bool {
    rest.iter().any(|word| word == "-h" || word == "--help")
}

/// What stands before `--`, and what behind it.
fn split(mut words: Vec<OsString>) -> (Vec<OsString>, Option<Vec<OsString>>) {
    let Some(at) = words.iter().position(|word| word == "--") else { return (words, None) };
    let behind = words.split_off(at).into_iter().skip(1).collect();
    (words, Some(behind))
}

const HELP: &str = "\
cluster-connect: kubectl access, from anywhere, to a cluster that opens no inbound port

USAGE
  cluster-connect COMMAND [OPTIONS]

FOR USERS
  proxy       kubectl's way into a connected cluster
  run         one command with a connected cluster, for pipelines
  bench       how fast the tunnel to a connected cluster is

FOR OPERATORS
  relay       the host that agents and clients both can reach
  cluster     add, show, list, grant, revoke, join-token, remove
  hc          hybrid connections for SDKs of Azure Relay, and from where anybody may come
  manifest    what kubectl apply needs to run an edge in a cluster

AT THE CLUSTER
  edge        agent and auth proxy in one process
  agent       dials out and carries sessions
  auth-proxy  checks tokens and impersonates

  explain     what an error code means
  version     which version this is

  Each has a page of its own: cluster-connect proxy --help
";

#[cfg(test)]
mod tests;

//! `cluster-connect hc …`: the operator's commands for hybrid connections, which SDKs of Azure
//! Relay use, and for from where anybody may come.

mod pages;

use std::ffi::OsString;
use std::path::PathBuf;

use super::args::{Args, Environment, Parsed};
use super::cluster::Operator;
use super::errors::{Code, Error};
use super::values::{Output, duration, one_of};
use crate::auth::network::Mask;
use crate::auth::roles::Role;
use crate::io::files;
use crate::io::operator::hybrid::{self, Action, Key, Network, Wish};
use crate::io::operator::{Failure, Name, Whom};
use crate::limits::ENTITY_NAME_MAX;
use crate::wire::arm::Kind;

pub use pages::{PAGE, page};

/// A command for a relay.
#[derive(Clone, Debug)]
pub struct Hybrid {
    /// Which relay, and who asks.
    pub operator: Operator,
    /// What to do.
    pub action: Action,
    /// How to print it.
    pub output: Output,
    /// Where a connection string goes, instead of standard output.
    pub file: Option<PathBuf>,
}

impl Hybrid {
    /// Reads the command line behind `hc`.
    ///
    /// # Errors
    ///
    /// `USAGE`, `RESOURCE_INVALID`.
    pub fn parse(
        verb: &str,
        rest: Vec<OsString>,
        environment: Environment<'_>,
    ) -> Result<Self, Error> {
        let mut args = Args::new(page(verb)?, rest, environment);
        let operator = Operator::parse(&mut args)?;
        let output = args.output()?;
        let file = if verb == "keys" { args.text_either(["-f", "--file"])? } else { None };
        let file = file.filter(|file| file != "-").map(PathBuf::from);
        let action = action(verb, &mut args)?;
        args.finish()?;
        Ok(Self { operator, action, output, file })
    }

    /// Does it, and gives what to print: on standard output, and beside it.
    ///
    /// # Errors
    ///
    /// Those of [`Operator::run`], `HYBRID_CONNECTION_UNKNOWN`, and `FILE_UNWRITABLE`.
    pub fn run(&self) -> Result<(String, Option<String>), Error> {
        let found = hybrid::run(&self.operator.connect()?, &self.action);
        let found = found.map_err(|why| match why {
            Failure::Refused(refusal) if refusal.kind == Kind::ClusterUnknown => {
                Error::new(Code::HybridConnectionUnknown, refusal.to_string())
                    .hint("cluster-connect hc list and hc show have what there is")
            }
            other => self.operator.explain(other),
        })?;
        let (text, remark) = match self.output {
            Output::Table => found.table(),
            Output::Json => (found.json(), None),
        };
        let Some(file) = self.file.as_ref().filter(|_| !text.is_empty()) else {
            return Ok((text, remark));
        };
        files::write_atomic(file, text.as_bytes(), 0o600).map_err(Error::from)?;
        Ok((String::new(), remark))
    }
}

fn action(verb: &str, args: &mut Args<'_>) -> Result<Action, Error> {
    match verb {
        "list" => Ok(Action::List),
        "add" => {
            let wish = Wish {
                client_authorization: args.value("--client-authorization", switch)?,
                http: args.value("--http", switch)?,
                metadata: args.text("--metadata")?,
                accept: args.value("--accept-timeout", duration)?,
                response: args.value("--response-timeout", duration)?,
                body_gap: args.value("--body-gap-timeout", duration)?,
            };
            Ok(Action::Put(named(args)?, wish))
        }
        "remove" => Ok(Action::Remove(named(args)?)),
        "rule" => {
            let rule = rule(args)?;
            let rights = args.value("--rights", rights)?;
            let remove = args.switch("--remove");
            let at = named_or_all(args)?;
            match (rights, remove) {
                (Some(rights), false) => Ok(Action::PutRule(at, rule, rights)),
                (None, true) => Ok(Action::RemoveRule(at, rule)),
                (None, false) => Err(args.missing("--rights, or --remove,")),
                (Some(_), true) => Err(args.wrong("--rights and --remove exclude each other")),
            }
        }
        "keys" => {
            let (rule, renew) = (rule(args)?, args.value("--renew", key)?);
            Ok(Action::Keys(named_or_all(args)?, rule, renew))
        }
        "grant" | "revoke" => {
            let role = args.value("--role", role)?.ok_or_else(|| args.missing("--role"))?;
            let whom = whom(args)?;
            let at = named_or_all(args)?;
            Ok(match verb {
                "grant" => Action::Grant(at, role, whom),
                _ => Action::Revoke(at, role, whom),
            })
        }
        "network" => network(args).map(Action::Network),
        _ => Ok(Action::Show(named(args)?)),
    }
}

fn network(args: &mut Args<'_>) -> Result<Option<Network>, Error> {
    let masks =
        args.values("--allow", |text| Mask::parse(text).map_err(|why| format!("is {why}")))?;
    let words = [("allow", true), ("deny", false)];
    let others = args.value("--others", |text| one_of(text, &words))?;
    let public = args.value("--public", switch)?;
    match others {
        Some(others) => Ok(Some(Network { public, others, masks })),
        None if masks.is_empty() && public.is_none() => Ok(None),
        None => Err(args.missing("--others allow, or --others deny,")),
    }
}

/// The hybrid connection, by `-n` or as the one free word.
fn named(args: &mut Args<'_>) -> Result<String, Error> {
    let option = args.text_either(["-n", "--name"])?;
    let free = args.free()?;
    match (option, free) {
        (Some(_), Some(_)) => Err(args.wrong("the hybrid connection is named twice")),
        (Some(name), None) | (None, Some(name)) => checked(name),
        (None, None) => Err(args.missing("the name of the hybrid connection")),
    }
}

/// A hybrid connection, or all with `--namespace`.
fn named_or_all(args: &mut Args<'_>) -> Result<Option<String>, Error> {
    if !args.switch("--namespace") {
        return named(args).map(Some);
    }
    match (args.text_either(["-n", "--name"])?, args.free()?) {
        (None, None) => Ok(None),
        _ => Err(args.wrong("--namespace and a name exclude each other")),
    }
}

/// The relay checks names, and this only that one stays what it is in a path.
fn checked(name: String) -> Result<String, Error> {
    let segment = |segment: &str| {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        !matches!(segment, "" | "." | "..") && segment.bytes().all(letter)
    };
    if name.len() <= ENTITY_NAME_MAX && name.split('/').all(segment) {
        return Ok(name);
    }
    let shown: String = name.chars().filter(|c| !c.is_control()).take(60).collect();
    let message = format!("{shown:?} is no name of a hybrid connection");
    Err(Error::new(Code::ResourceInvalid, message)
        .hint("segments of letters, digits, '-', '_' and '.', with slashes between"))
}

fn rule(args: &mut Args<'_>) -> Result<String, Error> {
    let rule = args.value("--rule", |text| {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_good = text.bytes().all(letter) && !matches!(text, "." | "..");
        if is_good { Ok(text.to_owned()) } else { Err("no name of a rule".to_owned()) }
    })?;
    rule.ok_or_else(|| args.missing("--rule"))
}

fn rights(text: &str) -> Parsed<Vec<&'static str>> {
    let right = |word: &str| {
        let all = ["Listen", "Send", "Manage"];
        let found = all.into_iter().find(|right| right.eq_ignore_ascii_case(word.trim()));
        found.ok_or_else(|| "not listen, send and manage with commas between".to_owned())
    };
    text.split(',').map(right).collect()
}

fn key(text: &str) -> Parsed<Key> {
    one_of(text, &[("primary", Key::Primary), ("secondary", Key::Secondary)])
}

fn role(text: &str) -> Parsed<Role> {
    let all = [("listener", Role::Listener), ("sender", Role::Sender), ("owner", Role::Owner)];
    one_of(text, &all)
}

fn whom(args: &mut Args<'_>) -> Result<Whom, Error> {
    let issuer = args.text("--issuer")?;
    let names =
        [args.text("--subject")?.map(Name::Subject), args.text("--group")?.map(Name::Group)];
    let mut names = names.into_iter().flatten();
    match (names.next(), names.next()) {
        (Some(name), None) => Ok(Whom { name, issuer }),
        (None, _) => Err(args.missing("--subject or --group")),
        (Some(_), Some(_)) => Err(args.wrong("--subject and --group exclude each other")),
    }
}

fn switch(text: &str) -> Parsed<bool> {
    one_of(text, &[("on", true), ("off", false)])
}

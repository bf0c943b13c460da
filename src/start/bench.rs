//! The tunnel is measured by a client proxy that serves nobody.

use super::{audit, drive, log, print, proxy, reactor, say};
use crate::config::bench::Bench as Config;
use crate::config::errors::{Code, Error};
use crate::config::values::Output;
use crate::role::Notice;
use crate::role::client_proxy::admission::Bearer;

/// Runs until it is measured.
pub(super) fn run(config: &Config) -> Result<u8, Error> {
    log(config.proxy.log)?;
    for warning in &config.proxy.warnings {
        say(&format!("warning: {warning}"));
    }
    // There is no port to use it at.
    let bearer = Bearer::new(proxy::random()?);
    let role = proxy::role(&config.proxy, bearer, Some(config.plan))?;
    let name = config.proxy.clusters.first().map_or("", |cluster| cluster.name());
    let mut text = None;
    let code = drive(reactor(role, audit(None)?, None, None)?, |notice| match notice {
        Notice::Say(text) => say(&text),
        Notice::Measured(report) => {
            text = Some(match config.output {
                Output::Json => format!("{}\n", report.to_json(name)),
                Output::Table => report.to_text(),
            });
        }
        Notice::Ready | Notice::Exit(..) => (),
    })?;
    match text {
        Some(text) => print(&text),
        None if code == 0 => Err(Error::new(Code::ClusterUnreachable, "stopped before the end")),
        None => Ok(code),
    }
}

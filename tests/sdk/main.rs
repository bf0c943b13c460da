//! Microsoft's SDKs for Node, unmodified, as listeners and senders of the relay on real sockets.
//!
//! They come from npm: `npm ci --prefix tests/sdk --ignore-scripts`. And its management clients for
//! Python, from PyPI: `python3 -m venv target/arm-venv && target/arm-venv/bin/pip install -r
//! tests/sdk/requirements.txt`. Where that was not done, these tests are ignored and say so.
#![allow(clippy::unwrap_used)]

#[path = "../support/chain.rs"]
#[allow(dead_code, reason = "shared with other test programs, each of which uses a part")]
mod chain;
#[path = "../../bin/quickstart/demo/mod.rs"]
#[allow(dead_code, reason = "shared with other programs, each of which uses a part")]
mod demo;
#[path = "../../bin/quickstart/issuer.rs"]
#[allow(dead_code, reason = "shared with other programs, each of which uses a part")]
mod issuer;
#[path = "../support/kubectl.rs"]
#[allow(dead_code, reason = "shared with other test programs, each of which uses a part")]
mod kubectl;
#[path = "../../bin/quickstart/processes.rs"]
#[allow(dead_code, reason = "shared with other programs, each of which uses a part")]
mod processes;
#[path = "../hc/table.rs"]
#[allow(dead_code, reason = "shared with tests/hc")]
mod table;
#[path = "../support/trial.rs"]
#[allow(dead_code, reason = "shared with other test programs, each of which uses a part")]
mod trial;

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::channel;
use std::thread;

use cluster_connect::io::{AuditSink, Bind, Limits, Reactor, Setup};
use cluster_connect::role::ListenerTag;
use cluster_connect::role::relay::authority::{Deadlines, Entity};
use cluster_connect::role::relay::{Config, Relay};
use table::Table;
use trial::{Absent, trial};

fn main() -> ExitCode {
    trial::run([vec![
        trial(hyco_ws_listens_and_connects),
        trial(hyco_https_serves_requests),
        trial(the_management_client_for_connected_clusters_is_served),
        trial(the_management_clients_for_azure_relay_and_roles_are_served),
    ]])
}

/// A relay with two entities for WebSockets and one for HTTP. Returns its port.
fn relay() -> u16 {
    let (tell, hear) = channel();
    thread::spawn(move || {
        let table = Table::with(&["ent", "ent2"]);
        let web = Entity {
            name: "web".to_owned(),
            needs_token: true,
            http: true,
            deadlines: Deadlines::default(),
        };
        table.0.borrow_mut().entities.push(web);
        let config = Config { secure: false, ..Config::default() };
        let setup = Setup {
            limits: Limits { conns: 512, buffers: 1024, keep: 64 },
            audit: AuditSink::nowhere(),
            journal: None,
            chore: None,
        };
        let mut reactor = Reactor::new(Relay::new(config, Box::new(table)), setup).unwrap();
        let any = Bind::Tcp(([127, 0, 0, 1], 0).into());
        let address = reactor.listen(ListenerTag::Main, &any, None).unwrap().unwrap();
        tell.send(address.port()).unwrap();
        reactor.run(|_| ()).unwrap();
    });
    hear.recv().unwrap()
}

fn run(script: &str) -> Result<(), Absent> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk");
    if !here.join("node_modules").exists() {
        return Err(Absent("SDK from npm (npm ci --prefix tests/sdk)".to_owned()));
    }
    let port = relay().to_string();
    let mut node = Command::new("node");
    node.current_dir(here).args(["--no-deprecation", script, &port]).stdin(Stdio::null());
    let out = node.output().expect("node is there, since npm was");
    let text = String::from_utf8_lossy(&out.stdout);
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{text}\n{errors}");
    Ok(())
}

fn hyco_ws_listens_and_connects() -> Result<(), Absent> {
    run("ws.js")
}

fn hyco_https_serves_requests() -> Result<(), Absent> {
    run("https.js")
}

/// The command that runs a script with Microsoft's clients for Python.
fn python(script: &str) -> Result<Command, Absent> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = here.join("target/arm-venv/bin/python");
    if !python.exists() {
        return Err(Absent("management clients in target/arm-venv".to_owned()));
    }
    let mut command = Command::new(python);
    command.arg("-B").arg(here.join("tests/sdk").join(script)).stdin(Stdio::null());
    Ok(command)
}

/// Runs it against the relay of `site`.
fn manage(mut client: Command, site: &chain::Site, more: &[&str]) {
    client.arg(&site.url).args([site.path("relay/ca.pem"), site.path("relay/admin-token")]);
    let out = client.args(more).output().expect("the virtual environment has Python");
    let text = String::from_utf8_lossy(&out.stdout);
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{text}\n{errors}");
}

fn the_management_client_for_connected_clusters_is_served() -> Result<(), Absent> {
    let client = python("arm.py")?;
    let mut site = chain::Site::start();
    let _edge = site.cluster("edge-7", chain::Options { edge: true, ..Default::default() });
    manage(client, &site, &["edge-7"]);
    Ok(())
}

fn the_management_clients_for_azure_relay_and_roles_are_served() -> Result<(), Absent> {
    manage(python("relay.py")?, &chain::Site::start(), &[]);
    Ok(())
}

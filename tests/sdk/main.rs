//! Clients that are not ours, unmodified, against the relay as a process: Microsoft's SDKs for Node
//! as listeners and senders, its management client for Python, and Python's `websockets` as a third
//! implementation of what goes over the wire. And what is ours, by connection strings alone.
//!
//! They come from npm: `npm ci --prefix tests/sdk --ignore-scripts`, and from PyPI: `python3 -m venv
//! target/arm-venv && target/arm-venv/bin/pip install -r tests/sdk/requirements.txt`. Where that was
//! not done, these tests are ignored and say so.
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
mod lab;
#[path = "../../bin/quickstart/processes.rs"]
#[allow(dead_code, reason = "shared with other programs, each of which uses a part")]
mod processes;
#[path = "../support/raw.rs"]
#[allow(dead_code, reason = "shared with other test programs, each of which uses a part")]
mod raw;
mod strings;
#[path = "../support/trial.rs"]
#[allow(dead_code, reason = "shared with other test programs, each of which uses a part")]
mod trial;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use lab::Lab;
use trial::{Absent, trial};

fn main() -> ExitCode {
    let own = vec![
        trial(hyco_ws_listens_and_connects),
        trial(hyco_https_serves_requests),
        trial(a_third_implementation_listens_and_connects),
        trial(the_management_client_for_connected_clusters_is_served),
        trial(the_management_clients_for_azure_relay_and_roles_are_served),
    ];
    trial::run([own, strings::trials()])
}

/// Node, if the SDKs are there.
fn node() -> Result<PathBuf, Absent> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk");
    match here.join("node_modules").exists() {
        true => Ok(PathBuf::from("node")),
        false => Err(Absent("SDK from npm (npm ci --prefix tests/sdk)".to_owned())),
    }
}

/// Python, if `package` is there.
fn python(package: &str) -> Result<PathBuf, Absent> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/arm-venv/bin/python");
    let mut check = Command::new(&python);
    check.args(["-c", &format!("import {package}")]).stdin(Stdio::null()).stderr(Stdio::null());
    match check.status().is_ok_and(|status| status.success()) {
        true => Ok(python),
        false => Err(Absent(format!("{package} in target/arm-venv"))),
    }
}

fn hyco_ws_listens_and_connects() -> Result<(), Absent> {
    let node = node()?;
    let lab = Lab::start();
    let before = lab.peak_kib();
    lab.drive(&node, &["--no-deprecation", "ws.js"]);
    // The largest transfer has 64 MiB and a reader that takes its time.
    if let Some((before, after)) = before.zip(lab.peak_kib()) {
        let grown = after - before;
        assert!(grown < 24 * 1024, "the relay's memory has grown by {grown} KiB");
    }
    Ok(())
}

fn hyco_https_serves_requests() -> Result<(), Absent> {
    let node = node()?;
    Lab::start().drive(&node, &["--no-deprecation", "https.js"]);
    Ok(())
}

fn a_third_implementation_listens_and_connects() -> Result<(), Absent> {
    let python = python("websockets")?;
    Lab::start().drive(&python, &["third.py"]);
    Ok(())
}

/// The command that runs a script with Microsoft's clients for Python.
fn management(script: &str) -> Result<Command, Absent> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(python("azure.mgmt.hybridkubernetes, azure.mgmt.relay")?);
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
    let client = management("arm.py")?;
    let mut site = chain::Site::start();
    let _edge = site.cluster("edge-7", chain::Options { edge: true, ..Default::default() });
    manage(client, &site, &["edge-7"]);
    Ok(())
}

fn the_management_clients_for_azure_relay_and_roles_are_served() -> Result<(), Absent> {
    manage(management("relay.py")?, &chain::Site::start(), &[]);
    Ok(())
}

//! What worker threads do: each job to its end, with a sentence where it fails.

use std::io::{self, Read};
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Proxy, http};

use super::environment;
use super::files;
use super::roots;
use crate::role::egress::Egress;
use crate::role::{Exec, HttpAnswer, HttpCall, Job, Outcome};
use crate::secret::Secret;

/// Bytes that a command may print.
const EXEC_LIMIT: u64 = 64 * 1024;

/// Does `job`.
pub(super) fn perform(job: Job) -> Outcome {
    match job {
        Job::Http(call) => Outcome::Http(http(&call)),
        Job::Read { path, limit } => Outcome::Read(
            files::read_limited(&path, limit).map(Secret::new).map_err(|err| err.to_string()),
        ),
        Job::Write(file) => Outcome::Written(
            files::write_atomic(&file.path, file.bytes.expose(), file.mode)
                .map_err(|err| err.to_string()),
        ),
        Job::Exec(exec) => Outcome::Exec(run(&exec)),
        Job::Journal(_) => Outcome::Noted(Err("this process keeps no journal".into())),
    }
}

/// The addresses of `host`, IPv4 and IPv6 as the system orders them.
pub(super) fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let unknown = |why: &dyn std::fmt::Display| format!("cannot find the address of {host}: {why}");
    let found: Vec<SocketAddr> =
        (host, port).to_socket_addrs().map_err(|err| unknown(&err))?.collect();
    if found.is_empty() { Err(unknown(&"it has none")) } else { Ok(found) }
}

/// One HTTP exchange, whatever its status.
///
/// # Errors
///
/// A sentence: no connection, an untrusted certificate, a time-out, too long an answer.
pub(super) fn http(call: &HttpCall) -> Result<HttpAnswer, String> {
    let place = call.url.split('?').next().unwrap_or_default();
    let failed = |why: &dyn std::fmt::Display| format!("{} {place}: {why}", call.method);
    let mut request = http::Request::builder().method(call.method).uri(&call.url);
    for (name, value) in &call.headers {
        request = request.header(name, value.expose());
    }
    let agent = agent(call);
    let response = if call.body.is_empty() && matches!(call.method, "GET" | "DELETE" | "HEAD") {
        agent.run(request.body(()).map_err(|err| failed(&err))?)
    } else {
        agent.run(request.body(&call.body[..]).map_err(|err| failed(&err))?)
    };
    let mut response = response.map_err(|err| failed(&err))?;
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect();
    let limit = u64::try_from(call.limit).unwrap_or(u64::MAX);
    let body = response.body_mut().with_config().limit(limit).read_to_vec();
    Ok(HttpAnswer {
        status: response.status().as_u16(),
        headers,
        body: body.map_err(|err| failed(&err))?,
    })
}

fn agent(call: &HttpCall) -> Agent {
    let roots = call.roots.clone().unwrap_or_else(roots::system);
    let roots = roots.iter().map(|der| Certificate::from_der(der).to_owned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(provider)
        .root_certs(RootCerts::from(roots))
        .build();
    Agent::config_builder()
        .tls_config(tls)
        .proxy(proxy(&call.url))
        .https_only(call.url.starts_with("https:"))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .timeout_global(Some(call.timeout))
        .user_agent(concat!("cluster-connect/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent()
}

/// The rules of `NO_PROXY` are ours, as on every connection of the loop; the address and the
/// password are read by the library.
fn proxy(url: &str) -> Option<Proxy> {
    let uri = url.parse::<http::Uri>().ok()?;
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
    let egress = Egress::from_variables(&environment::variable).ok()?;
    egress.via(host).and_then(|_| Proxy::try_from_env())
}

fn run(exec: &Exec) -> Result<Secret<String>, String> {
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(&exec.command)
        .envs(exec.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|err| format!("cannot run the command: {err}"))?;
    let mut stdout = child.stdout.take().expect("it was asked for");
    let (done, wait) = channel();
    thread::spawn(move || {
        let mut text = String::new();
        let result = stdout.by_ref().take(EXEC_LIMIT).read_to_string(&mut text).map(|_| text);
        // Nobody waits any more after the time-out.
        let _ = done.send(result);
    });
    let printed = wait.recv_timeout(exec.timeout);
    if printed.is_err() {
        child.kill().ok();
    }
    let status = child.wait().map_err(|err| format!("cannot wait for the command: {err}"))?;
    let text: io::Result<String> =
        printed.map_err(|_| format!("the command took more than {}", seconds(exec.timeout)))?;
    if !status.success() {
        return Err(format!("the command failed with {status}"));
    }
    text.map(Secret::new).map_err(|err| format!("cannot read what the command printed: {err}"))
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

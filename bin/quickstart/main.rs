//! Brings the whole chain up on this machine, shows a request going through it, and leaves it
//! running: relay, auth proxy, agent and client proxy as four processes, and, where no cluster is
//! given, a demonstration API server and a token issuer that stand in for Kubernetes and Entra ID.
//!
//! Never shipped: it is an example of the package.

#![allow(unreachable_pub, reason = "modules of one program")]

#[allow(dead_code, reason = "tests use more of it")]
mod demo;
#[allow(dead_code, reason = "tests use more of it")]
mod issuer;
#[allow(dead_code, reason = "tests use more of it")]
mod processes;
mod show;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use processes::{Processes, Program, Result, Wish};

const HELP: &str = "\
quickstart: the whole chain on this machine, until Ctrl-C

  cargo run --example quickstart                          with a demonstration API server
  cargo run --example quickstart -- --kubeconfig FILE     with that cluster; the kubeconfig is used
                                                          as it is and must allow impersonation
  --once                                                  end after the demonstration
";

const NAME: &str = "edge-7";
const RELAY_AUDIENCE: &str = "quickstart-relay";
const CLUSTER_AUDIENCE: &str = "quickstart-cluster";
const ALICE: &str = "alice@contoso.com";

/// How long the tokens of the quickstart live.
const TOKEN_LIFE: Duration = Duration::from_secs(12 * 3600);

fn main() -> ExitCode {
    let mut words: Vec<_> = std::env::args_os().skip(1).collect();
    if words.first().is_some_and(|word| word == processes::SELF) {
        words.remove(0);
        return cluster_connect::start::run(words);
    }
    match run(pico_args::Arguments::from_vec(words)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("quickstart: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut args: pico_args::Arguments) -> Result<()> {
    if args.contains(["-h", "--help"]) {
        print!("{HELP}");
        return Ok(());
    }
    let once = args.contains("--once");
    let kubeconfig: Option<PathBuf> =
        args.opt_value_from_str("--kubeconfig").map_err(|err| err.to_string())?;
    if let Some(extra) = args.finish().first() {
        return Err(format!("unexpected argument {}\n\n{HELP}", extra.display()));
    }
    let dir = Scratch::new()?;
    let chain = Chain::start(&dir.0, kubeconfig)?;
    chain.demonstrate()?;
    if !once {
        println!("\nEverything runs until Ctrl-C.");
        wait_for_interrupt()?;
        println!("\nstopping");
    }
    Ok(())
}

/// A private directory that is gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let name = format!("cluster-connect-quickstart-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|err| format!("cannot make {}: {err}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Everything that runs. What was started last is stopped first.
struct Chain {
    kubeconfig: PathBuf,
    processes: Processes,
    real_cluster: bool,
    api: Option<demo::Server>,
    _issuer: issuer::Issuer,
}

impl Chain {
    fn start(dir: &Path, kubeconfig: Option<PathBuf>) -> Result<Self> {
        let issuer = issuer::Issuer::start().map_err(text)?;
        write(&dir.join("issuer-ca.pem"), issuer.ca_pem())?;
        println!("token issuer   {}  stands in for Entra ID", issuer.url());
        let real_cluster = kubeconfig.is_some();
        let (api, kubeconfig) = match kubeconfig {
            Some(path) => (None, path),
            None => {
                let server = demo::Server::start(demo::Options::default()).map_err(text)?;
                println!("API server     {}  a demonstration, not Kubernetes", server.url());
                let path = dir.join("apiserver.yaml");
                write(&path, &proxy_account(&server)?)?;
                (Some(server), path)
            }
        };
        let mut processes = Processes::new(Program::own()?, dir);
        let relay = start_relay(&mut processes, &issuer, dir)?;
        let program = processes.program().clone();
        let listed = |words: &[&str]| operator(&program, dir, &relay, words);
        listed(&["add", NAME])?;
        let token = listed(&["join-token", NAME, "-o", "json"])?;
        let token: serde_json::Value = serde_json::from_str(&token).map_err(text)?;
        let token = token["joinToken"].as_str().ok_or("the relay gave no join token")?;
        write(&dir.join("join-token"), token)?;
        start_cluster(&mut processes, &issuer, dir, &relay, &kubeconfig)?;
        listed(&["grant", NAME, "--user", ALICE])?;
        for (file, audience) in [("relay.jwt", RELAY_AUDIENCE), ("cluster.jwt", CLUSTER_AUDIENCE)] {
            let claims = issuer.user_claims(audience, ALICE, &["developers"], TOKEN_LIFE);
            write(&dir.join(file), &issuer.token_with(issuer::Algorithm::Rs256, &claims))?;
        }
        let kubeconfig = start_client(&mut processes, dir, &relay)?;
        Ok(Self { kubeconfig, processes, real_cluster, api, _issuer: issuer })
    }

    fn demonstrate(&self) -> Result<()> {
        println!("\nAs {ALICE}, through client proxy, relay, agent and auth proxy:\n");
        let access = show::Access::read(&self.kubeconfig)?;
        let review = access.post(
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            r#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#,
        )?;
        let user = &review.body["status"]["userInfo"];
        println!("  who am I?                  {} {}", user["username"], user["groups"]);
        if user["username"] != ALICE {
            return Err(format!("the API server saw somebody else: {}", review.body));
        }
        let refused = access.get("/api/v1/namespaces/kube-system/secrets")?;
        println!("  secrets of kube-system?    {} {}", refused.status, refused.body["message"]);
        if refused.status != 403 {
            return Err("RBAC should have refused that".into());
        }
        if let Some(api) = &self.api {
            let allowed = access.get("/api/v1/namespaces/demo/pods")?;
            let names = allowed.body["items"].as_array().map_or(0, Vec::len);
            println!("  pods of demo?              {} {names} found", allowed.status);
            let audit = api.audit();
            let last = audit.last().ok_or("the API server saw nothing")?;
            println!(
                "  the API server's audit     {} acting for {}",
                last["user"]["username"], last["impersonatedUser"]["username"]
            );
        } else if self.real_cluster {
            println!("  (what {ALICE} may do is this cluster's RBAC)");
        }
        println!("\nTry:\n\n  kubectl --kubeconfig {} get namespaces", self.kubeconfig.display());
        println!("\nLogs are in {}", self.processes.log_dir().display());
        Ok(())
    }
}

/// The demonstration server's account for the auth proxy: it may impersonate and nothing else.
fn proxy_account(server: &demo::Server) -> Result<String> {
    let rules = serde_json::json!([
        { "apiGroups": [""], "resources": ["users", "groups"], "verbs": ["impersonate"] },
        {
            "apiGroups": ["authentication.k8s.io"],
            "resources": ["userextras/oid", "userextras/cluster-connect.internal/credential-id"],
            "verbs": ["impersonate"],
        },
    ]);
    let role = |name: &str, rules: serde_json::Value| {
        serde_json::json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": { "name": name },
            "rules": rules,
        })
    };
    let rbac = ("rbac.authorization.k8s.io", "v1", "clusterroles");
    server.add(rbac.0, rbac.1, rbac.2, role("impersonator", rules));
    let account = ["system:serviceaccount:kube-system:kube-aad-proxy"];
    server.bind("impersonator", "impersonator", "User", &account);
    server.bind("alice-views", "view", "User", &[ALICE]);
    let token = server.service_account_token("kube-system", "kube-aad-proxy").map_err(text)?;
    Ok(server.kubeconfig_token(&token))
}

fn start_relay(processes: &mut Processes, issuer: &issuer::Issuer, dir: &Path) -> Result<String> {
    let state = dir.join("relay");
    let ca = dir.join("issuer-ca.pem");
    let address = processes.start(&Wish {
        name: "relay",
        words: &[
            "relay",
            "--listen",
            "127.0.0.1:0",
            "--tls-self-signed",
            "localhost,127.0.0.1",
            "--state-dir",
            &utf8(&state)?,
            "--oidc-issuer",
            issuer.url(),
            "--oidc-audience",
            RELAY_AUDIENCE,
            "--oidc-username-prefix",
            "-",
            "--oidc-groups-claim",
            "groups",
            "--oidc-groups-prefix",
            "-",
            "--oidc-ca-file",
            &utf8(&ca)?,
            "--audit-log",
            &utf8(&dir.join("relay-audit.log"))?,
        ],
        ready: "relay listens on ",
    })?;
    let port = address.split([':', ';']).nth(1).ok_or("the relay named no port")?;
    let url = format!("https://localhost:{port}");
    println!("relay          {url}");
    Ok(url)
}

fn start_cluster(
    processes: &mut Processes,
    issuer: &issuer::Issuer,
    dir: &Path,
    relay: &str,
    kubeconfig: &Path,
) -> Result<()> {
    let state = utf8(&dir.join("auth-proxy"))?;
    let place = processes.start(&Wish {
        name: "auth-proxy",
        words: &[
            "auth-proxy",
            "--listen",
            "127.0.0.1:0",
            "-n",
            NAME,
            "--state-dir",
            &state,
            "--kubeconfig",
            &utf8(kubeconfig)?,
            "--oidc-issuer",
            issuer.url(),
            "--oidc-audience",
            CLUSTER_AUDIENCE,
            "--oidc-username-prefix",
            "-",
            "--oidc-groups-claim",
            "groups",
            "--oidc-groups-prefix",
            "-",
            "--oidc-ca-file",
            &utf8(&dir.join("issuer-ca.pem"))?,
            "--audit-log",
            &utf8(&dir.join("auth-proxy-audit.log"))?,
            "--no-require-least-privilege",
        ],
        ready: "auth proxy of edge-7 listens on ",
    })?;
    println!("auth proxy     {place}");
    processes.start(&Wish {
        name: "agent",
        words: &[
            "agent",
            "--relay",
            relay,
            "--relay-ca",
            &utf8(&dir.join("relay/ca.pem"))?,
            "-n",
            NAME,
            "--state-dir",
            &utf8(&dir.join("agent"))?,
            "--join-token-file",
            &utf8(&dir.join("join-token"))?,
            "--auth-proxy",
            place.trim(),
            "--auth-proxy-ca",
            &utf8(&dir.join("auth-proxy/ca.pem"))?,
            "--auth-proxy-audience",
            CLUSTER_AUDIENCE,
        ],
        ready: "is connected to",
    })?;
    println!("agent          connected to the relay, no port open");
    Ok(())
}

fn start_client(processes: &mut Processes, dir: &Path, relay: &str) -> Result<PathBuf> {
    let kubeconfig = dir.join("kubeconfig");
    let tokens =
        format!("file:{},{}", utf8(&dir.join("relay.jwt"))?, utf8(&dir.join("cluster.jwt"))?);
    let ready = processes.start(&Wish {
        name: "proxy",
        words: &[
            "proxy",
            "--relay",
            relay,
            "--relay-ca",
            &utf8(&dir.join("relay/ca.pem"))?,
            "-n",
            NAME,
            "--identity",
            &tokens,
            "--port",
            "0",
            "-f",
            &utf8(&kubeconfig)?,
            "--known-hosts",
            &utf8(&dir.join("known/known-hosts"))?,
        ],
        ready: "ready: edge-7 at ",
    })?;
    println!("client proxy   {}", ready.trim());
    Ok(kubeconfig)
}

fn operator(program: &Program, dir: &Path, relay: &str, words: &[&str]) -> Result<String> {
    let (ca, token) = (utf8(&dir.join("relay/ca.pem"))?, utf8(&dir.join("relay/admin-token"))?);
    let mut all = vec!["cluster"];
    all.extend(words);
    all.extend(["--relay", relay, "--relay-ca", &ca, "--admin-token-file", &token]);
    program.run(&all)
}

/// Returns at SIGINT or SIGTERM.
fn wait_for_interrupt() -> Result<()> {
    let (mut read, write) = UnixStream::pair().map_err(text)?;
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let write = write.try_clone().map_err(text)?;
        signal_hook::low_level::pipe::register(signal, write).map_err(text)?;
    }
    read.read_exact(&mut [0]).map_err(text)
}

fn utf8(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| format!("{} is not UTF-8", path.display()))
}

fn write(path: &Path, content: &str) -> Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(|err| format!("cannot write {}: {err}", path.display()))?;
    file.write_all(content.as_bytes()).map_err(text)
}

fn text(err: impl std::fmt::Display) -> String {
    err.to_string()
}

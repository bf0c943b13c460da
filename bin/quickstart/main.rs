//! Brings the whole chain up on this machine, shows a request going through it, and leaves it
//! running: relay, auth proxy, agent and client proxy as four processes, and, where no cluster is
//! given, a demonstration API server and a token issuer that stand in for Kubernetes and Entra ID.
//!
//! Never shipped: it is an example of the package.

#![allow(unreachable_pub, reason = "modules of one program")]

#[allow(dead_code, reason = "tests use more of it")]
mod demo;
mod interrupt;
#[allow(dead_code, reason = "tests use more of it")]
mod issuer;
#[allow(dead_code, reason = "tests use more of it")]
mod processes;
mod show;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cluster_connect::config::manifest::rights::{Rights, Rule};
use interrupt::Interrupt;
use processes::{Processes, Program, Result, Wish};

const HELP: &str = "\
quickstart: the whole chain on this machine, until Ctrl-C

  cargo run --example quickstart                          with a demonstration API server
  cargo run --example quickstart -- --kubeconfig FILE     with that cluster; the kubeconfig is used
                                                          as it is and must allow impersonation
  --once                                                  end after the demonstration
";

const NAME: &str = "edge-7";
/// What whoever checks tokens says once it can.
const KEYS: &str = "keys are fresh";

const RELAY_AUDIENCE: &str = "quickstart-relay";
const CLUSTER_AUDIENCE: &str = "quickstart-cluster";
const ALICE: &str = "alice@contoso.com";

/// How long alice's tokens live; each is replaced at half its life, as her identity provider would.
const TOKEN_LIFE: Duration = Duration::from_secs(3600);

/// How long the auth proxy's own token lives, in seconds: longer than anybody tries things out.
const ACCOUNT_LIFE: u64 = 30 * 24 * 3600;

fn main() -> ExitCode {
    let mut words: Vec<_> = std::env::args_os().skip(1).collect();
    if words.first().is_some_and(|word| word == processes::SELF) {
        words.remove(0);
        processes::ends_with_its_parent();
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
    let mut interrupt = Interrupt::expect()?;
    let dir = Scratch::new()?;
    let mut chain = match Chain::start(&dir.0, kubeconfig) {
        Ok(chain) => chain,
        // A terminal interrupts the processes too, and what they say then is no fault.
        Err(_) if interrupt.came_within(BRIEFLY)? => {
            println!("\ninterrupted");
            return Ok(());
        }
        Err(why) => return Err(why),
    };
    chain.demonstrate()?;
    if once {
        println!("\nThat was all. Without --once it goes on running, for kubectl.");
        return Ok(());
    }
    chain.invite();
    chain.wait(&mut interrupt)?;
    println!("\nstopping");
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
    dir: PathBuf,
    kubeconfig: PathBuf,
    processes: Processes,
    api: Option<demo::Server>,
    issuer: issuer::Issuer,
}

impl Chain {
    fn start(dir: &Path, kubeconfig: Option<PathBuf>) -> Result<Self> {
        let issuer = issuer::Issuer::start().map_err(text)?;
        write(&dir.join("issuer-ca.pem"), issuer.ca_pem())?;
        println!("\nThe chain, on this machine alone:\n");
        ready("token issuer", issuer.url(), "stands in for Entra ID");
        let (api, kubeconfig) = match kubeconfig {
            Some(path) => (None, path),
            None => {
                let server = demo::Server::start(demo::Options::default()).map_err(text)?;
                ready("API server", &server.url(), "a demonstration, not Kubernetes");
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
        start_cluster(&mut processes, &issuer, dir, &relay, &kubeconfig, api.is_none())?;
        listed(&["grant", NAME, "--user", ALICE])?;
        write_tokens(&issuer, dir)?;
        let kubeconfig = start_client(&mut processes, dir, &relay)?;
        Ok(Self { dir: dir.to_owned(), kubeconfig, processes, api, issuer })
    }

    fn demonstrate(&self) -> Result<()> {
        println!("\nAs {ALICE}, through client proxy, relay, agent and auth proxy:\n");
        let access = show::Access::read(&self.kubeconfig)?;
        let review = access.post(
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            r#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#,
        )?;
        let user = &review.body["status"]["userInfo"];
        let groups: Vec<&str> =
            user["groups"].as_array().into_iter().flatten().filter_map(|it| it.as_str()).collect();
        let name = user["username"].as_str().unwrap_or_default();
        println!("  who am I?                 {name}, in {}", groups.join(", "));
        if user["username"] != ALICE {
            return Err(format!("the API server saw somebody else: {}", review.body));
        }
        let refused = access.get("/api/v1/namespaces/kube-system/secrets")?;
        let why = refused.body["message"].as_str().unwrap_or_default();
        println!("  secrets of kube-system?   {}: {why}", refused.status);
        if refused.status != 403 {
            return Err("RBAC should have refused that".into());
        }
        if let Some(api) = &self.api {
            let allowed = access.get("/api/v1/namespaces/demo/pods")?;
            let names = allowed.body["items"].as_array().map_or(0, Vec::len);
            println!("  pods of demo?             {}: {names} found", allowed.status);
            if allowed.status != 200 {
                return Err("RBAC should have allowed that".into());
            }
            let audit = api.audit();
            let last = audit.last().ok_or("the API server saw nothing")?;
            let name = |of: &str| last[of]["username"].as_str().unwrap_or_default().to_owned();
            println!("  whom did it let in?       {}", name("user"));
            println!("  acting for?               {}", name("impersonatedUser"));
        } else {
            println!("  (what {ALICE} may do is this cluster's RBAC)");
        }
        Ok(())
    }

    /// What to do with it now.
    fn invite(&self) {
        println!("\nTry, in another terminal:\n");
        let line = |words: &str, remark: &str| {
            let remark = if remark.is_empty() { String::new() } else { format!("   # {remark}") };
            println!("  kubectl --kubeconfig {} {words}{remark}", self.kubeconfig.display());
        };
        line("get namespaces", "");
        if self.api.is_some() {
            line("-n demo exec -it web -- sh", "alice may edit in demo, and look elsewhere");
            line("-n kube-system get secrets", "and this she may not");
        }
        println!("\nLogs and audit logs are in {}", self.processes.log_dir().display());
        println!("Everything runs until Ctrl-C, and is gone then.");
    }

    /// Until it is interrupted, or a part of it has ended.
    fn wait(&mut self, interrupt: &mut Interrupt) -> Result<()> {
        let mut renewed = Instant::now();
        while !interrupt.came_within(Duration::from_secs(1))? {
            if let Some(name) = self.processes.ended() {
                // A terminal interrupts them, too.
                if interrupt.came_within(BRIEFLY)? {
                    return Ok(());
                }
                let log = self.processes.log_dir().join(format!("{name}.log"));
                let said = fs::read_to_string(log).unwrap_or_default();
                return Err(format!("{name} has ended; it said:\n{said}"));
            }
            if TOKEN_LIFE / 2 < renewed.elapsed() {
                write_tokens(&self.issuer, &self.dir)?;
                renewed = Instant::now();
            }
        }
        Ok(())
    }
}

/// How long after an interrupted process this one hears of it, at most.
const BRIEFLY: Duration = Duration::from_millis(500);

/// One line for a part that is up.
fn ready(name: &str, place: &str, remark: &str) {
    println!("  {name:<13} {place:<27} {remark}");
}

/// Alice's two tokens, where the client proxy reads them.
fn write_tokens(issuer: &issuer::Issuer, dir: &Path) -> Result<()> {
    for (file, audience) in [("relay.jwt", RELAY_AUDIENCE), ("cluster.jwt", CLUSTER_AUDIENCE)] {
        let claims = issuer.user_claims(audience, ALICE, &["developers"], TOKEN_LIFE);
        let fresh = dir.join(format!("{file}.new"));
        write(&fresh, &issuer.token_with(issuer::Algorithm::Rs256, &claims))?;
        fs::rename(&fresh, dir.join(file)).map_err(text)?;
    }
    Ok(())
}

/// The demonstration server's account for the auth proxy: it may impersonate and nothing else.
fn proxy_account(server: &demo::Server) -> Result<String> {
    let rules: Vec<_> = Rights::default().rules().iter().map(Rule::to_json).collect();
    let role = serde_json::json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": { "name": "impersonator" },
        "rules": rules,
    });
    let rbac = ("rbac.authorization.k8s.io", "v1");
    server.add(rbac.0, rbac.1, "clusterroles", role);
    let account = ["system:serviceaccount:kube-system:kube-aad-proxy"];
    server.bind("impersonator", "impersonator", "User", &account);
    server.bind("alice-views", "view", "User", &[ALICE]);
    let edits = serde_json::json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": { "name": "alice-edits", "namespace": "demo" },
        "roleRef": { "apiGroup": rbac.0, "kind": "ClusterRole", "name": "edit" },
        "subjects": [{ "kind": "User", "name": ALICE, "apiGroup": rbac.0 }],
    });
    server.add(rbac.0, rbac.1, "rolebindings", edits);
    let account = server.service_account_token_for("kube-system", "kube-aad-proxy", ACCOUNT_LIFE);
    let token = account.map_err(text)?;
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
        // Before that it knows nobody, and says so: try again.
        also: Some(KEYS),
    })?;
    let port = address.split([':', ';']).nth(1).ok_or("the relay named no port")?;
    let url = format!("https://localhost:{port}");
    ready("relay", &url, "where both sides dial to");
    Ok(url)
}

fn start_cluster(
    processes: &mut Processes,
    issuer: &issuer::Issuer,
    dir: &Path,
    relay: &str,
    kubeconfig: &Path,
    is_real: bool,
) -> Result<()> {
    let state = utf8(&dir.join("auth-proxy"))?;
    // Somebody's own kubeconfig may do whatever it may do.
    let rights = if is_real { "--no-require-least-privilege" } else { "--require-least-privilege" };
    let place = processes.start(&Wish {
        name: "auth-proxy",
        words: &[
            "auth-proxy",
            rights,
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
        ],
        ready: "auth proxy of edge-7 listens on ",
        also: None,
    })?;
    ready("auth proxy", place.trim(), "checks tokens, impersonates");
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
        also: None,
    })?;
    ready("agent", "no port open", "has dialled out to the relay");
    Ok(())
}

fn start_client(processes: &mut Processes, dir: &Path, relay: &str) -> Result<PathBuf> {
    let kubeconfig = dir.join("kubeconfig");
    let tokens =
        format!("file:{},{}", utf8(&dir.join("relay.jwt"))?, utf8(&dir.join("cluster.jwt"))?);
    let place = processes.start(&Wish {
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
        also: None,
    })?;
    ready("client proxy", place.trim(), "where kubectl goes");
    Ok(kubeconfig)
}

fn operator(program: &Program, dir: &Path, relay: &str, words: &[&str]) -> Result<String> {
    let (ca, token) = (utf8(&dir.join("relay/ca.pem"))?, utf8(&dir.join("relay/admin-token"))?);
    let mut all = vec!["cluster"];
    all.extend(words);
    all.extend(["--relay", relay, "--relay-ca", &ca, "--admin-token-file", &token]);
    program.run(&all)
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

//! The whole chain as processes of their own, on free ports, below one private directory: relay,
//! auth proxy and agent (or edge), client proxy. The demonstration API servers and the token
//! issuer are in the test's process. Nothing sleeps: a process is ready when it says so.

mod apiserver;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cluster_connect::wire::kubeconfig::{Kubeconfig, Material, Token};

use crate::demo;
use crate::issuer::{Algorithm, Issuer};
use crate::kubectl::TempDir;
pub(crate) use crate::kubectl::private;
use crate::processes::{Process, Program, Result, Wish};

pub(crate) const ALICE: &str = "alice@contoso.com";
pub(crate) const RELAY_AUDIENCE: &str = "test-relay";
pub(crate) const CLUSTER_AUDIENCE: &str = "test-cluster";

/// Longer than any test takes.
const TOKEN_LIFE: Duration = Duration::from_secs(3600);

/// A chain with one cluster and one client, which is what most tests want. Fields are dropped in
/// their order: who dials before who listens.
pub(crate) struct Chain {
    pub(crate) client: Client,
    pub(crate) cluster: Cluster,
    pub(crate) site: Site,
}

/// The relay, the issuer, and the directory of everything.
pub(crate) struct Site {
    relay: Process,
    listen: String,
    /// Where agents and clients reach the relay; a test may put something in between.
    pub(crate) url: String,
    pub(crate) issuer: Issuer,
    tls: RelayTls,
    logs: Logs,
    dir: TempDir,
}

/// A demonstration API server, and what connects it.
pub(crate) struct Cluster {
    pub(crate) name: String,
    options: Options,
    agent: Option<Process>,
    auth_proxy: Option<Process>,
    place: String,
    pub(crate) api: demo::Server,
}

/// How a cluster is connected.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    /// Agent and auth proxy in one process.
    pub(crate) edge: bool,
    /// Kubernetes tokens go through as they are.
    pub(crate) passthrough: bool,
    /// The auth proxy has an administrator's client certificate, as k3s.yaml has.
    pub(crate) certificate: bool,
    /// The tunnel may not be measured.
    pub(crate) unmeasured: bool,
    /// Agent and auth proxy log what they do in detail.
    pub(crate) talkative: bool,
    /// The agent listens by the connection string in `{name}.listen`, and no API knows of it.
    pub(crate) by_string: bool,
}

/// A client proxy.
pub(crate) struct Client {
    pub(crate) process: Process,
    /// What it has written.
    pub(crate) kubeconfig: String,
}

/// What a kubeconfig says about one cluster.
pub(crate) struct Way {
    pub(crate) port: u16,
    /// `/proxies/<id>`
    pub(crate) path: String,
    pub(crate) ca_pem: String,
    pub(crate) token: String,
}

/// How the relay is reached.
#[derive(Debug, Clone, Copy)]
enum RelayTls {
    /// Under a CA of its own.
    Own,
    /// Without TLS, so that a test in between can read and change what it carries.
    Off,
}

/// Prints every log when a test fails.
struct Logs(PathBuf);

impl Chain {
    /// # Panics
    ///
    /// When anything does not start; the logs are printed then.
    pub(crate) fn start(options: Options) -> Self {
        let mut site = Site::start();
        let cluster = site.cluster("edge-7", options);
        let client = site.client(&["edge-7"]);
        Self { client, cluster, site }
    }
}

impl Site {
    pub(crate) fn start() -> Self {
        Self::start_with(RelayTls::Own)
    }

    /// With a relay that does not speak TLS itself.
    pub(crate) fn start_plain() -> Self {
        Self::start_with(RelayTls::Off)
    }

    fn start_with(tls: RelayTls) -> Self {
        let dir = TempDir::new();
        let logs = Logs(dir.path().join("logs"));
        fs::create_dir(&logs.0).expect("a directory for logs is made");
        let issuer = Issuer::start().expect("the issuer starts");
        private(&dir.path().join("issuer-ca.pem"), issuer.ca_pem());
        let (relay, listen) = start_relay(dir.path(), &logs.0, &issuer, "127.0.0.1:0", tls);
        let port = listen.rsplit(':').next().expect("the relay names its port").to_owned();
        let scheme = match tls {
            RelayTls::Own => "https",
            RelayTls::Off => "http",
        };
        let url = format!("{scheme}://localhost:{port}");
        Self { relay, listen, url, issuer, tls, logs, dir }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        text(&self.dir.path().join(name))
    }

    pub(crate) fn logs(&self) -> &Path {
        &self.logs.0
    }

    /// Where the relay listens, whatever `url` says.
    pub(crate) fn relay_address(&self) -> &str {
        &self.listen
    }

    /// The relay's process.
    pub(crate) fn relay_id(&self) -> u32 {
        self.relay.id()
    }

    pub(crate) fn kill_relay(&mut self) {
        self.relay.kill();
    }

    /// Starts it again at the same address, with the same state.
    pub(crate) fn restart_relay(&mut self) {
        self.relay.kill();
        let (dir, listen) = (self.dir.path(), &self.listen);
        let started = start_relay(dir, &self.logs.0, &self.issuer, listen, self.tls);
        (self.relay, self.listen) = started;
    }

    /// An operator's command, which must succeed.
    pub(crate) fn operator(&self, words: &[&str]) -> String {
        self.try_operator(words).expect("the relay does what the operator wants")
    }

    /// An operator's command, and what it complains of.
    pub(crate) fn try_operator(&self, words: &[&str]) -> Result<String> {
        let token = self.path("relay/admin-token");
        let mut rest = vec!["--relay", &self.url, "--admin-token-file", &token];
        let ca = self.relay_ca_words();
        rest.extend(ca.iter().map(String::as_str));
        program().run(&[&["cluster"], words, &rest].concat())
    }

    /// `--relay-ca`, if the relay has one.
    pub(crate) fn relay_ca_words(&self) -> Vec<String> {
        match self.tls {
            RelayTls::Own => vec!["--relay-ca".to_owned(), self.path("relay/ca.pem")],
            RelayTls::Off => Vec::new(),
        }
    }

    /// A token of alice's or another's, good for an hour.
    pub(crate) fn token(&self, audience: &str, user: &str) -> String {
        let claims = self.issuer.user_claims(audience, user, &["developers"], TOKEN_LIFE);
        self.issuer.token_with(Algorithm::Rs256, &claims)
    }

    /// What `--identity` takes: files with fresh tokens of this user.
    pub(crate) fn identity(&self, user: &str) -> String {
        let file = |audience: &str| {
            let path = self.path(&format!("{audience}-{user}.jwt"));
            private(Path::new(&path), &self.token(audience, user));
            path
        };
        format!("file:{},{}", file(RELAY_AUDIENCE), file(CLUSTER_AUDIENCE))
    }

    /// An API server, connected and granted to alice, who may edit there.
    pub(crate) fn cluster(&mut self, name: &str, options: Options) -> Cluster {
        let api = apiserver::start();
        api.bind("alice-edits", "edit", "User", &[ALICE]);
        let account = match options.certificate {
            true => api.kubeconfig_admin().expect("an administrator's kubeconfig"),
            false => apiserver::account(&api),
        };
        private(Path::new(&self.path(&format!("{name}.apiserver"))), &account);
        if !options.by_string {
            let token = self.operator(&["add", name, "-o", "json"]);
            let token: serde_json::Value = serde_json::from_str(&token).expect("JSON from add");
            let token = token["joinToken"].as_str().expect("a join token").to_owned();
            private(Path::new(&self.path(&format!("{name}.join-token"))), &token);
        }
        let mut cluster = Cluster {
            name: name.to_owned(),
            options,
            agent: None,
            auth_proxy: None,
            place: "127.0.0.1:0".to_owned(),
            api,
        };
        if !options.edge {
            cluster.start_auth_proxy(self);
        }
        cluster.start_agent(self);
        if !options.by_string {
            self.operator(&["grant", name, "--user", ALICE]);
        }
        cluster
    }

    /// The words that every client needs, for these clusters as alice.
    pub(crate) fn client_words(&self, clusters: &[&str]) -> Vec<String> {
        let mut words: Vec<String> = ["--relay", &self.url].map(str::to_owned).into();
        words.extend(self.relay_ca_words());
        words.extend(["--identity".to_owned(), self.identity(ALICE)]);
        words.extend(["--known-hosts".to_owned(), self.path("known/hosts")]);
        for cluster in clusters {
            words.extend(["-n".to_owned(), (*cluster).to_owned()]);
        }
        words
    }

    pub(crate) fn client(&self, clusters: &[&str]) -> Client {
        self.client_with(clusters, &[])
    }

    /// A client proxy with more options.
    pub(crate) fn client_with(&self, clusters: &[&str], more: &[&str]) -> Client {
        let name = format!("proxy-{}", clusters.join("-"));
        self.client_of(&name, replaced(self.client_words(clusters), more))
    }

    /// A client proxy with these options.
    pub(crate) fn client_of(&self, name: &str, words: Vec<String>) -> Client {
        let path = self.path(&format!("kube/{name}.yaml"));
        let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
        words.insert(0, "proxy");
        words.extend(["--port", "0", "-f", &path]);
        let ready = "ready: ";
        let (process, _) = start(self.logs(), &Wish { name, words: &words, ready, also: None });
        let kubeconfig = fs::read_to_string(&path).expect("the kubeconfig is there when ready");
        Client { process, kubeconfig }
    }

    /// A command of `cluster-connect`, in an empty environment but for `HOME`, which is private.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = program().command(words);
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("HOME", self.dir.path()).env("PATH", path);
        command.env("TMPDIR", self.dir.path()).current_dir(self.dir.path());
        command
    }
}

impl Cluster {
    /// The agent's, or the edge's.
    pub(crate) fn agent_id(&self) -> u32 {
        self.agent.as_ref().map_or(0, Process::id)
    }

    pub(crate) fn auth_proxy_id(&self) -> u32 {
        self.auth_proxy.as_ref().map_or(0, Process::id)
    }

    /// Where the auth proxy listens.
    pub(crate) fn auth_proxy_address(&self) -> &str {
        &self.place
    }

    /// As `kill -9` does, to the agent or the edge.
    pub(crate) fn kill_agent(&mut self) {
        self.agent = None;
    }

    pub(crate) fn kill_auth_proxy(&mut self) {
        self.auth_proxy = None;
    }

    /// Waits until the agent, which has not been restarted, has found a relay again.
    pub(crate) fn is_connected_again(&mut self) {
        let agent = self.agent.as_mut().expect("the agent runs");
        agent.says("listening at ").expect("the agent finds the relay");
    }

    /// Starts it, again if need be, at the address that it had before.
    pub(crate) fn start_auth_proxy(&mut self, site: &Site) {
        self.auth_proxy = None;
        let name = format!("{}.auth-proxy", self.name);
        let words = [
            strings(&["auth-proxy", "--listen", &self.place, "-n", &self.name]),
            strings(&["--state-dir", &site.path(&name)]),
            self.gate_words(site),
        ]
        .concat();
        let ready = format!("auth proxy of {} listens on ", self.name);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let wish = Wish { name: &name, words: &words, ready: &ready, also: None };
        let (mut process, place) = start(site.logs(), &wish);
        // It listens before it has fetched the issuer's document and then the keys.
        process.says("keys are fresh").expect("the auth proxy fetches keys");
        place.trim().clone_into(&mut self.place);
        self.auth_proxy = Some(process);
    }

    /// Starts agent or edge, again if need be, and waits until it is connected.
    pub(crate) fn start_agent(&mut self, site: &Site) {
        self.agent = None;
        let role = if self.options.edge { "edge" } else { "agent" };
        let name = format!("{}.{role}", self.name);
        let mut words = strings(&[role, "-n", &self.name]);
        words.extend(site.relay_ca_words());
        words.extend(strings(&["--state-dir", &site.path(&name)]));
        if self.options.by_string {
            let file = site.path(&format!("{}.listen", self.name));
            words.extend(strings(&["--connection-string-file", &file]));
        } else {
            let join_token = site.path(&format!("{}.join-token", self.name));
            words.extend(strings(&["--relay", &site.url, "--join-token-file", &join_token]));
        }
        if self.options.edge {
            words.extend(self.gate_words(site));
            words.push("--no-bootstrap".to_owned());
        } else {
            let ca = site.path(&format!("{}.auth-proxy/ca.pem", self.name));
            words.extend(strings(&["--auth-proxy", &self.place, "--auth-proxy-ca", &ca]));
            words.extend(strings(&["--auth-proxy-audience", CLUSTER_AUDIENCE]));
        }
        words.extend(only_if(self.options.talkative && !self.options.edge, &DEBUG));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        // Callers wait for the issuer's first keys, but not for ever.
        let also = self.options.edge.then_some("keys are fresh");
        let wish = Wish { name: &name, words: &words, ready: "is connected to", also };
        self.agent = Some(start(site.logs(), &wish).0);
    }

    fn gate_words(&self, site: &Site) -> Vec<String> {
        let mut words = issuer_words(site.dir.path(), &site.issuer, CLUSTER_AUDIENCE);
        words.extend(strings(&["--kubeconfig", &site.path(&format!("{}.apiserver", self.name))]));
        words.extend(strings(&["--audit-log", &site.path(&format!("{}.audit", self.name))]));
        words.push("--no-require-least-privilege".to_owned());
        words.extend(only_if(self.options.talkative, &DEBUG));
        words.extend(only_if(self.options.unmeasured, &["--bench-rate", "0"]));
        if self.options.passthrough {
            let issuer = "https://kubernetes.default.svc.cluster.local";
            words.extend(strings(&["--sa-passthrough", "--sa-issuer", issuer]));
        }
        words
    }
}

impl Client {
    /// Where the kubeconfig leads for the context of a cluster.
    pub(crate) fn way(&self, cluster: &str) -> Way {
        let config = Kubeconfig::parse(self.kubeconfig.as_bytes()).expect("a kubeconfig");
        let access = config.select(Some(cluster)).expect("the context of the cluster");
        let Some(Material::Inline(ca)) = access.authority else { panic!("no CA inside") };
        let Some(Token::Inline(token)) = access.token else { panic!("no token inside") };
        Way {
            port: access.server.port,
            path: access.server.path.clone(),
            ca_pem: String::from_utf8(ca.expose().clone()).expect("PEM is text"),
            token: token.expose().clone(),
        }
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|it| it == "log") {
                let log = fs::read_to_string(entry.path()).unwrap_or_default();
                let _ = writeln!(std::io::stderr(), "--- {}\n{log}", entry.path().display());
            }
        }
    }
}

pub(crate) fn program() -> Program {
    Program::at(env!("CARGO_BIN_EXE_cluster-connect"))
}

fn start_relay(
    dir: &Path,
    logs: &Path,
    issuer: &Issuer,
    listen: &str,
    tls: RelayTls,
) -> (Process, String) {
    let tls = match tls {
        RelayTls::Own => &["--tls-self-signed", "localhost,127.0.0.1"][..],
        RelayTls::Off => &["--no-tls"],
    };
    let words = [
        strings(&["relay", "--listen", listen]),
        strings(tls),
        strings(&["--state-dir", &text(&dir.join("relay"))]),
        strings(&["--audit-log", &text(&dir.join("relay.audit"))]),
        issuer_words(dir, issuer, RELAY_AUDIENCE),
    ]
    .concat();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    // Before it has the issuer's keys, everybody is told to try again.
    let also = Some("keys are fresh");
    let wish = Wish { name: "relay", words: &words, ready: "relay listens on ", also };
    let (relay, place) = start(logs, &wish);
    let place = place.split(';').next().unwrap_or_default().trim().to_owned();
    (relay, place)
}

fn start(logs: &Path, wish: &Wish<'_>) -> (Process, String) {
    Process::start(&program(), logs, wish).unwrap_or_else(|why| panic!("{why}"))
}

fn issuer_words(dir: &Path, issuer: &Issuer, audience: &str) -> Vec<String> {
    let mut words = strings(&["--oidc-issuer", issuer.url(), "--oidc-audience", audience]);
    words.extend(strings(&["--oidc-username-prefix", "-", "--oidc-groups-prefix", "-"]));
    words.extend(strings(&["--oidc-groups-claim", "groups"]));
    words.extend(strings(&["--oidc-ca-file", &text(&dir.join("issuer-ca.pem"))]));
    words
}

const DEBUG: [&str; 2] = ["--log-level", "debug"];

fn only_if(so: bool, words: &[&str]) -> Vec<String> {
    if so { strings(words) } else { Vec::new() }
}

/// These words and more, where an option that is there already gets another value.
pub(crate) fn replaced(mut words: Vec<String>, more: &[&str]) -> Vec<String> {
    let mut more = more.iter();
    while let Some(word) = more.next() {
        match words.iter().position(|there| there == word) {
            Some(at) => words[at + 1] = (*more.next().expect("a value")).to_owned(),
            None => words.push((*word).to_owned()),
        }
    }
    words
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// Ends a process as a terminal or systemd does, and gives what it printed.
pub(crate) fn terminate(process: Process) -> Result<(std::process::ExitStatus, String)> {
    let pid = process.id().to_string();
    let status = Command::new("kill").args(["-TERM", &pid]).status();
    status.map_err(|err| err.to_string())?;
    process.ended()
}

//! The server as tests and the quickstart hold it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;
use serde_json::{Value, json};
use socket2::SockRef;

use super::connection;
use super::identity::User;
use super::seed;
use super::store::text;
use super::tls::lock;
use super::token::{Mint, random_uuid};
use super::world::{World, url};

/// How to start.
pub(crate) struct Options {
    /// Port 0 takes a free one.
    pub(crate) listen: SocketAddr,
    /// Fixed bearer tokens: token, user, groups.
    pub(crate) tokens: Vec<(String, String, Vec<String>)>,
    /// Receives each audit event as a line of JSON, beside what `Server::audit` gives.
    pub(crate) audit: Option<Box<dyn Write + Send>>,
    /// Users who may do everything, by cluster role binding.
    pub(crate) admins: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { listen, tokens: Vec::new(), audit: None, admins: Vec::new() }
    }
}

/// A running server. It ends when this is dropped.
pub(crate) struct Server {
    world: Arc<World>,
    config: Arc<ServerConfig>,
    admin_token: String,
    addr: SocketAddr,
    running: Mutex<Option<Running>>,
}

struct Running {
    stop: Arc<AtomicBool>,
    connections: Arc<Connections>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Connections {
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, TcpStream>>,
}

#[allow(dead_code, reason = "each program that includes this module uses a part of it")]
impl Server {
    pub(crate) fn start(options: Options) -> io::Result<Self> {
        let world = World::new(options.audit)?;
        seed::fill(&world);
        let admin_token = random_uuid();
        world
            .tokens
            .add_static(&admin_token, User::new("demo-admin", vec!["system:masters".into()]));
        for (token, user, groups) in options.tokens {
            world.tokens.add_static(&token, User::new(&user, groups));
        }
        for user in &options.admins {
            seed::bind(&world, &format!("demo-admin-{user}"), "cluster-admin", "User", &[user]);
        }
        let listener = TcpListener::bind(options.listen)?;
        let server = Self {
            config: world.authority.server_config(options.listen.ip())?,
            world: Arc::new(world),
            admin_token,
            addr: listener.local_addr()?,
            running: Mutex::new(None),
        };
        server.accept_on(listener);
        Ok(server)
    }

    /// Takes the same address again after `stop`, with everything stored still there.
    pub(crate) fn restart(&self) -> io::Result<()> {
        self.stop();
        self.accept_on(TcpListener::bind(self.addr)?);
        Ok(())
    }

    /// Closes the port and kills every connection.
    pub(crate) fn stop(&self) {
        let Some(running) = lock(&self.running).take() else { return };
        running.stop.store(true, Ordering::SeqCst);
        // Wakes the accept loop, which then sees the flag.
        let _ = TcpStream::connect(self.addr);
        let _ = running.accepting.join();
        running.connections.kill();
    }

    /// Kills every connection and goes on accepting.
    pub(crate) fn kill_connections(&self) {
        if let Some(running) = lock(&self.running).as_ref() {
            running.connections.kill();
        }
    }

    pub(crate) fn open_connections(&self) -> usize {
        lock(&self.running).as_ref().map_or(0, |running| lock(&running.connections.open).len())
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn url(&self) -> String {
        url(self.addr)
    }

    pub(crate) fn ca_pem(&self) -> &str {
        self.world.authority.pem()
    }

    /// A bearer token of a member of `system:masters`.
    pub(crate) fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// An administrator's kubeconfig whose only credential is a client certificate, as k3s has it.
    pub(crate) fn kubeconfig_admin(&self) -> io::Result<String> {
        let client = self.world.authority.client("system:admin", &["system:masters"])?;
        let encode = |pem: &str| STANDARD.encode(pem);
        Ok(self.kubeconfig(&format!(
            "    client-certificate-data: {}\n    client-key-data: {}\n",
            encode(&client.certificate_pem),
            encode(&client.key_pem),
        )))
    }

    /// A kubeconfig whose only credential is a bearer token.
    pub(crate) fn kubeconfig_token(&self, token: &str) -> String {
        self.kubeconfig(&format!("    token: {token}\n"))
    }

    /// A token of a service account, which is made if it is not there.
    pub(crate) fn service_account_token(&self, namespace: &str, name: &str) -> io::Result<String> {
        self.service_account_token_for(namespace, name, 3600)
    }

    pub(crate) fn service_account_token_for(
        &self,
        namespace: &str,
        name: &str,
        seconds: u64,
    ) -> io::Result<String> {
        for (resource, kind, metadata) in [
            ("namespaces", "Namespace", json!({ "name": namespace })),
            ("serviceaccounts", "ServiceAccount", json!({ "name": name, "namespace": namespace })),
        ] {
            let object = json!({ "apiVersion": "v1", "kind": kind, "metadata": metadata });
            seed::add(&self.world, resource, object);
        }
        let account = self.world.store.get("serviceaccounts", namespace, name);
        let account = account.ok_or(io::ErrorKind::NotFound)?;
        self.world.tokens.mint(Mint {
            namespace,
            name,
            uid: text(&account, "/metadata/uid"),
            audiences: Vec::new(),
            now: self.world.now(),
            seconds,
        })
    }

    /// Stores an object as it is, without a request; false if one of that name is there.
    pub(crate) fn add(&self, group: &str, version: &str, plural: &str, object: Value) -> bool {
        let resource = super::resources::find(group, version, plural);
        let Some(resource) = resource else { return false };
        let before = self.world.store.version();
        seed::add(&self.world, resource.plural, object);
        self.world.store.version() != before
    }

    /// Gives users or groups (`kind`) a cluster role everywhere.
    pub(crate) fn bind(&self, name: &str, role: &str, kind: &str, subjects: &[&str]) {
        seed::bind(&self.world, name, role, kind, subjects);
    }

    /// Prints a line to a container's log.
    pub(crate) fn print_log(&self, namespace: &str, pod: &str, container: &str, line: &str) {
        self.world.logs.print(namespace, pod, container, line);
    }

    pub(crate) fn revoke_token(&self, token: &str) {
        self.world.tokens.revoke(token);
    }

    pub(crate) fn revoke_service_account_tokens(&self) {
        self.world.tokens.revoke_service_accounts();
    }

    /// Forgets the history of changes: watches are told 410 and start anew.
    pub(crate) fn forget_history(&self) {
        self.world.store.compact();
    }

    /// Every audit event so far.
    pub(crate) fn audit(&self) -> Vec<Value> {
        self.world.audit.snapshot()
    }

    /// The first audit event that satisfies `wanted`, waited for.
    pub(crate) fn audit_event(
        &self,
        patience: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Option<Value> {
        self.world.audit.wait_for(wanted, patience)
    }

    fn kubeconfig(&self, user: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: demo\n  cluster:\n    server: {}\n    \
             certificate-authority-data: {}\nusers:\n- name: demo\n  user:\n{user}contexts:\n\
             - name: demo\n  context:\n    cluster: demo\n    user: demo\ncurrent-context: demo\n",
            self.url(),
            STANDARD.encode(self.ca_pem()),
        )
    }

    fn accept_on(&self, listener: TcpListener) {
        let stop = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(Connections::default());
        let accepting = thread::spawn({
            let (stop, connections) = (stop.clone(), connections.clone());
            let (world, config) = (self.world.clone(), self.config.clone());
            move || {
                for tcp in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        // A process that is being started elsewhere has this socket too, until it
                        // executes, and would still listen.
                        let _ = SockRef::from(&listener).shutdown(Shutdown::Read);
                        return;
                    }
                    if let Ok(tcp) = tcp {
                        connections.serve(&world, &config, tcp);
                    }
                }
            }
        });
        *lock(&self.running) = Some(Running { stop, connections, accepting });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        // Connections that are still ending share the world, and the process may not wait for them.
        self.world.pods.clear();
    }
}

impl Connections {
    fn serve(self: &Arc<Self>, world: &Arc<World>, config: &Arc<ServerConfig>, tcp: TcpStream) {
        let Ok(handle) = tcp.try_clone() else { return };
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.open).insert(id, handle);
        let (all, world, config) = (self.clone(), world.clone(), config.clone());
        thread::spawn(move || {
            connection::serve(&world, tcp, config);
            lock(&all.open).remove(&id);
        });
    }

    fn kill(&self) {
        for connection in lock(&self.open).values() {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

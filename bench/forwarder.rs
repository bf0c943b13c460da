//! What the relay's pump is held against: programs that decrypt on one side and encrypt on the
//! other, and do nothing else.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ServerConfig};

use crate::rig::process::Process;
use crate::rig::stream::{CHUNK, Secure};
use crate::rig::tls::Pki;

/// As the first argument: where to go, and files with the CA.
pub(crate) const FORWARDER: &str = "--as-forwarder";

/// A program in the middle.
pub(crate) struct Forwarder {
    pub(crate) name: &'static str,
    pub(crate) process: Process,
    address: SocketAddr,
    sink: TcpListener,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    dir: std::path::PathBuf,
}

impl Forwarder {
    /// The loop of this crate's TLS alone, and haproxy if it is on the `PATH`.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = vec![Self::start("TLS to TLS, one blocking loop", own)];
        let path = std::env::var_os("PATH").unwrap_or_default();
        if std::env::split_paths(&path).any(|dir| dir.join("haproxy").is_file()) {
            all.push(Self::start("haproxy, TLS to TLS, one thread", haproxy));
        } else {
            println!("haproxy is not on the PATH");
        }
        all
    }

    fn start(
        name: &'static str,
        start: fn(&Path, &Pki, SocketAddr) -> (Process, SocketAddr),
    ) -> Self {
        let pki = Pki::new();
        let unique = format!("relay-bench-{}-{}", std::process::id(), name.len());
        let dir = std::env::temp_dir().join(unique);
        std::fs::create_dir(&dir).expect("a directory");
        let sink = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (process, address) = start(&dir, &pki, sink.local_addr().expect("an address"));
        let (client, server) = (pki.client(&[]), pki.server(&[]));
        Self { name, process, address, sink, client, server, dir }
    }

    /// Both ends of a connection through it.
    pub(crate) fn pair(&mut self) -> (Secure, Secure) {
        let (client, address) = (Arc::clone(&self.client), self.address);
        // A program may connect onward only when it has bytes, and our end waits for its handshake.
        let near = std::thread::spawn(move || {
            let mut near = Secure::connect(address, &client, "localhost").expect("it is there");
            near.write_all(b"!").expect("it reads");
            near
        });
        let (tcp, _) = self.sink.accept().expect("it comes");
        let mut far = Secure::accept(tcp, &self.server).expect("TLS");
        far.read_exact(&mut [0]).expect("the first byte");
        (near.join().expect("connected"), far)
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        // What is left of a temporary directory does no harm.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn own(dir: &Path, pki: &Pki, to: SocketAddr) -> (Process, SocketAddr) {
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_string_lossy().into_owned()
    };
    let ca = write("ca.pem", &pki.ca_pem);
    let (cert, key) = (write("cert.pem", &pki.cert_pem), write("key.pem", &pki.key_pem));
    let mut command = Command::new(std::env::current_exe().expect("we run"));
    command.args([FORWARDER, &to.to_string(), &ca, &cert, &key]);
    let (process, address) = Process::start("forwarder", command, "forwarder listens on ");
    (process, address.parse().expect("an address"))
}

/// Takes one connection after another and carries bytes in one direction until it is killed.
pub(crate) fn run(words: &[String]) -> ! {
    use cluster_connect::engine::tlsconf::{self, Identity, Versions};
    use rustls::time_provider::DefaultTimeProvider;

    let [to, ca, cert, key] = words else { panic!("four words") };
    let to: SocketAddr = to.parse().expect("an address");
    let time = || Arc::new(DefaultTimeProvider);
    let read = |path: &String| std::fs::read(path).expect("a file");
    let roots = tlsconf::certificates(&read(ca)).expect("PEM");
    let client = tlsconf::client(&roots, None, &[], Versions::Both, time()).expect("TLS");
    let identity = Identity::from_pem(&read(cert), &read(key)).expect("an identity");
    let server = tlsconf::server(identity, &[], Versions::Both, time()).expect("TLS").config;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    println!("forwarder listens on {}", listener.local_addr().expect("an address"));
    for tcp in listener.incoming() {
        let (client, server) = (Arc::clone(&client), Arc::clone(&server));
        std::thread::spawn(move || {
            let mut from = Secure::accept(tcp.expect("a connection"), &server).expect("TLS");
            let mut into = Secure::connect(to, &client, "localhost").expect("TLS");
            let mut chunk = vec![0; CHUNK];
            while let Ok(len @ 1..) = from.read(&mut chunk) {
                if into.write_all(&chunk[..len]).is_err() {
                    return;
                }
            }
        });
    }
    std::process::exit(0)
}

fn haproxy(dir: &Path, pki: &Pki, to: SocketAddr) -> (Process, SocketAddr) {
    // It cannot say which port it was given, so it is told one that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port");
    let pem = dir.join("both.pem");
    std::fs::write(&pem, format!("{}{}", pki.cert_pem, pki.key_pem)).expect("a file");
    let config = dir.join("haproxy.cfg");
    let text = format!(
        "global\n  nbthread 1\n  maxconn 100\ndefaults\n  mode tcp\n  timeout connect 5s\n  \
         timeout client 1m\n  timeout server 1m\nlisten it\n  bind {free} ssl crt {}\n  \
         server far {to} ssl verify none\n",
        pem.display()
    );
    std::fs::write(&config, text).expect("a file");
    let mut command = Command::new("/bin/sh");
    // The first line tells that it is about to be there; whether it is, the first connection shows.
    let line = format!("echo started; exec haproxy -db -f {}", config.display());
    command.args(["-c", &line]);
    let (process, _) = Process::start("haproxy", command, "started");
    let until = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(free).is_err() {
        assert!(Instant::now() < until, "haproxy does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    (process, free)
}

//! What the relay's pump is held against: programs that decrypt on one side and encrypt on the
//! other, and do nothing else.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ServerConfig};

use crate::rig::hop;
use crate::rig::process::Process;
use crate::rig::stream::Secure;
use crate::rig::tls::Pki;

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
        let mut all = vec![Self::start("a hop of nothing but TLS, blocking", hop::between)];
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

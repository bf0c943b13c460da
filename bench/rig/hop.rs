//! A hop: a program that carries bytes between two connections and does nothing else. With TLS on a
//! side it is what a hop costs at least with this crate's TLS, over blocking sockets.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use cluster_connect::engine::tlsconf::{self, Identity, Versions};
use rustls::time_provider::DefaultTimeProvider;
use rustls::{ClientConfig, ServerConfig};

use super::chain::{Chain, Way, text, write};
use super::process::Process;
use super::stream::{CHUNK, Secure, connect};
use super::tls::Pki;

/// As the first argument: how it speaks on both sides, where to go, and files with the CA, the
/// certificate and its key.
pub(crate) const HOP: &str = "--as-hop";

const PLAIN: &str = "plain";
const TLS: &str = "tls";

/// What comes from a side, and what goes there.
type Side = (Box<dyn BufRead + Send>, Box<dyn Write + Send>);

/// The name of [`three`].
pub(crate) const THREE: &str = "three hops of nothing but TLS, 2 legs";

/// From TLS to TLS.
pub(crate) fn between(dir: &Path, pki: &Pki, to: SocketAddr) -> (Process, SocketAddr) {
    start(dir, pki, [TLS, TLS], to)
}

/// Three in a row with TLS between them: what bytes pass in a tunnel of two legs, and nothing else.
pub(crate) fn three(dir: &Path, pki: &Pki, to: SocketAddr) -> Chain {
    let (last, to) = start(dir, pki, [TLS, PLAIN], to);
    let (middle, to) = start(dir, pki, [TLS, TLS], to);
    let (first, to) = start(dir, pki, [PLAIN, TLS], to);
    Chain {
        name: THREE,
        processes: vec![first, middle, last],
        way: Way::Tcp(to),
        is_ours: false,
        cluster: None,
    }
}

fn start(dir: &Path, pki: &Pki, [from, into]: [&str; 2], to: SocketAddr) -> (Process, SocketAddr) {
    let files = [("ca.pem", &pki.ca_pem), ("cert.pem", &pki.cert_pem), ("key.pem", &pki.key_pem)];
    let files = files.map(|(name, content)| {
        let path = dir.join(format!("hop-{name}"));
        write(&path, content);
        text(&path)
    });
    let mut command = Command::new(std::env::current_exe().expect("we run"));
    command.args([HOP, from, into, &to.to_string()]).args(files);
    let (process, address) = Process::start("hop", command, "hop listens on ");
    (process, address.parse().expect("an address"))
}

/// Takes connections until it is killed.
pub(crate) fn run(words: &[String]) {
    let [from, into, to, ca, cert, key] = words else { panic!("six words") };
    let to: SocketAddr = to.parse().expect("an address");
    let time = || Arc::new(DefaultTimeProvider);
    let read = |path: &String| std::fs::read(path).expect("a file");
    let roots = tlsconf::certificates(&read(ca)).expect("PEM");
    let client = tlsconf::client(&roots, None, &[], Versions::Both, time()).expect("TLS");
    let identity = Identity::from_pem(&read(cert), &read(key)).expect("an identity");
    let server = tlsconf::server(identity, &[], Versions::Both, time()).expect("TLS").config;
    let server = (from == TLS).then_some(server);
    let client = (into == TLS).then_some(client);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    println!("hop listens on {}", listener.local_addr().expect("an address"));
    for tcp in listener.incoming() {
        let (client, server) = (client.clone(), server.clone());
        thread::spawn(move || join(tcp.expect("a connection"), server, to, client));
    }
}

fn join(
    tcp: TcpStream,
    server: Option<Arc<ServerConfig>>,
    to: SocketAddr,
    client: Option<Arc<ClientConfig>>,
) {
    tcp.set_nodelay(true).expect("a socket");
    let near = tcp.try_clone().expect("a descriptor");
    let (from, back) = match server {
        Some(config) => boxed(Secure::accept(tcp, &config).expect("TLS")),
        None => plain(tcp),
    };
    let far = connect(to).expect("somebody listens");
    let beyond = far.try_clone().expect("a descriptor");
    let (answers, into) = match client {
        Some(config) => boxed(Secure::over(far, &config, "localhost").expect("TLS")),
        None => plain(far),
    };
    thread::spawn(move || carry(answers, back, &near));
    carry(from, into, &beyond);
}

fn boxed(stream: Secure) -> Side {
    let (reader, writer) = stream.split();
    (Box::new(reader), Box::new(writer))
}

fn plain(tcp: TcpStream) -> Side {
    let reader = BufReader::with_capacity(CHUNK, tcp.try_clone().expect("a descriptor"));
    (Box::new(reader), Box::new(tcp))
}

/// Until one side ends, whose end the other hears of.
fn carry(mut from: Box<dyn BufRead + Send>, mut into: Box<dyn Write + Send>, end: &TcpStream) {
    while let Ok(bytes @ [_, ..]) = from.fill_buf() {
        let len = bytes.len();
        if into.write_all(bytes).is_err() {
            break;
        }
        from.consume(len);
    }
    // Whoever has gone already needs no word.
    let _ = end.shutdown(Shutdown::Write);
}

//! What stands behind the tunnel: an origin that sends, swallows or echoes bytes as it is asked,
//! over plain TCP or behind an upgrade, and just enough of an API server around it.
//!
//! A request of the origin is a letter and a length: `D` asks for bytes down, `U` announces bytes
//! up and is answered with one byte, `E` has the bytes that follow sent back.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use cluster_connect::engine::tlsconf::{self, Identity, Versions};
use rustls::ServerConfig;
use rustls::time_provider::DefaultTimeProvider;

use super::stream::{CHUNK, Secure, Stream};

/// A list as large as that of 1,000 config maps.
pub(crate) const LIST: usize = 1_250_000;

/// As the first argument: certificate and key of the API server, in PEM files.
pub(crate) const ORIGIN: &str = "--as-origin";

/// Serves both kinds, in a process of its own, until it is killed.
pub(crate) fn run(words: &[String]) -> ! {
    let [chain, key] = words else { panic!("two words") };
    let [chain, key] = [chain, key].map(|path| std::fs::read(path).expect("a PEM file"));
    let identity = Identity::from_pem(&chain, &key).expect("PEM");
    let time = Arc::new(DefaultTimeProvider);
    let server = tlsconf::server(identity, &[b"http/1.1"], Versions::Both, time).expect("TLS");
    println!("origin listens on {} {}", plain(), api(server.config));
    loop {
        thread::park();
    }
}

/// What a stream to the origin begins with.
pub(crate) fn ask(kind: u8, total: usize) -> [u8; 9] {
    let mut asked = [0; 9];
    asked[0] = kind;
    asked[1..].copy_from_slice(&(total as u64).to_be_bytes());
    asked
}

/// Serves the origin over plain TCP.
pub(crate) fn plain() -> SocketAddr {
    plain_at("127.0.0.1:0")
}

/// The same at an address of its own.
pub(crate) fn plain_at(bind: &str) -> SocketAddr {
    listen(bind, |tcp| {
        tcp.set_nodelay(true)?;
        serve(&mut { tcp })
    })
}

/// Serves HTTP/1.1 over TLS: small and large answers, and the origin behind an upgrade.
pub(crate) fn api(config: Arc<ServerConfig>) -> SocketAddr {
    listen("127.0.0.1:0", move |tcp| api_connection(&mut Secure::accept(tcp, &config)?))
}

fn listen(
    bind: &str,
    serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind(bind).expect("a free port");
    let address = listener.local_addr().expect("bound");
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            // Whoever has asked notices that it ended.
            let _ = thread::Builder::new().stack_size(512 * 1024).spawn(move || drop(serve(tcp)));
        }
    });
    address
}

fn serve(stream: &mut dyn Stream) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK / 2];
    let mut asked = [0; 9];
    while stream.read_exact(&mut asked).is_ok() {
        let [kind, length @ ..] = asked;
        let mut left = usize::try_from(u64::from_be_bytes(length)).expect("64-bit targets only");
        while 0 < left {
            let most = left.min(chunk.len());
            let part = chunk.get_mut(..most).unwrap_or_default();
            let len = if kind == b'D' { stream.write(part)? } else { stream.read(part)? };
            if len == 0 {
                return Ok(());
            }
            if kind == b'E' {
                stream.write_all(part.get(..len).unwrap_or_default())?;
            }
            left -= len;
        }
        if kind == b'U' {
            stream.write_all(b".")?;
        }
    }
    Ok(())
}

fn api_connection(stream: &mut Secure) -> io::Result<()> {
    loop {
        let head = head(stream)?;
        let Some(line) = head.lines().next() else { return Ok(()) };
        if line.contains("/portforward") {
            let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                          Upgrade: SPDY/3.1\r\n\r\n";
            stream.write_all(answer.as_bytes())?;
            return serve(stream);
        }
        let len = if line.contains("/configmaps") { LIST } else { 1000 };
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len}\r\n\r\n"
        )
        .into_bytes();
        answer.resize(answer.len() + len, b'x');
        stream.write_all(&answer)?;
    }
}

/// The head of a message without a body.
pub(crate) fn head(stream: &mut dyn Stream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte)? == 0 {
            break;
        }
        head.extend_from_slice(&byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

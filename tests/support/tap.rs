//! A man in the middle with the relay's own certificate authority: it stands where the relay's TLS
//! ends, and so sees all that the relay decrypts, both ways.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};
use tungstenite::protocol::frame::FrameHeader;

/// It accepts for as long as the process lives.
pub(crate) struct Tap {
    pub(crate) addr: SocketAddr,
    taken: Arc<Mutex<Vec<Arc<Taken>>>>,
}

/// What went over one connection.
#[derive(Default)]
struct Taken {
    up: Mutex<Vec<u8>>,
    down: Mutex<Vec<u8>>,
}

/// One way of one connection, in plain text.
pub(crate) struct Flow {
    /// The bytes inside TLS.
    pub(crate) raw: Vec<u8>,
    /// The payloads of the WebSocket frames behind the handshake, unmasked; empty without one.
    pub(crate) payload: Vec<u8>,
    /// Towards the relay.
    pub(crate) up: bool,
}

/// One connection of the two, which one thread reads and another writes.
struct Side {
    tcp: TcpStream,
    tls: Mutex<Connection>,
    /// Held from sealing to sending, so that records leave in the order they were sealed.
    order: Mutex<()>,
}

impl Tap {
    /// Takes connections as a server with `server`, and makes one to `relay` for each.
    pub(crate) fn start(
        relay: SocketAddr,
        server: Arc<ServerConfig>,
        client: Arc<ClientConfig>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let addr = listener.local_addr()?;
        let taken: Arc<Mutex<Vec<Arc<Taken>>>> = Arc::default();
        let all = taken.clone();
        thread::spawn(move || {
            for tcp in listener.incoming().map_while(Result::ok) {
                let (server, client, all) = (server.clone(), client.clone(), all.clone());
                // A connection that breaks is the affair of its two ends.
                thread::spawn(move || pass(tcp, relay, server, client, &all).ok());
            }
        });
        Ok(Self { addr, taken })
    }

    /// All that was seen so far.
    pub(crate) fn flows(&self) -> Vec<Flow> {
        let mut flows = Vec::new();
        for taken in lock(&self.taken).iter() {
            for (bytes, up) in [(&taken.up, true), (&taken.down, false)] {
                let raw = lock(bytes).clone();
                flows.push(Flow { payload: payload(&raw), raw, up });
            }
        }
        flows
    }
}

impl Side {
    fn new(tcp: TcpStream, tls: impl Into<Connection>) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        let mut tls = tls.into();
        tls.set_buffer_limit(None);
        while tls.is_handshaking() {
            tls.complete_io(&mut &tcp)?;
        }
        Ok(Self { tcp, tls: Mutex::new(tls), order: Mutex::new(()) })
    }

    /// Plain bytes that have come already; then reads the socket once. `None` at the end.
    fn read(&self, first: bool) -> io::Result<Option<Vec<u8>>> {
        let mut scratch = [0; 16 * 1024];
        let len = if first { 0 } else { (&self.tcp).read(&mut scratch)? };
        if !first && len == 0 {
            return Ok(None);
        }
        let mut raw = &scratch[..len];
        let mut plain = Vec::new();
        let mut tls = lock(&self.tls);
        loop {
            if !raw.is_empty() {
                tls.read_tls(&mut raw)?;
            }
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            let mut part = vec![0; state.plaintext_bytes_to_read()];
            tls.reader().read_exact(&mut part)?;
            plain.extend(part);
            if raw.is_empty() {
                break;
            }
        }
        drop(tls);
        self.write(&[])?;
        Ok(Some(plain))
    }

    fn write(&self, data: &[u8]) -> io::Result<()> {
        let _order = lock(&self.order);
        let mut sealed = Vec::new();
        {
            let mut tls = lock(&self.tls);
            tls.writer().write_all(data)?;
            while tls.wants_write() {
                tls.write_tls(&mut sealed)?;
            }
        }
        (&self.tcp).write_all(&sealed)
    }

    fn finish(&self) {
        lock(&self.tls).send_close_notify();
        // The peer may be gone; then there is nobody to say goodbye to.
        let _ = self.write(&[]);
        let _ = self.tcp.shutdown(Shutdown::Write);
    }
}

fn pass(
    tcp: TcpStream,
    relay: SocketAddr,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    all: &Mutex<Vec<Arc<Taken>>>,
) -> io::Result<()> {
    let taken = Arc::new(Taken::default());
    lock(all).push(taken.clone());
    let near = ServerConnection::new(server).map_err(io::Error::other)?;
    let near = Arc::new(Side::new(tcp, near)?);
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let far = ClientConnection::new(client, name).map_err(io::Error::other)?;
    let far = Arc::new(Side::new(TcpStream::connect(relay)?, far)?);
    let back = thread::spawn({
        let (near, far, taken) = (near.clone(), far.clone(), taken.clone());
        move || copy(&far, &near, &taken.down)
    });
    copy(&near, &far, &taken.up);
    // A panic of the other way shows in what it has not passed on.
    let _ = back.join();
    Ok(())
}

/// One way, to its end.
fn copy(from: &Side, to: &Side, taken: &Mutex<Vec<u8>>) {
    let mut first = true;
    loop {
        match from.read(first) {
            Ok(Some(plain)) => {
                first = false;
                lock(taken).extend(&plain);
                if !plain.is_empty() && to.write(&plain).is_err() {
                    let _ = from.tcp.shutdown(Shutdown::Both);
                    return;
                }
            }
            Ok(None) => return to.finish(),
            Err(_) => {
                let _ = to.tcp.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}

/// The payloads of a WebSocket, whose handshake is one head either way.
fn payload(raw: &[u8]) -> Vec<u8> {
    let Some(end) = raw.windows(4).position(|four| four == b"\r\n\r\n") else { return Vec::new() };
    let (head, mut rest) = raw.split_at(end + 4);
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let mut all = Vec::new();
    if !head.contains("upgrade: websocket") {
        return all;
    }
    loop {
        let mut cursor = io::Cursor::new(rest);
        let Ok(Some((header, len))) = FrameHeader::parse(&mut cursor) else { return all };
        let at = usize::try_from(cursor.position()).expect("a position in a slice");
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(rest.len() - at);
        let body = &rest[at..at + len];
        let mask = header.mask.unwrap_or_default();
        all.extend(body.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        rest = &rest[at + len..];
    }
}

/// A poisoned lock only says that another connection's thread has died.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

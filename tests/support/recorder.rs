//! An upstream that speaks TLS, writes down every byte it is sent, and answers whole requests.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use cluster_connect::wire::h1::{BodyReader, RequestHead, Scan};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::process::PATIENCE;

/// What to answer to a request: its head, and the bytes to send.
pub type Answer = Arc<dyn Fn(&RequestHead) -> Vec<u8> + Send + Sync>;

/// See the module's documentation.
#[derive(Debug)]
pub struct Recorder {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    conns: Mutex<Vec<Conn>>,
    changed: Condvar,
}

/// One connection.
#[derive(Clone, Debug)]
pub struct Conn {
    peer: SocketAddr,
    /// Every byte that came.
    pub bytes: Vec<u8>,
    has_ended: bool,
}

impl Recorder {
    pub fn start(
        tls: Arc<ServerConfig>,
        answer: impl Fn(&RequestHead) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let answer: Answer = Arc::new(answer);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                let Ok(peer) = tcp.peer_addr() else { continue };
                let at = {
                    let mut conns = serving.lock();
                    conns.push(Conn { peer, bytes: Vec::new(), has_ended: false });
                    conns.len() - 1
                };
                serving.changed.notify_all();
                let (shared, tls) = (Arc::clone(&serving), Arc::clone(&tls));
                let answer = Arc::clone(&answer);
                thread::spawn(move || {
                    // How it ends is the proxy's affair; that it has ended counts.
                    let _ = shared.serve(at, tcp, tls, &answer);
                    if let Some(conn) = shared.lock().get_mut(at) {
                        conn.has_ended = true;
                    }
                    shared.changed.notify_all();
                });
            }
        });
        Self { address, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All connections so far, once every one of them has ended.
    pub fn settle(&self) -> Vec<Conn> {
        // Connections are accepted in order: when this one is known, so are all before it.
        let last = TcpStream::connect(self.address).expect("the recorder listens");
        let own = last.local_addr().expect("an address");
        drop(last);
        let mut conns = self.shared.lock();
        loop {
            let is_known = conns.iter().any(|conn| conn.peer == own);
            if is_known && conns.iter().all(|conn| conn.has_ended) {
                return conns.clone();
            }
            let (next, waited) = self
                .shared
                .changed
                .wait_timeout(conns, PATIENCE)
                .unwrap_or_else(PoisonError::into_inner);
            assert!(!waited.timed_out(), "upstream connections stay open: {next:?}");
            conns = next;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<Conn>> {
        self.conns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(
        &self,
        at: usize,
        tcp: TcpStream,
        tls: Arc<ServerConfig>,
        answer: &Answer,
    ) -> std::io::Result<()> {
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(Duration::from_secs(300)))?;
        let session = ServerConnection::new(tls).map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(session, tcp);
        let (mut unread, mut is_raw) = (Vec::new(), false);
        let mut buffer = [0; 16 * 1024];
        loop {
            let len = stream.read(&mut buffer)?;
            if len == 0 {
                return Ok(());
            }
            if let Some(conn) = self.lock().get_mut(at) {
                conn.bytes.extend_from_slice(&buffer[..len]);
            }
            unread.extend_from_slice(&buffer[..len]);
            while !is_raw && let Some((head, len)) = whole_request(&unread) {
                unread.drain(..len);
                let response = answer(&head);
                is_raw = response.starts_with(b"HTTP/1.1 101 ");
                stream.write_all(&response)?;
                stream.flush()?;
            }
        }
    }
}

/// The request at the start of `bytes`, once it is complete.
pub fn whole_request(bytes: &[u8]) -> Option<(RequestHead, usize)> {
    let (head, mut used) = RequestHead::read(bytes, &mut Scan::default()).ok()??;
    let mut body = BodyReader::new(head.framing());
    loop {
        let piece = body.read(&bytes[used..]).ok()?;
        used += piece.consumed;
        if piece.consumed == 0 {
            return body.is_done().then_some((head, used));
        }
    }
}

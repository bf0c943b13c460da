//! Blocking streams for both ends of a measurement, with reads and writes large enough not to be
//! what is measured.

use std::io::{self, BufRead, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use cluster_connect::engine::tls::{self, State};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

/// Bytes read at a time.
pub(crate) const CHUNK: usize = 128 * 1024;

/// Either end of what is measured.
pub(crate) trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// TLS over a blocking socket.
pub(crate) struct Secure {
    reader: Reader,
    writer: Writer,
}

/// What one receives.
pub(crate) struct Reader {
    tcp: Arc<TcpStream>,
    tls: Arc<Mutex<tls::Session>>,
    cipher: Box<[u8]>,
    plain: Vec<u8>,
    at: usize,
    sealed: Vec<u8>,
    ended: bool,
}

/// What one sends. It waits for its peer with the session in hand: who sends much both ways at once
/// on one connection would stop for ever.
pub(crate) struct Writer {
    tcp: Arc<TcpStream>,
    tls: Arc<Mutex<tls::Session>>,
    sealed: Vec<u8>,
}

/// A plain connection.
pub(crate) fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect(to)?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

impl Secure {
    pub(crate) fn connect(
        to: SocketAddr,
        config: &Arc<ClientConfig>,
        name: &str,
    ) -> io::Result<Self> {
        Self::over(connect(to)?, config, name)
    }

    /// The dialling side of TLS over a connection that is there.
    pub(crate) fn over(tcp: TcpStream, config: &Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let tls = tls::Session::client(Arc::clone(config), name).map_err(io::Error::other)?;
        Self::start(tcp, tls)
    }

    pub(crate) fn accept(tcp: TcpStream, config: &Arc<ServerConfig>) -> io::Result<Self> {
        let tls = tls::Session::server(Arc::clone(config)).map_err(io::Error::other)?;
        tcp.set_nodelay(true)?;
        Self::start(tcp, tls)
    }

    fn start(tcp: TcpStream, mut tls: tls::Session) -> io::Result<Self> {
        let mut sealed = Vec::new();
        tls.receive(&mut [], |_| (), &mut sealed).map_err(io::Error::other)?;
        let (tcp, tls) = (Arc::new(tcp), Arc::new(Mutex::new(tls)));
        (&*tcp).write_all(&sealed)?;
        sealed.clear();
        let cipher = vec![0; CHUNK].into_boxed_slice();
        let writer = Writer { tcp: Arc::clone(&tcp), tls: Arc::clone(&tls), sealed: Vec::new() };
        let mut reader =
            Reader { tcp, tls, cipher, plain: Vec::new(), at: 0, sealed, ended: false };
        while !lock(&reader.tls).is_established() {
            reader.fill()?;
        }
        Ok(Self { reader, writer })
    }

    /// Each direction for itself.
    pub(crate) fn split(self) -> (Reader, Writer) {
        (self.reader, self.writer)
    }
}

impl Reader {
    fn fill(&mut self) -> io::Result<()> {
        let len = (&*self.tcp).read(&mut self.cipher)?;
        let mut tls = lock(&self.tls);
        if len == 0 {
            self.ended = true;
            return if tls.is_established() {
                Ok(())
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            };
        }
        let plain = &mut self.plain;
        let incoming = self.cipher.get_mut(..len).unwrap_or_default();
        let state = tls
            .receive(incoming, |bytes| plain.extend_from_slice(bytes), &mut self.sealed)
            .map_err(io::Error::other)?;
        self.ended |= state == State::PeerClosed;
        // Under the lock: records leave in the order in which they were sealed.
        (&*self.tcp).write_all(&self.sealed)?;
        self.sealed.clear();
        Ok(())
    }
}

impl BufRead for Reader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.plain.len() && !self.ended {
            self.plain.clear();
            self.at = 0;
            self.fill()?;
        }
        Ok(self.plain.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, len: usize) {
        self.at += len;
    }
}

impl Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = self.fill_buf()?.read(into)?;
        self.consume(len);
        Ok(len)
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut tls = lock(&self.tls);
        tls.seal(bytes, &mut self.sealed).map_err(io::Error::other)?;
        (&*self.tcp).write_all(&self.sealed)?;
        self.sealed.clear();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Secure {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.reader.read(into)
    }
}

impl Write for Secure {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lock(tls: &Mutex<tls::Session>) -> MutexGuard<'_, tls::Session> {
    tls.lock().expect("nobody panics with it")
}

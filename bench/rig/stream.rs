//! Blocking streams for both ends of a measurement, with reads and writes large enough not to be
//! what is measured.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

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
    tcp: TcpStream,
    tls: tls::Session,
    cipher: Box<[u8]>,
    plain: Vec<u8>,
    at: usize,
    sealed: Vec<u8>,
    ended: bool,
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
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let tls = tls::Session::client(Arc::clone(config), name).map_err(io::Error::other)?;
        Self::start(connect(to)?, tls)
    }

    pub(crate) fn accept(tcp: TcpStream, config: &Arc<ServerConfig>) -> io::Result<Self> {
        let tls = tls::Session::server(Arc::clone(config)).map_err(io::Error::other)?;
        tcp.set_nodelay(true)?;
        Self::start(tcp, tls)
    }

    fn start(tcp: TcpStream, mut tls: tls::Session) -> io::Result<Self> {
        let mut sealed = Vec::new();
        tls.receive(&mut [], |_| (), &mut sealed).map_err(io::Error::other)?;
        let cipher = vec![0; CHUNK].into_boxed_slice();
        let mut all = Self { tcp, tls, cipher, plain: Vec::new(), at: 0, sealed, ended: false };
        all.flush_sealed()?;
        while !all.tls.is_established() {
            all.fill()?;
        }
        Ok(all)
    }

    fn fill(&mut self) -> io::Result<()> {
        let len = self.tcp.read(&mut self.cipher)?;
        if len == 0 {
            self.ended = true;
            return if self.tls.is_established() {
                Ok(())
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            };
        }
        let plain = &mut self.plain;
        let incoming = self.cipher.get_mut(..len).unwrap_or_default();
        let state = self
            .tls
            .receive(incoming, |bytes| plain.extend_from_slice(bytes), &mut self.sealed)
            .map_err(io::Error::other)?;
        self.ended |= state == State::PeerClosed;
        self.flush_sealed()
    }

    fn flush_sealed(&mut self) -> io::Result<()> {
        self.tcp.write_all(&self.sealed)?;
        self.sealed.clear();
        Ok(())
    }
}

impl Read for Secure {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.plain.len() {
            if self.ended {
                return Ok(0);
            }
            self.plain.clear();
            self.at = 0;
            self.fill()?;
        }
        let rest = self.plain.get(self.at..).unwrap_or_default();
        let len = rest.len().min(into.len());
        into[..len].copy_from_slice(&rest[..len]);
        self.at += len;
        Ok(len)
    }
}

impl Write for Secure {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tls.seal(bytes, &mut self.sealed).map_err(io::Error::other)?;
        self.flush_sealed()?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! A TLS client that sends exactly the bytes it is given, and reads HTTP responses one by one.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

/// A connection, and what was read past the last response.
pub(crate) struct Client {
    pub(crate) stream: StreamOwned<ClientConnection, TcpStream>,
    unread: Vec<u8>,
}

/// Where a server is, and how to be let in.
pub(crate) struct Door {
    pub(crate) addr: SocketAddr,
    pub(crate) ca_pem: String,
    /// What stands before each path.
    pub(crate) prefix: String,
    pub(crate) token: String,
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) code: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Door {
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.addr, &self.ca_pem)
    }

    /// The field that lets the caller in.
    pub(crate) fn bearer(&self) -> String {
        format!("Authorization: Bearer {}\r\n", self.token)
    }

    /// A GET of a path behind the prefix, without its response.
    pub(crate) fn request(&self, path: &str, fields: &str) -> String {
        let (prefix, bearer) = (&self.prefix, self.bearer());
        format!("GET {prefix}{path} HTTP/1.1\r\nHost: kubernetes\r\n{bearer}{fields}\r\n")
    }

    /// Asks for a WebSocket.
    pub(crate) fn upgrade(&self, path: &str, fields: &str) -> Client {
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let mut client = self.connect();
        client.send(self.request(path, &format!("{upgrade}{fields}")));
        client
    }
}

impl Client {
    pub(crate) fn connect(addr: SocketAddr, ca_pem: &str) -> Self {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(ca_pem.as_bytes()).expect("the CA is PEM");
        roots.add(ca).expect("the CA is a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = ClientConnection::new(Arc::new(config), name).expect("a TLS client");
        let tcp = TcpStream::connect(addr).expect("the server listens");
        tcp.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        tcp.set_nodelay(true).expect("a socket option");
        Self { stream: StreamOwned::new(tls, tcp), unread: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server reads");
        self.stream.flush().expect("the server reads");
    }

    /// Sends a GET with more fields (each ending in CRLF) and reads the response.
    pub(crate) fn get(&mut self, path: &str, fields: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: kubernetes\r\n{fields}\r\n"));
        self.response()
    }

    /// Sends a body with a method of choice and reads the response.
    pub(crate) fn call(&mut self, method: &str, path: &str, fields: &str, body: &str) -> Response {
        self.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: kubernetes\r\nContent-Length: {}\r\n{fields}\r\n{body}",
            body.len()
        ));
        self.response()
    }

    pub(crate) fn response(&mut self) -> Response {
        let (code, head) = self.head();
        let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
        let mut body = Vec::new();
        if chunked {
            while let Some(chunk) = self.chunk() {
                body.extend(chunk);
            }
        } else if code != 101 && code != 100 {
            let length =
                field(&head, "content-length").map_or(0, |text| text.parse().expect("a number"));
            self.fill_to(length);
            body = self.unread.drain(..length).collect();
        }
        Response { code, head, body }
    }

    /// The head alone, for answers that do not end.
    pub(crate) fn head(&mut self) -> (u16, String) {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.fill().expect("a response head");
        };
        let head = String::from_utf8(self.unread.drain(..end).collect()).expect("a text head");
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        (code.expect("a status code"), head)
    }

    /// The next chunk of a chunked body; `None` after the last.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let end = loop {
            if let Some(at) = self.unread.windows(2).position(|two| two == b"\r\n") {
                break at;
            }
            self.fill().expect("a chunk head");
        };
        let size = String::from_utf8_lossy(&self.unread[..end]).into_owned();
        let size = usize::from_str_radix(&size, 16).expect("a chunk size");
        self.unread.drain(..end + 2);
        self.fill_to(size + 2);
        let chunk: Vec<u8> = self.unread.drain(..size + 2).take(size).collect();
        (size > 0).then_some(chunk)
    }

    /// Whether the server has ended the connection, with nothing left to read.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && self.fill().is_err()
    }

    /// The stream for another protocol, with what has been read of it already.
    pub(crate) fn into_parts(self) -> (StreamOwned<ClientConnection, TcpStream>, Vec<u8>) {
        (self.stream, self.unread)
    }

    fn fill_to(&mut self, length: usize) {
        while self.unread.len() < length {
            self.fill().expect("the rest of a response");
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            len => {
                self.unread.extend(&buffer[..len]);
                Ok(())
            }
        }
    }
}

impl Response {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn field(&self, name: &str) -> Option<String> {
        field(&self.head, name)
    }
}

fn field(head: &str, name: &str) -> Option<String> {
    head.lines().filter_map(|line| line.split_once(':')).find_map(|(field, value)| {
        field.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

//! Listeners and senders of a relay, bare: what a bench needs of the protocol and nothing else.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use cluster_connect::auth::sas;
use cluster_connect::engine::tlsconf::{self, Versions};
use cluster_connect::engine::ws;
use cluster_connect::secret::Secret;
use cluster_connect::wire::ws::Opcode;
use rustls::ClientConfig;
use rustls::time_provider::DefaultTimeProvider;
use serde_json::Value;

use super::stream::Secure;

/// A relay, and a key of its namespace.
pub(crate) struct Place {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    key: Secret<String>,
}

/// A control channel.
pub(crate) struct Listener {
    stream: Secure,
}

const NAMESPACE: &str = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/default/\
                         providers/Microsoft.Relay/namespaces/bench";
const RULE: &str = "RootManageSharedAccessKey";

impl Place {
    /// The relay with this state directory.
    pub(crate) fn new(address: SocketAddr, state: &Path) -> Self {
        let ca = std::fs::read(state.join("ca.pem")).expect("the relay's CA");
        let roots = tlsconf::certificates(&ca).expect("PEM");
        let time = Arc::new(DefaultTimeProvider);
        let tls = tlsconf::client(&roots, None, &[b"http/1.1"], Versions::Both, time).expect("TLS");
        let admin = std::fs::read_to_string(state.join("admin-token")).expect("the admin token");
        let mut place = Self { address, tls, key: Secret::new(String::new()) };
        let keys = place.manage(
            admin.trim(),
            "POST",
            &format!("{NAMESPACE}/authorizationRules/{RULE}/listKeys"),
        );
        let keys: Value = serde_json::from_slice(&keys).expect("JSON");
        let key = keys.get("primaryKey").and_then(Value::as_str).expect("a key");
        place.key = Secret::new(key.to_owned());
        place
    }

    /// Makes hybrid connections.
    pub(crate) fn entities(&self, state: &Path, count: usize) -> Vec<String> {
        let admin = std::fs::read_to_string(state.join("admin-token")).expect("the admin token");
        let names: Vec<String> = (0..count).map(|n| format!("bench-{n}")).collect();
        for name in &names {
            self.manage(admin.trim(), "PUT", &format!("{NAMESPACE}/hybridConnections/{name}"));
        }
        names
    }

    fn manage(&self, admin: &str, method: &str, path: &str) -> Vec<u8> {
        let mut stream = self.connect();
        let request = format!(
            "{method} {path}?api-version=2021-11-01 HTTP/1.1\r\nHost: localhost\r\n\
             Authorization: Bearer {admin}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("the relay reads");
        let head = head(&mut stream).expect("the relay answers");
        assert!(head.starts_with("HTTP/1.1 20"), "{head}");
        let mut body = Vec::new();
        stream.read_to_end(&mut body).expect("the relay answers");
        body
    }

    fn connect(&self) -> Secure {
        Secure::connect(self.address, &self.tls, "localhost").expect("the relay takes connections")
    }

    /// Sends an upgrade; the answer may come much later.
    fn ask(&self, target: &str) -> Secure {
        let mut stream = self.connect();
        let token = sas::mint("http://localhost/", RULE, &self.key, 4_000_000_000);
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: localhost:{}\r\nServiceBusAuthorization: {token}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.address.port()
        );
        stream.write_all(request.as_bytes()).expect("the relay reads");
        stream
    }

    /// What lets an agent listen at `entity`.
    #[allow(dead_code, reason = "a bench listens itself")]
    pub(crate) fn connection_string(&self, entity: &str) -> String {
        let (port, key) = (self.address.port(), self.key.expose());
        format!(
            "Endpoint=sb://localhost:{port}/;SharedAccessKeyName={RULE};SharedAccessKey={key};\
             EntityPath={entity}"
        )
    }

    /// A sender whose listener is not ours.
    #[allow(dead_code, reason = "a bench has both ends")]
    pub(crate) fn sender(&self, entity: &str) -> Secure {
        let mut sender = self.ask(&format!("/$hc/{entity}?sb-hc-action=connect"));
        joined(&mut sender);
        sender
    }

    pub(crate) fn listen(&self, entity: &str) -> Listener {
        let mut stream = self.ask(&format!("/$hc/{entity}?sb-hc-action=listen"));
        joined(&mut stream);
        Listener { stream }
    }

    /// The sender's end and the listener's end of a new relayed pair.
    pub(crate) fn pair(&self, entity: &str, listener: &mut Listener) -> (Secure, Secure) {
        let mut sender = self.ask(&format!("/$hc/{entity}?sb-hc-action=connect"));
        let mut accepted = self.ask(&listener.accept());
        joined(&mut accepted);
        joined(&mut sender);
        (sender, accepted)
    }
}

impl Listener {
    /// Path and query of the next rendezvous.
    fn accept(&mut self) -> String {
        loop {
            let mut start = [0; 2];
            self.stream.read_exact(&mut start).expect("the control channel is open");
            let mut len = usize::from(start[1]);
            if len == 126 {
                let mut long = [0; 2];
                self.stream.read_exact(&mut long).expect("a frame");
                len = usize::from(u16::from_be_bytes(long));
            }
            let mut payload = vec![0; len];
            self.stream.read_exact(&mut payload).expect("a frame");
            if start[0] == 0x89 {
                let pong = ws::frame(Opcode::Pong, Some([1, 2, 3, 4]), &payload);
                self.stream.write_all(&pong).expect("the control channel is open");
                continue;
            }
            let command: Value = serde_json::from_slice(&payload).expect("a command");
            let address = command.pointer("/accept/address").and_then(Value::as_str);
            let (_, target) = address.and_then(|it| it.split_once("/$hc/")).expect("an address");
            return format!("/$hc/{target}");
        }
    }
}

fn joined(stream: &mut Secure) {
    let head = head(stream).expect("the relay answers");
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
}

/// Reads a head and nothing behind it.
fn head(stream: &mut Secure) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    String::from_utf8(head).map_err(io::Error::other)
}

//! `kubectl port-forward`: SPDY streams in pairs, to two small services of the server's own.
//! Port 7 of every pod echoes, ports 80 and 8080 speak HTTP, all others refuse.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use super::connection::{Answer, Exchange};
use super::spdy::{Frame, Session};
use super::status::{Failure, Status};
use super::streams::{self, Duplex};
use super::tls::lock;
use super::websocket::{self, Tunnel};

const SPDY: [&str; 1] = ["portforward.k8s.io"];
const WEBSOCKET: [&str; 1] = ["SPDY/3.1+portforward.k8s.io"];
/// Frames of one stream that may wait for its service.
const STREAM_QUEUE: usize = 64;

/// Where the pods' ports really are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Services {
    echo: SocketAddr,
    http: SocketAddr,
}

impl Services {
    /// Starts both, once for all servers of the process, with which they end.
    pub(crate) fn shared() -> io::Result<Self> {
        static STARTED: Mutex<Option<Services>> = Mutex::new(None);
        let mut started = lock(&STARTED);
        let services = match *started {
            Some(services) => services,
            None => Self { echo: listen(echo)?, http: listen(hello)? },
        };
        *started = Some(services);
        Ok(services)
    }

    fn behind(&self, port: u16) -> io::Result<SocketAddr> {
        match port {
            7 => Ok(self.echo),
            80 | 8080 => Ok(self.http),
            _ => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

pub(crate) fn answer(exchange: &mut Exchange<'_>) -> Result<Answer, Failure> {
    let (namespace, name) = (exchange.route.namespace.clone(), exchange.route.name.clone());
    let pod = exchange.world.store.get("pods", &namespace, &name);
    pod.ok_or_else(|| Status::not_found("pods", &name))?;
    let services = exchange.world.services;
    let carrier: Arc<dyn Duplex> = match websocket::is_asked_for(exchange.request) {
        true => Arc::new(Tunnel::new(websocket::accept(exchange, &WEBSOCKET)?)),
        false => Arc::new(streams::accept_spdy(exchange, &SPDY)?),
    };
    let session = Session::new(carrier)?;
    let mut forwards = Forwards {
        session: session.clone(),
        services,
        pod: name,
        halves: BTreeMap::new(),
        inputs: BTreeMap::new(),
    };
    session.run(|frame| forwards.on_frame(frame))?;
    Ok(Answer::Sent)
}

struct Forwards {
    session: Arc<Session>,
    services: Services,
    pod: String,
    /// The stream whose partner has not come yet, by request id.
    halves: BTreeMap<String, Half>,
    inputs: BTreeMap<u32, SyncSender<Vec<u8>>>,
}

struct Half {
    error: Option<u32>,
    data: Option<(u32, Receiver<Vec<u8>>)>,
}

impl Forwards {
    fn on_frame(&mut self, frame: Frame) {
        match frame {
            Frame::Opened { id, fields } => self.on_opened(id, &fields),
            Frame::Data { id, bytes } => {
                if let Some(input) = self.inputs.get(&id)
                    && input.send(bytes).is_err()
                {
                    self.inputs.remove(&id);
                }
            }
            Frame::Finished { id } | Frame::Reset { id } => drop(self.inputs.remove(&id)),
        }
    }

    fn on_opened(&mut self, id: u32, fields: &[(String, String)]) {
        let field = |wanted: &str| {
            let found = fields.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        // A session that cannot be written to ends in its reader.
        let _ = self.session.reply(id);
        let request = field("requestid");
        let mut half = self.halves.remove(&request).unwrap_or(Half { error: None, data: None });
        if field("streamtype") == "data" {
            let (sender, receiver) = sync_channel(STREAM_QUEUE);
            self.inputs.insert(id, sender);
            half.data = Some((id, receiver));
        } else {
            half.error = Some(id);
        }
        match (half.error, half.data) {
            (Some(error), Some((data, input))) => {
                let port = field("port").parse().unwrap_or_default();
                let (session, services) = (self.session.clone(), self.services);
                let pod = self.pod.clone();
                thread::spawn(move || {
                    let carried = carry(&session, services, port, data, input);
                    // The caller may have gone; then nobody misses these.
                    if let Err(why) = carried {
                        let text = format!("error forwarding port {port} to pod {pod}: {why}");
                        let _ = session.data(error, text.as_bytes());
                    }
                    let _ = session.finish(error);
                    let _ = session.finish(data);
                });
            }
            (error, data) => drop(self.halves.insert(request, Half { error, data })),
        }
    }
}

fn carry(
    session: &Session,
    services: Services,
    port: u16,
    data: u32,
    input: Receiver<Vec<u8>>,
) -> io::Result<()> {
    let mut service = TcpStream::connect(services.behind(port)?)?;
    let mut to_service = service.try_clone()?;
    thread::spawn(move || {
        for bytes in input {
            if to_service.write_all(&bytes).is_err() {
                break;
            }
        }
        // Closed already, perhaps.
        let _ = to_service.shutdown(Shutdown::Write);
    });
    let mut buffer = vec![0; 32 * 1024];
    loop {
        match service.read(&mut buffer)? {
            0 => return Ok(()),
            len => session.data(data, buffer.get(..len).unwrap_or_default())?,
        }
    }
}

fn listen(serve: fn(TcpStream) -> io::Result<()>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let addr = listener.local_addr()?;
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            // A client that breaks off is its own affair.
            thread::spawn(move || drop(serve(connection)));
        }
    });
    Ok(addr)
}

fn echo(connection: TcpStream) -> io::Result<()> {
    io::copy(&mut &connection, &mut &connection)?;
    connection.shutdown(Shutdown::Write)
}

/// Answers each request head with a line that repeats its first.
fn hello(mut connection: TcpStream) -> io::Result<()> {
    let mut unread = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        while let Some(end) = memchr::memmem::find(&unread, b"\r\n\r\n") {
            let head: Vec<u8> = unread.drain(..end + 4).collect();
            let head = String::from_utf8_lossy(&head);
            let line = head.lines().next().unwrap_or_default();
            let body = format!("hello from a pod of the cluster-connect demonstration: {line}\n");
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            connection.write_all(answer.as_bytes())?;
        }
        match connection.read(&mut buffer)? {
            0 => return Ok(()),
            len => unread.extend(buffer.iter().take(len)),
        }
    }
}

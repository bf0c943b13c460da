//! The streams of exec and attach, whichever of WebSocket and SPDY carries them.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::connection::Exchange;
use super::http::Query;
use super::spdy::{Frame, Session};
use super::status::{Failure, Status};
use super::tls::{Wire, lock};
use super::websocket::{self, Socket};

/// Subprotocols of a remote command on a WebSocket and on SPDY.
const WEBSOCKET: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
const SPDY: [&str; 2] = ["v4.channel.k8s.io", "v3.channel.k8s.io"];
const STREAMS_PATIENCE: Duration = Duration::from_secs(30);
/// Messages of input that may wait; more of them hold the connection's reader up.
const INPUT_QUEUE: usize = 16;

/// Bytes both ways. One thread reads; any may write.
pub(crate) trait Duplex: Send + Sync {
    fn read(&self, into: &mut [u8]) -> io::Result<usize>;
    fn write_all(&self, data: &[u8]) -> io::Result<()>;
}

/// A connection that HTTP has left, with what the client had sent already.
pub(crate) struct Upgraded {
    wire: Arc<Wire>,
    ahead: Mutex<Vec<u8>>,
}

/// Which streams a caller wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wants {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
}

/// What comes from the caller; the channel's end means that the caller has gone.
#[derive(Debug)]
pub(crate) enum Input {
    Stdin(Vec<u8>),
    StdinEnd,
    Resize { width: u64, height: u64 },
}

/// Where output goes.
#[derive(Clone)]
pub(crate) enum Output {
    WebSocket(Arc<Socket>),
    Spdy { session: Arc<Session>, ids: BTreeMap<String, u32> },
}

/// A caller at the other end of a remote command.
pub(crate) struct Remote {
    pub(crate) output: Output,
    pub(crate) input: Receiver<Input>,
}

impl Wants {
    pub(crate) fn of(query: &Query) -> Self {
        let tty = query.is_set("tty");
        Self {
            stdin: query.is_set("stdin"),
            stdout: query.is_set("stdout"),
            stderr: query.is_set("stderr") && !tty,
            tty,
        }
    }
}

impl Upgraded {
    pub(crate) fn new(wire: Arc<Wire>, ahead: Vec<u8>) -> Self {
        Self { wire, ahead: Mutex::new(ahead) }
    }
}

impl Duplex for Upgraded {
    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut ahead = lock(&self.ahead);
        if ahead.is_empty() {
            return self.wire.read(into);
        }
        let len = ahead.len().min(into.len());
        into.iter_mut().zip(ahead.drain(..len)).for_each(|(to, from)| *to = from);
        Ok(len)
    }

    fn write_all(&self, data: &[u8]) -> io::Result<()> {
        self.wire.write_all(data)
    }
}

impl Output {
    pub(crate) fn stdout(&self, data: &[u8]) -> io::Result<()> {
        self.send(1, "stdout", data)
    }

    pub(crate) fn stderr(&self, data: &[u8]) -> io::Result<()> {
        self.send(2, "stderr", data)
    }

    /// Says how the command ended and closes every stream.
    pub(crate) fn finish(&self, exit: &Value) -> io::Result<()> {
        self.send(3, "error", exit.to_string().as_bytes())?;
        match self {
            Self::WebSocket(socket) => socket.close(1000),
            Self::Spdy { session, ids } => ids.values().try_for_each(|id| session.finish(*id)),
        }
    }

    fn send(&self, channel: u8, stream: &str, data: &[u8]) -> io::Result<()> {
        match self {
            Self::WebSocket(socket) => {
                let mut message = vec![channel];
                message.extend_from_slice(data);
                socket.send_binary(&message)
            }
            Self::Spdy { session, ids } => match ids.get(stream) {
                Some(id) => session.data(*id, data),
                None => Ok(()),
            },
        }
    }
}

/// Upgrades the connection as the caller asks.
pub(crate) fn open(exchange: &mut Exchange<'_>, wants: Wants) -> Result<Remote, Failure> {
    if !(wants.stdin || wants.stdout || wants.stderr) {
        let message = "you must specify at least one of stdin, stdout, stderr";
        return Err(Status::bad_request(message).into());
    }
    if websocket::is_asked_for(exchange.request) {
        return Ok(over_websocket(websocket::accept(exchange, &WEBSOCKET)?));
    }
    let carrier = Arc::new(accept_spdy(exchange, &SPDY)?);
    over_spdy(Session::new(carrier)?, wants)
}

/// Answers 101 to an upgrade to SPDY/3.1 with the first stream protocol that is supported.
pub(crate) fn accept_spdy(
    exchange: &mut Exchange<'_>,
    supported: &[&str],
) -> Result<Upgraded, Failure> {
    let headers = &exchange.request.headers;
    if !headers.has_token("upgrade", "SPDY/3.1") || !headers.has_token("connection", "upgrade") {
        let message = "unable to upgrade: missing upgrade headers in request";
        return Err(Status::bad_request(message).into());
    }
    let mut offered = headers.list("x-stream-protocol-version");
    let protocol = offered.find(|offer| supported.contains(offer)).ok_or_else(|| {
        let message = format!("unable to upgrade: unable to negotiate protocol: {supported:?}");
        Status::forbidden("", "", message)
    })?;
    let protocol = ("X-Stream-Protocol-Version", protocol.to_owned());
    Ok(exchange.switch(&[("Upgrade", "SPDY/3.1".into()), protocol])?)
}

/// The Status that ends a remote command.
pub(crate) fn exit_status(code: i32) -> Value {
    if code == 0 {
        return json!({ "metadata": {}, "status": "Success" });
    }
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "reason": "NonZeroExitCode",
        "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
    })
}

fn over_websocket(socket: Socket) -> Remote {
    let socket = Arc::new(socket);
    let (sender, input) = sync_channel(INPUT_QUEUE);
    let reader = socket.clone();
    thread::spawn(move || {
        while let Ok(Some(message)) = reader.receive() {
            let said = match message.split_first() {
                Some((0, data)) => Some(Input::Stdin(data.to_vec())),
                Some((4, size)) => resize(size),
                // Version 5 alone can close a stream.
                Some((255, [0])) if reader.protocol().starts_with("v5") => Some(Input::StdinEnd),
                _ => None,
            };
            if said.is_some_and(|said| sender.send(said).is_err()) {
                // The command has ended; keep answering pings until the caller closes.
                while let Ok(Some(_)) = reader.receive() {}
                return;
            }
        }
    });
    Remote { output: Output::WebSocket(socket), input }
}

fn over_spdy(session: Arc<Session>, wants: Wants) -> Result<Remote, Failure> {
    let (sender, input) = sync_channel(INPUT_QUEUE);
    let (opened, openings) = sync_channel(8);
    let reader = session.clone();
    thread::spawn(move || {
        let mut kinds: BTreeMap<u32, String> = BTreeMap::new();
        // Whether it ended or broke, the caller is gone when this returns.
        let _ = reader.run(|frame| on_frame(frame, &reader, &mut kinds, &opened, &sender));
    });

    let mut wanted = vec!["error"];
    let optional = [
        (wants.stdin, "stdin"),
        (wants.stdout, "stdout"),
        (wants.stderr, "stderr"),
        (wants.tty, "resize"),
    ];
    wanted.extend(optional.iter().filter(|(wants, _)| *wants).map(|(_, kind)| *kind));
    let mut ids = BTreeMap::new();
    while !wanted.iter().all(|kind| ids.contains_key(*kind)) {
        let opening = openings.recv_timeout(STREAMS_PATIENCE);
        let (kind, id) = opening.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
        ids.insert(kind, id);
    }
    Ok(Remote { output: Output::Spdy { session, ids }, input })
}

fn on_frame(
    frame: Frame,
    session: &Session,
    kinds: &mut BTreeMap<u32, String>,
    opened: &SyncSender<(String, u32)>,
    sender: &SyncSender<Input>,
) {
    let kind = |id: &u32| kinds.get(id).map(String::as_str);
    // A send that fails means that the command has ended; what still comes is for nobody.
    match frame {
        Frame::Opened { id, fields } => {
            let kind = fields.into_iter().find(|(name, _)| name == "streamtype");
            let kind = kind.map(|(_, value)| value).unwrap_or_default();
            kinds.insert(id, kind.clone());
            if session.reply(id).is_ok() {
                let _ = opened.send((kind, id));
            }
        }
        Frame::Data { id, bytes } => {
            let said = match kind(&id) {
                Some("stdin") => Some(Input::Stdin(bytes)),
                Some("resize") => resize(&bytes),
                _ => None,
            };
            if let Some(said) = said {
                let _ = sender.send(said);
            }
        }
        Frame::Finished { id } | Frame::Reset { id } => {
            if kind(&id) == Some("stdin") {
                let _ = sender.send(Input::StdinEnd);
            }
        }
    }
}

fn resize(json: &[u8]) -> Option<Input> {
    let size: Value = serde_json::from_slice(json).ok()?;
    let side = |name: &str| size.get(name).and_then(Value::as_u64);
    Some(Input::Resize { width: side("Width")?, height: side("Height")? })
}

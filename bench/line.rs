//! A long or thin line, in user space: bytes of TCP connections are passed on at a rate and after a
//! delay. There is no loss, and no congestion control but that of the loopback on either side of
//! it: what waits in front of the line waits in the sender's socket, as it would for a real one.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

/// How a line is.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    /// Megabits per second, each way.
    pub(crate) mbits: u64,
    /// Milliseconds there and back.
    pub(crate) ms: u64,
}

/// A line to one address.
pub(crate) struct Line {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

struct State {
    kind: Mutex<Kind>,
    /// When each direction has sent what it was given.
    free: [Mutex<Instant>; 2],
    conns: Mutex<Vec<TcpStream>>,
}

/// Bytes of a segment on Ethernet.
const SEGMENT: u32 = 1448;

/// What waits in the line itself for its turn, in time; twice that is room in the kernel.
const BUFFER: Duration = Duration::from_millis(2);

impl Kind {
    /// What `len` bytes take to send.
    pub(crate) fn time(self, len: usize) -> Duration {
        Duration::from_nanos(len as u64 * 8000 / self.mbits)
    }

    fn bytes(self, time: Duration) -> usize {
        usize::try_from(time.as_nanos() * u128::from(self.mbits) / 8000)
            .expect("what a line carries")
    }

    /// Bytes that one step carries.
    fn step(self) -> usize {
        self.bytes(Duration::from_micros(500)).clamp(SEGMENT as usize, 64 * 1024)
    }
}

impl Line {
    pub(crate) fn to(target: SocketAddr) -> Self {
        let listener = socket();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        listener.listen(128).expect("it is bound");
        let listener = TcpListener::from(listener);
        let address = listener.local_addr().expect("bound");
        let now = Instant::now();
        let state = Arc::new(State {
            kind: Mutex::new(Kind { mbits: 100_000, ms: 0 }),
            free: [Mutex::new(now), Mutex::new(now)],
            conns: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let far = socket();
                if far.connect(&target.into()).is_ok() {
                    shared.join(near, far.into());
                }
            }
        });
        Self { address, state }
    }

    /// Ends what there is, and is of another kind from then on.
    pub(crate) fn become_of(&self, kind: Kind) {
        *self.state.kind.lock().expect("no thread panics") = kind;
        self.cut();
    }

    /// Ends all connections.
    pub(crate) fn cut(&self) {
        for conn in self.state.conns.lock().expect("no thread panics").drain(..) {
            // It may have ended.
            let _ = conn.shutdown(Shutdown::Both);
        }
    }
}

impl State {
    fn join(self: &Arc<Self>, near: TcpStream, far: TcpStream) {
        let kind = *self.kind.lock().expect("no thread panics");
        let room = kind.bytes(BUFFER * 2).max(16 * 1024);
        for end in [&near, &far] {
            end.set_nodelay(true).expect("it is TCP");
            SockRef::from(end).set_recv_buffer_size(room).expect("a size");
        }
        let copy = |end: &TcpStream| end.try_clone().expect("a descriptor");
        self.conns.lock().expect("no thread panics").extend([copy(&near), copy(&far)]);
        let ways = [(copy(&near), copy(&far)), (far, near)];
        for (direction, (from, to)) in ways.into_iter().enumerate() {
            let in_flight = kind.bytes(Duration::from_millis(kind.ms)) / kind.step() + 64;
            let (enter, leave) = sync_channel(in_flight);
            let state = Arc::clone(self);
            thread::spawn(move || state.enter(kind, direction, from, &enter));
            thread::spawn(move || deliver(to, &leave));
        }
    }

    /// Takes bytes in as fast as the line carries them.
    fn enter(
        &self,
        kind: Kind,
        direction: usize,
        mut from: TcpStream,
        line: &SyncSender<(Instant, Vec<u8>)>,
    ) {
        let mut chunk = vec![0; kind.step()];
        loop {
            let len = from.read(&mut chunk).unwrap_or_default();
            if len == 0 {
                return;
            }
            let now = Instant::now();
            let through = {
                let mut free = self.free[direction].lock().expect("no thread panics");
                *free = (*free).max(now) + kind.time(len);
                *free
            };
            let due = through + Duration::from_millis(kind.ms) / 2;
            if line.send((due, chunk[..len].to_vec())).is_err() {
                return;
            }
            if let Some(early) = through.checked_duration_since(now + BUFFER) {
                thread::sleep(early);
            }
        }
    }
}

/// With segments as on a real line: those of the loopback are larger than a short receive buffer,
/// and wait for timers then.
fn socket() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor");
    socket.set_tcp_mss(SEGMENT).expect("a size");
    socket
}

fn deliver(mut to: TcpStream, line: &Receiver<(Instant, Vec<u8>)>) {
    for (due, bytes) in line {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    // The other end may be gone.
    let _ = to.shutdown(Shutdown::Write);
}

//! A man in the middle of a leg to a relay without TLS: he sees the frames that carry a session,
//! and does one thing to one of them when he is told.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

/// Which way the frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From whoever has dialled.
    Up,
    /// To whoever has dialled.
    Down,
}

/// What is done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    Flip,
    Shorten,
    Drop,
    Repeat,
    Swap,
    /// Something of an earlier session in its place.
    Splice,
    CutOff,
}

pub(crate) const DEEDS: [Deed; 7] =
    [Deed::Flip, Deed::Shorten, Deed::Drop, Deed::Repeat, Deed::Swap, Deed::Splice, Deed::CutOff];

#[derive(Clone)]
pub(crate) struct Middle {
    pub(crate) addr: SocketAddr,
    relay: SocketAddr,
    plan: Arc<Mutex<Option<(Way, Deed)>>>,
    /// The longest frame of each way so far.
    seen: Arc<Mutex<[Vec<u8>; 2]>>,
    ended: Arc<AtomicUsize>,
}

struct Frame {
    first: u8,
    mask: Option<[u8; 4]>,
    payload: Vec<u8>,
}

impl Middle {
    pub(crate) fn start(relay: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let middle = Self {
            addr: listener.local_addr().expect("an address"),
            relay: relay.parse().expect("an address"),
            plan: Arc::default(),
            seen: Arc::default(),
            ended: Arc::default(),
        };
        let all = middle.clone();
        // Ends with the test's process.
        thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                all.carry(tcp);
            }
        });
        middle
    }

    /// The next frame that goes this way is treated so.
    pub(crate) fn arm(&self, way: Way, deed: Deed) {
        *lock(&self.plan) = Some((way, deed));
    }

    /// Whether it has been done.
    pub(crate) fn is_done(&self) -> bool {
        lock(&self.plan).is_none()
    }

    /// How many WebSockets have ended.
    pub(crate) fn ended(&self) -> usize {
        self.ended.load(Ordering::SeqCst)
    }

    fn carry(&self, near: TcpStream) {
        let Ok(far) = TcpStream::connect(self.relay) else { return };
        for (way, from, to) in [(Way::Up, &near, &far), (Way::Down, &far, &near)] {
            let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
            let middle = self.clone();
            thread::spawn(move || {
                let _ = middle.pump(way, &from, &to);
                let _ = to.shutdown(Shutdown::Write);
            });
        }
    }

    fn pump(&self, way: Way, mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            from.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        to.write_all(&head)?;
        let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let is_ws = match way {
            Way::Up => text.contains("upgrade: websocket"),
            Way::Down => text.starts_with("http/1.1 101"),
        };
        if !is_ws {
            io::copy(&mut from, &mut to)?;
            return Ok(());
        }
        let result = self.pump_frames(way, from, to);
        if way == Way::Down {
            self.ended.fetch_add(1, Ordering::SeqCst);
        }
        result
    }

    fn pump_frames(&self, way: Way, mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
        let mut held: Option<Frame> = None;
        loop {
            let mut frame = Frame::read(&mut from)?;
            let deed = self.deed(way, &frame);
            match deed {
                None => to.write_all(&frame.bytes())?,
                Some(Deed::Flip) => {
                    let at = frame.payload.len() / 2;
                    frame.payload[at] ^= 0x10;
                    to.write_all(&frame.bytes())?;
                }
                Some(Deed::Shorten) => {
                    frame.payload.pop();
                    to.write_all(&frame.bytes())?;
                }
                Some(Deed::Drop) => (),
                Some(Deed::Repeat) => {
                    to.write_all(&frame.bytes())?;
                    to.write_all(&frame.bytes())?;
                }
                Some(Deed::Swap) => {
                    held = Some(frame);
                    continue;
                }
                Some(Deed::Splice) => {
                    lock(&self.seen)[usize::from(way == Way::Down)].clone_into(&mut frame.payload);
                    to.write_all(&frame.bytes())?;
                }
                Some(Deed::CutOff) => {
                    let bytes = frame.bytes();
                    to.write_all(&bytes[..bytes.len() / 2])?;
                    from.shutdown(Shutdown::Both)?;
                    return Ok(());
                }
            }
            if let Some(held) = held.take() {
                to.write_all(&held.bytes())?;
            }
        }
    }

    /// What to do to this frame; small ones are the protocol's own.
    fn deed(&self, way: Way, frame: &Frame) -> Option<Deed> {
        if frame.first & 0x0f != 2 || frame.payload.len() < 30 {
            return None;
        }
        let mut plan = lock(&self.plan);
        if let Some((planned, deed)) = *plan
            && planned == way
        {
            *plan = None;
            return Some(deed);
        }
        let mut seen = lock(&self.seen);
        let longest = &mut seen[usize::from(way == Way::Down)];
        if longest.len() < frame.payload.len() {
            frame.payload.clone_into(longest);
        }
        None
    }
}

impl Frame {
    fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut start = [0; 2];
        from.read_exact(&mut start)?;
        let length = match start[1] & 0x7f {
            126 => {
                let mut bytes = [0; 2];
                from.read_exact(&mut bytes)?;
                u64::from(u16::from_be_bytes(bytes))
            }
            127 => {
                let mut bytes = [0; 8];
                from.read_exact(&mut bytes)?;
                u64::from_be_bytes(bytes)
            }
            short => u64::from(short),
        };
        let mut mask = None;
        if start[1] & 0x80 != 0 {
            let mut key = [0; 4];
            from.read_exact(&mut key)?;
            mask = Some(key);
        }
        let mut payload = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        from.read_exact(&mut payload)?;
        Ok(Self { first: start[0], mask, payload: masked(payload, mask) })
    }

    fn bytes(&self) -> Vec<u8> {
        let flag = if self.mask.is_some() { 0x80 } else { 0 };
        let length = self.payload.len();
        let mut bytes = vec![self.first];
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ ..126), _) => bytes.push(flag | short),
            (_, Ok(medium)) => {
                bytes.push(flag | 126);
                bytes.extend(medium.to_be_bytes());
            }
            _ => {
                bytes.push(flag | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(self.mask.iter().flatten());
        bytes.extend(masked(self.payload.clone(), self.mask));
        bytes
    }
}

fn masked(mut payload: Vec<u8>, mask: Option<[u8; 4]>) -> Vec<u8> {
    if let Some(mask) = mask {
        for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= key;
        }
    }
    payload
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

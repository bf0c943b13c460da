//! Large transfers to slow readers: what a connection can make the relay keep is a number of
//! buffers, and neither the transfer's length nor the reader's patience changes it.

use cluster_connect::buf::{Outbox, Pressure};
use cluster_connect::engine::ws::{Connection, Item, Side};
use cluster_connect::limits::{BUFFER_SIZE, CONN_OUTBOX};
use cluster_connect::role::relay::Relay;
use cluster_connect::role::{ConnId, Net as _};
use cluster_connect::wire::ws::{Head, Opcode, mask};

use crate::http::{get, post, request, response, serving};
use crate::net::Stage;
use crate::{KEY, fragment, masked, plain, relay};

/// Buffers of a queue that is full, and those that are on their way through the relay.
const BUFFERS: usize = CONN_OUTBOX + 2;

/// One buffer of a payload that goes on for ever.
fn pattern() -> Vec<u8> {
    (0..BUFFER_SIZE).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

/// Reads frames, and knows what must be in them.
struct Reader {
    frames: Connection,
    pattern: Vec<u8>,
    got: u64,
    is_done: bool,
}

impl Reader {
    fn new() -> Self {
        let (frames, pattern) = (Connection::new(Side::Client), pattern());
        Self { frames, pattern, got: 0, is_done: false }
    }

    fn read(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        let mut at = 0;
        while let Some((count, item)) = self.frames.read(&mut bytes[at..]).unwrap() {
            match item {
                Item::Frame { fin, len, .. } => {
                    assert!(len <= BUFFER_SIZE as u64, "a frame of {len} bytes");
                    self.is_done |= fin;
                }
                Item::Payload { .. } => self.check(&bytes[at..at + count]),
                Item::Ping(_) | Item::Pong(_) | Item::Close(_) => panic!("{item:?}"),
            }
            at += count;
        }
    }

    fn check(&mut self, mut payload: &[u8]) {
        // A head may stand before its payload in the same run of bytes.
        while !payload.is_empty() {
            let from = usize::try_from(self.got % BUFFER_SIZE as u64).unwrap();
            let len = payload.len().min(BUFFER_SIZE - from);
            assert!(payload[..len] == self.pattern[from..from + len], "after {} bytes", self.got);
            self.got += len as u64;
            payload = &payload[len..];
        }
    }
}

impl Stage<Relay> {
    /// Lets the slow reader at `conn` take at most `most` bytes.
    fn take_some(&mut self, conn: ConnId, most: usize) -> Vec<u8> {
        let slice = self.net.outboxes.get_mut(&conn).unwrap().take(most);
        let bytes = slice.map(|slice| slice.to_vec()).unwrap_or_default();
        if !bytes.is_empty() {
            self.drained(conn, bytes.len());
        }
        bytes
    }
}

#[test]
fn a_gibibyte_passes_a_slow_reader_within_ten_buffers_and_neighbours_do_not_wait() {
    const LEN: u64 = 1 << 30;
    let (mut stage, _) = relay();
    let (quick, quick_end) = stage.joined();
    let (sender, listener) = stage.joined();
    stage.net.outboxes.insert(listener, Outbox::new(CONN_OUTBOX));
    let mut piece = pattern();
    mask(&mut piece, KEY.unwrap(), 0);
    stage.data(sender, &Head::new(Opcode::Binary, true, KEY, LEN).encode());
    let (mut sent, mut peak, mut stops) = (0, 0, 0u64);
    let mut reader = Reader::new();
    while reader.got < LEN {
        if sent < LEN && !stage.net.paused.contains(&sender) {
            stage.data(sender, &piece);
            sent += piece.len() as u64;
            peak = peak.max(stage.net.leased());
            continue;
        }
        stops += 1;
        if stops.is_multiple_of(64) {
            stage.data(quick, &masked(Opcode::Binary, b"at once"));
            assert_eq!(stage.take(quick_end), plain(Opcode::Binary, b"at once"));
        }
        let most = usize::try_from(stops * 7919 % 40_000 + 1).unwrap();
        let bytes = stage.take_some(listener, most);
        reader.read(&bytes);
    }
    assert!(reader.is_done && stops > 1000, "{stops} stops");
    assert!((CONN_OUTBOX..=BUFFERS).contains(&peak), "{peak} buffers");
    assert_eq!(stage.net.leased(), 0);
}

#[test]
fn a_streamed_response_waits_for_a_slow_sender_within_ten_buffers() {
    const LEN: usize = 64 * 1024 * 1024;
    let (mut stage, _, control) = serving();
    let sender = stage.request(&get());
    let (request, _) = stage.inline(control);
    let rendezvous = stage.opened(&request.address);
    stage.net.outboxes.insert(sender, Outbox::new(CONN_OUTBOX));
    stage.data(rendezvous, &response(&request.id, 200, &[], true));
    let piece = pattern();
    let (mut sent, mut got, mut peak) = (0, 0, 0);
    let mut opcode = Opcode::Binary;
    while sent < LEN || stage.net.outboxes[&sender].pressure() == Pressure::Full {
        if sent < LEN && !stage.net.paused.contains(&rendezvous) {
            stage.data(rendezvous, &fragment(opcode, false, &piece));
            opcode = Opcode::Continuation;
            sent += piece.len();
            peak = peak.max(stage.net.leased());
        } else {
            got += stage.take_some(sender, 30_000).len();
        }
    }
    // Of the rest of a buffer, the head and the frames of chunks take a little.
    assert!((CONN_OUTBOX..=BUFFERS + 2).contains(&peak), "{peak} buffers");
    assert!(got + BUFFERS * 2 * BUFFER_SIZE > LEN, "{got} bytes of {LEN}");
}

#[test]
fn a_streamed_request_waits_for_a_slow_listener_within_ten_buffers() {
    const LEN: usize = 64 * 1024 * 1024;
    let (mut stage, _, control) = serving();
    let sender = stage.request(&post(&format!("Content-Length: {LEN}\r\n")));
    let address = stage.pointer(control);
    let rendezvous = stage.opened(&address);
    stage.take(rendezvous);
    stage.net.outboxes.insert(rendezvous, Outbox::new(CONN_OUTBOX));
    let mut reader = Reader::new();
    let piece = pattern();
    let (mut sent, mut peak) = (0, 0);
    while reader.got < LEN as u64 {
        if sent < LEN && !stage.net.paused.contains(&sender) {
            stage.data(sender, &piece);
            sent += piece.len();
            peak = peak.max(stage.net.leased());
        } else {
            let bytes = stage.take_some(rendezvous, 30_000);
            reader.read(&bytes);
        }
    }
    assert!(reader.is_done);
    assert!((CONN_OUTBOX..=BUFFERS + 2).contains(&peak), "{peak} buffers");
}

#[test]
fn who_does_not_read_his_answers_asks_nothing_more() {
    const ASKED: usize = 30;
    let (mut stage, _, control) = serving();
    let sender = stage.accept();
    stage.net.outboxes.insert(sender, Outbox::new(CONN_OUTBOX));
    stage.data(sender, &get().repeat(ASKED));
    let (mut answered, mut peak, mut text) = (0, 0, Vec::new());
    while answered < ASKED {
        let got = stage.got(control);
        let Some((_, _, command)) = got.first() else {
            assert_eq!(stage.net.pressure(sender), Pressure::Full, "after {answered}");
            // The next one comes once there is room.
            text.extend(stage.take_some(sender, BUFFER_SIZE));
            continue;
        };
        stage.data(control, &response(&request(command).id, 200, &[], true));
        stage.data(control, &masked(Opcode::Binary, &[b'~'; 60_000]));
        answered += 1;
        peak = peak.max(stage.net.leased());
    }
    assert!(peak <= BUFFERS + 4, "{peak} buffers");
    while stage.net.leased() != 0 {
        text.extend(stage.take_some(sender, BUFFER_SIZE));
    }
    let text = String::from_utf8(text).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200").count(), ASKED);
    assert_eq!(text.matches('~').count(), ASKED * 60_000);
}

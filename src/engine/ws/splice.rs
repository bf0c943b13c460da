//! Data frames passed on within the buffer they arrived in.
//!
//! A masked head is at least as long as the unmasked head of the same frame, so a relay writes the
//! new head over the end of the old one and sends both from where they lie. Only a frame that has
//! to be cut, or a head that arrived in two reads, needs bytes from elsewhere ([`Step::Head`]).

use std::ops::Range;

use super::connection::{Connection, Control, Item, Side, Violation};
use crate::buf::Lease;
use crate::limits::{FRAME_MAX, TLS_RECORD_OVERHEAD, WS_HEAD};
use crate::wire::ws::{Head, HeadBytes, Opcode, mask};

/// Largest payload of a frame passed on. Azure's own buffers have this size; the Java SDK refuses
/// frames over 64 KiB.
pub const FORWARD_MAX: usize = 32 * 1024;

/// Pieces up to this size are moved next to what is before them instead of being sent alone.
const MOVE_MAX: usize = 1024;

/// Receives the frames of one leg, for the other.
#[derive(Debug)]
pub struct Splice {
    frames: Connection,
    reframe: bool,
    out: Out,
}

/// What to do, in this order.
#[derive(Clone, Debug)]
pub enum Step {
    /// Send these bytes of the buffer to the other leg.
    Bytes(Range<usize>),
    /// Send this head to the other leg.
    Head(HeadBytes),
    /// Answer with a pong.
    Ping(Control),
    /// This leg sends nothing more.
    Close(Control),
}

/// The frame that is being sent to the other leg.
#[derive(Debug)]
struct Out {
    /// Payload bytes that its head has promised and that have not come yet.
    owed: usize,
    /// Payload bytes of the received frame after those.
    rest: u64,
    fin: bool,
}

/// The stretch of the buffer that will be the next [`Step::Bytes`].
struct Run<'a> {
    range: Range<usize>,
    steps: &'a mut Vec<Step>,
}

impl Splice {
    /// Passes frames on as a server: head and payload, unmasked, at most [`FORWARD_MAX`] bytes
    /// each, message boundaries kept.
    #[must_use]
    pub const fn frames() -> Self {
        Self::new(Side::Server, true)
    }

    /// Passes on the payload alone, to a peer that speaks no WebSocket.
    #[must_use]
    pub const fn payload(side: Side) -> Self {
        Self::new(side, false)
    }

    const fn new(side: Side, reframe: bool) -> Self {
        let out = Out { owed: 0, rest: 0, fin: false };
        Self { frames: Connection::new(side), reframe, out }
    }

    /// Reads all of `bytes`, rearranging them in place, and appends to `steps` what follows.
    ///
    /// # Errors
    ///
    /// The rule that the peer has broken; `steps` has what came before.
    pub fn handle(&mut self, bytes: &mut [u8], steps: &mut Vec<Step>) -> Result<(), Violation> {
        let mut run = Run { range: 0..0, steps };
        let mut at = 0;
        let result = loop {
            match self.frames.read(bytes.get_mut(at..).unwrap_or_default()) {
                Err(violation) => break Err(violation),
                Ok(None) => break Ok(()),
                Ok(Some((count, item))) => {
                    let taken = at..at + count;
                    at = taken.end;
                    self.pass(item, bytes, taken, &mut run);
                }
            }
        };
        run.flush();
        result
    }

    /// A frame for the other leg is begun and not complete: nothing may be put between.
    #[must_use]
    pub const fn is_within_frame(&self) -> bool {
        self.out.owed > 0
    }

    /// This leg has sent its Close.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.frames.is_closed()
    }

    fn pass(&mut self, item: Item, bytes: &mut [u8], taken: Range<usize>, run: &mut Run<'_>) {
        match item {
            Item::Frame { opcode, fin, len } if self.reframe => {
                let head = self.out.begin(opcode, fin, len);
                let piece = self.out.owed.min(bytes.len() - taken.end);
                if head.len() > taken.len() {
                    run.flush();
                    run.steps.push(Step::Head(head));
                } else {
                    let place = taken.end - head.len()..taken.end;
                    bytes[place.clone()].copy_from_slice(&head);
                    run.take(bytes, place, head.len() + piece);
                }
            }
            Item::Payload { .. } if self.reframe => self.pass_payload(bytes, taken, run),
            Item::Payload { .. } => run.take(bytes, taken.clone(), taken.len()),
            Item::Frame { .. } | Item::Pong(_) => (),
            Item::Ping(payload) => run.steps.push(Step::Ping(payload)),
            Item::Close(payload) => {
                run.flush();
                run.steps.push(Step::Close(payload));
            }
        }
    }

    fn pass_payload(&mut self, bytes: &mut [u8], mut taken: Range<usize>, run: &mut Run<'_>) {
        while !taken.is_empty() {
            if self.out.owed == 0 {
                let head = self.out.begin(Opcode::Continuation, self.out.fin, self.out.rest);
                run.flush();
                run.steps.push(Step::Head(head));
            }
            let count = taken.len().min(self.out.owed);
            self.out.owed -= count;
            run.take(bytes, taken.start..taken.start + count, count);
            taken.start += count;
        }
    }
}

impl Out {
    fn begin(&mut self, opcode: Opcode, fin: bool, len: u64) -> HeadBytes {
        let first = len.min(FORWARD_MAX as u64);
        self.owed = usize::try_from(first).expect("at most 32 KiB");
        self.rest = len - first;
        self.fin = fin;
        Head::new(opcode, fin && self.rest == 0, None, first).encode()
    }
}

impl Run<'_> {
    /// Adds `piece`, which is the front of something of `whole` bytes.
    fn take(&mut self, bytes: &mut [u8], piece: Range<usize>, whole: usize) {
        if piece.start == self.range.end && !self.range.is_empty() {
            self.range.end = piece.end;
        } else if self.range.is_empty() || whole > MOVE_MAX {
            self.flush();
            self.range = piece;
        } else {
            let end = self.range.end;
            self.range.end += piece.len();
            bytes.copy_within(piece, end);
        }
    }

    fn flush(&mut self) {
        let range = std::mem::take(&mut self.range);
        if !range.is_empty() {
            self.steps.push(Step::Bytes(range));
        }
    }
}

/// Masks `bytes` in place as client frames that each end a binary message, with a key from `keys`
/// for each, and appends their heads and ranges to `steps`. A frame of at most
/// [`FRAME_MAX`] bytes and an inner TLS record around it fills an outer record exactly.
pub fn frame_up(bytes: &mut [u8], mut keys: impl FnMut() -> [u8; 4], steps: &mut Vec<Step>) {
    let mut at = 0;
    for payload in bytes.chunks_mut(FRAME_MAX + TLS_RECORD_OVERHEAD) {
        let key = keys();
        mask(payload, key, 0);
        let head = Head::new(Opcode::Binary, true, Some(key), payload.len() as u64);
        steps.push(Step::Head(head.encode()));
        steps.push(Step::Bytes(at..at + payload.len()));
        at += payload.len();
    }
}

/// Makes one frame of what follows the first [`WS_HEAD`] bytes of `lease`, at most 64 KiB, ending a
/// binary message: masks it in place with `key` and puts the head right before it.
pub fn frame_behind_head(lease: &mut Lease, key: [u8; 4]) {
    let (room, payload) = lease.filled_mut().split_at_mut(WS_HEAD);
    mask(payload, key, 0);
    let head = Head::new(Opcode::Binary, true, Some(key), payload.len() as u64).encode();
    let unused = WS_HEAD - head.len();
    room[unused..].copy_from_slice(&head);
    lease.advance(unused);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ws::push_frame;

    const KEY: Option<[u8; 4]> = Some([0xa1, 0xb2, 0xc3, 0xd4]);

    /// What the other leg gets, and the control steps.
    fn forward(splice: &mut Splice, pieces: &[&[u8]]) -> (Vec<u8>, Vec<Step>) {
        let mut out = Vec::new();
        let mut rest = Vec::new();
        for piece in pieces {
            let mut bytes = piece.to_vec();
            let mut steps = Vec::new();
            splice.handle(&mut bytes, &mut steps).unwrap();
            for step in steps {
                match step {
                    Step::Bytes(range) => out.extend_from_slice(&bytes[range]),
                    Step::Head(head) => out.extend_from_slice(&head),
                    Step::Ping(_) | Step::Close(_) => rest.push(step),
                }
            }
        }
        (out, rest)
    }

    #[test]
    fn a_frame_made_in_its_buffer_is_the_same_frame() {
        let pool = crate::buf::Pool::new(1, 1, 32 * 1024);
        for len in [1, 125, 126, 20_000, 32 * 1024 - WS_HEAD] {
            let mut lease = pool.lease_beyond();
            lease.commit(WS_HEAD);
            lease.fill(&fill(len));
            frame_behind_head(&mut lease, KEY.unwrap());
            let mut frame = Vec::new();
            push_frame(&mut frame, Opcode::Binary, true, KEY, &fill(len));
            assert!(*lease == *frame, "{len}");
        }
    }

    fn fill(len: usize) -> Vec<u8> {
        vec![u8::try_from(len % 251).unwrap(); len]
    }

    fn traffic(key: Option<[u8; 4]>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for len in [1, 8, 0, 125, 126, 300, 2000, 70_000, 3] {
            push_frame(&mut bytes, Opcode::Binary, true, key, &fill(len));
        }
        push_frame(&mut bytes, Opcode::Text, false, key, b"a");
        push_frame(&mut bytes, Opcode::Ping, true, key, b"p");
        push_frame(&mut bytes, Opcode::Continuation, true, key, b"b");
        push_frame(&mut bytes, Opcode::Close, true, key, &[3, 232]);
        bytes
    }

    fn expected() -> Vec<u8> {
        let mut bytes = Vec::new();
        for len in [1, 8, 0, 125, 126, 300, 2000] {
            push_frame(&mut bytes, Opcode::Binary, true, None, &fill(len));
        }
        let big = fill(70_000);
        push_frame(&mut bytes, Opcode::Binary, false, None, &big[..FORWARD_MAX]);
        push_frame(&mut bytes, Opcode::Continuation, false, None, &big[..FORWARD_MAX]);
        push_frame(&mut bytes, Opcode::Continuation, true, None, &big[2 * FORWARD_MAX..]);
        push_frame(&mut bytes, Opcode::Binary, true, None, &[3; 3]);
        push_frame(&mut bytes, Opcode::Text, false, None, b"a");
        push_frame(&mut bytes, Opcode::Continuation, true, None, b"b");
        bytes
    }

    #[test]
    fn frames_keep_their_boundaries_wherever_they_are_cut() {
        let bytes = traffic(KEY);
        let expected = expected();
        let cuts =
            (0..bytes.len()).filter(|&cut| cut < 3000 || cut % 997 == 0 || bytes.len() - cut < 60);
        for cut in cuts {
            let (head, tail) = bytes.split_at(cut);
            let (out, rest) = forward(&mut Splice::frames(), &[head, tail]);
            assert!(out == expected, "cut at {cut}");
            assert_eq!(rest.len(), 2, "cut at {cut}");
        }
        let bytewise: Vec<&[u8]> = bytes.chunks(1).collect();
        assert!(forward(&mut Splice::frames(), &bytewise).0 == expected);
    }

    #[test]
    fn payload_alone_comes_out_whole() {
        let bytes = traffic(None);
        let expected: Vec<u8> = [1, 8, 125, 126, 300, 2000, 70_000, 3]
            .into_iter()
            .flat_map(|len: usize| fill(len))
            .chain(*b"ab")
            .collect();
        for size in [1, 7, 1000, 200_000] {
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            let (out, _) = forward(&mut Splice::payload(Side::Client), &pieces);
            assert!(out == expected, "pieces of {size}");
        }
    }

    #[test]
    fn small_frames_of_one_read_leave_as_one_piece() {
        let mut bytes = Vec::new();
        for _ in 0..50 {
            push_frame(&mut bytes, Opcode::Binary, true, KEY, b"12345678");
        }
        let mut steps = Vec::new();
        Splice::frames().handle(&mut bytes, &mut steps).unwrap();
        assert!(matches!(&steps[..], [Step::Bytes(range)] if range.len() == 50 * 10), "{steps:?}");
    }

    #[test]
    fn full_frames_are_sent_from_where_they_lie() {
        let mut bytes = Vec::new();
        push_frame(&mut bytes, Opcode::Binary, true, KEY, &[1; 16_000]);
        push_frame(&mut bytes, Opcode::Binary, true, KEY, &[2; 16_000]);
        let mut steps = Vec::new();
        Splice::frames().handle(&mut bytes, &mut steps).unwrap();
        let [Step::Bytes(first), Step::Bytes(second)] = &steps[..] else { panic!("{steps:?}") };
        assert_eq!((first.clone(), second.clone()), (4..16_008, 16_012..32_016));
    }

    #[test]
    fn what_is_framed_up_comes_back() {
        let plain: Vec<u8> = (0..40_000u32).map(|i| u8::try_from(i % 253).unwrap()).collect();
        let mut bytes = plain.clone();
        let mut steps = Vec::new();
        let mut key = 0;
        frame_up(
            &mut bytes,
            || {
                key += 1;
                [key; 4]
            },
            &mut steps,
        );
        assert_eq!(steps.len(), 6);
        let mut wire = Vec::new();
        for step in steps {
            match step {
                Step::Bytes(range) => wire.extend_from_slice(&bytes[range]),
                Step::Head(head) => wire.extend_from_slice(&head),
                Step::Ping(_) | Step::Close(_) => panic!("only data"),
            }
        }
        assert_eq!(forward(&mut Splice::payload(Side::Server), &[&wire]).0, plain);
    }

    #[test]
    fn a_violation_leaves_what_came_before() {
        let mut bytes = Vec::new();
        push_frame(&mut bytes, Opcode::Binary, true, KEY, b"good");
        bytes.extend_from_slice(&[0xff, 0x80, 0, 0, 0, 0]);
        let mut steps = Vec::new();
        let result = Splice::frames().handle(&mut bytes, &mut steps);
        assert_eq!(result, Err(Violation::UnknownOpcode));
        assert_eq!(steps.len(), 1);
    }
}

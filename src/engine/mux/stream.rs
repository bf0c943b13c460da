//! One stream: what waits to be sent, what may be received, and how far each direction has come.

use super::company::Visit;
use super::credit::{RecvCredit, SendCredit};
use crate::buf::{Outbox, Pressure, Slice};
use crate::limits::STREAM_OUTBOX;
use crate::wire::mux::Flags;

/// One end of one stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) send: SendCredit,
    pub(super) recv: RecvCredit,
    pub(super) visit: Visit,
    outbox: Outbox,
    /// Flags owed with the next frame: SYN from the side that opens, ACK from the other.
    owed: Flags,
    /// The peer has said something on it, or has opened it: it is a stream there, too.
    pub(super) is_taken: bool,
    finish: Finish,
    pub(super) got_finish: bool,
    /// Already in the queue of those whose turn will come.
    pub(super) queued: bool,
    /// The source was told to stop, and has to be told to go on.
    starved: bool,
}

/// How far the end of our direction has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Finish {
    No,
    Asked,
    Sent,
}

impl Stream {
    /// `owed` is SYN where we open the stream and ACK where the peer did.
    pub(super) fn new(owed: Flags) -> Self {
        Self {
            send: SendCredit::new(),
            recv: RecvCredit::new(),
            visit: Visit::default(),
            outbox: Outbox::new(STREAM_OUTBOX),
            owed,
            is_taken: owed == Flags::ACK,
            finish: Finish::No,
            got_finish: false,
            queued: false,
            starved: false,
        }
    }

    pub(super) fn push(&mut self, data: Slice) -> Pressure {
        if self.finish != Finish::No {
            return Pressure::Open;
        }
        let pressure = self.outbox.push(data);
        self.starved |= pressure == Pressure::Full;
        pressure
    }

    pub(super) fn pressure(&self) -> Pressure {
        self.outbox.pressure()
    }

    pub(super) fn finish(&mut self) {
        if self.finish == Finish::No {
            self.finish = Finish::Asked;
        }
    }

    /// There is a frame to send now.
    pub(super) fn is_ready(&self) -> bool {
        let data = !self.outbox.is_empty() && 0 < self.send.left();
        data || self.owed != Flags::NONE || self.ends_now()
    }

    /// What a reset has to say besides: that it was taken, if the peer does not know yet.
    pub(super) fn owed_with_reset(&self) -> Flags {
        if self.owed == Flags::ACK { Flags::ACK } else { Flags::NONE }
    }

    /// Both directions have ended.
    pub(super) fn is_over(&self) -> bool {
        self.finish == Finish::Sent && self.got_finish
    }

    /// Appends up to `room` bytes of data to `out`, charged. Returns their number and the flags.
    pub(super) fn take(&mut self, out: &mut Vec<u8>, room: usize) -> (usize, Flags) {
        let want = room.min(self.send.left() as usize);
        let len = self.outbox.fill(out, want);
        assert_eq!(self.send.charge(len), len, "took no more than there was credit for");
        let mut flags = std::mem::take(&mut self.owed);
        if self.ends_now() {
            self.finish = Finish::Sent;
            flags = flags | Flags::FIN;
        }
        (len, flags)
    }

    /// Takes back the promise to say when there is room again, once there is.
    pub(super) fn relieved(&mut self) -> bool {
        let relieved = self.starved && self.outbox.pressure() == Pressure::Open;
        self.starved &= !relieved;
        relieved
    }

    fn ends_now(&self) -> bool {
        self.finish == Finish::Asked && self.outbox.is_empty()
    }
}

//! One connection: a link, TLS where it has one, and the bytes that wait on either side.
//!
//! Reading fills `inbox`, which the reactor hands to the role; writing empties `outbox`, which the
//! role fills. Sockets are edge-triggered: `readable` and `writable` remember an edge until the
//! link says that it would block.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut, Write};
use std::time::Instant;

use memmap2::MmapMut;

use super::dial::Stage;
use super::handoff::Guest;
use super::link::Link;
use crate::buf::{Lease, Outbox, Pool, Pressure, Slice};
use crate::engine::lull::Lull;
use crate::engine::pace::Pace;
use crate::engine::tls::{self, Sealed, State};
use crate::limits::{BUFFER_SIZE, BUFFERS_LEAST, CONN_OUTBOX, QUEUE_MAX, QUEUE_MIN, UNSENT_SHARE};
use crate::role::Close;

/// Bytes read at a time, and sealed at a time.
pub(super) const SCRATCH: usize = QUEUE_MAX;

/// Plaintext bytes of one outer TLS record.
const RECORD: usize = 16 * 1024;

/// Bytes that one read from `pool` may take: a scratch full, or one buffer where they are short, so
/// that readers that stall have not taken all before they are noticed.
fn read_size(pool: &Pool) -> usize {
    if pool.is_short() { BUFFER_SIZE } else { SCRATCH }
}

/// Whether `pool` has the buffers that one read may need, of which one more is cut and one not full.
pub(super) fn may_read(pool: &Pool) -> bool {
    read_size(pool) / BUFFER_SIZE + SPARE <= pool.available()
}

/// See [`may_read`]. In the smallest pool, too, those who stall give way while there is still
/// something to read into.
const SPARE: usize = 2;
const _: () = assert!(SPARE < BUFFERS_LEAST / 8);

/// Memory that every connection of a loop uses in turn.
#[derive(Debug)]
pub(super) struct Scratch {
    pub(super) read: MmapMut,
    pub(super) plain: Vec<u8>,
    pub(super) sealed: Sealed,
}

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) link: Link,
    pub(super) tls: Option<tls::Session>,
    pub(super) stage: Stage,
    pub(super) outbox: Outbox,
    /// Records that the kernel refused.
    cipher: Outbox,
    /// Plaintext bytes behind what is in `cipher`.
    unreported: usize,
    pace: Pace,
    lull: Lull,
    pub(super) inbox: VecDeque<Lease>,
    pub(super) readable: bool,
    /// The peer's FIN is in the kernel already: no edge will tell of it again.
    pub(super) hung_up: bool,
    pub(super) writable: bool,
    pub(super) paused: bool,
    finishing: bool,
    /// The end is in the queue.
    sent_fin: bool,
    /// The end has left.
    shut: bool,
    pub(super) got_fin: bool,
    /// The role has been told of `got_fin`.
    pub(super) told_fin: bool,
    /// The role has closed it: what is queued still goes out, and nobody is told anything.
    pub(super) lingering: bool,
    /// A failure found while bytes before it wait to be handed on.
    pub(super) failed: Option<Close>,
    /// It came from another loop, and counts against that one's limit.
    guest: Option<Guest>,
}

/// A connection between two loops: all of it but the buffers, which stay where they are.
#[derive(Debug)]
pub(super) struct Parted {
    link: Link,
    tls: Option<tls::Session>,
    outbox: Vec<u8>,
    cipher: Vec<u8>,
    unreported: usize,
    lull: Lull,
    inbox: Vec<u8>,
    marks: [bool; 9],
    failed: Option<Close>,
    guest: Guest,
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self {
            // Pages that nobody has written to take no room.
            read: MmapMut::map_anon(SCRATCH).expect("the system is out of memory"),
            plain: Vec::with_capacity(RECORD),
            sealed: Sealed::default(),
        }
    }
}

impl Conn {
    pub(super) fn new(link: Link, stage: Stage) -> Self {
        Self {
            link,
            tls: None,
            stage,
            outbox: Outbox::new(CONN_OUTBOX),
            cipher: Outbox::new(usize::MAX),
            unreported: 0,
            pace: Pace::new(),
            lull: Lull::New,
            inbox: VecDeque::new(),
            readable: false,
            hung_up: false,
            writable: false,
            paused: false,
            finishing: false,
            sent_fin: false,
            shut: false,
            got_fin: false,
            told_fin: false,
            lingering: false,
            failed: None,
            guest: None,
        }
    }

    /// What another loop needs to go on with it. `None` for one that only this loop can have.
    pub(super) fn part(mut self, guest: Guest) -> Option<Parted> {
        if !matches!(self.stage, Stage::Open) || matches!(self.link, Link::Memory(_)) {
            return None;
        }
        let (mut outbox, mut cipher) = (Vec::new(), Vec::new());
        self.outbox.fill(&mut outbox, usize::MAX);
        self.cipher.fill(&mut cipher, usize::MAX);
        Some(Parted {
            link: self.link,
            tls: self.tls,
            outbox,
            cipher,
            unreported: self.unreported,
            lull: self.lull,
            inbox: self.inbox.iter().flat_map(|lease| lease.iter().copied()).collect(),
            marks: [
                self.readable,
                self.hung_up,
                self.writable,
                self.paused,
                self.finishing,
                self.sent_fin,
                self.shut,
                self.got_fin,
                self.told_fin,
            ],
            failed: self.failed,
            guest,
        })
    }

    /// Goes on with a connection of another loop.
    pub(super) fn join(parted: Parted, pool: &Pool) -> Self {
        let mut conn = Self::new(parted.link, Stage::Open);
        for slice in pool.slices(&parted.outbox) {
            let _ = conn.outbox.push(slice);
        }
        for slice in pool.slices(&parted.cipher) {
            let _ = conn.cipher.push(slice);
        }
        conn.tls = parted.tls;
        conn.unreported = parted.unreported;
        conn.lull = parted.lull;
        conn.inbox.extend(pool.slices(&parted.inbox).flat_map(Slice::thaw));
        let [readable, hung_up, writable, paused, finishing, sent_fin, shut, got_fin, told_fin] =
            parted.marks;
        (conn.readable, conn.hung_up, conn.writable) = (readable, hung_up, writable);
        (conn.paused, conn.finishing) = (paused, finishing);
        (conn.sent_fin, conn.shut) = (sent_fin, shut);
        (conn.got_fin, conn.told_fin) = (got_fin, told_fin);
        conn.failed = parted.failed;
        conn.guest = Some(parted.guest);
        conn
    }

    /// How TLS came about on it, where it has TLS.
    pub(super) fn handshake(&self) -> Option<&'static str> {
        self.tls.as_ref().map(|tls| if tls.is_resumed() { "resumed" } else { "full" })
    }

    /// Whether more should be queued. What is sealed and was refused has its part of the room: a
    /// reader that stalls would have both otherwise.
    pub(super) fn pressure(&self) -> Pressure {
        self.outbox.pressure_behind(self.cipher_len().div_ceil(QUEUE_MIN))
    }

    /// A flush will tell of bytes that have left.
    pub(super) fn will_drain(&self) -> bool {
        0 < self.unreported || !self.outbox.is_empty()
    }

    /// Bytes that are sealed, unless none of them is the role's: it is not told when those leave.
    fn cipher_len(&self) -> usize {
        if self.unreported == 0 { 0 } else { self.cipher.len() }
    }

    pub(super) fn finish(&mut self) {
        self.finishing = true;
    }

    /// Everything that was to be sent has been, the end included.
    pub(super) fn has_sent_all(&self) -> bool {
        self.shut
    }

    /// Both sides have finished, and the role knows.
    pub(super) fn is_over(&self) -> bool {
        self.shut && self.told_fin
    }

    /// A read could bring something.
    pub(super) fn wants_read(&self) -> bool {
        self.readable && !self.got_fin && self.failed.is_none()
    }

    /// Reads once into the inbox. `false` when there was nothing.
    pub(super) fn read(&mut self, scratch: &mut Scratch, pool: &Pool) -> Result<bool, Close> {
        if self.tls.is_some() { self.read_tls(scratch, pool) } else { self.read_plain(pool) }
    }

    fn read_plain(&mut self, pool: &Pool) -> Result<bool, Close> {
        let size = read_size(pool);
        let mut leases: [Option<Lease>; SCRATCH / BUFFER_SIZE] =
            std::array::from_fn(|at| (at < size / BUFFER_SIZE).then(|| pool.lease_beyond()));
        let result = {
            let mut slots = leases.each_mut().map(|lease| {
                IoSliceMut::new(lease.as_mut().map(Lease::spare_mut).unwrap_or_default())
            });
            self.link.read_vectored(&mut slots)
        };
        let Some(mut len) = self.note_read(result, size)? else { return Ok(false) };
        if len == 0 {
            self.got_fin = true;
        }
        for mut lease in leases.into_iter().flatten() {
            let part = len.min(lease.spare());
            if part == 0 {
                break;
            }
            lease.commit(part);
            len -= part;
            self.inbox.push_back(lease);
        }
        Ok(true)
    }

    fn read_tls(&mut self, scratch: &mut Scratch, pool: &Pool) -> Result<bool, Close> {
        let room = scratch.read.get_mut(..read_size(pool)).unwrap_or_default();
        let asked = room.len();
        let result = self.link.read(room);
        let Some(len) = self.note_read(result, asked)? else { return Ok(false) };
        if len == 0 {
            return Err(Close::Truncated);
        }
        let tls = self.tls.as_mut().expect("checked by the caller");
        let (inbox, incoming) = (&mut self.inbox, scratch.read.get_mut(..len));
        scratch.sealed.clear();
        let result = tls.receive(
            incoming.unwrap_or_default(),
            |record| gather(inbox, pool, record),
            &mut scratch.sealed,
        );
        for slice in pool.slices(&scratch.sealed) {
            let _ = self.cipher.push(slice);
        }
        match result {
            Ok(State::PeerClosed) => self.got_fin = true,
            Ok(State::Handshaking | State::Established) => (),
            Err(err) => return Err(Close::Untrusted(describe(&err))),
        }
        Ok(true)
    }

    /// What `result` of a read means: the length, or `None` when nothing is there.
    fn note_read(
        &mut self,
        result: io::Result<usize>,
        asked: usize,
    ) -> Result<Option<usize>, Close> {
        match result {
            Ok(len) => {
                // Less than asked for: the next read would block, and the next edge will tell.
                self.readable &= len == asked || self.hung_up;
                Ok(Some(len))
            }
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(None)
            }
            Err(err) if err.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(_) => Err(Close::Reset),
        }
    }

    /// Writes what the link takes now. Returns how many queued bytes that was.
    pub(super) fn flush(
        &mut self,
        scratch: &mut Scratch,
        pool: &Pool,
        now: Instant,
    ) -> Result<usize, Close> {
        let mut drained = 0;
        if self.writable {
            drained = match self.tls {
                Some(_) => self.flush_tls(scratch, pool)?,
                None => self.write_queue(Queue::Plain)?,
            };
            if self.pace.note(drained, !self.writable, now) {
                self.outbox.set_limit((self.pace.queue_bytes() / QUEUE_MIN).max(2));
                let most = (pool.bytes() / UNSENT_SHARE).max(QUEUE_MIN);
                self.link.limit_unsent(self.pace.unsent_bytes().min(most));
            }
            if self.lull.ends(drained, !self.writable, now) {
                self.link.learn_anew();
            }
        }
        if self.finishing && !self.shut && !self.has_output() {
            self.send_fin(scratch, pool)?;
        }
        Ok(drained)
    }

    fn flush_tls(&mut self, scratch: &mut Scratch, pool: &Pool) -> Result<usize, Close> {
        let mut drained = 0;
        loop {
            self.write_queue(Queue::Cipher)?;
            if !self.cipher.is_empty() {
                return Ok(drained);
            }
            drained += std::mem::take(&mut self.unreported);
            let tls = self.tls.as_mut().expect("checked by the caller");
            if self.outbox.is_empty() || !tls.is_established() {
                return Ok(drained);
            }
            scratch.sealed.clear();
            let mut staged = 0;
            while staged + RECORD <= self.pace.queue_bytes() && !self.outbox.is_empty() {
                let record = self.outbox.record(&mut scratch.plain, RECORD);
                staged += record.len();
                tls.seal(&record, &mut scratch.sealed).map_err(|_| Close::Reset)?;
            }
            self.unreported = staged;
            let mut rest: &[u8] = &scratch.sealed;
            while !rest.is_empty() && self.writable {
                match self.link.write(rest) {
                    Ok(len) => rest = rest.get(len..).unwrap_or_default(),
                    Err(err) if err.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                    Err(err) if err.kind() == io::ErrorKind::Interrupted => (),
                    Err(_) => return Err(Close::Reset),
                }
            }
            for slice in pool.slices(rest) {
                let _ = self.cipher.push(slice);
            }
        }
    }

    fn write_queue(&mut self, which: Queue) -> Result<usize, Close> {
        let queue = match which {
            Queue::Plain => &mut self.outbox,
            Queue::Cipher => &mut self.cipher,
        };
        if !self.writable || queue.is_empty() {
            return Ok(0);
        }
        let written = queue.flush_to(&mut self.link).map_err(|_| Close::Reset)?;
        self.writable = queue.is_empty();
        Ok(written)
    }

    fn send_fin(&mut self, scratch: &mut Scratch, pool: &Pool) -> Result<(), Close> {
        if !std::mem::replace(&mut self.sent_fin, true)
            && let Some(tls) = &mut self.tls
        {
            scratch.sealed.clear();
            tls.close(&mut scratch.sealed);
            for slice in pool.slices(&scratch.sealed) {
                let _ = self.cipher.push(slice);
            }
            self.write_queue(Queue::Cipher)?;
        }
        if self.cipher.is_empty() {
            self.shut = true;
            self.link.shutdown_write();
        }
        Ok(())
    }

    /// On a pipe in memory: takes note that everything has been moved, if the end was asked for.
    pub(super) fn end_in_memory(&mut self) -> bool {
        if self.finishing && self.outbox.is_empty() {
            (self.sent_fin, self.shut) = (true, true);
        }
        self.shut
    }

    /// Starts TLS with what is there to say first.
    pub(super) fn start_tls(
        &mut self,
        mut session: tls::Session,
        pool: &Pool,
    ) -> Result<(), Close> {
        let mut flight = Vec::new();
        session
            .receive(&mut [], |_| (), &mut flight)
            .map_err(|err| Close::Untrusted(describe(&err)))?;
        for slice in pool.slices(&flight) {
            let _ = self.cipher.push(slice);
        }
        self.tls = Some(session);
        Ok(())
    }

    /// There are bytes that a flush would try to write.
    pub(super) fn has_output(&self) -> bool {
        !self.cipher.is_empty() || !self.outbox.is_empty()
    }
}

#[derive(Clone, Copy)]
enum Queue {
    Plain,
    Cipher,
}

/// Puts a record's plaintext into the inbox: behind the last one if it fits there whole, so that a
/// frame that is one record stays in one buffer.
fn gather(inbox: &mut VecDeque<Lease>, pool: &Pool, record: &[u8]) {
    if let Some(last) = inbox.back_mut().filter(|last| record.len() <= last.spare()) {
        last.fill(record);
    } else if !record.is_empty() {
        let mut lease = pool.lease_beyond();
        lease.fill(record);
        inbox.push_back(lease);
    }
}

/// What is wrong with the peer's TLS, in words that an operator can act on.
fn describe(err: &rustls::Error) -> String {
    use rustls::{CertificateError, Error};
    match err {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate is signed by an authority that is not trusted here".into()
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!("its certificate is for another name: {err}"),
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "its certificate has expired, or the clock here is wrong".into(),
        Error::InvalidCertificate(_) => format!("its certificate is not valid: {err}"),
        Error::AlertReceived(_) => format!("it refused the TLS session: {err}"),
        _ => format!("TLS failed: {err}"),
    }
}

#[cfg(test)]
#[path = "conn_tests.rs"]
mod tests;

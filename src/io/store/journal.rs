//! The journal: records one after another, each sealed together with all that came before it.
//!
//! ```text
//! "cluster-connect journal 1\n"
//! length (u32, little endian) | check of the length (4) | record | seal (8)
//! ```
//!
//! The seal is a truncated SHA-256 over the seal before it, the length and the record, so a record
//! cannot vanish, move or come twice unnoticed. The length has a check of its own: that tells a
//! record which was not written to its end (a crash: it was never acknowledged, and is cut off)
//! from one that was changed since (damage: refused, for what it held may have been acknowledged).

use std::fmt;
use std::io;
use std::ops::Range;

use ring::digest::{Context, SHA256};

use crate::limits::RECORD_MAX;

/// Where the bytes are. The store has a file, the tests a disk that fills up.
pub(super) trait Medium {
    /// Writes `bytes` at `offset`, which is the end.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Comes back when all that was written is durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Drops what is behind `len`.
    fn cut(&mut self, len: u64) -> io::Result<()>;
}

/// A journal that takes records.
#[derive(Debug)]
pub(super) struct Journal<M> {
    medium: M,
    len: u64,
    seal: Seal,
    broken: bool,
}

type Seal = [u8; 8];

/// What a journal begins with; the number is the version.
const TITLE: &[u8] = b"cluster-connect journal ";

const VERSION: u64 = 1;

const HEAD: usize = 8;

const SEAL: usize = 8;

/// What one write of a disk is made of: a crash of the machine can leave zeros from such a
/// boundary to the end.
const SECTOR: usize = 512;

impl<M: Medium> Journal<M> {
    /// Goes on behind `end`, which is where this medium ends.
    pub(super) const fn new(medium: M, end: End) -> Self {
        Self { medium, len: end.len, seal: end.seal, broken: false }
    }

    /// Bytes up to the end of the last record.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// No more records until the process has started anew: what the medium holds is unknown.
    pub(super) const fn give_up(&mut self) {
        self.broken = true;
    }

    /// Makes `record` durable. After an error the journal is as it was before.
    pub(super) fn append(&mut self, record: &[u8]) -> Result<(), Unwritten> {
        if self.broken {
            return Err(Unwritten::Broken);
        }
        let (frame, seal) = frame(record, &self.seal).ok_or(Unwritten::TooLong(record.len()))?;
        if let Err(error) = self.medium.write(self.len, &frame).and_then(|()| self.medium.sync()) {
            // What is half written must not stay: the next record would stand behind it.
            self.broken = self.medium.cut(self.len).and_then(|()| self.medium.sync()).is_err();
            return Err(Unwritten::Io(error));
        }
        self.len = self.len.saturating_add(u64::try_from(frame.len()).unwrap_or(u64::MAX));
        self.seal = seal;
        Ok(())
    }
}

/// Why a record was not written.
#[derive(Debug)]
pub(super) enum Unwritten {
    /// Longer than any record may be.
    TooLong(usize),
    /// The medium says so.
    Io(io::Error),
    /// A half-written record could not be removed.
    Broken,
}

/// What a journal holds.
#[derive(Debug)]
pub(super) struct Read {
    /// Where the records are, in order.
    pub(super) records: Vec<Range<usize>>,
    /// Behind the last good record; what comes then is half a record.
    pub(super) end: End,
}

/// Where a journal ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// Bytes up to there.
    pub(super) len: u64,
    seal: Seal,
}

/// Reads a whole journal.
pub(super) fn read(bytes: &[u8]) -> Result<Read, Damage> {
    let mut at = check_title(bytes)?;
    let mut seal = first_seal();
    let mut records = Vec::new();
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        match next(rest, &seal) {
            Next::Record(len, new_seal) => {
                let start = at.saturating_add(HEAD);
                let end = start.saturating_add(len);
                records.push(start..end);
                at = end.saturating_add(SEAL);
                seal = new_seal;
            }
            Next::Torn => break,
            Next::Changed(len) if fades(bytes, at, at.saturating_add(len)) => break,
            Next::Changed(_) => return Err(Damage::Changed(at)),
        }
    }
    Ok(Read { records, end: End { len: u64::try_from(at).unwrap_or(u64::MAX), seal } })
}

/// Writes a whole journal with these records, one after another: all of them at once would take
/// as much memory again as what they tell of.
pub(super) fn write(
    records: impl IntoIterator<Item = Vec<u8>>,
    out: &mut impl io::Write,
) -> Result<End, Unwritten> {
    let title = [TITLE, VERSION.to_string().as_bytes(), b"\n"].concat();
    out.write_all(&title).map_err(Unwritten::Io)?;
    let mut end = End { len: u64::try_from(title.len()).unwrap_or(u64::MAX), seal: first_seal() };
    for record in records {
        let framed = frame(&record, &end.seal).ok_or(Unwritten::TooLong(record.len()))?;
        out.write_all(&framed.0).map_err(Unwritten::Io)?;
        let len = u64::try_from(framed.0.len()).unwrap_or(u64::MAX);
        end = End { len: end.len.saturating_add(len), seal: framed.1 };
    }
    Ok(end)
}

/// What is wrong with a journal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Damage {
    /// It does not begin like a journal.
    Title,
    /// A newer program wrote it.
    Newer(u64),
    /// The record that begins at this byte is not what was written.
    Changed(usize),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Title => f.write_str("is damaged at byte 0: it does not begin like a journal"),
            Self::Newer(version) => write!(
                f,
                "has the format of version {version}, and this program reads version {VERSION}; \
                 start the newer program again"
            ),
            Self::Changed(at) => write!(
                f,
                "is damaged at byte {at}: the record there is not what was written; put back a \
                 copy of the file"
            ),
        }
    }
}

enum Next {
    /// So many bytes long, and good.
    Record(usize, Seal),
    /// Ends before it is complete.
    Torn,
    /// So many bytes are complete and wrong: the head, or the whole record.
    Changed(usize),
}

fn next(rest: &[u8], seal: &Seal) -> Next {
    let Some((&[a, b, c, d, check @ ..], rest)) = rest.split_first_chunk::<HEAD>() else {
        return Next::Torn;
    };
    let head = [a, b, c, d];
    let len = usize::try_from(u32::from_le_bytes(head)).unwrap_or(usize::MAX);
    if check != head_check(head, seal) || len > RECORD_MAX {
        return Next::Changed(HEAD);
    }
    let Some((record, rest)) = rest.split_at_checked(len) else { return Next::Torn };
    let Some((end, _)) = rest.split_first_chunk::<SEAL>() else { return Next::Torn };
    let expected = seal_of(head, record, seal);
    match *end == expected {
        true => Next::Record(len, expected),
        false => Next::Changed(HEAD.saturating_add(len).saturating_add(SEAL)),
    }
}

/// Whether nothing but zeros stands from a boundary between sectors to the end, and the boundary is
/// in what is wrong (`from..to`): what is left when the machine stopped after the length of the
/// file was written and before its last sectors were.
fn fades(bytes: &[u8], from: usize, to: usize) -> bool {
    let last = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at.saturating_add(1));
    let zeros_from = if last <= from { from } else { last.next_multiple_of(SECTOR) };
    zeros_from < to && bytes.len().saturating_sub(zeros_from) >= SEAL
}

fn check_title(bytes: &[u8]) -> Result<usize, Damage> {
    let rest = bytes.strip_prefix(TITLE).ok_or(Damage::Title)?;
    let end = rest.iter().take(20).position(|byte| *byte == b'\n').ok_or(Damage::Title)?;
    let (version, _) = rest.split_at_checked(end).ok_or(Damage::Title)?;
    let version = std::str::from_utf8(version).ok().and_then(|text| text.parse().ok());
    match version {
        Some(VERSION) => Ok(TITLE.len().saturating_add(end).saturating_add(1)),
        Some(newer) if newer > VERSION => Err(Damage::Newer(newer)),
        _ => Err(Damage::Title),
    }
}

fn frame(record: &[u8], seal: &Seal) -> Option<(Vec<u8>, Seal)> {
    let len = u32::try_from(record.len()).ok().filter(|_| record.len() <= RECORD_MAX)?;
    let head = len.to_le_bytes();
    let end = seal_of(head, record, seal);
    Some(([&head, &head_check(head, seal), record, &end].concat(), end))
}

fn first_seal() -> Seal {
    hash(&[b"first"])
}

fn head_check(head: [u8; 4], seal: &Seal) -> [u8; 4] {
    let [a, b, c, d, ..] = hash(&[b"head", seal, &head]);
    [a, b, c, d]
}

fn seal_of(head: [u8; 4], record: &[u8], seal: &Seal) -> Seal {
    hash(&[b"seal", seal, &head, record])
}

fn hash(parts: &[&[u8]]) -> Seal {
    let mut sha = Context::new(&SHA256);
    parts.iter().for_each(|part| sha.update(part));
    let mut start = [0; SEAL];
    start.iter_mut().zip(sha.finish().as_ref()).for_each(|(to, from)| *to = *from);
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with room for so many bytes, which writes what fits before it says that it is full.
    #[derive(Default)]
    struct Disk {
        bytes: Vec<u8>,
        room: usize,
        fail_sync: bool,
        fail_cut: bool,
    }

    impl Medium for Disk {
        fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            assert_eq!(usize::try_from(offset).unwrap(), self.bytes.len(), "only at the end");
            let fits = bytes.len().min(self.room.saturating_sub(self.bytes.len()));
            self.bytes.extend_from_slice(&bytes[..fits]);
            if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }

        fn sync(&mut self) -> io::Result<()> {
            if std::mem::take(&mut self.fail_sync) { Err(io::Error::other("EIO")) } else { Ok(()) }
        }

        fn cut(&mut self, len: u64) -> io::Result<()> {
            self.bytes.truncate(usize::try_from(len).unwrap());
            if self.fail_cut { Err(io::Error::other("EIO")) } else { Ok(()) }
        }
    }

    fn records() -> Vec<Vec<u8>> {
        vec![b"one".to_vec(), Vec::new(), vec![7; 700], b"four".to_vec()]
    }

    fn write(records: &[Vec<u8>]) -> Result<Vec<u8>, Unwritten> {
        let mut bytes = Vec::new();
        super::write(records.to_vec(), &mut bytes).map(|_| bytes)
    }

    /// The records themselves.
    fn all(bytes: &[u8]) -> Vec<Vec<u8>> {
        let read = read(bytes).unwrap();
        read.records.into_iter().map(|place| bytes[place].to_vec()).collect()
    }

    fn open(room: usize) -> Journal<Disk> {
        let bytes = write(&[]).unwrap();
        let read = read(&bytes).unwrap();
        Journal::new(Disk { bytes, room, ..Disk::default() }, read.end)
    }

    /// Where each record ends.
    fn ends() -> Vec<usize> {
        (0..=records().len()).map(|n| write(&records()[..n]).unwrap().len()).collect()
    }

    #[test]
    fn what_is_appended_is_read() {
        let mut journal = open(usize::MAX);
        records().iter().for_each(|record| journal.append(record).unwrap());
        assert_eq!(journal.medium.bytes, write(&records()).unwrap());
        assert_eq!(all(&journal.medium.bytes), records());
    }

    #[test]
    fn cut_anywhere_every_complete_record_is_there_and_the_next_one_is_good() {
        let (whole, ends) = (write(&records()).unwrap(), ends());
        for cut in 0..=whole.len() {
            let found = read(&whole[..cut]);
            if cut < ends[0] {
                assert_eq!(found.unwrap_err(), Damage::Title, "cut at {cut}");
                continue;
            }
            let found = found.unwrap();
            let complete = ends[1..].iter().filter(|end| **end <= cut).count();
            assert_eq!(all(&whole[..cut]), records()[..complete], "cut at {cut}");
            assert_eq!(found.end.len, ends[complete] as u64);
            let bytes = whole[..ends[complete]].to_vec();
            let disk = Disk { bytes, room: usize::MAX, ..Disk::default() };
            let mut journal = Journal::new(disk, found.end);
            journal.append(b"next").unwrap();
            let again = all(&journal.medium.bytes);
            assert_eq!(again.last().unwrap(), b"next");
            assert_eq!(again.len(), complete + 1);
        }
    }

    #[test]
    fn a_changed_bit_anywhere_is_refused_with_its_place() {
        let (whole, ends) = (write(&records()).unwrap(), ends());
        for at in 0..whole.len() {
            for bit in [0, 7] {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                match read(&bytes) {
                    Err(Damage::Changed(start)) => {
                        let before = ends.iter().rfind(|end| **end <= at).unwrap();
                        assert_eq!(start, *before, "bit {bit} of byte {at}");
                    }
                    Err(Damage::Title | Damage::Newer(_)) => assert!(at < ends[0]),
                    Ok(_) => panic!("bit {bit} of byte {at} went unnoticed"),
                }
            }
        }
    }

    #[test]
    fn a_record_that_vanished_moved_or_came_twice_is_refused() {
        let (whole, ends) = (write(&records()).unwrap(), ends());
        let part = |n: usize| &whole[ends[n]..ends[n + 1]];
        let title = &whole[..ends[0]];
        for parts in
            [[title, part(1), part(2)], [title, part(0), part(0)], [title, part(0), part(2)]]
        {
            assert!(matches!(read(&parts.concat()), Err(Damage::Changed(_))));
        }
    }

    #[test]
    fn a_tail_of_zeros_is_a_crash_and_not_damage() {
        let (whole, ends) = (write(&records()).unwrap(), ends());
        for boundary in (0..whole.len()).step_by(SECTOR).skip(1) {
            let mut bytes = whole.clone();
            bytes[boundary..].fill(0);
            let complete = ends[1..].iter().filter(|end| **end <= boundary).count();
            assert_eq!(all(&bytes), records()[..complete]);
        }
        let longer = [&whole[..], &[0; 100]].concat();
        assert_eq!(all(&longer), records());
    }

    #[test]
    fn zeros_at_the_end_do_not_excuse_damage_before_them() {
        let (whole, ends) = (write(&records()).unwrap(), ends());
        for zeros in [8, 2000] {
            for at in [ends[0], ends[0] + 9, ends[2] + 20] {
                let mut bytes = [&whole[..], &vec![0; zeros]].concat();
                bytes[at] ^= 1;
                assert!(matches!(read(&bytes), Err(Damage::Changed(_))), "{zeros} {at}");
            }
        }
    }

    #[test]
    fn a_newer_journal_is_refused_and_named() {
        let why = read(b"cluster-connect journal 2\nwhatever").unwrap_err();
        assert_eq!(why, Damage::Newer(2));
        assert!(why.to_string().contains("version 2"));
        for title in ["", "cluster-connect journal ", "cluster-connect journal x\n", "PK\x03\x04"] {
            assert_eq!(read(title.as_bytes()).unwrap_err(), Damage::Title);
        }
    }

    #[test]
    fn a_full_disk_loses_nothing_wherever_it_fills_up() {
        let (first, last) = (write(&records()[..1]).unwrap().len(), ends()[4]);
        for room in first..last {
            let mut journal = open(room);
            let mut kept = Vec::new();
            for record in records() {
                if journal.append(&record).is_ok() {
                    kept.push(record);
                }
            }
            journal.medium.room = usize::MAX;
            journal.append(b"after").unwrap();
            kept.push(b"after".to_vec());
            assert_eq!(all(&journal.medium.bytes), kept, "room {room}");
        }
    }

    #[test]
    fn a_failed_sync_takes_the_record_back() {
        let mut journal = open(usize::MAX);
        journal.append(b"one").unwrap();
        journal.medium.fail_sync = true;
        assert!(matches!(journal.append(b"two"), Err(Unwritten::Io(_))));
        journal.append(b"three").unwrap();
        let found = all(&journal.medium.bytes);
        assert_eq!(found, [b"one".to_vec(), b"three".to_vec()]);
    }

    #[test]
    fn a_journal_that_cannot_be_repaired_takes_nothing_more() {
        let mut journal = open(usize::MAX);
        (journal.medium.fail_sync, journal.medium.fail_cut) = (true, true);
        assert!(matches!(journal.append(b"one"), Err(Unwritten::Io(_))));
        assert!(matches!(journal.append(b"two"), Err(Unwritten::Broken)));
    }

    #[test]
    fn a_record_over_the_limit_is_refused() {
        let mut journal = open(usize::MAX);
        let long = vec![0; RECORD_MAX + 1];
        assert!(matches!(journal.append(&long), Err(Unwritten::TooLong(_))));
        journal.append(&long[1..]).unwrap();
        assert_eq!(all(&journal.medium.bytes).len(), 1);
    }
}

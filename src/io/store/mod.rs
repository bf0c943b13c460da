//! The file store in the state directory: what is acknowledged is on the disk, whatever happens to
//! the process.
//!
//! ```text
//! lock          held while the process lives; a second process is refused
//! journal       all records since the last compaction, which are the state
//! journal.new   a compaction that did not end; removed at the next start
//! admin-token   made at the first start
//! ```
//!
//! A compaction writes the whole state beside the journal and renames it into place, so there is
//! one file at any time, and it is complete.

mod journal;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};

pub use self::journal::Damage;
use self::journal::{End, Journal, Medium, Unwritten};
use crate::limits::{COMPACT_AFTER, JOURNAL_MAX};
use crate::secret::Secret;

/// An open store. There is one at a time for a directory.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    journal: Journal<File>,
    compacted_len: u64,
    /// Held, never read.
    _lock: File,
}

impl Store {
    /// Opens the store in `dir`, makes both if need be, and gives the records in their order.
    ///
    /// # Errors
    ///
    /// [`StoreError`] is a sentence for the operator. Nothing was changed then, except that a
    /// record which was never acknowledged may be cut off.
    pub fn open(dir: &Path) -> Result<(Self, Records), StoreError> {
        let fail = |path: &Path, error| StoreError::io("open", path, error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| StoreError::io("make", dir, error))?;
        let path = dir.join("lock");
        let lock = private().create(true).open(&path).map_err(|error| fail(&path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse(dir.to_owned())),
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &path, error)),
        }
        let path = dir.join(JOURNAL);
        let unfinished = dir.join(UNFINISHED);
        if unfinished.exists() {
            fs::remove_file(&unfinished)
                .map_err(|error| StoreError::io("remove", &unfinished, error))?;
        }
        if !path.exists() {
            write_journal(dir, [])?;
            sync_dir(dir)?;
        }
        let (mut file, bytes) = read_file(&path)?;
        let read =
            journal::read(&bytes).map_err(|damage| StoreError::Damaged(path.clone(), damage))?;
        let len = read.end.len;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > len {
            log::warn!("{}: cut off an unfinished record at byte {len}", path.display());
            file.cut(len)
                .and_then(|()| file.sync())
                .map_err(|error| StoreError::io("repair", &path, error))?;
        }
        let journal = Journal::new(file, read.end);
        // How small it would be is unknown; a second compaction right after a start does no harm.
        let store = Self { dir: dir.to_owned(), journal, compacted_len: 0, _lock: lock };
        Ok((store, Records { bytes, places: read.records }))
    }

    /// Makes `record` durable.
    ///
    /// # Errors
    ///
    /// Then it is not there, and must not be acknowledged; what was there before is.
    pub fn append(&mut self, record: &[u8]) -> Result<(), StoreError> {
        let path = || self.dir.join(JOURNAL);
        match self.journal.append(record) {
            Ok(()) => Ok(()),
            Err(Unwritten::TooLong(len)) => Err(StoreError::TooLong(len)),
            Err(Unwritten::Broken) => Err(StoreError::Broken(path())),
            Err(Unwritten::Io(error)) => Err(StoreError::io("write", &path(), error)),
        }
    }

    /// Whether the journal has grown to twice what it was after the last compaction.
    pub const fn wants_compaction(&self) -> bool {
        let limit = self.compacted_len.saturating_mul(2).saturating_add(COMPACT_AFTER);
        self.journal.len() > limit
    }

    /// Replaces all records by `snapshot`, which makes the same state.
    ///
    /// # Errors
    ///
    /// Then the journal goes on as it was, or takes nothing more.
    pub fn compact(
        &mut self,
        snapshot: impl IntoIterator<Item = Vec<u8>>,
    ) -> Result<(), StoreError> {
        // One that fails is not tried again with each record: a full disk is full for a while.
        self.compacted_len = self.journal.len();
        let (file, end) = write_journal(&self.dir, snapshot)?;
        self.journal = Journal::new(file, end);
        self.compacted_len = self.journal.len();
        // The new file has the name, but perhaps not for good: a crash could bring the old one
        // back, and records that go to the new one would be lost.
        sync_dir(&self.dir).inspect_err(|_| self.journal.give_up())
    }

    /// The operator's token, made at the first start: 256 random bits in a file that only its
    /// owner can read.
    ///
    /// # Errors
    ///
    /// The file cannot be read or made, or what it holds is too short to be a secret.
    pub fn admin_token(&self) -> Result<Secret<String>, StoreError> {
        let path = self.dir.join(ADMIN_TOKEN);
        if path.exists() {
            let token = fs::read_to_string(&path);
            let token = token.map_err(|error| StoreError::io("read", &path, error))?;
            let token = token.trim().to_owned();
            return match token.len() >= ADMIN_TOKEN_MIN {
                true => Ok(Secret::new(token)),
                false => Err(StoreError::WeakToken(path)),
            };
        }
        let mut bytes = [0; 32];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| StoreError::io("make", &path, io::Error::other("no randomness")))?;
        let token = format!("cca_{}", URL_SAFE_NO_PAD.encode(bytes));
        replace(&self.dir, ADMIN_TOKEN, |mut file| {
            file.write_all(format!("{token}\n").as_bytes()).map_err(Unwritten::Io)
        })?;
        sync_dir(&self.dir)?;
        Ok(Secret::new(token))
    }

    /// Where the operator finds the token.
    pub fn admin_token_path(&self) -> PathBuf {
        self.dir.join(ADMIN_TOKEN)
    }
}

/// The records of a journal, in their order.
#[derive(Debug)]
pub struct Records {
    bytes: Vec<u8>,
    places: Vec<Range<usize>>,
}

impl Records {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.places.iter().map(|place| self.bytes.get(place.clone()).unwrap_or_default())
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

const JOURNAL: &str = "journal";

const UNFINISHED: &str = "journal.new";

const ADMIN_TOKEN: &str = "admin-token";

/// Characters of an operator's token, for one that the operator has put there.
const ADMIN_TOKEN_MIN: usize = 32;

impl Medium for File {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

fn read_file(path: &Path) -> Result<(File, Vec<u8>), StoreError> {
    let fail = |error| StoreError::io("read", path, error);
    let file = private().open(path).map_err(fail)?;
    // Somebody may have copied it here with a wide mode.
    file.set_permissions(Permissions::from_mode(0o600)).map_err(fail)?;
    let mut bytes = Vec::new();
    (&file).take(JOURNAL_MAX.saturating_add(1)).read_to_end(&mut bytes).map_err(fail)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > JOURNAL_MAX {
        return Err(fail(io::ErrorKind::FileTooLarge.into()));
    }
    Ok((file, bytes))
}

fn write_journal(
    dir: &Path,
    records: impl IntoIterator<Item = Vec<u8>>,
) -> Result<(File, End), StoreError> {
    replace(dir, JOURNAL, |file| {
        let mut out = BufWriter::new(file);
        let end = journal::write(records, &mut out)?;
        out.flush().map_err(Unwritten::Io)?;
        Ok(end)
    })
}

/// Writes beside, syncs, renames. It is there for good after [`sync_dir`].
fn replace<T>(
    dir: &Path,
    name: &str,
    write: impl FnOnce(&File) -> Result<T, Unwritten>,
) -> Result<(File, T), StoreError> {
    let (path, beside) = (dir.join(name), dir.join(format!("{name}.new")));
    let written = (|| {
        let opened = private().create(true).truncate(true).open(&beside);
        let file = opened.map_err(Unwritten::Io)?;
        let told = write(&file)?;
        file.sync_all().and_then(|()| fs::rename(&beside, &path)).map_err(Unwritten::Io)?;
        Ok((file, told))
    })();
    written.map_err(|why| {
        // On a full disk half a file would take the room that the journal needs.
        let _ = fs::remove_file(&beside);
        match why {
            Unwritten::TooLong(len) => StoreError::TooLong(len),
            Unwritten::Io(error) => StoreError::io("replace", &path, error),
            Unwritten::Broken => StoreError::Broken(path),
        }
    })
}

fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|error| StoreError::io("sync", dir, error))
}

/// Why the store cannot do what it should: a sentence for the operator.
#[derive(Debug)]
pub enum StoreError {
    /// Another process has the directory.
    InUse(PathBuf),
    /// The file is not what was written, or of a newer version.
    Damaged(PathBuf, Damage),
    /// The operating system says no.
    Io {
        /// What was tried.
        verb: &'static str,
        /// With which file.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
    /// A record is longer than any may be.
    TooLong(usize),
    /// After a failed write the journal could not be repaired.
    Broken(PathBuf),
    /// The operator's own admin token is too short.
    WeakToken(PathBuf),
}

impl StoreError {
    fn io(verb: &'static str, path: &Path, error: io::Error) -> Self {
        Self::Io { verb, path: path.to_owned(), error }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(dir) => {
                write!(f, "the state directory {} is in use by another process", dir.display())
            }
            Self::Damaged(path, damage) => write!(f, "{} {damage}", path.display()),
            Self::Io { verb, path, error } => {
                write!(f, "cannot {verb} {}: {error}", path.display())
            }
            Self::TooLong(len) => write!(f, "a record of {len} bytes is too long for the journal"),
            Self::Broken(path) => write!(
                f,
                "{} could not be repaired after a failed write; nothing is taken until a restart",
                path.display()
            ),
            Self::WeakToken(path) => write!(
                f,
                "{} holds fewer than {ADMIN_TOKEN_MIN} characters; remove it to have one made",
                path.display()
            ),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            Self::InUse(_)
            | Self::Damaged(..)
            | Self::TooLong(_)
            | Self::Broken(_)
            | Self::WeakToken(_) => None,
        }
    }
}

//! Files, as every command uses them: read with a limit, replaced whole or not at all, locked.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::secret::Secret;

/// What could not be done with a file.
#[derive(Debug)]
pub enum Failure {
    /// It cannot be read.
    Read(PathBuf, io::Error),
    /// It cannot be written.
    Write(PathBuf, io::Error),
    /// It has more bytes than this.
    TooLarge(PathBuf, usize),
    /// It holds a secret, and these permission bits let others read or write it.
    Exposed(PathBuf, u32),
    /// Another process holds its lock.
    Busy(PathBuf),
}

impl Failure {
    /// Which file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Read(path, _)
            | Self::Write(path, _)
            | Self::TooLarge(path, _)
            | Self::Exposed(path, _)
            | Self::Busy(path) => path,
        }
    }

    /// There is no such file.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Read(_, e) if e.kind() == io::ErrorKind::NotFound)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path().display();
        match self {
            Self::Read(_, why) => write!(f, "cannot read {path}: {why}"),
            Self::Write(_, why) => write!(f, "cannot write {path}: {why}"),
            Self::TooLarge(_, limit) => write!(f, "{path} has more than {limit} bytes"),
            Self::Exposed(_, mode) => {
                write!(f, "{path} holds a secret and is open to others (mode {mode:04o})")
            }
            Self::Busy(_) => write!(f, "{path} is locked by another process"),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(_, why) | Self::Write(_, why) => Some(why),
            Self::TooLarge(..) | Self::Exposed(..) | Self::Busy(_) => None,
        }
    }
}

/// The whole of a file of at most `limit` bytes.
///
/// # Errors
///
/// [`Failure::Read`], [`Failure::TooLarge`].
pub fn read_limited(path: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    let file = File::open(path).map_err(|why| Failure::Read(path.to_owned(), why))?;
    read_open(&file, path, limit)
}

/// The whole of a file that holds a secret. It must be a regular file that neither group nor others
/// can read or write.
///
/// # Errors
///
/// [`Failure::Read`], [`Failure::TooLarge`], [`Failure::Exposed`].
pub fn read_secret(path: &Path, limit: usize) -> Result<Secret<Vec<u8>>, Failure> {
    let failed = |why| Failure::Read(path.to_owned(), why);
    let file = File::open(path).map_err(failed)?;
    // Asked of the open file: what is checked is what is read. A pipe, as a shell's <(command)
    // makes one, belongs to this user's processes alone.
    let facts = file.metadata().map_err(failed)?;
    let open_to_others = facts.mode() & 0o077;
    if facts.is_file() && open_to_others & !kubernetes_group_read(path, facts.mode()) != 0 {
        return Err(Failure::Exposed(path.to_owned(), facts.mode() & 0o7777));
    }
    read_open(&file, path, limit).map(Secret::new)
}

/// The secret text of a file, without the white space around it.
///
/// # Errors
///
/// Those of [`read_secret`]; text that is not UTF-8 or empty is [`Failure::Read`].
pub fn read_secret_text(path: &Path, limit: usize) -> Result<Secret<String>, Failure> {
    let bytes = read_secret(path, limit)?;
    let text = std::str::from_utf8(bytes.expose()).map(str::trim).unwrap_or_default();
    if text.is_empty() {
        let why = io::Error::new(io::ErrorKind::InvalidData, "no text in it");
        return Err(Failure::Read(path.to_owned(), why));
    }
    Ok(Secret::new(text.to_owned()))
}

/// Replaces a file: written beside it, synced, renamed, and the directory synced. A symbolic link is
/// followed, so that a kubeconfig kept elsewhere stays a link.
///
/// # Errors
///
/// [`Failure::Write`]; the file is then as it was.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let failed = |why| Failure::Write(path.to_owned(), why);
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name = target.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}.tmp", std::process::id()));
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let beside = directory.join(beside);
    let written = write_new(&beside, bytes, mode)
        .and_then(|()| fs::rename(&beside, &target))
        .and_then(|()| File::open(&directory)?.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written.map_err(failed)
}

/// Makes a directory and those above it; the last one is for this user alone.
///
/// # Errors
///
/// [`Failure::Write`].
pub fn private_directory(path: &Path) -> Result<(), Failure> {
    let failed = |why| Failure::Write(path.to_owned(), why);
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed)
}

/// Removes a file; one that is not there is no failure.
///
/// # Errors
///
/// [`Failure::Write`].
pub fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => {
            Err(Failure::Write(path.to_owned(), why))
        }
        _ => Ok(()),
    }
}

/// Removes a directory that is empty. One with something of another's in it stays.
///
/// # Errors
///
/// [`Failure::Write`]
pub fn remove_directory(path: Option<&Path>) -> Result<(), Failure> {
    let Some(path) = path else { return Ok(()) };
    match fs::remove_dir(path).map_err(|why| (why.kind(), why)) {
        Ok(()) => Ok(()),
        Err((io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty, _)) => Ok(()),
        Err((_, why)) => Err(Failure::Write(path.to_owned(), why)),
    }
}

/// An exclusive lock, held until this is dropped. It is on a file of its own beside the one it
/// protects, because that one is replaced.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Takes the lock of `path`, at once or not at all.
///
/// # Errors
///
/// [`Failure::Busy`] when another process has it, [`Failure::Write`] when there is no place for it.
pub fn lock(path: &Path) -> Result<Lock, Failure> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let failed = |why| Failure::Write(PathBuf::from(&name), why);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&name)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Lock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(Failure::Busy(path.to_owned())),
        Err(TryLockError::Error(why)) => Err(failed(why)),
    }
}

/// Kubelet gives a projected Secret to the group of the pod (`fsGroup`), which is the process's
/// own; such files lie behind a `..data` link. The bit that may be set there.
fn kubernetes_group_read(path: &Path, mode: u32) -> u32 {
    let projected = path.parent().is_some_and(|parent| parent.join("..data").exists());
    if projected { mode & 0o040 } else { 0 }
}

fn read_open(file: &File, path: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut bytes).map_err(|why| Failure::Read(path.to_owned(), why))?;
    if limit < bytes.len() {
        return Err(Failure::TooLarge(path.to_owned(), limit));
    }
    Ok(bytes)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // What is left of a process that had this number and died.
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().create_new(true).write(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("cc-files-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_file_is_replaced_whole_with_the_mode_asked_for() {
        let dir = scratch("replace");
        let path = dir.join("config");
        write_atomic(&path, b"one", 0o600).unwrap();
        write_atomic(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_link_stays_a_link_when_its_target_is_replaced() {
        let dir = scratch("link");
        fs::write(dir.join("real"), b"old").unwrap();
        std::os::unix::fs::symlink(dir.join("real"), dir.join("link")).unwrap();
        write_atomic(&dir.join("link"), b"new", 0o600).unwrap();
        assert!(fs::symlink_metadata(dir.join("link")).unwrap().is_symlink());
        assert_eq!(fs::read(dir.join("real")).unwrap(), b"new");
    }

    #[test]
    fn a_file_over_the_limit_and_an_endless_one_are_refused() {
        let path = scratch("limit").join("big");
        fs::write(&path, [0; 11]).unwrap();
        assert!(matches!(read_limited(&path, 10), Err(Failure::TooLarge(_, 10))));
        assert_eq!(read_limited(&path, 11).unwrap().len(), 11);
        assert!(matches!(
            read_limited(Path::new("/dev/zero"), 1000),
            Err(Failure::TooLarge(_, 1000))
        ));
        assert!(read_limited(Path::new("/nonexistent"), 1).unwrap_err().is_not_found());
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let path = scratch("secret").join("token");
        fs::write(&path, "  abc\n").unwrap();
        for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_secret(&path, 100).is_ok(), good, "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_secret_text(&path, 100).unwrap().expose(), "abc");
        fs::write(&path, " \n").unwrap();
        assert!(read_secret_text(&path, 100).is_err(), "blank");
    }

    #[test]
    fn a_projected_secret_may_be_read_by_the_pods_group_but_by_no_other() {
        let dir = scratch("projected");
        fs::create_dir(dir.join("..data")).unwrap();
        let path = dir.join("token");
        fs::write(&path, "abc").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
        assert!(read_secret(&path, 100).is_ok());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
        assert!(matches!(read_secret(&path, 100), Err(Failure::Exposed(_, 0o444))));
    }

    #[test]
    fn a_lock_is_held_by_one() {
        let path = scratch("lock").join("config");
        let held = lock(&path).unwrap();
        assert!(matches!(lock(&path), Err(Failure::Busy(_))));
        drop(held);
        assert!(lock(&path).is_ok());
    }
}

//! The kubeconfig that a client proxy leaves for kubectl, and takes away again.
//!
//! Somebody's own file is changed under the same lock that kubectl takes (`FILE.lock`, made
//! exclusively and removed), with a copy of what it was beside it. What cannot be read is not
//! written.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::files;
use crate::limits::KUBECONFIG_MAX;
use crate::wire::kubeconfig::{Entry, Kubeconfig, Malformed};

/// Why a kubeconfig is not written or not cleaned up. It is then as it was.
#[derive(Debug)]
pub enum Failure {
    /// The file itself.
    File(files::Failure),
    /// What is in it.
    Content(PathBuf, Malformed),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(why) => why.fmt(f),
            Self::Content(path, why) => write!(f, "{}: {why}", path.display()),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File(why) => Some(why),
            Self::Content(_, why) => Some(why),
        }
    }
}

impl From<files::Failure> for Failure {
    fn from(why: files::Failure) -> Self {
        Self::File(why)
    }
}

/// A kubeconfig that is in place, and what it takes to undo that.
#[derive(Debug)]
pub struct Installed {
    path: PathBuf,
    entries: Vec<Entry>,
    merged: bool,
    alone: bool,
    before: Option<String>,
}

/// Writes a kubeconfig of its own with these entries; the first is its current context.
///
/// # Errors
///
/// [`Failure`]
pub fn write(path: &Path, entries: Vec<Entry>) -> Result<Installed, Failure> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        files::private_directory(parent)?;
    }
    let mut config = parse(path, b"")?;
    add(path, &mut config, &entries, true)?;
    put(path, &config)?;
    Ok(Installed { path: path.to_owned(), entries, merged: false, alone: false, before: None })
}

/// Writes a file for one command in a directory that is made for it and goes with it.
///
/// # Errors
///
/// [`Failure`]
pub fn write_alone(path: &Path, entries: Vec<Entry>) -> Result<Installed, Failure> {
    let installed = write(path, entries)?;
    Ok(Installed { alone: true, ..installed })
}

/// Puts the entries into somebody's file, which need not exist yet.
///
/// # Errors
///
/// [`Failure`]
pub fn merge(path: &Path, entries: Vec<Entry>, set_current: bool) -> Result<Installed, Failure> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        files::private_directory(parent)?;
    }
    let _lock = Lock::take(path, LOCK_ATTEMPTS)?;
    let text = read(path)?.unwrap_or_default();
    let mut config = parse(path, &text)?;
    let before = add(path, &mut config, &entries, set_current)?;
    if !text.is_empty() {
        files::write_atomic(&backup(path), &text, 0o600)?;
    }
    put(path, &config)?;
    Ok(Installed { path: path.to_owned(), entries, merged: true, alone: false, before })
}

impl Installed {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the entries out again, or the whole file where it is ours. What somebody else has
    /// written there meanwhile stays.
    ///
    /// # Errors
    ///
    /// [`Failure`]
    pub fn remove(&self) -> Result<(), Failure> {
        if self.alone {
            files::remove(&self.path)?;
            return Ok(files::remove_directory(self.path.parent())?);
        }
        let _lock = if self.merged { Some(Lock::take(&self.path, LOCK_ATTEMPTS)?) } else { None };
        let Some(text) = read(&self.path)? else { return Ok(()) };
        let mut config = parse(&self.path, &text)?;
        let mut changed = false;
        for entry in &self.entries {
            let removed = config.remove(entry, self.before.as_deref());
            changed |= removed.map_err(|why| Failure::Content(self.path.clone(), why))?;
        }
        match (changed, self.merged) {
            (false, _) => Ok(()),
            (true, true) => put(&self.path, &config),
            (true, false) => Ok(files::remove(&self.path)?),
        }
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    match files::read_limited(path, KUBECONFIG_MAX) {
        Ok(text) => Ok(Some(text)),
        Err(why) if why.is_not_found() => Ok(None),
        Err(why) => Err(why.into()),
    }
}

fn parse(path: &Path, text: &[u8]) -> Result<Kubeconfig, Failure> {
    Kubeconfig::parse(text).map_err(|why| Failure::Content(path.to_owned(), why))
}

/// Adds all entries; the first becomes the current context. Gives the one from before.
fn add(
    path: &Path,
    config: &mut Kubeconfig,
    entries: &[Entry],
    set_current: bool,
) -> Result<Option<String>, Failure> {
    let mut before = None;
    for (at, entry) in entries.iter().enumerate() {
        let merged = config.merge(entry, set_current && at == 0);
        let merged = merged.map_err(|why| Failure::Content(path.to_owned(), why))?;
        before = before.or(merged.before);
    }
    Ok(before)
}

fn put(path: &Path, config: &Kubeconfig) -> Result<(), Failure> {
    let text = config.to_yaml().map_err(|why| Failure::Content(path.to_owned(), why))?;
    Ok(files::write_atomic(path, text.as_bytes(), 0o600)?)
}

fn backup(path: &Path) -> PathBuf {
    beside(path, ".before-cluster-connect")
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// kubectl's lock of a kubeconfig: a file that only one process can make. It is removed on drop;
/// if it stayed, kubectl could not write the file any more.
struct Lock(PathBuf);

impl Lock {
    fn take(path: &Path, attempts: u32) -> Result<Self, Failure> {
        let name = beside(path, ".lock");
        for attempt in 1..=attempts {
            let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&name);
            match made {
                Ok(_) => return Ok(Self(name)),
                Err(why) if why.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(files::Failure::Write(name, why).into());
                }
                Err(_) if attempt < attempts => thread::sleep(LOCK_INTERVAL),
                Err(_) => {}
            }
        }
        Err(files::Failure::Busy(path.to_owned()).into())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Err(why) = files::remove(&self.0) {
            log::warn!("{why}");
        }
    }
}

/// Five seconds in all: whoever writes a kubeconfig is done in milliseconds.
const LOCK_ATTEMPTS: u32 = 50;
const LOCK_INTERVAL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::secret::Secret;

    const THEIRS: &str = "current-context: mine\nclusters:\n  - name: mine\n    cluster:\n      \
                          server: https://prod\nx-unknown: {a: 0x10}\n";

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("cc-iokube-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        files::private_directory(&path).unwrap();
        path.join("config")
    }

    fn entry(name: &str, port: u16) -> Entry {
        Entry {
            name: name.to_owned(),
            server: format!("https://127.0.0.1:{port}/proxies/{name}"),
            authority: b"PEM".to_vec(),
            token: Secret::new("bearer".to_owned()),
            namespace: None,
        }
    }

    fn names(path: &Path) -> Vec<String> {
        let parent = std::fs::read_dir(path.parent().unwrap()).unwrap();
        let mut names: Vec<String> =
            parent.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_of_its_own_comes_private_and_goes() {
        let path = scratch("own").with_file_name("deep").join("edge.yaml");
        let installed = write(&path, vec![entry("a", 1), entry("b", 1)]).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let config = Kubeconfig::parse(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(config.current(), Some("a"));
        assert!(config.select(Some("b")).is_ok());
        installed.remove().unwrap();
        assert!(!path.exists());
        installed.remove().unwrap();
    }

    #[test]
    fn a_file_that_another_proxy_has_written_since_stays() {
        let path = scratch("since");
        let first = write(&path, vec![entry("a", 1)]).unwrap();
        let second = write(&path, vec![entry("a", 2)]).unwrap();
        first.remove().unwrap();
        assert!(path.exists());
        second.remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn merging_keeps_a_copy_and_removing_brings_everything_back() {
        let path = scratch("merge");
        std::fs::write(&path, THEIRS).unwrap();
        let installed = merge(&path, vec![entry("a", 1), entry("b", 1)], true).unwrap();
        let config = Kubeconfig::parse(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(config.current(), Some("a"));
        assert_eq!(std::fs::read_to_string(backup(&path)).unwrap(), THEIRS);
        assert_eq!(names(&path), ["config", "config.before-cluster-connect"], "no lock is left");
        installed.remove().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let after = Kubeconfig::parse(text.as_bytes()).unwrap();
        assert_eq!(after.current(), Some("mine"));
        assert!(text.contains("server: https://prod") && text.contains("a: 0x10"), "{text}");
        assert!(!text.contains("bearer"));
    }

    #[test]
    fn a_file_that_is_not_there_is_made() {
        let path = scratch("new");
        let installed = merge(&path, vec![entry("a", 1)], false).unwrap();
        assert_eq!(installed.path(), path);
        assert_eq!(names(&path), ["config"]);
        std::fs::remove_file(&path).unwrap();
        installed.remove().unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_written() {
        let path = scratch("broken");
        for text in ["a: *b\n", "kind: Pod\n", "\tx", "clusters: [{name: a, cluster: {server: x}}]"]
        {
            std::fs::write(&path, text).unwrap();
            let refused = merge(&path, vec![entry("a", 1)], true).unwrap_err();
            assert!(matches!(refused, Failure::Content(..)), "{text}: {refused}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            assert_eq!(names(&path), ["config"], "neither lock nor copy is left");
        }
        let long = vec![b'#'; KUBECONFIG_MAX + 1];
        std::fs::write(&path, long).unwrap();
        let refused = merge(&path, vec![entry("a", 1)], true).unwrap_err();
        assert!(matches!(refused, Failure::File(files::Failure::TooLarge(..))));
    }

    #[test]
    fn kubectls_lock_is_respected() {
        let path = scratch("lock");
        std::fs::write(beside(&path, ".lock"), "").unwrap();
        let busy = Lock::take(&path, 1).err().unwrap();
        assert!(matches!(busy, Failure::File(files::Failure::Busy(_))), "{busy}");
        std::fs::remove_file(beside(&path, ".lock")).unwrap();
        let held = Lock::take(&path, 1).unwrap();
        assert!(Lock::take(&path, 1).is_err());
        drop(held);
        assert!(Lock::take(&path, 1).is_ok());
    }
}

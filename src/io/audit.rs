//! Where audit lines go: a file that rotates, standard output, or nowhere.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// One line at a time, in the order of the calls.
#[derive(Debug)]
pub struct AuditSink {
    target: Target,
    /// The last write failed, and that was said.
    is_broken: bool,
}

#[derive(Debug)]
enum Target {
    Nowhere,
    Stdout,
    File(Rotating),
}

/// A file that is moved aside when it is long enough.
#[derive(Debug)]
struct Rotating {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines.
    written: u64,
    most: u64,
    /// Half a line stands at the end and could not be taken away.
    is_torn: bool,
}

/// Bytes of an audit file before it becomes `<name>.1`.
const ROTATE_AT: u64 = 100 * 1024 * 1024;

/// How many rotated files are kept.
const KEEP: u32 = 5;

impl AuditSink {
    /// Audits nothing: for roles that see no requests.
    #[must_use]
    pub const fn nowhere() -> Self {
        Self { target: Target::Nowhere, is_broken: false }
    }

    /// Appends to `path`, or writes to standard output for `-`.
    ///
    /// # Errors
    ///
    /// The file cannot be opened for appending.
    pub fn open(path: &Path) -> io::Result<Self> {
        let target = if path == Path::new("-") {
            Target::Stdout
        } else {
            Target::File(Rotating::open(path.into(), ROTATE_AT)?)
        };
        Ok(Self { target, is_broken: false })
    }

    /// Writes a line. What goes wrong is logged once, until it works again.
    pub(super) fn write(&mut self, line: &str) -> io::Result<()> {
        let written = match &mut self.target {
            Target::Nowhere => return Ok(()),
            Target::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(&whole(line)).and_then(|()| out.flush())
            }
            Target::File(file) => file.write(line),
        };
        match (&written, self.is_broken) {
            (Err(why), false) => log::error!("the audit log cannot be written: {why}"),
            (Ok(()), true) => log::warn!("the audit log can be written again"),
            (Err(_), true) | (Ok(()), false) => (),
        }
        self.is_broken = written.is_err();
        written
    }
}

impl Rotating {
    fn open(path: PathBuf, most: u64) -> io::Result<Self> {
        let mut file = append(&path)?;
        let written = file.metadata()?.len();
        let mut last = [b'\n'];
        if 0 < written {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        Ok(Self { path, file, written, most, is_torn: last != *b"\n" })
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        if self.most <= self.written {
            self.rotate();
        }
        if std::mem::take(&mut self.is_torn) {
            self.append(b"\n")?;
        }
        self.append(&whole(line))
    }

    /// Appends all or nothing: behind half a line the next one could not be read.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Somebody else may have added to the file, or emptied it.
        let before = self.file.metadata()?.len();
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.written = before.saturating_add(bytes.len() as u64);
                Ok(())
            }
            Err(why) => {
                self.is_torn = self.file.set_len(before).is_err();
                Err(why)
            }
        }
    }

    /// Goes on with a new file. Where there can be none the old one serves on.
    fn rotate(&mut self) {
        let fresh = shift(&self.path).and_then(|()| Self::open(self.path.clone(), self.most));
        match fresh {
            Ok(fresh) => *self = fresh,
            Err(why) => {
                log::warn!("the audit log cannot be rotated: {why}");
                // Tried again when as much has been written as fits a file.
                self.most = self.written.saturating_add(self.most);
            }
        }
    }
}

fn whole(line: &str) -> Vec<u8> {
    [line.as_bytes(), b"\n"].concat()
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

/// Moves the file and those before it one number on. The file may be missing: then an attempt
/// before this one came half-way.
fn shift(path: &Path) -> io::Result<()> {
    let name = |number: u32| PathBuf::from(format!("{}.{number}", path.display()));
    if !path.exists() {
        return Ok(());
    }
    for number in (1..KEEP).rev() {
        if name(number).exists() {
            fs::rename(name(number), name(number + 1))?;
        }
    }
    fs::rename(path, name(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of its own, gone in the end.
    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("audit-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_full_file_is_rotated_and_nothing_is_lost() {
        let dir = Dir::new("rotated");
        let path = dir.0.join("audit.log");
        let mut file = Rotating::open(path.clone(), 16).unwrap();
        for number in 0..6 {
            file.write(&format!("line {number} of six")).unwrap();
        }
        let mut all = String::new();
        for number in (1..=KEEP).rev() {
            all +=
                &fs::read_to_string(dir.0.join(format!("audit.log.{number}"))).unwrap_or_default();
        }
        assert!(!all.is_empty(), "nothing was rotated");
        all += &fs::read_to_string(&path).unwrap();
        let lines: Vec<String> = (0..6).map(|number| format!("line {number} of six\n")).collect();
        assert_eq!(all, lines.concat());
    }

    #[test]
    fn a_file_that_cannot_be_rotated_serves_on() {
        let dir = Dir::new("stuck");
        let path = dir.0.join("audit.log");
        let mut file = Rotating::open(path.clone(), 4).unwrap();
        // A directory with something in it takes no file's place.
        fs::create_dir_all(dir.0.join("audit.log.5/full")).unwrap();
        fs::create_dir_all(dir.0.join("audit.log.4/full")).unwrap();
        for number in 0..4 {
            file.write(&format!("line {number}")).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap();
        assert_eq!(found, "line 0\nline 1\nline 2\nline 3\n");
    }

    #[test]
    fn half_a_line_of_an_earlier_run_does_not_spoil_the_next() {
        let dir = Dir::new("torn");
        let path = dir.0.join("audit.log");
        fs::write(&path, "whole\nhal").unwrap();
        let mut file = Rotating::open(path.clone(), 1000).unwrap();
        file.write("next").unwrap();
        file.write("last").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole\nhal\nnext\nlast\n");
    }

    #[test]
    fn a_full_disk_is_an_error_and_not_half_a_line() {
        let Ok(mut sink) = AuditSink::open(Path::new("/dev/full")) else { return };
        for _ in 0..3 {
            assert!(sink.write("line").is_err());
            assert!(sink.is_broken);
        }
    }
}

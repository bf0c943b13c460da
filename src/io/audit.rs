//! Where audit lines go: a file that rotates, standard output, or nowhere.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// One line at a time, in the order of the calls.
#[derive(Debug)]
pub struct AuditSink(Target);

#[derive(Debug)]
enum Target {
    Nowhere,
    Stdout,
    File { path: PathBuf, file: File, written: u64, most: u64 },
}

/// Bytes of an audit file before it becomes `<name>.1`.
const ROTATE_AT: u64 = 100 * 1024 * 1024;

/// How many rotated files are kept.
const KEEP: u32 = 5;

impl AuditSink {
    /// Audits nothing: for roles that see no requests.
    #[must_use]
    pub const fn nowhere() -> Self {
        Self(Target::Nowhere)
    }

    /// Appends to `path`, or writes to standard output for `-`.
    ///
    /// # Errors
    ///
    /// The file cannot be opened for appending.
    pub fn open(path: &Path) -> io::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self(Target::Stdout));
        }
        let file = append(path)?;
        let written = file.metadata()?.len();
        Ok(Self(Target::File { path: path.into(), file, written, most: ROTATE_AT }))
    }

    pub(super) fn write(&mut self, line: &str) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        match &mut self.0 {
            Target::Nowhere => Ok(()),
            Target::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(&bytes)?;
                out.flush()
            }
            Target::File { path, file, written, most } => {
                if *most <= *written {
                    rotate(path)?;
                    *file = append(path)?;
                    *written = 0;
                }
                file.write_all(&bytes)?;
                *written += bytes.len() as u64;
                Ok(())
            }
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn rotate(path: &Path) -> io::Result<()> {
    let name = |number: u32| PathBuf::from(format!("{}.{number}", path.display()));
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

    #[test]
    fn a_full_file_is_rotated_and_nothing_is_lost() {
        let dir = std::env::temp_dir().join(format!("audit-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("audit.log");
        let mut sink = AuditSink::open(&path).unwrap();
        if let Target::File { most, .. } = &mut sink.0 {
            *most = 16;
        }
        for number in 0..6 {
            sink.write(&format!("line {number} of six")).unwrap();
        }
        let mut all = String::new();
        for number in (1..KEEP).rev() {
            all += &fs::read_to_string(dir.join(format!("audit.log.{number}"))).unwrap_or_default();
        }
        assert!(!all.is_empty(), "nothing was rotated");
        all += &fs::read_to_string(&path).unwrap();
        let lines: Vec<String> = (0..6).map(|number| format!("line {number} of six\n")).collect();
        assert_eq!(all, lines.concat());
        fs::remove_dir_all(&dir).unwrap();
    }
}

//! Where audit lines go: a file that rotates, standard output, or nowhere.
//!
//! A line counts when it is written, and the call returns then. Standard output may be a pipe whose
//! reader stalls, and nothing must wait for that for long: a thread writes it, and a line that it
//! has not written in a moment counts as not written, like all that follow until it has.
//!
//! A file may have several writers. So it is only ever appended to: what a failed write has left of
//! a line stays, because who takes it away again may take what another has written since. Who has
//! left half a line begins a new one; whose line went behind somebody else's half writes it again.
//! And whoever moves the file aside, the others go on with the new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, Write};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

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
    Stream(Stream),
    File(Rotating),
}

/// What is written by a thread of its own.
#[derive(Debug)]
struct Stream {
    /// There is one until the end.
    lines: Option<SyncSender<Vec<u8>>>,
    /// How each of them went.
    done: Receiver<io::Result<()>>,
    /// One was given up that the thread still has.
    is_stalled: bool,
}

/// How long a line may take.
const MOMENT: Duration = Duration::from_millis(200);

/// How long the end of the process waits for a line.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A file that is moved aside when it is long enough.
#[derive(Debug)]
struct Rotating {
    path: PathBuf,
    file: File,
    /// Bytes in it, whoever wrote them, when it was last looked at.
    written: u64,
    most: u64,
    /// Half a line of ours stands at the end, or did.
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
    /// The file cannot be opened for appending, or there is no thread to be had.
    pub fn open(path: &Path) -> io::Result<Self> {
        let target = if path == Path::new("-") {
            Target::Stream(Stream::start(io::stdout())?)
        } else {
            Target::File(Rotating::open(path.into(), ROTATE_AT)?)
        };
        Ok(Self { target, is_broken: false })
    }

    /// Writes a line. What goes wrong is logged once, until it works again.
    pub(super) fn write(&mut self, line: &str) -> io::Result<()> {
        let written = match &mut self.target {
            Target::Nowhere => return Ok(()),
            Target::Stream(stream) => stream.write(line),
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

impl Stream {
    fn start(mut out: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, inbox) = sync_channel::<Vec<u8>>(1);
        let (tell, done) = channel();
        thread::Builder::new().name("audit".into()).spawn(move || {
            let mut is_torn = false;
            while let Ok(line) = inbox.recv() {
                // Of a line that failed some may be there.
                let start: &[u8] = if is_torn { b"\n" } else { b"" };
                let written = out.write_all(start).and_then(|()| out.write_all(&line));
                let written = written.and_then(|()| out.flush());
                is_torn = written.is_err();
                if tell.send(written).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { lines: Some(lines), done, is_stalled: false })
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        let stalled = || io::Error::other("whoever reads standard output has stopped reading");
        if self.is_stalled {
            self.done.try_recv().map_err(|_| stalled()).map(drop)?;
            self.is_stalled = false;
        }
        let lines = self.lines.as_ref().ok_or_else(stalled)?;
        lines.try_send(whole(line)).map_err(|_| stalled())?;
        self.done.recv_timeout(MOMENT).unwrap_or_else(|_| {
            self.is_stalled = true;
            Err(stalled())
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.lines = None;
        if self.is_stalled {
            // It is written by then, or lost: it did not count.
            let _ = self.done.recv_timeout(LAST_WORDS);
        }
    }
}

impl Rotating {
    fn open(path: PathBuf, most: u64) -> io::Result<Self> {
        let file = append(&path)?;
        let written = file.metadata()?.len();
        let mut all = Self { path, file, written, most, is_torn: false };
        all.is_torn = all.is_within_line(written)?;
        Ok(all)
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        if !self.is_at_its_path()? {
            *self = Self::open(self.path.clone(), self.most)?;
        }
        if self.most <= self.written {
            self.rotate();
        }
        let line = whole(line);
        let start: &[u8] = if self.is_torn { b"\n" } else { b"" };
        let end = self.append(&[start, &line].concat())?;
        match end.checked_sub(line.len() as u64) {
            Some(begin) if self.is_within_line(begin)? => self.append(&line).map(drop),
            Some(_) | None => Ok(()),
        }
    }

    /// One write, so that nobody's line gets into this one: what a second wrote would stand behind
    /// theirs. Returns where in the file it ends.
    fn append(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let count = loop {
            match self.file.write(bytes) {
                Err(why) if why.kind() == io::ErrorKind::Interrupted => (),
                result => break result?,
            }
        };
        // Whoever else writes, the position is the end of what was written here. A pipe has none.
        self.written = self.file.stream_position().unwrap_or(0);
        if count < bytes.len() {
            self.is_torn |= 0 < count;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.is_torn = false;
        Ok(self.written)
    }

    /// What comes at this place goes behind half a line.
    fn is_within_line(&self, at: u64) -> io::Result<bool> {
        let Some(before) = at.checked_sub(1) else { return Ok(false) };
        let mut last = [b'\n'];
        // Nothing is there any more if somebody has emptied it meanwhile.
        self.file.read_at(&mut last, before)?;
        Ok(last != *b"\n")
    }

    /// Nobody has moved the file away, or removed it: a line in it would be found by nobody.
    fn is_at_its_path(&self) -> io::Result<bool> {
        let here = self.file.metadata()?;
        match fs::metadata(&self.path) {
            Ok(there) => Ok((here.dev(), here.ino()) == (there.dev(), there.ino())),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(why) => Err(why),
        }
    }

    /// Goes on with a new file. Where the old one cannot be moved it serves on.
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
    fn whose_file_was_moved_aside_or_removed_goes_on_with_the_new_one() {
        let dir = Dir::new("followed");
        let path = dir.0.join("audit.log");
        let [mut few, mut many] =
            [1000, 16].map(|most| Rotating::open(path.clone(), most).unwrap());
        few.write("first").unwrap();
        for number in 0..2 * KEEP {
            many.write(&format!("line {number} of many of them")).unwrap();
        }
        few.write("second").unwrap();
        let found = fs::read_to_string(&path).unwrap();
        assert_eq!(found, "line 9 of many of them\nsecond\n");
        many.write("line 10 of many of them").unwrap();
        few.write("third").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "line 10 of many of them\nthird\n");
        fs::remove_file(&path).unwrap();
        few.write("fourth").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "fourth\n");
        fs::remove_dir_all(&dir.0).unwrap();
        assert!(few.write("nowhere").is_err(), "what nobody finds does not count");
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
        // Nor does that of another writer, which is seen when it is too late.
        append(&path).unwrap().write_all(b"hal").unwrap();
        file.write("more").unwrap();
        file.write("end").unwrap();
        let found = fs::read_to_string(&path).unwrap();
        assert_eq!(found, "whole\nhal\nnext\nlast\nhalmore\nmore\nend\n");
    }

    /// What tells a test that it has a limit for its files, and where they are.
    const LIMITED: &str = "CLUSTER_CONNECT_TEST_LIMITED";

    #[test]
    fn a_line_that_fits_in_part_is_an_error_and_nothing_is_taken_away_for_it() {
        let (whole, long) = ("w".repeat(399), "l".repeat(1000));
        if let Some(path) = std::env::var_os(LIMITED) {
            let mut file = Rotating::open(path.into(), u64::MAX).unwrap();
            file.write(&whole).unwrap();
            for _ in 0..3 {
                assert!(file.write(&long).is_err());
            }
            return;
        }
        let dir = Dir::new("limited");
        let path = dir.0.join("audit.log");
        let name = "io::audit::tests::a_line_that_fits_in_part_is_an_error_and_nothing_is_taken_away_for_it";
        // A file may have 512 bytes, and a write past those is an error instead of a signal.
        let limited = "ulimit -f 1 && trap '' XFSZ && exec \"$@\"";
        let done = std::process::Command::new("/bin/sh")
            .args(["-c", limited, "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(LIMITED, &path)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
        let left = fs::read_to_string(&path).unwrap();
        let limit = left.len();
        assert!(limit.is_multiple_of(512), "{limit} bytes: the limit is what was in the way");
        assert_eq!(left, format!("{whole}\n{}", &long[..limit - 400]));
        Rotating::open(path.clone(), u64::MAX).unwrap().write("next").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{left}\nnext\n"));
    }

    #[test]
    fn lines_of_several_writers_are_whole() {
        let dir = Dir::new("crowd");
        let path = dir.0.join("audit.log");
        let text = |writer: usize, number: usize| {
            format!("{writer} {number} {}", "x".repeat((writer * 131 + number * 17) % 4000))
        };
        thread::scope(|scope| {
            for writer in 0..4 {
                let mut file = Rotating::open(path.clone(), u64::MAX).unwrap();
                scope.spawn(move || {
                    (0..500).for_each(|number| file.write(&text(writer, number)).unwrap());
                });
            }
        });
        let all = fs::read_to_string(&path).unwrap();
        let mut next = [0; 4];
        for line in all.lines() {
            let writer: usize = line[..1].parse().unwrap();
            assert_eq!(line, text(writer, next[writer]));
            next[writer] += 1;
        }
        assert_eq!(next, [500; 4]);
    }

    #[test]
    fn what_somebody_else_wrote_counts_and_stays() {
        let dir = Dir::new("two-writers");
        let path = dir.0.join("audit.log");
        let mut file = Rotating::open(path.clone(), 64).unwrap();
        let mut other = append(&path).unwrap();
        file.write("first").unwrap();
        other.write_all(b"of somebody else\n").unwrap();
        file.write("second").unwrap();
        let both = "first\nof somebody else\nsecond\n";
        assert_eq!(file.written, both.len() as u64, "the file is as long as both have made it");
        // A write that fails takes away nothing of it.
        other.write_all(b"more of it\n").unwrap();
        let whole = format!("{both}more of it\n");
        file.file = File::open(&path).unwrap();
        assert!(file.write("third").is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), whole);
        // Emptied by somebody else, it is short again, and is not rotated too early.
        let mut file = Rotating::open(path.clone(), 64).unwrap();
        other.set_len(0).unwrap();
        file.write("fourth").unwrap();
        assert_eq!((file.written, fs::read_to_string(&path).unwrap()), (7, "fourth\n".to_owned()));
    }

    /// Takes bytes when it is told to, or fails.
    struct Reader {
        may_go_on: Receiver<bool>,
        got: std::sync::mpsc::Sender<Vec<u8>>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.may_go_on.recv().unwrap_or(true) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let _ = self.got.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stalls_holds_nobody_up_and_what_it_has_not_read_does_not_count() {
        let ((go, may_go_on), (got, lines)) = (channel(), channel());
        let mut sink = Stream::start(Reader { may_go_on, got }).unwrap();
        assert!(sink.write("given up").is_err());
        for _ in 0..1000 {
            assert!(sink.write("not even begun").is_err(), "and at once");
        }
        go.send(true).unwrap();
        assert_eq!(lines.recv().unwrap(), b"given up\n");
        drop(go);
        while sink.write("next").is_err() {
            thread::yield_now();
        }
        assert_eq!(lines.recv().unwrap(), b"next\n");
        drop(sink);
        assert!(lines.recv().is_err(), "what did not count was not written either");
    }

    #[test]
    fn an_output_that_breaks_is_an_error_until_it_works_again() {
        let ((go, may_go_on), (got, lines)) = (channel(), channel());
        let mut sink = Stream::start(Reader { may_go_on, got }).unwrap();
        go.send(false).unwrap();
        assert!(sink.write("first").is_err());
        drop(go);
        assert!(sink.write("second").is_ok());
        assert_eq!(lines.recv().unwrap(), b"\n", "whatever stands there of the first");
        assert_eq!(lines.recv().unwrap(), b"second\n");
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

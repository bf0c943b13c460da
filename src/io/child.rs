//! A command that runs beside the loop, and whose end stops it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::setup::Stopper;

/// See the module's documentation.
#[derive(Debug)]
pub struct Child {
    process: Arc<Mutex<std::process::Child>>,
    watch: JoinHandle<Option<ExitStatus>>,
}

/// How often the command is looked at. There is no safe call that waits for a process that others
/// may kill.
const LOOK: Duration = Duration::from_millis(20);

/// How long a command may go on after the loop has been stopped.
const GRACE: Duration = Duration::from_secs(5);

impl Child {
    /// Runs `words` with `variables` added to its environment; `stop` is told when it has ended.
    ///
    /// # Errors
    ///
    /// There is no such program, or the system starts no process.
    pub fn start(
        words: &[OsString],
        variables: &[(&str, &OsStr)],
        stop: Stopper,
    ) -> io::Result<Self> {
        let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let process = Command::new(program)
            .args(arguments)
            .envs(variables.iter().map(|(name, value)| (*name, *value)))
            .spawn()?;
        let process = Arc::new(Mutex::new(process));
        let watched = Arc::clone(&process);
        let watch = thread::Builder::new().name("child".into()).spawn(move || {
            let status = loop {
                let state = watched.lock().ok()?.try_wait();
                match state {
                    Ok(None) => thread::sleep(LOOK),
                    Ok(Some(status)) => break Some(status),
                    Err(_) => break None,
                }
            };
            stop.stop();
            status
        })?;
        Ok(Self { process, watch })
    }

    /// Waits for its end, not for long, and gives its exit code as a shell would.
    #[must_use]
    pub fn finish(self) -> u8 {
        let mut waited = Duration::ZERO;
        while !self.watch.is_finished() {
            if GRACE <= waited {
                // It may have ended in this moment, and then there is nothing to kill.
                let _ = self.process.lock().map(|mut process| process.kill());
            }
            thread::sleep(LOOK);
            waited += LOOK;
        }
        let status = self.watch.join().ok().flatten();
        let code = status.map(|it| it.code().unwrap_or_else(|| 128 + it.signal().unwrap_or(0)));
        code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
    }
}

//! Ctrl-C and SIGTERM as something that can be waited for.

use std::io::{ErrorKind, Read as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::processes::Result;

/// From its making on, these signals end nothing by themselves.
pub struct Interrupt {
    signals: UnixStream,
    came: bool,
}

impl Interrupt {
    pub fn expect() -> Result<Self> {
        let registered = || {
            let (signals, write) = UnixStream::pair()?;
            for signal in [SIGINT, SIGTERM, SIGHUP] {
                signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
            }
            std::io::Result::Ok(signals)
        };
        let signals = registered().map_err(|err| format!("cannot wait for signals: {err}"))?;
        Ok(Self { signals, came: false })
    }

    /// Waits that long, unless one has come already.
    pub fn came_within(&mut self, patience: Duration) -> Result<bool> {
        if !self.came {
            self.signals.set_read_timeout(Some(patience)).map_err(|err| err.to_string())?;
            self.came = match self.signals.read(&mut [0]) {
                Ok(_) => true,
                Err(err) => match err.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => false,
                    _ => return Err(err.to_string()),
                },
            };
        }
        Ok(self.came)
    }
}

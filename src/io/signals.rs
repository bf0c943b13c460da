//! SIGTERM, SIGINT and SIGHUP as readable sockets.

use std::io::{self, Read};

use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::role::Signal;

/// The read ends of the pipes that the signal handlers write to.
#[derive(Debug)]
pub(super) struct Signals {
    stop: UnixStream,
    reload: UnixStream,
}

impl Signals {
    pub(super) fn register(registry: &Registry, stop: Token, reload: Token) -> io::Result<Self> {
        let mut signals = Self { stop: pipe(&[SIGTERM, SIGINT])?, reload: pipe(&[SIGHUP])? };
        registry.register(&mut signals.stop, stop, Interest::READABLE)?;
        registry.register(&mut signals.reload, reload, Interest::READABLE)?;
        Ok(signals)
    }

    /// Whether `signal` has come since the last call.
    pub(super) fn take(&mut self, signal: Signal) -> bool {
        let pipe = match signal {
            Signal::Stop => &mut self.stop,
            Signal::Reload => &mut self.reload,
        };
        let mut came = false;
        while let Ok(1..) = pipe.read(&mut [0; 16]) {
            came = true;
        }
        came
    }
}

fn pipe(signals: &[i32]) -> io::Result<UnixStream> {
    let (read, write) = std::os::unix::net::UnixStream::pair()?;
    read.set_nonblocking(true)?;
    for &signal in signals {
        signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
    }
    Ok(UnixStream::from_std(read))
}

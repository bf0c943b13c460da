//! Telling systemd (`sd_notify`, READY=1), where `NOTIFY_SOCKET` says that it waits.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says that the process does now what it is for.
///
/// # Errors
///
/// The socket that systemd named cannot be written to.
pub fn notify_ready() -> io::Result<()> {
    let Some(name) = super::environment::variable("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address).map(|_| ())
}

/// Writes a line to a descriptor that the parent process has left open, and so tells it.
///
/// # Errors
///
/// There is no such descriptor, or nobody reads it.
pub fn write_ready(descriptor: u32) -> io::Result<()> {
    use std::io::Write;
    let path = format!("/proc/self/fd/{descriptor}");
    std::fs::OpenOptions::new().write(true).open(path)?.write_all(b"ready\n")
}

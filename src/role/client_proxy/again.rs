//! Requests that an auth proxy on its way out has not taken. Whoever opens a stream does not know yet
//! that the other end has asked for no more; that stream is refused, nothing of it is done, and what
//! was sent on it goes again over another session.

use std::fmt;

use super::ClientProxy;
use crate::buf::Pressure;
use crate::engine::exchange::{End, Output};
use crate::engine::tunnel::Tunnel;
use crate::limits::STREAM_TRIES;
use crate::role::{ConnId, Net};
use crate::wire::mux::StreamId;

/// What was sent on a stream, for as long as it may be refused. No more than a window is sent before
/// the other end has said something.
#[derive(Default)]
pub(super) struct Kept {
    bytes: Vec<u8>,
    /// Streams that were refused, one after the other.
    refused: u8,
    /// It waits for another stream.
    is_waiting: bool,
}

/// The bytes have the caller's token in them.
impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kept({} bytes)", self.bytes.len())
    }
}

impl Kept {
    /// Takes note of what is sent on `stream`.
    pub(super) fn note(&mut self, tunnel: &Tunnel, stream: StreamId, bytes: &[u8]) {
        if tunnel.is_taken(stream) {
            *self = Self::default();
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// It waits for another stream.
    pub(super) const fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// Sends it again.
    pub(super) fn send(
        &mut self,
        tunnel: &mut Tunnel,
        stream: StreamId,
        net: &dyn Net,
    ) -> Pressure {
        self.is_waiting = false;
        let mut pressure = Pressure::Open;
        for slice in net.pool().slices(&self.bytes) {
            pressure = tunnel.send(stream, slice);
        }
        pressure
    }
}

impl ClientProxy {
    /// The stream of a connection was not taken: it gets another one on another session.
    pub(super) fn on_cluster_refused(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(local) = self.locals.get_mut(&conn) else { return };
        local.kept.refused += 1;
        if STREAM_TRIES <= local.kept.refused {
            let id = local.cluster.clone().unwrap_or_default();
            let why = format!(
                "cluster {} cannot be reached: its auth proxy is going away",
                self.name(&id)
            );
            return self.on_cluster_broken(conn, &why, net);
        }
        local.stream = None;
        local.kept.is_waiting = true;
        // What the caller still sends may wait where it is.
        local.exchange.up_pressure(Pressure::Full, net.now());
        self.connect(conn, net);
        self.with_local(conn, net, |_, _, _| ());
    }

    /// What a connection puts out for the cluster while it waits for another stream.
    pub(super) fn keep(&mut self, conn: ConnId, out: &Output) {
        let Some(local) = self.locals.get_mut(&conn) else { return };
        local.kept.bytes.extend_from_slice(&out.up);
        match out.up_end {
            None | Some(End::Finish) => (),
            Some(End::Close | End::Abort) => local.kept = Kept::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_not_shown() {
        let kept = Kept { bytes: b"Authorization: Bearer s3cret".to_vec(), ..Kept::default() };
        assert_eq!(format!("{kept:?}"), "Kept(28 bytes)");
    }
}

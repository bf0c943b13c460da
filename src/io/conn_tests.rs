//! What waits for a peer that does not read.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustls::pki_types::{ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConnection, StreamOwned};

use super::*;
use crate::auth::certify::{Authority, LOOPBACK_NAMES};
use crate::engine::tls::Acceptor;
use crate::engine::tlsconf::{self, Versions};
use crate::io::dial::Origin;
use crate::role::{ListenerTag, Peer};

const NOW: u64 = 1_800_000_000;

#[derive(Debug)]
struct Fixed;

impl TimeProvider for Fixed {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW)))
    }
}

type Client = StreamOwned<ClientConnection, UnixStream>;

/// A connection with TLS, established, and its peer.
fn established(scratch: &mut Scratch, pool: &Pool) -> (Conn, Client) {
    let authority = Authority::create(&LOOPBACK_NAMES).unwrap();
    let identity = authority.leaf(NOW, [1; 16]).unwrap();
    let server = tlsconf::server(identity, &[], Versions::Newest, Arc::new(Fixed)).unwrap();
    let roots = [authority.certificate().clone()];
    let client = tlsconf::client(&roots, None, &[], Versions::Newest, Arc::new(Fixed)).unwrap();
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let link = Link::Unix(mio::net::UnixStream::from_std(near));
    let mut conn =
        Conn::new(link, Stage::Securing(Origin::Accepted(ListenerTag::Main, Peer::Local)));
    conn.start_tls(Acceptor::new(server.config).session().unwrap(), pool).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(client, name).unwrap();
    let peer = std::thread::spawn(move || {
        let mut peer = StreamOwned::new(session, far);
        peer.write_all(b"hello").unwrap();
        peer
    });
    while conn.inbox.is_empty() {
        (conn.readable, conn.writable) = (true, true);
        conn.read(scratch, pool).unwrap();
        conn.flush(scratch, pool, Instant::now()).unwrap();
    }
    conn.inbox.clear();
    (conn, peer.join().unwrap())
}

#[test]
fn a_connection_notes_when_its_socket_is_full_and_when_it_has_room() {
    let (mut scratch, pool) = (Scratch::new(), Pool::new(256, 0, BUFFER_SIZE));
    let (mut conn, mut peer) = established(&mut scratch, &pool);
    assert!(matches!(conn.lull, Lull::New));
    while 0 < fill(&mut conn, &mut scratch, &pool).0 {}
    assert!(matches!(conn.lull, Lull::Full));
    let mut chunk = vec![0; 64 * 1024];
    while conn.will_drain() {
        assert_ne!(peer.read(&mut chunk).unwrap(), 0);
        conn.writable = true;
        conn.flush(&mut scratch, &pool, Instant::now()).unwrap();
    }
    assert!(matches!(conn.lull, Lull::Since(..)));
}

/// As much as the connection takes, and then a flush. Returns how much that was, and how much has
/// left.
fn fill(conn: &mut Conn, scratch: &mut Scratch, pool: &Pool) -> (usize, usize) {
    let mut queued = 0;
    while conn.pressure() == Pressure::Open {
        let mut lease = pool.lease_beyond();
        lease.fill(&[0x5a; QUEUE_MIN]);
        queued += lease.len();
        let _ = conn.outbox.push(lease.freeze());
    }
    (queued, conn.flush(scratch, pool, Instant::now()).unwrap())
}

#[test]
fn what_is_sealed_and_what_is_not_share_the_room_of_one_queue() {
    let (mut scratch, pool) = (Scratch::new(), Pool::new(256, 0, BUFFER_SIZE));
    let (mut conn, mut peer) = established(&mut scratch, &pool);
    let (mut sent, mut drained) = (0, 0);
    loop {
        let (queued, left) = fill(&mut conn, &mut scratch, &pool);
        (sent, drained) = (sent + queued, drained + left);
        if queued == 0 {
            break;
        }
    }
    assert!(!conn.cipher.is_empty(), "the kernel has refused something");
    let waits = conn.cipher.len() + conn.outbox.len();
    assert!(waits <= QUEUE_MAX + QUEUE_MIN, "{waits} bytes wait for a reader that has stalled");
    // It reads on, and everything comes.
    let mut got = 0;
    let mut chunk = vec![0; 64 * 1024];
    while got < sent {
        got += peer.read(&mut chunk).unwrap();
        conn.writable = true;
        drained += conn.flush(&mut scratch, &pool, Instant::now()).unwrap();
    }
    assert_eq!((got, drained), (sent, sent));
    assert_eq!((conn.pressure(), conn.will_drain()), (Pressure::Open, false));
    assert_eq!(pool.leased(), 0);
}

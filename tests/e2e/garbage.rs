//! Garbage on every listening port of the chain: it is dropped, nobody else notices, and no
//! descriptor stays behind.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::chain::{Chain, Client, Options};
use super::door;
use super::trial::{Trial, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial(garbage_on_every_port_is_dropped_and_nobody_else_notices)]
}

/// A peer that is neither answered nor dropped within this has found a hole.
const PATIENCE: Duration = Duration::from_secs(20);

fn pods(client: &Client) -> u16 {
    let door = door(client, "edge-7");
    let mut connection = door.connect();
    connection.send(door.request("/api/v1/namespaces/default/pods", "Connection: close\r\n"));
    connection.response().code
}

/// Sends `garbage`, ends, and waits for the other side to end, too.
fn throw(at: &str, garbage: &[u8]) {
    let mut stream = TcpStream::connect(at).expect("the port is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    // The other side may have closed already: that is what is wanted.
    let _ = stream.write_all(garbage);
    let _ = stream.shutdown(Shutdown::Write);
    let mut back = Vec::new();
    match stream.read_to_end(&mut back) {
        Ok(_) => (),
        Err(err) if err.kind() == std::io::ErrorKind::ConnectionReset => (),
        Err(err) => panic!("{at} keeps a connection open: {err}"),
    }
    assert!(back.len() < 4096, "{at} says {} bytes to garbage", back.len());
}

fn descriptors(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count)
}

fn garbage_on_every_port_is_dropped_and_nobody_else_notices() {
    let chain = Chain::start(Options::default());
    assert_eq!(pods(&chain.client), 200);
    let relay = chain.site.relay_address().to_owned();
    let auth_proxy = chain.cluster.auth_proxy_address().to_owned();
    let client = format!("127.0.0.1:{}", chain.client.way("edge-7").port);
    let noise: Vec<u8> =
        (0..5000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let garbage: [&[u8]; 7] = [
        b"",
        b"\0",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x16\x03\x01\xff\xff\x01",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &noise,
    ];
    let processes = [chain.site.relay_id(), chain.cluster.auth_proxy_id()];
    let round = || {
        for at in [&relay, &auth_proxy, &client] {
            garbage.iter().for_each(|bytes| throw(at, bytes));
        }
        assert_eq!(pods(&chain.client), 200);
    };
    round();
    let before = processes.map(descriptors);
    for _ in 0..5 {
        round();
    }
    for (before, process) in before.into_iter().zip(processes) {
        let after = descriptors(process);
        assert!(after <= before + 4, "process {process}: {before} descriptors became {after}");
    }
}

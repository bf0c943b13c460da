//! The sending leg of the byte pipe: each local TCP connection becomes a rendezvous, without TLS
//! inside. What a client proxy is to a cluster, less everything that is ours.

use std::collections::BTreeMap;
use std::sync::Arc;

use cluster_connect::buf::{Lease, Pressure};
use cluster_connect::engine::tlsconf::{self, Versions};
use cluster_connect::engine::upgrade::{Dial, Handshake};
use cluster_connect::engine::ws::{self, Side, Splice, Step, frame_up};
use cluster_connect::io::{AuditSink, Bind, Limits, Reactor, Setup};
use cluster_connect::role::{ConnId, Endpoint, Event, ListenerTag, Net, Role, Tls};
use cluster_connect::secret::Secret;
use rustls::pki_types::ServerName;
use rustls::time_provider::DefaultTimeProvider;

/// As the first argument: port of the relay, its CA, the hybrid connection, a file with a token for it.
pub(crate) const SENDER: &str = "--as-sender";

struct Sender {
    relay: Endpoint,
    host: String,
    entity: String,
    token: Secret<String>,
    conns: BTreeMap<ConnId, Half>,
}

struct Half {
    other: ConnId,
    leg: Leg,
}

enum Leg {
    Local,
    Opening(Handshake),
    Open(Box<Splice>),
}

/// Runs until it is killed.
pub(crate) fn run(words: &[String]) -> ! {
    let [port, ca, entity, token] = words else { panic!("four words") };
    let token = std::fs::read_to_string(token).expect("a token");
    let roots = tlsconf::certificates(&std::fs::read(ca).expect("a CA")).expect("PEM");
    let time = Arc::new(DefaultTimeProvider);
    let config = tlsconf::client(&roots, None, &[b"http/1.1"], Versions::Both, time).expect("TLS");
    let name = ServerName::try_from("localhost").expect("a name");
    let role = Sender {
        relay: Endpoint::Tcp {
            host: "127.0.0.1".into(),
            port: port.parse().expect("a port"),
            tls: Some(Tls { config, name }),
            via: None,
        },
        host: format!("localhost:{port}"),
        entity: entity.clone(),
        token: Secret::new(token),
        conns: BTreeMap::new(),
    };
    let setup = Setup {
        limits: Limits { conns: 20_000, buffers: 8192, keep: 32 },
        audit: AuditSink::nowhere(),
        journal: None,
        chore: None,
    };
    let mut reactor = Reactor::new(role, setup).expect("a loop");
    let any = Bind::Tcp(([127, 0, 0, 1], 0).into());
    let address = reactor.listen(ListenerTag::Main, &any, None).expect("a port");
    println!("sender listens on {}", address.expect("TCP"));
    let _ = reactor.run(|_| ());
    std::process::exit(0)
}

impl Role for Sender {
    fn on_event(&mut self, event: Event, net: &mut dyn Net) {
        match event {
            Event::Accepted(conn, ..) => {
                net.pause(conn);
                let Some(up) = net.connect(&self.relay) else { return net.abort(conn) };
                self.conns.insert(conn, Half { other: up, leg: Leg::Local });
            }
            Event::Connected(conn) => self.on_connected(conn, net),
            Event::Data(conn, data) => self.on_data(conn, data, net),
            Event::Drained(conn, _) => {
                if net.pressure(conn) == Pressure::Open
                    && let Some(half) = self.conns.get(&conn)
                    && !matches!(half.leg, Leg::Opening(_))
                {
                    net.resume(half.other);
                }
            }
            Event::Finished(conn) | Event::Closed(conn, _) => self.end(conn, net),
            _ => (),
        }
    }
}

impl Sender {
    fn on_connected(&mut self, conn: ConnId, net: &mut dyn Net) {
        let local = self.conns.iter().find(|(_, half)| half.other == conn).map(|(id, _)| *id);
        let Some(other) = local else { return net.abort(conn) };
        let mut nonce = [0; 16];
        net.random(&mut nonce);
        let target = format!("/$hc/{}?sb-hc-action=connect&sb-hc-id=bench", self.entity);
        let token = Some(&self.token);
        let dial = Dial { host: &self.host, target: &target, nonce, protocol: None, token };
        let (head, handshake) = dial.start();
        self.conns.insert(conn, Half { other, leg: Leg::Opening(handshake) });
        send(net, conn, head.expose());
    }

    fn on_data(&mut self, conn: ConnId, mut data: Lease, net: &mut dyn Net) {
        let Some(half) = self.conns.get_mut(&conn) else { return };
        let other = half.other;
        if let Leg::Opening(handshake) = &mut half.leg {
            match handshake.handle(&data).expect("the relay lets us in") {
                None => return,
                Some(taken) => data.advance(taken),
            }
            half.leg = Leg::Open(Box::new(Splice::payload(Side::Client)));
            net.resume(other);
        }
        let mut steps = Vec::new();
        match &mut half.leg {
            Leg::Open(splice) => splice.handle(data.filled_mut(), &mut steps).expect("frames"),
            Leg::Local | Leg::Opening(_) => {
                let keys = || {
                    let mut key = [0; 4];
                    net.random(&mut key);
                    key
                };
                frame_up(data.filled_mut(), keys, &mut steps);
            }
        }
        let mut rest = data.freeze();
        let mut at = 0;
        for step in steps {
            match step {
                Step::Head(head) => send(net, other, &head),
                Step::Bytes(range) => {
                    rest.advance(range.start - at);
                    at = range.end;
                    let _ = net.send(other, rest.split_to(range.len()));
                }
                Step::Close(_) => return self.end(conn, net),
                Step::Ping(payload) => {
                    let pong =
                        ws::frame(cluster_connect::wire::ws::Opcode::Pong, Some([7; 4]), &payload);
                    send(net, conn, &pong);
                }
            }
        }
        if net.pressure(other) == Pressure::Full {
            net.pause(conn);
        }
    }

    /// A bench has no use for half-closed streams.
    fn end(&mut self, conn: ConnId, net: &mut dyn Net) {
        let Some(half) = self.conns.remove(&conn) else { return };
        self.conns.remove(&half.other);
        for conn in [conn, half.other] {
            net.close(conn);
        }
    }
}

fn send(net: &mut dyn Net, conn: ConnId, bytes: &[u8]) {
    let pool = net.pool().clone();
    for slice in pool.slices(bytes) {
        let _ = net.send(conn, slice);
    }
}

//! The agent: how it gets its control channel and keeps it, and how it carries sessions.

use std::sync::Arc;

use cluster_connect::engine::ws::Side;
use cluster_connect::role::agent::{Agent, Config};
use cluster_connect::role::{Close, ConnId, Endpoint, Event, ListenerTag, Notice, Signal};
use cluster_connect::wire::control::{Accept, Command, Remote, Reply};
use cluster_connect::wire::ws::{Opcode, close_reason};

use crate::net::{Fate, Stage};
use crate::{Payload, agent, frames, key_source, masked, open, plain, request, says};

/// An agent with an open channel.
pub(crate) fn listening() -> (Stage<Agent>, ConnId) {
    let mut stage = agent(key_source());
    let conn = stage.net.connects[0].0;
    open(&mut stage, conn);
    (stage, conn)
}

pub(crate) fn command(address: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let connect_headers = fields.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
    let accept = Accept {
        address: address.to_owned(),
        id: "I_G0".to_owned(),
        connect_headers,
        remote: Remote::default(),
    };
    plain(Opcode::Text, Command::Accept(accept).encode().as_bytes())
}

pub(crate) const ADDRESS: &str = "ws://node7.example/$hc/ent?sb-hc-action=accept&sb-hc-id=I_G0";

/// The two connections of a session that has been asked for.
pub(crate) fn session(stage: &mut Stage<Agent>, channel: ConnId) -> (ConnId, ConnId) {
    let before = stage.net.connects.len();
    stage.data(channel, &command(ADDRESS, &[]));
    let [(rendezvous, _), (local, Endpoint::Local(_))] = stage.net.connects[before..] else {
        panic!("{:?}", stage.net.connects)
    };
    (rendezvous, local)
}

/// An open session: the channel, the rendezvous, the connection to the auth proxy.
pub(crate) fn carrying() -> (Stage<Agent>, ConnId, ConnId, ConnId) {
    let (mut stage, channel) = listening();
    let (rendezvous, local) = session(&mut stage, channel);
    stage.event(Event::Connected(local));
    open(&mut stage, rendezvous);
    (stage, channel, rendezvous, local)
}

#[test]
fn it_listens_with_a_token_of_its_own_making() {
    let mut stage = agent(key_source());
    let (conn, Endpoint::Tcp { host, port, .. }) = stage.net.connects[0].clone() else {
        panic!("tcp")
    };
    assert_eq!((host.as_str(), port), ("relay.example", 8080));
    let request = open(&mut stage, conn);
    assert!(request.target.starts_with("/$hc/ent?sb-hc-action=listen&sb-hc-id="));
    assert_eq!(request.fields.get("Host"), Some("relay.example:8080"));
    let token = crate::table::token("http://relay.example/ent", "Listen", stage.net.unix + 3600);
    assert_eq!(request.fields.get("ServiceBusAuthorization"), Some(token.as_str()));
    assert!(matches!(stage.net.notices[..], [Notice::Ready]));
}

#[test]
fn a_token_is_renewed_at_two_thirds_of_its_life() {
    let (mut stage, channel) = listening();
    stage.pass(1);
    for _ in 0..79 {
        stage.data(channel, &plain(Opcode::Ping, b""));
        stage.take(channel);
        stage.pass(30);
        let sent = frames(Side::Server, &stage.take(channel));
        assert!(!sent.iter().any(|f| f.0 == Opcode::Text), "too early");
    }
    stage.pass(31);
    let sent = frames(Side::Server, &stage.take(channel));
    let (_, _, text) = sent.iter().find(|f| f.0 == Opcode::Text).unwrap();
    let Ok(Reply::RenewToken(Some(token))) = Reply::parse(std::str::from_utf8(text).unwrap())
    else {
        panic!("a renewal")
    };
    assert!(token.starts_with("SharedAccessSignature sr=http%3A%2F%2Frelay.example%2Fent&sig="));
}

#[test]
fn attempts_are_spread_out_while_the_relay_refuses() {
    let mut stage = agent(key_source());
    for _ in 0..600 {
        let last = stage.net.connects.last().unwrap().0;
        stage.closed(last, Close::Refused("connection refused".to_owned()));
        stage.pass(1);
    }
    let attempts = stage.net.connects.len();
    assert!((20..120).contains(&attempts), "{attempts} in ten minutes");
    let said = says(&stage);
    assert_eq!(said, ["cannot listen at relay.example:8080: connection refused"]);
}

#[test]
fn a_channel_that_lasted_is_replaced_at_once_and_another_is_not() {
    let (mut stage, channel) = listening();
    stage.pass(50);
    stage.data(channel, &plain(Opcode::Pong, b""));
    stage.pass(20);
    stage.closed(channel, Close::Reset);
    stage.pass(0);
    assert_eq!(stage.net.connects.len(), 2);
    let next = stage.net.connects[1].0;
    open(&mut stage, next);
    stage.pass(1);
    stage.data(next, &plain(Opcode::Close, &[0x03, 0xf0, b'n', b'o']));
    let answer = frames(Side::Server, &stage.take(next));
    assert_eq!(answer[0].2, [0x03, 0xf0, b'n', b'o']);
    stage.pass(0);
    assert_eq!(stage.net.connects.len(), 2);
    stage.pass(1);
    assert_eq!(stage.net.connects.len(), 3);
    let said = says(&stage);
    assert!(
        said[0].ends_with("connection reset by peer") && said.last().unwrap().ends_with("1008 no"),
        "{said:?}"
    );
}

#[test]
fn a_refused_listen_says_what_the_relay_said() {
    let mut stage = agent(key_source());
    let conn = stage.net.connects[0].0;
    stage.event(Event::Connected(conn));
    stage.data(conn, b"HTTP/1.1 401 InvalidSignature: no. TrackingId:7\r\n\r\n");
    assert_eq!(
        says(&stage),
        ["cannot listen at relay.example:8080: 401 InvalidSignature: no. TrackingId:7"]
    );
    assert_eq!(stage.role.leftovers(), 0);
}

#[test]
fn a_relay_that_falls_silent_is_given_up() {
    let (mut stage, channel) = listening();
    stage.pass(170);
    let pings = frames(Side::Server, &stage.take(channel));
    assert_eq!(pings.iter().filter(|f| f.0 == Opcode::Ping).count(), 2);
    // After the first ping that was not answered another channel is asked for.
    assert_eq!(stage.net.connects.len(), 2);
    stage.pass(15);
    assert_eq!(stage.fate(channel), Some(Fate::Closed));
    stage.pass(0);
    assert_eq!(stage.net.connects.len(), 3);
}

#[test]
fn requests_are_declined_and_pings_answered() {
    let (mut stage, channel) = listening();
    let full = Command::Request(cluster_connect::wire::control::Request {
        address: "ws://n/x".to_owned(),
        id: "R1".to_owned(),
        target: "/ent".to_owned(),
        method: "POST".to_owned(),
        body: true,
        ..Default::default()
    });
    let pointer = Command::Pointer("ws://n/$hc/ent?sb-hc-action=request&sb-hc-id=R2".to_owned());
    stage.data(channel, &plain(Opcode::Text, full.encode().as_bytes()));
    stage.data(channel, &plain(Opcode::Binary, b"body"));
    stage.data(channel, &plain(Opcode::Text, pointer.encode().as_bytes()));
    stage.data(channel, &plain(Opcode::Text, br#"{"newCommand":{}}"#));
    stage.data(channel, &plain(Opcode::Text, b"not json"));
    stage.data(channel, &plain(Opcode::Ping, b"p"));
    let sent = frames(Side::Server, &stage.take(channel));
    let ids: Vec<_> = sent[..1]
        .iter()
        .map(|f| match Reply::parse(std::str::from_utf8(&f.2).unwrap()) {
            Ok(Reply::Response(response)) => (response.request_id, response.status, response.body),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids, [("R1".to_owned(), 501, false)]);
    assert_eq!(sent[1..], [(Opcode::Pong, true, b"p".to_vec())]);
}

#[test]
fn a_request_that_is_pointed_to_is_declined_where_it_is() {
    let (mut stage, channel) = listening();
    let address = "ws://node7.example:81/$hc/ent?a&&sb-hc-action=request&sb-hc-id=R2_G1";
    let pointer = plain(Opcode::Text, Command::Pointer(address.to_owned()).encode().as_bytes());
    stage.data(channel, &pointer);
    let (conn, to) = stage.net.connects.last().cloned().unwrap();
    assert!(matches!(to, Endpoint::Tcp { host, port: 81, .. } if host == "node7.example"));
    let request = open(&mut stage, conn);
    assert_eq!(request.target, "/$hc/ent?a&&sb-hc-action=request&sb-hc-id=R2_G1");
    assert_eq!(request.fields.get("ServiceBusAuthorization"), None);
    let full = Command::Request(cluster_connect::wire::control::Request {
        address: address.to_owned(),
        id: "R2_G1".to_owned(),
        target: "/ent".to_owned(),
        method: "POST".to_owned(),
        body: true,
        ..Default::default()
    });
    let mut bytes = plain(Opcode::Ping, b"p");
    bytes.extend(plain(Opcode::Text, full.encode().as_bytes()));
    bytes.extend(plain(Opcode::Binary, &[7; 300_000]));
    stage.data(conn, &bytes);
    let sent = frames(Side::Server, &stage.take(conn));
    assert_eq!(sent[0], (Opcode::Pong, true, b"p".to_vec()));
    let Ok(Reply::Response(response)) = Reply::parse(std::str::from_utf8(&sent[1].2).unwrap())
    else {
        panic!("a response")
    };
    assert_eq!(
        (response.request_id.as_str(), response.status, response.body),
        ("R2_G1", 501, false)
    );
    assert_eq!(sent[2..], [(Opcode::Close, true, vec![3, 232])]);
    assert!(stage.net.finished.contains(&conn));
    assert_eq!(stage.take(channel), b"", "and not on the channel");
    stage.closed(conn, Close::Clean);
    assert_eq!(stage.role.leftovers(), 1);
}

#[test]
fn places_of_requests_that_lead_nowhere_cost_little() {
    let (mut stage, channel) = listening();
    let pointer = |n: usize| {
        let address = format!("ws://n/$hc/ent?sb-hc-action=request&sb-hc-id=R{n}");
        plain(Opcode::Text, Command::Pointer(address).encode().as_bytes())
    };
    let before = stage.net.connects.len();
    for n in 0..100 {
        stage.data(channel, &pointer(n));
    }
    let conns: Vec<ConnId> = stage.net.connects[before..].iter().map(|it| it.0).collect();
    assert_eq!(conns.len(), 16, "at a time");
    let told = frames(Side::Server, &stage.take(channel));
    assert_eq!(told.len(), 84, "the others are told on the channel");
    // One refuses, one says nonsense, one falls silent, one goes away, one is no WebSocket.
    open(&mut stage, conns[0]);
    stage.data(conns[0], &plain(Opcode::Text, b"{}"));
    open(&mut stage, conns[1]);
    stage.data(conns[1], &masked(Opcode::Text, b"{}"));
    stage.event(Event::Connected(conns[2]));
    stage.data(conns[2], b"HTTP/1.1 403 Forbidden\r\n\r\n");
    open(&mut stage, conns[3]);
    stage.finished(conns[3]);
    stage.closed(conns[4], Close::Reset);
    for gone in &conns[..4] {
        assert_eq!(stage.fate(*gone), Some(Fate::Aborted));
    }
    stage.pass(26);
    assert_eq!((stage.role.leftovers(), stage.net.leased()), (1, 0));
    assert_eq!(stage.fate(channel), None);
}

#[test]
fn a_session_is_opened_once_the_auth_proxy_is_there() {
    let (mut stage, channel) = listening();
    let fields = [("Sec-WebSocket-Protocol", "one, two")];
    stage.data(channel, &command(ADDRESS, &fields));
    let [(rendezvous, Endpoint::Tcp { host, port, .. }), (local, _)] = &stage.net.connects[1..]
    else {
        panic!("two connections")
    };
    let (rendezvous, local) = (*rendezvous, *local);
    assert_eq!((host.as_str(), *port), ("node7.example", 80));
    stage.event(Event::Connected(rendezvous));
    assert_eq!(stage.take(rendezvous), b"");
    assert!(stage.net.paused.contains(&local));
    stage.event(Event::Connected(local));
    let request = request(&mut stage, rendezvous);
    assert_eq!(request.target, "/$hc/ent?sb-hc-action=accept&sb-hc-id=I_G0");
    assert_eq!(request.fields.get("Host"), Some("node7.example"));
    assert_eq!(request.fields.get("Sec-WebSocket-Protocol"), Some("one"));
    assert_eq!(request.fields.get("ServiceBusAuthorization"), None);
    let answer = request.upgrade().unwrap().unwrap().answer(Some("one"));
    stage.data(rendezvous, &[answer, plain(Opcode::Binary, b"hello")].concat());
    assert_eq!(stage.take(local), b"hello");
    assert!(!stage.net.paused.contains(&local));
}

#[test]
fn a_sender_is_rejected_when_the_auth_proxy_is_not_there() {
    for first in [true, false] {
        let (mut stage, channel) = listening();
        let (rendezvous, local) = session(&mut stage, channel);
        if first {
            stage.event(Event::Connected(rendezvous));
        }
        stage.closed(local, Close::Refused("no such listener".to_owned()));
        if !first {
            stage.event(Event::Connected(rendezvous));
        }
        let request = request(&mut stage, rendezvous);
        assert!(
            request.target.ends_with(
                "&sb-hc-statusCode=502&sb-hc-statusDescription=The%20agent%20cannot%20reach%20the%20auth%20proxy"
            ),
            "{}",
            request.target
        );
        stage.data(rendezvous, b"HTTP/1.1 410 Gone\r\n\r\n");
        assert_eq!(stage.role.leftovers(), 1);
    }
}

#[test]
fn a_relay_over_tls_cannot_send_sessions_round_it() {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let auth_proxy = Endpoint::Local(ListenerTag::AuthProxy);
    let config = Config::new(key_source(), Some(Arc::new(config)), auth_proxy);
    let mut stage = Stage::new(Agent::new(config));
    let channel = stage.net.connects[0].0;
    open(&mut stage, channel);
    stage.data(channel, &command(ADDRESS, &[]));
    stage.data(channel, &command("wss://user@host/x", &[]));
    assert_eq!(stage.net.connects.len(), 1);
    stage.data(channel, &command(&ADDRESS.replace("ws:", "wss:"), &[]));
    let Endpoint::Tcp { tls: Some(tls), port, .. } = &stage.net.connects[1].1 else {
        panic!("tls")
    };
    assert_eq!((tls.name.to_str().as_ref(), *port), ("node7.example", 443));
}

#[test]
fn bytes_pass_both_ways_in_frames_of_one_record() {
    let (mut stage, _, rendezvous, local) = carrying();
    let bytes: Vec<u8> = (0..40_000u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
    stage.data(local, &bytes);
    let got = frames(Side::Server, &stage.take(rendezvous));
    assert!(got.iter().all(|f| f.0 == Opcode::Binary && f.1 && f.2.len() <= 16_376));
    assert_eq!(got.concat_payload(), bytes);
    stage.data(rendezvous, &[plain(Opcode::Binary, b"ab"), plain(Opcode::Text, b"cd")].concat());
    assert_eq!(stage.take(local), b"abcd");
    assert_eq!(stage.net.leased(), 0);
}

#[test]
fn an_end_of_input_passes_and_the_other_direction_goes_on() {
    let (mut stage, _, rendezvous, local) = carrying();
    stage.data(rendezvous, &plain(Opcode::Close, &[3, 232]));
    assert!(stage.net.finished.contains(&local) && stage.fate(local).is_none());
    stage.data(local, b"late");
    assert_eq!(frames(Side::Server, &stage.take(rendezvous))[0].2, b"late");
    stage.finished(local);
    let got = frames(Side::Server, &stage.take(rendezvous));
    assert_eq!(got, [(Opcode::Close, true, vec![3, 232])]);
    assert!(stage.net.finished.contains(&rendezvous));
    stage.closed(local, Close::Clean);
    stage.closed(rendezvous, Close::Clean);
    assert_eq!(stage.role.leftovers(), 1);

    let (mut stage, _, rendezvous, local) = carrying();
    stage.finished(local);
    assert_eq!(frames(Side::Server, &stage.take(rendezvous))[0].2, [3, 232]);
    stage.data(rendezvous, &plain(Opcode::Binary, b"late"));
    assert_eq!(stage.take(local), b"late");
    stage.data(rendezvous, &plain(Opcode::Close, &[]));
    assert!(stage.net.finished.contains(&local));
    stage.pass(61);
    assert_eq!(
        (stage.fate(local), stage.fate(rendezvous)),
        (Some(Fate::Aborted), Some(Fate::Aborted))
    );
}

#[test]
fn whatever_breaks_one_side_breaks_the_other() {
    for end in 0..6 {
        let (mut stage, _, rendezvous, local) = carrying();
        let other = match end {
            0 => {
                stage.closed(local, Close::Reset);
                rendezvous
            }
            1 => {
                stage.closed(rendezvous, Close::Reset);
                local
            }
            2 => {
                stage.finished(rendezvous);
                local
            }
            3 => {
                stage.data(rendezvous, &plain(Opcode::Close, &[3, 233, b'x']));
                local
            }
            4 => {
                stage.data(rendezvous, &masked(Opcode::Binary, b"masked"));
                let closing = frames(Side::Server, &stage.take(rendezvous));
                assert_eq!(close_reason(&closing[0].2).unwrap().0, 1002);
                local
            }
            _ => {
                stage.closed(local, Close::Truncated);
                rendezvous
            }
        };
        assert_eq!(stage.fate(other), Some(Fate::Aborted), "{end}");
        assert_eq!(stage.role.leftovers(), 1, "{end}");
    }
}

#[test]
fn a_slow_side_stops_the_other() {
    let (mut stage, _, rendezvous, local) = carrying();
    for (from, to, bytes) in
        [(local, rendezvous, b"x".to_vec()), (rendezvous, local, plain(Opcode::Binary, b"x"))]
    {
        stage.net.full.insert(to);
        stage.data(from, &bytes);
        assert!(stage.net.paused.contains(&from));
        stage.drained(to, 1);
        assert!(stage.net.paused.contains(&from));
        stage.net.full.clear();
        stage.drained(to, 1);
        assert!(!stage.net.paused.contains(&from));
    }
}

#[test]
fn sessions_outlive_the_channel() {
    let (mut stage, channel, rendezvous, local) = carrying();
    stage.closed(channel, Close::Reset);
    stage.data(rendezvous, &plain(Opcode::Binary, b"still"));
    assert_eq!(stage.take(local), b"still");
}

#[test]
fn a_rendezvous_that_is_not_answered_is_given_up() {
    let (mut stage, channel) = listening();
    let (rendezvous, local) = session(&mut stage, channel);
    stage.event(Event::Connected(local));
    stage.pass(26);
    assert_eq!(
        (stage.fate(local), stage.fate(rendezvous)),
        (Some(Fate::Aborted), Some(Fate::Aborted))
    );
    assert_eq!(stage.role.leftovers(), 1);
}

#[test]
fn stopping_lets_sessions_end() {
    let (mut stage, channel, rendezvous, local) = carrying();
    stage.event(Event::Signal(Signal::Stop));
    let closing = frames(Side::Server, &stage.take(channel));
    assert_eq!(close_reason(&closing[0].2).unwrap().0, 1001);
    let exits = |stage: &Stage<Agent>| {
        stage.net.notices.iter().filter(|n| matches!(n, Notice::Exit(0, None))).count()
    };
    stage.pass(5);
    assert_eq!((exits(&stage), stage.fate(local)), (0, None));
    stage.closed(rendezvous, Close::Reset);
    assert_eq!(exits(&stage), 1);
    assert_eq!(stage.net.connects.len(), 3, "no new channel");
}

//! Measuring a tunnel, at the auth proxy: who may, and what it costs at most.

mod gate;
mod sim;
mod support;
#[path = "chain/tokens.rs"]
mod tokens;

use std::time::Duration;

use cluster_connect::auth::impersonate::EXTRA_DOMAIN;
use cluster_connect::engine::tunnel::ALPN_BENCH;
use cluster_connect::limits::{PROBE_LIFE, PROBE_STREAMS, PROBES, WINDOW};
use cluster_connect::role::Peer;
use cluster_connect::wire::mux::StreamId;
use cluster_connect::wire::probe::{Ask, TARGET};
use gate::Gate;
use sim::EPOCH;

const RATE: u64 = 1_000_000;

fn request(target: &str, token: &str) -> String {
    format!(
        "POST {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

fn alice() -> String {
    tokens::token("alice", "cluster", EPOCH, 3600)
}

fn gate() -> Gate {
    Gate::speaking(ALPN_BENCH, |config| config.probe_rate = RATE, |_| ())
}

/// A caller whom the auth proxy lets measure.
fn measuring() -> Gate {
    let mut gate = gate();
    let first = gate.ask(&request(TARGET, &alice()));
    let answer = gate.heard(first);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with(r#"{"bytesPerSecond":1000000,"seconds":60}"#), "{answer}");
    gate
}

fn stream(gate: &mut Gate, ask: Ask) -> StreamId {
    let id = gate.ask("");
    gate.say_bytes(id, &ask.encode());
    id
}

#[test]
fn nobody_measures_without_a_good_token() {
    let expired = tokens::token("alice", "cluster", EPOCH - 7200, 3600);
    let other = tokens::token("alice", "relay", EPOCH, 3600);
    let forged = format!("{}AAAA", alice());
    for (token, status) in [(&expired, 401), (&other, 401), (&forged, 401), (&String::new(), 401)] {
        let mut gate = gate();
        let first = gate.ask(&request(TARGET, token));
        let answer = gate.heard(first);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        let id = stream(&mut gate, Ask::Send(1000));
        assert!(!gate.heard_bytes(id).contains(&0), "not a byte of what was asked for");
        let id = stream(&mut gate, Ask::Echo);
        gate.say_bytes(id, &[7; 100]);
        assert!(!gate.heard_bytes(id).contains(&7));
        assert!(gate.net.audit.iter().all(|line| line.contains("\"code\":401")));
    }
    let mut gate = gate();
    let id = gate.ask(&format!("POST {TARGET} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"));
    assert!(gate.heard(id).starts_with("HTTP/1.1 401 "));
    let id = stream(&mut gate, Ask::Send(1000));
    assert!(!gate.heard_bytes(id).contains(&0));
}

#[test]
fn a_session_that_measures_carries_no_requests() {
    let mut gate = gate();
    let id = gate.ask(&request("/api/v1/pods", &alice()));
    assert!(gate.heard(id).starts_with("HTTP/1.1 404 "));
    let id = gate.ask(&request(TARGET, &alice()));
    assert!(gate.heard(id).starts_with("HTTP/1.1 200 "));
    assert_eq!((gate.net.dialled.len(), gate.net.jobs.len()), (0, 0), "nothing goes upstream");
    let lines: Vec<&String> = gate.net.audit.iter().filter(|it| it.contains(TARGET)).collect();
    assert!(lines.len() == 2 && lines.iter().all(|line| line.contains("alice")), "{lines:?}");
    let times = |line: &String| {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        [line["requestReceivedTimestamp"].clone(), line["stageTimestamp"].clone()]
    };
    assert_eq!(times(lines[0]), times(lines[1]), "the clock has not moved");

    // And one that carries requests does not measure.
    let mut gate = Gate::new(|_| ());
    let _ = gate.ask(&request(TARGET, &alice()));
    let (_, _, head) = gate.upstream();
    assert!(head.starts_with("POST /cluster-connect/bench "), "{head}");
}

#[test]
fn who_measures_is_shown_can_be_cut_and_is_in_the_audit_log_from_beginning_to_end() {
    let list = |gate: &mut Gate| {
        let list = gate.visit(Peer::Local, "GET /sessions HTTP/1.1\r\nHost: x\r\n\r\n");
        let list = list.split_once("\r\n\r\n").expect("a head").1;
        serde_json::from_str::<serde_json::Value>(list).expect("JSON")
    };
    for way in ["/sessions?user=alice", "/sessions/{id}"] {
        let mut gate = measuring();
        let id = stream(&mut gate, Ask::Send(50_000));
        assert_eq!(gate.heard_bytes(id).len(), 50_000);
        let shown = list(&mut gate)["sessions"][0].clone();
        assert_eq!(shown["measures"]["user"], "alice", "{shown}");
        assert_eq!(shown["measures"]["since"], EPOCH);
        let way = way.replace("{id}", shown["id"].as_str().expect("an id"));
        let order = format!("DELETE {way} HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(gate.visit(Peer::Local, &order).ends_with("{\"cut\":1}\n"));
        assert!(gate.net.ended.contains(&gate.session));
        assert_eq!(list(&mut gate)["sessions"].as_array().map(Vec::len), Some(0));
        let audit: Vec<serde_json::Value> =
            gate.net.audit.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let cut = audit.iter().find(|it| it["user"]["username"] == "operator").expect("a cut");
        assert_eq!(cut["annotations"][format!("{EXTRA_DOMAIN}/cut-user")], "alice");
        let mut of_alice = audit.iter().filter(|it| it["user"]["username"] == "alice");
        let stages: Vec<&str> = of_alice.clone().filter_map(|it| it["stage"].as_str()).collect();
        assert_eq!(stages, ["RequestReceived", "ResponseStarted", "ResponseComplete"]);
        let sent = &of_alice.next_back().expect("three")["annotations"]
            [format!("{EXTRA_DOMAIN}/bytes-sent")];
        let sent: u64 = sent.as_str().expect("a number").parse().expect("a number");
        assert!((50_000..80_000).contains(&sent), "{sent}");
    }
}

#[test]
fn one_caller_cannot_use_up_the_turns_of_the_others() {
    let turn = |gate: &mut Gate, who: &str| {
        gate.leave();
        gate.join();
        let token = tokens::token(who, "cluster", EPOCH, 3600);
        let first = gate.ask(&request(TARGET, &token));
        gate.heard(first)
    };
    let mut gate = gate();
    for _ in 0..PROBES {
        assert!(turn(&mut gate, "mallory").starts_with("HTTP/1.1 200 "));
    }
    for _ in 0..20 {
        let answer = turn(&mut gate, "mallory");
        assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("Retry-After"), "{answer}");
        assert!(answer.contains("you have measured too often"), "{answer}");
    }
    assert!(turn(&mut gate, "alice").starts_with("HTTP/1.1 200 "));
    // One at a time, whoever it is.
    gate.join();
    let first = gate.ask(&request(TARGET, &tokens::token("bob", "cluster", EPOCH, 3600)));
    assert!(gate.heard(first).contains("somebody else is measuring"));
}

#[test]
fn where_it_is_off_nobody_measures() {
    let mut gate = Gate::speaking(ALPN_BENCH, |config| config.probe_rate = 0, |_| ());
    let id = gate.ask(&request(TARGET, &alice()));
    assert!(gate.heard(id).starts_with("HTTP/1.1 403 "));
}

#[test]
fn what_is_asked_for_comes_exactly() {
    let mut gate = measuring();
    let id = stream(&mut gate, Ask::Send(50_000));
    assert_eq!(gate.heard_bytes(id), vec![0; 50_000]);
    assert!(gate.closed.contains(&id));
    gate.pass(Duration::from_secs(1));
    let id = stream(&mut gate, Ask::Send(0));
    assert!(gate.closed.contains(&id) && gate.heard_bytes(id).is_empty());

    gate.pass(Duration::from_secs(1));
    let id = stream(&mut gate, Ask::Echo);
    gate.say_bytes(id, b"once");
    gate.say_bytes(id, b" more");
    gate.finish(id);
    assert_eq!(gate.heard(id), "once more");
    assert!(gate.closed.contains(&id));

    let id = stream(&mut gate, Ask::Take);
    for _ in 0..3 {
        gate.say_bytes(id, &[1; 30_000]);
        gate.pass(Duration::from_millis(100));
    }
    let first = gate.heard_bytes(id).try_into().map(u64::from_be_bytes).expect("one total");
    assert!((64 * 1024..=90_000).contains(&first), "{first}");
    gate.finish(id);
    assert_eq!(gate.heard_bytes(id), 90_000_u64.to_be_bytes());
    assert!(gate.closed.contains(&id));
    assert_eq!(gate.net.dialled.len(), 0);
}

#[test]
fn what_nobody_can_ask_for_ends_its_stream_and_nothing_else() {
    let mut gate = measuring();
    for wrong in [*b"X\0\0\0\0\0\0\0\0", *b"E\0\0\0\0\0\0\0\x01", [0xff; 9], *b"GET / HTT"] {
        let id = gate.ask("");
        gate.say_bytes(id, &wrong[..4]);
        gate.say_bytes(id, &wrong[4..]);
        assert!(gate.closed.contains(&id));
    }
    // One that ends before it has asked for anything is ended too.
    let id = gate.ask("");
    gate.say_bytes(id, b"S\0\0");
    gate.finish(id);
    assert!(gate.closed.contains(&id));
    let id = stream(&mut gate, Ask::Send(7));
    assert_eq!(gate.heard_bytes(id).len(), 7);
}

#[test]
fn a_session_has_so_many_streams_and_no_more() {
    let mut gate = measuring();
    for _ in 0..PROBE_STREAMS {
        let id = stream(&mut gate, Ask::Take);
        assert!(!gate.closed.contains(&id));
    }
    let id = stream(&mut gate, Ask::Take);
    assert!(gate.closed.contains(&id));
}

#[test]
fn both_ways_together_keep_to_the_rate() {
    const SECONDS: u64 = 8;
    // Streams and their number, whether the caller sends as much as it can.
    for (down, up, echo) in [(1, 0, 0), (5, 0, 0), (0, 3, 0), (2, 2, 2)] {
        let mut gate = measuring();
        let mut ids = |count, ask: Ask| -> Vec<StreamId> {
            (0..count).map(|_| stream(&mut gate, ask)).collect()
        };
        let down = ids(down, Ask::Send(u64::MAX));
        let up = ids(up, Ask::Take);
        let echo = ids(echo, Ask::Echo);
        let (mut received, mut taken) = (0, 0);
        let mut unsent: u64 = (up.len() + echo.len()) as u64 * u64::from(WINDOW);
        for _ in 0..SECONDS * 20 {
            // More than there is credit for waits at the caller's end.
            for id in up.iter().chain(&echo) {
                gate.say_bytes(*id, &[1; 16_000]);
            }
            gate.pass(Duration::from_millis(50));
            received += down.iter().map(|id| gate.heard_bytes(*id).len() as u64).sum::<u64>();
            taken += echo.iter().map(|id| gate.heard_bytes(*id).len() as u64).sum::<u64>();
        }
        for id in &up {
            let totals = gate.heard_bytes(*id);
            let last = totals
                .rchunks_exact(8)
                .next()
                .map_or(0, |it| u64::from_be_bytes(it.try_into().expect("eight")));
            taken += last;
        }
        let moved = received + taken;
        let most = RATE * SECONDS + RATE / 10;
        // What the windows let in before it is paid for is not earned.
        unsent += 64 * 1024;
        assert!(moved <= most + unsent, "{moved} of {most}");
        assert!(RATE * SECONDS * 8 / 10 <= moved, "{moved} of {most}: it is not used up");
        for id in down {
            assert!(!gate.closed.contains(&id), "none was left out");
        }
    }
}

#[test]
fn a_session_ends_when_its_time_is_up() {
    let mut gate = measuring();
    let _ = stream(&mut gate, Ask::Send(u64::MAX));
    gate.pass(PROBE_LIFE - Duration::from_secs(1));
    assert!(!gate.net.ended.contains(&gate.session));
    gate.pass(Duration::from_secs(1));
    assert!(gate.net.ended.contains(&gate.session));
    assert_eq!(gate.proxy.leftovers(), (0, 0, 0));
}

//! Upgrades: nothing of what follows the head goes up before the upstream has agreed.

use super::*;

const ASK: &str = "GET /exec HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: k\r\n\r\n";
const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\n\
                     Connection: Upgrade\r\nSec-WebSocket-Accept: a\r\n\r\n";
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

#[test]
fn bytes_wait_for_the_101_and_then_flow_both_ways() {
    let mut rig = Rig::new();
    rig.down(format!("{ASK}early"));
    let asked = "GET /exec HTTP/1.1\nSec-WebSocket-Key: k\nHost: up\nConnection: Upgrade\n\
                 Upgrade: websocket\n\n";
    assert_eq!(rig.sent_up(0), asked);
    rig.up(format!("{AGREE}hello"));
    assert_eq!(rig.sent_up(0), format!("{asked}early"));
    let agreed = "HTTP/1.1 101 Switching Protocols\nSec-WebSocket-Accept: a\n\
                  Connection: Upgrade\nUpgrade: websocket\n\nhello";
    assert_eq!(rig.sent_down(), agreed);
    rig.down("\n\0more").up("\r\n\r\n");
    assert!(rig.sent_up(0).ends_with("early\\n\\x00more"));
    assert!(rig.exchange.is_raw() && rig.sent_down().ends_with("hello\n\n"));
}

#[test]
fn every_cut_of_an_upgrade_gives_the_same_bytes() {
    let (down, up) = (format!("{ASK}some bytes"), format!("{AGREE}other bytes"));
    for cut in 0..down.len() {
        for late in [false, true] {
            let mut rig = Rig::new();
            rig.down(&down[..cut]);
            if !late {
                rig.down(&down[cut..]);
            }
            if rig.up.is_empty() {
                continue;
            }
            let middle = cut % up.len();
            rig.up(&up[..middle]).up(&up[middle..]);
            if late {
                rig.down(&down[cut..]);
            }
            assert!(rig.sent_up(0).ends_with("\n\nsome bytes"), "cut {cut}");
            assert!(rig.sent_down().ends_with("\n\nother bytes"), "cut {cut}");
        }
    }
}

#[test]
fn a_refused_upgrade_passes_its_error_and_nothing_else() {
    let mut rig = Rig::new();
    rig.down(format!("{ASK}{SMUGGLED}"));
    rig.up("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    assert_eq!((rig.status(), rig.last()), ("403", "complete"));
    assert!(rig.sent_down().contains("Connection: close"));
    assert!(!rig.sent_up(0).contains("smuggled"));
    assert_eq!((rig.up_ends[0], rig.down_end), (Some(End::Close), Some(End::Finish)));
    rig.down(SMUGGLED);
    assert_eq!(rig.log.iter().filter(|it| it.starts_with("request")).count(), 1);
    // Refused by the role: the same.
    let mut rig = Rig::new();
    rig.down(format!("{}{SMUGGLED}", ASK.replace("/exec", "/deny")));
    assert_eq!((rig.status(), rig.up.len(), rig.log.len()), ("403", 0, 1));
}

#[test]
fn other_answers_to_an_upgrade_are_a_502() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n",
    ] {
        let mut rig = Rig::new();
        rig.down(format!("{ASK}{SMUGGLED}")).up(answer);
        assert_eq!(rig.status(), "502", "{answer:?}");
        assert_eq!(rig.up_ends[0], Some(End::Abort), "{answer:?}");
        assert!(!rig.sent_up(0).contains("smuggled"));
    }
}

#[test]
fn spdy_upgrades_with_an_empty_counted_body() {
    let mut rig = Rig::new();
    rig.down(
        "POST /exec HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
         Content-Length: 0\r\n\r\n",
    );
    assert!(rig.sent_up(0).contains("Content-Length: 0\nConnection: Upgrade\nUpgrade: SPDY/3.1"));
    rig.up(AGREE.replace("WebSocket\r\n", "SPDY/3.1\r\n"));
    assert_eq!(rig.last(), "upgraded");
}

#[test]
fn protocols_that_are_not_carried_are_left_out() {
    let mut rig = Rig::new();
    rig.down(ASK.replace("websocket", "h2c"));
    assert_eq!(rig.sent_up(0), "GET /exec HTTP/1.1\nSec-WebSocket-Key: k\nHost: up\n\n");
}

#[test]
fn an_upgraded_connection_half_closes_each_way() {
    let mut rig = Rig::new();
    rig.down(ASK).up(AGREE);
    rig.step(Exchange::down_finished);
    assert_eq!((rig.up_ends[0], rig.down_end), (Some(End::Finish), None));
    rig.up("still talking");
    rig.step(Exchange::up_finished);
    assert_eq!((rig.up_ends[0], rig.down_end), (Some(End::Close), Some(End::Close)));
    assert!(rig.sent_down().ends_with("still talking"));
    assert_eq!(rig.last(), "complete");
    let mut rig = Rig::new();
    rig.down(ASK).up(AGREE);
    rig.step(Exchange::up_finished);
    assert_eq!((rig.up_ends[0], rig.down_end), (None, Some(End::Finish)));
    rig.down("last words");
    assert!(rig.sent_up(0).ends_with("last words"));
    rig.step(|exchange, _, out| exchange.down_lost(out));
    assert_eq!((rig.up_ends[0], rig.last()), (Some(End::Abort), "complete"));
}

#[test]
fn a_cut_ends_an_upgraded_connection_both_ways() {
    let mut rig = Rig::new();
    rig.down(ASK).up(AGREE);
    rig.step(Exchange::cut);
    assert_eq!((rig.up_ends[0], rig.down_end), (Some(End::Close), Some(End::Close)));
    assert!(rig.exchange.is_gone());
}

//! The real kubectl, through every verb that streams. What lies between it and the demonstration
//! API server is the including program's choice.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::{fs, thread};

use serde_json::json;
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

use super::demo::Server;
use super::kubectl::{Running, Session};
use super::raw::Door;
use super::trial::Trial;
use super::{each_streaming as each, with_door};

pub(crate) fn trials() -> Vec<Trial> {
    let all = [
        each(a_watch_shows_each_change_when_it_happens),
        each(followed_logs_show_each_line_when_it_is_printed),
        each(exec_carries_input_both_outputs_and_the_exit_code),
        each(attach_shows_what_is_printed_and_prints_what_is_typed),
        each(run_starts_a_command_for_the_one_who_attaches),
        each(files_are_copied_both_ways_unchanged),
        each(forwarded_ports_carry_http_and_half_closed_bulk),
        vec![with_door(a_terminal_echoes_edits_and_knows_its_size)],
        vec![with_door(a_watch_and_a_followed_log_can_be_websockets)],
    ];
    all.into_iter().flatten().collect()
}

/// Bytes that no compression and no luck reproduces.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(step).take(len).collect()
}

fn a_watch_shows_each_change_when_it_happens(server: &Server, kubectl: &Session) {
    let mut watch = kubectl.start(&["get", "configmaps", "-w"]);
    watch.line_with("kube-root-ca.crt");
    for name in ["first", "second"] {
        let made = json!({ "apiVersion": "v1", "kind": "ConfigMap",
                           "metadata": { "name": name, "namespace": "default" } });
        assert!(server.add("", "v1", "configmaps", made));
        watch.line_with(name);
    }
}

fn followed_logs_show_each_line_when_it_is_printed(server: &Server, kubectl: &Session) {
    let mut logs = kubectl.start(&["logs", "-f", "web", "--tail=1"]);
    assert_eq!(logs.line(|_| true), "web: ready");
    for line in ["one", "two"] {
        server.print_log("default", "web", "web", line);
        assert_eq!(logs.line(|_| true), line);
    }
    assert!(kubectl.output(&["logs", "pair", "-c", "second"]).contains("second: ready"));
}

fn exec_carries_input_both_outputs_and_the_exit_code(_: &Server, kubectl: &Session) {
    let script = "cat; echo problem >&2; exit 7";
    let ended = kubectl.run_with_input(&["exec", "-i", "web", "--", "sh", "-c", script], b"in\n");
    assert_eq!(ended.code, Some(7), "{ended:?}");
    assert_eq!(ended.stdout, "in\n");
    assert!(ended.stderr.starts_with("problem\n"), "{ended:?}");
    let missing = kubectl.run(&["exec", "web", "--", "no-such-command"]);
    assert!(missing.stderr.contains("no-such-command"), "{missing:?}");
    assert_ne!(missing.code, Some(0));
}

fn attach_shows_what_is_printed_and_prints_what_is_typed(server: &Server, kubectl: &Session) {
    let mut attached = kubectl.start(&["attach", "-i", "web"]);
    attached.type_in("hello\n");
    attached.line_with("hello");
    server.print_log("default", "web", "web", "from inside");
    attached.line_with("from inside");
    attached.end_input();
    assert_eq!(attached.ended(), Some(0));
}

fn run_starts_a_command_for_the_one_who_attaches(_: &Server, kubectl: &Session) {
    let run = ["run", "once", "--image=any", "--restart=Never", "-i", "--rm", "--", "cat"];
    let ended = kubectl.run_with_input(&run, b"through the pod\n");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("through the pod"), "{ended:?}");
    assert_eq!(kubectl.run(&["get", "pod", "once"]).code, Some(1));
}

fn files_are_copied_both_ways_unchanged(_: &Server, kubectl: &Session) {
    let there = noise(1_500_000);
    let file = kubectl.file("there", &there);
    kubectl.output(&["cp", &file, "web:/tmp/there"]);
    kubectl.output(&["cp", "web:/tmp/there", "back"]);
    let back = fs::read(kubectl.directory().join("back")).expect("the copy is there");
    assert!(back == there, "{} of {} bytes", back.len(), there.len());
}

fn forwarded_ports_carry_http_and_half_closed_bulk(_: &Server, kubectl: &Session) {
    let mut forward = kubectl.start(&["port-forward", "pod/web", ":80", ":7"]);
    let http = forwarded(&mut forward, "-> 80");
    let mut connection = TcpStream::connect(http).expect("the port is open");
    for path in ["/a", "/b"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: web\r\n\r\n");
        connection.write_all(request.as_bytes()).expect("the pod reads");
        let mut answer = [0; 512];
        let len = connection.read(&mut answer).expect("the pod answers");
        let answer = String::from_utf8_lossy(&answer[..len]).into_owned();
        assert!(answer.contains(&format!("GET {path}")), "{answer}");
    }

    let echo = forwarded(&mut forward, "-> 7");
    let there = noise(1_000_000);
    let mut connection = TcpStream::connect(echo).expect("the port is open");
    let mut writer = connection.try_clone().expect("a second handle");
    let sent = there.clone();
    let writing = thread::spawn(move || {
        writer.write_all(&sent).expect("the pod reads");
        writer.shutdown(Shutdown::Write).expect("a half-close");
    });
    let mut back = Vec::new();
    connection.read_to_end(&mut back).expect("the pod echoes");
    writing.join().expect("all was sent");
    assert!(back == there, "{} of {} bytes", back.len(), there.len());
}

/// The local address that kubectl names for a port of the pod.
fn forwarded(forward: &mut Running, suffix: &str) -> String {
    let line = forward.line(|line| line.contains("127.0.0.1:") && line.ends_with(suffix));
    let words: Vec<&str> = line.split(' ').collect();
    (*words.get(2).expect("Forwarding from ADDRESS -> PORT")).to_owned()
}

fn a_terminal_echoes_edits_and_knows_its_size(door: &Door) {
    let path = "/api/v1/namespaces/default/pods/web/exec?command=sh&stdin=1&stdout=1&tty=1";
    let mut client = door.upgrade(path, "Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n");
    let (code, head) = client.head();
    assert_eq!(code, 101, "{head}");
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    let (stream, unread) = client.into_parts();
    let mut socket = WebSocket::from_partially_read(stream, unread, Role::Client, None);
    let mut send = |channel: u8, data: &str| {
        let message = [&[channel], data.as_bytes()].concat();
        socket.send(Message::binary(message)).expect("the server reads");
    };
    send(4, r#"{"Width":132,"Height":43}"#);
    send(0, "cat tty-sixx\x7f\x7fze\rexit 5\r");
    let mut shown = String::new();
    let exit = loop {
        match socket.read().expect("a message") {
            Message::Binary(data) => match data.split_first() {
                Some((1, text)) => shown.push_str(&String::from_utf8_lossy(text)),
                Some((3, status)) => break String::from_utf8_lossy(status).into_owned(),
                other => assert_eq!(other, None, "another channel"),
            },
            other => assert!(other.is_ping() || other.is_pong(), "{other:?}"),
        }
    };
    assert!(shown.contains("cat tty-sixx\x08 \x08\x08 \x08ze\r\n"), "{shown:?}");
    assert!(shown.contains("132x43\r\n"), "{shown:?}");
    assert!(exit.contains("\"5\""), "{exit}");
}

fn a_watch_and_a_followed_log_can_be_websockets(door: &Door) {
    for (path, expected) in
        [("configmaps?watch=1", "kube-root-ca.crt"), ("pods/web/log?follow=1", "web: ready\n")]
    {
        let mut client = door.upgrade(&format!("/api/v1/namespaces/demo/{path}"), "");
        assert_eq!(client.head().0, 101);
        let (stream, unread) = client.into_parts();
        let mut socket = WebSocket::from_partially_read(stream, unread, Role::Client, None);
        let first = socket.read().expect("a message").into_text().expect("a text");
        assert!(first.contains(expected), "{first}");
    }
}

//! What gets through, and in which form.

use super::*;

#[test]
fn a_request_goes_up_and_its_response_comes_down() {
    let mut rig = Rig::new();
    rig.down("GET /a?b HTTP/1.1\r\nHost: h\r\nTE: x\r\nAccept: */*\r\n\r\n");
    assert_eq!(rig.sent_up(0), "GET /a?b HTTP/1.1\nAccept: */*\nHost: up\n\n");
    rig.up("HTTP/1.1 200 Fine\r\nA: b\r\nKeep-Alive: 5\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(rig.sent_down(), "HTTP/1.1 200 Fine\nA: b\nContent-Length: 2\n\nok");
    assert_eq!(rig.log, ["request GET /a?b", "connect", "response 200", "complete"]);
    assert!(rig.exchange.is_idle() && rig.down_end.is_none());
    // The next one takes the same connection.
    rig.down(GET).up(OK);
    assert_eq!((rig.up.len(), rig.last()), (1, "complete"));
}

/// Requests of every framing, pipelined.
const REQUESTS: &str = "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n\
    POST /2 HTTP/1.1\r\nHost: h\r\ncontent-length: 5\r\n\r\nhello\
    HEAD /3 HTTP/1.1\r\nHost: h\r\n\r\n\
    PUT /4 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\nT: v\r\n\r\n\
    DELETE /deny HTTP/1.1\r\nHost: h\r\n\r\n\
    \r\nGET /6 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /7";

/// What the upstream of [`REQUESTS`] answers.
fn response_to(target: &str) -> &'static str {
    match target {
        "/2" => {
            "HTTP/1.1 201 A\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nT: v\r\n\r\n"
        }
        "/3" => "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n",
        "/4" => "HTTP/1.1 103 Hint\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        "/6" => "HTTP/1.1 304 Not Modified\r\n\r\n",
        _ => OK,
    }
}

/// The first whole request in `bytes`: its target, its body, its length.
fn whole_request(bytes: &[u8]) -> Option<(String, Vec<u8>, usize)> {
    let (head, mut used) = RequestHead::read(bytes, &mut Scan::default()).unwrap()?;
    let (mut reader, mut body) = (BodyReader::new(head.framing()), Vec::new());
    loop {
        let piece = reader.read(&bytes[used..]).unwrap();
        body.extend_from_slice(&bytes[used..][piece.data]);
        used += piece.consumed;
        if piece.consumed == 0 {
            return reader.is_done().then(|| (head.target().to_owned(), body, used));
        }
    }
}

/// Sends [`REQUESTS`] cut at `down_cut` to an upstream that answers each once it is whole, cut at
/// `up_cut`. Gives the requests that the upstream saw.
fn talk(rig: &mut Rig, down_cut: usize, up_cut: usize) -> Vec<(String, Vec<u8>)> {
    let (mut seen, mut used) = (Vec::new(), 0);
    let (first, second) = REQUESTS.split_at(down_cut);
    for part in [first, second] {
        rig.down(part);
        while let Some((target, body, len)) =
            rig.up.first().and_then(|it| whole_request(&it[used..]))
        {
            used += len;
            let response = response_to(&target);
            let (first, second) = response.split_at_checked(up_cut).unwrap_or(("", response));
            seen.push((target, body));
            rig.up(first).up(second);
        }
    }
    seen
}

#[test]
fn every_cut_of_either_side_gives_the_same_exchange() {
    let mut whole = Rig::new();
    let seen = talk(&mut whole, 0, 0);
    let bodies: Vec<_> = seen.iter().map(|it| (it.0.as_str(), it.1.as_slice())).collect();
    let expected: [(&str, &[u8]); 5] =
        [("/1", b""), ("/2", b"hello"), ("/3", b""), ("/4", b"abc"), ("/6", b"")];
    assert_eq!(bodies, expected);
    assert_eq!((whole.down_end, whole.up.len()), (Some(End::Finish), 1));
    let sent = whole.sent_down();
    let statuses: Vec<_> = sent.lines().filter_map(status_of).collect();
    assert_eq!(statuses, ["200", "201", "200", "103", "204", "403", "304"]);
    for cut in 0..REQUESTS.len() {
        let mut rig = Rig::new();
        assert_eq!(talk(&mut rig, cut, 0), seen, "cut {cut}");
        assert_eq!(rig.sent_down(), whole.sent_down(), "cut {cut}");
        assert_eq!((&rig.log, rig.down_end), (&whole.log, whole.down_end), "cut {cut}");
    }
    for cut in 0..80 {
        let mut rig = Rig::new();
        assert_eq!(talk(&mut rig, 0, cut), seen, "response cut {cut}");
        // Where the cut falls into a chunk it becomes two.
        let chunks = rig.sent_down().replace("1\na\n2\nbc\n", "2\nab\n1\nc\n");
        let joined = chunks.replace("2\nab\n1\nc\n", "3\nabc\n");
        assert_eq!(joined, whole.sent_down(), "response cut {cut}");
        assert_eq!(rig.log, whole.log, "response cut {cut}");
    }
}

fn status_of(line: &str) -> Option<&str> {
    line.split("HTTP/1.1 ").nth(1)?.get(..3)
}

#[test]
fn bytes_one_by_one_make_the_same_requests() {
    let mut rig = Rig::new();
    for byte in format!("{POST}hello{GET}").bytes() {
        rig.down([byte]);
    }
    assert_eq!(rig.sent_up(0), "POST /a HTTP/1.1\nHost: up\nContent-Length: 5\n\nhello");
    for byte in OK.bytes() {
        rig.up([byte]);
    }
    assert!(rig.sent_up(0).ends_with("helloGET /a HTTP/1.1\nHost: up\n\n"));
    assert_eq!(rig.sent_down(), OK.replace("\r\n", "\n"));
}

#[test]
fn pipelined_requests_go_up_one_at_a_time() {
    let mut rig = Rig::new();
    rig.down(GET.repeat(3));
    assert_eq!(rig.sent_up(0).matches("GET").count(), 1);
    rig.up(OK);
    assert_eq!(rig.sent_up(0).matches("GET").count(), 2);
    rig.up(OK).up(OK);
    assert_eq!(rig.sent_down().matches("200 OK").count(), 3);
    assert_eq!(rig.up.len(), 1);
}

#[test]
fn read_ahead_is_bounded_by_pausing() {
    let mut rig = Rig::new();
    rig.down(GET);
    assert!(rig.exchange.wants_down());
    rig.down(vec![b'x'; READ_AHEAD_MAX]);
    assert!(!rig.exchange.wants_down());
}

#[test]
fn a_full_queue_pauses_its_source() {
    let mut rig = Rig::new();
    rig.down(POST);
    rig.step(|exchange, now, _| exchange.up_pressure(Pressure::Full, now));
    assert!(!rig.exchange.wants_down());
    rig.step(|exchange, now, _| exchange.up_pressure(Pressure::Open, now));
    assert!(rig.exchange.wants_down());
    rig.down("hello");
    rig.step(|exchange, now, out| exchange.down_pressure(Pressure::Full, now, out));
    assert!(!rig.exchange.wants_up());
    rig.step(|exchange, now, out| exchange.down_pressure(Pressure::Open, now, out));
    assert!(rig.exchange.wants_up());
}

#[test]
fn a_body_that_ends_with_the_connection_is_chunked_for_the_caller() {
    let mut rig = Rig::new();
    rig.down(GET).up("HTTP/1.1 200 OK\r\n\r\nabc").up("de");
    rig.step(Exchange::up_finished);
    let sent = "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nConnection: close\n\n\
                3\nabc\n2\nde\n0\n\n";
    assert_eq!(rig.sent_down(), sent);
    assert_eq!((rig.last(), rig.down_end), ("complete", Some(End::Finish)));
}

#[test]
fn http_1_0_gets_one_response_without_chunks() {
    let mut rig = Rig::new();
    rig.down(format!("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n{GET}"));
    assert_eq!(rig.sent_up(0), "GET /a HTTP/1.1\nHost: up\n\n");
    rig.up("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    assert_eq!(rig.sent_down(), "HTTP/1.1 200 OK\nConnection: close\n\nabc");
    assert_eq!(rig.down_end, Some(End::Finish));
    assert_eq!(rig.log.iter().filter(|it| it.starts_with("request")).count(), 1);
}

#[test]
fn the_upstream_may_close_without_the_caller_noticing() {
    let mut rig = Rig::new();
    rig.down(GET).up("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!((rig.up_ends[0], rig.down_end), (Some(End::Close), None));
    rig.down(GET).up(OK);
    assert_eq!(rig.up.len(), 2);
    rig.step(Exchange::up_finished);
    rig.down(GET);
    assert_eq!((rig.up.len(), rig.sent_up(2)), (3, "GET /a HTTP/1.1\nHost: up\n\n".to_owned()));
}

#[test]
fn expectations_are_answered_here_and_after_the_decision() {
    let expecting = POST.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
    let mut rig = Rig::new();
    rig.connects = false;
    rig.down(&expecting);
    assert_eq!(rig.sent_down(), "");
    rig.step(Exchange::up_connected);
    assert_eq!(rig.sent_down(), "HTTP/1.1 100 Continue\n\n");
    assert!(!rig.sent_up(0).contains("Expect"));
    rig.down("hello").up("HTTP/1.1 100 Continue\r\n\r\n").up(OK);
    assert_eq!(rig.sent_down().matches("100 Continue").count(), 1);
    assert_eq!(rig.last(), "complete");
    // One that is refused gets no invitation.
    let mut rig = Rig::new();
    rig.down(expecting.replace("/a", "/deny"));
    assert_eq!((rig.status(), rig.up.len(), rig.down_end), ("403", 0, Some(End::Finish)));
}

#[test]
fn a_refused_request_keeps_the_connection_only_if_its_body_is_here() {
    let mut rig = Rig::new();
    rig.down("POST /deny HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello");
    assert!(rig.exchange.is_idle());
    assert_eq!(rig.status(), "403");
    rig.down("POST /deny HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhell");
    assert_eq!(rig.down_end, Some(End::Finish));
    assert!(rig.up.is_empty());
    rig.down("oGET /a HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(rig.log, ["request POST /deny", "request POST /deny"]);
}

#[test]
fn an_answer_to_head_has_no_body_even_from_here() {
    let mut rig = Rig::new();
    rig.down("HEAD /deny HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(rig.sent_down().ends_with("\n\n") && rig.sent_down().contains("Content-Length"));
}

#[test]
fn a_response_may_come_before_the_request_has_ended() {
    let mut rig = Rig::new();
    rig.down(POST).down("he");
    rig.up("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno");
    assert_eq!(
        rig.sent_down(),
        "HTTP/1.1 413 Too Large\nContent-Length: 2\nConnection: close\n\nno"
    );
    assert_eq!((rig.up_ends[0], rig.down_end), (Some(End::Abort), Some(End::Finish)));
    rig.down(format!("llo{GET}"));
    assert_eq!(rig.log.iter().filter(|it| it.starts_with("request")).count(), 1);
    rig.after(1);
    assert_eq!(rig.down_end, Some(End::Close));
}

#[test]
fn a_response_can_be_dropped_and_asked_for_again() {
    let mut rig = Rig::new();
    rig.answers = false;
    rig.down(GET).up("HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno");
    assert!(rig.exchange.can_retry());
    let mut again = RequestHead::new("GET", "/a").unwrap();
    again.fields.push("Host", "again").unwrap();
    rig.answers = true;
    rig.step(|exchange, _, out| exchange.retry(&again, out).unwrap());
    assert_eq!((rig.up_ends[0], rig.up.len()), (Some(End::Abort), 2));
    assert_eq!(rig.sent_up(1), "GET /a HTTP/1.1\nHost: again\n\n");
    rig.up(OK);
    assert_eq!(rig.sent_down(), OK.replace("\r\n", "\n"));
    // Not once something of a body has gone.
    rig.answers = false;
    rig.down(POST).down("h").up("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n");
    assert!(!rig.exchange.can_retry());
}

#[test]
fn a_caller_that_half_closes_still_gets_its_answer_but_a_watch_ends() {
    let mut rig = Rig::new();
    rig.down(GET);
    rig.step(Exchange::down_finished);
    rig.up(OK);
    assert_eq!((rig.last(), rig.down_end), ("complete", Some(End::Close)));
    let mut rig = Rig::new();
    rig.down("GET /a?watch HTTP/1.1\r\nHost: h\r\n\r\n");
    rig.step(Exchange::down_finished);
    assert_eq!((rig.last(), rig.up_ends[0]), ("failed: the caller has gone", Some(End::Abort)));
}

#[test]
fn no_further_request_is_taken_when_closing() {
    let mut rig = Rig::new();
    rig.down(GET);
    rig.step(Exchange::close_when_idle);
    rig.up(OK);
    assert!(rig.sent_down().contains("Connection: close"));
    let mut rig = Rig::new();
    rig.step(Exchange::close_when_idle);
    assert_eq!(rig.down_end, Some(End::Finish));
}

//! Every raw request of the corpus, in a session of its own, against the real binary.

use std::collections::BTreeMap;

use cluster_connect::wire::h1::{BodyReader, RequestHead, ResponseHead, Scan};

use crate::callers::at_once;
use crate::corpus::{Case, Seen, cases};
use crate::door::Door;

/// Callers at a time.
const CALLERS: usize = 24;

/// What the upstream answers, by the case that the request belongs to.
pub(crate) fn answer(head: &RequestHead) -> Vec<u8> {
    let user = head.fields.text("impersonate-user").unwrap_or_default();
    let case = user.rsplit('/').next().unwrap_or_default();
    let protocol = head.fields.text("upgrade").unwrap_or_default();
    match (case, protocol) {
        ("ws-ok", "websocket") | ("spdy-ok", "SPDY/3.1") => format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
        )
        .into_bytes(),
        ("up-early", _) => b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_vec(),
        _ => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(),
    }
}

#[test]
fn every_request_of_the_corpus_ends_as_it_must() {
    let door = Door::open(answer, &["--spare-connections", "2"]);
    let names = cases("");
    assert_eq!(names.len(), 427);
    // A user of its own for each case says whose bytes reached the upstream.
    let users: Vec<_> =
        names.iter().enumerate().map(|(at, case)| format!("{at}/{}", case.id)).collect();
    let all: Vec<Case> =
        users.iter().enumerate().map(|(at, user)| cases(&door.token(user)).remove(at)).collect();
    let downs = at_once(CALLERS, &all, |case| {
        door.exchange(&case.raw, |down| answers(down) >= case.answers())
    });
    let ups = by_user(&door);
    let known = users.iter().filter(|user| ups.contains_key(*user)).count();
    assert_eq!(known, ups.len(), "bytes upstream of nobody: {:?}", ups.keys());
    let mut wrong = Vec::new();
    for ((case, down), user) in all.iter().zip(downs).zip(&users) {
        let up = ups.get(user).cloned().unwrap_or_default();
        let seen = Seen { down, up };
        if let Err(why) = case.judge(&seen) {
            wrong.push(format!("{} ({}): {why}", case.id, case.why));
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

/// What reached the upstream, by the user in whose name it came.
pub(crate) fn by_user(door: &Door) -> BTreeMap<String, Vec<u8>> {
    let mut ups: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for conn in door.went_up() {
        let text = String::from_utf8_lossy(&conn.bytes);
        let mut users = text.lines().filter_map(|line| line.strip_prefix("Impersonate-User: "));
        let user = users.next().and_then(|user| user.strip_prefix("oidc:")).unwrap_or("nobody");
        let user = user.to_owned();
        assert!(
            users.all(|another| another.strip_prefix("oidc:") == Some(&user)),
            "two callers on one connection: {text}"
        );
        ups.entry(user).or_default().extend_from_slice(&conn.bytes);
    }
    ups
}

/// How many final responses have come as a whole.
pub(crate) fn answers(down: &[u8]) -> usize {
    let (mut rest, mut count) = (down, 0);
    while let Ok(Some((head, len))) = ResponseHead::read(rest, &mut Scan::default()) {
        rest = rest.get(len..).unwrap_or_default();
        if head.status() == 101 {
            return count + 1;
        }
        if head.is_interim() {
            continue;
        }
        let mut body = BodyReader::new(head.framing("GET"));
        while !body.is_done()
            && let Ok(piece) = body.read(rest)
            && piece.consumed > 0
        {
            rest = rest.get(piece.consumed..).unwrap_or_default();
        }
        if !body.is_done() {
            return count;
        }
        count += 1;
    }
    count
}

//! The classes of hostile requests, in variants that a seed makes, against a whole auth proxy: TLS,
//! tunnel, HTTP, tokens and policy. `tests/authproxy_corpus.rs` sends some of them to the binary.

#[path = "corpora/classes.rs"]
mod classes;
mod gate;
mod sim;
mod support;
#[path = "chain/tokens.rs"]
mod tokens;

use std::collections::BTreeMap;
use std::time::Duration;

use classes::{CLASSES, Must, Rng, Variant};
use cluster_connect::role::ConnId;
use cluster_connect::role::auth_proxy::Guesses;
use cluster_connect::wire::h1::{BodyReader, RequestHead, Scan};
use gate::Gate;
use sim::EPOCH;

/// Variants of each class.
const EACH: usize = 150;

const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const NO: &str = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";

/// An upstream that answers whole requests.
#[derive(Default)]
struct Upstream {
    up: BTreeMap<ConnId, Vec<u8>>,
    answered: BTreeMap<ConnId, usize>,
    /// The head of each whole request, in lower case.
    heads: Vec<String>,
}

impl Upstream {
    fn serve(&mut self, gate: &mut Gate) {
        loop {
            for (conn, _) in std::mem::take(&mut gate.net.dialled) {
                self.up.insert(conn, Vec::new());
                gate.emit(cluster_connect::role::Event::Connected(conn));
            }
            let mut ready = None;
            for (conn, bytes) in &mut self.up {
                bytes.extend(gate.net.sent.remove(conn).unwrap_or_default());
                let answered = self.answered.entry(*conn).or_default();
                let open = &bytes[*answered..];
                if let Some((head, len, upgrade)) = whole(open) {
                    self.heads.push(String::from_utf8_lossy(&open[..head]).to_lowercase());
                    *answered += len;
                    ready = Some((*conn, upgrade));
                    break;
                }
            }
            let Some((conn, upgrade)) = ready else { break };
            gate.reply(conn, if upgrade { NO } else { FINE });
        }
    }
}

/// The lengths of the head and of the whole of the request at the start of `bytes`, once it is
/// complete, and whether it asks for an upgrade.
fn whole(bytes: &[u8]) -> Option<(usize, usize, bool)> {
    let (head, len) = RequestHead::read(bytes, &mut Scan::default()).ok()??;
    let mut used = len;
    let mut body = BodyReader::new(head.framing());
    while !body.is_done() {
        let piece = body.read(&bytes[used..]).expect("a body of our own");
        used += piece.consumed;
        if piece.consumed == 0 {
            return None;
        }
    }
    Some((len, used, head.upgrade().is_some()))
}

fn first_status(down: &str) -> Option<u16> {
    let statuses = down.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)?.parse().ok());
    statuses.into_iter().find(|status| *status >= 200)
}

/// What is wrong with what became of it, if anything.
fn judge(variant: &Variant, down: &str, upstream: &Upstream) -> Result<(), String> {
    let up: Vec<u8> = upstream.up.values().flatten().copied().collect();
    let up = String::from_utf8_lossy(&up).to_lowercase();
    let status = first_status(down);
    let expect = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
    expect(!up.contains("smuggled\r\n") || matches!(variant.must, Must::Pass(..)), "smuggled")?;
    match &variant.must {
        Must::Refuse(statuses) => {
            expect(upstream.up.is_empty(), "something went upstream")?;
            expect(status.is_some_and(|it| statuses.contains(&it)), &format!("{status:?}"))
        }
        Must::Pass(requests, with, without) => {
            expect(status.is_some_and(|it| it < 400 || it == 403), &format!("{status:?}"))?;
            let heads = &upstream.heads;
            expect(heads.len() == *requests, &format!("{} requests", heads.len()))?;
            for head in heads {
                let once = |text: &str| head.matches(text).count() == 1;
                expect(once("\r\nauthorization"), "a second credential")?;
                expect(once("\r\nauthorization: bearer the-own-token\r\n"), "our credential")?;
                expect(once("\r\nimpersonate-user: alice\r\n"), "the user")?;
                expect(once("\r\nimpersonate-user"), "a second user")?;
                expect(once("impersonate-group: system:authenticated\r\n"), "the group")?;
            }
            for text in with {
                expect(up.contains(&text.to_lowercase()), &format!("not there: {text:?}"))?;
            }
            for text in without {
                expect(!up.contains(&text.to_lowercase()), &format!("there: {text:?}"))?;
            }
            Ok(())
        }
        Must::Break => {
            expect(upstream.heads.is_empty(), "a whole request upstream")?;
            expect(!up.contains("\r\n0\r\n\r\n"), "a last chunk upstream")?;
            expect(status == Some(400), &format!("{status:?}"))
        }
    }
}

#[test]
fn every_variant_of_every_class_ends_as_it_must_wherever_it_is_cut() {
    let mut rng = Rng(11);
    let mut wrong = Vec::new();
    for (number, class) in CLASSES.iter().enumerate() {
        let mut gate = Gate::new(|config| {
            config.guesses = Guesses { refusals: 1_000_000, verifications: 1_000_000 };
        });
        let token = tokens::token("alice", "cluster", EPOCH, 24 * 3600);
        // A session on which nothing was ever let through does not stand for so long.
        let known = gate
            .ask(&format!("GET /api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"));
        Upstream::default().serve(&mut gate);
        assert!(gate.heard(known).starts_with("HTTP/1.1 200"), "{number}");
        gate.finish(known);
        gate.pass(Duration::from_secs(40));
        for _ in 0..EACH {
            let mut variant = class(&mut rng);
            variant.raw = classes::with_token(&variant.raw, &token);
            let mut upstream = Upstream::default();
            // At once, byte by byte around the ends, or in a few pieces.
            let pieces = pieces(&variant.raw, &mut rng);
            let stream = gate.ask_bytes(pieces[0]);
            upstream.serve(&mut gate);
            for piece in &pieces[1..] {
                gate.say_bytes(stream, piece);
                upstream.serve(&mut gate);
            }
            let down = gate.heard(stream);
            if let Err(why) = judge(&variant, &down, &upstream) {
                let raw = variant.raw.escape_ascii().to_string().replace(&token, "@T@");
                wrong.push(format!("{number} {}: {why}: {raw}", variant.class));
            }
            gate.finish(stream);
            gate.pass(Duration::from_secs(40));
            gate.net.dialled.clear();
            gate.net.sent.clear();
        }
        assert_eq!(gate.proxy.leftovers(), (1, 0, 0), "{number}");
    }
    wrong.truncate(20);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn pieces<'a>(raw: &'a [u8], rng: &mut Rng) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = match rng.below(3) {
        0 => Vec::new(),
        1 => (0..3).map(|_| 1 + rng.below(raw.len())).collect(),
        _ => (raw.len().saturating_sub(24).max(1)..raw.len()).collect(),
    };
    cuts.sort_unstable();
    cuts.dedup();
    let (mut pieces, mut from) = (Vec::new(), 0);
    for cut in cuts.into_iter().chain([raw.len()]) {
        if from < cut {
            pieces.push(&raw[from..cut]);
            from = cut;
        }
    }
    pieces
}

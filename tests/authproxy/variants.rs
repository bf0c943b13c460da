//! Variants of each class of hostile requests, in a session of their own, against the real binary.

use std::collections::BTreeMap;

use cluster_connect::wire::h1::RequestHead;

use crate::callers::at_once;
use crate::classes::{CLASSES, Must, Rng, Variant, with_token};
use crate::door::Door;
use crate::requests::{answers, by_user};

/// Variants of each class: the machine alone sees many more, in `tests/auth_classes.rs`.
const EACH: usize = 12;

const CALLERS: usize = 16;

/// The upstream says no to every upgrade.
fn answer(head: &RequestHead) -> Vec<u8> {
    match head.upgrade() {
        Some(_) => b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_vec(),
        None => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(),
    }
}

#[test]
fn variants_of_every_class_end_as_they_must() {
    let door = Door::open(answer, &["--spare-connections", "2"]);
    let mut rng = Rng(23);
    // A user of its own for each says whose bytes reached the upstream.
    let mut all: Vec<(String, Variant)> = Vec::new();
    for (number, class) in CLASSES.iter().enumerate() {
        for at in 0..EACH {
            let user = format!("{number}-{at}");
            let mut variant = class(&mut rng);
            variant.raw = with_token(&variant.raw, &door.token(&user));
            all.push((user, variant));
        }
    }
    let downs = at_once(CALLERS, &all, |(_, variant)| {
        let count = match variant.must {
            Must::Pass(count, ..) => count,
            Must::Refuse(_) | Must::Break => 1,
        };
        door.exchange(&variant.raw, |down| answers(down) >= count)
    });
    let ups = by_user(&door);
    let mut wrong = Vec::new();
    for ((user, variant), down) in all.iter().zip(downs) {
        let up = ups.get(user).map(Vec::as_slice).unwrap_or_default();
        if let Err(why) = judge(variant, &down, up) {
            wrong.push(format!("{user} {}: {why}: {}", variant.class, variant.raw.escape_ascii()));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), all.len(), wrong.join("\n"));
    let known: BTreeMap<&String, ()> = all.iter().map(|(user, _)| (user, ())).collect();
    assert!(ups.keys().all(|user| known.contains_key(user)), "bytes of nobody: {:?}", ups.keys());
}

fn judge(variant: &Variant, down: &[u8], up: &[u8]) -> Result<(), String> {
    let status: Option<u16> = std::str::from_utf8(down.get(9..12).unwrap_or_default())
        .ok()
        .and_then(|text| text.parse().ok());
    let text = String::from_utf8_lossy(up).to_lowercase();
    let expect = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
    match &variant.must {
        Must::Refuse(statuses) => {
            expect(up.is_empty(), "something went upstream")?;
            expect(status.is_some_and(|it| statuses.contains(&it)), &format!("{status:?}"))
        }
        Must::Pass(count, with, without) => {
            expect(text.matches("impersonate-user: oidc:").count() == *count, "requests upstream")?;
            expect(status.is_some_and(|it| it < 400 || it == 403), &format!("{status:?}"))?;
            for part in with {
                expect(text.contains(&part.to_lowercase()), &format!("not there: {part:?}"))?;
            }
            for part in without {
                expect(!text.contains(&part.to_lowercase()), &format!("there: {part:?}"))?;
            }
            Ok(())
        }
        Must::Break => {
            expect(!text.contains("\r\n0\r\n\r\n"), "a last chunk upstream")?;
            expect(!text.contains("/smuggled"), "a second request upstream")?;
            expect(status == Some(400), &format!("{status:?}"))
        }
    }
}

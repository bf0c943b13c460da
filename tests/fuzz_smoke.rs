//! Every fuzz target on its seeds and on a fixed number of mutations of them, always the same
//! ones, with the stable toolchain. `tests/fuzz` has the same functions for `cargo fuzz`.

#[path = "corpora/h1.rs"]
#[allow(dead_code, reason = "only the bytes are wanted")]
mod corpus;
#[path = "support/rng.rs"]
mod rng;
#[path = "fuzz/targets.rs"]
mod targets;

use std::fs;
use std::panic::catch_unwind;

use cluster_connect::wire::jws::decode_base64url;
use rng::Rng;
use serde_json::Value;
use targets::TARGETS;

/// Of each target, over all its seeds.
const MUTATIONS: usize = 100_000;

/// A few changes: bytes replaced, put in, taken out, doubled; a cut; a piece of another seed.
fn mutate(seed: &[u8], other: &[u8], rng: &mut Rng) -> Vec<u8> {
    const TELLING: &[u8] = b"\0\r\n\t :;,.\"\\{}[]-=+/%\x7f\x80\xff0a";
    let mut bytes = seed.to_vec();
    for _ in 0..=rng.below(4) {
        let at = rng.below(bytes.len());
        let byte = match rng.below(2) {
            0 => TELLING[rng.below(TELLING.len())],
            _ => rng.next().to_le_bytes()[2],
        };
        match rng.below(7) {
            0 if !bytes.is_empty() => bytes[at] = byte,
            1 if !bytes.is_empty() => drop(bytes.remove(at)),
            2 if !bytes.is_empty() => bytes[at] ^= 1 << rng.below(8),
            3 => {
                let end = (at + rng.below(40)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            4 => bytes.truncate(at),
            5 => {
                let from = rng.below(other.len());
                let to = (from + rng.below(64)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            _ => bytes.insert(at, byte),
        }
    }
    bytes
}

/// What a target starts from.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let part = |token: &Value, at| decode_base64url(token.as_str()?.split('.').nth(at)?);
    let file = |name: &str| {
        let path = format!("{}/tests/corpora/{name}", env!("CARGO_MANIFEST_DIR"));
        fs::read(path).expect(name)
    };
    let lines = |name: &str| -> Vec<Value> {
        let text = String::from_utf8(file(name)).expect("UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let requests = || corpus::cases("e30.e30.AAAA").into_iter().map(|case| case.raw);
    let small = |all: Vec<Vec<u8>>| all.into_iter().filter(|it| it.len() < 4096).collect();
    let tokens = || lines("jwt_cases.jsonl").into_iter().map(|case| case["token"].clone());
    match target {
        "request_head" => small(requests().collect()),
        "chunked" => {
            let body = |raw: Vec<u8>| {
                let at = raw.windows(4).position(|four| four == b"\r\n\r\n")?;
                raw.get(at + 4..).map(<[u8]>::to_vec).filter(|body| !body.is_empty())
            };
            small(requests().filter_map(body).collect())
        }
        "exchange" => {
            let answer = b"\0HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            small(requests().map(|raw| [&b"\x20"[..], &raw, answer].concat()).collect())
        }
        "jws_parse" => {
            let texts = tokens().filter_map(|it| it.as_str().map(|it| it.as_bytes().to_vec()));
            let parts = tokens().filter_map(|it| Some([part(&it, 0)?, part(&it, 1)?].join(&0)));
            small(texts.chain(parts).collect())
        }
        "json_parse" | "token_claims" => small(tokens().filter_map(|it| part(&it, 1)).collect()),
        "jwks_parse" => vec![file("jwt_jwks.json")],
        _ => Vec::new(),
    }
}

/// What is kept for a target, for `cargo fuzz` as well: starting points, and whatever has once made
/// it fail.
fn kept(target: &str) -> Vec<Vec<u8>> {
    let dir = format!("{}/tests/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let Ok(files) = fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<_> = files.map(|file| file.expect("readable").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("readable")).collect()
}

#[test]
fn no_target_fails_on_its_seeds_and_their_mutations() {
    for (name, target) in TARGETS {
        let seeds = [seeds(name), kept(name)].concat();
        assert!(!seeds.is_empty(), "{name}");
        let mut rng = Rng(0x9e37_79b9_7f4a_7c15);
        let run = |bytes: Vec<u8>| {
            let text = bytes.escape_ascii().to_string();
            let ended = catch_unwind(move || target(&bytes));
            assert!(ended.is_ok(), "{name} fails on b\"{text}\"");
        };
        seeds.iter().cloned().for_each(run);
        // A signature is made and checked for each.
        let count = if name == "token_claims" { MUTATIONS / 5 } else { MUTATIONS };
        for _ in 0..count {
            let (seed, other) = (&seeds[rng.below(seeds.len())], &seeds[rng.below(seeds.len())]);
            run(mutate(seed, other, &mut rng));
        }
    }
}

#[test]
fn every_target_is_one_for_cargo_fuzz() {
    let dir = format!("{}/tests/fuzz", env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(format!("{dir}/Cargo.toml")).expect("a manifest");
    for (name, _) in TARGETS {
        let path = format!("fuzz_targets/{name}.rs");
        let text = fs::read_to_string(format!("{dir}/{path}")).expect(name);
        assert!(text.contains(&format!("fuzz_target!(|bytes: &[u8]| targets::{name}(bytes));")));
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"{path}\"\n")), "{name}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
}
